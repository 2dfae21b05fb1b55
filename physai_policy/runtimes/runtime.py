"""What a runtime is: a bundle's graph, loaded for fixed shapes and ready to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from physai_base.bundle import Bundle
from physai_base.errors import BundleError
from physai_base.tensor import TensorSpec

WARM_UP_RUNS = 3
PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "fp8")


@dataclass(frozen=True)
class RuntimeOptions:
    """How to load a graph."""

    sizes: Mapping[str, int] = field(default_factory=dict)  # of the named dimensions, e.g. {"batch": 8}
    threads: int = 1  # of the CPU
    providers: str = "auto"  # of ONNX Runtime: "auto", or names by commas, the first is preferred
    precision: str = "fp32"  # one of the runtime's `precisions`
    cache: str = ""  # directory of built engines; empty: the user's cache


@dataclass(frozen=True)
class Availability:
    """Whether a runtime works on this machine."""

    good: bool
    detail: str  # versions, or what is missing
    remedy: str = ""


class Runtime(Protocol):
    """A loaded graph. One thread at a time may run it."""

    name: str
    detail: str  # what computes, e.g. "ONNX Runtime 1.31.1 on CPU, 1 thread"

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs by name, for the caller to keep: no later call writes into them.

        Raises:
            BundleError: an input is missing, not known, or has another shape or type than it was loaded for.
        """
        ...


def fixed_shapes(
    bundle: Bundle, specs: Sequence[TensorSpec], sizes: Mapping[str, int]
) -> dict[str, tuple[int, ...]]:
    """Shapes with a number for every named dimension.

    Raises:
        BundleError: `sizes` lacks one.
    """
    missing = {size for spec in specs for size in spec.shape if isinstance(size, str)} - sizes.keys()
    if missing:
        raise BundleError(
            f"{bundle.path}: the size of {', '.join(sorted(missing))} must be given to load this graph"
        )
    return {
        spec.name: tuple(sizes[size] if isinstance(size, str) else size for size in spec.shape)
        for spec in specs
    }


def zeros(specs: Sequence[TensorSpec], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Arrays of those shapes, filled with zeros."""
    return {spec.name: np.zeros(shapes[spec.name], spec.dtype) for spec in specs}


def check_inputs(inputs: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]) -> None:
    """Whether what the caller gives is like `buffers`.

    Raises:
        BundleError: names, shapes or types differ.
    """
    if inputs.keys() != buffers.keys():
        raise BundleError(
            f"inputs {', '.join(sorted(inputs)) or 'none'} were given, the graph takes {', '.join(sorted(buffers))}"
        )
    for name, buffer in buffers.items():
        value = inputs[name]
        if value.shape != buffer.shape or value.dtype != buffer.dtype:
            raise BundleError(
                f"input {name!r} is {value.dtype} {list(value.shape)}, the graph was loaded for "
                f"{buffer.dtype} {list(buffer.shape)}"
            )


def copy_inputs(inputs: Mapping[str, np.ndarray], buffers: Mapping[str, np.ndarray]) -> None:
    """Copy what the caller gives into the arrays that the graph reads.

    Raises:
        BundleError: names, shapes or types differ.
    """
    check_inputs(inputs, buffers)
    for name, buffer in buffers.items():
        np.copyto(buffer, inputs[name])


def warm_up(runtime: Runtime, inputs: Mapping[str, np.ndarray]) -> None:
    """Run a few times, so that memory is allocated and kernels are chosen before it matters."""
    for _ in range(WARM_UP_RUNS):
        runtime.run(inputs)
