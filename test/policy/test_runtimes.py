"""Runtimes: what is loaded computes the bundle's graph, for fixed shapes and into arrays of the caller's own."""

from __future__ import annotations

import numpy as np
import pytest

from physai_base.bundle import Bundle
from physai_base.errors import BundleError, RuntimeUnavailableError
from physai_base.task import Task
from physai_policy.flow_policy import FlowPolicy
from physai_policy.policy import Observation
from physai_policy.runtimes import RUNTIMES, RuntimeOptions, load_runtime
from physai_policy.runtimes.onnx import OnnxRuntime, choose_providers
from physai_policy.runtimes.runtime import WARM_UP_RUNS

BATCH = 3


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.open("cups/policy", kind="policy")


def batch_of(bundle: Bundle, seed: int, batch: int = BATCH) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        spec.name: rng.standard_normal((batch, *(int(size) for size in spec.shape[1:]))).astype(np.float32)
        for spec in bundle.inputs
    }


def loaded(bundle: Bundle, name: str = "onnx", **options: object) -> OnnxRuntime:
    return load_runtime(name, bundle, RuntimeOptions(sizes={"batch": BATCH}, **options))  # type: ignore[return-value,arg-type]


def test_every_runtime_has_a_name_and_says_whether_it_works() -> None:
    for name, runtime in RUNTIMES.items():
        found = runtime.availability()
        assert runtime.name == name and found.detail
        assert found.good or found.remedy, f"{name} does not say what to do"
    assert RUNTIMES["onnx"].availability().good


def test_an_unknown_runtime_is_refused_with_the_known_ones(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"'abacus' is not known.*onnx"):
        load_runtime("abacus", bundle)


@pytest.mark.parametrize("threads", [1, 2])
def test_it_gives_what_a_plain_run_gives(bundle: Bundle, threads: int) -> None:
    runtime, session = loaded(bundle, threads=threads), bundle.session(threads=threads)
    for seed in range(5):
        inputs = batch_of(bundle, seed)
        (expected,) = session.run(["chunk"], inputs)
        # Another order of additions is allowed (other fusions), another result is not.
        np.testing.assert_allclose(runtime.run(inputs)["chunk"], expected, atol=2e-5)


def test_outputs_belong_to_the_caller(bundle: Bundle) -> None:
    runtime = loaded(bundle)
    first = runtime.run(batch_of(bundle, 1))["chunk"]
    kept = first.copy()
    second = runtime.run(batch_of(bundle, 2))["chunk"]
    assert not np.shares_memory(first, second)
    np.testing.assert_array_equal(first, kept)
    first[:] = np.nan
    np.testing.assert_array_equal(runtime.run(batch_of(bundle, 1))["chunk"], kept)


def test_inputs_may_change_after_the_call(bundle: Bundle) -> None:
    runtime, inputs = loaded(bundle), batch_of(bundle, 1)
    expected = runtime.run(inputs)["chunk"]
    for value in inputs.values():
        value[:] = np.nan
    np.testing.assert_array_equal(runtime.run(batch_of(bundle, 1))["chunk"], expected)


def test_it_is_warm_before_the_first_call(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    run = OnnxRuntime.run
    monkeypatch.setattr(OnnxRuntime, "run", lambda self, inputs: calls.append(1) or run(self, inputs))
    OnnxRuntime(bundle, RuntimeOptions(sizes={"batch": BATCH}))
    assert len(calls) == WARM_UP_RUNS


def test_what_does_not_fit_the_graph_is_refused(bundle: Bundle) -> None:
    runtime, inputs = loaded(bundle), batch_of(bundle, 1)
    with pytest.raises(
        BundleError, match="inputs noise were given, the graph takes given, noise, observation, prefix"
    ):
        runtime.run({"noise": inputs["noise"]})
    with pytest.raises(
        BundleError, match=r"'observation' is float32 \[4, 35\].*loaded for float32 \[3, 35\]"
    ):
        runtime.run(inputs | {"observation": batch_of(bundle, 1, batch=4)["observation"]})
    with pytest.raises(BundleError, match="float64"):
        runtime.run({name: value.astype(float) for name, value in inputs.items()})
    with pytest.raises(BundleError, match="the size of batch must be given"):
        load_runtime("onnx", bundle)


def test_providers_are_chosen_by_name_and_the_cpu_comes_last() -> None:
    assert choose_providers("auto")[-1][0] == "CPUExecutionProvider"
    assert choose_providers("cpu") == [("CPUExecutionProvider", {})]
    with pytest.raises(BundleError, match="'abacus' is not known"):
        choose_providers("abacus")


def test_a_provider_that_is_not_installed_is_refused_rather_than_replaced(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(RuntimeUnavailableError, match="lacks cuda"):
        loaded(bundle, providers="cuda")


def test_a_provider_that_does_not_start_is_refused_rather_than_replaced(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What happens where onnxruntime-gpu is installed and CUDA is not."""
    import onnxruntime

    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    session = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda *arguments, **settings: session(
            *arguments, **{**settings, "providers": ["CPUExecutionProvider"]}
        ),
    )
    with pytest.raises(RuntimeUnavailableError, match="would run on CPUExecutionProvider"):
        loaded(bundle, providers="cuda")
    assert "on CPU" in loaded(bundle).detail  # nobody asked for a GPU: the runtime says what it runs on


def test_a_policy_runs_in_the_runtime_it_is_told(bundle: Bundle, task: Task) -> None:
    observation = Observation(0, np.zeros(35, np.float32), np.array([0.5, 0.0, 0.3]))
    policy = FlowPolicy(bundle, task, "onnx", RuntimeOptions(threads=2))
    assert "2 threads" in policy.runtime.detail
    chunk = policy.infer(observation)
    np.testing.assert_allclose(chunk.actions, FlowPolicy(bundle, task).infer(observation).actions, atol=1e-5)
