"""A scripted expert that fetches a peg, sets it on the block where the hole should be and feels for the hole.

It presses lightly and goes outwards along an Archimedean spiral. Where on the spiral it is follows from where the peg is, so that
it needs no memory; what it presses with is felt. When the peg has sunk in, it goes straight down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from physai_base.expert import Goal
from physai_base.outcome import Situation
from physai_tasks.carrying import CarryExpert, CarryState, Load
from physai_tasks.steering import APPROACH_GAIN_1_S, drift

if TYPE_CHECKING:
    from physai_tasks.insert.task import InsertTask

GRIP_BELOW_TOP_M = 0.025  # tool centre point in a grasp
HOVER_M, TRANSIT_M = 0.09, 0.06
OVER_M = 0.012  # of the peg's foot above the block where it is centred
SUNK_M = 0.004  # below the block's top: it is in
TOUCHES_M = 0.0025  # above it: it is on the block, as well as that can be seen
PITCH_M = 0.0014  # of the spiral, from one turn to the next
FARTHEST_M = 0.0055  # of the spiral from the middle; beyond it begins anew
SEARCH_M_S = 0.016  # along the spiral
SEARCH_RAD = 0.5  # at most so far around: near the middle a hand that hears late would run in circles
PRESS_N = 3.0
PRESS_M_N = 0.0006  # how much lower the tool is told to be for each newton that is missing
DEEPEST_M = 0.012  # below where it is
PUSH_IN_M_S = 0.05
DEEP_ENOUGH_M = 0.002  # beyond what counts as in


@dataclass(frozen=True)
class InsertState(CarryState):
    """What the expert looks at; `place_m` is where the peg's foot shall be at last."""

    top_m: float = 0.0  # of the block
    pressing_n: float = 0.0  # upwards, on the tool
    hole_m: np.ndarray = field(default_factory=lambda: np.zeros(2))  # (2,) where it should be


@dataclass(frozen=True)
class InsertExpert(CarryExpert[InsertState]):
    """Fetches a peg, puts it into the hole and goes home."""

    task: InsertTask

    disturbed_m = 0.02

    @cached_property
    def load(self) -> Load:
        """How a peg is carried."""
        pegs, top = self.task.pegs, self.task.socket.height_m
        grip_m = pegs.height_m - GRIP_BELOW_TOP_M
        return Load(
            grip_m,
            2 * pegs.radius_m,
            pegs.radius_m,
            pegs.height_m + HOVER_M,
            max(top, 0.0) + grip_m + TRANSIT_M,
            0.02,
        )

    @property
    def openings(self) -> tuple[float, float]:
        """As it closes on a peg, and as it goes there."""
        return self.load.closed_m, self.open_m

    def state(self, now: Situation, goal: Goal) -> InsertState:
        """What it makes of a situation, true or perceived.

        Raises:
            MissingObjectError: the peg or the socket is not known.
        """
        peg, socket = now.require(goal.target), now.require(goal.destination)
        top = socket.position_m[2] + self.task.socket.height_m
        bottom = np.array([*socket.position_m[:2], top - self.task.socket.depth_m])
        return InsertState(
            now.tool_m, now.tool.velocity_m_s, now.tool.opening, peg.position_m, bottom, self.load,
            drift(now, goal.target), top_m=top, pressing_n=float(now.tool.wrench[2]), hole_m=socket.position_m[:2],
        )  # fmt: skip

    def sunk(self, state: InsertState) -> bool:
        """Whether the peg's foot is in the hole."""
        away = math.dist(state.thing_m[:2], state.hole_m)
        return away < 2 * FARTHEST_M and state.thing_m[2] < state.top_m - SUNK_M

    def placed(self, state: InsertState) -> bool:
        """Whether it is deep enough to be let go."""
        return self.sunk(state) and state.thing_m[2] < state.top_m - self.task.depth_m - DEEP_ENOUGH_M

    def _carry(self, state: InsertState) -> tuple[np.ndarray, float]:
        load, closed = state.load, state.load.closed_m
        foot_over = state.thing_m[2] - state.top_m
        if self.sunk(state):  # straight down, the peg finds its way
            return np.array([*state.tool[:2], state.tool[2] - PUSH_IN_M_S / APPROACH_GAIN_1_S]), closed
        away = math.dist(state.thing_m[:2], state.hole_m)
        aside = state.tool[:2] - state.thing_m[:2]  # of the tool, from a peg that sits askew in the hand
        if away > FARTHEST_M or (foot_over > OVER_M + 0.006 and away > 0.002):
            height = state.top_m + load.grip_m + OVER_M + min(1.0, away / 0.06) * 0.05
            if away > 0.06:
                height = max(height, load.transit_m)
            if state.tool[2] < height - (load.rising_m if away > 0.02 else 0.008):
                return np.array([*state.tool[:2], height]), closed
            return np.array([*(state.hole_m + aside), height]), closed
        if foot_over > TOUCHES_M:
            slow = max(-0.06, -0.02 - 2.0 * foot_over)
            return np.array([*(state.tool[:2]), state.tool[2] + slow / APPROACH_GAIN_1_S]), closed
        lower = float(np.clip(PRESS_M_N * (PRESS_N - state.pressing_n), -0.004, DEEPEST_M))
        ahead = search(state.thing_m[:2] - state.hole_m, SEARCH_M_S / APPROACH_GAIN_1_S)
        return np.array([*(state.hole_m + ahead + aside), state.tool[2] - lower]), closed

    def moved(
        self, state: InsertState, tool: np.ndarray, velocity: np.ndarray, opening: float, h: float
    ) -> InsertState:
        """As of any thing; a peg that meets the block stays on it, for where the hole is nobody knows."""
        after = super().moved(state, tool, velocity, opening, h)
        over_block = math.dist(after.thing_m[:2], state.hole_m) < 0.03
        if over_block and not self.sunk(state) and after.thing_m[2] < state.top_m:
            low = state.top_m - after.thing_m[2]
            after = replace(
                after,
                thing_m=after.thing_m + [0, 0, low],
                pressing_n=state.pressing_n + (PRESS_N - state.pressing_n) * 5 * h,
            )
        return after


def search(offset_m: np.ndarray, step_m: float) -> np.ndarray:
    """(2,) where to go next from there, both from where the hole should be: on, `step_m` along the spiral r = pitch angle / 2 pi."""
    radius, angle = math.hypot(*offset_m), math.atan2(offset_m[1], offset_m[0])
    turns = max(0, round(radius / PITCH_M - angle / (2 * math.pi)))
    angle += 2 * math.pi * turns
    angle = max(angle, 0.0)
    if PITCH_M * angle / (2 * math.pi) > FARTHEST_M - PITCH_M:
        return np.zeros(2)  # in vain: once more
    angle += min(step_m / max(PITCH_M * angle / (2 * math.pi), 0.5 * PITCH_M), SEARCH_RAD)
    return PITCH_M * angle / (2 * math.pi) * np.array([math.cos(angle), math.sin(angle)])
