"""Whether the stain is gone, and if not, why.

It is when no more than a share `left` of it is left, and the sponge has been put down: it stands on the table, at rest, and the
hand is off it. To press with more than `most_n` is harm, whatever becomes of the stain: seen in the moment by what the tool feels, and
by the simulator's score whenever it was (`WipeCell.harm`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from physai_base.expert import Goal
from physai_base.outcome import NO_SUCH_GOAL, Outcome, Situation, Stance

if TYPE_CHECKING:
    from physai_tasks.wipe.task import WipeTask

CLEARANCE_M = 0.03  # of the tool above the sponge
ASIDE_M = 0.12  # or beside it


class WipeCause(str, Enum):
    """Why a task is not done; `NONE` (empty) when it is."""

    NONE = ""
    NOT_SEEN = "sponge_or_stain_not_seen"
    LEFT = "stain_left"
    HELD = "sponge_not_put_down"
    TIPPED = "sponge_on_its_side"
    STILL_MOVING = "still_moving"
    TOO_HARD = "pressed_too_hard"


def clean(stain: Stance) -> bool:
    """Whether nothing is left of it that counts."""
    return stain.size_m is not None and not np.any(stain.size_m > 0)


def outcome(task: WipeTask, goal: Goal, now: Situation, start: Mapping[str, Stance] | None = None) -> Outcome:
    """What has come of `goal`."""
    if goal.target != task.stain.label or goal.destination:
        return Outcome(NO_SUCH_GOAL)
    lack = _lack(task, now).value
    if now.tool.wrench[2] > task.rubbing.most_n:
        return Outcome(lack, WipeCause.TOO_HARD.value, f"pressed with {now.tool.wrench[2]:.0f} N")
    return Outcome(lack)


def _lack(task: WipeTask, now: Situation) -> WipeCause:
    sponge, stain = now.things.get(task.sponge.label), now.things.get(task.stain.label)
    if sponge is None or stain is None:
        return WipeCause.NOT_SEEN
    if not clean(stain):
        return WipeCause.LEFT
    if not sponge.upright:
        return WipeCause.TIPPED
    above = now.tool_m[2] - sponge.position_m[2] - task.sponge.height_m
    aside = float(np.linalg.norm((now.tool_m - sponge.position_m)[:2]))
    if sponge.position_m[2] > 0.01 or (above < CLEARANCE_M and aside < ASIDE_M):
        return WipeCause.HELD
    return WipeCause.NONE if sponge.speed_m_s <= task.still_speed_m_s else WipeCause.STILL_MOVING
