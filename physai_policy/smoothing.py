"""Makes setpoints followable: as much smoothing as the arm's acceleration limits ask for, and no more."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

MARGIN = 0.95  # of the limit that the controller checks
STRENGTHS = np.concatenate([[0.0], 4.0 ** np.arange(-6, 13)])


def within_acceleration(positions: np.ndarray, dt_s: float, limit: np.ndarray) -> np.ndarray:
    """The positions (H, n) of n joints, `dt_s` apart, with no joint above its acceleration limit (n,).

    Each joint gets the smoothing spline of Reinsch (1967), which minimizes the squared distance from the
    setpoints plus λ times the integral of its squared acceleration, with the smallest λ of a row that keeps
    the natural cubic spline through the result within the limit. That spline is what the controller
    executes, so its acceleration is largest at a setpoint. λ → ∞ is a straight line: there is always one.
    """
    if len(positions) < 3:
        return positions
    smoothers, accelerations = _operators(len(positions))
    smoothed = np.einsum("khj,jn->khn", smoothers, positions)
    peak = np.abs(np.einsum("khj,jn->khn", accelerations, positions)).max(axis=1) / dt_s**2
    good = peak <= MARGIN * limit
    good[-1] = True
    return smoothed[np.argmax(good, axis=0), :, np.arange(positions.shape[1])].T


@lru_cache(maxsize=4)
def _operators(count: int) -> tuple[np.ndarray, np.ndarray]:
    """For each strength, what makes the smoothed setpoints (H, H) and their accelerations (H-2, H), for dt = 1."""
    difference = np.diff(np.eye(count), n=2, axis=0)  # second differences (H-2, H)
    spline = (np.eye(count - 2, k=-1) + 4 * np.eye(count - 2) + np.eye(count - 2, k=1)) / 6
    to_acceleration = np.linalg.solve(spline, difference)
    roughness = difference.T @ to_acceleration  # x' roughness x is the integral of the squared acceleration
    smoothers = np.array([np.linalg.inv(np.eye(count) + strength * roughness) for strength in STRENGTHS])
    return smoothers, to_acceleration @ smoothers
