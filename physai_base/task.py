"""The task file: what stands in the cell, what perception looks for and what an instruction may name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from physai_base.errors import TaskError, shown
from physai_base.reader import Reader, open_yaml
from physai_base.resources import share_directory

FORMAT_VERSION = 1
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
class Cups:
    """The cups: straight tumblers."""

    radius_m: float
    height_m: float
    labels: tuple[str, ...]
    region_x: Interval
    region_y: Interval
    min_distance_m: float


@dataclass(frozen=True)
class Shelf:
    """Boards like stairs, lowest first."""

    labels: tuple[str, ...]
    board_size_m: np.ndarray  # (3,) depth, width, thickness
    heights_m: tuple[float, ...]  # upper surfaces
    offsets_x_m: tuple[float, ...]
    region_x: Interval
    region_y: Interval
    region_yaw: Interval


@dataclass(frozen=True)
class Task:
    """One task; read it with `Task.load`."""

    name: str
    path: Path
    table_x: Interval
    table_y: Interval
    markers: Markers
    cups: Cups
    shelf: Shelf
    workspace_min: np.ndarray  # (3,) m
    workspace_max: np.ndarray
    foot_height_tolerance_m: float
    upright_cosine: float
    still_speed_m_s: float
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Other names for a word of a label, e.g. cup: (mug, glass); one that ends in "?" is asked back."""

    @staticmethod
    def load(task: str | Path = "cups") -> Task:
        """Read `task`: a file's path, or the name of a file in the installed `config/tasks`.

        Raises:
            TaskError: it is missing or wrong; the message names everything that is, each with its line.
        """
        path = Path(task)
        if path.suffix not in (".yaml", ".yml"):
            folder = share_directory() / "config" / "tasks"
            path = folder / f"{task}.yaml"
            if not os.path.isfile(path):
                known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml"))) or "none"
                raise TaskError(
                    f"there is no task {str(task)!r}; known: {known}. Give one of them or a file ending in .yaml"
                )
        file = open_yaml(path, TaskError)
        parsed = _parse(file)
        file.finish()
        return parsed


def _parse(file: Reader) -> Task:
    version = file.anything("format_version")
    if file.good("format_version") and version != FORMAT_VERSION:
        file.fail("format_version", f"must be {FORMAT_VERSION}, got {shown(version)}")
    table, workspace, success = file.section("table"), file.section("workspace"), file.section("success")
    low, high = workspace.vector("min", 3), workspace.vector("max", 3)
    if workspace.good("min", "max") and not (low < high).all():
        workspace.fail("min", "must be below max on every axis")
    if table.number("height_m", -10, 10, 0.0) != 0:
        table.fail("height_m", "must be 0: z = 0 of the base frame is the table's surface")
    cups, shelf = _cups(file.section("cups")), _shelf(file.section("shelf"))
    return Task(
        name=file.text("name"),
        path=file.path,
        table_x=table.bounds("x"),
        table_y=table.bounds("y"),
        markers=_markers(file.section("markers")),
        cups=cups,
        shelf=shelf,
        workspace_min=low,
        workspace_max=high,
        foot_height_tolerance_m=success.number("foot_height_tolerance_m", 1e-4, 1),
        upright_cosine=success.number("upright_cosine", 0, 1),
        still_speed_m_s=success.number("still_speed_m_s", 1e-4, 10),
        words=_words(file.section("words", optional=True), (*cups.labels, *shelf.labels)),
    )


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


def _cups(cups: Reader) -> Cups:
    region = cups.section("region")
    return Cups(
        radius_m=cups.number("radius_m", 1e-3, 0.5),
        height_m=cups.number("height_m", 1e-3, 1),
        labels=_labels(cups),
        region_x=region.bounds("x"),
        region_y=region.bounds("y"),
        min_distance_m=cups.number("min_distance_m", 0, 1),
    )


def _shelf(shelf: Reader) -> Shelf:
    region, labels = shelf.section("region"), _labels(shelf)
    boards = len(labels) if shelf.good("labels") else None
    heights = shelf.vector("heights_m", boards, 0, 5)
    if shelf.good("heights_m") and (np.diff(heights) <= 0).any():
        shelf.fail("heights_m", "must rise: the lowest board comes first")
    return Shelf(
        labels=labels,
        board_size_m=shelf.vector("board_size_m", 3, 1e-3, 5),
        heights_m=tuple(heights.tolist()),
        offsets_x_m=tuple(shelf.vector("offsets_x_m", boards, -5, 5).tolist()),
        region_x=region.bounds("x"),
        region_y=region.bounds("y"),
        region_yaw=region.bounds("yaw"),
    )


def _words(words: Reader, labels: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    known = dict.fromkeys(part for label in labels for part in label.split("_"))
    return {word: words.texts(word) for word in known if words.has(word)}


def _labels(section: Reader) -> tuple[str, ...]:
    labels = section.texts("labels")
    if section.good("labels") and not labels:
        section.fail("labels", "must name at least one")
    return labels
