"""The task file: what stands in the cell, what perception looks for and what an instruction may name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from physai_base.errors import TaskError
from physai_base.resources import share_directory

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

    @staticmethod
    def load(task: str | Path = "cups") -> Task:
        """Read `task`: a file's path, or the name of a file in the installed `config/tasks`."""
        path = Path(task)
        if path.suffix not in (".yaml", ".yml"):
            path = share_directory() / "config" / "tasks" / f"{task}.yaml"
        try:
            return _parse(path, yaml.safe_load(path.read_text()))
        except OSError as error:
            raise TaskError(f"{path}: no such task file: {error.strerror}") from error
        except yaml.YAMLError as error:
            raise TaskError(f"{path}: cannot be read as YAML: {error}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise TaskError(f"{path}: missing or wrong entry: {error}") from error


def _interval(value: Any) -> Interval:
    low, high = (float(v) for v in value)
    if not low < high:
        raise ValueError(f"[{low:g}, {high:g}] is not an interval")
    return low, high


def _parse(path: Path, document: dict[str, Any]) -> Task:
    cups, shelf, markers = document["cups"], document["shelf"], document["markers"]
    return Task(
        name=str(document["name"]),
        path=path,
        table_x=_interval(document["table"]["x"]),
        table_y=_interval(document["table"]["y"]),
        markers=Markers(
            dictionary=str(markers["dictionary"]),
            size_m=float(markers["size_m"]),
            centers={int(k): (float(v[0]), float(v[1])) for k, v in markers["centers"].items()},
        ),
        cups=Cups(
            radius_m=float(cups["radius_m"]),
            height_m=float(cups["height_m"]),
            labels=tuple(cups["labels"]),
            region_x=_interval(cups["region"]["x"]),
            region_y=_interval(cups["region"]["y"]),
            min_distance_m=float(cups["min_distance_m"]),
        ),
        shelf=Shelf(
            labels=tuple(shelf["labels"]),
            board_size_m=np.array(shelf["board_size_m"], dtype=float),
            heights_m=tuple(float(v) for v in shelf["heights_m"]),
            offsets_x_m=tuple(float(v) for v in shelf["offsets_x_m"]),
            region_x=_interval(shelf["region"]["x"]),
            region_y=_interval(shelf["region"]["y"]),
            region_yaw=_interval(shelf["region"]["yaw"]),
        ),
        workspace_min=np.array(document["workspace"]["min"], dtype=float),
        workspace_max=np.array(document["workspace"]["max"], dtype=float),
        foot_height_tolerance_m=float(document["success"]["foot_height_tolerance_m"]),
        upright_cosine=float(document["success"]["upright_cosine"]),
        still_speed_m_s=float(document["success"]["still_speed_m_s"]),
    )
