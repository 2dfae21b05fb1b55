"""Inverse kinematics undoes forward kinematics, and says so when it cannot."""

from __future__ import annotations

import numpy as np
import pytest

from physai_base.embodiment import Embodiment
from physai_base.errors import KinematicsError
from physai_base.kinematics import TOOL_DOWN, ArmKinematics, Pose


def test_inverse_undoes_forward(embodiment, kinematics) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        target = Pose(rng.uniform([0.34, -0.36, 0.03], [0.64, 0.42, 0.4]), TOOL_DOWN)
        q = kinematics.inverse(target, embodiment.home, embodiment.home)
        reached = kinematics.tool_pose(q)
        assert np.linalg.norm(reached.position - target.position) < 1e-4
        assert np.allclose(reached.rotation, TOOL_DOWN, atol=2e-3)
        assert (q > embodiment.limits("position_min")).all()
        assert (q < embodiment.limits("position_max")).all()


def test_out_of_reach_is_an_error(embodiment, kinematics) -> None:
    with pytest.raises(KinematicsError, match="no joint angles"):
        kinematics.inverse(Pose(np.array([2.0, 0, 0.2]), TOOL_DOWN), embodiment.home)


def test_jacobian_is_the_derivative(embodiment, kinematics) -> None:
    rng = np.random.default_rng(1)
    q = embodiment.home
    for _ in range(5):
        dq = rng.normal(size=len(q))
        h = 1e-6
        moved = kinematics.tool_pose(q + h * dq).position - kinematics.tool_pose(q - h * dq).position
        assert np.allclose(moved / (2 * h), kinematics.jacobian(q)[:3] @ dq, atol=1e-6)


def test_home_points_down(embodiment, kinematics) -> None:
    assert np.allclose(kinematics.tool_pose(embodiment.home).rotation, TOOL_DOWN, atol=1e-3)


@pytest.mark.parametrize("speed_m_s", (0.02, 0.1, 0.2, 0.4))
def test_a_smooth_path_of_the_tool_is_one_of_the_joints(
    kinematics: ArmKinematics, embodiment: Embodiment, speed_m_s: float
) -> None:
    """Begun from where the null space is away from the posture: how far it goes does not hang on what a solution costs."""
    rng = np.random.default_rng(3)
    for _ in range(4):
        seed = embodiment.home + np.array([0.2, 0, -0.2, 0, 0, 0, 0])
        start = kinematics.tool_pose(seed)
        direction = rng.normal(size=3) / 3
        rows = []
        for k in range(16):
            position = start.position + direction * speed_m_s * 0.05 * k + rng.normal(size=3) * 0.0005
            seed = kinematics.inverse(Pose(position, start.rotation), seed, embodiment.home)
            rows.append(seed)
        around = np.array(rows)[:, 0] - np.array(rows)[:, 2]  # the elbow's way around the hand
        jumps = np.abs(np.diff(around, n=2)[1:])
        assert jumps.max() < 0.02, "of the step from one row to the next, rad"
