"""The arm's dynamics as what is linear in masses: regressors of torque for identification."""

from __future__ import annotations

import mujoco
import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.robot_model import load_robot, place_of

OFFSET_STEP_RAD = 1e-4  # of the numerical derivative


class ArmModel:
    """Torques of an embodiment's own model, and how a payload at its tool would change them."""

    def __init__(self, embodiment: Embodiment) -> None:
        spec = load_robot(embodiment).spec()
        tool = spec.site(embodiment.tool_frame)
        payload = tool.parent.add_body(name="calibrated_payload", pos=tool.pos, quat=tool.quat)
        payload.mass, payload.inertia, payload.explicitinertial = 1.0, np.full(3, 1e-6), True
        self._m = spec.compile()
        self._d, self._contacts = mujoco.MjData(self._m), mujoco.MjData(self._m)
        self._payload = self._m.body("calibrated_payload").id
        self.set_payload(0.0, np.zeros(3))
        self._q = np.array([self._m.joint(name).qposadr[0] for name in embodiment.joint_names])
        self._v = np.array([self._m.joint(name).dofadr[0] for name in embodiment.joint_names])
        self._fingers = np.array([self._m.joint(name).qposadr[0] for name in embodiment.finger_joints])
        self._site = self._m.site(embodiment.tool_frame).id
        self._base = self._m.body(embodiment.base_frame).id
        name = embodiment.elbow_frame
        self._elbow = place_of(self._m, self._d, name) if name else None
        self._embodiment = embodiment
        self._contacts.qpos[self._fingers] = embodiment.finger_positions(embodiment.openings_at(1.0))
        self.robot_adds_gravity = embodiment.hardware.gravity == "robot"

    def set_gripper(self, openings: np.ndarray) -> None:
        """The fingers' weight counts where they are at openings (k,)."""
        self._d.qpos[self._fingers] = self._embodiment.finger_positions(openings)

    def set_payload(self, mass: float, com: np.ndarray) -> None:
        """A point mass at `com` (3,) m in the tool frame, part of `torque` and `offset_columns` from now on."""
        self._m.body_mass[self._payload] = mass
        self._m.body_ipos[self._payload] = com
        self._m.body_inertia[self._payload] = 0.0

    def torque(self, q: np.ndarray, dq: np.ndarray, ddq: np.ndarray) -> np.ndarray:
        """(T, n) Nm that move the arm and its payload, without friction."""
        m, d = self._m, self._d
        result, bias = np.empty_like(q), np.empty(m.nv)
        armature = m.dof_armature[self._v]
        qpos, qvel, qacc = d.qpos, d.qvel, d.qacc  # views: taken once, since each access makes a new one
        for t in range(len(q)):
            qpos[self._q], qvel[self._v], qacc[self._v] = q[t], dq[t], ddq[t]
            mujoco.mj_kinematics(m, d)
            mujoco.mj_comPos(m, d)
            mujoco.mj_comVel(m, d)
            mujoco.mj_rne(m, d, 1, bias)
            result[t] = bias[self._v]
        return result + armature * ddq

    def payload_columns(self, q: np.ndarray, dq: np.ndarray, ddq: np.ndarray) -> np.ndarray:
        """(T, n, 10) Nm for a unit of each of PAYLOAD_NAMES, the inertia about the tool frame's origin."""
        m, d = self._m, self._d
        T, n = q.shape
        jacobian, local = np.empty((T, 6, n)), np.empty((T, 2, 6))
        position, rotation = np.zeros((3, m.nv)), np.zeros((3, m.nv))
        for t in range(T):
            d.qpos[self._q], d.qvel[self._v], d.qacc[self._v] = q[t], dq[t], ddq[t]
            mujoco.mj_kinematics(m, d)
            mujoco.mj_comPos(m, d)
            mujoco.mj_comVel(m, d)
            mujoco.mj_rnePostConstraint(m, d)
            mujoco.mj_jacSite(m, d, position, rotation, self._site)
            frame = d.site_xmat[self._site].reshape(3, 3).T
            jacobian[t, :3], jacobian[t, 3:] = frame @ position[:, self._v], frame @ rotation[:, self._v]
            mujoco.mj_objectVelocity(m, d, mujoco.mjtObj.mjOBJ_SITE, self._site, local[t, 0], 1)
            mujoco.mj_objectAcceleration(m, d, mujoco.mjtObj.mjOBJ_SITE, self._site, local[t, 1], 1)
        wrench = _rigid_body(local[:, 0, :3], local[:, 1, :3], local[:, 1, 3:])  # (T, 6, 10)
        return np.einsum("tan,tap->tnp", jacobian, wrench)

    def offset_columns(self, q: np.ndarray, dq: np.ndarray, ddq: np.ndarray) -> np.ndarray:
        """(T, n, n) derivative of `torque` by each joint's angle, Nm/rad."""
        base = self.torque(q, dq, ddq)
        columns = np.empty((*q.shape, q.shape[1]))
        for j in range(q.shape[1]):
            moved = q.copy()
            moved[:, j] += OFFSET_STEP_RAD
            columns[:, :, j] = (self.torque(moved, dq, ddq) - base) / OFFSET_STEP_RAD
        return columns

    def link_columns(self, q: np.ndarray, dq: np.ndarray, ddq: np.ndarray) -> np.ndarray:
        """(T, n, n) Nm for each joint's link with its mass and inertia doubled."""
        base = self.torque(q, dq, ddq)
        columns = np.empty((*q.shape, q.shape[1]))
        for j, dof in enumerate(self._v):
            link = self._m.dof_bodyid[dof]
            for scale in (2.0, 0.5):  # there and back
                self._m.body_mass[link] *= scale
                self._m.body_inertia[link] *= scale
                if scale > 1:
                    columns[:, :, j] = self.torque(q, dq, ddq) - base
        return columns

    def places(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tool and elbow, each (T, 3) m in the base frame; the elbow is the tool where the embodiment names none."""
        tool, elbow = np.empty((len(q), 3)), np.empty((len(q), 3))
        d = self._d
        for t in range(len(q)):
            d.qpos[self._q] = q[t]
            mujoco.mj_kinematics(self._m, d)
            turn, origin = d.xmat[self._base].reshape(3, 3), d.xpos[self._base]
            tool[t] = (d.site_xpos[self._site] - origin) @ turn
            elbow[t] = tool[t] if self._elbow is None else (self._elbow - origin) @ turn
        return tool, elbow

    def last_turn(self, point: np.ndarray) -> np.ndarray:
        """(3,) m/rad by which a turn of the last joint moves a point (3,) of the tool frame, in that frame."""
        d = self._d
        mujoco.mj_kinematics(self._m, d)
        frame, joint = d.site_xmat[self._site].reshape(3, 3), self._m.dof_jntid[self._v[-1]]
        anchor = (d.xanchor[joint] - d.site_xpos[self._site]) @ frame
        return np.cross(d.xaxis[joint] @ frame, point - anchor)

    def touches(self, q: np.ndarray) -> str:
        """Which bodies touch at angles (n,); empty when none do."""
        m, d = self._m, self._contacts
        d.qpos[self._q] = q
        mujoco.mj_kinematics(m, d)
        mujoco.mj_comPos(m, d)
        mujoco.mj_collision(m, d)
        for contact in d.contact[: d.ncon]:
            if contact.dist < 0:
                bodies = (m.geom_bodyid[geom] for geom in (contact.geom1, contact.geom2))
                return " and ".join(m.body(body).name for body in bodies)
        return ""


def _rigid_body(velocity: np.ndarray, angular: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """(T, 6, 10) force and moment at a frame's origin for each of PAYLOAD_NAMES.

    `velocity` and `angular` are the frame's angular velocity and acceleration, `linear` its origin's acceleration
    plus what stands against gravity; all (T, 3), all in the frame.
    """
    T = len(velocity)
    result = np.zeros((T, 6, 10))
    cross, spin = _cross(angular), _cross(velocity)
    result[:, :3, 0] = linear
    result[:, :3, 1:4] = cross + spin @ spin
    result[:, 3:, 1:4] = -_cross(linear)
    result[:, 3:, 4:] = _inertia_product(angular) + spin @ _inertia_product(velocity)
    return result


def _cross(v: np.ndarray) -> np.ndarray:
    """(T, 3, 3) so that `_cross(v) @ w` is v x w."""
    x, y, z = v.T
    zero = np.zeros_like(x)
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=1).reshape(-1, 3, 3)


def _inertia_product(v: np.ndarray) -> np.ndarray:
    """(T, 3, 6) so that its product with (Ixx, Ixy, Ixz, Iyy, Iyz, Izz) is I v."""
    x, y, z = v.T
    zero = np.zeros_like(x)
    rows = [x, y, z, zero, zero, zero, zero, x, zero, y, z, zero, zero, zero, x, zero, y, z]
    return np.stack(rows, axis=1).reshape(-1, 3, 6)
