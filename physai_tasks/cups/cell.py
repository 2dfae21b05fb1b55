"""The cups and the shelf in MuJoCo, and their random states."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mujoco
import numpy as np

from physai_sim.paint import WOOD, hsv_to_rgb

if TYPE_CHECKING:
    from physai_tasks.cups.task import CupTask

# Hue (degrees), saturation and value of each colour word; randomization stays within `HUE_SPREAD_DEG`.
COLOURS_HSV = {"red": (0.0, 0.85, 0.75), "green": (125.0, 0.75, 0.60), "blue": (222.0, 0.80, 0.75)}
HUE_SPREAD_DEG = 9.0
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
            body.add_site(name=label, pos=[x, 0, height], size=[0.003, 0.003, 0.003], group=4)

    def _add_cups(self, spec: mujoco.MjSpec) -> None:
        cups = self._task.cups
        for k, label in enumerate(cups.labels):
            colour = label.split("_")[0]
            body = spec.worldbody.add_body(name=label, pos=[0.5, -0.3 + 0.15 * k, 0.0])
            body.add_freejoint(name=label)
            body.add_geom(
                name=label, type=mujoco.mjtGeom.mjGEOM_CYLINDER, pos=[0, 0, cups.height_m / 2],
                size=[cups.radius_m, cups.height_m / 2, 0], mass=CUP_MASS_KG, rgba=[*hsv_to_rgb(COLOURS_HSV[colour]), 1],
                friction=[0.8, 0.01, 0.0005], condim=4,
            )  # fmt: skip
            body.add_site(name=label, pos=[0, 0, 0], size=[0.003, 0.003, 0.003], group=4)

    def reset(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """Cups in a row."""
        cups = self._task.cups
        for k, label in enumerate(cups.labels):
            x = 0.5 * sum(cups.region.x)
            y = cups.region.y[0] + (k + 0.5) / len(cups.labels) * (cups.region.y[1] - cups.region.y[0])
            _place(data, label, x, y, 0.0)

    def randomize(
        self, part: str, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator
    ) -> None:
        """Draw one part of the cell."""
        if part == "poses":
            self._randomize_poses(model, data, rng)
        elif part == "colours":
            self._randomize_colours(model, rng)
        elif part == "masses":
            self._randomize_masses(model, rng)
        elif part == "friction":
            self._randomize_friction(model, rng)

    def _randomize_poses(self, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator) -> None:
        shelf, cups = self._task.boards, self._task.cups
        body = model.body("shelf")
        yaw = rng.uniform(*shelf.region_yaw)
        body.pos[:2] = rng.uniform(*shelf.region_x), rng.uniform(*shelf.region_y)
        body.quat[:] = [np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
        placed: list[np.ndarray] = []
        while len(placed) < len(cups.labels):
            spot = np.array([rng.uniform(*cups.region.x), rng.uniform(*cups.region.y)])
            if all(np.linalg.norm(spot - other) >= cups.min_distance_m for other in placed):
                placed.append(spot)
            elif rng.random() < 0.02:  # a bad first choice can leave no room for the rest
                placed.clear()
        for label, spot in zip(cups.labels, placed, strict=True):
            _place(data, label, spot[0], spot[1], rng.uniform(-np.pi, np.pi))

    def _randomize_colours(self, model: mujoco.MjModel, rng: np.random.Generator) -> None:
        for label in self._task.cups.labels:
            hue, _, _ = COLOURS_HSV[label.split("_")[0]]
            hsv = (
                hue + rng.uniform(-HUE_SPREAD_DEG, HUE_SPREAD_DEG),
                rng.uniform(0.65, 0.95),
                rng.uniform(0.5, 0.9),
            )
            model.geom(label).rgba[:3] = hsv_to_rgb(hsv)
        for label in self._task.boards.labels:
            model.geom(label).rgba[:3] = np.clip(WOOD + rng.uniform(-0.12, 0.12), 0, 1)

    def _randomize_masses(self, model: mujoco.MjModel, rng: np.random.Generator) -> None:
        for label in self._task.cups.labels:
            scale = rng.uniform(0.5, 2.0)
            model.body(label).mass[:] *= scale
            model.body(label).inertia[:] *= scale

    def _randomize_friction(self, model: mujoco.MjModel, rng: np.random.Generator) -> None:
        for label in self._task.cups.labels:
            model.geom(label).friction[0] *= rng.uniform(0.7, 1.3)


def _place(data: mujoco.MjData, label: str, x: float, y: float, yaw: float) -> None:
    joint = data.joint(label)
    joint.qpos[:] = [x, y, 0.0005, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
    joint.qvel[:] = 0.0
