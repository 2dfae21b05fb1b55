"""Whether a block has been put on another one, and if not, why.

It has when its middle is within `aside_m` of the other one's and its foot at the height of its top, it is upright and rests, the
hand has let go of it and is off, and nothing else was harmed: no block that was not meant has fallen or been moved by more than
`MOVED_M`; the one below, and what it stands on, neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from physai_base.expert import Goal
from physai_base.outcome import NO_SUCH_GOAL, Outcome, Situation, Stance

if TYPE_CHECKING:
    from physai_tasks.stack.task import StackTask

MOVED_M = 0.03
STIRRED_M = 0.02
CLEARANCE_M = 0.03  # of the tool above the block
ASIDE_M = 0.10  # or beside it


class StackCause(str, Enum):
    """Why a task is not done; `NONE` (empty) when it is."""

    NONE = ""
    NOT_SEEN = "target_or_destination_not_seen"
    FELL = "target_fell"
    NOT_MOVED = "target_not_moved"
    NOT_ON_IT = "not_on_the_block"
    NOT_RELEASED = "not_released"
    STILL_MOVING = "still_moving"
    MOVED_OTHER = "moved_other_block"
    TOPPLED = "toppled_other_block"


def top_m(task: StackTask, label: str, now: Situation) -> np.ndarray:
    """(3,) the middle of a block's upper side."""
    return now.require(label).position_m + [0, 0, task.blocks.edges_m[label]]


def stands_on(task: StackTask, label: str, below: str, now: Situation) -> bool:
    """Whether one block rests on another, as far as both are known."""
    if label not in now.things or below not in now.things:
        return False
    offset = now.things[label].position_m - top_m(task, below, now)
    reach = (task.blocks.edges_m[label] + task.blocks.edges_m[below]) / 2
    return bool(np.linalg.norm(offset[:2]) < reach and abs(offset[2]) < 2 * task.height_tolerance_m)


def outcome(
    task: StackTask, goal: Goal, now: Situation, start: Mapping[str, Stance] | None = None
) -> Outcome:
    """What has come of `goal`; of blocks that `start` leaves out, no harm can be told."""
    if not {goal.target, goal.destination} <= set(task.objects) or goal.target == goal.destination:
        return Outcome(NO_SUCH_GOAL)
    start = start or {}
    lack = _lack(task, goal, now, start.get(goal.target)).value
    for label in task.objects:
        if label == goal.target or label not in now.things or label not in start:
            continue
        name = label.replace("_", " ")
        if start[label].upright and not now.things[label].upright:
            return Outcome(lack, StackCause.TOPPLED.value, f"the {name} was toppled")
        if np.linalg.norm(now.things[label].position_m - start[label].position_m) > MOVED_M:
            return Outcome(lack, StackCause.MOVED_OTHER.value, f"the {name} was moved")
    return Outcome(lack)


def _lack(task: StackTask, goal: Goal, now: Situation, before: Stance | None) -> StackCause:
    block = now.things.get(goal.target)
    if block is None or goal.destination not in now.things:
        return StackCause.NOT_SEEN
    if not block.upright:
        return StackCause.FELL
    offset = block.position_m - top_m(task, goal.destination, now)
    if np.linalg.norm(offset[:2]) > task.aside_m or abs(offset[2]) > task.height_tolerance_m:
        still = before is not None and np.linalg.norm(block.position_m - before.position_m) < STIRRED_M
        return StackCause.NOT_MOVED if still else StackCause.NOT_ON_IT
    above = now.tool_m[2] - block.position_m[2] - task.blocks.edges_m[goal.target]
    if above < CLEARANCE_M and np.linalg.norm((now.tool_m - block.position_m)[:2]) < ASIDE_M:
        return StackCause.NOT_RELEASED
    return StackCause.NONE if block.speed_m_s <= task.still_speed_m_s else StackCause.STILL_MOVING
