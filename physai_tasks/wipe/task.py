"""The wipe task as its file describes it."""

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
    TURNING,
    Boards,
    Kind,
    Region,
    Rule,
    Shape,
    Task,
    TrainedValue,
    read_words,
    workcell_values,
)
from physai_base.workcell import Interval, Workcell
from physai_tasks.carrying import home_of
from physai_tasks.wipe.expert import WipeExpert, stiffness_of
from physai_tasks.wipe.features import feature_names, features
from physai_tasks.wipe.outcome import outcome
from physai_tasks.wipe.words import PHRASES

if TYPE_CHECKING:
    from physai_tasks.wipe.cell import WipeCell


@dataclass(frozen=True)
class Sponge:
    """A block of it, square from above."""

    label: str
    edge_m: float
    height_m: float
    region: Region


@dataclass(frozen=True)
class Stain:
    """On the table, about as wide as the sponge."""

    label: str
    length_m: float
    width_m: float
    region: Region


@dataclass(frozen=True)
class Rubbing:
    """What it takes."""

    force_n: Interval
    most_n: float
    way_m: float

    @property
    def aim_n(self) -> float:
        """The middle of what is right."""
        return sum(self.force_n) / 2


@dataclass(frozen=True)
class WipeTask(Task):
    """The stain is rubbed off, and the sponge put down."""

    sponge: Sponge
    stain: Stain
    rubbing: Rubbing
    left: float
    still_speed_m_s: float

    @property
    def reaches(self) -> float:
        """See `Task`."""
        return 0.95

    @property
    def objects(self) -> tuple[str, ...]:
        """The sponge."""
        return (self.sponge.label,)

    @property
    def places(self) -> tuple[str, ...]:
        """The stain, which stays where it is while there is anything of it."""
        return (self.stain.label,)

    @property
    def goals(self) -> tuple[Goal, ...]:
        """There is one."""
        return (Goal(self.stain.label),)

    @property
    def phrases(self) -> Phrases:
        """It is wiped."""
        return PHRASES

    @property
    def action(self) -> tuple[str, ...]:
        """The fingers are turned to the sponge's sides."""
        return TURNING

    def needs(self, goal: Goal) -> frozenset[str]:
        """The sponge, too."""
        return frozenset((self.sponge.label, self.stain.label))

    def carried(self, goal: Goal) -> str:
        """The sponge."""
        return self.sponge.label

    @cached_property
    def cell(self) -> WipeCell:
        """How it is built in MuJoCo."""
        from physai_tasks.wipe.cell import WipeCell

        return WipeCell(self)

    def kind(self, label: str) -> Kind:
        """The sponge or the stain."""
        if label == self.sponge.label:
            edge, height = self.sponge.edge_m, self.sponge.height_m
            return Kind("sponge", Shape.BOX, (edge, edge, height), height - 0.015)
        return Kind("stain", Shape.PATCH, (self.stain.length_m, self.stain.width_m, 0.0))

    @property
    def press_n(self) -> Interval:
        """What it takes to rub the stain off, and no more."""
        return self.rubbing.force_n

    def region(self, label: str) -> Region:
        """Of the sponge or the stain."""
        return self.sponge.region if label == self.sponge.label else self.stain.region

    def expert(self, embodiment: Embodiment) -> Expert:
        """Who wipes with that robot."""
        home, gripper = home_of(embodiment, len(self.action)), embodiment.gripper
        return WipeExpert(home, gripper.opening_max, gripper.speed, self, stiffness_of(embodiment))

    def feature_names(self) -> tuple[str, ...]:
        """Names of the entries of `features`, in order."""
        return feature_names(self)

    def features(self, now: Situation, goal: Goal) -> np.ndarray:
        """What a policy sees (F,)."""
        return features(self, now, goal)

    def outcome(self, goal: Goal, now: Situation, start: Mapping[str, Stance] | None = None) -> Outcome:
        """Whether the stain is gone and the sponge put down, and if not, why."""
        return outcome(self, goal, now, start)

    def trained_values(self) -> Mapping[str, TrainedValue]:
        """What a bundle may have been trained on."""
        sponge, stain = self.sponge, self.stain
        return {
            "sponge.edge_m": TrainedValue(sponge.edge_m),
            "sponge.height_m": TrainedValue(sponge.height_m),
            "sponge.region.x": TrainedValue(sponge.region.x, Rule.WITHIN),
            "sponge.region.y": TrainedValue(sponge.region.y, Rule.WITHIN),
            "sponge.region.yaw": TrainedValue(sponge.region.yaw, Rule.WITHIN),
            "stain.length_m": TrainedValue(stain.length_m),
            "stain.width_m": TrainedValue(stain.width_m),
            "stain.region.x": TrainedValue(stain.region.x, Rule.WITHIN),
            "stain.region.y": TrainedValue(stain.region.y, Rule.WITHIN),
            "stain.region.yaw": TrainedValue(stain.region.yaw, Rule.WITHIN),
            "rubbing.force_n": TrainedValue(self.rubbing.force_n),
            **workcell_values(self.workcell),
        }


def read(file: Reader) -> WipeTask:
    """The task of a file."""
    success, sponge, stain = file.section("success"), file.section("sponge"), file.section("stain")
    rubbing, labels = file.section("rubbing"), (sponge.text("label"), stain.text("label"))
    return WipeTask(
        name=file.text("name"),
        path=file.path,
        workcell=Workcell.read(file),
        boards=Boards.none(),
        upright_cosine=success.number("upright_cosine", 0, 1),
        words=read_words(file.section("words", optional=True), labels),
        sponge=Sponge(
            label=labels[0],
            edge_m=sponge.number("edge_m", 1e-3, 0.5),
            height_m=sponge.number("height_m", 1e-3, 0.5),
            region=Region.read(sponge.section("region")),
        ),
        stain=Stain(
            label=labels[1],
            length_m=stain.number("length_m", 1e-3, 1),
            width_m=stain.number("width_m", 1e-3, 1),
            region=Region.read(stain.section("region")),
        ),
        rubbing=Rubbing(
            rubbing.bounds("force_n"), rubbing.number("most_n", 0, 500), rubbing.number("way_m", 1e-4, 1)
        ),
        left=success.number("left", 0, 1),
        still_speed_m_s=success.number("still_speed_m_s", 1e-4, 10),
    )
