"""The cabinet with its drawer and the blocks in MuJoCo, and their random states."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mujoco
import numpy as np

from physai_sim.paint import hsv_to_rgb
from physai_tasks.drawer.handle import HANDLE_M
from physai_tasks.things import (
    COLOURS_HSV,
    add_origin,
    add_thing,
    apart,
    colour_of,
    paint,
    put,
    put_fixed,
    spots,
    vary,
)

if TYPE_CHECKING:
    from physai_tasks.drawer.task import DrawerTask

BLOCK_MASS_KG = 0.04
WALL_M = 0.006
SIDE_M = 0.040  # height of the drawer's sides
UNDER_M = 0.004  # between the drawer and the table
HAND_M = 0.10  # that a hand needs in front of the handle
PLAY_M = 0.006  # of the drawer in the cabinet, each way
GREY = (0.75, 0.73, 0.70, 1.0)
DRAWER_MASS_KG, DAMPING, FRICTION_N = 0.4, 3.0, 0.8


class DrawerCell:
    """Builds what a `DrawerTask` needs and arranges it; a `physai_base.task.TaskCell`."""

    def __init__(self, task: DrawerTask) -> None:
        self._task = task

    def build(self, spec: mujoco.MjSpec) -> None:
        """Add cabinet, drawer and blocks."""
        body = spec.worldbody.add_body(name=self._task.cabinet.label)
        self._add_cabinet(body)
        self._add_drawer(body)
        for label in self._task.objects:
            add_thing(spec, label, self._task.kind(label), BLOCK_MASS_KG)

    def _colour(self, label: str) -> list[float]:
        return [*hsv_to_rgb(COLOURS_HSV[colour_of(label)]), 1]

    def _add_cabinet(self, body: mujoco.MjsBody) -> None:
        """Open in front."""
        cabinet = self._task.cabinet
        x, y, z = (size / 2 for size in cabinet.size_m)
        colour, wall = self._colour(cabinet.label), WALL_M / 2
        for name, at, size in (
            ("", (0, 0, 2 * z - wall), (x, y, wall)),  # the top is what is seen, and called like it
            ("_left", (0, y - wall, z), (x, wall, z)),
            ("_right", (0, -y + wall, z), (x, wall, z)),
            ("_back", (x - wall, 0, z), (wall, y, z)),
        ):
            body.add_geom(
                name=f"{cabinet.label}{name}", type=mujoco.mjtGeom.mjGEOM_BOX, pos=at, size=size, rgba=colour
            )
        add_origin(body, cabinet.label)

    def _add_drawer(self, cabinet_body: mujoco.MjsBody) -> None:
        """Its origin is the foot of its front's middle; its joint is how far it is out."""
        cabinet = self._task.cabinet
        thick, wide, high = cabinet.front_m
        inside = cabinet.size_m[0] - 2 * WALL_M - PLAY_M  # from the front backwards
        half = cabinet.size_m[1] / 2 - WALL_M - PLAY_M
        body = cabinet_body.add_body(name=cabinet.drawer, pos=[-(cabinet.size_m[0] + thick) / 2, 0, 0])
        body.add_joint(
            name=cabinet.drawer, type=mujoco.mjtJoint.mjJNT_SLIDE, axis=[-1, 0, 0], range=[0, cabinet.way_m],
            limited=mujoco.mjtLimited.mjLIMITED_TRUE, damping=DAMPING, frictionloss=FRICTION_N,
        )  # fmt: skip
        front, wall, floor = thick / 2, WALL_M / 2, UNDER_M + WALL_M / 2
        parts = (
            ("", (0, 0, high / 2 + UNDER_M / 2), (front, wide / 2, high / 2 - UNDER_M / 2), self._colour(cabinet.drawer)),
            ("_floor", (front + inside / 2, 0, floor), (inside / 2, half, wall), GREY),
            ("_left", (front + inside / 2, half - wall, SIDE_M / 2), (inside / 2, wall, SIDE_M / 2 - UNDER_M), GREY),
            ("_right", (front + inside / 2, wall - half, SIDE_M / 2), (inside / 2, wall, SIDE_M / 2 - UNDER_M), GREY),
            ("_back", (front + inside - wall, 0, SIDE_M / 2), (wall, half, SIDE_M / 2 - UNDER_M), GREY),
            ("_handle", (-front - HANDLE_M[0] / 2, 0, HANDLE_M[3]), tuple(size / 2 for size in HANDLE_M[:3]), GREY),
        )  # fmt: skip
        for name, at, size, colour in parts:
            body.add_geom(
                name=f"{cabinet.drawer}{name}", type=mujoco.mjtGeom.mjGEOM_BOX, pos=at, size=size, rgba=colour,
                mass=DRAWER_MASS_KG / len(parts),
            )  # fmt: skip
        add_origin(body, cabinet.drawer)

    def reset(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """The drawer closed, everything in the middle of its region, blocks in a row."""
        task = self._task
        put_fixed(model, task.cabinet.label, task.cabinet.region.middle_m)
        data.joint(task.cabinet.drawer).qpos[0] = 0.0
        data.joint(task.cabinet.drawer).qvel[0] = 0.0
        x, y, count = task.blocks.region.middle_m[0], task.blocks.region.y, len(task.objects)
        for k, label in enumerate(task.objects):
            put(data, label, (x, y[0] + (k + 0.5) / count * (y[1] - y[0]), 0.0))

    def randomize(
        self, part: str, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator
    ) -> None:
        """Draw one part of the cell."""
        task = self._task
        if part == "poses":
            region = task.cabinet.region
            put_fixed(model, task.cabinet.label, region.draw(rng), rng.uniform(*region.yaw))
            region = task.blocks.region
            places = spots(rng, [region] * len(task.objects), apart(task.blocks.min_distance_m))
            for label, spot in zip(task.objects, places, strict=True):
                put(data, label, spot, rng.uniform(*region.yaw))
        vary(part, model, task.objects, rng)
        if part == "colours":
            paint(model, task.cabinet.drawer, rng)
            paint(model, task.cabinet.label, rng)
            for name in ("_left", "_right", "_back"):
                model.geom(f"{task.cabinet.label}{name}").rgba[:] = model.geom(task.cabinet.label).rgba

    def free(self, spot_m: np.ndarray, radius_m: float, data: mujoco.MjData) -> bool:
        """Whether something of that radius at (2,) m is out of the drawer's way, and of the hand's that pulls it."""
        site, cabinet = data.site(self._task.cabinet.drawer), self._task.cabinet
        x, y = site.xmat.reshape(3, 3)[:2, :2].T @ (spot_m - site.xpos[:2])
        before = -cabinet.way_m - HAND_M - radius_m < x < radius_m
        return not (before and abs(y) < cabinet.front_m[1] / 2 + radius_m)
