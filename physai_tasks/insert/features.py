"""What a policy sees of peg and socket, and what it feels: offsets, where the search goes on, the force on the tool."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from physai_base.expert import Goal
from physai_base.features import FORCE, by_distance, felt, fine_width, named, offset_names, offsets
from physai_base.outcome import Situation
from physai_tasks.insert.expert import SEARCH_M_S, search
from physai_tasks.steering import APPROACH_GAIN_1_S

if TYPE_CHECKING:
    from physai_tasks.insert.task import InsertTask

OFFSETS = ("target_from_tcp", "place_from_tcp", "place_from_target")
CLOSE_M = 0.003  # of offsets at the hole


def feature_names(task: InsertTask) -> tuple[str, ...]:
    """Names of the entries of `features`, in order."""
    names = offset_names(*OFFSETS)
    names += [*named("place_from_target", ".close"), "search.x", "search.y"]
    names += [*named("tcp"), *named("tcp_velocity"), *named("target_velocity"), *named(FORCE)]
    names += ["gripper.width", "gripper.width.fine"]
    names += [name for k in range(len(task.objects) - 1) for name in named(f"other{k}_from_tcp")]
    return tuple(names)


def features(task: InsertTask, now: Situation, goal: Goal) -> np.ndarray:
    """The policy's input (F,) float32; entries are named by `feature_names`, lengths in metres, forces as shares of 10 N.

    Raises:
        MissingObjectError: a peg or the socket is unknown.
    """
    tcp, peg, socket = now.tool_m, now.require(goal.target), now.require(goal.destination)
    place = socket.position_m + [0, 0, task.socket.height_m]
    parts = offsets(peg.position_m - tcp, place - tcp, place - peg.position_m)
    away = place - peg.position_m
    parts.append(np.tanh(away / CLOSE_M))
    here = -away[:2]
    near = np.linalg.norm(away) < 0.02
    ahead = search(here, SEARCH_M_S / APPROACH_GAIN_1_S) - here if near else np.zeros(2)
    parts.append(np.tanh(ahead / CLOSE_M))
    parts += [tcp, now.tool.velocity_m_s, peg.velocity_m_s, felt(now.tool.wrench)]
    width = now.tool.opening
    parts.append(np.array([width, fine_width(width, 2 * task.pegs.radius_m)]))
    others = by_distance(
        now.require(label).position_m - tcp for label in task.objects if label != goal.target
    )
    return np.concatenate([*parts, *others]).astype(np.float32)
