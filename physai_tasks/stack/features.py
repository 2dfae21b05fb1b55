"""What a policy sees of blocks: offsets from the tool, how far the hand has to turn, how high everything stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from physai_base.expert import Goal
from physai_base.features import by_distance, fine_width, named, offset_names, offsets
from physai_base.outcome import Situation
from physai_tasks.carrying import turned, yaw_of
from physai_tasks.stack.outcome import top_m

if TYPE_CHECKING:
    from physai_tasks.stack.task import StackTask

OFFSETS = ("target_from_tcp", "place_from_tcp", "place_from_target")


def feature_names(task: StackTask) -> tuple[str, ...]:
    """Names of the entries of `features`, in order."""
    names = offset_names(*OFFSETS)
    names += ["target_from_tcp.yaw", "place_from_target.yaw"]
    names += [*named("tcp"), *named("tcp_velocity"), *named("target_velocity"), "tcp.yaw", "tcp_velocity.yaw"]
    names += ["gripper.width", "gripper.width.fine", "target.edge", "highest.z"]
    names += [name for k in range(len(task.objects) - 2) for name in named(f"other{k}_from_tcp")]
    return tuple(names)


def features(task: StackTask, now: Situation, goal: Goal) -> np.ndarray:
    """The policy's input (F,) float32; entries are named by `feature_names`, lengths in metres, angles in rad.

    Raises:
        MissingObjectError: a block is unknown.
    """
    tcp, block, below = now.tool_m, now.require(goal.target), now.require(goal.destination)
    place, edge, hand = top_m(task, goal.destination, now), task.blocks.edges_m[goal.target], now.tool.yaw
    parts = offsets(block.position_m - tcp, place - tcp, place - block.position_m)
    thing_yaw = turned(yaw_of(block), hand)
    place_hand = turned(yaw_of(below) + hand - thing_yaw, hand)
    parts.append(np.array([thing_yaw - hand, place_hand - hand]))
    parts += [tcp, now.tool.velocity_m_s, block.velocity_m_s, np.array([hand, now.tool.yaw_rate])]
    highest = max(top_m(task, label, now)[2] for label in task.objects if label != goal.target)
    width = now.tool.opening
    parts.append(np.array([width, fine_width(width, edge), edge, highest]))
    others = by_distance(
        now.require(label).position_m - tcp
        for label in task.objects
        if label not in (goal.target, goal.destination)
    )
    return np.concatenate([*parts, *others]).astype(np.float32)
