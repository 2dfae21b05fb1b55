"""A scripted expert that puts a jar on the mark: where things are and how they are held; the rest is `CarryExpert`'s."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from physai_base.expert import Goal
from physai_base.outcome import Situation
from physai_tasks.carrying import CarryExpert, CarryState, Load
from physai_tasks.steering import drift

if TYPE_CHECKING:
    from physai_lab.tasks.template.task import TemplateTask

BELOW_TOP_M = 0.035  # of the tool in a grasp; the palm is farther away than that
OVER_M = 0.08  # of an empty hand's tool, and of a carried jar's foot, above the tops of what stands


def grip_height_m(task: TemplateTask) -> float:
    """Of the tool above the foot of a jar that is held; of a low one its middle."""
    return max(task.jars.height_m - BELOW_TOP_M, task.jars.height_m / 2)


@dataclass(frozen=True)
class TemplateExpert(CarryExpert[CarryState]):
    """Fetches a jar, sets it on the mark and goes home."""

    task: TemplateTask

    @cached_property
    def load(self) -> Load:
        """How a jar is carried."""
        jars, grip_m = self.task.jars, grip_height_m(self.task)
        high = jars.height_m + OVER_M
        return Load(grip_m, 2 * jars.radius_m, jars.radius_m, hover_m=high, transit_m=high + grip_m)

    @property
    def openings(self) -> tuple[float, float]:
        """As it closes on a jar, and as it goes there."""
        return self.load.closed_m, self.open_m

    def state(self, now: Situation, goal: Goal) -> CarryState:
        """What it makes of a situation, true or perceived.

        Raises:
            MissingObjectError: the jar or the mark is not known.
        """
        jar, mark = now.require(goal.target), now.require(goal.destination)
        return CarryState(
            now.tool_m,
            now.tool.velocity_m_s,
            now.tool.opening,
            jar.position_m,
            mark.position_m,
            self.load,
            drift(now, goal.target),
        )
