"""Turns a scene and a goal into the policy's input: the one path for live, recorded and simulated data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from physai_base.expert import Goal
from physai_base.features import fine, fine_width
from physai_base.outcome import Situation

if TYPE_CHECKING:
    from physai_tasks.cups.task import CupTask


def feature_names(task: CupTask) -> tuple[str, ...]:
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


def features(task: CupTask, now: Situation, goal: Goal) -> np.ndarray:
    """The policy's input (F,) float32; entries are named by `feature_names`, lengths in metres.

    Raises:
        MissingObjectError: the target, the destination or another cup is unknown.
    """
    tcp = now.tool_m
    cup = now.require(goal.target)
    target = cup.position_m
    place = now.require(goal.destination).position_m
    # Sorted by distance, so that the network need not learn that the order of distractors is arbitrary.
    others = sorted(
        (now.require(label).position_m - tcp for label in task.cups.labels if label != goal.target),
        key=lambda offset: float(np.linalg.norm(offset)),
    )
    parts: list[np.ndarray] = []
    for offset in (target - tcp, place - tcp, place - target):
        parts += [offset, fine(offset)]
    width = now.tool.opening
    parts += [
        tcp,
        now.tool.velocity_m_s,
        cup.velocity_m_s,
        np.array([width, fine_width(width, 2 * task.cups.radius_m)]),
    ]
    return np.concatenate(parts + others).astype(np.float32)
