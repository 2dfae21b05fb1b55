"""One input or output of a graph: its shape, units and how it is normalized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from physai_base.errors import BundleError, shown

MAX_RANK = 8
_ONNX_TYPES = {
    "float32": "tensor(float)",
    "float16": "tensor(float16)",
    "float64": "tensor(double)",
    "int64": "tensor(int64)",
    "int32": "tensor(int32)",
    "uint8": "tensor(uint8)",
    "bool": "tensor(bool)",
}


def is_int(value: Any) -> bool:
    """Whether it is a whole number, and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of the graph."""

    name: str
    shape: tuple[int | str, ...]  # a name for a size that may vary
    units: str  # e.g. "rad", "m", "1"; one text for the whole tensor
    dtype: str = "float32"
    mean: tuple[float, ...] | None = None  # along the last axis: the graph sees (value - mean) / std
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        where = f"tensor {shown(self.name)}"
        if not all(isinstance(text, str) and text for text in (self.name, self.units)):
            raise BundleError(
                f"{where}: name and units must be text and not empty; use units '1' for a pure number"
            )
        if not isinstance(self.dtype, str) or self.dtype not in _ONNX_TYPES:
            raise BundleError(
                f"{where}: dtype must be one of {', '.join(_ONNX_TYPES)}, got {shown(self.dtype)}"
            )
        if len(self.shape) > MAX_RANK:
            raise BundleError(f"{where}: a tensor has at most {MAX_RANK} axes, got {len(self.shape)}")
        for size in self.shape:
            if not (size if isinstance(size, str) else is_int(size) and size > 0):
                raise BundleError(f"{where}: a size must be a positive number or a name, got {shown(size)}")
        if (self.mean is None) != (self.std is None):
            raise BundleError(f"{where}: normalization needs both mean and std")
        if self.mean is None or self.std is None:
            return
        if not self.shape or {len(self.mean), len(self.std)} != {self.shape[-1]}:
            raise BundleError(f"{where}: mean and std must have one number per entry of the last axis")
        # Beyond these bounds float32 overflows.
        if not all(abs(v) <= 1e15 for v in self.mean) or not all(1e-15 <= v <= 1e15 for v in self.std):
            raise BundleError(f"{where}: mean must be finite and std finite and above zero, 1e-15 to 1e15")

    @property
    def onnx_type(self) -> str:
        """What ONNX Runtime calls `dtype`."""
        return _ONNX_TYPES[self.dtype]

    def normalize(self, value: np.ndarray) -> np.ndarray:
        """What the graph wants to see for `value`."""
        if self.mean is not None:
            value = (value - np.asarray(self.mean)) / np.asarray(self.std)
        return np.asarray(value, dtype=self.dtype)

    def denormalize(self, value: np.ndarray) -> np.ndarray:
        """What the graph's `value` means, in `units`."""
        if self.mean is None:
            return value
        return value * np.asarray(self.std) + np.asarray(self.mean)

    def as_json(self) -> dict[str, Any]:
        """The manifest's entry."""
        normalization = None
        if self.mean is not None and self.std is not None:
            normalization = {"mean": list(self.mean), "std": list(self.std)}
        return {
            "name": self.name,
            "shape": list(self.shape),
            "units": self.units,
            "dtype": self.dtype,
            "normalization": normalization,
        }
