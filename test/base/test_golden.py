"""No runtime is believed: what computes a bundle answers its golden cases before it is used, whatever kind of bundle it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from physai_base import golden
from physai_base.bundle import Bundle, rewrite_bundle
from physai_base.errors import BundleError
from physai_base.golden import GoldenError
from physai_base.task import Task
from physai_lab.cli import main
from physai_policy import runtimes
from physai_policy.correction import Corrector
from physai_policy.doubt import Surprise
from physai_policy.flow_policy import FlowPolicy
from physai_policy.runtimes import RuntimeOptions, load_runtime
from physai_policy.runtimes.onnx import OnnxRuntime, choose_providers
from physai_policy.runtimes.precision import convert
from physai_policy.runtimes.runtime import WARM_UP_RUNS, fixed_shapes, zeros
from physai_policy.vision import VisionPolicy
from physai_world_model.model import WorldModel

pytestmark = pytest.mark.slow

LOADERS: dict[str, Callable[[Bundle, Task], Any]] = {
    "policy": FlowPolicy,
    "vision_policy": VisionPolicy,
    "corrector": Corrector,
    "doubt": Surprise,
    "world_model": WorldModel,
}
Arrays = Mapping[str, np.ndarray]


@pytest.fixture(scope="module")
def bundles() -> dict[str, Bundle]:
    return {name: Bundle.open(f"cups/{name}") for name in LOADERS}


class Session:
    """ONNX Runtime's session with a fault."""

    def __init__(self, session: Any, fault: str) -> None:
        self._session, self._fault = session, fault
        self._before: Arrays | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, names: list[str], inputs: Arrays) -> list[np.ndarray]:
        asked = inputs
        if self._fault == "ignores its inputs":
            asked = {name: np.zeros_like(value) for name, value in inputs.items()}
        elif self._fault == "answers the last ones":
            asked = inputs if self._before is None else self._before
            self._before = {name: value.copy() for name, value in inputs.items()}
        elif self._fault == "inputs swapped":
            asked = swapped(inputs)
        return list(self._session.run(names, dict(asked)))


def swapped(inputs: Arrays) -> Arrays:
    """Two inputs of one shape in each other's place; of a single input, its first columns."""
    for one, a in inputs.items():
        for other, b in inputs.items():
            if one < other and a.shape == b.shape and a.dtype == b.dtype:
                return {**inputs, one: b, other: a}
    (name, value), *_ = inputs.items()
    return {**inputs, name: np.concatenate([value[..., 2::-1], value[..., 3:]], axis=-1)}


@pytest.mark.parametrize(
    "fault", ["", "ignores its inputs", "answers the last ones", "half precision", "inputs swapped"]
)
@pytest.mark.parametrize("name", LOADERS)
def test_every_loader_refuses_what_computes_something_else(
    name: str, fault: str, bundles: dict[str, Bundle], task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, real = bundles[name], onnxruntime.InferenceSession

    def session(model: bytes, *arguments: Any, **settings: Any) -> Session:
        if fault == "half precision":
            model = convert(model, "fp16")
        return Session(real(model, *arguments, **settings), fault)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    if not fault:
        LOADERS[name](bundle, task)
        return
    with pytest.raises(
        GoldenError, match=r"does not compute this bundle: output .* is off by [0-9.e+-]+"
    ) as caught:
        LOADERS[name](bundle, task)
    assert str(bundle.path) in str(caught.value)
    guess = {"ignores its inputs": "one answer whatever", "answers the last ones": "the question before"}
    assert guess.get(fault, "") in str(caught.value)


class Fake:
    """A runtime of another make, right but for what a test changes."""

    name, detail, precisions = "fake", "nothing real", ("fp32", "bf16")

    def __init__(self, bundle: Bundle, options: RuntimeOptions) -> None:
        self._onnx = OnnxRuntime(bundle, RuntimeOptions(sizes=options.sizes))

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        return self._onnx.run(inputs)


class Coarse(Fake):
    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        return {name: value * np.float32(1.005) for name, value in super().run(inputs).items()}


class OneArray(Fake):
    """Writes into what it gave before."""

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        found = super().run(inputs)
        self._kept = getattr(self, "_kept", found)
        for name, value in found.items():
            self._kept[name][:] = value
        return self._kept


class Reordered(Fake):
    """Rows of a batch in another order."""

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        return {name: value[::-1] for name, value in super().run(inputs).items()}


class Undefined(Fake):
    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        return {name: value * np.float32(np.nan) for name, value in super().run(inputs).items()}


@pytest.mark.parametrize("fault", [Coarse, OneArray, Reordered, Undefined])
def test_a_runtime_of_any_make_is_asked(
    fault: type[Fake], bundles: dict[str, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = RuntimeOptions(sizes={"batch": 4})
    monkeypatch.setitem(runtimes.RUNTIMES, "fake", Fake)
    load_runtime("fake", bundles["policy"], options)
    monkeypatch.setitem(runtimes.RUNTIMES, "fake", fault)
    with pytest.raises(GoldenError, match=r"the runtime fake \(nothing real\) does not compute"):
        load_runtime("fake", bundles["policy"], options)
    if fault is Coarse:  # half a percent is more than fp32 may lose and less than bf16 does
        load_runtime("fake", bundles["policy"], RuntimeOptions(sizes={"batch": 4}, precision="bf16"))


def test_the_node_s_samples_and_one_alone_are_answered(bundles: dict[str, Bundle], task: Task) -> None:
    for samples in (1, 2, 8, 13):  # also more than there are cases
        FlowPolicy(bundles["policy"], task, samples=samples)


class CopiesWhenBound:
    """What ONNX Runtime does on a GPU: arrays of the CPU are copied when they are bound, not when the session runs."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._inputs: dict[str, np.ndarray] = {}
        self._outputs: dict[str, np.ndarray] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def io_binding(self) -> CopiesWhenBound:
        return self

    def bind_cpu_input(self, name: str, value: np.ndarray) -> None:
        self._inputs[name] = value.copy()

    def run_with_iobinding(self, binding: CopiesWhenBound) -> list[np.ndarray]:
        return list(self._session.run(None, self._inputs))


class BoundOnce:
    """How our runtime was: arrays bound when it is loaded, and written into before each run."""

    name, detail = "bound", "bound once"

    def __init__(self, bundle: Bundle, options: RuntimeOptions) -> None:
        self._session = onnxruntime.InferenceSession(bundle.model, providers=["CPUExecutionProvider"])
        self._inputs = zeros(bundle.inputs, fixed_shapes(bundle, bundle.inputs, options.sizes))
        self._names = [spec.name for spec in bundle.outputs]
        self._binding = self._session.io_binding()
        for name, value in self._inputs.items():
            self._binding.bind_cpu_input(name, value)

    def run(self, inputs: Arrays) -> dict[str, np.ndarray]:
        for name, value in inputs.items():
            self._inputs[name][:] = value
        found = self._session.run_with_iobinding(self._binding)
        return dict(zip(self._names, found, strict=True))


def test_inputs_that_are_copied_when_bound_are_the_ones_that_are_asked(
    bundles: dict[str, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, options, real = (
        bundles["policy"],
        RuntimeOptions(sizes={"batch": 8}),
        onnxruntime.InferenceSession,
    )
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda *arguments, **settings: CopiesWhenBound(real(*arguments, **settings)),
    )
    monkeypatch.setitem(runtimes.RUNTIMES, "bound", BoundOnce)
    with pytest.raises(GoldenError, match="one answer whatever it is asked"):
        load_runtime("bound", bundle, options)
    load_runtime("onnx", bundle, options)


def test_tf32_is_off_unless_it_is_asked_for(
    bundles: dict[str, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    built_in = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: built_in)
    assert choose_providers("auto")[0][1]["use_tf32"] == "0"
    assert choose_providers("cuda", "tf32")[0][1]["use_tf32"] == "1"
    with pytest.raises(BundleError, match="the runtime onnx computes in fp32 or tf32"):
        load_runtime("onnx", bundles["policy"], RuntimeOptions(sizes={"batch": 8}, precision="fp16"))


def test_cases_are_unlike_the_warm_up_s_and_every_input_counts(bundles: dict[str, Bundle]) -> None:
    assert WARM_UP_RUNS  # with zeros
    for bundle in bundles.values():
        names = [spec.name for spec in bundle.outputs]
        session = bundle.session()

        def answer(asked: Arrays, names: list[str] = names, session: Any = session) -> Arrays:
            return dict(zip(names, session.run(names, dict(asked)), strict=True))

        assert len(bundle.golden) >= 3
        assert all(any(np.any(value) for value in case.inputs.values()) for case in bundle.golden)
        assert golden.without_effect(answer, bundle.golden) == []


def without_cases(bundle: Bundle, folder: Path) -> Bundle:
    return rewrite_bundle(bundle, folder, cases=())


@pytest.mark.parametrize("name", LOADERS)
def test_a_bundle_without_cases_is_refused_with_what_to_run(
    name: str, bundles: dict[str, Bundle], task: Task, tmp_path: Path
) -> None:
    bare = without_cases(bundles[name], tmp_path / "bare")
    with pytest.raises(GoldenError, match=r"has no golden cases.*physai golden"):
        LOADERS[name](bare, task)


def test_cases_are_added_by_the_command_and_what_it_computes_stays_the_same(
    bundles: dict[str, Bundle], task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = without_cases(bundles["policy"], tmp_path / "policy")
    assert main(["golden", str(bare.path)]) == 0
    assert "6 cases" in capsys.readouterr().out
    found = Bundle.open(bare.path)
    assert found.digest != bare.digest and found.identity == bare.identity == bundles["policy"].identity
    assert (
        FlowPolicy(found, task).digest == Bundle.open("cups/doubt").config["policy"]
    )  # still calibrated for it


def test_cases_that_were_changed_or_do_not_fit_are_refused(
    bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    shutil.copytree(bundles["doubt"].path, tmp_path / "doubt")
    file = tmp_path / "doubt" / golden.GOLDEN
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(BundleError, match="sha256"):
        Bundle.open(tmp_path / "doubt")
    with pytest.raises(GoldenError, match="golden case 0 has the inputs"):
        rewrite_bundle(bundles["doubt"], tmp_path / "other", cases=bundles["corrector"].golden).session()
    same = [bundles["doubt"].golden[0]] * 3
    with pytest.raises(GoldenError, match="too alike"):
        rewrite_bundle(bundles["doubt"], tmp_path / "alike", cases=same).session()
    with pytest.raises(GoldenError, match="no golden cases"):
        golden.unpack(b"nothing")


def test_a_network_that_gives_one_answer_gets_no_cases() -> None:
    cases = golden.answers(lambda asked: {"y": np.ones(3)}, [{"x": np.full(2, float(k))} for k in range(3)])
    with pytest.raises(GoldenError, match="the same whatever it is asked"):
        golden.without_effect(lambda asked: {"y": np.ones(3)}, cases)
