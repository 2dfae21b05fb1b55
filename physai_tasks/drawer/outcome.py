"""Whether a block is in the closed drawer, and if not, why."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from physai_base.expert import Goal
from physai_base.outcome import NO_SUCH_GOAL, Outcome, Situation, Stance
from physai_tasks.drawer.handle import DrawerPose

if TYPE_CHECKING:
    from physai_tasks.drawer.task import DrawerTask

MOVED_M = 0.03  # another block
STIRRED_M = 0.02
OFF_M = 0.05  # of the tool from the handle, or above it


class DrawerCause(str, Enum):
    """Why a task is not done; `NONE` (empty) when it is."""

    NONE = ""
    NOT_SEEN = "block_or_drawer_not_seen"
    NOT_MOVED = "target_not_moved"
    NOT_IN = "not_in_the_drawer"
    NOT_CLOSED = "drawer_not_closed"
    HELD = "hand_not_off"
    STILL_MOVING = "still_moving"
    MOVED_OTHER = "moved_other_block"


def outcome(
    task: DrawerTask, goal: Goal, now: Situation, start: Mapping[str, Stance] | None = None
) -> Outcome:
    """What has come of `goal`; of blocks that `start` leaves out, no harm can be told."""
    if goal.target not in task.objects or goal.destination != task.cabinet.drawer:
        return Outcome(NO_SUCH_GOAL)
    start = start or {}
    lack = _lack(task, goal, now, start.get(goal.target)).value
    for label in task.objects:
        if label == goal.target or label not in now.things or label not in start:
            continue
        if np.linalg.norm(now.things[label].position_m - start[label].position_m) > MOVED_M:
            return Outcome(lack, DrawerCause.MOVED_OTHER.value, f"the {label.replace('_', ' ')} was moved")
    return Outcome(lack)


def _lack(task: DrawerTask, goal: Goal, now: Situation, before: Stance | None) -> DrawerCause:
    if not {goal.target, *task.places} <= now.things.keys():
        return DrawerCause.NOT_SEEN
    block, drawer = now.things[goal.target], DrawerPose.of(task, now)
    if not drawer.holds(block.position_m, task.cabinet.size_m[0]):
        still = before is not None and np.linalg.norm(block.position_m - before.position_m) < STIRRED_M
        return DrawerCause.NOT_MOVED if still else DrawerCause.NOT_IN
    if drawer.opening_m > task.closed_m:
        return DrawerCause.NOT_CLOSED
    if np.linalg.norm(now.tool_m - drawer.handle_m) < OFF_M:
        return DrawerCause.HELD
    return DrawerCause.NONE if block.speed_m_s <= task.still_speed_m_s else DrawerCause.STILL_MOVING
