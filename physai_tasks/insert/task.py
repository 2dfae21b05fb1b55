"""The insert task as its file describes it."""

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
from physai_tasks.carrying import home_of
from physai_tasks.insert.expert import GRIP_BELOW_TOP_M, InsertExpert
from physai_tasks.insert.features import feature_names, features
from physai_tasks.insert.outcome import outcome
from physai_tasks.insert.words import PHRASES

if TYPE_CHECKING:
    from physai_tasks.insert.cell import InsertCell


@dataclass(frozen=True)
class Pegs:
    """Thin cylinders of one size."""

    radius_m: float
    height_m: float
    labels: tuple[str, ...]
    region: Region
    min_distance_m: float  # of two of them, at the start


@dataclass(frozen=True)
class Socket:
    """A block with a square hole in its top."""

    label: str
    edge_m: float
    height_m: float
    depth_m: float  # of the hole
    clearance_m: float  # of a peg on each side
    off_m: float  # so far the hole's middle may be from the block's
    region: Region


@dataclass(frozen=True)
class InsertTask(Task):
    """Any of the pegs into the hole."""

    pegs: Pegs
    socket: Socket
    depth_m: float  # of success
    still_speed_m_s: float

    @property
    def objects(self) -> tuple[str, ...]:
        """The pegs."""
        return self.pegs.labels

    @property
    def places(self) -> tuple[str, ...]:
        """The socket."""
        return (self.socket.label,)

    @property
    def supports_m(self) -> tuple[float, ...]:
        """The table, the bottom of the hole, and the top of the block."""
        socket = self.socket
        return (0.0, socket.height_m - socket.depth_m, socket.height_m)

    @property
    def turn_matters(self) -> bool:
        """A peg is round."""
        return False

    @property
    def phrases(self) -> Phrases:
        """It is inserted."""
        return PHRASES

    @cached_property
    def cell(self) -> InsertCell:
        """How it is built in MuJoCo."""
        from physai_tasks.insert.cell import InsertCell

        return InsertCell(self)

    def kind(self, label: str) -> Kind:
        """A peg or the socket."""
        if label in self.pegs.labels:
            across, height = 2 * self.pegs.radius_m, self.pegs.height_m
            return Kind("peg", Shape.CYLINDER, (across, across, height), height - GRIP_BELOW_TOP_M)
        edge = self.socket.edge_m
        return Kind("socket", Shape.BOX, (edge, edge, self.socket.height_m))

    def region(self, label: str) -> Region:
        """Of a peg or the socket."""
        return self.pegs.region if label in self.pegs.labels else self.socket.region

    def expert(self, embodiment: Embodiment) -> Expert:
        """Who inserts with that robot."""
        home, gripper = home_of(embodiment, len(self.action)), embodiment.gripper
        return InsertExpert(home, gripper.opening_max, gripper.speed, self)

    def feature_names(self) -> tuple[str, ...]:
        """Names of the entries of `features`, in order."""
        return feature_names(self)

    def features(self, now: Situation, goal: Goal) -> np.ndarray:
        """What a policy sees (F,)."""
        return features(self, now, goal)

    def outcome(self, goal: Goal, now: Situation, start: Mapping[str, Stance] | None = None) -> Outcome:
        """Whether the peg is in the hole, and if not, why."""
        return outcome(self, goal, now, start)

    def trained_values(self) -> Mapping[str, TrainedValue]:
        """What a bundle may have been trained on."""
        pegs, socket = self.pegs, self.socket
        return {
            "pegs.labels": TrainedValue(pegs.labels),
            "pegs.radius_m": TrainedValue(pegs.radius_m),
            "pegs.height_m": TrainedValue(pegs.height_m),
            "pegs.region.x": TrainedValue(pegs.region.x, Rule.WITHIN),
            "pegs.region.y": TrainedValue(pegs.region.y, Rule.WITHIN),
            "pegs.min_distance_m": TrainedValue(pegs.min_distance_m, Rule.AT_LEAST),
            "socket.label": TrainedValue(socket.label),
            "socket.edge_m": TrainedValue(socket.edge_m),
            "socket.height_m": TrainedValue(socket.height_m),
            "socket.region.x": TrainedValue(socket.region.x, Rule.WITHIN),
            "socket.region.y": TrainedValue(socket.region.y, Rule.WITHIN),
            "socket.region.yaw": TrainedValue(socket.region.yaw, Rule.WITHIN),
            **workcell_values(self.workcell),
        }


def read(file: Reader) -> InsertTask:
    """The task of a file."""
    success, pegs, socket = file.section("success"), file.section("pegs"), file.section("socket")
    labels, label = read_labels(pegs), socket.text("label")
    return InsertTask(
        name=file.text("name"),
        path=file.path,
        workcell=Workcell.read(file),
        boards=Boards.none(),
        upright_cosine=success.number("upright_cosine", 0, 1),
        words=read_words(file.section("words", optional=True), (*labels, label)),
        pegs=Pegs(
            radius_m=pegs.number("radius_m", 1e-3, 0.5),
            height_m=pegs.number("height_m", 1e-3, 1),
            labels=labels,
            region=Region.read(pegs.section("region")),
            min_distance_m=pegs.number("min_distance_m", 0, 1),
        ),
        socket=Socket(
            label=label,
            edge_m=socket.number("edge_m", 1e-2, 1),
            height_m=socket.number("height_m", 1e-2, 1),
            depth_m=socket.number("depth_m", 1e-3, 1),
            clearance_m=socket.number("clearance_m", 1e-4, 0.1),
            off_m=socket.number("off_m", 0, 0.1),
            region=Region.read(socket.section("region")),
        ),
        depth_m=success.number("depth_m", 1e-3, 1),
        still_speed_m_s=success.number("still_speed_m_s", 1e-4, 10),
    )
