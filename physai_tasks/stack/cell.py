"""Blocks in MuJoCo, and their random states."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mujoco
import numpy as np

from physai_tasks.things import add_thing, apart, put, spots, vary

if TYPE_CHECKING:
    from physai_tasks.stack.task import StackTask

DENSITY_KG_M3 = 600.0  # of beech, and some
CROOKED_M, CROOKED_RAD = 0.003, 0.1  # blocks of a tower, on each other


class StackCell:
    """Builds what a `StackTask` needs and arranges it; a `physai_base.task.TaskCell`."""

    def __init__(self, task: StackTask) -> None:
        self._task = task

    def build(self, spec: mujoco.MjSpec) -> None:
        """Add the blocks."""
        for label, edge in self._task.blocks.edges_m.items():
            add_thing(spec, label, self._task.kind(label), DENSITY_KG_M3 * edge**3)

    def reset(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """In a row."""
        region, count = self._task.blocks.region, len(self._task.objects)
        for k, label in enumerate(self._task.objects):
            y = region.y[0] + (k + 0.5) / count * (region.y[1] - region.y[0])
            put(data, label, (region.middle_m[0], y, 0.0))

    def randomize(
        self, part: str, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator
    ) -> None:
        """Draw one part of the cell."""
        if part == "poses":
            self._arrange(data, rng)
        vary(part, model, self._task.objects, rng)

    def _arrange(self, data: mujoco.MjData, rng: np.random.Generator) -> None:
        """All on the table, or the first two or three of a random order on each other."""
        blocks, order = self._task.blocks, list(rng.permutation(list(self._task.objects)))
        high = int(rng.integers(2, len(order))) if rng.random() < blocks.towers and len(order) > 2 else 1
        tower, alone = order[:high], order[high:]
        foot, *others = spots(rng, [blocks.region] * (1 + len(alone)), apart(blocks.min_distance_m))
        yaw, height = rng.uniform(*blocks.region.yaw), 0.0
        for label in tower:
            aside = rng.uniform(-CROOKED_M, CROOKED_M, 2) * (height > 0)
            put(data, label, (*(foot[:2] + aside), height), yaw + rng.uniform(-CROOKED_RAD, CROOKED_RAD))
            height += blocks.edges_m[label] + 0.0005
        for label, spot in zip(alone, others, strict=True):
            put(data, label, spot, rng.uniform(*blocks.region.yaw))
