"""The drawer task as its file describes it."""

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
from physai_tasks.drawer.expert import DrawerExpert
from physai_tasks.drawer.features import feature_names, features
from physai_tasks.drawer.outcome import outcome
from physai_tasks.drawer.words import PHRASES

if TYPE_CHECKING:
    from physai_tasks.drawer.cell import DrawerCell


@dataclass(frozen=True)
class SmallBlocks:
    """Cubes that fit into the drawer."""

    edge_m: float
    labels: tuple[str, ...]
    region: Region
    min_distance_m: float


@dataclass(frozen=True)
class Cabinet:
    """With one drawer; front and drawer are towards its -x."""

    label: str
    drawer: str
    size_m: tuple[float, float, float]
    front_m: tuple[float, float, float]
    way_m: float
    region: Region


@dataclass(frozen=True)
class DrawerTask(Task):
    """Open, put in, close."""

    blocks: SmallBlocks
    cabinet: Cabinet
    closed_m: float
    still_speed_m_s: float

    @property
    def objects(self) -> tuple[str, ...]:
        """The blocks."""
        return self.blocks.labels

    @property
    def places(self) -> tuple[str, ...]:
        """The drawer, and the cabinet that it is in."""
        return (self.cabinet.drawer, self.cabinet.label)

    @property
    def goals(self) -> tuple[Goal, ...]:
        """Every block into the drawer."""
        return tuple(Goal(label, self.cabinet.drawer) for label in self.objects)

    @property
    def phrases(self) -> Phrases:
        """It is put in."""
        return PHRASES

    @property
    def action(self) -> tuple[str, ...]:
        """The fingers are turned to the block's sides and to the drawer's handle."""
        return TURNING

    def needs(self, goal: Goal) -> frozenset[str]:
        """The cabinet, too."""
        return super().needs(goal) | {self.cabinet.label}

    @cached_property
    def cell(self) -> DrawerCell:
        """How it is built in MuJoCo."""
        from physai_tasks.drawer.cell import DrawerCell

        return DrawerCell(self)

    def kind(self, label: str) -> Kind:
        """A block, the drawer's front or the cabinet."""
        if label in self.blocks.labels:
            edge = self.blocks.edge_m
            return Kind("block", Shape.BOX, (edge, edge, edge), edge / 2)
        if label == self.cabinet.drawer:
            return Kind("drawer", Shape.BOX, self.cabinet.front_m)
        return Kind("cabinet", Shape.BOX, self.cabinet.size_m)

    def region(self, label: str) -> Region:
        """Of a block, the cabinet, or the closed drawer's front."""
        region = self.cabinet.region
        if label in self.blocks.labels:
            return self.blocks.region
        if label == self.cabinet.label:
            return region
        back = (self.cabinet.size_m[0] + self.cabinet.front_m[0]) / 2
        return Region((region.x[0] - back, region.x[1] - back), region.y, region.z_m, region.yaw)

    def expert(self, embodiment: Embodiment) -> Expert:
        """Who does it with that robot."""
        home, gripper = home_of(embodiment, len(self.action)), embodiment.gripper
        return DrawerExpert(home, gripper.opening_max, gripper.speed, self)

    def feature_names(self) -> tuple[str, ...]:
        """Names of the entries of `features`, in order."""
        return feature_names(self)

    def features(self, now: Situation, goal: Goal) -> np.ndarray:
        """What a policy sees (F,)."""
        return features(self, now, goal)

    def outcome(self, goal: Goal, now: Situation, start: Mapping[str, Stance] | None = None) -> Outcome:
        """Whether the block is in the closed drawer, and if not, why."""
        return outcome(self, goal, now, start)

    def trained_values(self) -> Mapping[str, TrainedValue]:
        """What a bundle may have been trained on."""
        blocks, cabinet = self.blocks, self.cabinet
        return {
            "blocks.labels": TrainedValue(blocks.labels),
            "blocks.edge_m": TrainedValue(blocks.edge_m),
            "blocks.region.x": TrainedValue(blocks.region.x, Rule.WITHIN),
            "blocks.region.y": TrainedValue(blocks.region.y, Rule.WITHIN),
            "blocks.region.yaw": TrainedValue(blocks.region.yaw, Rule.WITHIN),
            "blocks.min_distance_m": TrainedValue(blocks.min_distance_m, Rule.AT_LEAST),
            "cabinet.size_m": TrainedValue(cabinet.size_m),
            "cabinet.front_m": TrainedValue(cabinet.front_m),
            "cabinet.way_m": TrainedValue(cabinet.way_m),
            "cabinet.region.x": TrainedValue(cabinet.region.x, Rule.WITHIN),
            "cabinet.region.y": TrainedValue(cabinet.region.y, Rule.WITHIN),
            "cabinet.region.yaw": TrainedValue(cabinet.region.yaw, Rule.WITHIN),
            **workcell_values(self.workcell),
        }


def read(file: Reader) -> DrawerTask:
    """The task of a file."""
    success, blocks, cabinet = file.section("success"), file.section("blocks"), file.section("cabinet")
    labels, names = read_labels(blocks), (cabinet.text("drawer"), cabinet.text("label"))
    size, front = (tuple(map(float, cabinet.vector(key, 3, 1e-3, 1))) for key in ("size_m", "front_m"))
    return DrawerTask(
        name=file.text("name"),
        path=file.path,
        workcell=Workcell.read(file),
        boards=Boards.none(),
        upright_cosine=success.number("upright_cosine", 0, 1),
        words=read_words(file.section("words", optional=True), (*labels, *names)),
        blocks=SmallBlocks(
            edge_m=blocks.number("edge_m", 1e-3, 0.5),
            labels=labels,
            region=Region.read(blocks.section("region")),
            min_distance_m=blocks.number("min_distance_m", 0, 1),
        ),
        cabinet=Cabinet(
            label=names[1],
            drawer=names[0],
            size_m=size,  # type: ignore[arg-type]
            front_m=front,  # type: ignore[arg-type]
            way_m=cabinet.number("way_m", 1e-3, 1),
            region=Region.read(cabinet.section("region")),
        ),
        closed_m=success.number("closed_m", 1e-4, 0.1),
        still_speed_m_s=success.number("still_speed_m_s", 1e-4, 10),
    )
