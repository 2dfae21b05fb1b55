"""What a recording says, filtered: positions, velocities, accelerations and torques."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from scipy.signal import butter, sosfiltfilt

from physai_lab.calibration.motion import CalibrationError, MotionRecording

MODEL_RATE_HZ = 125.0  # at which the model is evaluated
SIGNAL_CUTOFF_HZ = 30.0  # before derivatives are taken


@dataclass(frozen=True)
class Signals:
    """One recording at MODEL_RATE_HZ, filtered without delay."""

    time_s: np.ndarray  # (T,)
    q: np.ndarray  # (T, n)
    dq: np.ndarray
    ddq: np.ndarray
    openings: np.ndarray  # (k,) of the grippers
    _torque_time_s: np.ndarray = field(repr=False)
    _torque: np.ndarray = field(repr=False)

    def torque(self, delay_s: float) -> np.ndarray:
        """(T, n) Nm that acted, if a command acts so much later."""
        return _interpolate(self._torque_time_s + delay_s, self._torque, self.time_s)

    def torque_rate(self, delay_s: float) -> np.ndarray:
        """(T, n) Nm/s its derivative."""
        step = 0.5e-3
        return (self.torque(delay_s - step) - self.torque(delay_s + step)) / (2 * step)


def signals(recording: MotionRecording) -> Signals:
    """Derivatives of what was measured. Recordings below 100 Hz are refused: their delay could not be told.

    Raises:
        CalibrationError: too few samples, or gaps.
    """
    time_s, unique = np.unique(recording.time_s, return_index=True)
    gaps = np.diff(time_s)
    rate_hz = 1.0 / float(np.median(gaps))
    if rate_hz < 99.0:
        raise CalibrationError(
            f"joint states came at {rate_hz:.0f} Hz, calibration needs at least 100: start the control node with state_rate_hz 250"
        )
    if gaps.max() > 0.05:
        raise CalibrationError(
            f"joint states were missing for {gaps.max() * 1e3:.0f} ms; try again on a quieter machine"
        )
    keep = unique
    uniform = np.arange(time_s[0], time_s[-1], 1e-3)
    q = lowpass(_interpolate(time_s, recording.position[keep], uniform), SIGNAL_CUTOFF_HZ, 1e3)
    torque = lowpass(_interpolate(time_s, recording.torque[keep], uniform), SIGNAL_CUTOFF_HZ, 1e3)
    dq = np.gradient(q, 1e-3, axis=0)
    ddq = np.gradient(dq, 1e-3, axis=0)
    during = (uniform >= 0) & (uniform <= recording.motion.duration_s)
    pick = np.flatnonzero(during)[:: round(1e3 / MODEL_RATE_HZ)]
    return Signals(uniform[pick], q[pick], dq[pick], ddq[pick], recording.openings, uniform, torque)


def _interpolate(time_s: np.ndarray, values: np.ndarray, at_s: np.ndarray) -> np.ndarray:
    return np.column_stack([np.interp(at_s, time_s, column) for column in values.T])


def lowpass(values: np.ndarray, cutoff_hz: float, rate_hz: float) -> np.ndarray:
    """Zero-phase, along the first axis."""
    return np.asarray(sosfiltfilt(_butterworth(cutoff_hz, rate_hz), values, axis=0))


@lru_cache
def _butterworth(cutoff_hz: float, rate_hz: float) -> np.ndarray:
    return np.asarray(butter(4, cutoff_hz, fs=rate_hz, output="sos"))
