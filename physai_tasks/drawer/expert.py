"""A scripted expert that opens the drawer by its handle, puts the block in and closes it.

What is next follows from how things are: with the block outside a closed drawer it is opened, with the block outside an open one the
block is fetched, with the block inside it is closed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from physai_base.expert import Goal
from physai_base.outcome import Situation
from physai_tasks.carrying import CarryExpert, CarryState, Load, turned, yaw_of
from physai_tasks.drawer.handle import HANDLE_M, DrawerPose
from physai_tasks.steering import drift, tool_velocity

if TYPE_CHECKING:
    from physai_tasks.drawer.task import DrawerTask

HOVER_M, TRANSIT_M = 0.12, 0.10
ABOVE_M = 0.09  # of the tool above the handle, while it comes and goes
OPEN_M = (0.008, 0.025)  # from quite open: while it is pulled it is not open yet, and else open enough
SHUT_M = (0.005, 0.009)  # the same from quite closed
GRIPPED_M = 0.006  # wider than the handle: the hand is not closed on it
AT_HANDLE_M = 0.015
PULL_M, BEYOND_M = 0.05, 0.005  # ahead of where it is, and at most beyond the end of its way
RELEASE_M = 0.065  # to let go of the block in the narrow drawer


@dataclass(frozen=True)
class DrawerState(CarryState):
    """What the expert looks at."""

    drawer: DrawerPose | None = None

    @property
    def pose(self) -> DrawerPose:
        """Of the drawer; there always is one."""
        assert self.drawer is not None
        return self.drawer


@dataclass(frozen=True)
class DrawerExpert(CarryExpert[DrawerState]):
    """Opens, puts in, closes, and goes home."""

    task: DrawerTask

    disturbed_m = 0.015

    @cached_property
    def load(self) -> Load:
        """How a block is carried."""
        edge = self.task.blocks.edge_m
        return Load(edge / 2, edge, edge / 2, edge + HOVER_M, self.task.cabinet.size_m[2] + TRANSIT_M, 0.03)

    @property
    def openings(self) -> tuple[float, float]:
        """As it closes on the handle, and as it goes there."""
        return 0.0, self.open_m

    def state(self, now: Situation, goal: Goal) -> DrawerState:
        """What it makes of a situation, true or perceived.

        Raises:
            MissingObjectError: the block, the drawer or the cabinet is not known.
        """
        block, pose, hand = now.require(goal.target), DrawerPose.of(self.task, now), now.tool.yaw
        thing_yaw = turned(yaw_of(block), hand)
        place_hand = turned(pose.yaw + hand - thing_yaw, hand)
        carried = pose.holds(
            block.position_m, self.task.cabinet.size_m[0]
        )  # it moves with the drawer, not by itself
        moving = np.zeros(3) if carried else drift(now, goal.target)
        return DrawerState(
            now.tool.row(self.task.action), tool_velocity(now.tool, len(self.task.action)), now.tool.opening,
            block.position_m, pose.inside_m, self.load, moving, thing_yaw,
            thing_yaw + place_hand - hand, drawer=pose,
        )  # fmt: skip

    def _inside(self, state: DrawerState) -> bool:
        return state.pose.holds(state.thing_m, self.task.cabinet.size_m[0]) and not self.holding(state)

    def _at_handle(self, state: DrawerState) -> bool:
        offset = state.tool[:3] - state.pose.handle_m
        return bool(math.hypot(*offset[:2]) < AT_HANDLE_M and abs(offset[2]) < 0.02)

    def _grips(self, state: DrawerState) -> bool:
        return self._at_handle(state) and state.opening < HANDLE_M[1] + GRIPPED_M

    def decide(self, state: DrawerState) -> tuple[np.ndarray, float]:
        """Where to steer the tool, and the width to command."""
        pose, way = state.pose, self.task.cabinet.way_m
        inside, enough = self._inside(state), 0 if self._grips(state) else 1
        if not inside and not self.holding(state) and pose.opening_m < way - OPEN_M[enough]:
            return self._slide(state, pose.out)
        if inside and pose.opening_m > SHUT_M[enough]:
            above_block = math.dist(state.tool[:2], state.thing_m[:2]) < 0.05
            if above_block and state.tool[2] < state.thing_m[2] + ABOVE_M:
                return self._up(state, RELEASE_M)
            return self._slide(state, -pose.out)
        if self._at_handle(state) or (
            math.dist(state.tool[:2], pose.handle_m[:2]) < 0.05
            and state.tool[2] < pose.handle_m[2] + ABOVE_M - 0.02
        ):
            return self._up(state, self.open_m)
        if inside:
            return self.home, self.open_m
        return super().decide(state)

    def _up(self, state: DrawerState, width: float) -> tuple[np.ndarray, float]:
        """Open the hand, then straight up."""
        if state.opening < width - 0.005:
            return state.tool, width
        return state.at(np.array([*state.tool[:2], state.tool[2] + 0.15]), state.yaw), width

    def _slide(self, state: DrawerState, way: np.ndarray) -> tuple[np.ndarray, float]:
        """By the handle, along `way` (2,)."""
        pose, handle = state.pose, state.pose.handle_m
        yaw = pose.yaw
        if self._grips(state):
            to_go = pose.opening_m if way @ pose.out < 0 else self.task.cabinet.way_m - pose.opening_m
            ahead = way * min(PULL_M, to_go + BEYOND_M)
            return state.at(np.array([*(handle[:2] + ahead), handle[2]]), yaw), 0.0
        askew = abs(yaw - state.yaw) > 0.08
        away = math.dist(state.tool[:2], handle[:2])
        if away < 0.008 and state.tool[2] < handle[2] + 0.008 and not askew:
            return state.at(handle, yaw), 0.0
        if state.opening < self.open_m - 0.01 and state.tool[2] < handle[2] + 0.05 and away < 0.04:
            return state.tool, self.open_m
        if (away < 0.006 or (away < 0.012 and state.tool[2] < handle[2] + 0.05)) and not askew:
            return state.at(handle, yaw), self.open_m
        high = handle[2] + ABOVE_M
        if state.tool[2] < high - 0.03 and away > 0.015:
            return state.at(np.array([*state.tool[:2], high]), state.yaw), self.open_m
        return state.at(np.array([*handle[:2], high]), yaw), self.open_m

    def placed(self, state: DrawerState) -> bool:
        """Whether the block is to be let go of: on the drawer's bottom, not too near to its front and sides."""
        offset = state.thing_m - state.place_m
        return bool(math.hypot(*offset[:2]) < 0.02 and offset[2] < 0.006)

    def _leave(self, state: DrawerState) -> tuple[np.ndarray, float]:
        """Up, as far open as there is room for."""
        return self._up(state, RELEASE_M)

    def moved(
        self, state: DrawerState, tool: np.ndarray, velocity: np.ndarray, opening: float, h: float
    ) -> DrawerState:
        """As of any thing; the drawer goes with the hand that grips its handle, and what is in it with the drawer."""
        pose = state.pose
        after = super().moved(state, tool, velocity, opening, h)
        if self._at_handle(state):
            after = replace(after, opening=max(after.opening, HANDLE_M[1]))
        if not self._grips(state) or opening > HANDLE_M[1] + GRIPPED_M:
            return after
        along = float((tool[:2] - state.tool[:2]) @ pose.out)
        new = float(np.clip(pose.opening_m + along, 0.0, self.task.cabinet.way_m))
        shift = (new - pose.opening_m) * pose.out
        inside = pose.holds(state.thing_m, self.task.cabinet.size_m[0])
        moved = replace(pose, front_m=pose.front_m + np.append(shift, 0.0), opening_m=new)
        thing = after.thing_m + np.append(shift, 0.0) if inside else after.thing_m
        return replace(after, drawer=moved, thing_m=thing, place_m=moved.inside_m)
