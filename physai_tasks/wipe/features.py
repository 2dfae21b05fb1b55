"""What a policy sees of sponge and stain, and what it feels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from physai_base.expert import Goal
from physai_base.features import FORCE, felt, fine, fine_width, named, offset_names, offsets
from physai_base.outcome import Situation
from physai_tasks.carrying import turned, yaw_of
from physai_tasks.wipe.expert import stroke
from physai_tasks.wipe.outcome import clean

if TYPE_CHECKING:
    from physai_tasks.wipe.task import WipeTask

OFFSETS = ("target_from_tcp", "place_from_tcp", "begin_from_tcp", "place_from_target")


def feature_names(task: WipeTask) -> tuple[str, ...]:
    """Names of the entries of `features`, in order."""
    names = offset_names(*OFFSETS)
    names += [
        "target_from_tcp.yaw",
        "stain.half",
        "stain.gone",
        "way.x",
        "way.y",
        "aside",
        "to_go",
        "to_go.fine",
    ]
    names += [
        *named("tcp"),
        *named("tcp_velocity"),
        *named("target_velocity"),
        "tcp.yaw",
        "tcp_velocity.yaw",
        *named(FORCE),
    ]
    names += ["gripper.width", "gripper.width.fine"]
    return tuple(names)


def features(task: WipeTask, now: Situation, goal: Goal) -> np.ndarray:
    """The policy's input (F,) float32; entries are named by `feature_names`, in metres and rad, forces as shares of 10 N.

    Raises:
        MissingObjectError: the sponge or the stain is unknown.
    """
    tcp, sponge, stain = now.tool_m, now.require(task.sponge.label), now.require(goal.target)
    gone = clean(stain)
    half = 0.0 if gone or stain.size_m is None else float(stain.size_m[0]) / 2
    turn = yaw_of(stain)
    at, aside, way, _ = stroke(sponge.position_m, stain.position_m, np.array([np.cos(turn), np.sin(turn)]))
    begin = np.array([*(stain.position_m[:2] - way * half), stain.position_m[2]])
    parts = offsets(
        sponge.position_m - tcp, stain.position_m - tcp, begin - tcp, stain.position_m - sponge.position_m
    )
    hand = now.tool.yaw
    parts.append(np.array([turned(yaw_of(sponge), hand) - hand, half, float(gone), *way, aside, half - at]))
    parts.append(fine(np.array([half - at])))
    force = felt(now.tool.wrench)
    parts += [tcp, now.tool.velocity_m_s, sponge.velocity_m_s, np.array([hand, now.tool.yaw_rate]), force]
    width = now.tool.opening
    parts.append(np.array([width, fine_width(width, task.sponge.edge_m)]))
    return np.concatenate(parts).astype(np.float32)
