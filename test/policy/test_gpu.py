"""On a CUDA machine, `pytest -m gpu`: what the GPU computes is what torch and ONNX Runtime compute on the CPU.

Needs onnxruntime-gpu in place of onnxruntime, TensorRT (or TensorRT-RTX) and torch. A missing one is a failure: who asks
for these tests wants to know.
"""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from physai_base.bundle import Bundle
from physai_lab.cli import main
from physai_policy.flow_policy import SAMPLES
from physai_policy.runtimes import Runtime, RuntimeOptions, load_runtime
from physai_policy.runtimes.engine_cache import EngineCache

pytestmark = pytest.mark.gpu
TOLERANCE = {"fp32": 1e-3, "fp16": 5e-2, "bf16": 3e-1}  # largest difference, normalized units


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.open("cups/policy", kind="policy")


@pytest.fixture(scope="module")
def expected(bundle: Bundle) -> list[tuple[dict[str, np.ndarray], np.ndarray]]:
    session, rng, pairs = bundle.session(), np.random.default_rng(0), []
    for _ in range(20):
        inputs = {
            spec.name: rng.standard_normal((SAMPLES, *map(int, spec.shape[1:]))).astype(np.float32)
            for spec in bundle.inputs
        }
        pairs.append((inputs, session.run(["chunk"], inputs)[0]))
    return pairs


def agree(
    runtime: Runtime, expected: list[tuple[dict[str, np.ndarray], np.ndarray]], tolerance: float
) -> None:
    for inputs, chunk in expected:
        actual = runtime.run(inputs)["chunk"]
        np.testing.assert_allclose(actual, chunk, atol=tolerance)
        assert np.vdot(actual, chunk) / np.linalg.norm(actual) / np.linalg.norm(chunk) >= 0.999


def test_onnx_runtime_on_cuda(
    bundle: Bundle, expected: list[tuple[dict[str, np.ndarray], np.ndarray]]
) -> None:
    options = RuntimeOptions(sizes={"batch": SAMPLES}, providers="cuda")
    agree(load_runtime("onnx", bundle, options), expected, 1e-3)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_an_engine_built_here(
    bundle: Bundle, expected: list[tuple[dict[str, np.ndarray], np.ndarray]], precision: str, tmp_path: Path
) -> None:
    cache = tmp_path / "engines"
    assert main(["build-engine", "policy", "--precision", precision, "--output", str(cache)]) == 0
    options = RuntimeOptions(sizes={"batch": SAMPLES}, precision=precision, cache=str(cache))
    runtime = load_runtime("tensorrt", bundle, options)
    assert "one CUDA graph" in runtime.detail  # all shapes are static
    agree(runtime, expected, TOLERANCE[precision])
    other_thread = threading.Thread(target=agree, args=(runtime, expected, TOLERANCE[precision]))
    failures: list[BaseException] = []
    threading.excepthook, before = (
        lambda arguments: failures.append(arguments.exc_value),
        threading.excepthook,
    )
    try:
        other_thread.start()
        other_thread.join()
    finally:
        threading.excepthook = before
    assert not failures
    first, second = (runtime.run(inputs)["chunk"] for inputs, _ in expected[:2])
    assert not np.shares_memory(first, second)
    assert len(list(EngineCache(cache).directory.glob("*.engine"))) == 1


def test_verify_passes(tmp_path: Path) -> None:
    cache = tmp_path / "engines"
    assert main(["build-engine", "policy", "--precision", "fp16", "--output", str(cache)]) == 0
    arguments = [
        "verify",
        "policy",
        "--runtime",
        "torch,onnx,tensorrt",
        "--precision",
        "fp16",
        "--cache",
        str(cache),
    ]
    assert main([*arguments, "--runs", str(tmp_path)]) == 0
