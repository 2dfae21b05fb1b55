"""Turns a scene and a task into the policy's input: the one path for live, recorded and simulated data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from physai_base.kinematics import ArmKinematics
from physai_base.task import Task
from physai_base.values import SceneObject, SceneState

# Near the goal millimetres decide: besides each offset the network sees it squashed at this scale.
FINE_SCALE_M = 0.02
FINE_WIDTH_M = 0.004


class MissingObjectError(Exception):
    """The scene lacks an object that the task needs."""


@dataclass(frozen=True)
class Goal:
    """What to do: which cup, and where it shall stand."""

    target: str
    destination: str


def require(scene: SceneState, label: str) -> SceneObject:
    """The object of that label.

    Raises:
        MissingObjectError: perception does not know it, or believes in it no more.
    """
    found = scene.find(label)
    if found is None or not found.believed:
        raise MissingObjectError(f"{label.replace('_', ' ')} is not in view")
    return found


def feature_names(task: Task) -> tuple[str, ...]:
    """Names of the entries of `features`, in order."""
    others = len(task.cups.labels) - 1
    names = []
    for offset in ("target_from_tcp", "place_from_tcp", "place_from_target"):
        names += [f"{offset}.{axis}" for axis in "xyz"]
        names += [f"{offset}.{axis}.fine" for axis in "xyz"]
    names += [f"tcp.{axis}" for axis in "xyz"] + [f"tcp_velocity.{axis}" for axis in "xyz"]
    names += [f"target_velocity.{axis}" for axis in "xyz"]
    names += ["gripper.width", "gripper.width.fine"]
    for k in range(others):
        names += [f"other{k}_from_tcp.{axis}" for axis in "xyz"]
    return tuple(names)


def features(scene: SceneState, goal: Goal, task: Task, kinematics: ArmKinematics) -> np.ndarray:
    """The policy's input (F,) float32; entries are named by `feature_names`, lengths in metres.

    Raises:
        MissingObjectError: the target, the destination or another cup is unknown.
    """
    tcp = scene.tcp_position_m
    velocity = kinematics.jacobian(scene.joint_position)[:3] @ scene.joint_velocity
    cup = require(scene, goal.target)
    target = cup.position_m
    place = require(scene, goal.destination).position_m
    # Sorted by distance, so that the network need not learn that the order of distractors is arbitrary.
    others = sorted(
        (require(scene, label).position_m - tcp for label in task.cups.labels if label != goal.target),
        key=lambda offset: float(np.linalg.norm(offset)),
    )
    parts: list[np.ndarray] = []
    for offset in (target - tcp, place - tcp, place - target):
        parts += [offset, np.tanh(offset / FINE_SCALE_M)]
    grasped = 2 * task.cups.radius_m
    parts += [
        tcp,
        velocity,
        cup.velocity_m_s,
        np.array([scene.gripper_width_m, np.tanh((scene.gripper_width_m - grasped) / FINE_WIDTH_M)]),
    ]
    return np.concatenate(parts + others).astype(np.float32)
