"""Inverse kinematics undoes forward kinematics, and says so when it cannot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from plain_inverse import inverse_chunk

from physai_base.embodiment import Embodiment
from physai_base.errors import KinematicsError
from physai_base.kinematics import FREE_ROTATION, TOOL_DOWN, ArmKinematics, Pose


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


def paths(kinematics: ArmKinematics, count: int) -> list[tuple[np.ndarray, list[Pose]]]:
    """Chunks of 16 poses from random places, that go and turn some way."""
    rng, found = np.random.default_rng(5), []
    home = kinematics.embodiment.home
    for _ in range(count):
        seed = home + rng.uniform(-0.3, 0.3, len(home))
        start, way, axis = kinematics.tool_pose(seed), rng.normal(size=3) * 0.05, rng.normal(size=3) * 0.2
        found.append(
            (
                seed,
                [
                    Pose(start.position + s * way, turned(start.rotation, s * axis))
                    for s in np.linspace(0, 1, 16)
                ],
            )
        )
    return found


def turned(rotation: np.ndarray, about: np.ndarray) -> np.ndarray:
    angle = float(np.linalg.norm(about)) or 1e-12
    x, y, z = about / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return rotation @ (np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


@pytest.mark.parametrize("with_posture", (False, True))
def test_a_chunk_in_c_is_what_the_algorithm_says(
    kinematics: ArmKinematics, embodiment: Embodiment, with_posture: bool
) -> None:
    posture = embodiment.home if with_posture else None
    for seed, poses in paths(kinematics, 25):
        joints = kinematics.inverse_chunk(poses, seed, posture)
        np.testing.assert_allclose(joints, inverse_chunk(kinematics, poses, seed, posture), atol=1e-9)


def test_a_chunk_that_leaves_the_reach_says_where(kinematics: ArmKinematics, embodiment: Embodiment) -> None:
    start = kinematics.tool_pose(embodiment.home)
    poses = [Pose(start.position + np.array([0.2 * k, 0, 0]), start.rotation) for k in range(6)]
    with pytest.raises(
        KinematicsError, match=r"no joint angles put tool0 at \[\d\.\d+, .* mm and .* deg remain"
    ):
        kinematics.inverse_chunk(poses, embodiment.home, embodiment.home)


@pytest.fixture(scope="module")
def five_joints(embodiment: Embodiment) -> ArmKinematics:
    """The arm with two of its joints locked: it moves in one upright plane that the first joint turns."""
    kept = [0, 1, 3, 5, 6]
    return ArmKinematics(
        replace(embodiment, joints=tuple(embodiment.joints[i] for i in kept), home=embodiment.home[kept])
    )


def test_an_arm_of_five_joints_goes_where_it_can(five_joints: ArmKinematics) -> None:
    home = five_joints.embodiment.home
    start = five_joints.tool_pose(home)
    way = [
        Pose(start.position + s * np.array([0.05, 0.1, -0.05]), start.rotation) for s in np.linspace(0, 1, 9)
    ]
    joints = five_joints.inverse_chunk(way, home, home)
    np.testing.assert_allclose(five_joints.tool_pose(joints[-1]).position, way[-1].position, atol=1e-4)


def test_an_arm_of_five_joints_says_which_way_it_cannot_go(five_joints: ArmKinematics) -> None:
    home = five_joints.embodiment.home
    start = five_joints.tool_pose(home)
    across = np.array([1.0, 0, 0])  # the tool tilted out of the arm's plane
    sideways = Pose(start.position, turned(start.rotation, 0.4 * across))
    with pytest.raises(KinematicsError, match=r"5 joints .* not as wanted about its x"):
        five_joints.inverse(sideways, home)
    free = five_joints.inverse(sideways, home, free=("about its x",))
    np.testing.assert_allclose(five_joints.tool_pose(free).position, start.position, atol=1e-4)
    any_way = five_joints.inverse(Pose(start.position + 0.05, sideways.rotation), home, free=FREE_ROTATION)
    np.testing.assert_allclose(five_joints.tool_pose(any_way).position, start.position + 0.05, atol=1e-4)
