"""Inverse kinematics as it is written down: what `ArmKinematics.inverse_chunk` does in C, in numpy."""

from __future__ import annotations

import mujoco
import numpy as np

from physai_base.errors import KinematicsError
from physai_base.kinematics import ArmKinematics, Pose

POSTURE_SHARE, DAMPING, LARGEST_STEP_RAD, ITERATIONS = 0.1, 1e-5, 0.3, 50


def inverse(
    kinematics: ArmKinematics, target: Pose, seed: np.ndarray, posture: np.ndarray | None = None
) -> np.ndarray:
    """Joint angles (n,) near `seed`, by damped least squares; the null space goes a tenth of the way to `posture`."""
    low, high = (kinematics.embodiment.limits(name) for name in ("position_min", "position_max"))
    carrying = kinematics.carries

    def within(q: np.ndarray) -> np.ndarray:
        return np.where(carrying, np.clip(q, low + 0.02, high - 0.02), seed)

    q = within(seed)
    pull = None if posture is None else POSTURE_SHARE * (posture - q) * carrying
    for iteration in range(ITERATIONS):
        error = pose_error(kinematics.tool_pose(q), target)
        reached = np.linalg.norm(error[:3]) < 1e-4 and np.linalg.norm(error[3:]) < 1e-3
        if reached and (posture is None or iteration > 0):
            return q
        jacobian = kinematics.jacobian(q)
        gram = jacobian @ jacobian.T + DAMPING * np.eye(6)
        step = jacobian.T @ np.linalg.solve(gram, error)
        if pull is not None and iteration == 0:
            step += pull - jacobian.T @ np.linalg.solve(gram, jacobian @ pull)
        largest = np.abs(step).max()
        if largest > LARGEST_STEP_RAD:
            step *= LARGEST_STEP_RAD / largest
        q = within(q + step)
    raise KinematicsError("not reached")


def inverse_chunk(
    kinematics: ArmKinematics, targets: list[Pose], seed: np.ndarray, posture: np.ndarray | None = None
) -> np.ndarray:
    """(H, n), each from the one before."""
    rows = []
    for target in targets:
        seed = inverse(kinematics, target, seed, posture)
        rows.append(seed)
    return np.array(rows)


def pose_error(now: Pose, target: Pose) -> np.ndarray:
    """Twist (6,) that would carry the tool to `target` in one second."""
    quat, axis_angle = np.empty(4), np.empty(3)
    mujoco.mju_mat2Quat(quat, (target.rotation @ now.rotation.T).ravel())
    mujoco.mju_quat2Vel(axis_angle, quat, 1.0)
    return np.concatenate([target.position - now.position, axis_angle])
