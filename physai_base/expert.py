"""Who shows how a task is done: a scripted expert, as a contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from physai_base.outcome import Situation

HORIZON, DT_S = 16, 0.05  # of the chunks that are recorded and learned: setpoints, and s between them


@dataclass(frozen=True)
class Goal:
    """What to do: with which thing, and where it shall be; nowhere (empty) where a task has no such."""

    target: str
    destination: str = ""


class ExpertState(Protocol):
    """What an expert looks at; what else there is, it alone knows."""

    @property
    def tool(self) -> np.ndarray:
        """(D - 1,) by the columns of the task's action but the last: m, and rad of a yaw; base frame."""
        ...

    @property
    def tool_velocity(self) -> np.ndarray:
        """(D - 1,) m/s, and rad/s."""
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
    def disturbed_m(self) -> float:
        """How far demonstrations are led astray, so that they show the way back."""
        ...

    @property
    def openings(self) -> tuple[float, float]:
        """The least and the greatest opening of the gripper that it commands."""
        ...

    def state(self, now: Situation, goal: Goal) -> ExpertState:
        """What it makes of a situation, true or perceived.

        Raises:
            MissingObjectError: the target or the destination is not known.
        """
        ...

    def plan(self, state: Any) -> np.ndarray:
        """Setpoints (horizon, D), named by the task's action, at 0, dt, 2 dt, … from now."""
        ...

    def moved(
        self, state: Any, tool: np.ndarray, velocity: np.ndarray, opening: float, h: float
    ) -> ExpertState:
        """The state after the tool went to `tool` (D - 1,) within `h` seconds while `opening` was commanded."""
        ...
