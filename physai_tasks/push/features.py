"""What a policy sees of pucks and mark: offsets from the tool, among them to where it has to be to push."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from physai_base.expert import Goal
from physai_base.features import by_distance, fine, named, offset_names, offsets
from physai_base.outcome import Situation
from physai_tasks.push.expert import behind, seen_from_puck

if TYPE_CHECKING:
    from physai_tasks.push.task import PushTask

OFFSETS = ("target_from_tcp", "place_from_tcp", "behind_from_tcp", "place_from_target")


def feature_names(task: PushTask) -> tuple[str, ...]:
    """Names of the entries of `features`, in order."""
    names = offset_names(*OFFSETS)
    names += [*named("tcp"), *named("tcp_velocity"), *named("target_velocity"), "gripper.width"]
    names += ["way.x", "way.y", "ahead.fine", "aside.fine"]
    names += [name for k in range(len(task.objects) - 1) for name in named(f"other{k}_from_tcp")]
    return tuple(names)


def features(task: PushTask, now: Situation, goal: Goal) -> np.ndarray:
    """The policy's input (F,) float32; entries are named by `feature_names`, lengths in metres.

    Raises:
        MissingObjectError: a puck or the mark is unknown.
    """
    tcp, puck = now.tool_m, now.require(goal.target)
    place = now.require(goal.destination).position_m
    start = np.append(behind(task, puck.position_m, place), puck.position_m[2])
    parts = offsets(puck.position_m - tcp, place - tcp, start - tcp, place - puck.position_m)
    others = by_distance(
        now.require(label).position_m - tcp for label in task.objects if label != goal.target
    )
    ahead, aside, way, _ = seen_from_puck(tcp, puck.position_m, place)
    parts += [tcp, now.tool.velocity_m_s, puck.velocity_m_s, np.array([now.tool.opening])]
    parts += [way, fine(np.array([ahead, aside]))]
    return np.concatenate([*parts, *others]).astype(np.float32)
