"""Joint states, interpolated to the stamp of an image."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque

import numpy as np

from physai_base.values import JointState
from physai_perception.errors import SynchronizationError
from physai_perception.settings import PerceptionSettings

_SET_BACK_NS = 300_000_000  # stamps that run back further than this: time was set back


class JointStateBuffer:
    """A short history of joint states; `at` gives the arm's state at any instant inside it."""

    def __init__(self, settings: PerceptionSettings | None = None) -> None:
        self._settings = settings or PerceptionSettings()
        self._states: deque[JointState] = deque()

    def __len__(self) -> int:
        return len(self._states)

    def clear(self) -> None:
        """Forget everything, as after a reset of the cell."""
        self._states.clear()

    def add(self, state: JointState) -> None:
        """Append one measurement; one that is a little older than the newest came out of order and is passed over, one that is
        much older starts the history afresh (time was reset).

        Raises:
            SynchronizationError: the state is not finite or has another number of joints than the last one.
        """
        values = np.concatenate([state.position, state.velocity, state.openings])
        if not np.isfinite(values).all():
            raise SynchronizationError("a joint state holds NaN or infinity; it is dropped")
        if self._states:
            last = self._states[-1]
            if len(state.position) != len(last.position):
                raise SynchronizationError(
                    f"a joint state has {len(state.position)} joints; those before had {len(last.position)}"
                )
            if state.stamp_ns == last.stamp_ns:
                self._states.pop()
            elif last.stamp_ns - _SET_BACK_NS < state.stamp_ns < last.stamp_ns:
                return
            elif state.stamp_ns < last.stamp_ns:
                self._states.clear()
        self._states.append(state)
        oldest = state.stamp_ns - int(self._settings.joint_history_s * 1e9)
        while self._states[0].stamp_ns < oldest:
            self._states.popleft()

    def at(self, stamp_ns: int) -> JointState:
        """The state at `stamp_ns`: cubic Hermite in the angles, linear in velocity, effort and width.

        Raises:
            SynchronizationError: no measurement is close enough to that instant.
        """
        states = self._states
        if not states:
            raise SynchronizationError("no joint state has arrived yet; is the robot's driver running?")
        index = bisect_left(states, stamp_ns, key=lambda state: state.stamp_ns)
        if index < len(states) and states[index].stamp_ns == stamp_ns:
            return states[index]
        if index in (0, len(states)):
            return self._extrapolate(states[0] if index == 0 else states[-1], stamp_ns)
        return self._interpolate(states[index - 1], states[index], stamp_ns)

    def _extrapolate(self, state: JointState, stamp_ns: int) -> JointState:
        gap_s = (stamp_ns - state.stamp_ns) * 1e-9
        if not abs(gap_s) <= self._settings.max_extrapolation_s:
            word = "newer than the newest" if gap_s > 0 else "older than the oldest"
            raise SynchronizationError(
                f"the image is {abs(gap_s) * 1e3:.0f} ms {word} joint state; at most "
                f"{self._settings.max_extrapolation_s * 1e3:.0f} ms are extrapolated: compare the clocks of camera and robot"
            )
        position = state.position + gap_s * state.velocity
        return JointState(stamp_ns, position, state.velocity, state.effort, state.openings)

    def _interpolate(self, a: JointState, b: JointState, stamp_ns: int) -> JointState:
        span_s = (b.stamp_ns - a.stamp_ns) * 1e-9
        if span_s > self._settings.max_gap_s:
            raise SynchronizationError(
                f"joint states around the image are {span_s * 1e3:.0f} ms apart; "
                f"at most {self._settings.max_gap_s * 1e3:.0f} ms are bridged"
            )
        t = (stamp_ns - a.stamp_ns) / (b.stamp_ns - a.stamp_ns)
        position = (
            (2 * t**3 - 3 * t**2 + 1) * a.position
            + (t**3 - 2 * t**2 + t) * span_s * a.velocity
            + (3 * t**2 - 2 * t**3) * b.position
            + (t**3 - t**2) * span_s * b.velocity
        )
        return JointState(
            stamp_ns,
            position,
            a.velocity + t * (b.velocity - a.velocity),
            a.effort + t * (b.effort - a.effort),
            a.openings + t * (b.openings - a.openings),
        )
