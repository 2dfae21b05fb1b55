"""The bridge's own servo, for arms that take positions, is stable at the rate of the robot's interface."""

from __future__ import annotations

import numpy as np
import pytest

from physai_sim.plant import SERVO_BANDWIDTH_RAD_S, servo_bandwidth

COUPLED = np.array(
    [[1.17, 0.2, 0.05], [0.2, 0.072, 0.03], [0.05, 0.03, 0.03]]
)  # kg m2, a wrist of little inertia


def fastest_mode(inertia: np.ndarray, bandwidth: float, rate_hz: float) -> float:
    """Largest magnitude of the modes of the arm with its servo, sampled: below 1 it comes to rest."""
    n, dt = len(inertia), 1 / rate_hz
    gains = np.linalg.solve(inertia, np.diag(np.diag(inertia)))
    velocity = np.hstack([-(bandwidth**2) * gains * dt, np.eye(n) - 2 * bandwidth * gains * dt])
    position = np.hstack([np.eye(n), np.zeros((n, n))]) + dt * velocity
    return float(np.abs(np.linalg.eigvals(np.vstack([position, velocity]))).max())


@pytest.mark.parametrize("rate_hz", (50.0, 100.0, 250.0, 1000.0))
def test_joints_that_give_way_to_each_other_come_to_rest(rate_hz: float) -> None:
    assert np.linalg.eigvalsh(COUPLED).min() > 0
    assert fastest_mode(COUPLED, servo_bandwidth(COUPLED, rate_hz), rate_hz) < 1


def test_the_servo_is_slower_only_where_it_must_be() -> None:
    assert (
        fastest_mode(COUPLED, SERVO_BANDWIDTH_RAD_S, 100.0) > 1
    )  # as it was: an arm shook itself into a fault
    assert servo_bandwidth(COUPLED, 1000.0) == SERVO_BANDWIDTH_RAD_S
    assert servo_bandwidth(np.diag([1.0, 0.1, 0.01]), 100.0) == SERVO_BANDWIDTH_RAD_S
