"""Golden cases: questions that whatever computes a bundle answers before it is used, since no runtime is believed.

A case holds an array for every input and for every output, as the reference gave them: ONNX Runtime on the CPU for a graph,
torch for a network without one. Where a named size is the first axis of every tensor (`batch`), a case is one row, and a
runtime loaded for more rows is asked several cases at once.

`TOLERANCES` are the largest differences that are let pass, as a share of the largest absolute value of an output over all
cases. Where they come from:

    fp32   other kernels and another order of additions: 1e-6 at most between ONNX Runtime with and without its optimizers, torch,
           and an H200 without TF32, shipped bundles. More than that, since a GPU has faster convolutions that are less exact,
           and half of the least that a mantissa of 10 bits (fp16, TF32) does to a shipped bundle (test/base/test_golden.py)
    tf32   1e-3 on an H200, shipped policy (4e-3 in chunks of up to 4.2)
    fp16   as many bits as tf32, weights rounded as well: 2e-3 at most, shipped policies on the CPU
    bf16   three bits less: eight times fp16
    fp8    three bits of mantissa; int8 likewise, of graphs that were quantized elsewhere. Not measured by us; more than this
           would let pass a vision policy that keeps the first image of one of its cameras (0.18 of its size)
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from physai_base.errors import BundleError, shown
from physai_base.tensor import TensorSpec

GOLDEN = "golden.safetensors"
TOLERANCES = {"fp32": 5e-5, "tf32": 1e-2, "fp16": 1e-2, "bf16": 8e-2, "fp8": 0.1, "int8": 0.1}
LEAST_CASES = 2
APART = 3.0  # answers of different cases differ by so many tolerances: else a runtime that ignores its inputs would pass
HOW = "add some with `physai golden BUNDLE`, or export or import it again"

Arrays = Mapping[str, np.ndarray]
Answer = Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]]
Specs = tuple[Sequence[TensorSpec], Sequence[TensorSpec]]  # of inputs and outputs


class GoldenError(BundleError):
    """A bundle without golden cases, or what does not answer them."""

    exit_code = 78  # EX_CONFIG


@dataclass(frozen=True)
class GoldenCase:
    """One question and its answer: an array for each input and output."""

    inputs: Arrays
    outputs: Arrays


def pack(cases: Sequence[GoldenCase]) -> bytes:
    """The file of those cases."""
    from safetensors.numpy import save

    return save(
        {
            f"{index}/{side}/{name}": np.ascontiguousarray(value)
            for index, case in enumerate(cases)
            for side, arrays in (("in", case.inputs), ("out", case.outputs))
            for name, value in arrays.items()
        }
    )


def unpack(data: bytes) -> tuple[GoldenCase, ...]:
    """The cases of a file.

    Raises:
        GoldenError: it is no such file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    found: dict[int, tuple[dict[str, np.ndarray], dict[str, np.ndarray]]] = {}
    try:
        for key, value in load(data).items():
            index, side, name = key.split("/", 2)
            found.setdefault(int(index), ({}, {}))[("in", "out").index(side)][name] = value
    except (SafetensorError, ValueError, KeyError) as error:
        raise GoldenError(f"{GOLDEN} holds no golden cases: {shown(error)}; {HOW}") from error
    return tuple(GoldenCase(*found[index]) for index in sorted(found))


def check(where: str, cases: Sequence[GoldenCase], specs: Specs) -> None:
    """Whether there are cases, and whether they are of the bundle's inputs and outputs.

    Raises:
        GoldenError: not so.
    """
    if len(cases) < LEAST_CASES:
        raise GoldenError(
            f"{where}: has {len(cases) or 'no'} golden cases, so that nobody can tell whether it is computed rightly: {HOW}"
        )
    for number, case in enumerate(cases):
        for what, arrays, tensors in (("input", case.inputs, specs[0]), ("output", case.outputs, specs[1])):
            if arrays.keys() != {spec.name for spec in tensors}:
                raise GoldenError(
                    f"{where}: golden case {number} has the {what}s {', '.join(sorted(arrays))}, the manifest "
                    f"{', '.join(spec.name for spec in tensors)}; {HOW}"
                )
            for spec in tensors:
                value = arrays[spec.name]
                fits = len(value.shape) == len(spec.shape) and all(
                    isinstance(size, str) or size == found
                    for size, found in zip(spec.shape, value.shape, strict=True)
                )
                if not fits or value.dtype != spec.dtype or not np.isfinite(value).all():
                    raise GoldenError(
                        f"{where}: golden case {number}: {what} {spec.name!r} is {value.dtype} {list(value.shape)}, expected "
                        f"finite {spec.dtype} {list(spec.shape)}; {HOW}"
                    )


def rows_of(specs: Specs, sizes: Mapping[str, int]) -> int:
    """How many cases make one question, where the first axis of every tensor is a named size; else 0: each stands alone."""
    first = {spec.shape[0] if spec.shape else None for side in specs for spec in side}
    (name,) = first if len(first) == 1 else (None,)
    return sizes.get(name, 0) if isinstance(name, str) else 0


def scales(cases: Sequence[GoldenCase]) -> dict[str, float]:
    """The largest absolute value of each output."""
    return {
        name: max(float(np.abs(case.outputs[name]).max(initial=1e-6)) for case in cases)
        for name in cases[0].outputs
    }


def difference(actual: Arrays, expected: Arrays, scale: Mapping[str, float]) -> tuple[float, str]:
    """The largest of any output, as a share of its scale, and that output's name; infinite for other shapes or NaN."""
    worst, which = 0.0, next(iter(expected))
    for name, value in expected.items():
        found = np.asarray(actual[name]) if name in actual else np.zeros(0)
        if found.shape != value.shape:
            return float("inf"), name
        apart = float(np.abs(found.astype(float) - value.astype(float)).max(initial=0.0)) / scale[name]
        if not apart <= worst:  # also for a NaN
            worst, which = apart if np.isfinite(apart) else float("inf"), name
    return worst, which


def examine(
    where: str,
    cases: Sequence[GoldenCase],
    specs: Specs,
    answer: Answer,
    who: str,
    precision: str,
    sizes: Mapping[str, int],
) -> None:
    """Ask every case twice, in one order and in the other, and compare all answers at the end.

    So one that gives the answer to the question before, or to none, or writes into what it gave earlier, is noticed.

    Raises:
        GoldenError: an answer is off by more than the precision's tolerance; the message says by how much.
    """
    check(where, cases, specs)
    questions = _questions(cases, rows_of(specs, sizes))
    scale, tolerance = scales(cases), TOLERANCES[precision]
    least = min(
        difference(one.outputs, other.outputs, scale)[0]
        for one, other in zip(questions, [*questions[1:], questions[0]], strict=True)
    )
    if not least >= APART * tolerance:
        raise GoldenError(
            f"{where}: the answers of its golden cases are too alike ({least:.1e} of their size) to judge {precision}, where "
            f"{tolerance:g} is let pass; {HOW}"
        )
    order = [*range(len(questions)), *reversed(range(len(questions)))]
    given = []
    for index in order:
        inputs = {name: value.copy() for name, value in questions[index].inputs.items()}
        given.append(answer(inputs))
        for value in inputs.values():  # what still reads them reads something else now
            value.fill(0)
    off = [
        difference(found, questions[index].outputs, scale) for found, index in zip(given, order, strict=True)
    ]
    worst, name = max(off)
    if worst <= tolerance:
        return
    raise GoldenError(
        f"{where}: {who} does not compute this bundle: output {name!r} is off by {worst * scale[name]:.2g} where values "
        f"reach {scale[name]:.2g}, a share of {worst:.1e}; in {precision} {tolerance:g} is let pass. "
        f"{_guess(given, questions, order, scale, tolerance)}Nothing is started with it; see docs/explanation/policy_runtimes.md"
    )


def _questions(cases: Sequence[GoldenCase], rows: int) -> list[GoldenCase]:
    """The cases, or for a batch as many of them together, beginning with each in turn."""
    if not rows:
        return list(cases)

    def together(arrays: list[Arrays], first: int) -> Arrays:
        chosen = [arrays[(first + row) % len(arrays)] for row in range(rows)]
        return {name: np.concatenate([one[name] for one in chosen]) for name in chosen[0]}

    inputs, outputs = [case.inputs for case in cases], [case.outputs for case in cases]
    return [GoldenCase(together(inputs, first), together(outputs, first)) for first in range(len(cases))]


def _guess(
    given: Sequence[Arrays],
    questions: Sequence[GoldenCase],
    order: Sequence[int],
    scale: Mapping[str, float],
    tolerance: float,
) -> str:
    """What it looks like, for a person."""
    if all(difference(found, given[0], scale)[0] <= tolerance for found in given[1:]):
        return "It gives one answer whatever it is asked. "
    before = zip(given[1:], order, strict=False)
    if all(difference(found, questions[index].outputs, scale)[0] <= tolerance for found, index in before):
        return "It gives the answer to the question before. "
    return ""


def weights_precision(data: bytes) -> str:
    """The coarsest floating-point type in a safetensors file, as a precision: what a network without a graph computes in."""
    (size,) = struct.unpack("<Q", data[:8])
    kinds = {entry["dtype"] for key, entry in json.loads(data[8 : 8 + size]).items() if key != "__metadata__"}
    return next((name for kind, name in (("BF16", "bf16"), ("F16", "fp16")) if kind in kinds), "fp32")


def answers(answer: Answer, questions: Sequence[Arrays]) -> tuple[GoldenCase, ...]:
    """Golden cases as a reference answers those questions."""
    return tuple(
        GoldenCase(inputs, {name: np.array(value) for name, value in answer(dict(inputs)).items()})
        for inputs in questions
    )


def without_effect(answer: Answer, cases: Sequence[GoldenCase]) -> list[str]:
    """Inputs that no case's answer depends on: no case would tell them from others.

    Raises:
        GoldenError: there is none that the answers depend on.
    """
    scale, least = scales(cases), APART * TOLERANCES["fp32"]
    dumb = [
        name
        for name in cases[0].inputs
        if not any(
            difference(answer({**case.inputs, name: other.inputs[name]}), case.outputs, scale)[0] >= least
            for case, other in zip(cases, [*cases[1:], cases[0]], strict=True)
            if case.inputs[name].shape == other.inputs[name].shape or len(case.inputs) == 1
        )
    ]
    if len(dumb) == len(cases[0].inputs):
        raise GoldenError("its answer is the same whatever it is asked: nothing can be told from it")
    return dumb
