"""A scripted expert that fetches the sponge, rubs the stain from its farther end to the nearer one, looks, and puts the sponge down.

How hard it presses is felt: the tool is told to be lower or higher by what is missing of the force. It knows of the stain what is
seen, and the hand hides what it is rubbing: a stroke goes to the end of what was there, and off it; what is left then says where
the next one begins, so that it needs no memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.expert import Goal
from physai_base.kinematics import TOOL_DOWN, ArmKinematics, Pose
from physai_base.outcome import Situation
from physai_tasks.carrying import GRASPED_SLACK_M, CarryExpert, CarryState, Load, turned, yaw_of
from physai_tasks.steering import APPROACH_GAIN_1_S, drift, tool_velocity
from physai_tasks.wipe.outcome import clean

if TYPE_CHECKING:
    from physai_tasks.wipe.task import WipeTask

GRIP_BELOW_TOP_M = 0.015  # tool centre point in a grasp
HOVER_M = 0.09
CARRY_M = 0.05  # of the sponge's foot above the table
BEGIN_M = 0.012  # before the stain's end, of the sponge's middle
BEYOND_M = 0.006  # its other end
LIFTED_M = 0.015  # before that: what is in the air there is lifted
BESIDE_M = 0.022  # of the sponge's middle from the stain's axis: farther it is set down anew
WIPE_M_S = 0.07
TOUCHES_M = 0.008  # of its foot above the table, as well as that can be seen
DRAG_M = 0.003  # by which it is behind where it is told to be, while the sponge rubs
YIELDS = 0.75  # share of the joints' stiffness that is left at the sponge, which gives, too
CORRECTED = 0.8  # share of the force that is missing, besides
FELT_N, TOUCH_M_S = 1.5, 0.02  # from when on it is on the table, and how fast it comes there
MORE_N = 5.0  # at most beyond what is felt: what comes of it is not felt before the next plan
DEEPEST_M, LOW_M = 0.03, 0.03
SLIPS_M = 0.025  # in the hand


@dataclass(frozen=True)
class WipeState(CarryState):
    """What the expert looks at; `thing_m` is the sponge's, `place_m` the middle of what is left of the stain."""

    half_m: float = 0.0  # of its length; 0 where it is clean
    along: np.ndarray = field(default_factory=lambda: np.array([1.0, 0.0]))  # (2,) its axis
    pressing_n: float = 0.0
    contact_m: float = 0.0  # height of the tool where the sponge touches the table


@dataclass(frozen=True)
class WipeExpert(CarryExpert[WipeState]):
    """Wipes, and goes home."""

    task: WipeTask
    stiffness_n_m: tuple[np.ndarray, np.ndarray]
    """Distances from the arm's foot, m, and how much an arm that follows joint angles resists there when it is pushed upwards, N/m."""

    disturbed_m = 0.015

    @cached_property
    def load(self) -> Load:
        """How the sponge is carried."""
        sponge = self.task.sponge
        grip_m = sponge.height_m - GRIP_BELOW_TOP_M
        return Load(
            grip_m, sponge.edge_m, 0.6 * sponge.edge_m, sponge.height_m + HOVER_M, grip_m + CARRY_M, 0.015
        )

    @property
    def openings(self) -> tuple[float, float]:
        """As it closes on the sponge, and as it goes there."""
        return self.load.closed_m, self.open_m

    def state(self, now: Situation, goal: Goal) -> WipeState:
        """What it makes of a situation, true or perceived.

        Raises:
            MissingObjectError: the sponge or the stain is not known.
        """
        sponge, stain = now.require(self.task.sponge.label), now.require(goal.target)
        yaw = turned(yaw_of(sponge), now.tool.yaw)
        turn = yaw_of(stain)
        return WipeState(
            now.tool.row(self.task.action), tool_velocity(now.tool, len(self.task.action)), now.tool.opening,
            sponge.position_m, stain.position_m, self.load, drift(now, self.task.sponge.label), yaw, yaw,
            half_m=0.0 if clean(stain) or stain.size_m is None else float(stain.size_m[0]) / 2,
            along=np.array([math.cos(turn), math.sin(turn)]), pressing_n=float(now.tool.wrench[2]),
            contact_m=float(now.tool_m[2] - sponge.position_m[2]),
        )  # fmt: skip

    def holding(self, state: WipeState) -> bool:
        """Whether the hand has the sponge, which is dragged along askew."""
        offset = state.tool[:3] - state.thing_m - [0, 0, state.load.grip_m]
        around = math.hypot(*offset[:2]) < SLIPS_M and abs(offset[2]) < SLIPS_M
        return bool(around and state.opening < state.load.width_m + GRASPED_SLACK_M)

    def _stiffness(self, state: WipeState) -> float:
        return YIELDS * float(np.interp(math.hypot(*state.tool[:2]), *self.stiffness_n_m))

    def placed(self, state: WipeState) -> bool:
        """Whether the sponge is to be let go of: all is clean, and it stands on the table."""
        return state.half_m == 0.0 and state.thing_m[2] < TOUCHES_M

    def _carry(self, state: WipeState) -> tuple[np.ndarray, float]:
        closed, tool, foot = state.load.closed_m, state.tool[:3], state.thing_m
        high = state.load.transit_m
        if state.half_m == 0.0:  # straight down with it
            return state.at(np.array([*tool[:2], tool[2] - foot[2] - 0.002]), state.yaw), closed
        at, aside, way, across = stroke(foot, state.place_m, state.along)
        begin = state.place_m[:2] - way * (state.half_m + BEGIN_M)
        near = -state.half_m - BEGIN_M - 0.012 < at < state.half_m + BEYOND_M and abs(aside) < BESIDE_M
        grip = tool[:2] - foot[:2]
        if foot[2] < TOUCHES_M and near:
            aim_n = self.task.rubbing.aim_n
            if state.pressing_n < FELT_N:  # not on the table yet, whatever is seen
                return state.at(
                    np.array([*tool[:2], tool[2] - TOUCH_M_S / APPROACH_GAIN_1_S]), state.yaw
                ), closed
            force_n = min(aim_n + CORRECTED * (aim_n - state.pressing_n), state.pressing_n + MORE_N)
            lower = float(np.clip(force_n / self._stiffness(state), 0.0, DEEPEST_M))
            lead = (WIPE_M_S / APPROACH_GAIN_1_S + DRAG_M) * min(
                1.0, max(state.pressing_n, 0.0) / self.task.rubbing.force_n[0]
            )
            xy = tool[:2] + way * lead - across * aside * 0.5
            return state.at(np.array([*xy, state.contact_m - lower]), state.yaw), closed
        away = math.dist(foot[:2], begin)
        going_on = near and foot[2] < 0.02 and at < state.half_m - LIFTED_M
        if (near and away < 0.012) or going_on:
            slow = max(-0.05, -0.02 - 1.5 * foot[2])
            return state.at(np.array([*tool[:2], tool[2] + slow / APPROACH_GAIN_1_S]), state.yaw), closed
        if tool[2] < high - state.load.rising_m and away > 0.02:
            return state.at(np.array([*tool[:2], high]), state.yaw), closed
        return state.at(np.array([*(begin + grip), high]), state.yaw), closed

    def moved(
        self, state: WipeState, tool: np.ndarray, velocity: np.ndarray, opening: float, h: float
    ) -> WipeState:
        """As of any thing; the sponge stays on the table. What it leaves behind is not foreseen, but looked at."""
        after = super().moved(state, tool, velocity, opening, h)
        if after.thing_m[2] >= 0 or not self.holding(state):
            return after
        return replace(
            after, thing_m=np.array([*after.thing_m[:2], 0.0]),
            pressing_n=state.pressing_n + (self.task.rubbing.aim_n - state.pressing_n) * min(1.0, 8 * h),
        )  # fmt: skip


def stroke(
    foot_m: np.ndarray, stain_m: np.ndarray, along: np.ndarray
) -> tuple[float, float, np.ndarray, np.ndarray]:
    """The sponge along the way of a stroke and across it, m from the stain's middle, and these two directions (2,).

    It goes towards the arm's own foot: what the hand leaves behind lies before it then, where cameras see it.
    """
    way = along if along[0] < 0 else -along
    across = np.array([-way[1], way[0]])
    offset = (foot_m - stain_m)[:2]
    return float(offset @ way), float(offset @ across), way, across


def stiffness_of(embodiment: Embodiment) -> tuple[np.ndarray, np.ndarray]:
    """See `WipeExpert.stiffness_n_m`: 1 / (J K^-1 J^T) of the vertical, the tool low and pointing down, straight ahead."""
    kinematics, distances = ArmKinematics(embodiment), np.linspace(0.35, 0.65, 7)
    gives, found = 1.0 / embodiment.limits("stiffness"), []
    for distance in distances:
        pose = Pose(np.array([distance, 0.0, LOW_M]), TOOL_DOWN)
        row = kinematics.jacobian(kinematics.inverse(pose, embodiment.home, embodiment.home))[2]
        found.append(1.0 / float(row @ (gives * row)))
    return distances, np.array(found)
