"""Whether a task is done, and if not, why: the one answer for score, policy, expert, evaluation and handover.

A cup has been put on a board when

- its foot's centre is over the board: within the board's depth and width, in the board's own frame, and at most
  `foot_height_tolerance_m` above or below its surface. That is where a cup can stand by itself, be it 60 mm off the middle;
- it stands upright and rests;
- the hand has let go of it: the tool is `CLEARANCE_M` above its rim, or `ASIDE_M` beside it;
- no other cup was harmed: none that stood when the task began has fallen or been moved by more than `MOVED_M`. A cup that
  lay then is nobody's failure, wherever it rolls; of what was not seen, nothing is said.

Truth and perception give the same `Situation`, so that they cannot mean different things.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from transforms3d.quaternions import quat2mat

from physai_base.task import Task
from physai_base.values import SceneState

MOVED_M = 0.03  # another cup may be touched, not carried off
STIRRED_M = 0.02  # a target that is no farther from where it was has not been moved
CLEARANCE_M = 0.03
ASIDE_M = 0.12  # half the hand's width and some, from the cup's axis


class Cause(str, Enum):
    """Why a task is not done; `NONE` (empty) when it is."""

    NONE = ""
    UNKNOWN = "unknown_target_or_destination"
    NOT_SEEN = "target_or_destination_not_seen"
    KNOCKED_OVER = "knocked_over_other_cup"
    MOVED = "moved_other_cup"
    LAY_BEFORE = "target_lay_from_the_start"
    FELL = "target_fell_over"
    NOT_MOVED = "target_not_moved"
    WRONG_PLACE = "wrong_place"
    NOT_RELEASED = "not_released"
    STILL_MOVING = "still_moving"


@dataclass(frozen=True)
class Stance:
    """How a cup is."""

    position_m: np.ndarray  # (3,) its foot's centre, base frame
    upright: bool = True
    speed_m_s: float = 0.0


@dataclass(frozen=True)
class Board:
    """Where a board is."""

    position_m: np.ndarray  # (3,) the middle of its surface, base frame
    rotation: np.ndarray = field(default_factory=lambda: np.eye(3))  # (3, 3) x along its depth, y its width


@dataclass(frozen=True)
class Situation:
    """Cups and boards by label, those that are known, and where the tool is."""

    cups: Mapping[str, Stance]
    boards: Mapping[str, Board]
    tool_m: np.ndarray  # (3,) base frame

    @staticmethod
    def perceived(scene: SceneState, task: Task) -> Situation:
        """As perception believes it to be."""
        things = {thing.label: thing for thing in scene.objects if thing.believed}
        return Situation(
            cups={
                label: Stance(
                    things[label].position_m,
                    things[label].upright,
                    float(np.linalg.norm(things[label].velocity_m_s)),
                )
                for label in task.cups.labels
                if label in things
            },
            boards={
                label: Board(things[label].position_m, quat2mat(things[label].orientation))
                for label in task.shelf.labels
                if label in things
            },
            tool_m=scene.tcp_position_m,
        )


@dataclass(frozen=True)
class Outcome:
    """What has come of a task so far."""

    target: Cause  # what the target itself lacks
    others: Cause  # what befell the other cups
    harmed: str = ""  # the label of the other cup that `others` is about

    @property
    def cause(self) -> Cause:
        """Why it is not done: harm comes first."""
        return self.others or self.target

    @property
    def success(self) -> bool:
        """Whether it is done."""
        return self.cause is Cause.NONE

    def __str__(self) -> str:
        """For a person."""
        if self.others:
            what = "knocked over" if self.others is Cause.KNOCKED_OVER else "pushed away"
            return f"the {self.harmed.replace('_', ' ')} was {what}"
        return self.target.value.replace("_", " ") or "done"


def placement(task: Task, cup: Stance, board: Board, tool_m: np.ndarray) -> Cause:
    """What `cup` lacks of having been put on `board`."""
    if not cup.upright:
        return Cause.FELL
    local = board.rotation.T @ (cup.position_m - board.position_m)
    inside = np.abs(local[:2]) <= task.shelf.board_size_m[:2] / 2
    if not (inside.all() and abs(local[2]) <= task.foot_height_tolerance_m):
        return Cause.WRONG_PLACE
    above_rim = tool_m[2] - cup.position_m[2] - task.cups.height_m
    aside = float(np.linalg.norm(tool_m[:2] - cup.position_m[:2]))
    if not (above_rim > CLEARANCE_M or aside > ASIDE_M):
        return Cause.NOT_RELEASED
    return Cause.NONE if cup.speed_m_s <= task.still_speed_m_s else Cause.STILL_MOVING


def outcome(
    task: Task, target: str, destination: str, now: Situation, start: Mapping[str, Stance] | None = None
) -> Outcome:
    """Whether `target` has been put on `destination`.

    `start` says how the cups were when the task began; of those that it leaves out, no harm can be told.
    """
    if target not in task.cups.labels or destination not in task.shelf.labels:
        return Outcome(Cause.UNKNOWN, Cause.NONE)
    start = start or {}
    others, harmed = Cause.NONE, ""
    for label in task.cups.labels:
        if label == target or label not in now.cups or label not in start:
            continue
        others = _harm(now.cups[label], start[label])
        if others:
            harmed = label
            break
    return Outcome(_lack(task, target, destination, now, start.get(target)), others, harmed)


def _harm(now: Stance, before: Stance) -> Cause:
    if not before.upright:
        return Cause.NONE  # it rolls by itself
    if not now.upright:
        return Cause.KNOCKED_OVER
    moved = float(np.linalg.norm(now.position_m - before.position_m)) > MOVED_M
    return Cause.MOVED if moved else Cause.NONE


def _lack(task: Task, target: str, destination: str, now: Situation, before: Stance | None) -> Cause:
    cup, board = now.cups.get(target), now.boards.get(destination)
    if cup is None or board is None:
        return Cause.NOT_SEEN
    lack = placement(task, cup, board, now.tool_m)
    if before is None:
        return lack
    if lack is Cause.FELL and not before.upright:
        return Cause.LAY_BEFORE
    still_there = float(np.linalg.norm(cup.position_m - before.position_m)) < STIRRED_M
    return Cause.NOT_MOVED if lack is Cause.WRONG_PLACE and still_there else lack
