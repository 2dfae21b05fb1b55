"""The cups-and-shelf task as its file describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.expert import Expert, Goal
from physai_base.outcome import Outcome, Situation, Stance
from physai_base.reader import Reader
from physai_base.task import (
    Boards,
    Kind,
    Region,
    Rule,
    Shape,
    Task,
    TrainedValue,
    read_labels,
    read_words,
    workcell_values,
)
from physai_base.workcell import Workcell
from physai_tasks.carrying import home_of
from physai_tasks.cups.expert import CupExpert, grasp_height_m
from physai_tasks.cups.features import feature_names, features
from physai_tasks.cups.outcome import outcome
from physai_tasks.cups.words import INSTRUCTIONS

if TYPE_CHECKING:
    from physai_tasks.cups.cell import CupCell


@dataclass(frozen=True)
class Cups:
    """Straight tumblers of one size, foot on the table, open at the top."""

    radius_m: float
    height_m: float
    labels: tuple[str, ...]
    region: Region
    min_distance_m: float  # of two of them, at the start


@dataclass(frozen=True)
class CupTask(Task):
    """Any of the cups onto any board of the shelf."""

    cups: Cups
    foot_height_tolerance_m: float
    still_speed_m_s: float

    @property
    def reaches(self) -> float:
        """See `Task`."""
        return 0.97

    @property
    def objects(self) -> tuple[str, ...]:
        """The cups."""
        return self.cups.labels

    @property
    def places(self) -> tuple[str, ...]:
        """The boards."""
        return self.boards.labels

    @property
    def instructions(self) -> tuple[tuple[str, Goal], ...]:
        """In ordinary wordings, as far as they are about cups and boards of this file."""
        things = {*self.objects, *self.places}
        known = tuple(
            (text, goal) for text, goal in INSTRUCTIONS if {goal.target, goal.destination} <= things
        )
        return known or super().instructions

    @property
    def turn_matters(self) -> bool:
        """A cup is round."""
        return False

    @cached_property
    def cell(self) -> CupCell:
        """How it is built in MuJoCo."""
        from physai_tasks.cups.cell import CupCell

        return CupCell(self)

    def kind(self, label: str) -> Kind:
        """A cup or a board."""
        if label in self.cups.labels:
            across = 2 * self.cups.radius_m
            size = (across, across, self.cups.height_m)
            return Kind("cup", Shape.CYLINDER, size, grasp_height_m(self))
        depth, width, thickness = map(float, self.boards.board_size_m)
        return Kind("board", Shape.BOARD, (depth, width, thickness))

    def region(self, label: str) -> Region:
        """Of a cup or a board."""
        return self.cups.region if label in self.cups.labels else self.boards.region(label)

    def expert(self, embodiment: Embodiment) -> Expert:
        """Who puts cups on boards with that robot."""
        home, gripper = home_of(embodiment, len(self.action)), embodiment.gripper
        return CupExpert(home, gripper.opening_max, gripper.speed, self)

    def feature_names(self) -> tuple[str, ...]:
        """Names of the entries of `features`, in order."""
        return feature_names(self)

    def features(self, now: Situation, goal: Goal) -> np.ndarray:
        """What a policy sees (F,)."""
        return features(self, now, goal)

    def outcome(self, goal: Goal, now: Situation, start: Mapping[str, Stance] | None = None) -> Outcome:
        """Whether the cup stands on the board, and if not, why."""
        return outcome(self, goal, now, start)

    def trained_values(self) -> Mapping[str, TrainedValue]:
        """What a bundle may have been trained on; what success is, is not among it: nothing is trained on it."""
        cups, shelf = self.cups, self.boards
        return {
            "cups.labels": TrainedValue(cups.labels),
            "shelf.labels": TrainedValue(shelf.labels),
            "cups.radius_m": TrainedValue(cups.radius_m),
            "cups.height_m": TrainedValue(cups.height_m),
            "cups.region.x": TrainedValue(cups.region.x, Rule.WITHIN),
            "cups.region.y": TrainedValue(cups.region.y, Rule.WITHIN),
            "cups.min_distance_m": TrainedValue(cups.min_distance_m, Rule.AT_LEAST),
            "shelf.board_size_m": TrainedValue(shelf.board_size_m),
            "shelf.heights_m": TrainedValue(shelf.heights_m),
            "shelf.offsets_x_m": TrainedValue(shelf.offsets_x_m),
            "shelf.region.x": TrainedValue(shelf.region_x, Rule.WITHIN),
            "shelf.region.y": TrainedValue(shelf.region_y, Rule.WITHIN),
            "shelf.region.yaw": TrainedValue(shelf.region_yaw, Rule.WITHIN),
            **workcell_values(self.workcell),
        }


def read(file: Reader) -> CupTask:
    """The task of a file."""
    success = file.section("success")
    workcell = Workcell.read(file)
    cups, shelf = _cups(file.section("cups")), _shelf(file.section("shelf"))
    return CupTask(
        name=file.text("name"),
        path=file.path,
        workcell=workcell,
        boards=shelf,
        cups=cups,
        foot_height_tolerance_m=success.number("foot_height_tolerance_m", 1e-4, 1),
        upright_cosine=success.number("upright_cosine", 0, 1),
        still_speed_m_s=success.number("still_speed_m_s", 1e-4, 10),
        words=read_words(file.section("words", optional=True), (*cups.labels, *shelf.labels)),
    )


def _cups(cups: Reader) -> Cups:
    return Cups(
        radius_m=cups.number("radius_m", 1e-3, 0.5),
        height_m=cups.number("height_m", 1e-3, 1),
        labels=read_labels(cups),
        region=Region.read(cups.section("region")),
        min_distance_m=cups.number("min_distance_m", 0, 1),
    )


def _shelf(shelf: Reader) -> Boards:
    region, labels = shelf.section("region"), read_labels(shelf)
    boards = len(labels) if shelf.good("labels") else None
    heights = shelf.vector("heights_m", boards, 0, 5)
    if shelf.good("heights_m") and (np.diff(heights) <= 0).any():
        shelf.fail("heights_m", "must rise: the lowest board comes first")
    return Boards(
        labels=labels,
        board_size_m=shelf.vector("board_size_m", 3, 1e-3, 5),
        heights_m=tuple(heights.tolist()),
        offsets_x_m=tuple(shelf.vector("offsets_x_m", boards, -5, 5).tolist()),
        region_x=region.bounds("x"),
        region_y=region.bounds("y"),
        region_yaw=region.bounds("yaw"),
    )
