"""Scenes as perception would report them, for tests that need no image."""

from __future__ import annotations

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.expert import Goal
from physai_base.kinematics import TOOL_DOWN, ArmKinematics, Pose
from physai_base.outcome import Situation
from physai_base.task import Task
from physai_base.values import EndEffectorState, SceneObject, SceneState

CUPS_M = {"red_cup": (0.40, -0.30), "green_cup": (0.55, -0.20), "blue_cup": (0.42, -0.05)}
SHELF_M = {"bottom_shelf": (0.58, 0.30, 0.08), "top_shelf": (0.42, 0.30, 0.20)}


def thing(label: str, position: tuple[float, ...], stamp_ns: int = 0, upright: bool = True) -> SceneObject:
    """One object at rest; the foot of a cup given by x and y alone is on the table."""
    return SceneObject(
        id=0, label=label, position_m=np.array([*position, 0.0][:3]), orientation=np.array([1.0, 0, 0, 0]),
        covariance=np.eye(6) * 1e-6, velocity_m_s=np.zeros(3), size_m=np.zeros(3), confidence=1.0,
        last_seen_ns=stamp_ns, upright=upright,
    )  # fmt: skip


def make_scene(
    embodiment: Embodiment,
    task: Task,
    tcp: tuple[float, float, float] | None = None,
    stamp_ns: int = 1_000_000_000,
    width_m: float = 0.08,
    without: tuple[str, ...] = (),
    **places: tuple[float, ...],
) -> SceneState:
    """The arm at home or with the tool at `tcp`, three cups on the table and the shelf; `places` moves some."""
    kinematics = ArmKinematics(embodiment)
    joints = embodiment.home
    if tcp is not None:
        joints = kinematics.inverse(Pose(np.array(tcp), TOOL_DOWN), embodiment.home, embodiment.home)
    where = {**CUPS_M, **SHELF_M, **places}
    return SceneState(
        stamp_ns=stamp_ns,
        objects=tuple(
            thing(label, position, stamp_ns) for label, position in where.items() if label not in without
        ),
        joint_position=joints,
        joint_velocity=np.zeros(len(joints)),
        end_effectors=(
            EndEffectorState.at_rest(
                kinematics.tool_pose(joints).position, np.array([0.0, 1.0, 0.0, 0.0]), width_m
            ),
        ),
    )


def features_of(scene: SceneState, goal: Goal, task: Task, kinematics: ArmKinematics) -> np.ndarray:
    """What the task's policies see of a scene."""
    twist = kinematics.jacobian(scene.joint_position) @ scene.joint_velocity
    return task.features(Situation.perceived(scene, twist), goal)
