"""What scripted experts have in common: they steer the tool to where it should be now, and say what comes of that.

An expert has no memory: what to do next follows from the state alone, so it can label any state, also one that a disturbance
or a learned policy has brought about (as in DART, Laskey et al. 2017, and DAgger, Ross et al. 2011).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from physai_base.expert import DT_S, HORIZON
from physai_base.outcome import Situation, Tool

MAX_SPEED_M_S = 0.40
MAX_ACCELERATION_M_S2 = 1.6
MAX_TURN_RAD_S, MAX_TURN_RAD_S2 = 1.0, 3.0
APPROACH_GAIN_1_S = 5.0
SUBSTEPS = 5  # of a step of a plan


class SteeringExpert(ABC):
    """Plans by steering its own idea of the world; a state has `tool` (D - 1,), `tool_velocity` (D - 1,) and what else there is."""

    horizon, dt_s = HORIZON, DT_S
    disturbed_m = 0.05

    @abstractmethod
    def decide(self, state: Any) -> tuple[np.ndarray, float]:
        """Where to steer the tool, (D - 1,), and the opening of the gripper to command."""

    @abstractmethod
    def moved(self, state: Any, tool: np.ndarray, velocity: np.ndarray, opening: float, h: float) -> Any:
        """The state after the tool went to `tool` (D - 1,) within `h` seconds while `opening` was commanded."""

    def hurry(self, state: Any, wanted: np.ndarray) -> np.ndarray:
        """The velocity (D - 1,) that is right for the state where `wanted` is what the distance asks for."""
        return wanted

    def plan(self, state: Any) -> np.ndarray:
        """Setpoints (horizon, D) at 0, dt, 2 dt, … from now."""
        steps = []
        h = self.dt_s / SUBSTEPS
        for _ in range(self.horizon):
            goal, opening = self.decide(state)
            steps.append([*state.tool, opening])
            for _ in range(SUBSTEPS):
                state = self._advance(state, goal, opening, h)
                goal, opening = self.decide(state)
        return np.array(steps)

    def _advance(self, state: Any, goal: np.ndarray, opening: float, h: float) -> Any:
        """The state `h` seconds later if the arm follows: a bounded, critically damped approach."""
        wanted = self.hurry(state, APPROACH_GAIN_1_S * (goal - state.tool))
        velocity = np.concatenate(
            [
                _approached(wanted[:3], state.tool_velocity[:3], MAX_SPEED_M_S, MAX_ACCELERATION_M_S2 * h),
                _approached(wanted[3:], state.tool_velocity[3:], MAX_TURN_RAD_S, MAX_TURN_RAD_S2 * h),
            ]
        )
        return self.moved(state, state.tool + velocity * h, velocity, opening, h)


def _approached(wanted: np.ndarray, now: np.ndarray, fastest: float, change: float) -> np.ndarray:
    speed = math.hypot(*wanted)
    if speed > fastest:
        wanted = wanted * (fastest / speed)
    step = wanted - now
    size = math.hypot(*step)
    return now + (step * (change / size) if size > change else step)


def tool_velocity(tool: Tool, columns: int) -> np.ndarray:
    """(columns - 1,) of a state."""
    return np.append(tool.velocity_m_s, tool.yaw_rate)[: columns - 1]


def drift(now: Situation, label: str, fastest_m_s: float = 0.15) -> np.ndarray:
    """(3,) m/s how a thing will go on over the table: a faster one was pushed or falls, and will stand before the hand is there."""
    velocity = now.require(label).velocity_m_s * [1, 1, 0]
    return velocity if np.linalg.norm(velocity) <= fastest_m_s else np.zeros(3)
