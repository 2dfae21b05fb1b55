"""Whether a peg is in the hole, and if not, why.

It is when its foot is `depth_m` below the block's top, within the block, it stands upright and rests, the hand has let go of it,
and no other peg has fallen or been moved by more than `MOVED_M`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from physai_base.expert import Goal
from physai_base.outcome import NO_SUCH_GOAL, Outcome, Situation, Stance

if TYPE_CHECKING:
    from physai_tasks.insert.task import InsertTask

MOVED_M = 0.03
STIRRED_M = 0.02
CLEARANCE_M = 0.02  # of the tool above the peg
NEAR_HOLE_M = 0.02  # of a peg's axis: what is in the block can be nowhere else


class InsertCause(str, Enum):
    """Why a task is not done; `NONE` (empty) when it is."""

    NONE = ""
    NOT_SEEN = "target_or_destination_not_seen"
    FELL = "target_fell_over"
    NOT_MOVED = "target_not_moved"
    ELSEWHERE = "not_at_the_hole"
    NOT_IN = "not_in_the_hole"
    NOT_RELEASED = "not_released"
    STILL_MOVING = "still_moving"
    KNOCKED_OVER = "knocked_over_other_peg"


def outcome(
    task: InsertTask, goal: Goal, now: Situation, start: Mapping[str, Stance] | None = None
) -> Outcome:
    """What has come of `goal`; of pegs that `start` leaves out, no harm can be told."""
    if goal.target not in task.objects or goal.destination != task.socket.label:
        return Outcome(NO_SUCH_GOAL)
    start = start or {}
    lack = _lack(task, goal, now, start.get(goal.target)).value
    for label in task.objects:
        if label == goal.target or label not in now.things or label not in start:
            continue
        fell = start[label].upright and not now.things[label].upright
        if fell or np.linalg.norm(now.things[label].position_m - start[label].position_m) > MOVED_M:
            return Outcome(
                lack, InsertCause.KNOCKED_OVER.value, f"the {label.replace('_', ' ')} was knocked over"
            )
    return Outcome(lack)


def _lack(task: InsertTask, goal: Goal, now: Situation, before: Stance | None) -> InsertCause:
    peg, socket = now.things.get(goal.target), now.things.get(goal.destination)
    if peg is None or socket is None:
        return InsertCause.NOT_SEEN
    if not peg.upright:
        return InsertCause.FELL
    offset = peg.position_m - socket.position_m - [0, 0, task.socket.height_m]
    if np.linalg.norm(offset[:2]) > NEAR_HOLE_M:
        still = before is not None and np.linalg.norm(peg.position_m - before.position_m) < STIRRED_M
        return InsertCause.NOT_MOVED if still else InsertCause.ELSEWHERE
    if offset[2] > -task.depth_m:
        return InsertCause.NOT_IN
    if now.tool_m[2] - peg.position_m[2] - task.pegs.height_m < CLEARANCE_M:
        return InsertCause.NOT_RELEASED
    return InsertCause.NONE if peg.speed_m_s <= task.still_speed_m_s else InsertCause.STILL_MOVING
