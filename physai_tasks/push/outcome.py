"""Whether a puck has been pushed onto the mark, and if not, why.

It has when it lies flat and rests with its middle within `tolerance_m` of the mark's, the hand is off it, and no other puck has
been moved by more than `MOVED_M` or laid on its side.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from physai_base.expert import Goal
from physai_base.outcome import NO_SUCH_GOAL, Outcome, Situation, Stance

if TYPE_CHECKING:
    from physai_tasks.push.task import PushTask

MOVED_M = 0.03  # another puck may be touched, not carried off
STIRRED_M = 0.02  # a puck that is no farther from where it was has not been moved
CLEARANCE_M = 0.03  # of the tool above the puck
ASIDE_M = 0.08  # or beside its rim


class PushCause(str, Enum):
    """Why a task is not done; `NONE` (empty) when it is."""

    NONE = ""
    NOT_SEEN = "target_or_destination_not_seen"
    TIPPED = "target_tipped_over"
    OFF_TABLE = "target_left_the_table"
    NOT_MOVED = "target_not_moved"
    BESIDE = "beside_the_mark"
    NOT_RELEASED = "hand_not_off"
    STILL_MOVING = "still_moving"
    MOVED_OTHER = "moved_other_puck"


def outcome(task: PushTask, goal: Goal, now: Situation, start: Mapping[str, Stance] | None = None) -> Outcome:
    """What has come of `goal`; of pucks that `start` leaves out, no harm can be told."""
    if goal.target not in task.objects or goal.destination != task.mark.label:
        return Outcome(NO_SUCH_GOAL)
    start = start or {}
    lack = _lack(task, goal, now, start.get(goal.target)).value
    for label in task.objects:
        if label != goal.target and label in now.things and label in start:
            away = now.things[label].position_m - start[label].position_m
            if np.linalg.norm(away) > MOVED_M or (start[label].upright and not now.things[label].upright):
                return Outcome(
                    lack, PushCause.MOVED_OTHER.value, f"the {label.replace('_', ' ')} was pushed away"
                )
    return Outcome(lack)


def _lack(task: PushTask, goal: Goal, now: Situation, before: Stance | None) -> PushCause:
    puck, mark = now.things.get(goal.target), now.things.get(goal.destination)
    if puck is None or mark is None:
        return PushCause.NOT_SEEN
    if puck.position_m[2] < -0.02:
        return PushCause.OFF_TABLE
    if not puck.upright:
        return PushCause.TIPPED
    if np.linalg.norm((puck.position_m - mark.position_m)[:2]) > task.tolerance_m:
        still_there = before is not None and np.linalg.norm(puck.position_m - before.position_m) < STIRRED_M
        return PushCause.NOT_MOVED if still_there else PushCause.BESIDE
    above = now.tool_m[2] - puck.position_m[2] - task.pucks.height_m
    aside = float(np.linalg.norm((now.tool_m - puck.position_m)[:2])) - task.pucks.radius_m
    if above < CLEARANCE_M and aside < ASIDE_M:
        return PushCause.NOT_RELEASED
    return PushCause.NONE if puck.speed_m_s <= task.still_speed_m_s else PushCause.STILL_MOVING
