"""Motions for calibration: setpoints on a grid, how an arm is made to follow them, and what was recorded of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from scipy.interpolate import CubicSpline

from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.values import ActionChunk, ChunkMode, ControlState, ControlStatus, JointState
from physai_lab.progress import Progress

STEP_S = 0.02  # between setpoints
CHUNK_STEPS = 100
POST_EVERY_S = 1.0
PAST_STEPS = 8  # a chunk begins a little in the past, where its spline still has its free end
LEAD_S = 0.1
SETTLE_S = 0.5
TRAVEL_SPEED = 0.4  # of a joint's velocity limit, on the way home


class CalibrationError(PhysaiError):
    """The calibration cannot be done; nothing was written."""


@dataclass(frozen=True)
class CalibrationMotion:
    """A joint motion that starts and ends at rest: a cubic spline through setpoints every STEP_S."""

    name: str
    setpoints: np.ndarray  # (H, n) rad

    @property
    def duration_s(self) -> float:
        """From the first to the last setpoint."""
        return (len(self.setpoints) - 1) * STEP_S

    @cached_property
    def _spline(self) -> CubicSpline:
        return CubicSpline(np.arange(len(self.setpoints)) * STEP_S, self.setpoints, bc_type="clamped")

    def evaluate(self, time_s: np.ndarray, derivative: int = 0) -> np.ndarray:
        """Position or one of its derivatives at times (T,) since the start: (T, n); at rest before and after."""
        inside = np.clip(time_s, 0.0, self.duration_s)
        values = self._spline(inside, derivative)
        if derivative > 0:
            values[(time_s < 0.0) | (time_s > self.duration_s)] = 0.0
        return values


@dataclass(frozen=True)
class MotionRecording:
    """What was commanded and measured during one motion; rows are cycles of the controller."""

    motion: CalibrationMotion
    time_s: np.ndarray  # (T,) since the motion's start
    position: np.ndarray  # (T, n) rad, as the controller sees it: its encoder offsets are subtracted
    velocity: np.ndarray  # (T, n) rad/s
    torque: np.ndarray  # (T, n) Nm commanded in answer to that state
    openings: np.ndarray  # (k,) of the grippers

    @property
    def tracking_error(self) -> np.ndarray:
        """(T, n) rad between the motion and what was measured at the same time."""
        return self.motion.evaluate(self.time_s) - self.position

    def rms_error(self) -> np.ndarray:
        """(n,) rad while the motion lasted."""
        during = (self.time_s >= 0) & (self.time_s <= self.motion.duration_s)
        return np.sqrt(np.mean(self.tracking_error[during] ** 2, axis=0))


class DrivenArm(Protocol):
    """An arm with its controller, in a simulation or on a robot."""

    embodiment: Embodiment

    def now_ns(self) -> int:
        """The controller's time."""

    def post(self, chunk: ActionChunk) -> None:
        """Hand over a chunk; an error if it is refused."""

    def wait(self, duration_s: float) -> list[JointState]:
        """Let time pass; what the controller measured and commanded meanwhile."""

    def status(self) -> ControlStatus:
        """The controller's state."""

    def next_sequence(self) -> int:
        """A number that no chunk had before."""


def travel(start: np.ndarray, end: np.ndarray, velocity_limit: np.ndarray) -> CalibrationMotion:
    """From rest to rest along a quintic, as fast as TRAVEL_SPEED allows the slowest joint."""
    duration_s = max(0.5, float(np.max(1.875 * np.abs(end - start) / (TRAVEL_SPEED * velocity_limit))))
    x = np.linspace(0.0, 1.0, max(2, round(duration_s / STEP_S) + 1))[:, None]
    return CalibrationMotion("travel", start + (end - start) * x**3 * (10 + x * (6 * x - 15)))


def execute(arm: DrivenArm, motion: CalibrationMotion, progress: Progress | None = None) -> MotionRecording:
    """Make the arm follow a motion, in chunks as a policy would send them, and record it.

    The arm must be at rest near the motion's first setpoint.

    Raises:
        CalibrationError: the controller refused a chunk or stopped; the message says why.
    """
    samples = arm.wait(LEAD_S)
    start_ns = arm.now_ns() + round(LEAD_S * 1e9)
    seconds = int(np.ceil((motion.duration_s + SETTLE_S) / POST_EVERY_S))
    for second in range(seconds):
        first = max(0, round(second * POST_EVERY_S / STEP_S) - PAST_STEPS)
        if first < len(motion.setpoints) - 1:
            _post(arm, motion, first, start_ns, samples[-1])
        samples += arm.wait(POST_EVERY_S)
        status = arm.status()
        if status.state not in (ControlState.TRACK, ControlState.STOPPING, ControlState.HOLD):
            raise CalibrationError(f"the controller went to {status.state.name.lower()}: {status.cause}")
        if progress:
            progress(second + 1, seconds, motion.name)
    return record(motion, samples, start_ns)


def record(motion: CalibrationMotion, samples: list[JointState], start_ns: int) -> MotionRecording:
    """The samples as arrays, with times since the motion's start."""
    if len(samples) < 10:
        raise CalibrationError(f"only {len(samples)} joint states came during {motion.name}")
    return MotionRecording(
        motion=motion,
        time_s=np.array([(sample.stamp_ns - start_ns) * 1e-9 for sample in samples]),
        position=np.array([sample.position for sample in samples]),
        velocity=np.array([sample.velocity for sample in samples]),
        torque=np.array([sample.effort for sample in samples]),
        openings=np.median([sample.openings for sample in samples], axis=0),
    )


def _post(arm: DrivenArm, motion: CalibrationMotion, first: int, start_ns: int, state: JointState) -> None:
    values = motion.setpoints[first : first + CHUNK_STEPS]
    ends = arm.embodiment.end_effectors
    least, most = [end.gripper.opening_min for end in ends], [end.gripper.opening_max for end in ends]
    begin_ns, step_ns = start_ns + round(first * STEP_S * 1e9), round(STEP_S * 1e9)
    arm.post(
        ActionChunk(
            sequence=arm.next_sequence(),
            policy="calibrate",
            observation_ns=state.stamp_ns,
            start_ns=begin_ns,
            dt_ns=step_ns,
            mode=ChunkMode.JOINT_POSITION,
            joint_names=arm.embodiment.joint_names,
            values=values,
            openings=np.tile(np.clip(state.openings, least, most), (len(values), 1)),
            uncertainty=0.0,
            expiry_ns=begin_ns + len(values) * step_ns + round(SETTLE_S * 1e9),
            end_effectors=arm.embodiment.end_effector_names,
        )
    )
