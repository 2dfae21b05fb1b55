"""Objects that a task does not need and that are out of view: a task for the others goes on without them.

Features and imagination are of all objects. One that was seen within the last `MEMORY_S` counts as standing where it was then;
of one that was not, nothing is known, and a stand-in takes its place at the free spot of the objects' region that is farthest from
everything, where it is in nobody's way.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from physai_base.task import Task
from physai_base.values import SceneObject, SceneState

MEMORY_S = 20.0
GRID = 9  # spots along each side of the region


class Bystanders:
    """Remembers the objects that were seen."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._last: dict[str, tuple[int, SceneObject]] = {}  # replaced, never changed: threads share it

    def complete(self, scene: SceneState, needed: Collection[str]) -> tuple[SceneState, frozenset[str]]:
        """The scene with all objects but what is `needed` and missing, and the labels of those that are stand-ins."""
        seen = {thing.label: thing for thing in scene.objects if thing.believed}
        now = scene.stamp_ns
        present = {label: (now, seen[label]) for label in self._task.objects if label in seen}
        known = {**self._last, **present}
        self._last = known
        missing = [label for label in self._task.objects if label not in seen and label not in needed]
        if not missing:
            return scene, frozenset()
        things = [thing for thing in scene.objects if thing.label not in missing]
        strangers = []
        for label in missing:
            stamp_ns, last = known.get(label, (None, None))
            if stamp_ns is not None and last is not None and 0 <= now - stamp_ns <= MEMORY_S * 1e9:
                things.append(replace(last, velocity_m_s=np.zeros(3)))
            else:
                things.append(self._stand_in(label, [*things], scene))
                strangers.append(label)
        return replace(scene, objects=tuple(things)), frozenset(strangers)

    def _stand_in(self, label: str, things: list[SceneObject], scene: SceneState) -> SceneObject:
        region = self._task.region(label)
        x, y = np.meshgrid(np.linspace(*region.x, GRID), np.linspace(*region.y, GRID))
        spots = np.column_stack([x.ravel(), y.ravel()])
        others = np.array([thing.position_m[:2] for thing in things] + [scene.tool.position_m[:2]])
        room = np.linalg.norm(spots[:, None] - others[None], axis=2).min(axis=1)
        return SceneObject(
            id=0, label=label, position_m=np.append(spots[int(np.argmax(room))], region.z_m),
            orientation=np.array([1.0, 0, 0, 0]), covariance=np.eye(6), velocity_m_s=np.zeros(3),
            size_m=np.array(self._task.kind(label).size_m), confidence=1.0,
            last_seen_ns=scene.stamp_ns, kind=self._task.kind(label).name,
        )  # fmt: skip
