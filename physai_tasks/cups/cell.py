"""The cups and the shelf in MuJoCo, and their random states."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mujoco
import numpy as np

from physai_sim.paint import WOOD
from physai_tasks.things import (
    add_origin,
    add_thing,
    apart,
    paint,
    put,
    put_fixed,
    spots,
    vary_friction,
    vary_mass,
)

if TYPE_CHECKING:
    from physai_tasks.cups.task import CupTask

CUP_MASS_KG = 0.12
SHELF_WALL_M = 0.012


class CupCell:
    """Builds what a `CupTask` needs and arranges it; a `physai_base.task.TaskCell`."""

    def __init__(self, task: CupTask) -> None:
        self._task = task

    def build(self, spec: mujoco.MjSpec) -> None:
        """Add the shelf and the cups."""
        self._add_shelf(spec)
        self._add_cups(spec)

    def _add_shelf(self, spec: mujoco.MjSpec) -> None:
        shelf = self._task.boards
        body = spec.worldbody.add_body(
            name="shelf", pos=[np.mean(shelf.region_x), np.mean(shelf.region_y), 0]
        )
        depth, width, thickness = shelf.board_size_m
        for label, height, x in zip(shelf.labels, shelf.heights_m, shelf.offsets_x_m, strict=True):
            body.add_geom(
                name=label, type=mujoco.mjtGeom.mjGEOM_BOX, rgba=[*WOOD, 1], pos=[x, 0, height - thickness / 2],
                size=[depth / 2, width / 2, thickness / 2], friction=[0.8, 0.01, 0.0005],
            )  # fmt: skip
            for side in (-1, 1):
                leg = (height - thickness) / 2
                body.add_geom(
                    name=f"{label}_leg{side}", type=mujoco.mjtGeom.mjGEOM_BOX, rgba=[*(WOOD * 0.8), 1],
                    pos=[x, side * (width - SHELF_WALL_M) / 2, leg], size=[depth / 2, SHELF_WALL_M / 2, leg],
                )  # fmt: skip
            add_origin(body, label, (x, 0, height))

    def _add_cups(self, spec: mujoco.MjSpec) -> None:
        for label in self._task.objects:
            add_thing(spec, label, self._task.kind(label), CUP_MASS_KG)

    def reset(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """Cups in a row."""
        cups = self._task.cups
        for k, label in enumerate(cups.labels):
            x = 0.5 * sum(cups.region.x)
            y = cups.region.y[0] + (k + 0.5) / len(cups.labels) * (cups.region.y[1] - cups.region.y[0])
            put(data, label, (x, y, 0.0))

    def randomize(
        self, part: str, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator
    ) -> None:
        """Draw one part of the cell."""
        if part == "poses":
            self._randomize_poses(model, data, rng)
        elif part == "colours":
            self._randomize_colours(model, rng)
        elif part == "masses":
            for label in self._task.objects:
                vary_mass(model, label, rng)
        elif part == "friction":
            for label in self._task.objects:
                vary_friction(model, label, rng)

    def _randomize_poses(self, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator) -> None:
        shelf, cups = self._task.boards, self._task.cups
        yaw = rng.uniform(*shelf.region_yaw)
        put_fixed(model, "shelf", (rng.uniform(*shelf.region_x), rng.uniform(*shelf.region_y), 0.0), yaw)
        places = spots(rng, [cups.region] * len(cups.labels), apart(cups.min_distance_m))
        for label, spot in zip(cups.labels, places, strict=True):
            put(data, label, spot, rng.uniform(-np.pi, np.pi))

    def _randomize_colours(self, model: mujoco.MjModel, rng: np.random.Generator) -> None:
        for label in self._task.cups.labels:
            paint(model, label, rng)
        for label in self._task.boards.labels:
            model.geom(label).rgba[:3] = np.clip(WOOD + rng.uniform(-0.12, 0.12), 0, 1)
