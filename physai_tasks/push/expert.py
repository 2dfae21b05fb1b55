"""A scripted expert that pushes a puck onto the mark with closed fingers.

It goes behind the puck, as seen from the mark, comes down a funnel there and pushes along a lane, steering the puck by staying behind
its middle; where the puck has slipped out of the lane, it goes up and behind it again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from physai_base.expert import Goal
from physai_base.outcome import Situation
from physai_tasks.push.outcome import ASIDE_M, CLEARANCE_M
from physai_tasks.steering import APPROACH_GAIN_1_S, SteeringExpert, drift

if TYPE_CHECKING:
    from physai_tasks.push.task import PushTask

FINGER_M = 0.012  # from the tool's axis to where closed fingers touch
TIP_CLEAR_M = 0.010  # of the finger tips above the table while they push
STAND_OFF_M = 0.035  # of the fingers from the puck where they come down
HOVER_M = 0.06  # of the finger tips above pucks
DONE_M = 0.012  # from the mark's middle, where it stops to push
AGAIN_M = 0.019  # and from where on it begins again once the hand is off: what is nearer may count as done
FUNNEL_M = 0.006, 0.046  # from where it comes down: as low as it will be, and still above everything
LEAVE_M = 0.02  # of the fingers from the puck where they go up
PUSH_M_S, SLOWER_1_S = 0.12, 2.5  # at most, and for each metre to go
ASIDE_GAIN_1_S = 8.0  # with which it goes behind the puck's middle while it pushes
TURNS_AWAY_M, SLOWEST = 0.012, 0.2  # so far aside it pushes with that share of its speed
LANE_M = 0.012  # half of the width of the lane in which it pushes
CLEAR_M = 0.004  # of the lane's end from where fingers touch the puck
LOW_M = 0.008  # above the height at which it pushes, where it may push
DESCENT_M_S, NEAR_M = 0.10, 0.09  # downwards, near a puck: it may have been put there a moment ago


def behind(task: PushTask, puck_m: np.ndarray, mark_m: np.ndarray, off_m: float = STAND_OFF_M) -> np.ndarray:
    """(2,) where the tool comes down to push."""
    _, _, along, _ = seen_from_puck(puck_m, puck_m, mark_m)
    return np.asarray(puck_m[:2] - along * (task.pucks.radius_m + FINGER_M + off_m))


def seen_from_puck(
    tool_m: np.ndarray, puck_m: np.ndarray, mark_m: np.ndarray
) -> tuple[float, float, np.ndarray, np.ndarray]:
    """The tool along the way to the mark and across it, m from the puck, and these two directions (2,)."""
    way = (mark_m - puck_m)[:2]
    length = math.hypot(*way)
    along = way / length if length > 1e-4 else np.array([0.0, 1.0])
    across = np.array([-along[1], along[0]])
    offset = (tool_m - puck_m)[:2]
    return float(offset @ along), float(offset @ across), along, across


@dataclass(frozen=True)
class PushState:
    """What the expert looks at; positions in the base frame."""

    tool: np.ndarray  # (3,) m
    tool_velocity: np.ndarray  # (3,) m/s
    puck_m: np.ndarray  # (3,) its foot
    mark_m: np.ndarray  # (3,)
    puck_velocity_m_s: np.ndarray = field(default_factory=lambda: np.zeros(3))  # while nothing touches it


@dataclass(frozen=True)
class PushExpert(SteeringExpert):
    """Pushes the puck onto the mark, then goes home."""

    disturbed_m = 0.02  # close to the table

    task: PushTask
    home_m: np.ndarray  # (3,) where the tool rests when the job is done
    tip_m: float  # the finger tips reach that far below the tool
    closed: float  # opening of the gripper

    @property
    def openings(self) -> tuple[float, float]:
        """It pushes with a closed hand."""
        return self.closed, self.closed

    def state(self, now: Situation, goal: Goal) -> PushState:
        """What it makes of a situation, true or perceived.

        Raises:
            MissingObjectError: the puck or the mark is not known.
        """
        puck, mark = now.require(goal.target), now.require(goal.destination)
        return PushState(
            now.tool_m, now.tool.velocity_m_s, puck.position_m, mark.position_m, drift(now, goal.target)
        )

    def hurry(self, state: PushState, wanted: np.ndarray) -> np.ndarray:
        """The hand comes down slowly beside a puck."""
        if math.dist(state.tool[:2], state.puck_m[:2]) < NEAR_M:
            wanted = np.array([*wanted[:2], max(wanted[2], -DESCENT_M_S)])
        return wanted

    def decide(self, state: PushState) -> tuple[np.ndarray, float]:
        """Where to steer the tool."""
        return self._where(state), self.closed

    def _where(self, state: PushState) -> np.ndarray:
        low, high = self._heights(state)
        to_go = math.hypot(*(state.mark_m[:2] - state.puck_m[:2]))
        if to_go < (DONE_M if self._near(state) else AGAIN_M):
            return self._leave(state, high)
        ahead, aside, way, across = seen_from_puck(state.tool, state.puck_m, state.mark_m)
        touch = self.task.pucks.radius_m + FINGER_M
        nearest = min(max(-ahead, touch + CLEAR_M), touch + STAND_OFF_M)  # of the lane behind the puck
        beside = math.hypot(-ahead - nearest, aside) - LANE_M
        if beside > FUNNEL_M[0]:
            return self._go_behind(state, beside, low, high)
        # The farther aside, the slower: what is pushed beside its middle turns away faster than it is followed.
        straight = max(0.0, 1.0 - abs(aside) / TURNS_AWAY_M)
        lowered = min(1.0, max(0.0, 1.0 - (state.tool[2] - low - LOW_M) / LOW_M))
        speed = lowered * min(PUSH_M_S, 0.02 + SLOWER_1_S * to_go) * (SLOWEST + (1 - SLOWEST) * straight)
        velocity = way * speed - across * aside * ASIDE_GAIN_1_S
        xy = state.tool[:2] + velocity / APPROACH_GAIN_1_S  # the approach makes a speed of a distance
        # Fingers that go down along a puck press it to the table, and it stays.
        stays = -ahead < touch + CLEAR_M and state.tool[2] < low + LOW_M
        return np.array([*xy, state.tool[2] if stays else low])

    def _near(self, state: PushState) -> bool:
        """Whether the hand is not off the puck yet, as the outcome sees it."""
        above = state.tool[2] - state.puck_m[2] - self.task.pucks.height_m
        aside = math.dist(state.tool[:2], state.puck_m[:2]) - self.task.pucks.radius_m
        return above < CLEARANCE_M and aside < ASIDE_M

    def _go_behind(self, state: PushState, beside: float, low: float, high: float) -> np.ndarray:
        """Down a funnel to where it begins to push; up first where it is outside of the funnel.

        Nothing switches here: where two decisions meet at an edge, who learned from them stays in between.
        """
        start = behind(self.task, state.puck_m, state.mark_m)
        funnel = low + (high - low) * min(1.0, (beside - FUNNEL_M[0]) / (FUNNEL_M[1] - FUNNEL_M[0]))
        inside = min(1.0, max(0.0, 1.0 - (funnel - state.tool[2]) / FUNNEL_M[1]))
        return np.array([*(state.tool[:2] + inside * (start - state.tool[:2])), funnel])

    def _heights(self, state: PushState) -> tuple[float, float]:
        """Of the tool while it pushes, and above everything."""
        low = state.puck_m[2] + self.tip_m + TIP_CLEAR_M
        return low, state.puck_m[2] + self.task.pucks.height_m + self.tip_m + HOVER_M

    def _leave(self, state: PushState, high: float) -> np.ndarray:
        if state.tool[2] >= high - 0.03:
            return self.home_m
        offset = state.tool[:2] - state.puck_m[:2]
        off = math.hypot(*offset)
        touch = self.task.pucks.radius_m + FINGER_M
        # Back before up: fingers that go up along it could tip it.
        free = min(1.0, max(0.0, off - touch) / LEAVE_M)
        back = state.puck_m[:2] + offset / max(off, 1e-4) * max(off, touch + 2 * LEAVE_M)
        return np.array(
            [*(back + free * (state.tool[:2] - back)), state.tool[2] + free * (high - state.tool[2])]
        )

    def moved(
        self, state: PushState, tool: np.ndarray, velocity: np.ndarray, opening: float, h: float
    ) -> PushState:
        """The puck goes where the fingers push it, and rests when they do not."""
        puck = state.puck_m + h * state.puck_velocity_m_s
        low, _ = self._heights(state)
        reach = self.task.pucks.radius_m + FINGER_M
        offset = puck[:2] - tool[:2]
        apart = math.hypot(*offset)
        drifting = state.puck_velocity_m_s
        if tool[2] < low - TIP_CLEAR_M + self.task.pucks.height_m and apart < reach:
            puck = np.array([*(tool[:2] + offset / max(apart, 1e-4) * reach), puck[2]])
            drifting = np.zeros(3)
        return replace(state, tool=tool, tool_velocity=velocity, puck_m=puck, puck_velocity_m_s=drifting)
