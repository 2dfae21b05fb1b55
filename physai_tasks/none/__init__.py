"""No task: a robot on its table, to be brought up, moved and recorded by whoever sends chunks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.errors import TaskError
from physai_base.expert import Goal
from physai_base.outcome import NO_SUCH_GOAL, Outcome, Situation, Stance
from physai_base.reader import Reader
from physai_base.task import Boards, Kind, Region, Task, TrainedValue
from physai_base.workcell import DICTIONARIES, Markers, Workcell

if TYPE_CHECKING:
    import mujoco


class EmptyCell:
    """Nothing stands there."""

    def build(self, spec: mujoco.MjSpec) -> None:
        """Nothing."""

    def reset(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """Nothing."""

    def randomize(
        self, part: str, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator
    ) -> None:
        """Nothing."""


@dataclass(frozen=True)
class NoTask(Task):
    """Nothing may be moved, and nothing asked for."""

    @property
    def objects(self) -> tuple[str, ...]:
        """None."""
        return ()

    @property
    def places(self) -> tuple[str, ...]:
        """None."""
        return ()

    @property
    def cell(self) -> EmptyCell:
        """Nothing is built."""
        return EmptyCell()

    def kind(self, label: str) -> Kind:
        """There is none."""
        self._refuse(f"there is no {label}")

    def region(self, label: str) -> Region:
        """There is none."""
        self._refuse(f"there is no {label}")

    def expert(self, embodiment: Embodiment) -> NoReturn:
        """There is none."""
        self._refuse("nobody demonstrates it")

    def feature_names(self) -> tuple[str, ...]:
        """None."""
        return ()

    def features(self, now: Situation, goal: Goal) -> np.ndarray:
        """None (0,)."""
        return np.zeros(0, np.float32)

    def outcome(self, goal: Goal, now: Situation, start: Mapping[str, Stance] | None = None) -> Outcome:
        """Whatever the goal, it is none of this task's."""
        return Outcome(NO_SUCH_GOAL)

    def trained_values(self) -> Mapping[str, TrainedValue]:
        """None."""
        return {}

    def _refuse(self, why: str) -> NoReturn:
        raise TaskError(f"{self.path}: this is no task, {why}: give a task")


def read(file: Reader) -> NoTask:
    """A table, and no markers on it."""
    table = file.section("table")
    x, y = table.bounds("x"), table.bounds("y")
    high = np.array([x[1], y[1], 2.0])
    workcell = Workcell(x, y, Markers(DICTIONARIES[0], 0.1, {}), np.array([x[0], y[0], 0.0]), high)
    return NoTask(
        name=file.text("name"),
        path=file.path,
        workcell=workcell,
        boards=Boards.none(),
        upright_cosine=1.0,
        words={},
    )
