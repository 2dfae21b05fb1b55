"""The drawer's handle, and where in the drawer things are, from the pose of cabinet and front."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from physai_base.outcome import Situation, Stance

if TYPE_CHECKING:
    from physai_tasks.drawer.task import DrawerTask

# Of the handle, an upright plate: length, thickness, height, and height of its middle.
HANDLE_M = (0.080, 0.012, 0.045, 0.045)
BOTTOM_M = 0.010  # inside the drawer, above the table
IN_M = (0.02, 0.095)  # behind the front's middle: where a thing in the drawer may be, while that is open
ASIDE_M = 0.06


@dataclass(frozen=True)
class DrawerPose:
    """The drawer as it is."""

    front_m: np.ndarray  # (3,) the foot of its front's middle
    out: np.ndarray  # (2,) the direction in which it opens
    opening_m: float
    yaw: float  # of the cabinet
    thick_m: float  # of the front

    @staticmethod
    def of(task: DrawerTask, now: Situation) -> DrawerPose:
        """From what is seen of cabinet and front.

        Raises:
            MissingObjectError: one of them is unknown.
        """
        cabinet, front = now.require(task.cabinet.label), now.require(task.cabinet.drawer)
        yaw = facing(cabinet)
        out = -np.array([math.cos(yaw), math.sin(yaw)])
        closed = (task.cabinet.size_m[0] + task.cabinet.front_m[0]) / 2
        opening = float((front.position_m - cabinet.position_m)[:2] @ out) - closed
        # The cabinet says better how it is turned, the front how far it is out.
        middle = cabinet.position_m[:2] + (closed + opening) * out
        return DrawerPose(
            np.array([*middle, cabinet.position_m[2]]), out, opening, yaw, task.cabinet.front_m[0]
        )

    @property
    def handle_m(self) -> np.ndarray:
        """(3,) the middle of its handle."""
        return np.array(
            [*(self.front_m[:2] + self.out * (self.thick_m + HANDLE_M[0]) / 2), self.front_m[2] + HANDLE_M[3]]
        )

    @property
    def inside_m(self) -> np.ndarray:
        """(3,) the middle of its bottom, where it is open."""
        return np.array([*(self.front_m[:2] - self.out * sum(IN_M) / 2), self.front_m[2] + BOTTOM_M])

    def holds(self, thing_m: np.ndarray, deepest_m: float) -> bool:
        """Whether something at (3,) is in it; `deepest_m` behind the front it is still in."""
        offset = thing_m - self.front_m
        behind = float(-offset[:2] @ self.out)
        aside = float(offset[:2] @ np.array([-self.out[1], self.out[0]]))
        return bool(0.0 < behind < deepest_m and abs(aside) < ASIDE_M + 0.02 and -0.005 < offset[2] < 0.035)


def facing(cabinet: Stance) -> float:
    """The cabinet's yaw, next to straight: it looks the same from behind."""
    yaw = math.atan2(cabinet.rotation[1, 0], cabinet.rotation[0, 0])
    return yaw - math.pi * round(yaw / math.pi)
