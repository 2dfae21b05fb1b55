"""The template task as its file describes it, and what it offers to whoever is handed a `Task`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.expert import Expert, Goal
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
from physai_lab.tasks.template.expert import TemplateExpert, grip_height_m
from physai_lab.tasks.template.features import feature_names, features
from physai_lab.tasks.template.outcome import outcome
from physai_lab.tasks.template.words import PHRASES
from physai_tasks.carrying import home_of

if TYPE_CHECKING:
    from physai_lab.tasks.template.cell import TemplateCell


@dataclass(frozen=True)
class TemplateJars:
    """Upright cylinders of one size."""

    radius_m: float
    height_m: float
    labels: tuple[str, ...]
    region: Region


@dataclass(frozen=True)
class TemplateMark:
    """A disc of colour on the table."""

    radius_m: float
    label: str
    region: Region


@dataclass(frozen=True)
class TemplateTask(Task):
    """Any of the jars onto the mark."""

    jars: TemplateJars
    mark: TemplateMark
    min_distance_m: float
    tolerance_m: float
    still_speed_m_s: float

    @property
    def objects(self) -> tuple[str, ...]:
        """What may be moved."""
        return self.jars.labels

    @property
    def places(self) -> tuple[str, ...]:
        """What stays where it is."""
        return (self.mark.label,)

    @property
    def phrases(self) -> Phrases:
        """How it is asked for."""
        return PHRASES

    @property
    def turn_matters(self) -> bool:
        """A jar is round: how the hand is turned does not matter."""
        return False

    @cached_property
    def cell(self) -> TemplateCell:
        """How it is built in MuJoCo, which is imported by whoever simulates."""
        from physai_lab.tasks.template.cell import TemplateCell

        return TemplateCell(self)

    def kind(self, label: str) -> Kind:
        """What stands there: its shape and size, and at which height it is held."""
        if label in self.jars.labels:
            across, height = 2 * self.jars.radius_m, self.jars.height_m
            return Kind("jar", Shape.CYLINDER, (across, across, height), grip_height_m(self))
        return Kind("mark", Shape.PATCH, (2 * self.mark.radius_m, 2 * self.mark.radius_m, 0.0))

    def region(self, label: str) -> Region:
        """Where it may be at the start."""
        return self.jars.region if label in self.jars.labels else self.mark.region

    def expert(self, embodiment: Embodiment) -> Expert:
        """Who demonstrates it with that robot."""
        home, gripper = home_of(embodiment, len(self.action)), embodiment.gripper
        return TemplateExpert(home, gripper.opening_max, gripper.speed, self)

    def feature_names(self) -> tuple[str, ...]:
        """Names of the entries of `features`, in order."""
        return feature_names(self)

    def features(self, now: Situation, goal: Goal) -> np.ndarray:
        """What a policy sees (F,)."""
        return features(self, now, goal)

    def outcome(self, goal: Goal, now: Situation, start: Mapping[str, Stance] | None = None) -> Outcome:
        """Whether it is done, and if not, why."""
        return outcome(self, goal, now, start)

    def trained_values(self) -> Mapping[str, TrainedValue]:
        """What a policy was trained on: a file with other values is refused with its bundle, value by value."""
        return {
            "jars.labels": TrainedValue(self.jars.labels),
            "jars.radius_m": TrainedValue(self.jars.radius_m),
            "jars.height_m": TrainedValue(self.jars.height_m),
            "jars.region.x": TrainedValue(self.jars.region.x, Rule.WITHIN),
            "jars.region.y": TrainedValue(self.jars.region.y, Rule.WITHIN),
            "mark.label": TrainedValue(self.mark.label),
            "mark.radius_m": TrainedValue(self.mark.radius_m),
            "mark.region.x": TrainedValue(self.mark.region.x, Rule.WITHIN),
            "mark.region.y": TrainedValue(self.mark.region.y, Rule.WITHIN),
            "min_distance_m": TrainedValue(self.min_distance_m, Rule.AT_LEAST),
            **workcell_values(self.workcell),
        }


def read(file: Reader) -> TemplateTask:
    """The task of a file. Every entry is asked for, with its range: the reader says what is wrong, with its line."""
    success, jars, mark = file.section("success"), file.section("jars"), file.section("mark")
    labels, label = read_labels(jars), mark.text("label")
    return TemplateTask(
        name=file.text("name"),
        path=file.path,
        workcell=Workcell.read(file),
        boards=Boards.none(),
        upright_cosine=success.number("upright_cosine", 0, 1),
        words=read_words(file.section("words", optional=True), (*labels, label)),
        jars=TemplateJars(
            radius_m=jars.number("radius_m", 1e-3, 0.5),
            height_m=jars.number("height_m", 1e-3, 1),
            labels=labels,
            region=Region.read(jars.section("region")),
        ),
        mark=TemplateMark(
            radius_m=mark.number("radius_m", 1e-3, 0.5),
            label=label,
            region=Region.read(mark.section("region")),
        ),
        min_distance_m=file.number("min_distance_m", 0, 1),
        tolerance_m=success.number("tolerance_m", 1e-4, 1),
        still_speed_m_s=success.number("still_speed_m_s", 1e-4, 10),
    )
