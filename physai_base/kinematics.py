"""Forward and inverse kinematics of an embodiment's arm, on MuJoCo's own model of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.errors import KinematicsError
from physai_base.inverse_kinematics import InverseKinematics
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


AXES = ("along x", "along y", "along z", "about its x", "about its y", "about its z")
FREE_ROTATION = AXES[3:]
ITERATIONS = 49  # steps towards a pose, at most


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
        robot = self._robot = load_robot(embodiment)
        self._inverse: InverseKinematics | None = None  # made when it is asked for
        self._model, self._positions, self._dofs = robot.model, robot.positions, robot.dofs
        self._data = mujoco.MjData(self._model)
        self._site = self._model.site(self.tool_frame).id
        self._low, self._high = embodiment.limits("position_min"), embodiment.limits("position_max")
        self._margin = 0.02  # rad kept from the stops by inverse kinematics
        self.carries = _carriers(self._model, self._site, self._dofs)
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
        free: Sequence[str] = (),
        **tolerances: float,
    ) -> np.ndarray:
        """Joint angles (n,) that put the tool at `target`, close to `seed`; see `inverse_chunk`."""
        return self.inverse_chunk([target], seed, posture, free, **tolerances)[0]

    def inverse_chunk(
        self,
        targets: Sequence[Pose],
        seed: np.ndarray,
        posture: np.ndarray | None = None,
        free: Sequence[str] = (),
        position_tolerance_m: float = 1e-4,
        rotation_tolerance_rad: float = 1e-3,
    ) -> np.ndarray:
        """Joint angles (H, n) that put the tool at one target after the other, each close to the one before and the first
        to `seed`, where joints of other arms stay.

        Damped least squares (Wampler 1986, Nakamura and Hanafusa 1986), within the joint limits. The null space goes a
        tenth of the way to `posture`, however many iterations the tool needs: else joints would jerk from one setpoint
        to the next although the tool does not. An arm of fewer than six joints cannot take every pose: what is in `free`
        of AXES, shifts along the base's axes and turns about the target's, is left as it comes; FREE_ROTATION is all
        turns.

        Raises:
            KinematicsError: a target was not reached; the message says which and what is left, and of an arm that has
                too few joints which way it cannot go.
        """
        if self._inverse is None:
            with self._robot.core_file() as model:
                robot = self.embodiment
                self._inverse = InverseKinematics(model, robot.base_frame, self.tool_frame, robot.joint_names)
        weights = tuple(0.0 if axis in free else 1.0 for axis in AXES)
        joints, left = self._inverse.solve(
            np.array([target.position for target in targets]),
            np.array([target.rotation for target in targets]),
            (self._low + self._margin, self._high - self._margin),
            seed,
            posture,
            weights,
            (position_tolerance_m, rotation_tolerance_rad),
            ITERATIONS,
        )
        if len(joints) < len(targets):
            raise KinematicsError(self._unreached(targets[len(joints)], left))
        return joints

    def _unreached(self, target: Pose, left: np.ndarray) -> str:
        said = (
            f"no joint angles put {self.tool_frame} at {np.round(target.position, 3).tolist()} m: "
            f"{np.linalg.norm(left[:3]) * 1e3:.1f} mm and {np.degrees(np.linalg.norm(left[3:])):.1f} deg remain"
        )
        joints = int(self.carries.sum())
        if joints >= len(AXES):
            return said
        scale = np.abs(left) / np.repeat([np.abs(left[:3]).max() or 1.0, np.abs(left[3:]).max() or 1.0], 3)
        far = np.repeat([np.linalg.norm(left[:3]) > 1e-3, np.linalg.norm(left[3:]) > 1e-2], 3)
        missing = [
            axis for axis, share, is_far in zip(AXES, scale, far, strict=True) if is_far and share > 0.3
        ]
        return (
            f"{said}; an arm with {joints} joints cannot take every pose, and this one not as wanted "
            f"{', '.join(missing) or 'there'}: leave what does not matter free"
        )


def _carriers(model: mujoco.MjModel, site: int, dofs: list[int]) -> np.ndarray:
    """(n,) whether each joint moves the site."""
    above, body = set[int](), int(model.site_bodyid[site])
    while body:
        first = int(model.body_dofadr[body])
        above |= set(range(first, first + int(model.body_dofnum[body])))
        body = int(model.body_parentid[body])
    return np.array([dof in above for dof in dofs])
