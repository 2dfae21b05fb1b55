"""A scripted expert that puts a cup on a shelf level, from the simulator's truth."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from physai_base.expert import Goal
from physai_base.outcome import Situation, Stance
from physai_tasks.cups.outcome import Cause, placement
from physai_tasks.steering import SteeringExpert, drift

if TYPE_CHECKING:
    from physai_tasks.cups.task import CupTask

BELOW_RIM_M = 0.040  # tool centre point in a grasp; the palm is farther away than that
HOVER_M = 0.10  # empty hand above the rims of standing cups
TRANSIT_M = 0.07  # foot of a carried cup above the top level
GRASPED_SLACK_M = 0.003
ALIGNED_M = 0.006
# Downwards, close above a cup. One that is put elsewhere in that moment is met by a finger before anybody can know: a slow
# finger has time to be called back before the controller stops it.
DESCENT_M_S, DESCENT_HEIGHT_M = 0.10, 0.075


def grasp_height_m(task: CupTask) -> float:
    """Of the tool centre point above the foot of a cup that is held; of a low cup its middle."""
    return round(max(task.cups.height_m - BELOW_RIM_M, task.cups.height_m / 2), 6)


@dataclass(frozen=True)
class CupState:
    """What the expert looks at; positions in the base frame."""

    tcp_m: np.ndarray  # (3,)
    tcp_velocity_m_s: np.ndarray  # (3,)
    gripper_width_m: float
    cup_m: np.ndarray  # (3,) foot of the cup to move
    place_m: np.ndarray  # (3,) where the foot shall stand
    cup_velocity_m_s: np.ndarray = field(default_factory=lambda: np.zeros(3))  # while nobody holds it

    @property
    def tool(self) -> np.ndarray:
        """(3,) m."""
        return self.tcp_m

    @property
    def tool_velocity(self) -> np.ndarray:
        """(3,) m/s."""
        return self.tcp_velocity_m_s


@dataclass(frozen=True)
class CupExpert(SteeringExpert):
    """Fetches a cup, carries it over the shelf, sets it down and goes home."""

    task: CupTask
    home_m: np.ndarray  # (3,) where the tool rests when the job is done
    open_width_m: float
    gripper_speed_m_s: float

    @cached_property
    def _grasp_m(self) -> float:
        return grasp_height_m(self.task)

    @cached_property
    def _hover_m(self) -> float:
        return round(self.task.cups.height_m + HOVER_M, 6)

    @cached_property
    def _transit_m(self) -> float:
        return round(self.task.boards.heights_m[-1] + self._grasp_m + TRANSIT_M, 6)

    @property
    def _closed_m(self) -> float:
        """Commanded width; the force limit decides on a cup."""
        return self.task.cups.radius_m

    @property
    def openings(self) -> tuple[float, float]:
        """As it closes on a cup, and as it goes there."""
        return self._closed_m, self.open_width_m

    def state(self, now: Situation, goal: Goal) -> CupState:
        """What it makes of a situation, true or perceived.

        Raises:
            MissingObjectError: the cup or the board is not known.
        """
        cup, board = now.require(goal.target), now.require(goal.destination)
        return CupState(
            now.tool_m, now.tool.velocity_m_s, now.tool.opening, cup.position_m, board.position_m,
            drift(now, goal.target),
        )  # fmt: skip

    def decide(self, state: CupState) -> tuple[np.ndarray, float]:
        """The tool position to steer to and the gripper width to command."""
        if self.placed(state):
            return self._leave(state)
        if self._holding(state):
            return self._carry(state)
        return self._fetch(state)

    def placed(self, state: CupState) -> bool:
        """Whether the cup is where it is let go of: nearer to the middle than success asks for."""
        offset = state.cup_m - state.place_m
        return bool(math.hypot(*offset[:2]) < 0.025 and abs(offset[2]) < 0.006)

    def finished(self, state: CupState) -> bool:
        """Whether the task is done, by the measure of everyone."""
        cup = Stance(state.cup_m, velocity_m_s=state.cup_velocity_m_s)
        return placement(self.task, cup, Stance(state.place_m), state.tcp_m) is Cause.NONE

    def _holding(self, state: CupState) -> bool:
        grasp = state.cup_m + [0, 0, self._grasp_m]
        offset = state.tcp_m - grasp
        around = math.hypot(*offset[:2]) < 0.015 and abs(offset[2]) < 0.03
        return bool(around and state.gripper_width_m < 2 * self.task.cups.radius_m + GRASPED_SLACK_M)

    def _leave(self, state: CupState) -> tuple[np.ndarray, float]:
        near = math.dist(state.tcp_m[:2], state.cup_m[:2]) < 0.06
        low = state.tcp_m[2] < state.cup_m[2] + self._grasp_m + 0.09
        if near and state.gripper_width_m < self.open_width_m - 0.005:
            return state.tcp_m, self.open_width_m
        if near and low:
            return np.array([*state.tcp_m[:2], state.tcp_m[2] + 0.2]), self.open_width_m
        return self.home_m, self.open_width_m

    def _carry(self, state: CupState) -> tuple[np.ndarray, float]:
        place = state.place_m + [0, 0, self._grasp_m]
        away = math.dist(state.cup_m[:2], state.place_m[:2])
        if away > ALIGNED_M:
            # Rise first, then travel; the closer to the goal, the lower it may already be.
            height = max(
                place[2] + 0.03 + min(1.0, away / 0.06) * 0.06, self._transit_m if away > 0.06 else 0
            )
            if state.tcp_m[2] < height - 0.06:
                return np.array([*state.tcp_m[:2], height]), self._closed_m
            # The grasp is not always centred: steer the cup, not the tool.
            xy = state.tcp_m[:2] + state.place_m[:2] - state.cup_m[:2]
            return np.array([*xy, height]), self._closed_m
        xy = state.tcp_m[:2] + state.place_m[:2] - state.cup_m[:2]
        return np.array([*xy, state.tcp_m[2] + state.place_m[2] - state.cup_m[2] - 0.004]), self._closed_m

    def _fetch(self, state: CupState) -> tuple[np.ndarray, float]:
        grasp = state.cup_m + [0, 0, self._grasp_m]
        away = math.dist(state.tcp_m[:2], grasp[:2])
        if away < 2 * ALIGNED_M and state.tcp_m[2] < grasp[2] + 0.008:
            return grasp, self._closed_m
        if away < ALIGNED_M or (away < 2 * ALIGNED_M and state.tcp_m[2] < grasp[2] + 0.06):
            return grasp, self.open_width_m
        hover = max(self._hover_m, grasp[2] + 0.10)
        if away < 0.06 and state.tcp_m[2] < grasp[2] + 0.045:
            # A finger beside the cup or on its rim: up and off it before anything else.
            return np.array([*state.tcp_m[:2], hover]), self.open_width_m
        if away < 0.06:
            # A funnel above the cup, so that descending and aligning overlap.
            hover = grasp[2] + 0.055 + (hover - grasp[2] - 0.055) * max(0.0, (away - 0.015) / 0.045)
        elif state.tcp_m[2] < hover - 0.05:
            return np.array([*state.tcp_m[:2], hover]), self.open_width_m
        return np.array([*grasp[:2], hover]), self.open_width_m

    def hurry(self, state: CupState, wanted: np.ndarray) -> np.ndarray:
        """A cup that moves is followed without lag, and the hand comes down on it slowly."""
        if self._holding(state) or self.placed(state):
            return wanted
        wanted = wanted + state.cup_velocity_m_s
        above = state.tcp_m - state.cup_m - [0, 0, self._grasp_m]
        if math.hypot(*above[:2]) < 0.06 and above[2] < DESCENT_HEIGHT_M:
            wanted[2] = max(wanted[2], -DESCENT_M_S)
        return wanted

    def moved(
        self, state: CupState, tool: np.ndarray, velocity: np.ndarray, opening: float, h: float
    ) -> CupState:
        """The state after the tool went to `tool` (3,) within `h` seconds while `opening` was commanded."""
        tcp_m, width = tool, opening
        holding = self._holding(state) and width < 2 * self.task.cups.radius_m
        cup = state.cup_m + (tcp_m - state.tcp_m if holding else h * state.cup_velocity_m_s)
        if holding and self.placed(replace(state, cup_m=cup)):
            cup = np.array([*cup[:2], max(cup[2], state.place_m[2])])
        reach = self.gripper_speed_m_s * h
        gripper = state.gripper_width_m + float(np.clip(width - state.gripper_width_m, -reach, reach))
        grasp = state.cup_m + [0, 0, self._grasp_m]
        if math.dist(state.tcp_m[:2], grasp[:2]) < 0.02 and abs(state.tcp_m[2] - grasp[2]) < 0.04:
            gripper = max(gripper, 2 * self.task.cups.radius_m)
        drift = np.zeros(3) if holding else state.cup_velocity_m_s
        return CupState(tcp_m, velocity, gripper, cup, state.place_m, drift)
