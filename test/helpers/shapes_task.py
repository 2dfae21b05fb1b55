"""A task of boxes, cylinders and patches as a test wants them, built in MuJoCo; nobody asks for anything in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import mujoco
import numpy as np

from physai_base.expert import Goal
from physai_base.outcome import NO_SUCH_GOAL, Outcome, Situation, Stance
from physai_base.task import Boards, Kind, Region, Shape, Task, TrainedValue
from physai_base.values import SceneState
from physai_sim.paint import hsv_to_rgb

HUES = {"red": 0.0, "orange": 28.0, "yellow": 56.0, "green": 125.0, "blue": 222.0, "purple": 275.0}
HUE_SPREAD_DEG = 7.0
HOLE_M = 0.034
STAIN_CELL_M = 0.01
_THIN_M = 0.0003


@dataclass(frozen=True)
class Thing:
    """One of them."""

    label: str
    kind: Kind
    hole: bool = False  # in its top
    hollow: bool = False  # open in front (+x)


@dataclass(frozen=True)
class ShapesTask(Task):
    """Those things."""

    moved: tuple[Thing, ...] = ()
    still: tuple[Thing, ...] = ()

    @staticmethod
    def of(moved: tuple[Thing, ...], still: tuple[Thing, ...] = ()) -> ShapesTask:
        cups = Task.load("cups")
        return ShapesTask("shapes", Path("shapes.yaml"), cups.workcell, Boards.none(), 0.95, {}, moved, still)

    @property
    def things(self) -> dict[str, Thing]:
        return {thing.label: thing for thing in (*self.moved, *self.still)}

    @property
    def objects(self) -> tuple[str, ...]:
        return tuple(thing.label for thing in self.moved)

    @property
    def places(self) -> tuple[str, ...]:
        return tuple(thing.label for thing in self.still)

    @cached_property
    def cell(self) -> ShapesCell:
        return ShapesCell(self)

    @property
    def goals(self) -> tuple[Goal, ...]:
        return tuple(Goal(label) for label in self.objects)

    def kind(self, label: str) -> Kind:
        return self.things[label].kind

    def region(self, label: str) -> Region:
        return Region((0.36, 0.62), (-0.3, 0.3), 0.0, (-np.pi, np.pi))

    def expert(self, embodiment: object) -> NoReturn:
        raise NotImplementedError

    def feature_names(self) -> tuple[str, ...]:
        return ()

    def features(self, scene: SceneState, goal: Goal, tool_velocity_m_s: np.ndarray) -> np.ndarray:
        return np.zeros(0, np.float32)

    def outcome(self, goal: Goal, now: Situation, start: Mapping[str, Stance] | None = None) -> Outcome:
        return Outcome(NO_SUCH_GOAL)

    def trained_values(self) -> Mapping[str, TrainedValue]:
        return {}


@dataclass
class ShapesCell:
    """Bodies that are put where a test wants them: each floats, none collides with what it is put on."""

    task: ShapesTask
    cells: dict[str, np.ndarray] = field(default_factory=dict)  # (k, 2) m of a stain's cells

    def build(self, spec: mujoco.MjSpec) -> None:
        for thing in self.task.things.values():
            body = spec.worldbody.add_body(name=thing.label, pos=[0, 0, -5])
            body.add_freejoint(name=thing.label)
            body.add_site(name=thing.label, size=[0.003, 0.003, 0.003], group=4)
            self._add_geoms(body, thing)

    def _add_geoms(self, body: mujoco.MjsBody, thing: Thing) -> None:
        x, y, z = thing.kind.size_m
        colour = next(word for word in thing.label.split("_") if word in HUES)
        rgba = [*hsv_to_rgb((HUES[colour], 0.82, 0.7)), 1]
        if thing.kind.shape is Shape.CYLINDER:
            _geom(body, thing.label, mujoco.mjtGeom.mjGEOM_CYLINDER, [0, 0, z / 2], [x / 2, z / 2, 0], rgba)
        elif thing.kind.shape is Shape.PATCH and thing in self.task.still:
            if abs(x - y) < 1e-6:
                _geom(body, thing.label, mujoco.mjtGeom.mjGEOM_CYLINDER, [0, 0, 0], [x / 2, _THIN_M, 0], rgba)
            else:
                _box(body, thing.label, [0, 0, 0], [x, y, 2 * _THIN_M], rgba)
        elif thing.kind.shape is Shape.PATCH:
            self._add_stain(body, thing, rgba)
        elif thing.hole:
            side = (x - HOLE_M) / 2
            across = (y - HOLE_M) / 2
            _box(body, thing.label, [HOLE_M / 2 + side / 2, 0, z / 2], [side, y, z], rgba)
            _box(body, f"{thing.label}_1", [-HOLE_M / 2 - side / 2, 0, z / 2], [side, y, z], rgba)
            _box(body, f"{thing.label}_2", [0, HOLE_M / 2 + across / 2, z / 2], [HOLE_M, across, z], rgba)
            _box(body, f"{thing.label}_3", [0, -HOLE_M / 2 - across / 2, z / 2], [HOLE_M, across, z], rgba)
        elif thing.hollow:
            wall = 0.012
            _box(body, thing.label, [0, 0, z - wall / 2], [x, y, wall], rgba)
            _box(body, f"{thing.label}_1", [0, 0, wall / 2], [x, y, wall], rgba)
            _box(body, f"{thing.label}_2", [-x / 2 + wall / 2, 0, z / 2], [wall, y, z], rgba)
            for side in (-1, 1):
                place = [0, side * (y / 2 - wall / 2), z / 2]
                _box(body, f"{thing.label}_side{side}", place, [x, wall, z], rgba)
        else:
            _box(body, thing.label, [0, 0, z / 2], [x, y, z], rgba)

    def _add_stain(self, body: mujoco.MjsBody, thing: Thing, rgba: list[float]) -> None:
        x, y, _ = thing.kind.size_m
        nx, ny = round(x / STAIN_CELL_M), round(y / STAIN_CELL_M)
        grid = [
            ((i + 0.5) * STAIN_CELL_M - x / 2, (j + 0.5) * STAIN_CELL_M - y / 2)
            for i in range(nx)
            for j in range(ny)
        ]
        self.cells[thing.label] = np.array(grid)
        for k, (cx, cy) in enumerate(grid):
            name = thing.label if k == 0 else f"{thing.label}_{k}"
            _box(body, name, [cx, cy, 0], [STAIN_CELL_M, STAIN_CELL_M, 2 * _THIN_M], rgba)

    def wipe(self, model: mujoco.MjModel, label: str, keep: np.ndarray) -> None:
        """Leave those cells (k,) bool of a stain."""
        for k, kept in enumerate(keep):
            model.geom(label if k == 0 else f"{label}_{k}").rgba[3] = float(kept)

    def reset(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        for k, label in enumerate(self.task.things):
            data.joint(label).qpos[:] = [0.3 + 0.1 * k, 0, -5, 1, 0, 0, 0]

    def randomize(
        self, part: str, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator
    ) -> None:
        if part != "colours":
            return
        for label in self.task.things:
            colour = next(word for word in label.split("_") if word in HUES)
            hue = HUES[colour] + rng.uniform(-HUE_SPREAD_DEG, HUE_SPREAD_DEG)
            rgb = hsv_to_rgb((hue % 360, rng.uniform(0.7, 0.95), rng.uniform(0.5, 0.9)))
            body = model.body(label)
            for geom in range(body.geomadr[0], body.geomadr[0] + body.geomnum[0]):
                model.geom_rgba[geom, :3] = rgb


def _geom(
    body: mujoco.MjsBody,
    name: str,
    kind: mujoco.mjtGeom,
    pos: list[float],
    size: list[float],
    rgba: list[float],
) -> None:
    body.add_geom(name=name, type=kind, pos=pos, size=size, rgba=rgba, mass=0.05, contype=0, conaffinity=0)


def _box(body: mujoco.MjsBody, name: str, pos: list[float], extents: list[float], rgba: list[float]) -> None:
    _geom(body, name, mujoco.mjtGeom.mjGEOM_BOX, pos, [e / 2 for e in extents], rgba)


def disc(name: str, across_m: float) -> Kind:
    return Kind(name, Shape.PATCH, (across_m, across_m, 0.0))


def cylinder(name: str, radius_m: float, height_m: float) -> Kind:
    return Kind(name, Shape.CYLINDER, (2 * radius_m, 2 * radius_m, height_m))


def box(name: str, *size_m: float) -> Kind:
    return Kind(name, Shape.BOX, (size_m[0], size_m[1], size_m[2]))


PUSH = ShapesTask.of(
    (Thing("red_puck", cylinder("puck", 0.04, 0.03)),), (Thing("blue_mark", disc("mark", 0.12)),)
)
STACK = ShapesTask.of(
    (
        Thing("small_red_block", box("small_block", 0.035, 0.035, 0.035)),
        Thing("big_red_block", box("big_block", 0.055, 0.055, 0.055)),
        Thing("green_block", box("block", 0.045, 0.045, 0.045)),
        Thing("blue_block", box("brick", 0.06, 0.04, 0.035)),
    )
)
INSERT = ShapesTask.of(
    (Thing("red_peg", cylinder("peg", 0.014, 0.1)),),
    (Thing("blue_hole", box("hole", 0.1, 0.1, 0.06), hole=True),),
)
WIPE = ShapesTask.of(
    (
        Thing("red_stain", Kind("stain", Shape.PATCH, (0.14, 0.1, 0.0))),
        Thing("yellow_sponge", box("sponge", 0.09, 0.06, 0.03)),
    )
)
DRAWER = ShapesTask.of(
    (
        Thing("red_drawer", box("drawer", 0.02, 0.2, 0.1)),
        Thing("yellow_block", box("block", 0.04, 0.04, 0.04)),
    ),
    (Thing("blue_cabinet", box("cabinet", 0.22, 0.24, 0.13), hollow=True),),
)
