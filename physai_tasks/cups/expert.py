"""A scripted expert that puts a cup on a shelf level."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from physai_base.expert import Goal
from physai_base.outcome import Situation, Stance
from physai_tasks.carrying import CarryExpert, CarryState, Load
from physai_tasks.cups.outcome import Cause, placement
from physai_tasks.steering import drift

if TYPE_CHECKING:
    from physai_tasks.cups.task import CupTask

BELOW_RIM_M = 0.040  # tool centre point in a grasp; the palm is farther away than that
HOVER_M = 0.10  # empty hand above the rims of standing cups
TRANSIT_M = 0.07  # foot of a carried cup above the top level


def grasp_height_m(task: CupTask) -> float:
    """Of the tool centre point above the foot of a cup that is held; of a low cup its middle."""
    return round(max(task.cups.height_m - BELOW_RIM_M, task.cups.height_m / 2), 6)


@dataclass(frozen=True)
class CupExpert(CarryExpert[CarryState]):
    """Fetches a cup, carries it over the shelf, sets it down and goes home."""

    task: CupTask

    @cached_property
    def load(self) -> Load:
        """How a cup is carried."""
        cups, grip_m = self.task.cups, grasp_height_m(self.task)
        return Load(
            grip_m=grip_m,
            width_m=2 * cups.radius_m,
            closed_m=cups.radius_m,
            hover_m=round(cups.height_m + HOVER_M, 6),
            transit_m=round(self.task.boards.heights_m[-1] + grip_m + TRANSIT_M, 6),
        )

    @property
    def openings(self) -> tuple[float, float]:
        """As it closes on a cup, and as it goes there."""
        return self.load.closed_m, self.open_m

    def state(self, now: Situation, goal: Goal) -> CarryState:
        """What it makes of a situation, true or perceived.

        Raises:
            MissingObjectError: the cup or the board is not known.
        """
        cup, board = now.require(goal.target), now.require(goal.destination)
        return CarryState(
            now.tool_m, now.tool.velocity_m_s, now.tool.opening, cup.position_m, board.position_m, self.load,
            drift(now, goal.target),
        )  # fmt: skip

    def finished(self, state: CarryState) -> bool:
        """Whether the task is done, by the measure of everyone."""
        cup = Stance(state.thing_m, velocity_m_s=state.thing_velocity_m_s)
        return placement(self.task, cup, Stance(state.place_m), state.tool) is Cause.NONE
