"""Judges a chunk by what the world model imagines of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from physai_base.bystanders import Bystanders
from physai_base.embodiment import Embodiment
from physai_base.expert import Goal
from physai_base.kinematics import ArmKinematics
from physai_base.task import Task
from physai_base.values import (
    ActionChunk,
    ChunkMode,
    ChunkVerdict,
    SceneState,
    VerdictReason,
    WorldPrediction,
)
from physai_world_model.model import Imagination, WorldModel, touchable


@dataclass(frozen=True)
class JudgeSettings:
    """Limits of what may be imagined."""

    table_clearance_m: float = field(default=0.006, metadata={"unit": "m", "range": (0.0, 0.1)})
    scene_age_limit_s: float = field(default=0.5, metadata={"unit": "s", "range": (0.05, 5.0)})
    unimagined_s: float = field(
        default=0.25,
        metadata={
            "unit": "s",
            "range": (0.0, 10.0),
            "description": "a chunk may reach this far beyond the imagination; "
            "only table and workspace are checked there",
        },
    )
    caution: float = field(
        default=1.0,
        metadata={
            "range": (0.1, 10.0),
            "description": "divides the bundle's calibrated thresholds; 2 vetoes sooner",
        },
    )


class Judge:
    """Imagines chunks and says which may run. Not thread-safe."""

    def __init__(
        self, embodiment: Embodiment, task: Task, model: WorldModel, settings: JudgeSettings | None = None
    ) -> None:
        self.settings = settings or JudgeSettings()
        self._task = task
        self._model = model
        self._hand = embodiment.end_effectors[0].hand
        self._kinematics = ArmKinematics(embodiment)
        self._bystanders = Bystanders(task)

    def warm_up(self) -> None:
        """Run the model once, so that the first chunk is not the slow one."""
        objects, places = len(self._task.objects), len(self._task.places)
        self._model.imagine(
            np.zeros(3),
            np.zeros(3),
            0.0,
            np.zeros((objects, 3)),
            np.zeros((places, 3)),
            np.zeros((self._model.horizon, 4)),
        )

    def judge(
        self, chunk: ActionChunk, scene: SceneState | None, target: str | None, now_ns: int
    ) -> tuple[ChunkVerdict, WorldPrediction | None]:
        """The verdict on `chunk` and what was imagined; `target` is the object that is meant to move."""
        # From the future is not fresh either: time was set back.
        if scene is None or abs(now_ns - scene.stamp_ns) > self.settings.scene_age_limit_s * 1e9:
            age = "none came yet" if scene is None else f"it is {(now_ns - scene.stamp_ns) / 1e9:.2f} s old"
            return self._refuse(chunk, now_ns, VerdictReason.STALE_SCENE, f"no fresh scene: {age}"), None
        labels = self._task.objects
        scene, stand_ins = (
            (scene, frozenset())
            if target is None
            else self._bystanders.complete(scene, self._task.needs(Goal(target)))
        )
        things = [scene.find(label) for label in (*labels, *self._task.places)]
        missing = [
            name
            for name, thing in zip((*labels, *self._task.places), things, strict=True)
            if thing is None or not thing.believed
        ]
        if missing:
            return self._refuse(
                chunk, now_ns, VerdictReason.STALE_SCENE, f"not in view: {', '.join(missing)}"
            ), None
        positions = np.array([thing.position_m for thing in things if thing is not None])
        objects, places = positions[: len(labels)], positions[len(labels) :]
        tool = self._tool_path(chunk, scene)
        if tool is None:
            return self._refuse(chunk, now_ns, VerdictReason.INVALID, "wrong size or not finite"), None
        ahead_s = (chunk.start_ns + (chunk.horizon - 1) * chunk.dt_ns - scene.stamp_ns) / 1e9
        imagined_s = self._model.horizon * self._model.dt_s
        if not ahead_s <= imagined_s + self.settings.unimagined_s:
            detail = f"reaches {ahead_s:.2f} s ahead of the scene; {imagined_s:.2f} s can be imagined"
            return self._refuse(chunk, now_ns, VerdictReason.INVALID, detail), None
        setpoints = self._setpoints(chunk, tool, scene)
        velocity = self._kinematics.jacobian(scene.joint_position)[:3] @ scene.joint_velocity
        imagined = self._model.imagine(
            scene.tool.position_m, velocity, scene.tool.opening, objects, places, setpoints
        )
        if not imagined.finite():
            return self._refuse(
                chunk, now_ns, VerdictReason.INVALID, "the world model's own numbers are not finite"
            ), None
        uncertainty = imagined.disagreement()
        prediction = WorldPrediction(
            stamp_ns=scene.stamp_ns,
            sequence=chunk.sequence,
            dt_ns=round(self._model.dt_s * 1e9),
            tcp_position_m=imagined.tcp_m.mean(axis=0),
            object_labels=labels,
            object_position_m=imagined.objects_m.mean(axis=0),
            uncertainty=uncertainty,
        )
        # What lies has fallen already, and what is not there cannot.
        spared = {thing.label for thing in things if thing is not None and not thing.upright} | stand_ins
        harmless = np.array([label == target or label in spared for label in labels])
        return self._verdict(
            chunk, now_ns, imagined, tool, setpoints, objects, harmless, uncertainty
        ), prediction

    def _tool_path(self, chunk: ActionChunk, scene: SceneState) -> np.ndarray | None:
        """The chunk's tool positions, one for each of its steps; None when there is something wrong with it."""
        values = chunk.values
        if values.ndim != 2 or len(values) < 2 or not np.isfinite(values).all():
            return None
        if chunk.openings.shape[:1] != values.shape[:1] or not np.isfinite(chunk.openings).all():
            return None
        if chunk.mode is ChunkMode.TCP_POSE:
            return values[:, :3]
        if values.shape[1] != len(scene.joint_position):
            return None
        return np.array([self._kinematics.tool_pose(row).position for row in values])

    def _setpoints(self, chunk: ActionChunk, tool: np.ndarray, scene: SceneState) -> np.ndarray:
        """The tool positions and gripper widths at dt, 2 dt, … after the scene (H, 4), as the model takes them."""
        knots = chunk.start_ns + np.arange(chunk.horizon) * chunk.dt_ns
        times = scene.stamp_ns + np.arange(1, self._model.horizon + 1) * self._model.dt_s * 1e9
        columns = [np.interp(times, knots, column) for column in (*tool.T, chunk.openings[:, 0])]
        return np.column_stack(columns)

    def _verdict(
        self,
        chunk: ActionChunk,
        now_ns: int,
        imagined: Imagination,
        tool: np.ndarray,
        setpoints: np.ndarray,
        objects: np.ndarray,
        harmless: np.ndarray,
        uncertainty: np.ndarray,
    ) -> ChunkVerdict:
        limits, task, model = self.settings, self._task, self._model
        tcp = imagined.tcp_m.mean(axis=0)
        path = np.vstack([tcp, tool])  # what is imagined and what is asked for
        lowest = path[:, 2].min() - self._hand.tip
        outside = np.maximum(
            np.maximum(task.workcell.workspace_min - path, path - task.workcell.workspace_max), 0
        ).max()
        moved, fallen = imagined.disturbance(objects)
        bystander = ~harmless & touchable(setpoints, objects, self._hand.reach)
        harm = np.maximum(moved / model.knock_displacement_m, fallen / model.topple_probability) * bystander
        ood = imagined.ood_score()
        hazards = {
            VerdictReason.TABLE: limits.table_clearance_m / max(lowest, 1e-9) if lowest > 0 else 2.0,
            VerdictReason.WORKSPACE: 2.0 if outside > 0 else 0.0,
            VerdictReason.KNOCK: limits.caution * float(harm.max()),
            VerdictReason.OUT_OF_DISTRIBUTION: limits.caution * ood / model.ood_threshold,
        }
        reason, worst = max(hazards.items(), key=lambda item: item[1])
        allow = all(hazard <= 1.0 for hazard in hazards.values())  # also false for a NaN
        worst_object = int(np.argmax(harm))
        name = task.objects[worst_object].replace("_", " ")
        detail = {
            VerdictReason.TABLE: f"finger tips imagined {lowest * 1e3:.0f} mm above the table",
            VerdictReason.WORKSPACE: f"leaves the workspace by {outside * 1e3:.0f} mm",
            VerdictReason.KNOCK: f"{name} imagined to be pushed {moved[worst_object] * 1e3:.0f} mm, to fall with {fallen[worst_object]:.0%}",
            VerdictReason.OUT_OF_DISTRIBUTION: f"score {ood:.2f} above {model.ood_threshold:.2f}",
        }[reason]
        return ChunkVerdict(
            stamp_ns=now_ns,
            sequence=chunk.sequence,
            allow=allow,
            reason=VerdictReason.OK if allow else reason,
            detail="" if allow else detail,
            risk=float(np.clip(worst, 0.0, 1.0)),
            uncertainty=float(uncertainty.max()),
            ood_score=ood,
            ood_threshold=model.ood_threshold,
            lease=chunk.lease,
        )

    def _refuse(self, chunk: ActionChunk, now_ns: int, reason: VerdictReason, detail: str) -> ChunkVerdict:
        return ChunkVerdict(
            now_ns,
            chunk.sequence,
            False,
            reason,
            detail,
            1.0,
            0.0,
            0.0,
            self._model.ood_threshold,
            chunk.lease,
        )
