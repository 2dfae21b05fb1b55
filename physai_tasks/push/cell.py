"""The pucks and the mark in MuJoCo, and their random states."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mujoco
import numpy as np

from physai_tasks.things import add_patch, add_thing, paint, put, put_fixed, spots, vary

if TYPE_CHECKING:
    from physai_tasks.push.task import PushTask

PUCK_MASS_KG = 0.15
# Of a smooth puck. An arm that follows joint angles gives way downwards, too, when something holds it back: with as much friction
# as cups have, fingers press a puck to the table and jam it.
SLIDING = 0.35


class PushCell:
    """Builds what a `PushTask` needs and arranges it; a `physai_base.task.TaskCell`."""

    def __init__(self, task: PushTask) -> None:
        self._task = task

    def build(self, spec: mujoco.MjSpec) -> None:
        """Add the mark and the pucks."""
        task = self._task
        add_patch(spec, task.mark.label, task.kind(task.mark.label))
        for label in task.objects:
            (geom,) = add_thing(spec, label, task.kind(label), PUCK_MASS_KG).geoms
            geom.friction, geom.priority = [SLIDING, *geom.friction[1:]], 1  # whatever it touches

    def reset(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """The mark in the middle of its region, the pucks in a row."""
        task = self._task
        put_fixed(model, task.mark.label, task.mark.region.middle_m)
        x, y, count = task.pucks.region.middle_m[0], task.pucks.region.y, len(task.objects)
        for k, label in enumerate(task.objects):
            put(data, label, (x, y[0] + (k + 0.5) / count * (y[1] - y[0]), 0.0))

    def randomize(
        self, part: str, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator
    ) -> None:
        """Draw one part of the cell."""
        task = self._task
        if part == "poses":
            mark, *pucks = spots(rng, map(task.region, (task.mark.label, *task.objects)), self._clear)
            put_fixed(model, task.mark.label, mark)
            for label, spot in zip(task.objects, pucks, strict=True):
                put(data, label, spot, rng.uniform(-np.pi, np.pi))
        vary(part, model, task.objects, rng)
        if part == "colours":
            paint(model, task.mark.label, rng)

    def _clear(self, others: list[np.ndarray], spot: np.ndarray) -> bool:
        """Whether it is far from the others, and no puck on another one's way to the mark, which is the first."""
        ways = [(spot, other) for other in others[1:]] + [(other, spot) for other in others[1:]]
        return all(
            np.linalg.norm((spot - other)[:2]) >= self._task.min_distance_m for other in others
        ) and all(
            distance_to_way(inner[:2], outer[:2], others[0][:2]) >= self._task.min_distance_m
            for inner, outer in ways
        )


def distance_to_way(point: np.ndarray, start: np.ndarray, end: np.ndarray) -> float:
    """Of a point (2,) from the straight way between two."""
    way = end - start
    share = float(np.clip((point - start) @ way / max(float(way @ way), 1e-12), 0, 1))
    return float(np.linalg.norm(start + share * way - point))
