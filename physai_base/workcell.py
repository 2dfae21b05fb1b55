"""What every task happens on and in: the table, the markers on it, and the box in which the tool stays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from physai_base.reader import Reader

DICTIONARIES = (
    *(f"DICT_{n}X{n}_{count}" for n in (4, 5, 6, 7) for count in (50, 100, 250, 1000)), "DICT_ARUCO_ORIGINAL",
    *(f"DICT_APRILTAG_{kind}" for kind in ("16h5", "25h9", "36h10", "36h11")),
)  # fmt: skip
"""OpenCV's sets of markers."""
Interval = tuple[float, float]


@dataclass(frozen=True)
class Markers:
    """Fiducials on the table."""

    dictionary: str
    size_m: float
    centers: dict[int, tuple[float, float]]  # m, base frame

    def corners(self) -> dict[int, np.ndarray]:
        """Corners (4, 3) of each marker in OpenCV's order: clockwise from the marker's top left.

        A marker lies flat with its top towards +x: it reads upright for someone who stands behind the
        robot and looks along +x.
        """
        h = self.size_m / 2
        offsets = np.array([[h, h, 0], [h, -h, 0], [-h, -h, 0], [-h, h, 0]])
        return {i: np.array([x, y, 0.0]) + offsets for i, (x, y) in self.centers.items()}


@dataclass(frozen=True)
class Workcell:
    """Where a task happens; the table's surface is z = 0 of the base frame."""

    table_x: Interval  # m, base frame
    table_y: Interval
    markers: Markers
    workspace_min: np.ndarray  # (3,) m
    workspace_max: np.ndarray

    @staticmethod
    def read(file: Reader) -> Workcell:
        """The entries `table`, `markers` and `workspace` of a task's file."""
        table, workspace = file.section("table"), file.section("workspace")
        low, high = workspace.vector("min", 3), workspace.vector("max", 3)
        if workspace.good("min", "max") and not (low < high).all():
            workspace.fail("min", "must be below max on every axis")
        if table.number("height_m", -10, 10, 0.0) != 0:
            table.fail("height_m", "must be 0: z = 0 of the base frame is the table's surface")
        return Workcell(table.bounds("x"), table.bounds("y"), _markers(file.section("markers")), low, high)


def _markers(markers: Reader) -> Markers:
    centers, found = markers.section("centers"), {}
    if centers.good() and not len(centers):
        markers.fail("centers", "must name at least one marker")
    for number, _ in list(centers.items()):
        if type(number) is not int or number < 0:
            centers.fail(number, "a marker's number must be a whole number from 0 on")
        x, y = centers.vector(number, 2)
        found[number] = (float(x), float(y))
    return Markers(
        dictionary=markers.choice("dictionary", DICTIONARIES),
        size_m=markers.number("size_m", 1e-3, 1),
        centers=found,
    )
