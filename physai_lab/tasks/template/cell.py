"""The jars and the mark in MuJoCo, and their random states."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mujoco
import numpy as np

from physai_tasks.things import add_patch, add_thing, apart, paint, put, put_fixed, spots, vary

if TYPE_CHECKING:
    from physai_lab.tasks.template.task import TemplateTask

JAR_MASS_KG = 0.12


class TemplateCell:
    """Builds what a `TemplateTask` needs and arranges it; a `physai_base.task.TaskCell`."""

    def __init__(self, task: TemplateTask) -> None:
        self._task = task

    def build(self, spec: mujoco.MjSpec) -> None:
        """Add the mark and the jars."""
        task = self._task
        add_patch(spec, task.mark.label, task.kind(task.mark.label))
        for label in task.objects:
            add_thing(spec, label, task.kind(label), JAR_MASS_KG)

    def reset(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """The mark in the middle of its region, the jars in a row."""
        task = self._task
        put_fixed(model, task.mark.label, task.mark.region.middle_m)
        x, y, count = task.jars.region.middle_m[0], task.jars.region.y, len(task.objects)
        for k, label in enumerate(task.objects):
            put(data, label, (x, y[0] + (k + 0.5) / count * (y[1] - y[0]), 0.0))

    def randomize(
        self, part: str, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator
    ) -> None:
        """Draw one part of the cell, by `rng` alone: the same seed gives the same cell."""
        task = self._task
        if part == "poses":
            regions = map(task.region, (task.mark.label, *task.objects))
            mark, *jars = spots(rng, regions, apart(task.min_distance_m))
            put_fixed(model, task.mark.label, mark)
            for label, spot in zip(task.objects, jars, strict=True):
                put(data, label, spot)
        vary(part, model, task.objects, rng)
        if part == "colours":
            paint(model, task.mark.label, rng)
