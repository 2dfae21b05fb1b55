"""Inverse kinematics undoes forward kinematics, and says so when it cannot."""

from __future__ import annotations

import numpy as np
import pytest

from physai_base.errors import KinematicsError
from physai_base.kinematics import TOOL_DOWN, Pose


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
