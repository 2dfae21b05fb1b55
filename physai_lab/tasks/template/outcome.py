"""Whether a jar has been put on the mark, and if not, why: one answer for score, policy, expert and evaluation.

It has when it stands upright and rests on the table with its middle within `tolerance_m` of the mark's, the hand has let go of it,
and no other jar has fallen or been moved by more than `MOVED_M`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from physai_base.expert import Goal
from physai_base.outcome import NO_SUCH_GOAL, Outcome, Situation, Stance

if TYPE_CHECKING:
    from physai_lab.tasks.template.task import TemplateTask

MOVED_M = 0.03  # another jar may be touched, not carried off
ON_TABLE_M = 0.01  # of its foot
CLEARANCE_M = 0.03  # of the tool above the jar
ASIDE_M = 0.12  # or beside it


class TemplateCause(str, Enum):
    """Why a task is not done; `NONE` (empty) when it is."""

    NONE = ""
    NOT_SEEN = "target_or_destination_not_seen"
    FELL = "target_fell_over"
    BESIDE = "beside_the_mark"
    NOT_RELEASED = "not_released"
    STILL_MOVING = "still_moving"
    MOVED_OTHER = "moved_other_jar"


def outcome(
    task: TemplateTask,
    goal: Goal,
    now: Situation,
    start: Mapping[str, Stance] | None = None,
) -> Outcome:
    """What has come of `goal`; of jars that `start` leaves out, no harm can be told."""
    if goal.target not in task.objects or goal.destination != task.mark.label:
        return Outcome(NO_SUCH_GOAL)
    lack = _lack(task, goal, now).value
    for label, before in (start or {}).items():
        after = now.things.get(label)
        if label == goal.target or after is None:
            continue
        moved = np.linalg.norm(after.position_m - before.position_m) > MOVED_M
        if moved or (before.upright and not after.upright):
            said = f"the {label.replace('_', ' ')} was moved"
            return Outcome(lack, TemplateCause.MOVED_OTHER.value, said)
    return Outcome(lack)


def _lack(task: TemplateTask, goal: Goal, now: Situation) -> TemplateCause:
    jar, mark = now.things.get(goal.target), now.things.get(goal.destination)
    if jar is None or mark is None:
        return TemplateCause.NOT_SEEN
    if not jar.upright:
        return TemplateCause.FELL
    away = jar.position_m - mark.position_m
    if np.linalg.norm(away[:2]) > task.tolerance_m or abs(away[2]) > ON_TABLE_M:
        return TemplateCause.BESIDE
    above = now.tool_m[2] - jar.position_m[2] - task.jars.height_m
    aside = float(np.linalg.norm((now.tool_m - jar.position_m)[:2]))
    if above < CLEARANCE_M and aside < ASIDE_M:
        return TemplateCause.NOT_RELEASED
    if jar.speed_m_s > task.still_speed_m_s:
        return TemplateCause.STILL_MOVING
    return TemplateCause.NONE
