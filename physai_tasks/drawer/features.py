"""What a policy sees of block, drawer and cabinet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from physai_base.expert import Goal
from physai_base.features import FORCE, by_distance, felt, fine_width, named, offset_names, offsets
from physai_base.outcome import Situation
from physai_tasks.carrying import turned, yaw_of
from physai_tasks.drawer.handle import HANDLE_M, DrawerPose

if TYPE_CHECKING:
    from physai_tasks.drawer.task import DrawerTask

OFFSETS = ("target_from_tcp", "place_from_tcp", "handle_from_tcp", "place_from_target")


def feature_names(task: DrawerTask) -> tuple[str, ...]:
    """Names of the entries of `features`, in order."""
    names = offset_names(*OFFSETS)
    names += [
        "target_from_tcp.yaw",
        "handle_from_tcp.yaw",
        "drawer.opening",
        "drawer.opening.fine",
        "target.inside",
    ]
    names += ["out.x", "out.y"]
    names += [*named("tcp"), *named("tcp_velocity"), *named("target_velocity"), "tcp.yaw", "tcp_velocity.yaw"]
    names += [*named(FORCE), "gripper.width", "gripper.width.fine", "gripper.width.handle"]
    names += [name for k in range(len(task.objects) - 1) for name in named(f"other{k}_from_tcp")]
    return tuple(names)


def features(task: DrawerTask, now: Situation, goal: Goal) -> np.ndarray:
    """The policy's input (F,) float32; entries are named by `feature_names`, in metres and rad, forces as shares of 10 N.

    Raises:
        MissingObjectError: a block, the drawer or the cabinet is unknown.
    """
    tcp, block, pose, hand = now.tool_m, now.require(goal.target), DrawerPose.of(task, now), now.tool.yaw
    parts = offsets(
        block.position_m - tcp, pose.inside_m - tcp, pose.handle_m - tcp, pose.inside_m - block.position_m
    )
    inside = pose.holds(block.position_m, task.cabinet.size_m[0])
    opening = pose.opening_m
    parts.append(
        np.array(
            [
                turned(yaw_of(block), hand) - hand,
                pose.yaw - hand,
                opening,
                np.tanh(opening / 0.01),
                float(inside),
                *pose.out,
            ]
        )
    )
    parts += [tcp, now.tool.velocity_m_s, block.velocity_m_s, np.array([hand, now.tool.yaw_rate])]
    width = now.tool.opening
    parts.append(felt(now.tool.wrench))
    parts.append(np.array([width, fine_width(width, task.blocks.edge_m), fine_width(width, HANDLE_M[1])]))
    others = by_distance(
        now.require(label).position_m - tcp for label in task.objects if label != goal.target
    )
    return np.concatenate([*parts, *others]).astype(np.float32)
