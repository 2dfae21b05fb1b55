"""Whether a cup has been put on a board, and if not, why.

A cup has been put on a board when

- its foot's centre is over the board: within the board's depth and width, in the board's own frame, and at most
  `foot_height_tolerance_m` above or below its surface. That is where a cup can stand by itself, be it 60 mm off the middle;
- it stands upright and rests;
- the hand has let go of it: the tool is `CLEARANCE_M` above its rim, or `ASIDE_M` beside it;
- no other cup was harmed: none that stood when the task began has fallen or been moved by more than `MOVED_M`. A cup that
  lay then is nobody's failure, wherever it rolls; of what was not seen, nothing is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from physai_base.expert import Goal
from physai_base.outcome import NO_SUCH_GOAL, Outcome, Situation, Stance

if TYPE_CHECKING:
    from physai_tasks.cups.task import CupTask

MOVED_M = 0.03  # another cup may be touched, not carried off
STIRRED_M = 0.02  # a target that is no farther from where it was has not been moved
CLEARANCE_M = 0.03
ASIDE_M = 0.12  # half the hand's width and some, from the cup's axis


class Cause(str, Enum):
    """Why a task is not done; `NONE` (empty) when it is."""

    NONE = ""
    UNKNOWN = NO_SUCH_GOAL
    NOT_SEEN = "target_or_destination_not_seen"
    KNOCKED_OVER = "knocked_over_other_cup"
    MOVED = "moved_other_cup"
    LAY_BEFORE = "target_lay_from_the_start"
    FELL = "target_fell_over"
    NOT_MOVED = "target_not_moved"
    WRONG_PLACE = "wrong_place"
    NOT_RELEASED = "not_released"
    STILL_MOVING = "still_moving"


def placement(task: CupTask, cup: Stance, board: Stance, tool_m: np.ndarray) -> Cause:
    """What `cup` lacks of having been put on `board`."""
    if not cup.upright:
        return Cause.FELL
    local = board.rotation.T @ (cup.position_m - board.position_m)
    inside = np.abs(local[:2]) <= task.boards.board_size_m[:2] / 2
    if not (inside.all() and abs(local[2]) <= task.foot_height_tolerance_m):
        return Cause.WRONG_PLACE
    above_rim = tool_m[2] - cup.position_m[2] - task.cups.height_m
    aside = float(np.linalg.norm(tool_m[:2] - cup.position_m[:2]))
    if not (above_rim > CLEARANCE_M or aside > ASIDE_M):
        return Cause.NOT_RELEASED
    return Cause.NONE if cup.speed_m_s <= task.still_speed_m_s else Cause.STILL_MOVING


def outcome(task: CupTask, goal: Goal, now: Situation, start: Mapping[str, Stance] | None = None) -> Outcome:
    """Whether the cup has been put on the board.

    `start` says how the cups were when the task began; of those that it leaves out, no harm can be told.
    """
    target, start = goal.target, start or {}
    if target not in task.cups.labels or goal.destination not in task.boards.labels:
        return Outcome(NO_SUCH_GOAL)
    lack = _lack(task, goal, now, start.get(target)).value
    for label in task.cups.labels:
        if label == target or label not in now.things or label not in start:
            continue
        harm = _harm(now.things[label], start[label])
        if harm:
            what = "knocked over" if harm is Cause.KNOCKED_OVER else "pushed away"
            return Outcome(lack, harm.value, f"the {label.replace('_', ' ')} was {what}")
    return Outcome(lack)


def _harm(now: Stance, before: Stance) -> Cause:
    if not before.upright:
        return Cause.NONE  # it rolls by itself
    if not now.upright:
        return Cause.KNOCKED_OVER
    moved = float(np.linalg.norm(now.position_m - before.position_m)) > MOVED_M
    return Cause.MOVED if moved else Cause.NONE


def _lack(task: CupTask, goal: Goal, now: Situation, before: Stance | None) -> Cause:
    cup, board = now.things.get(goal.target), now.things.get(goal.destination)
    if cup is None or board is None:
        return Cause.NOT_SEEN
    lack = placement(task, cup, board, now.tool_m)
    if before is None:
        return lack
    if lack is Cause.FELL and not before.upright:
        return Cause.LAY_BEFORE
    still_there = float(np.linalg.norm(cup.position_m - before.position_m)) < STIRRED_M
    return Cause.NOT_MOVED if lack is Cause.WRONG_PLACE and still_there else lack
