"""Turns what a policy proposes into the joint chunk that the controller is sent."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transforms3d.quaternions import quat2mat

from physai_base.embodiment import Embodiment
from physai_base.kinematics import TOOL_DOWN, ArmKinematics, Pose
from physai_base.urdf import rotation_about
from physai_base.values import ActionChunk, ChunkMode, SceneState
from physai_policy.policy import ActionSpace, Proposal, slowed
from physai_policy.smoothing import within_acceleration

# The controller is at rest when a chunk expires: this long after the last step, it need not brake before it.
STOPPING_S = 0.3
VERTICAL = np.array([0.0, 0.0, 1.0])
SPEED_MARGIN = 0.9  # of a joint's velocity limit
# Of this process: the controller follows the chunks of one at a time.
LEASE = secrets.randbelow(2**64 - 1) + 1


@dataclass(frozen=True)
class Outgoing:
    """What an inference has come to; `Agent.send` numbers it when it is sent off."""

    proposal: Proposal
    chunk: ActionChunk


class ChunkDecoder:
    """Tool setpoints to joint chunks, by inverse kinematics from the arm's present posture."""

    def __init__(self, embodiment: Embodiment, kinematics: ArmKinematics, free: Sequence[str] = ()) -> None:
        """`free`: what the arm may leave as it comes (`kinematics.AXES`) where a policy says nothing but where the tool is."""
        self._embodiment, self._free = embodiment, free
        self._kinematics = kinematics
        self._velocity, self._acceleration = embodiment.limits("velocity"), embodiment.limits("acceleration")

    def decode(self, proposal: Proposal, scene: SceneState, sequence: int, policy: str) -> Outgoing:
        """The joint chunk that carries `proposal` out from the scene's stamp on, slower where the arm is.

        Raises:
            KinematicsError: a setpoint is out of reach.
        """
        rows = (
            proposal.chosen[:, :-1]
            if proposal.space is ActionSpace.JOINT_POSITION
            else self._inverse(proposal, scene)
        )
        haste = self._haste(rows[max(0, proposal.given - 1) :], proposal.dt_s)
        if haste > 1:  # the same way, in more time: a policy may come from a faster arm
            proposal, rows = proposal.slowed(haste), slowed(rows, haste, proposal.given)
        actions = proposal.chosen
        dt_ns = round(proposal.dt_s * 1e9)
        gripper = self._embodiment.gripper
        chunk = ActionChunk(
            sequence=sequence,
            policy=policy,
            observation_ns=scene.stamp_ns,
            start_ns=scene.stamp_ns,
            dt_ns=dt_ns,
            mode=ChunkMode.JOINT_POSITION,
            joint_names=self._embodiment.joint_names,
            values=within_acceleration(rows, proposal.dt_s, self._acceleration),
            openings=np.clip(actions[:, -1:], gripper.opening_min, gripper.opening_max),
            uncertainty=proposal.disagreement,
            expiry_ns=scene.stamp_ns + (len(rows) - 1) * dt_ns + round(STOPPING_S * 1e9),
            lease=LEASE,
        )
        return Outgoing(proposal, chunk)

    def _haste(self, rows: np.ndarray, dt_s: float) -> float:
        """By how much the fastest joint would be faster than it may be; the splines between setpoints need a margin."""
        speed = np.abs(np.diff(rows, axis=0)) / dt_s
        return float((speed / (SPEED_MARGIN * self._velocity)).max(initial=0.0))

    def _inverse(self, proposal: Proposal, scene: SceneState) -> np.ndarray:
        """(H, n) joint positions for a proposal of the tool, each next to the one before."""
        low, high = self._embodiment.geofence_min + 0.002, self._embodiment.geofence_max - 0.002
        poses = [
            Pose(np.clip(action[:3], low, high), _rotation(proposal.space, action))
            for action in proposal.chosen
        ]
        free = self._free if proposal.space is ActionSpace.TOOL_POSITION else ()
        return self._kinematics.inverse_chunk(poses, scene.joint_position, self._embodiment.home, free)


def _rotation(space: ActionSpace, action: np.ndarray) -> np.ndarray:
    """(3, 3) of the tool at one setpoint."""
    if space is ActionSpace.TOOL_POSITION:
        return TOOL_DOWN
    if space is ActionSpace.TOOL_POSITION_YAW:
        return rotation_about(VERTICAL, float(action[3]))[:3, :3] @ TOOL_DOWN
    return np.asarray(quat2mat(action[3:7]))
