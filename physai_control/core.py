"""The C control core from Python, by ctypes; the structures are those of `physai_control.h`."""

from __future__ import annotations

import ctypes as C
from pathlib import Path

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.embodiment_parts import FENCE_KINDS, LAWS, Fence, Impedance
from physai_base.errors import PhysaiError
from physai_base.layout import check_layout
from physai_base.native import NativeHandle, load_library
from physai_base.robot_model import load_robot
from physai_base.values import (
    POSE,
    ActionChunk,
    ChunkMode,
    ControlCause,
    ControlState,
    ControlStatus,
    EndEffectorStatus,
    JointState,
    StopRecord,
)
from physai_control.residual import Network, load_network

ABI = 4
MAX_JOINTS, MAX_STEPS, NAME_SIZE, TEXT_SIZE, BUCKETS, MAX_FENCES, RECORDS = 16, 128, 64, 256, 576, 16, 640

POSITION_MARGIN_RAD = 0.05  # measured joint position beyond its limit: fault
GEOFENCE_MARGIN_M = 0.02  # measured tool position beyond the fence: fault
CHUNK_JUMP_RAD = 0.35  # first setpoint ahead, from the running reference
CHUNK_JUMP_M = 0.15  # the same of a chunk of tool poses
CHUNK_LEAD_S = 0.2  # a chunk may start this far in the future
OBSERVER_GAIN_1_S = 20.0

ACTIVATE, DEACTIVATE, STOP, RESUME, RESET, ESTOP, END_CHUNK = 1, 2, 4, 8, 16, 32, 64


class ControlError(PhysaiError):
    """The core refuses its configuration, its hardware or its thread."""


class ChunkRejected(PhysaiError):
    """The core refuses a chunk; nothing has changed and the message says why."""


class State(C.Structure):
    """struct physai_state."""

    _fields_ = [
        ("seq", C.c_uint64), ("time_ns", C.c_int64), ("published_ns", C.c_int64), ("n_joints", C.c_uint32), ("flags", C.c_uint32),
        ("q", C.c_double * MAX_JOINTS), ("dq", C.c_double * MAX_JOINTS), ("tau", C.c_double * MAX_JOINTS), ("gripper_width", C.c_double),
    ]  # fmt: skip


class Command(C.Structure):
    """struct physai_command."""

    _fields_ = [
        ("seq", C.c_uint64), ("time_ns", C.c_int64), ("n_joints", C.c_uint32), ("flags", C.c_uint32),
        ("tau", C.c_double * MAX_JOINTS), ("q", C.c_double * MAX_JOINTS), ("dq", C.c_double * MAX_JOINTS),
        ("gripper_width", C.c_double), ("gripper_force", C.c_double),
    ]  # fmt: skip


class _Limits(C.Structure):
    _fields_ = [
        (name, C.c_double)
        for name in (
            "position_min", "position_max", "velocity", "acceleration", "jerk", "torque", "torque_rate", "stop_torque_rate",
            "contact_torque", "braking_decel_2a", "braking_offset",
        )
    ]  # fmt: skip


class _Friction(C.Structure):
    _fields_ = [(name, C.c_double) for name in ("coulomb", "slope", "shift", "viscous")]


class _Fence(C.Structure):
    _fields_ = [
        ("kind", C.c_uint32), ("points", C.c_uint32), ("low", C.c_double * 3), ("high", C.c_double * 3),
        ("normal", C.c_double * 3), ("offset", C.c_double),
    ]  # fmt: skip


class _Settings(C.Structure):
    _fields_ = [
        ("law", C.c_uint32), ("reduced", C.c_uint32), ("use_residual", C.c_uint32), ("reserved", C.c_uint32),
        ("stiffness", C.c_double * MAX_JOINTS), ("damping_ratio", C.c_double * MAX_JOINTS), ("clip", C.c_double * MAX_JOINTS),
        ("cartesian_stiffness", C.c_double * 6), ("cartesian_damping_ratio", C.c_double * 2), ("cartesian_clip", C.c_double * 2),
        ("nullspace_stiffness", C.c_double), ("nullspace_damping_ratio", C.c_double), ("target_wrench", C.c_double * 6),
        ("friction_compensation", C.c_double), ("tank_energy", C.c_double), ("tank_power", C.c_double),
    ]  # fmt: skip


_Name = C.c_char * NAME_SIZE


class _Config(C.Structure):
    _fields_ = [
        ("abi", C.c_uint32), ("n_joints", C.c_uint32), ("n_fingers", C.c_uint32), ("adds_gravity", C.c_uint32),
        ("realtime", C.c_uint32), ("model_path", C.c_char * 1024),
        ("base_frame", _Name), ("tool_frame", _Name), ("joint_names", _Name * MAX_JOINTS), ("finger_names", _Name * MAX_JOINTS),
        ("elbow_frame", _Name), ("position_commanded", C.c_uint32), ("n_fences", C.c_uint32), ("fences", _Fence * MAX_FENCES),
        ("joints", _Limits * MAX_JOINTS), ("pose", _Limits * 2), ("friction", _Friction * MAX_JOINTS),
        ("encoder_offset", C.c_double * MAX_JOINTS), ("payload_mass", C.c_double), ("payload_com", C.c_double * 3),
        ("command_delay_s", C.c_double), ("settings", _Settings),
        *((name, C.c_double) for name in (
            "gripper_width_min", "gripper_width_max", "gripper_speed", "gripper_force", "rate_hz", "blend_s", "gain_ramp_s",
            "stop_acceleration", "state_timeout_s", "velocity_trip", "tracking_trip_rad",
        )),
        ("pose_trip", C.c_double * 2),
        *((name, C.c_double) for name in (
            "position_margin_rad", "geofence_margin_m", "chunk_jump_rad", "chunk_jump_m", "chunk_lead_s", "observer_gain",
            "contact_force", "contact_moment", "reduced_speed", "reduced_tool_speed", "reduced_force",
        )),
        ("hardware_path", C.c_char * 1024), ("hardware_options", C.c_char * 1024),
    ]  # fmt: skip


class _Chunk(C.Structure):
    _fields_ = [
        ("sequence", C.c_uint64), ("lease", C.c_uint64), ("observation_ns", C.c_int64), ("start_ns", C.c_int64), ("dt_ns", C.c_int64),
        ("expiry_ns", C.c_int64), ("mode", C.c_uint32), ("n_values", C.c_uint32), ("n_steps", C.c_uint32),
        ("reserved", C.c_uint32), ("values", (C.c_double * MAX_JOINTS) * MAX_STEPS), ("gripper_width", C.c_double * MAX_STEPS),
    ]  # fmt: skip


class _Record(C.Structure):
    _fields_ = [
        ("cycle", C.c_uint64), ("control_state", C.c_uint32), ("answered", C.c_uint32), ("state", State), ("command", Command),
    ]  # fmt: skip


class _Latency(C.Structure):
    _fields_ = [
        ("count", C.c_uint64 * BUCKETS),
        ("total", C.c_uint64),
        ("sum_ns", C.c_uint64),
        ("max_ns", C.c_uint64),
    ]


class _Status(C.Structure):
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
        *((name, C.c_double * MAX_JOINTS) for name in (
            "q", "dq", "reference", "reference_velocity", "reference_acceleration", "tau", "tau_external",
        )),
        ("wrench", C.c_double * 6), ("tool_pose", C.c_double * 7), ("tool_reference", C.c_double * 7),
        ("pose_error", C.c_double * 6), ("tank", C.c_double), ("gripper_width", C.c_double), ("gripper_target", C.c_double),
        ("compute", _Latency), ("wake", _Latency), ("cause_text", C.c_char * TEXT_SIZE), ("last_rejection", C.c_char * TEXT_SIZE),
    ]  # fmt: skip


_MIRRORS = {
    "physai_state": State, "physai_command": Command, "physai_joint_limits": _Limits, "physai_friction": _Friction,
    "physai_fence": _Fence, "physai_settings": _Settings, "physai_control_config": _Config, "physai_chunk": _Chunk,
    "physai_record": _Record, "physai_latency": _Latency, "physai_status": _Status, "physai_residual_network": Network,
}  # fmt: skip
_NUMBERS = {
    "PHYSAI_CONTROL_ABI": ABI, "PHYSAI_MAX_JOINTS": MAX_JOINTS, "PHYSAI_MAX_STEPS": MAX_STEPS, "PHYSAI_NAME_SIZE": NAME_SIZE,
    "PHYSAI_TEXT_SIZE": TEXT_SIZE, "PHYSAI_LATENCY_BUCKETS": BUCKETS, "PHYSAI_MAX_FENCES": MAX_FENCES, "PHYSAI_RECORDS": RECORDS,
    "PHYSAI_REQUEST_ACTIVATE": ACTIVATE, "PHYSAI_REQUEST_DEACTIVATE": DEACTIVATE, "PHYSAI_REQUEST_STOP": STOP,
    "PHYSAI_REQUEST_RESUME": RESUME, "PHYSAI_REQUEST_RESET": RESET, "PHYSAI_REQUEST_ESTOP": ESTOP,
    "PHYSAI_REQUEST_END_CHUNK": END_CHUNK,
    "PHYSAI_CHUNK_JOINTS": ChunkMode.JOINT_POSITION.value, "PHYSAI_LAW_JOINT": LAWS.index("joint"),
    "PHYSAI_LAW_CARTESIAN": LAWS.index("cartesian"), "PHYSAI_COMMAND_ENABLE": 1, "PHYSAI_FENCE_TOOL": 1, "PHYSAI_FENCE_ELBOW": 2,
    **{f"PHYSAI_FENCE_{kind.upper()}": number for number, kind in enumerate(FENCE_KINDS)},
    **{f"PHYSAI_{state.name}": state.value for state in ControlState},
}  # fmt: skip


class ControlCore:
    """One control core. Give the cycles yourself (a simulation in process) or `start` its real-time thread."""

    def __init__(self, embodiment: Embodiment) -> None:
        """Load the robot's model and check every limit.

        Raises:
            ControlError: the core refuses the configuration; the message names the entry.
        """
        self._library = load_library("physai_control", "physai_control")
        self._check_layout()
        self._embodiment = embodiment
        self._n = len(embodiment.joints)
        pointer = C.c_void_p()
        config = self._config(embodiment)
        with load_robot(embodiment).core_file() as model:
            config.model_path = str(model).encode()
            self._call("physai_control_create", C.byref(config), C.byref(pointer))
        self._handle = NativeHandle("the control core", pointer, self._destroy)
        self.impedance = embodiment.impedance
        if embodiment.calibration.residual:
            network = load_network(embodiment.calibration.residual, embodiment)
            self._call_on("physai_control_set_residual", C.byref(network))
        self._latency: tuple[tuple[int, int], float] = ((0, 0), 0.0)  # chunk by lease and sequence
        self.last_sequence = 0

    def _check_layout(self) -> None:
        version = self._library.physai_control_abi_version()
        if version != ABI:
            raise ControlError(f"libphysai_control has ABI {version}, this package {ABI}; build again")
        check_layout(self._library, "physai_control", _MIRRORS, _NUMBERS)

    @property
    def handle(self) -> NativeHandle:
        """The C object, for `physai_control_cycle`."""
        return self._handle

    @property
    def cycle_function(self) -> C.c_void_p:
        """Address of `physai_control_cycle`, for a plant in the same process."""
        return C.cast(self._library.physai_control_cycle, C.c_void_p)

    @property
    def status_function(self) -> C.c_void_p:
        """Address of `physai_control_read_status`, for whoever watches the core from C."""
        return C.cast(self._library.physai_control_read_status, C.c_void_p)

    def start(self) -> None:
        """Open the hardware and start the real-time thread, inactive.

        Raises:
            ControlError: the hardware or the thread cannot be had; the message says why.
        """
        self._call_on("physai_control_start")

    def close(self) -> None:
        """End the thread, close the hardware and free the core, once no other thread is in a call of it.

        Whatever else is called from then on raises a `ClosedError`.
        """
        self._handle.close()

    def _destroy(self, pointer: C.c_void_p) -> None:
        self._library.physai_control_stop(pointer)
        self._library.physai_control_destroy.restype = None
        self._library.physai_control_destroy(pointer)

    def activate(self) -> None:
        """Hold at the measured pose and accept chunks."""
        self._request(ACTIVATE)

    def deactivate(self) -> None:
        """Stop, then go inactive; a latched fault stays."""
        self._request(DEACTIVATE)

    def stop_motion(self) -> None:
        """Stop and hold; chunks are refused until `resume`."""
        self._request(STOP)

    def resume(self) -> None:
        """Accept chunks again after `stop_motion`."""
        self._request(RESUME)

    def reset(self) -> None:
        """Leave a latched fault or emergency stop: hold at the measured pose."""
        self._request(RESET)

    def estop(self) -> None:
        """Stop and latch."""
        self._request(ESTOP)

    def end_chunk(self, lease: int) -> None:
        """Stop on the path of the chunk that is followed, then hold; the next chunk is followed as ever.

        What was handed over and does not run yet is dropped.

        Raises:
            ChunkRejected: the arm follows a chunk of another lease; nothing has changed.
        """
        status = self._read()
        if status.active_sequence and status.active_lease != lease:
            raise ChunkRejected(
                "another policy's lease: the arm follows a chunk of a policy that did not end it"
            )
        self._request(END_CHUNK)

    def _request(self, bits: int) -> None:
        self._handle.call(self._library.physai_control_request, C.c_uint32(bits))

    def post(self, chunk: ActionChunk) -> None:
        """Hand a chunk over after validating all of it.

        Raises:
            ChunkRejected: with the reason; nothing has changed.
        """
        width = self._n if chunk.mode is ChunkMode.JOINT_POSITION else POSE
        if (
            chunk.mode is ChunkMode.JOINT_POSITION
            and tuple(chunk.joint_names) != self._embodiment.joint_names
        ):
            raise ChunkRejected(
                f"joint names {', '.join(chunk.joint_names)} are not those of {self._embodiment.name} in its order"
            )
        ends = tuple(end.name for end in self._embodiment.end_effectors)
        if (chunk.end_effectors or ends[:1]) != ends:
            raise ChunkRejected(
                f"end effectors {', '.join(chunk.end_effectors) or 'are not named and'} are not those of "
                f"{self._embodiment.name} in its order: {', '.join(ends)}"
            )
        values, openings = np.asarray(chunk.values, float), np.asarray(chunk.openings, float)
        steps = len(values)
        if (
            values.shape != (steps, width)
            or openings.shape != (steps, len(ends))
            or not 1 <= steps <= MAX_STEPS
        ):
            raise ChunkRejected(
                f"values have shape {values.shape} and openings {openings.shape}; "
                f"expected (H, {width}) and (H, {len(ends)}) with H from 1 to {MAX_STEPS}"
            )
        raw = _Chunk(
            chunk.sequence, chunk.lease, chunk.observation_ns, chunk.start_ns, chunk.dt_ns, chunk.expiry_ns, chunk.mode.value,
            width, steps,
        )  # fmt: skip
        np.ctypeslib.as_array(raw.values)[:steps, :width] = values
        np.ctypeslib.as_array(raw.gripper_width)[:steps] = openings[:, 0]
        text = C.create_string_buffer(TEXT_SIZE)
        code = self._handle.call(
            self._library.physai_control_post_chunk, C.byref(raw), text, C.c_size_t(TEXT_SIZE)
        )
        if code != 0:
            raise ChunkRejected(text.value.decode() or self._strerror(code))
        self.last_sequence = chunk.sequence

    def configure(self, impedance: Impedance) -> None:
        """Another law or other gains, from the next cycle on and without a step in the torque.

        Raises:
            ControlError: a value is out of its range; nothing has changed.
        """
        n = self._n
        for name, length in {
            "stiffness": n,
            "damping_ratio": n,
            "clip": n,
            "cartesian_stiffness": 6,
            "target_wrench": 6,
        }.items():
            if len(getattr(impedance, name)) != length:
                raise ControlError(f"{name} must have {length} numbers, got {len(getattr(impedance, name))}")
        self._call_on("physai_control_post_settings", C.byref(_settings(impedance)))
        self.impedance = impedance

    def stop_records(self) -> tuple[StopRecord, ...]:
        """The cycles around the last latched stop, once they are complete; empty otherwise and the next time."""
        records = (_Record * RECORDS)()
        count = self._handle.call(self._library.physai_control_read_records, records, C.c_int(RECORDS))
        return tuple(self._stop_record(record) for record in records[:count])

    def _stop_record(self, record: _Record) -> StopRecord:
        state, command = record.state, record.command
        return StopRecord(
            cycle=int(record.cycle),
            state=ControlState(record.control_state),
            answered=bool(record.answered),
            measured=JointState(
                int(state.time_ns), self._array(state.q), self._array(state.dq), self._array(state.tau),
                np.array([state.gripper_width]),
            ),
            command_position=self._array(command.q),
            command_velocity=self._array(command.dq),
            command_torque=self._array(command.tau),
            openings=np.array([command.gripper_width]),
            enabled=bool(command.flags & 1),
        )  # fmt: skip

    def estop_on_signal(self, number: int) -> None:
        """An emergency stop of every core of this process on a signal, even while Python is busy or stalled."""
        if self._library.physai_control_estop_on_signal(C.c_int(number)) != 0:
            raise ControlError(f"signal {number} cannot be used for an emergency stop")

    @property
    def opening_command(self) -> np.ndarray:
        """(k,) openings commanded at present."""
        return np.array([self._read().gripper_target])

    def joint_state(self) -> JointState | None:
        """The newest measured state, None before the first."""
        raw = self._read()
        if raw.seq == 0:
            return None
        return JointState(
            int(raw.time_ns),
            self._array(raw.q),
            self._array(raw.dq),
            self._array(raw.tau),
            np.array([raw.gripper_width]),
        )

    def status(self) -> ControlStatus:
        """A snapshot of the core."""
        raw = self._read()
        reference, q = self._array(raw.reference), self._array(raw.q)
        age_s = (raw.time_ns - raw.observation_ns) / 1e9 if raw.active_sequence else 0.0
        followed = (int(raw.active_lease), int(raw.active_sequence))
        if raw.active_sequence and followed != self._latency[0]:
            self._latency = (followed, age_s)
        return ControlStatus(
            stamp_ns=int(raw.time_ns),
            state=ControlState(raw.state),
            cause=raw.cause_text.decode(),
            cycles=int(raw.cycles),
            overruns=int(raw.overruns),
            missed_states=int(raw.missed_states),
            latency_us=self._percentiles(raw.compute),
            wake_us=self._percentiles(raw.wake),
            active_sequence=int(raw.active_sequence),
            chunk_age_s=age_s,
            chunks_accepted=int(raw.chunks_accepted),
            chunks_rejected=int(raw.chunks_rejected),
            last_rejection=raw.last_rejection.decode(),
            tracking_error_rad=reference - q,
            end_effectors=(
                EndEffectorStatus(
                    name=self._embodiment.end_effectors[0].name,
                    pose=np.array(raw.tool_pose),
                    pose_error=np.array(raw.pose_error),
                    external_wrench=np.array(raw.wrench),
                    opening=float(raw.gripper_width),
                ),
            ),
            reference=reference,
            activation_latency_s=self._latency[1],
            law=LAWS[raw.law],
            reduced=bool(raw.reduced),
            residual_active=bool(raw.residual_active),
            skipped_states=int(raw.gaps),
            tank_energy_j=float(raw.tank),
            cause_code=ControlCause(raw.cause),
            active_lease=int(raw.active_lease) if raw.active_sequence else 0,
        )

    @property
    def mean_compute_us(self) -> float:
        """Mean compute time of a cycle since the start or `clear_latency`."""
        compute = self._read().compute
        return float(compute.sum_ns / compute.total / 1e3) if compute.total else 0.0

    def histograms(self) -> tuple[np.ndarray, np.ndarray]:
        """Counts of compute times and of wake-up latencies, (BUCKETS,) each; see `bare_loop.bucket_edges_ns`."""
        raw = self._read()
        return np.array(raw.compute.count, np.int64), np.array(raw.wake.count, np.int64)

    def clear_latency(self) -> None:
        """Start the histograms over, from the next cycle on."""
        self._handle.call(self._library.physai_control_clear_latency)

    def _read(self) -> _Status:
        status = _Status()  # each caller has its own: any thread may ask
        self._handle.call(self._library.physai_control_read_status, C.byref(status))
        return status

    def _array(self, values: C.Array[C.c_double]) -> np.ndarray:
        return np.array(values[: self._n])

    def _percentiles(self, latency: _Latency) -> dict[str, float]:
        """p50, p99, p99.9 and the maximum, us, from the counts of a histogram."""
        counts = np.cumsum(np.ctypeslib.as_array(latency.count))
        self._library.physai_control_bucket_ns.restype = C.c_uint64
        figures = {}
        for name, share in (("p50", 0.5), ("p99", 0.99), ("p99_9", 0.999)):
            if not latency.total:
                figures[name] = 0.0
                continue
            bucket = int(np.searchsorted(counts, share * latency.total))
            edge = self._library.physai_control_bucket_ns(min(bucket, BUCKETS - 1))
            figures[name] = min(edge, latency.max_ns) / 1e3
        figures["max"] = latency.max_ns / 1e3
        return figures

    def _call(self, name: str, *arguments: object) -> None:
        text = C.create_string_buffer(TEXT_SIZE)
        code = getattr(self._library, name)(*arguments, text, C.c_size_t(TEXT_SIZE))
        if code != 0:
            raise ControlError(f"{self._strerror(code)}: {text.value.decode()}")

    def _call_on(self, name: str, *arguments: object) -> None:
        with self._handle as pointer:
            self._call(name, pointer, *arguments)

    def _strerror(self, code: int) -> str:
        self._library.physai_control_strerror.restype = C.c_char_p
        return str(self._library.physai_control_strerror(code).decode())

    @staticmethod
    def _config(embodiment: Embodiment) -> _Config:
        control, gripper, hardware = embodiment.control, embodiment.gripper, embodiment.hardware
        config = _Config(abi=ABI, n_joints=len(embodiment.joints), n_fingers=len(gripper.joints), realtime=1)
        config.adds_gravity = hardware.gravity == "controller"
        config.base_frame, config.tool_frame = embodiment.base_frame.encode(), embodiment.tool_frame.encode()
        for i, joint in enumerate(embodiment.joints):
            config.joint_names[i].value = joint.name.encode()
            for name in (field[0] for field in _Limits._fields_):
                setattr(config.joints[i], name, getattr(joint, name))
        for i, finger in enumerate(gripper.joints):
            config.finger_names[i].value = finger.encode()
        config.gripper_width_min, config.gripper_width_max = gripper.opening_min, gripper.opening_max
        config.gripper_speed, config.gripper_force = gripper.speed, gripper.force
        for name in (
            "rate_hz",
            "blend_s",
            "gain_ramp_s",
            "stop_acceleration",
            "state_timeout_s",
            "velocity_trip",
            "tracking_trip_rad",
            "contact_force",
            "contact_moment",
            "reduced_speed",
            "reduced_tool_speed",
            "reduced_force",
        ):
            setattr(config, name, getattr(control, name))
        config.position_margin_rad, config.geofence_margin_m = POSITION_MARGIN_RAD, GEOFENCE_MARGIN_M
        config.chunk_jump_rad, config.chunk_jump_m = CHUNK_JUMP_RAD, CHUNK_JUMP_M
        config.chunk_lead_s, config.observer_gain = CHUNK_LEAD_S, OBSERVER_GAIN_1_S
        config.pose_trip[:] = control.pose_trip
        for half in range(2):
            for name in ("velocity", "acceleration", "jerk"):
                setattr(config.pose[half], name, getattr(embodiment.tool_limits, name)[half])
        config.elbow_frame = embodiment.elbow_frame.encode()
        config.position_commanded = hardware.command != "effort"
        if len(embodiment.fences) > MAX_FENCES:
            raise ControlError(f"{len(embodiment.fences)} geofences given, {MAX_FENCES} are possible")
        config.n_fences = len(embodiment.fences)
        for i, fence in enumerate(embodiment.fences):
            config.fences[i] = _fence(fence)
        config.settings = _settings(embodiment.impedance)
        calibration = embodiment.calibration
        for i, friction in enumerate(calibration.friction):
            config.friction[i] = _Friction(friction.coulomb, friction.slope, friction.shift, friction.viscous)
        config.encoder_offset[: len(embodiment.joints)] = calibration.encoder_offset.tolist()
        config.payload_mass, config.command_delay_s = calibration.payload_mass, calibration.command_delay_s
        config.payload_com[:] = calibration.payload_com.tolist()
        config.hardware_path = str(_backend(hardware.backend)).encode()
        config.hardware_options = "\n".join(
            f"{key}={value}" for key, value in hardware.options.items()
        ).encode()
        return config


def _settings(impedance: Impedance) -> _Settings:
    settings = _Settings(
        law=LAWS.index(impedance.law), reduced=impedance.reduced, use_residual=impedance.use_residual
    )
    for name in ("stiffness", "damping_ratio", "clip"):
        getattr(settings, name)[: len(impedance.stiffness)] = getattr(impedance, name)
    for name in ("cartesian_stiffness", "cartesian_damping_ratio", "cartesian_clip", "target_wrench"):
        getattr(settings, name)[:] = getattr(impedance, name)
    for name in (
        "nullspace_stiffness", "nullspace_damping_ratio", "friction_compensation", "tank_energy", "tank_power",
    ):  # fmt: skip
        setattr(settings, name, getattr(impedance, name))
    return settings


def _fence(fence: Fence) -> _Fence:
    raw = _Fence(FENCE_KINDS.index(fence.kind), ("tool" in fence.points) | ("elbow" in fence.points) << 1)
    raw.low[:], raw.high[:], raw.normal[:] = fence.low.tolist(), fence.high.tolist(), fence.normal.tolist()
    raw.offset = fence.offset
    return raw


def _backend(name: str) -> Path:
    """The shared library of a hardware backend.

    Raises:
        ControlError: this installation has none of that name.
    """
    from physai_base.native import LibraryError, find_library

    try:
        return find_library("physai_control", f"physai_hardware_{name}")
    except LibraryError as error:
        hint = " (topic is built where ROS 2's C libraries are found)" if name == "topic" else ""
        raise ControlError(f"there is no hardware backend {name!r}{hint}: {error}") from error
