"""Forward and inverse kinematics of an embodiment's arm, on MuJoCo's own model of it."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.errors import KinematicsError
from physai_base.robot_model import load_robot


@dataclass(frozen=True)
class Pose:
    """A pose in the base frame."""

    position: np.ndarray  # (3,) m
    rotation: np.ndarray  # (3, 3)

    def matrix(self) -> np.ndarray:
        """The homogeneous matrix (4, 4)."""
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = self.rotation, self.position
        return matrix


# The tool points down, its x axis along the base's x: fingers close along the base's y.
TOOL_DOWN = np.diag([1.0, -1.0, -1.0])


POSTURE_SHARE = 0.1  # of the way to it, for each solution


class ArmKinematics:
    """Kinematics of the arm that carries one end effector. Not thread-safe: it owns one MuJoCo state."""

    def __init__(self, embodiment: Embodiment, end_effector: str = "") -> None:
        """Of the named end effector, or the first one.

        Raises:
            KinematicsError: there is none of that name.
        """
        self.embodiment = embodiment
        ends = {end.name: end.frame for end in embodiment.end_effectors}
        if end_effector and end_effector not in ends:
            raise KinematicsError(
                f"{embodiment.name} has no end effector {end_effector!r}; it has: {', '.join(ends)}"
            )
        self.tool_frame = ends[end_effector] if end_effector else embodiment.tool_frame
        robot = load_robot(embodiment)
        self._model, self._positions, self._dofs = robot.model, robot.positions, robot.dofs
        self._data = mujoco.MjData(self._model)
        self._site = self._model.site(self.tool_frame).id
        self._low, self._high = embodiment.limits("position_min"), embodiment.limits("position_max")
        self._margin = 0.02  # rad kept from the stops by inverse kinematics
        self._carrying = _carriers(self._model, self._site, self._dofs)
        self._jacp = np.zeros((3, self._model.nv))
        self._jacr = np.zeros((3, self._model.nv))

    def _update(self, joint_position: np.ndarray) -> None:
        self._data.qpos[self._positions] = joint_position
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)  # mj_jacSite needs it

    def tool_pose(self, joint_position: np.ndarray) -> Pose:
        """Pose of the tool frame at joint angles (n,) rad."""
        self._update(joint_position)
        site = self._data.site(self._site)
        return Pose(site.xpos.copy(), site.xmat.reshape(3, 3).copy())

    def jacobian(self, joint_position: np.ndarray) -> np.ndarray:
        """Geometric Jacobian (6, n) of the tool in the base frame: linear rows first."""
        self._update(joint_position)
        return self._jacobian()

    def _jacobian(self) -> np.ndarray:
        mujoco.mj_jacSite(self._model, self._data, self._jacp, self._jacr, self._site)
        return np.vstack([self._jacp[:, self._dofs], self._jacr[:, self._dofs]])

    def inverse(
        self,
        target: Pose,
        seed: np.ndarray,
        posture: np.ndarray | None = None,
        position_tolerance_m: float = 1e-4,
        rotation_tolerance_rad: float = 1e-3,
        iterations: int = 50,
    ) -> np.ndarray:
        """Joint angles (n,) that put the tool at `target`, close to `seed`, where joints of other arms stay.

        Damped least squares (Wampler 1986, Nakamura and Hanafusa 1986), within the joint limits. The null space goes a
        tenth of the way to `posture`, however many iterations the tool needs: else joints would jerk from one setpoint
        to the next although the tool does not.

        Raises:
            KinematicsError: no solution within the tolerances was found.
        """
        q = self._within(seed, seed)
        pull = None if posture is None else POSTURE_SHARE * (posture - q) * self._carrying
        for iteration in range(iterations):
            self._update(q)
            error = self._pose_error(target)
            reached = (
                np.linalg.norm(error[:3]) < position_tolerance_m
                and np.linalg.norm(error[3:]) < rotation_tolerance_rad
            )
            if reached and (posture is None or iteration > 0):
                return q
            jacobian = self._jacobian()
            gram = jacobian @ jacobian.T + 1e-5 * np.eye(6)
            step = jacobian.T @ np.linalg.solve(gram, error)
            if pull is not None and iteration == 0:
                step += pull - jacobian.T @ np.linalg.solve(gram, jacobian @ pull)
            largest = np.abs(step).max()
            if largest > 0.3:
                step *= 0.3 / largest
            q = self._within(q + step, seed)
        raise KinematicsError(
            f"no joint angles put {self.tool_frame} at {np.round(target.position, 3).tolist()} m: "
            f"{np.linalg.norm(error[:3]) * 1e3:.1f} mm and {np.degrees(np.linalg.norm(error[3:])):.1f} deg remain"
        )

    def _within(self, q: np.ndarray, seed: np.ndarray) -> np.ndarray:
        """Off the stops; joints of other arms as in `seed`."""
        return np.where(self._carrying, np.clip(q, self._low + self._margin, self._high - self._margin), seed)

    def _pose_error(self, target: Pose) -> np.ndarray:
        """Twist (6,) that would carry the tool to `target` in one second."""
        site = self._data.site(self._site)
        turn = target.rotation @ site.xmat.reshape(3, 3).T
        quat, axis_angle = np.empty(4), np.empty(3)
        mujoco.mju_mat2Quat(quat, turn.ravel())
        mujoco.mju_quat2Vel(axis_angle, quat, 1.0)
        return np.concatenate([target.position - site.xpos, axis_angle])


def _carriers(model: mujoco.MjModel, site: int, dofs: list[int]) -> np.ndarray:
    """(n,) whether each joint moves the site."""
    above, body = set[int](), int(model.site_bodyid[site])
    while body:
        first = int(model.body_dofadr[body])
        above |= set(range(first, first + int(model.body_dofnum[body])))
        body = int(model.body_parentid[body])
    return np.array([dof in above for dof in dofs])
