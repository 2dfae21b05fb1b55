"""A scripted expert that fetches a thing from above, carries it somewhere, sets it down and goes home.

Where the action has a yaw, the fingers are turned to the thing's sides first, and the thing to its place's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.kinematics import ArmKinematics
from physai_base.outcome import Stance
from physai_tasks.steering import SteeringExpert

GRASPED_SLACK_M = 0.003
ALIGNED_M, ALIGNED_RAD = 0.006, 0.06
# Downwards, close above a thing. One that is put elsewhere in that moment is met by a finger before anybody can know: a slow
# finger has time to be called back before the controller stops it.
DESCENT_M_S, DESCENT_HEIGHT_M = 0.10, 0.075


@dataclass(frozen=True)
class Load:
    """How a thing is carried."""

    grip_m: float  # of the tool above the thing's origin while it is held
    width_m: float  # of the hand around it
    closed_m: float  # width that is commanded to hold it: the force limit decides
    hover_m: float  # of the tool above the table: an empty hand over whatever stands
    transit_m: float  # of the tool above the table: a loaded one over whatever stands
    rising_m: float = 0.06  # it may travel so much below `transit_m` and go on rising


@dataclass(frozen=True)
class CarryState:
    """What the expert looks at; positions in the base frame."""

    tool: np.ndarray  # (D - 1,) m, and rad
    tool_velocity: np.ndarray  # (D - 1,)
    opening: float
    thing_m: np.ndarray  # (3,) origin of the thing to move
    place_m: np.ndarray  # (3,) where that shall be
    load: Load
    thing_velocity_m_s: np.ndarray = field(default_factory=lambda: np.zeros(3))  # while nobody holds it
    thing_yaw: float = 0.0  # rad; of the sides that the fingers take, next to the tool's yaw
    place_yaw: float = 0.0  # rad; of the place, next to the thing's

    @property
    def turns(self) -> bool:
        """Whether the hand is turned."""
        return len(self.tool) > 3

    def at(self, xyz: np.ndarray, yaw: float) -> np.ndarray:
        """(D - 1,) a place to steer to."""
        return np.append(xyz, yaw) if self.turns else xyz

    @property
    def yaw(self) -> float:
        """Of the tool."""
        return float(self.tool[3]) if self.turns else 0.0

    @property
    def across(self) -> bool:
        """Whether the fingers are not turned to the thing's sides."""
        return self.turns and abs(self.thing_yaw - self.yaw) > ALIGNED_RAD


State = TypeVar("State", bound=CarryState)
FARTHEST_TURN_RAD = 0.9  # of the hand from straight ahead


@dataclass(frozen=True)
class CarryExpert(SteeringExpert, Generic[State]):
    """Steers the hand; where things are and how they are held says the state, which a task's own expert makes."""

    home: np.ndarray  # (D - 1,) where the tool rests when the job is done
    open_m: float
    gripper_speed: float  # m/s

    def decide(self, state: State) -> tuple[np.ndarray, float]:
        """Where to steer the tool, and the width to command."""
        if self.placed(state):
            return self._leave(state)
        if self.holding(state):
            return self._carry(state)
        return self._fetch(state)

    def placed(self, state: State) -> bool:
        """Whether the thing is where it is let go of: nearer to the middle than success asks for."""
        offset = state.thing_m - state.place_m
        return bool(math.hypot(*offset[:2]) < 0.025 and abs(offset[2]) < 0.006)

    def holding(self, state: State) -> bool:
        """Whether the hand has it."""
        grasp = state.thing_m + [0, 0, state.load.grip_m]
        offset = state.tool[:3] - grasp
        around = math.hypot(*offset[:2]) < 0.015 and abs(offset[2]) < 0.03
        return bool(around and state.opening < state.load.width_m + GRASPED_SLACK_M)

    def _leave(self, state: State) -> tuple[np.ndarray, float]:
        near = math.dist(state.tool[:2], state.thing_m[:2]) < 0.06
        low = state.tool[2] < state.thing_m[2] + state.load.grip_m + 0.09
        if near and state.opening < self.open_m - 0.005:
            return state.tool, self.open_m
        if near and low:
            return state.at(np.array([*state.tool[:2], state.tool[2] + 0.2]), state.yaw), self.open_m
        return self.home, self.open_m

    def _carry(self, state: State) -> tuple[np.ndarray, float]:
        load, yaw = state.load, state.yaw + state.place_yaw - state.thing_yaw
        place = state.place_m + [0, 0, load.grip_m]
        away = math.dist(state.thing_m[:2], state.place_m[:2])
        # The grasp is not always centred: steer the thing, not the tool.
        xy = state.tool[:2] + state.place_m[:2] - state.thing_m[:2]
        askew = state.turns and abs(state.place_yaw - state.thing_yaw) > ALIGNED_RAD
        if away > ALIGNED_M or askew:
            # Rise first, then travel; the closer to the goal, the lower it may already be.
            height = max(place[2] + 0.03 + min(1.0, away / 0.06) * 0.06, load.transit_m if away > 0.06 else 0)
            if state.tool[2] < height - load.rising_m:
                return state.at(np.array([*state.tool[:2], height]), state.yaw), load.closed_m
            return state.at(np.array([*xy, height]), yaw), load.closed_m
        down = state.tool[2] + state.place_m[2] - state.thing_m[2] - 0.004
        return state.at(np.array([*xy, down]), yaw), load.closed_m

    def _fetch(self, state: State) -> tuple[np.ndarray, float]:
        load, yaw = state.load, state.thing_yaw
        grasp = state.thing_m + [0, 0, load.grip_m]
        away = math.dist(state.tool[:2], grasp[:2])
        if away < 2 * ALIGNED_M and state.tool[2] < grasp[2] + 0.008:
            return state.at(grasp, yaw), load.closed_m
        if not state.across and (
            away < ALIGNED_M or (away < 2 * ALIGNED_M and state.tool[2] < grasp[2] + 0.06)
        ):
            return state.at(grasp, yaw), self.open_m
        hover = max(load.hover_m, grasp[2] + 0.10)
        if away < 0.06 and state.tool[2] < grasp[2] + 0.045:
            # A finger beside the thing or on its rim: up and off it before anything else.
            return state.at(np.array([*state.tool[:2], hover]), state.yaw), self.open_m
        if away < 0.06:
            # A funnel above the thing, so that descending and aligning overlap.
            hover = grasp[2] + 0.055 + (hover - grasp[2] - 0.055) * max(0.0, (away - 0.015) / 0.045)
        elif state.tool[2] < hover - 0.05:
            return state.at(np.array([*state.tool[:2], hover]), state.yaw), self.open_m
        return state.at(np.array([*grasp[:2], hover]), yaw), self.open_m

    def hurry(self, state: State, wanted: np.ndarray) -> np.ndarray:
        """A thing that moves is followed without lag, and the hand comes down on it slowly."""
        if self.holding(state) or self.placed(state):
            return wanted
        wanted = wanted.copy()
        wanted[:3] += state.thing_velocity_m_s
        above = state.tool[:3] - state.thing_m - [0, 0, state.load.grip_m]
        if math.hypot(*above[:2]) < 0.06 and above[2] < DESCENT_HEIGHT_M:
            wanted[2] = max(wanted[2], -DESCENT_M_S)
        return wanted

    def moved(self, state: State, tool: np.ndarray, velocity: np.ndarray, opening: float, h: float) -> State:
        """The state after the tool went to `tool` (D - 1,) within `h` seconds while `opening` was commanded."""
        load = state.load
        held = self.holding(state) and opening < load.width_m
        thing = state.thing_m + (tool[:3] - state.tool[:3] if held else h * state.thing_velocity_m_s)
        if held and self.placed(replace(state, thing_m=thing)):
            thing = np.array([*thing[:2], max(thing[2], state.place_m[2])])
        reach = self.gripper_speed * h
        width = state.opening + float(np.clip(opening - state.opening, -reach, reach))
        grasp = state.thing_m + [0, 0, load.grip_m]
        if math.dist(state.tool[:2], grasp[:2]) < 0.02 and abs(state.tool[2] - grasp[2]) < 0.04:
            width = max(width, load.width_m)
        turned = float(tool[3] - state.tool[3]) if held and state.turns else 0.0
        return replace(
            state, tool=tool, tool_velocity=velocity, opening=width, thing_m=thing,
            thing_velocity_m_s=np.zeros(3) if held else state.thing_velocity_m_s,
            thing_yaw=state.thing_yaw + turned,
        )  # fmt: skip


def yaw_of(stance: Stance) -> float:
    """Of something upright."""
    return math.atan2(stance.rotation[1, 0], stance.rotation[0, 0])


def next_to(yaw: float, other: float, fold: float) -> float:
    """`yaw` turned by whole folds (rad) until it is nearest to `other`."""
    return yaw + fold * round((other - yaw) / fold)


def turned(yaw: float, now: float) -> float:
    """The hand's yaw for a cube's: the nearest to `now` that is not too far from straight ahead."""
    fold = math.pi / 2  # turned by that, it looks the same
    near = next_to(yaw, now, fold)
    return near if abs(near) <= FARTHEST_TURN_RAD else next_to(yaw, 0.0, fold)


def home_of(embodiment: Embodiment, columns: int) -> np.ndarray:
    """(columns - 1,) of the tool in the arm's start posture."""
    position = ArmKinematics(embodiment).tool_pose(embodiment.home).position
    return np.append(position, 0.0)[: columns - 1]
