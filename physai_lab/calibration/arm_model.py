"""The arm's dynamics as what is linear in masses: regressors of torque for identification."""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.embodiment_parts import Payload
from physai_base.kinematics import ArmKinematics
from physai_base.robot_model import load_robot, place_of

OFFSET_STEP_RAD = 1e-4  # of the numerical derivative


class ArmModel:
    """Torques of an embodiment's own model, and how a payload at each of its k tools would change them."""

    def __init__(self, embodiment: Embodiment) -> None:
        spec = load_robot(embodiment).spec()
        ends = embodiment.end_effectors
        for end in ends:
            tool = spec.site(end.frame)
            payload = tool.parent.add_body(
                name=f"calibrated_payload_{end.name}", pos=tool.pos, quat=tool.quat
            )
            payload.mass, payload.inertia, payload.explicitinertial = 1.0, np.full(3, 1e-6), True
        self._m = spec.compile()
        self._d, self._contacts = mujoco.MjData(self._m), mujoco.MjData(self._m)
        self._payloads = [self._m.body(f"calibrated_payload_{end.name}").id for end in ends]
        self.set_payloads((Payload(),) * len(ends))
        self._q = np.array([self._m.joint(name).qposadr[0] for name in embodiment.joint_names])
        self._v = np.array([self._m.joint(name).dofadr[0] for name in embodiment.joint_names])
        self._fingers = np.array([self._m.joint(name).qposadr[0] for name in embodiment.finger_joints])
        self._sites = [self._m.site(end.frame).id for end in ends]
        self.last = [int(np.flatnonzero(ArmKinematics(embodiment, end.name).carries)[-1]) for end in ends]
        self._base = self._m.body(embodiment.base_frame).id
        names = [end.elbow_frame or end.frame for end in ends]
        self._elbows = [place_of(self._m, self._d, name) for name in names]
        self._embodiment = embodiment
        self._contacts.qpos[self._fingers] = embodiment.finger_positions(embodiment.openings_at(1.0))
        self.robot_adds_gravity = embodiment.hardware.gravity == "robot"

    def set_gripper(self, openings: np.ndarray) -> None:
        """The fingers' weight counts where they are at openings (k,)."""
        self._d.qpos[self._fingers] = self._embodiment.finger_positions(openings)

    def set_payloads(self, payloads: Sequence[Payload]) -> None:
        """Point masses at the tools, part of `torque` and `offset_columns` from now on."""
        for body, payload in zip(self._payloads, payloads, strict=True):
            self._m.body_mass[body] = payload.mass
            self._m.body_ipos[body] = payload.com
            self._m.body_inertia[body] = 0.0

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
        """(T, n, 10 k) Nm for a unit of each of PAYLOAD_NAMES at each tool, the inertia about the tool frame's origin."""
        m, d = self._m, self._d
        (T, n), k = q.shape, len(self._sites)
        jacobian, local = np.empty((k, T, 6, n)), np.empty((k, T, 2, 6))
        position, rotation = np.zeros((3, m.nv)), np.zeros((3, m.nv))
        for t in range(T):
            d.qpos[self._q], d.qvel[self._v], d.qacc[self._v] = q[t], dq[t], ddq[t]
            mujoco.mj_kinematics(m, d)
            mujoco.mj_comPos(m, d)
            mujoco.mj_comVel(m, d)
            mujoco.mj_rnePostConstraint(m, d)
            for e, site in enumerate(self._sites):
                mujoco.mj_jacSite(m, d, position, rotation, site)
                frame = d.site_xmat[site].reshape(3, 3).T
                jacobian[e, t, :3] = frame @ position[:, self._v]
                jacobian[e, t, 3:] = frame @ rotation[:, self._v]
                mujoco.mj_objectVelocity(m, d, mujoco.mjtObj.mjOBJ_SITE, site, local[e, t, 0], 1)
                mujoco.mj_objectAcceleration(m, d, mujoco.mjtObj.mjOBJ_SITE, site, local[e, t, 1], 1)
        columns = []
        for e in range(k):
            wrench = _rigid_body(local[e, :, 0, :3], local[e, :, 1, :3], local[e, :, 1, 3:])  # (T, 6, 10)
            columns.append(np.einsum("tan,tap->tnp", jacobian[e], wrench))
        return np.concatenate(columns, axis=2)

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
        """Tools and elbows, each (T, k, 3) m in the base frame; an elbow is the tool where the embodiment names none."""
        tools, elbows = np.empty((2, len(q), len(self._sites), 3))
        d = self._d
        for t in range(len(q)):
            d.qpos[self._q] = q[t]
            mujoco.mj_kinematics(self._m, d)
            turn, origin = d.xmat[self._base].reshape(3, 3), d.xpos[self._base]
            tools[t] = (d.site_xpos[self._sites] - origin) @ turn
            elbows[t] = (np.array(self._elbows) - origin) @ turn
        return tools, elbows

    def last_turn(self, tool: int, point: np.ndarray) -> np.ndarray:
        """(3,) m/rad by which a turn of an arm's last joint moves a point (3,) of its tool's frame, in that frame."""
        d, site = self._d, self._sites[tool]
        mujoco.mj_kinematics(self._m, d)
        frame, joint = d.site_xmat[site].reshape(3, 3), self._m.dof_jntid[self._v[self.last[tool]]]
        anchor = (d.xanchor[joint] - d.site_xpos[site]) @ frame
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
