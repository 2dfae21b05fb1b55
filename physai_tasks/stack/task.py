"""The stack task as its file describes it."""

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
    read_labels,
    read_words,
    workcell_values,
)
from physai_base.workcell import Workcell
from physai_tasks.carrying import home_of
from physai_tasks.stack.expert import StackExpert
from physai_tasks.stack.features import feature_names, features
from physai_tasks.stack.outcome import outcome, stands_on
from physai_tasks.stack.words import PHRASES

if TYPE_CHECKING:
    from physai_tasks.stack.cell import StackCell


@dataclass(frozen=True)
class Blocks:
    """Cubes."""

    edges_m: Mapping[str, float]  # by label
    region: Region
    min_distance_m: float  # of middles on the table, at the start
    towers: float  # share of cells that begin with one


@dataclass(frozen=True)
class StackTask(Task):
    """Any block that carries none onto any other that carries none."""

    blocks: Blocks
    aside_m: float
    height_tolerance_m: float
    still_speed_m_s: float

    @property
    def reaches(self) -> float:
        """See `Task`."""
        return 0.95

    @property
    def objects(self) -> tuple[str, ...]:
        """The blocks, which are places, too."""
        return tuple(self.blocks.edges_m)

    @property
    def places(self) -> tuple[str, ...]:
        """None but the blocks."""
        return ()

    @property
    def action(self) -> tuple[str, ...]:
        """The fingers are turned to a block's sides."""
        return TURNING

    @property
    def goals(self) -> tuple[Goal, ...]:
        """Every block on every other one."""
        return tuple(Goal(one, other) for one in self.objects for other in self.objects if one != other)

    def possible(self, goal: Goal, now: Situation) -> bool:
        """Whether both carry nothing, and the one is not on the other already."""
        free = all(
            not stands_on(self, label, below, now)
            for below in (goal.target, goal.destination)
            for label in self.objects
            if label != below
        )
        return free and not stands_on(self, goal.target, goal.destination, now)

    @property
    def phrases(self) -> Phrases:
        """It is stacked."""
        return PHRASES

    @cached_property
    def cell(self) -> StackCell:
        """How it is built in MuJoCo."""
        from physai_tasks.stack.cell import StackCell

        return StackCell(self)

    def kind(self, label: str) -> Kind:
        """A block."""
        edge = self.blocks.edges_m[label]
        return Kind("block", Shape.BOX, (edge, edge, edge), edge / 2)

    def region(self, label: str) -> Region:
        """Of any block."""
        return self.blocks.region

    def expert(self, embodiment: Embodiment) -> Expert:
        """Who stacks with that robot."""
        home, gripper = home_of(embodiment, len(self.action)), embodiment.gripper
        return StackExpert(home, gripper.opening_max, gripper.speed, self)

    def feature_names(self) -> tuple[str, ...]:
        """Names of the entries of `features`, in order."""
        return feature_names(self)

    def features(self, now: Situation, goal: Goal) -> np.ndarray:
        """What a policy sees (F,)."""
        return features(self, now, goal)

    def outcome(self, goal: Goal, now: Situation, start: Mapping[str, Stance] | None = None) -> Outcome:
        """Whether the block stands on the other one, and if not, why."""
        return outcome(self, goal, now, start)

    def trained_values(self) -> Mapping[str, TrainedValue]:
        """What a bundle may have been trained on."""
        return {
            "blocks.edges_m": TrainedValue(dict(self.blocks.edges_m)),
            "blocks.region.x": TrainedValue(self.blocks.region.x, Rule.WITHIN),
            "blocks.region.y": TrainedValue(self.blocks.region.y, Rule.WITHIN),
            "blocks.region.yaw": TrainedValue(self.blocks.region.yaw, Rule.WITHIN),
            "blocks.min_distance_m": TrainedValue(self.blocks.min_distance_m, Rule.AT_LEAST),
            **workcell_values(self.workcell),
        }


def read(file: Reader) -> StackTask:
    """The task of a file."""
    success, blocks = file.section("success"), file.section("blocks")
    labels = read_labels(blocks)
    edges = blocks.vector("edges_m", len(labels) if blocks.good("labels") else None, 1e-3, 0.5)
    return StackTask(
        name=file.text("name"),
        path=file.path,
        workcell=Workcell.read(file),
        boards=Boards.none(),
        upright_cosine=success.number("upright_cosine", 0, 1),
        words=read_words(file.section("words", optional=True), labels),
        blocks=Blocks(
            edges_m=dict(zip(labels, map(float, edges), strict=False)),
            region=Region.read(blocks.section("region")),
            min_distance_m=blocks.number("min_distance_m", 0, 1),
            towers=blocks.number("towers", 0, 1),
        ),
        aside_m=success.number("aside_m", 1e-4, 1),
        height_tolerance_m=success.number("height_tolerance_m", 1e-4, 1),
        still_speed_m_s=success.number("still_speed_m_s", 1e-4, 10),
    )
