"""The structures of `physai_control.h`, by ctypes; `check_layout` compares them with the library's own."""

from __future__ import annotations

import ctypes as C
from dataclasses import fields

from physai_base import hardware_structures
from physai_base.embodiment_parts import FENCE_KINDS, LAWS, Joint
from physai_base.hardware_structures import MAX_JOINTS, MAX_TOOLS, Doubles, GripperStructure, Name, Openings
from physai_base.values import ChunkMode, ControlState
from physai_control.residual import Network

ABI = 5
MAX_STEPS, TEXT_SIZE, BUCKETS, MAX_FENCES, RECORDS = 128, 256, 576, 16, 640

ACTIVATE, DEACTIVATE, STOP, RESUME, RESET, ESTOP, END_CHUNK = 1, 2, 4, 8, 16, 32, 64
ENABLED = 1  # flag of a command


class State(C.Structure):
    """struct physai_state."""

    _fields_ = [
        ("seq", C.c_uint64), ("time_ns", C.c_int64), ("published_ns", C.c_int64), ("n_joints", C.c_uint32), ("flags", C.c_uint32),
        ("q", Doubles), ("dq", Doubles), ("tau", Doubles), ("opening", Openings),
    ]  # fmt: skip


class Command(C.Structure):
    """struct physai_command."""

    _fields_ = [
        ("seq", C.c_uint64), ("time_ns", C.c_int64), ("n_joints", C.c_uint32), ("flags", C.c_uint32),
        ("tau", Doubles), ("q", Doubles), ("dq", Doubles),
        ("opening", Openings), ("grip_force", Openings),
    ]  # fmt: skip


class LimitsStructure(C.Structure):
    """struct physai_joint_limits: a robot file's joint without its name and gains, in the same order."""

    _fields_ = [
        (item.name, C.c_double)
        for item in fields(Joint)
        if item.name not in ("name", "stiffness", "damping_ratio", "clip")
    ]


class FrictionStructure(C.Structure):
    """struct physai_friction."""

    _fields_ = [(name, C.c_double) for name in ("coulomb", "slope", "shift", "viscous")]


class FenceStructure(C.Structure):
    """struct physai_fence."""

    _fields_ = [
        ("kind", C.c_uint32), ("points", C.c_uint32), ("low", C.c_double * 3), ("high", C.c_double * 3),
        ("normal", C.c_double * 3), ("offset", C.c_double),
    ]  # fmt: skip


class Settings(C.Structure):
    """struct physai_settings."""

    _fields_ = [
        ("law", C.c_uint32), ("reduced", C.c_uint32), ("use_residual", C.c_uint32), ("reserved", C.c_uint32),
        ("stiffness", Doubles), ("damping_ratio", Doubles), ("clip", Doubles),
        ("cartesian_stiffness", C.c_double * 6), ("cartesian_damping_ratio", C.c_double * 2), ("cartesian_clip", C.c_double * 2),
        ("nullspace_stiffness", C.c_double), ("nullspace_damping_ratio", C.c_double), ("target_wrench", (C.c_double * 6) * MAX_TOOLS),
        ("friction_compensation", C.c_double), ("tank_energy", C.c_double), ("tank_power", C.c_double),
    ]  # fmt: skip


class ToolStructure(C.Structure):
    """struct physai_tool."""

    _fields_ = [
        ("name", Name), ("frame", Name), ("elbow_frame", Name), ("gripper", GripperStructure),
        ("payload_mass", C.c_double), ("payload_com", C.c_double * 3),
    ]  # fmt: skip


class Config(C.Structure):
    """struct physai_control_config."""

    _fields_ = [
        *((name, C.c_uint32) for name in (
            "abi", "n_joints", "n_tools", "adds_gravity", "realtime", "position_commanded", "n_fences", "reserved",
        )),
        ("model_path", C.c_char * 1024), ("base_frame", Name), ("joint_names", Name * MAX_JOINTS), ("tools", ToolStructure * MAX_TOOLS),
        ("fences", FenceStructure * MAX_FENCES), ("joints", LimitsStructure * MAX_JOINTS), ("pose", LimitsStructure * 2),
        ("friction", FrictionStructure * MAX_JOINTS), ("encoder_offset", Doubles), ("command_delay_s", C.c_double),
        ("settings", Settings),
        *((name, C.c_double) for name in (
            "rate_hz", "blend_s", "gain_ramp_s", "stop_acceleration", "state_timeout_s", "velocity_trip", "tracking_trip_rad",
        )),
        ("pose_trip", C.c_double * 2),
        *((name, C.c_double) for name in (
            "position_margin_rad", "geofence_margin_m", "arms_distance", "chunk_jump_rad", "chunk_jump_m", "chunk_lead_s",
            "observer_gain", "contact_force", "contact_moment", "reduced_speed", "reduced_tool_speed", "reduced_force",
        )),
        ("hardware_path", C.c_char * 1024), ("hardware_options", C.c_char * 1024),
    ]  # fmt: skip


class Chunk(C.Structure):
    """struct physai_chunk."""

    _fields_ = [
        ("sequence", C.c_uint64), ("lease", C.c_uint64), ("observation_ns", C.c_int64), ("start_ns", C.c_int64), ("dt_ns", C.c_int64),
        ("expiry_ns", C.c_int64), ("mode", C.c_uint32), ("n_values", C.c_uint32), ("n_steps", C.c_uint32),
        ("reserved", C.c_uint32), ("values", Doubles * MAX_STEPS), ("opening", Openings * MAX_STEPS),
    ]  # fmt: skip


class Record(C.Structure):
    """struct physai_record."""

    _fields_ = [
        ("cycle", C.c_uint64), ("control_state", C.c_uint32), ("answered", C.c_uint32), ("state", State), ("command", Command),
    ]  # fmt: skip


class Latency(C.Structure):
    """struct physai_latency."""

    _fields_ = [
        ("count", C.c_uint64 * BUCKETS),
        ("total", C.c_uint64),
        ("sum_ns", C.c_uint64),
        ("max_ns", C.c_uint64),
    ]


class ToolStatus(C.Structure):
    """struct physai_tool_status."""

    _fields_ = [
        ("pose", C.c_double * 7), ("reference", C.c_double * 7), ("pose_error", C.c_double * 6), ("wrench", C.c_double * 6),
        ("opening", C.c_double), ("opening_target", C.c_double),
    ]  # fmt: skip


class Status(C.Structure):
    """struct physai_status."""

    _fields_ = [
        ("state", C.c_uint32), ("cause", C.c_uint32), ("cause_joint", C.c_int32), ("paused", C.c_uint32), ("fifo", C.c_uint32),
        *((name, C.c_uint32) for name in (
            "locked", "law", "space", "reduced", "degraded", "residual_active", "gaps",
        )),
        ("cause_cycle", C.c_uint64), ("cause_time_ns", C.c_int64), ("cause_value", C.c_double),
        ("cause_limit", C.c_double), ("cause_sequence", C.c_uint64), ("time_ns", C.c_int64),
        *((name, C.c_uint64) for name in (
            "seq", "cycles", "overruns", "missed_states", "chunks_accepted", "chunks_rejected", "chunks_dropped", "active_sequence",
            "active_lease",
        )),
        ("observation_ns", C.c_int64),
        *((name, Doubles) for name in (
            "q", "dq", "reference", "reference_velocity", "reference_acceleration", "tau", "tau_external",
        )),
        ("tank", C.c_double), ("tools", ToolStatus * MAX_TOOLS),
        ("compute", Latency), ("wake", Latency), ("cause_text", C.c_char * TEXT_SIZE), ("last_rejection", C.c_char * TEXT_SIZE),
    ]  # fmt: skip


MIRRORS = {
    **hardware_structures.MIRRORS,
    "physai_state": State, "physai_command": Command, "physai_joint_limits": LimitsStructure, "physai_friction": FrictionStructure,
    "physai_fence": FenceStructure, "physai_settings": Settings, "physai_tool": ToolStructure, "physai_control_config": Config,
    "physai_chunk": Chunk, "physai_record": Record, "physai_latency": Latency, "physai_tool_status": ToolStatus,
    "physai_status": Status, "physai_residual_network": Network,
}  # fmt: skip
NUMBERS = {
    **hardware_structures.NUMBERS,
    "PHYSAI_CONTROL_ABI": ABI, "PHYSAI_MAX_STEPS": MAX_STEPS, "PHYSAI_TEXT_SIZE": TEXT_SIZE,
    "PHYSAI_LATENCY_BUCKETS": BUCKETS, "PHYSAI_MAX_FENCES": MAX_FENCES, "PHYSAI_RECORDS": RECORDS,
    "PHYSAI_REQUEST_ACTIVATE": ACTIVATE, "PHYSAI_REQUEST_DEACTIVATE": DEACTIVATE, "PHYSAI_REQUEST_STOP": STOP,
    "PHYSAI_REQUEST_RESUME": RESUME, "PHYSAI_REQUEST_RESET": RESET, "PHYSAI_REQUEST_ESTOP": ESTOP,
    "PHYSAI_REQUEST_END_CHUNK": END_CHUNK,
    "PHYSAI_CHUNK_JOINTS": ChunkMode.JOINT_POSITION.value, "PHYSAI_LAW_JOINT": LAWS.index("joint"),
    "PHYSAI_LAW_CARTESIAN": LAWS.index("cartesian"), "PHYSAI_COMMAND_ENABLE": ENABLED, "PHYSAI_FENCE_TOOL": 1,
    "PHYSAI_FENCE_ELBOW": 2,
    **{f"PHYSAI_FENCE_{kind.upper()}": number for number, kind in enumerate(FENCE_KINDS)},
    **{f"PHYSAI_{state.name}": state.value for state in ControlState},
}  # fmt: skip
