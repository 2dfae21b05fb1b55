"""Chunks of the policy keep the acceleration limits, and are left alone when they do anyway."""

import numpy as np
import pytest

from physai_policy.smoothing import within_acceleration

DT_S = 0.05
LIMIT = np.full(7, 10.0)


def knot_accelerations(positions: np.ndarray) -> np.ndarray:
    """Of the natural cubic spline through the setpoints, by its defining equations."""
    count = len(positions) - 2
    matrix = 4 * np.eye(count) + np.eye(count, k=1) + np.eye(count, k=-1)
    return np.linalg.solve(matrix, 6 / DT_S**2 * np.diff(positions, n=2, axis=0))


def test_a_smooth_chunk_is_untouched() -> None:
    t = np.arange(16)[:, None] * DT_S
    positions = 0.3 * np.sin(2 * t + np.arange(7))
    np.testing.assert_allclose(within_acceleration(positions, DT_S, LIMIT), positions, atol=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_a_rough_chunk_is_brought_within_the_limits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    positions = np.cumsum(rng.normal(0, 0.02, (16, 7)), axis=0)
    assert np.abs(knot_accelerations(positions)).max() > 10
    result = within_acceleration(positions, DT_S, LIMIT)
    assert np.abs(knot_accelerations(result)).max() <= 10


def test_only_the_joint_that_needs_it_is_smoothed() -> None:
    positions = np.zeros((16, 7))
    positions[8:, 3] = 0.1  # a step: 40 rad/s2 and more
    result = within_acceleration(positions, DT_S, LIMIT)
    np.testing.assert_allclose(np.delete(result, 3, axis=1), 0, atol=1e-15)
    assert np.abs(result[:, 3] - positions[:, 3]).max() < 0.05


def test_no_more_smoothing_than_needed() -> None:
    positions = np.zeros((16, 1))
    positions[8, 0] = 0.012
    gentle = within_acceleration(positions, DT_S, np.array([20.0]))
    strong = within_acceleration(positions, DT_S, np.array([2.0]))
    assert np.abs(gentle - positions).max() < np.abs(strong - positions).max()


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_setpoints_to_accelerate(count: int) -> None:
    positions = np.ones((count, 7))
    assert within_acceleration(positions, DT_S, LIMIT) is positions


def test_a_straight_line_is_kept_whatever_the_limit() -> None:
    positions = np.outer(np.arange(16) * DT_S, np.arange(7))
    result = within_acceleration(positions, DT_S, np.full(7, 1e-9))
    np.testing.assert_allclose(result, positions, atol=1e-9)
