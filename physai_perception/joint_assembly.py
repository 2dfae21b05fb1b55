"""From what drivers publish of joints to the arm's state: fingers that come apart, turns, degrees, nonsense."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.embodiment_parts import Gripper
from physai_base.values import JointSample, JointState
from physai_perception.errors import SynchronizationError

_TURN = 2 * math.pi
_LIMIT_SLACK_RAD = 0.1  # measured beyond a limit, and still believed
_NEAR_RAD = 0.5  # from the last state
_OPENING_SLACK = 1 / 8  # of the range, beyond it
_FINGER_AGE_S = 1.0  # fingers that come apart from the arm may be this old


class JointAssembler:
    """Puts the arm's state together from messages that may hold a part of it; not thread-safe."""

    def __init__(self, embodiment: Embodiment) -> None:
        self._arm = embodiment.joint_names
        self._fingers = embodiment.finger_joints
        self._low = np.array([joint.position_min for joint in embodiment.joints])
        self._high = np.array([joint.position_max for joint in embodiment.joints])
        self._grippers = tuple(end.gripper for end in embodiment.end_effectors)
        self._finger_seen: dict[str, tuple[int, float]] = {}
        self._last: JointState | None = None
        self.remark = ""
        """What was mended in the last state, or nothing."""

    @property
    def names(self) -> tuple[str, ...]:
        """The joints that matter."""
        return (*self._arm, *self._fingers)

    def add(self, stamp_ns: int, samples: Mapping[str, JointSample]) -> JointState | None:
        """The state at that stamp, or None where the message holds no joint of the arm.

        Raises:
            SynchronizationError: it cannot be used; the message says what is wrong.
        """
        for name in self._fingers:
            if name in samples:
                self._finger_seen[name] = (stamp_ns, samples[name].position)
        there = [name for name in self._arm if name in samples]
        if not there:
            return None
        if stamp_ns == 0:
            raise SynchronizationError("joint states carry no stamp; the driver must fill in header.stamp")
        if len(there) < len(self._arm):
            missing = ", ".join(name for name in self._arm if name not in samples)
            raise SynchronizationError(f"a joint state holds a part of the arm only, without {missing}")
        remarks: list[str] = []
        position = self._in_limits(np.array([samples[name].position for name in self._arm]), remarks)
        velocity = self._velocity(stamp_ns, position, samples, remarks)
        effort = np.array([samples[name].effort for name in self._arm])
        state = JointState(
            stamp_ns,
            position,
            velocity,
            np.where(np.isfinite(effort), effort, 0.0),
            np.array([self._opening(gripper, stamp_ns, remarks) for gripper in self._grippers]),
        )
        self._last, self.remark = state, "; ".join(remarks)
        return state

    def _in_limits(self, position: np.ndarray, remarks: list[str]) -> np.ndarray:
        outside = self._outside(position)
        if not outside.any():
            return position
        names = ", ".join(f"{self._arm[i]} {position[i]:.2f}" for i in np.flatnonzero(outside))
        turned = position - np.where(outside, _TURN * np.sign(position - 0.5 * (self._low + self._high)), 0.0)
        as_turn, as_degrees = not self._outside(turned).any(), not self._outside(np.radians(position)).any()
        if as_turn and as_degrees:  # of a robot whose limits hold zero: where it was before tells
            as_degrees = self._last is None or bool(np.abs(turned - self._last.position).max() > _NEAR_RAD)
        if as_degrees:
            raise SynchronizationError(
                f"joint positions are outside of the limits ({names} rad) and would fit as degrees; ROS has radians"
            )
        if not as_turn:
            raise SynchronizationError(
                f"joint positions are outside of the robot file's limits: {names} rad; wrong units, wrong zero or another robot"
            )
        remarks.append(
            f"joint positions are a whole turn off and were taken back into the limits: {names} rad"
        )
        return turned

    def _outside(self, position: np.ndarray) -> np.ndarray:
        return (position < self._low - _LIMIT_SLACK_RAD) | (position > self._high + _LIMIT_SLACK_RAD)

    def _velocity(
        self, stamp_ns: int, position: np.ndarray, samples: Mapping[str, JointSample], remarks: list[str]
    ) -> np.ndarray:
        velocity = np.array([samples[name].velocity for name in self._arm])
        if np.isfinite(velocity).all():
            return velocity
        remarks.append("joint states carry no velocity: it is taken from successive positions")
        last = self._last
        if last is None or not 0 < stamp_ns - last.stamp_ns < 1e9:
            return np.zeros_like(position)
        return (position - last.position) / ((stamp_ns - last.stamp_ns) * 1e-9)

    def _opening(self, gripper: Gripper, stamp_ns: int, remarks: list[str]) -> float:
        if not gripper.fingers:
            return 0.0
        fresh = {
            name: self._finger_seen[name][1]
            for name in gripper.joints
            if name in self._finger_seen and abs(stamp_ns - self._finger_seen[name][0]) < _FINGER_AGE_S * 1e9
        }
        missing = [name for name in gripper.joints if name not in fresh]
        if len(missing) == len(gripper.joints):
            late = "come too rarely" if self._finger_seen else "are missing"
            raise SynchronizationError(
                f"the gripper's joints {', '.join(missing)} {late}: its driver must publish them on the same topic, at least "
                f"every {_FINGER_AGE_S:g} s"
            )
        if missing:
            remarks.append(f"joint states lack {', '.join(missing)}: the fingers are taken to open alike")
        openings = {name: gripper.opening_of(name, position) for name, position in fresh.items()}
        low, high, unit = gripper.opening_min, gripper.opening_max, gripper.unit
        slack = _OPENING_SLACK * (high - low)
        least, most = min(openings.values()), max(openings.values())
        if least < low - slack or most > high + slack:  # also where one counts the other way
            wrong = most if most > high + slack else least
            fingers = ", ".join(f"{f.joint} from {f.closed:g} to {f.open:g}" for f in gripper.fingers)
            raise SynchronizationError(
                f"the gripper's joints say that it is open by {wrong:.3f} {unit}; the robot file allows {low:g} to {high:g} "
                f"{unit}, with {fingers}: compare its units and signs with the driver's"
            )
        if most - least > 2 * slack:
            each = ", ".join(f"{name} {position:.3f}" for name, position in fresh.items())
            remarks.append(
                f"the fingers do not open alike ({each}): the middle is taken; is one of them not measured?"
            )
        return float(np.mean(list(openings.values())))
