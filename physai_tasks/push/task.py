"""The push task as its file describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.expert import Expert, Goal
from physai_base.kinematics import ArmKinematics
from physai_base.outcome import Outcome, Situation, Stance
from physai_base.phrases import Phrases
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
from physai_tasks.push.expert import PushExpert
from physai_tasks.push.features import feature_names, features
from physai_tasks.push.outcome import outcome
from physai_tasks.push.words import PHRASES

if TYPE_CHECKING:
    from physai_tasks.push.cell import PushCell


@dataclass(frozen=True)
class Pucks:
    """Low cylinders of one size."""

    radius_m: float
    height_m: float
    labels: tuple[str, ...]
    region: Region


@dataclass(frozen=True)
class Mark:
    """A disc of colour on the table."""

    radius_m: float
    label: str
    region: Region


@dataclass(frozen=True)
class PushTask(Task):
    """Any of the pucks onto the mark."""

    pucks: Pucks
    mark: Mark
    min_distance_m: float
    tolerance_m: float
    still_speed_m_s: float

    @property
    def reaches(self) -> float:
        """See `Task`."""
        return 0.95

    @property
    def objects(self) -> tuple[str, ...]:
        """The pucks."""
        return self.pucks.labels

    @property
    def places(self) -> tuple[str, ...]:
        """The mark."""
        return (self.mark.label,)

    @property
    def phrases(self) -> Phrases:
        """It is pushed."""
        return PHRASES

    @property
    def turn_matters(self) -> bool:
        """A puck is round, and the fingers are nearly so."""
        return False

    @cached_property
    def cell(self) -> PushCell:
        """How it is built in MuJoCo."""
        from physai_tasks.push.cell import PushCell

        return PushCell(self)

    def kind(self, label: str) -> Kind:
        """A puck or the mark."""
        if label in self.pucks.labels:
            across = 2 * self.pucks.radius_m
            return Kind("puck", Shape.CYLINDER, (across, across, self.pucks.height_m))
        return Kind("mark", Shape.PATCH, (2 * self.mark.radius_m, 2 * self.mark.radius_m, 0.0))

    def region(self, label: str) -> Region:
        """Of a puck or the mark."""
        return self.pucks.region if label in self.pucks.labels else self.mark.region

    def expert(self, embodiment: Embodiment) -> Expert:
        """Who pushes with that robot."""
        home_m = ArmKinematics(embodiment).tool_pose(embodiment.home).position
        end = embodiment.end_effectors[0]
        closed = end.gripper.opening_min if end.gripper is not None else 0.0
        return PushExpert(self, home_m, end.hand.tip, closed)

    def feature_names(self) -> tuple[str, ...]:
        """Names of the entries of `features`, in order."""
        return feature_names(self)

    def features(self, now: Situation, goal: Goal) -> np.ndarray:
        """What a policy sees (F,)."""
        return features(self, now, goal)

    def outcome(self, goal: Goal, now: Situation, start: Mapping[str, Stance] | None = None) -> Outcome:
        """Whether the puck lies on the mark, and if not, why."""
        return outcome(self, goal, now, start)

    def trained_values(self) -> Mapping[str, TrainedValue]:
        """What a bundle may have been trained on."""
        return {
            "pucks.labels": TrainedValue(self.pucks.labels),
            "pucks.radius_m": TrainedValue(self.pucks.radius_m),
            "pucks.height_m": TrainedValue(self.pucks.height_m),
            "pucks.region.x": TrainedValue(self.pucks.region.x, Rule.WITHIN),
            "pucks.region.y": TrainedValue(self.pucks.region.y, Rule.WITHIN),
            "mark.label": TrainedValue(self.mark.label),
            "mark.radius_m": TrainedValue(self.mark.radius_m),
            "mark.region.x": TrainedValue(self.mark.region.x, Rule.WITHIN),
            "mark.region.y": TrainedValue(self.mark.region.y, Rule.WITHIN),
            "min_distance_m": TrainedValue(self.min_distance_m, Rule.AT_LEAST),
            **workcell_values(self.workcell),
        }


def read(file: Reader) -> PushTask:
    """The task of a file."""
    success, pucks, mark = file.section("success"), file.section("pucks"), file.section("mark")
    labels, label = read_labels(pucks), mark.text("label")
    return PushTask(
        name=file.text("name"),
        path=file.path,
        workcell=Workcell.read(file),
        boards=Boards.none(),
        upright_cosine=success.number("upright_cosine", 0, 1),
        words=read_words(file.section("words", optional=True), (*labels, label)),
        pucks=Pucks(
            radius_m=pucks.number("radius_m", 1e-3, 0.5),
            height_m=pucks.number("height_m", 1e-3, 1),
            labels=labels,
            region=Region.read(pucks.section("region")),
        ),
        mark=Mark(mark.number("radius_m", 1e-3, 0.5), label, Region.read(mark.section("region"))),
        min_distance_m=file.number("min_distance_m", 0, 1),
        tolerance_m=success.number("tolerance_m", 1e-4, 1),
        still_speed_m_s=success.number("still_speed_m_s", 1e-4, 10),
    )
