"""Pegs and the socket in MuJoCo, and their random states."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mujoco
import numpy as np

from physai_base.workcell import Interval
from physai_sim.paint import hsv_to_rgb
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
    from physai_tasks.insert.task import InsertTask

PEG_MASS_KG = 0.06
WALL_FRICTION = 0.3  # of the hole's edge: smooth plastic


class InsertCell:
    """Builds what an `InsertTask` needs and arranges it; a `physai_base.task.TaskCell`."""

    def __init__(self, task: InsertTask) -> None:
        self._task = task

    def build(self, spec: mujoco.MjSpec) -> None:
        """Add the socket and the pegs."""
        self._add_socket(spec)
        for label in self._task.objects:
            add_thing(spec, label, self._task.kind(label), PEG_MASS_KG)

    def _add_socket(self, spec: mujoco.MjSpec) -> None:
        """A floor and four walls around the hole; the outside stays where it is while the hole is off the middle."""
        socket = self._task.socket
        body = spec.worldbody.add_body(name=socket.label)
        floor = socket.height_m - socket.depth_m
        half, colour = socket.edge_m / 2, [*hsv_to_rgb(COLOURS_HSV[colour_of(socket.label)]), 1]
        body.add_geom(
            name=socket.label, type=mujoco.mjtGeom.mjGEOM_BOX, size=[half, half, floor / 2], pos=[0, 0, floor / 2],
            rgba=colour, friction=[WALL_FRICTION, 0.01, 0.0005], priority=1,
        )  # fmt: skip
        for name, ((x0, x1), (y0, y1)) in self._walls(np.zeros(2)).items():
            # Where a wall is not the body's own place, MuJoCo lets it be moved later on.
            body.add_geom(
                name=f"{socket.label}_{name}", type=mujoco.mjtGeom.mjGEOM_BOX,
                pos=[(x0 + x1) / 2, (y0 + y1) / 2, socket.height_m - socket.depth_m / 2],
                size=[(x1 - x0) / 2, (y1 - y0) / 2, socket.depth_m / 2],
                rgba=colour, friction=[WALL_FRICTION, 0.01, 0.0005], priority=1,
            )  # fmt: skip
        add_origin(body, socket.label)
        add_origin(body, f"{socket.label}_hole", (0, 0, socket.height_m))

    def reset(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """The hole in the block's middle, the pegs in a row."""
        task = self._task
        put_fixed(model, task.socket.label, task.socket.region.middle_m)
        self._bore(model, np.zeros(2))
        x, y, count = task.pegs.region.middle_m[0], task.pegs.region.y, len(task.objects)
        for k, label in enumerate(task.objects):
            put(data, label, (x, y[0] + (k + 0.5) / count * (y[1] - y[0]), 0.0))

    def _walls(self, off_m: np.ndarray) -> dict[str, tuple[Interval, Interval]]:
        """From where to where each wall goes, in the block's frame, while the hole's middle is `off_m` (2,) from the block's."""
        half, hole = self._task.socket.edge_m / 2, self._task.pegs.radius_m + self._task.socket.clearance_m
        x, y = map(float, off_m)
        return {
            "front": ((x + hole, half), (-half, half)), "back": ((-half, x - hole), (-half, half)),
            "left": ((x - hole, x + hole), (y + hole, half)), "right": ((x - hole, x + hole), (-half, y - hole)),
        }  # fmt: skip

    def _bore(self, model: mujoco.MjModel, off_m: np.ndarray) -> None:
        """The walls to where the hole's middle is `off_m` (2,) from the block's."""
        socket = self._task.socket
        for name, ((x0, x1), (y0, y1)) in self._walls(off_m).items():
            geom = model.geom(f"{socket.label}_{name}")
            geom.pos[:2] = (x0 + x1) / 2, (y0 + y1) / 2
            geom.size[:2] = (x1 - x0) / 2, (y1 - y0) / 2
            model.geom_rbound[geom.id] = np.linalg.norm(geom.size)
            model.geom_aabb[geom.id] = [0, 0, 0, *geom.size]
        model.site(f"{socket.label}_hole").pos[:2] = off_m

    def randomize(
        self, part: str, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator
    ) -> None:
        """Draw one part of the cell."""
        task = self._task
        if part == "poses":
            self._arrange(model, data, rng)
        vary(part, model, task.objects, rng)
        if part == "colours":
            paint(model, task.socket.label, rng)
            for name in WALLS:
                model.geom(f"{task.socket.label}_{name}").rgba[:] = model.geom(task.socket.label).rgba

    def _arrange(self, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator) -> None:
        task = self._task
        region = task.socket.region
        put_fixed(model, task.socket.label, region.draw(rng), rng.uniform(*region.yaw))
        angle, away = rng.uniform(-np.pi, np.pi), task.socket.off_m * np.sqrt(rng.random())
        self._bore(model, away * np.array([np.cos(angle), np.sin(angle)]))
        places = spots(rng, [task.pegs.region] * len(task.objects), apart(task.pegs.min_distance_m))
        for label, spot in zip(task.objects, places, strict=True):
            put(data, label, spot, rng.uniform(-np.pi, np.pi))


WALLS = ("front", "back", "left", "right")
