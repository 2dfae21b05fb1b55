"""Turns a scene and a goal into the policy's input: the one path for live, recorded and simulated data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from physai_base.expert import Goal
from physai_base.features import by_distance, fine_width, named, offset_names, offsets
from physai_base.outcome import Situation

if TYPE_CHECKING:
    from physai_tasks.cups.task import CupTask


def feature_names(task: CupTask) -> tuple[str, ...]:
    """Names of the entries of `features`, in order."""
    names = offset_names("target_from_tcp", "place_from_tcp", "place_from_target")
    names += [
        *named("tcp"),
        *named("tcp_velocity"),
        *named("target_velocity"),
        "gripper.width",
        "gripper.width.fine",
    ]
    names += [name for k in range(len(task.objects) - 1) for name in named(f"other{k}_from_tcp")]
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
    others = by_distance(
        now.require(label).position_m - tcp for label in task.cups.labels if label != goal.target
    )
    parts = offsets(target - tcp, place - tcp, place - target)
    width = now.tool.opening
    parts += [
        tcp,
        now.tool.velocity_m_s,
        cup.velocity_m_s,
        np.array([width, fine_width(width, 2 * task.cups.radius_m)]),
    ]
    return np.concatenate(parts + others).astype(np.float32)
