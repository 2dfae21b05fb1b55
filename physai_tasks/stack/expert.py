"""A scripted expert that puts a block on another one, turned like it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from physai_base.expert import Goal
from physai_base.outcome import Situation
from physai_tasks.carrying import CarryExpert, CarryState, Load, turned, yaw_of
from physai_tasks.stack.outcome import top_m
from physai_tasks.steering import drift, tool_velocity

if TYPE_CHECKING:
    from physai_tasks.stack.task import StackTask

OVER_M = 0.06  # of the finger tips, or of what the hand carries, above whatever stands


@dataclass(frozen=True)
class StackExpert(CarryExpert[CarryState]):
    """Fetches a block, turns it, sets it on the other one and goes home."""

    task: StackTask

    disturbed_m = 0.03

    @property
    def openings(self) -> tuple[float, float]:
        """As it closes on the smallest block, and as it goes there."""
        return min(self.task.blocks.edges_m.values()) / 2, self.open_m

    def state(self, now: Situation, goal: Goal) -> CarryState:
        """What it makes of a situation, true or perceived.

        Raises:
            MissingObjectError: one of the blocks is not known.
        """
        block, below = now.require(goal.target), now.require(goal.destination)
        place, hand = top_m(self.task, goal.destination, now), now.tool.yaw
        thing_yaw = turned(yaw_of(block), hand)
        place_hand = turned(yaw_of(below) + hand - thing_yaw, hand)  # what the hand's yaw will be there
        return CarryState(
            now.tool.row(self.task.action), tool_velocity(now.tool, len(self.task.action)), now.tool.opening,
            block.position_m, place, self._load(now, goal), drift(now, goal.target), thing_yaw,
            thing_yaw + place_hand - hand,
        )  # fmt: skip

    def _load(self, now: Situation, goal: Goal) -> Load:
        edge = self.task.blocks.edges_m[goal.target]
        others = [
            top_m(self.task, label, now)[2]
            for label in self.task.objects
            if label != goal.target and label in now.things
        ]
        highest = max(others, default=0.0)
        over = highest + edge / 2 + OVER_M
        return Load(edge / 2, edge, edge / 2, hover_m=over + edge / 2, transit_m=over, rising_m=0.02)

    def placed(self, state: CarryState) -> bool:
        """Nearer to the middle than success asks for."""
        offset = state.thing_m - state.place_m
        return bool(math.hypot(*offset[:2]) < 0.6 * self.task.aside_m and abs(offset[2]) < 0.005)
