"""`physai verify` and `physai bench-policy`: they tell a runtime that computes something else, and how long each takes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from physai_base.bundle import Bundle, rewrite_bundle
from physai_base.embodiment import Embodiment
from physai_base.errors import BundleError
from physai_base.task import Task
from physai_lab.cli import main
from physai_lab.runtimes.bench_policy import Contender, ratios, summary, take_turns
from physai_lab.runtimes.verify import recorded_observations
from physai_policy.runtimes import RuntimeOptions, load_runtime

pytestmark = pytest.mark.slow


def copy_of_the_policy(out: Path, change: float) -> Path:
    """The shipped bundle, its safetensors off by `change` of each weight of one layer: the graph is as it was."""
    bundle = Bundle.open("cups/policy")
    weights = bundle.weights()
    weights["last.1.weight"] = weights["last.1.weight"] * np.float32(1 + change)
    rewrite_bundle(bundle, out, weights=weights)
    return out


def report(runs: Path) -> dict[str, object]:
    (path,) = runs.glob("*/report.json")
    assert path.with_name("report.html").is_file()
    return dict(json.loads(path.read_text()))


def test_the_shipped_policy_is_the_same_in_torch_and_onnx(tmp_path: Path) -> None:
    arguments = ["verify", "policy", "--count", "20", "--runtimes", "torch,onnx", "--runs", str(tmp_path)]
    assert main(arguments) == 0
    document = report(tmp_path)
    (found,) = document["comparisons"]  # type: ignore[misc]
    assert found["runtime"] == "onnx" and found["cosine"] > 0.99999 and 0 < found["chunk"] < 1e-5
    assert "none was recorded" in str(document["observations"])


def test_weights_that_are_not_the_graphs_are_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = copy_of_the_policy(tmp_path / "other", 0.2)
    arguments = ["verify", str(bundle), "--count", "20", "--runtimes", "torch,onnx", "--runs", str(tmp_path)]
    assert main(arguments) == 78
    assert "the runtime torch (" in (said := capsys.readouterr().err) and "is off by" in said
    fine = ["verify", "policy", "--count", "20", "--runtimes", "torch,onnx", "--runs", str(tmp_path)]
    assert main([*fine, "--tolerance", "1e-9"]) == 1
    assert "DO NOT AGREE" in capsys.readouterr().out


def test_one_runtime_alone_compares_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "policy", "--runtimes", "onnx"]) == 1
    assert "compares nothing" in capsys.readouterr().err
    assert main(["verify", "policy", "--runtimes", "abacus,onnx"]) == 1
    assert "abacus is not known" in capsys.readouterr().err


def test_recorded_observations_are_used(tmp_path: Path, embodiment: Embodiment, task: Task) -> None:
    data = tmp_path / "demos"
    assert main(["demos", "--episodes", "2", "--out", str(data), "--workers", "2", "--seed", "4"]) == 0
    observations = recorded_observations(data, embodiment, task, 10, 0)
    assert len({(observation.stamp_ns, *observation.tool_m) for observation in observations}) == 10
    # What the robot saw, not the normalizer's mean: the tool is where the features say that it is.
    tool = Bundle.open("cups/policy").config["features"].index("tcp.x")
    for observation in observations:
        np.testing.assert_allclose(observation.features[tool : tool + 3], observation.tool_m, atol=1e-5)
    arguments = ["verify", "policy", "--observations", str(data), "--runtimes", "torch,onnx", "--count", "10"]
    assert main([*arguments, "--runs", str(tmp_path / "runs")]) == 0
    assert "10 recorded observations" in str(report(tmp_path / "runs")["observations"])


def test_torch_refuses_weights_of_another_network() -> None:
    with pytest.raises(BundleError, match=r"use the runtime onnx"):
        load_runtime("torch", Bundle.open("cups/world_model"), RuntimeOptions())


def test_contenders_take_turns_and_stages_are_kept_apart() -> None:
    order: list[str] = []

    def contender(name: str, scale: float) -> Contender:
        def call() -> tuple[float, float, float]:
            order.append(name)
            return scale, 2 * scale, 3 * scale

        return Contender(name, "", call)

    seconds = take_turns([contender("a", 1e-3), contender("b", 4e-3)], 50)
    rounds = [set(order[i : i + 2]) for i in range(40, len(order), 2)]
    assert len(rounds) == 50 and all(pair == {"a", "b"} for pair in rounds)
    assert {order[i] for i in range(40, len(order), 2)} == {"a", "b"}  # neither is always first
    np.testing.assert_allclose(seconds["a"], np.tile([1e-3, 2e-3, 3e-3], (50, 1)))
    assert all(value == pytest.approx(4) for value in ratios(seconds["a"], seconds["b"]).values())
    assert summary(np.arange(1, 1001) / 1e3) == pytest.approx(
        {"mean ms": 500.5, "p50 ms": 500.5, "p99 ms": 990.01, "p99.9 ms": 999.001}
    )


def test_bench_policy_writes_stages_and_ratios(tmp_path: Path) -> None:
    assert main(["bench-policy", "policy", "--rounds", "5", "--runs", str(tmp_path)]) == 0
    document = report(tmp_path)
    assert {row["stage"] for row in document["rows"]} == {
        "pre-processing",
        "inference",
        "post-processing",
        "all",
    }  # type: ignore[attr-defined, union-attr, misc]
    assert len(document["ratios"]) == 4  # type: ignore[arg-type]


def test_bench_policy_refuses_what_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench-policy", "policy", "--runtimes", "abacus"]) == 1
    assert "abacus is not known" in capsys.readouterr().err
