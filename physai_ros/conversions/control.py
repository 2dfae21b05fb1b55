"""What control says and is told."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from geometry_msgs.msg import WrenchStamped

from physai.msg import ControlStatus as ControlStatusMsg
from physai.msg import EndEffectorStatus as EndEffectorStatusMsg
from physai.msg import Impedance as ImpedanceMsg
from physai_base.embodiment import Embodiment
from physai_base.embodiment_parts import LAWS, Impedance
from physai_base.urdf import matrix
from physai_base.values import ControlCause, ControlState, ControlStatus, EndEffectorStatus
from physai_ros.conversions.basic import (
    MessageError,
    doubles,
    header,
    number,
    numbers,
    pose_from_msg,
    pose_to_msg,
    time_from_msg,
    wrench_from_msg,
    wrench_to_msg,
)

_PERCENTILES = ("p50", "p99", "p99_9", "max")


def tool_wrench_to_msg(tool: EndEffectorStatus, stamp_ns: int, tool_frame: str) -> WrenchStamped:
    """The estimated wrench on the tool, in the axes of the tool frame and about its origin.

    What reads a WrenchStamped takes it to be expressed in the frame that its header names, as force-torque sensors
    have it; ControlStatus has the same wrench along the axes of the base frame.
    """
    turn = matrix(np.zeros(3), tool.pose[3:])[:3, :3]
    force, torque = turn.T @ tool.external_wrench[:3], turn.T @ tool.external_wrench[3:]
    message = WrenchStamped(header=header(stamp_ns, tool_frame))
    message.wrench = wrench_to_msg(np.concatenate([force, torque]))
    return message


def status_to_msg(status: ControlStatus, embodiment: Embodiment) -> ControlStatusMsg:
    """A snapshot of the core."""
    message = ControlStatusMsg(header=header(status.stamp_ns, embodiment.base_frame))
    message.state = int(status.state)
    message.cause_code, message.cause = int(status.cause_code), status.cause
    message.cycles, message.overruns, message.missed_states = (
        status.cycles,
        status.overruns,
        status.missed_states,
    )
    message.latency_us = np.array([status.latency_us.get(name, 0.0) for name in _PERCENTILES])
    message.wake_us = np.array([status.wake_us.get(name, 0.0) for name in _PERCENTILES])
    message.active_sequence, message.active_lease = status.active_sequence, status.active_lease
    message.chunk_age = float(status.chunk_age_s)
    message.activation_latency = float(status.activation_latency_s)
    message.chunks_accepted, message.chunks_rejected = status.chunks_accepted, status.chunks_rejected
    message.last_rejection = status.last_rejection
    message.rejected_sequence, message.rejected_lease = status.rejected_sequence, status.rejected_lease
    message.joint_names = list(embodiment.joint_names)
    message.reference = doubles(status.reference)
    message.tracking_error = doubles(status.tracking_error_rad)
    message.end_effectors = [_end_effector_to_msg(end) for end in status.end_effectors]
    message.law = LAWS.index(status.law) + 1  # after LAW_KEEP
    message.reduced, message.residual_active = status.reduced, status.residual_active
    message.skipped_states = status.skipped_states
    message.tank_energy = float(status.tank_energy_j)
    return message


def status_from_msg(message: ControlStatusMsg) -> ControlStatus:
    """A snapshot of the core."""
    try:
        state = ControlState(message.state)
    except ValueError:
        raise MessageError(f"control status: unknown state {message.state}") from None
    try:
        cause_code = ControlCause(message.cause_code)
    except ValueError:
        raise MessageError(f"control status: unknown cause {message.cause_code}") from None
    return ControlStatus(
        stamp_ns=time_from_msg(message.header.stamp),
        state=state,
        cause=message.cause,
        cycles=int(message.cycles),
        overruns=int(message.overruns),
        missed_states=int(message.missed_states),
        latency_us=dict(zip(_PERCENTILES, map(float, message.latency_us), strict=True)),
        wake_us=dict(zip(_PERCENTILES, map(float, message.wake_us), strict=True)),
        active_sequence=int(message.active_sequence),
        chunk_age_s=float(message.chunk_age),
        activation_latency_s=float(message.activation_latency),
        chunks_accepted=int(message.chunks_accepted),
        chunks_rejected=int(message.chunks_rejected),
        last_rejection=message.last_rejection,
        tracking_error_rad=numbers(
            message.tracking_error, len(message.tracking_error), "control status: tracking_error"
        ),
        end_effectors=tuple(_end_effector_from_msg(end) for end in message.end_effectors),
        reference=numbers(message.reference, len(message.reference), "control status: reference"),
        law=_law(message.law, "control status"),
        reduced=bool(message.reduced),
        residual_active=bool(message.residual_active),
        skipped_states=int(message.skipped_states),
        tank_energy_j=float(message.tank_energy),
        cause_code=cause_code,
        active_lease=int(message.active_lease),
        rejected_lease=int(message.rejected_lease),
        rejected_sequence=int(message.rejected_sequence),
    )


def _end_effector_to_msg(end: EndEffectorStatus) -> EndEffectorStatusMsg:
    message = EndEffectorStatusMsg(name=end.name, opening=float(end.opening))
    message.pose = pose_to_msg(end.pose[:3], end.pose[3:])
    message.pose_error = np.asarray(end.pose_error, float)
    message.external_wrench = wrench_to_msg(end.external_wrench)
    return message


def _end_effector_from_msg(message: EndEffectorStatusMsg) -> EndEffectorStatus:
    what = f"control status: {message.name or 'end effector'}"
    return EndEffectorStatus(
        name=message.name,
        pose=np.concatenate(pose_from_msg(message.pose, what)),
        pose_error=numbers(message.pose_error, 6, f"{what}: pose_error"),
        external_wrench=wrench_from_msg(message.external_wrench),
        opening=number(message.opening, f"{what}: opening"),
    )


def _law(index: int, what: str) -> str:
    if not 1 <= index <= len(LAWS):
        raise MessageError(f"{what}: unknown law {index}")
    return LAWS[index - 1]


def impedance_to_msg(impedance: Impedance) -> ImpedanceMsg:
    """A law and all of its gains."""
    message = ImpedanceMsg(law=LAWS.index(impedance.law) + 1)
    for name in (
        "stiffness", "damping_ratio", "clip", "cartesian_stiffness", "cartesian_damping_ratio", "cartesian_clip",
        "target_wrench",
    ):  # fmt: skip
        setattr(message, name, list(getattr(impedance, name)))
    message.nullspace = [impedance.nullspace_stiffness, impedance.nullspace_damping_ratio]
    message.friction_compensation = [impedance.friction_compensation]
    message.energy_tank = [impedance.tank_energy, impedance.tank_power]
    message.reduced, message.use_residual = [impedance.reduced], [impedance.use_residual]
    return message


def impedance_from_msg(message: ImpedanceMsg, present: Impedance) -> Impedance:
    """`present` with what the message names; ranges are for the control core to check.

    Raises:
        MessageError: an array has another length than what it stands for, or a number is not finite.
    """
    changes: dict[str, Any] = {}
    if message.law != ImpedanceMsg.LAW_KEEP:
        changes["law"] = _law(message.law, "impedance")
    for name in (
        "stiffness", "damping_ratio", "clip", "cartesian_stiffness", "cartesian_damping_ratio", "cartesian_clip",
        "target_wrench",
    ):  # fmt: skip
        given = getattr(message, name)
        if len(given):
            length = len(getattr(present, name))
            changes[name] = tuple(numbers(given, length, f"impedance: {name}").tolist())
    for names, given in (
        (("nullspace_stiffness", "nullspace_damping_ratio"), message.nullspace),
        (("friction_compensation",), message.friction_compensation),
        (("tank_energy", "tank_power"), message.energy_tank),
    ):
        if len(given):
            changes.update(
                zip(names, numbers(given, len(names), f"impedance: {names[0]}").tolist(), strict=True)
            )
    for name in ("reduced", "use_residual"):
        if len(getattr(message, name)):
            changes[name] = bool(getattr(message, name)[0])
    return dataclasses.replace(present, **changes)
