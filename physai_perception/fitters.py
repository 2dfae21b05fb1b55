"""Which fitter finds things of which shape."""

from __future__ import annotations

from physai_base.task import Kind, Shape
from physai_perception.box import BoxFitter
from physai_perception.cylinder import CylinderFitter
from physai_perception.errors import PerceptionError
from physai_perception.fitting import Fitter
from physai_perception.patch import MarkFitter, StainFitter
from physai_perception.settings import PerceptionSettings


def fitter_of(label: str, kind: Kind, measured: bool, settings: PerceptionSettings) -> Fitter:
    """For a thing; `measured`: a patch does not keep its size.

    Raises:
        PerceptionError: perception has none for that shape.
    """
    if kind.shape is Shape.CYLINDER:
        return CylinderFitter(kind.size_m[0] / 2, kind.size_m[2], settings)
    if kind.shape is Shape.BOX:
        return BoxFitter(kind.size_m, settings)
    if kind.shape is Shape.PATCH:
        return StainFitter(kind.size_m, settings) if measured else MarkFitter(kind.size_m, settings)
    raise PerceptionError(f"{label}: perception finds a {kind.shape.value} only as one of a task's boards")
