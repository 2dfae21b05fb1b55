"""The C control core from Python, by ctypes; its structures are in `physai_control.structures`."""

from __future__ import annotations

import ctypes as C
from dataclasses import fields
from pathlib import Path

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.embodiment_parts import FENCE_KINDS, LAWS, ControlSettings, EndEffector, Fence, Impedance
from physai_base.errors import PhysaiError
from physai_base.hardware_structures import MAX_FINGERS, MAX_JOINTS, MAX_TOOLS, GripperStructure
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
from physai_control.residual import load_network
from physai_control.structures import (
    ABI,
    ACTIVATE,
    BUCKETS,
    DEACTIVATE,
    ENABLED,
    END_CHUNK,
    ESTOP,
    MAX_FENCES,
    MAX_STEPS,
    MIRRORS,
    NUMBERS,
    RECORDS,
    RESET,
    RESUME,
    STOP,
    TEXT_SIZE,
    Chunk,
    Config,
    FenceStructure,
    FrictionStructure,
    Latency,
    LimitsStructure,
    Record,
    Settings,
    Status,
    ToolStructure,
)  # fmt: skip

POSITION_MARGIN_RAD = 0.05  # measured joint position beyond its limit: fault
GEOFENCE_MARGIN_M = 0.02  # measured tool position beyond the fence: fault
CHUNK_JUMP_RAD = 0.35  # first setpoint ahead, from the running reference
CHUNK_JUMP_M = 0.15  # the same of a chunk of tool poses
CHUNK_LEAD_S = 0.2  # a chunk may start this far in the future
OBSERVER_GAIN_1_S = 20.0


class ControlError(PhysaiError):
    """The core refuses its configuration, its hardware or its thread."""


class ChunkRejected(PhysaiError):
    """The core refuses a chunk; nothing has changed and the message says why."""


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
        self._n, self._k = len(embodiment.joints), len(embodiment.end_effectors)
        pointer = C.c_void_p()
        _check_counts(embodiment)
        with load_robot(embodiment).core_file() as model:
            self._call("physai_control_create", C.byref(self._config(embodiment, model)), C.byref(pointer))
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
        check_layout(self._library, "physai_control", MIRRORS, NUMBERS)

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
        width = self._n if chunk.mode is ChunkMode.JOINT_POSITION else POSE * self._k
        if (
            chunk.mode is ChunkMode.JOINT_POSITION
            and tuple(chunk.joint_names) != self._embodiment.joint_names
        ):
            raise ChunkRejected(
                f"joint names {', '.join(chunk.joint_names)} are not those of {self._embodiment.name} in its order"
            )
        ends = self._embodiment.end_effector_names
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
        raw = Chunk(
            chunk.sequence, chunk.lease, chunk.observation_ns, chunk.start_ns, chunk.dt_ns, chunk.expiry_ns, chunk.mode.value,
            width, steps,
        )  # fmt: skip
        np.ctypeslib.as_array(raw.values)[:steps, :width] = values
        np.ctypeslib.as_array(raw.opening)[:steps, : self._k] = openings
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
            "target_wrench": 6 * self._k,
        }.items():
            if len(getattr(impedance, name)) != length:
                raise ControlError(f"{name} must have {length} numbers, got {len(getattr(impedance, name))}")
        self._call_on("physai_control_post_settings", C.byref(_settings(impedance)))
        self.impedance = impedance

    def stop_records(self) -> tuple[StopRecord, ...]:
        """The cycles around the last latched stop, once they are complete; empty otherwise and the next time."""
        records = (Record * RECORDS)()
        count = self._handle.call(self._library.physai_control_read_records, records, C.c_int(RECORDS))
        return tuple(self._stop_record(record) for record in records[:count])

    def _stop_record(self, record: Record) -> StopRecord:
        state, command = record.state, record.command
        return StopRecord(
            cycle=int(record.cycle),
            state=ControlState(record.control_state),
            answered=bool(record.answered),
            measured=JointState(
                int(state.time_ns), self._array(state.q), self._array(state.dq), self._array(state.tau),
                np.array(state.opening[: self._k]),
            ),
            command_position=self._array(command.q),
            command_velocity=self._array(command.dq),
            command_torque=self._array(command.tau),
            openings=np.array(command.opening[: self._k]),
            enabled=bool(command.flags & ENABLED),
        )  # fmt: skip

    def estop_on_signal(self, number: int) -> None:
        """An emergency stop of every core of this process on a signal, even while Python is busy or stalled."""
        if self._library.physai_control_estop_on_signal(C.c_int(number)) != 0:
            raise ControlError(f"signal {number} cannot be used for an emergency stop")

    @property
    def opening_command(self) -> np.ndarray:
        """(k,) openings commanded at present."""
        return np.array([tool.opening_target for tool in self._read().tools[: self._k]])

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
            np.array([tool.opening for tool in raw.tools[: self._k]]),
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
            end_effectors=tuple(
                EndEffectorStatus(
                    name=end.name,
                    pose=np.array(tool.pose),
                    pose_error=np.array(tool.pose_error),
                    external_wrench=np.array(tool.wrench),
                    opening=float(tool.opening),
                )
                for end, tool in zip(self._embodiment.end_effectors, raw.tools, strict=False)
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

    def _read(self) -> Status:
        status = Status()  # each caller has its own: any thread may ask
        self._handle.call(self._library.physai_control_read_status, C.byref(status))
        return status

    def _array(self, values: C.Array[C.c_double]) -> np.ndarray:
        return np.array(values[: self._n])

    def _percentiles(self, latency: Latency) -> dict[str, float]:
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
    def _config(embodiment: Embodiment, model: Path) -> Config:
        control, hardware = embodiment.control, embodiment.hardware
        config = Config(
            abi=ABI, n_joints=len(embodiment.joints), n_tools=len(embodiment.end_effectors), realtime=1
        )
        config.adds_gravity = hardware.gravity == "controller"
        config.model_path = str(model).encode()
        config.base_frame = embodiment.base_frame.encode()
        for i, joint in enumerate(embodiment.joints):
            config.joint_names[i].value = joint.name.encode()
            for name in (field[0] for field in LimitsStructure._fields_):
                setattr(config.joints[i], name, getattr(joint, name))
        for i, end in enumerate(embodiment.end_effectors):
            config.tools[i] = _tool(end)
        for name in CONTROL_NUMBERS:
            setattr(config, name, getattr(control, name))
        config.position_margin_rad, config.geofence_margin_m = POSITION_MARGIN_RAD, GEOFENCE_MARGIN_M
        config.chunk_jump_rad, config.chunk_jump_m = CHUNK_JUMP_RAD, CHUNK_JUMP_M
        config.chunk_lead_s, config.observer_gain = CHUNK_LEAD_S, OBSERVER_GAIN_1_S
        config.pose_trip[:] = control.pose_trip
        for half in range(2):
            for name in ("velocity", "acceleration", "jerk"):
                setattr(config.pose[half], name, getattr(embodiment.tool_limits, name)[half])
        config.position_commanded = hardware.command != "effort"
        config.n_fences = len(embodiment.fences)
        for i, fence in enumerate(embodiment.fences):
            config.fences[i] = _fence(fence, embodiment.end_effectors)
        config.settings = _settings(embodiment.impedance)
        calibration = embodiment.calibration
        for i, friction in enumerate(calibration.friction):
            config.friction[i] = FrictionStructure(
                friction.coulomb, friction.slope, friction.shift, friction.viscous
            )
        config.encoder_offset[: len(embodiment.joints)] = calibration.encoder_offset.tolist()
        config.command_delay_s = calibration.command_delay_s
        for tool, payload in zip(config.tools, calibration.payloads, strict=False):
            tool.payload_mass, tool.payload_com[:] = payload.mass, payload.com.tolist()
        config.hardware_path = str(_backend(hardware.backend)).encode()
        config.hardware_options = "\n".join(
            f"{key}={value}" for key, value in hardware.options.items()
        ).encode()
        return config


CONTROL_NUMBERS = tuple(
    item.name for item in fields(ControlSettings) if (item.name, C.c_double) in Config._fields_
)
"""What the core takes of a robot file's `control` as it stands there, by the same name."""


def _settings(impedance: Impedance) -> Settings:
    settings = Settings(
        law=LAWS.index(impedance.law), reduced=impedance.reduced, use_residual=impedance.use_residual
    )
    for name in ("stiffness", "damping_ratio", "clip"):
        getattr(settings, name)[: len(impedance.stiffness)] = getattr(impedance, name)
    for name in ("cartesian_stiffness", "cartesian_damping_ratio", "cartesian_clip"):
        getattr(settings, name)[:] = getattr(impedance, name)
    for tool, wrench in enumerate(np.reshape(impedance.target_wrench, (-1, 6)).tolist()):
        settings.target_wrench[tool][:] = wrench
    for name in (
        "nullspace_stiffness", "nullspace_damping_ratio", "friction_compensation", "tank_energy", "tank_power",
    ):  # fmt: skip
        setattr(settings, name, getattr(impedance, name))
    return settings


def _check_counts(embodiment: Embodiment) -> None:
    counts = {
        "driven joints": (len(embodiment.joints), MAX_JOINTS),
        "end effectors": (len(embodiment.end_effectors), MAX_TOOLS),
        "geofences": (len(embodiment.fences), MAX_FENCES),
        "fingers of one gripper": (
            max(len(e.gripper.fingers) for e in embodiment.end_effectors),
            MAX_FINGERS,
        ),
    }
    for what, (given, most) in counts.items():
        if given > most:
            raise ControlError(f"{embodiment.path}: {given} {what} given, {most} are possible")


def _tool(end: EndEffector) -> ToolStructure:
    return ToolStructure(
        end.name.encode(), end.frame.encode(), end.elbow_frame.encode(), GripperStructure.of(end.gripper)
    )


def _fence(fence: Fence, ends: tuple[EndEffector, ...]) -> FenceStructure:
    """A fence for "tool" holds for that of every arm, one for "elbow" for every arm that has one."""
    points = 0
    for i, end in enumerate(ends):
        points |= ("tool" in fence.points) << 2 * i | (
            "elbow" in fence.points and bool(end.elbow_frame)
        ) << 2 * i + 1
    raw = FenceStructure(FENCE_KINDS.index(fence.kind), points)
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
