"""Who shows how a task is done: a scripted expert, as a contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from physai_base.outcome import Situation

HORIZON, DT_S = 16, 0.05  # of the chunks that are recorded and learned: setpoints, and s between them


@dataclass(frozen=True)
class Goal:
    """What to do: which thing, and where it shall be."""

    target: str
    destination: str


class ExpertState(Protocol):
    """What an expert looks at; what else there is, it alone knows."""

    @property
    def tcp_m(self) -> np.ndarray:
        """(3,) m, base frame."""
        ...

    @property
    def tcp_velocity_m_s(self) -> np.ndarray:
        """(3,) m/s."""
        ...


class Expert(Protocol):
    """Plans from a state alone, without memory: it can label any state, also one that a disturbance has brought about."""

    @property
    def horizon(self) -> int:
        """Setpoints of a plan."""
        ...

    @property
    def dt_s(self) -> float:
        """Between them."""
        ...

    @property
    def openings(self) -> tuple[float, float]:
        """The least and the greatest opening of the gripper that it commands."""
        ...

    def state(
        self, now: Situation, goal: Goal, tool_velocity_m_s: np.ndarray, gripper_width_m: float
    ) -> ExpertState:
        """What it makes of a situation, true or perceived.

        Raises:
            MissingObjectError: the target or the destination is not known.
        """
        ...

    def plan(self, state: Any) -> np.ndarray:
        """Setpoints (horizon, 4): tool x, y, z (m) and gripper width (m) at 0, dt, 2 dt, … from now."""
        ...

    def moved(
        self, state: Any, tcp_m: np.ndarray, velocity: np.ndarray, width: float, h: float
    ) -> ExpertState:
        """The state after the tool went to `tcp_m` within `h` seconds while `width` was commanded."""
        ...
