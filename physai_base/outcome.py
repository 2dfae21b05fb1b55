"""How things are, and what has come of a task: what truth and perception give alike, and what a task makes of it.

There is one answer for score, policy, expert, evaluation and hand-over: `Task.outcome`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from transforms3d.quaternions import quat2mat

from physai_base.errors import MissingObjectError
from physai_base.values import EndEffectorState, SceneState

NO_SUCH_GOAL = "unknown_target_or_destination"
"""The cause of an outcome that no task can have: a goal of things that are none of its own."""


@dataclass(frozen=True)
class Stance:
    """How a thing is."""

    position_m: (
        np.ndarray
    )  # (3,) its origin, base frame: the foot of what stands, the middle of a board's surface
    rotation: np.ndarray = field(default_factory=lambda: np.eye(3))  # (3, 3) its axes in the base frame
    upright: bool = True
    velocity_m_s: np.ndarray = field(default_factory=lambda: np.zeros(3))  # (3,)
    size_m: np.ndarray | None = None  # (3,) as far as it is seen; None: as its kind says

    @property
    def speed_m_s(self) -> float:
        """How fast it moves."""
        return float(np.linalg.norm(self.velocity_m_s))


@dataclass(frozen=True)
class Tool:
    """How the hand that works is: its tool points down, turned by `yaw` about the vertical."""

    position_m: np.ndarray  # (3,) base frame
    velocity_m_s: np.ndarray = field(default_factory=lambda: np.zeros(3))  # (3,)
    opening: float = 0.0  # in the gripper's own unit
    yaw: float = 0.0  # rad; 0: its x axis along the base's
    yaw_rate: float = 0.0  # rad/s
    wrench: np.ndarray = field(
        default_factory=lambda: np.zeros(6)
    )  # (6,) N, Nm: what pushes it, base frame; zeros where nobody measures that

    @staticmethod
    def of(state: EndEffectorState, twist: np.ndarray, wrench: np.ndarray | None = None) -> Tool:
        """From what a scene says of it, and what is known of it besides: `twist` (6,) m/s, rad/s, base frame."""
        turn = quat2mat(state.orientation)
        yaw = float(np.arctan2(turn[1, 0], turn[0, 0]))
        return Tool(
            state.position_m,
            twist[:3],
            state.opening,
            yaw,
            float(twist[5]),
            np.zeros(6) if wrench is None else wrench,
        )

    def row(self, action: Sequence[str]) -> np.ndarray:
        """(D - 1,) where it is, by the columns of an action without the last, which is the opening."""
        return np.array([*self.position_m, self.yaw][: len(action) - 1])


@dataclass(frozen=True)
class Situation:
    """Things by label, those that are known, and the tool."""

    things: Mapping[str, Stance]
    tool: Tool

    @property
    def tool_m(self) -> np.ndarray:
        """(3,) where the tool is, base frame."""
        return self.tool.position_m

    def require(self, label: str) -> Stance:
        """How the thing of that label is.

        Raises:
            MissingObjectError: it is not known.
        """
        if label not in self.things:
            raise MissingObjectError(f"{label.replace('_', ' ')} is not in view")
        return self.things[label]

    @staticmethod
    def perceived(
        scene: SceneState, twist: np.ndarray | None = None, wrench: np.ndarray | None = None
    ) -> Situation:
        """As perception believes it to be; `twist` (6,) of the tool instead of what the scene says, `wrench` (6,) besides."""
        things = {
            thing.label: Stance(
                thing.position_m,
                quat2mat(thing.orientation),
                thing.upright,
                thing.velocity_m_s,
                thing.size_m,
            )
            for thing in scene.objects
            if thing.believed
        }
        tool = scene.tool
        seen = np.concatenate([tool.linear_velocity_m_s, tool.angular_velocity_rad_s])
        return Situation(things, Tool.of(tool, seen if twist is None else twist, wrench))


@dataclass(frozen=True)
class Outcome:
    """What has come of a task so far. Causes are words of the task's own, for reports and programs."""

    lack: str  # what the target itself lacks, empty if nothing
    harm: str = ""  # what befell something else
    text: str = ""  # for a person

    @property
    def cause(self) -> str:
        """Why it is not done, empty when it is: harm comes first."""
        return self.harm or self.lack

    @property
    def success(self) -> bool:
        """Whether it is done."""
        return not self.cause

    def __str__(self) -> str:
        """For a person."""
        return self.text or self.cause.replace("_", " ") or "done"
