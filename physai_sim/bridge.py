"""The cell's arm behind ROS 2 topics, by ctypes; the structures are those of `physai_bridge.h`."""

from __future__ import annotations

import ctypes as C
from dataclasses import dataclass, fields

import mujoco
import numpy as np

from physai_base import hardware_structures
from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.hardware_structures import MAX_JOINTS, MAX_TOOLS, Doubles, GripperStructure, Name
from physai_base.layout import check_layout
from physai_base.native import NativeHandle, load_library
from physai_sim.plant import servo_gains

ABI = 2
TEXT_SIZE, OPTIONS_SIZE, ROUND_TRIPS = 256, 1024, 8192
ANSWER_S = 0.005  # wall time that simulated time waits for a command; less than the controller's stale_ms


class BridgeError(PhysaiError):
    """The bridge cannot be made; the message says why."""


class _Hardware(C.Structure):
    _fields_ = [
        ("n_joints", C.c_uint32), ("n_tools", C.c_uint32), ("rate_hz", C.c_double), ("joint_names", Name * MAX_JOINTS),
        ("tool_names", Name * MAX_TOOLS), ("grippers", GripperStructure * MAX_TOOLS), ("options", C.c_char * OPTIONS_SIZE),
    ]  # fmt: skip


class _Config(C.Structure):
    _fields_ = [
        ("abi", C.c_uint32), ("reserved", C.c_uint32), ("robot", _Hardware), ("dof", C.c_int32 * MAX_JOINTS),
        ("torque_limit", Doubles), ("servo_stiffness", Doubles), ("servo_damping", Doubles),
        ("answer_s", C.c_double), ("epoch_ns", C.c_int64), ("node_name", Name),
    ]  # fmt: skip


class _Faults(C.Structure):
    _fields_ = [
        *((name, C.c_double) for name in ("drop", "duplicate", "reorder", "delay_s", "jitter_s")),
        ("mute_states", C.c_uint32), ("mute_commands", C.c_uint32),
    ]  # fmt: skip


class _Counts(C.Structure):
    _fields_ = [(name, C.c_uint64) for name in ("states", "commands", "refused", "applied")]


MIRRORS = {
    **hardware_structures.MIRRORS, "physai_hardware_config": _Hardware, "physai_bridge_config": _Config, "physai_bridge_faults": _Faults,
    "physai_bridge_counts": _Counts,
}  # fmt: skip
NUMBERS = {
    **hardware_structures.NUMBERS, "PHYSAI_BRIDGE_ABI": ABI, "PHYSAI_BRIDGE_ROUND_TRIPS": ROUND_TRIPS,
}  # fmt: skip


@dataclass(frozen=True)
class WireFaults:
    """What the wire does to messages in both directions, for tests; times are simulated. The default: nothing."""

    drop: float = 0.0  # share of messages
    duplicate: float = 0.0
    reorder: float = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0  # uniform, on top of delay_s
    mute_states: bool = False  # no state leaves
    mute_commands: bool = False  # no command arrives

    @staticmethod
    def parse(text: str) -> WireFaults:
        """From "drop=0.1 delay_s=0.01"; empty: no faults.

        Raises:
            BridgeError: an unknown name or a value that is not a number of its range.
        """
        values: dict[str, float] = {}
        known = {field.name: 1.0 for field in fields(WireFaults)}
        for word in text.split():
            name, _, value = word.partition("=")
            try:
                number = float(value)
            except ValueError:
                number = -1.0
            if name not in known or not 0.0 <= number <= known[name]:
                raise BridgeError(
                    f"{word!r}: give name=number with a number from 0 to 1; names: {', '.join(known)}"
                )
            values[name] = number
        return WireFaults(**values)  # type: ignore[arg-type]


@dataclass(frozen=True)
class WireCounts:
    """Messages so far."""

    states: int  # published
    commands: int  # arrived
    refused: int  # malformed, repeated or out of order
    applied: int  # handed to the plant


class TopicBridge:
    """A `Controller` for a Plant: it publishes every state and hands over the commands that come back.

    Topics and formats are those of the embodiment's hardware options, which the `topic` backend at the other end
    reads too.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        embodiment: Embodiment,
        *,
        node_name: str = "physai_bridge",
        namespace: str = "",
        epoch_ns: int = 0,
        answer_s: float = ANSWER_S,
    ) -> None:
        """`epoch_ns` is the ROS time of simulated time 0; `namespace` is used where the options name none.

        Raises:
            BridgeError: physai was built without ROS 2, or the options are wrong; the message says which.
        """
        self._library = load_library("physai_sim", "physai_bridge")
        self._check_layout()
        self._data = data  # kept alive for the C side
        options = embodiment.with_hardware_option("namespace", namespace).hardware.options
        config = _Config(abi=ABI, answer_s=answer_s, epoch_ns=epoch_ns)
        config.node_name = node_name.encode()
        robot = config.robot
        robot.n_tools = len(embodiment.end_effectors)
        for i, end in enumerate(embodiment.end_effectors):
            robot.tool_names[i].value = end.name.encode()
            robot.grippers[i] = GripperStructure.of(end.gripper)
        robot.n_joints, robot.rate_hz = len(embodiment.joints), embodiment.control.rate_hz
        text = "\n".join(f"{key}={value}" for key, value in options.items()).encode()
        if len(text) >= OPTIONS_SIZE:
            raise BridgeError(
                f"the hardware options have {len(text)} characters, at most {OPTIONS_SIZE - 1} are allowed"
            )
        robot.options = text
        stiffness, damping = servo_gains(model, embodiment, embodiment.control.rate_hz)
        n = robot.n_joints
        config.servo_stiffness[:n], config.servo_damping[:n] = stiffness, damping
        for i, joint in enumerate(embodiment.joints):
            robot.joint_names[i].value = joint.name.encode()
            config.dof[i] = model.joint(joint.name).dofadr[0]
            config.torque_limit[i] = joint.torque
        # Where the robot carries its own weight, the plant does, and the servo must not do it a second time.
        carries = embodiment.hardware.gravity == "robot"
        self._bias = np.zeros(model.nv) if carries else data.qfrc_bias
        pointer = C.c_void_p()
        reason = C.create_string_buffer(TEXT_SIZE)
        code = self._library.physai_bridge_create(
            C.c_void_p(self._bias.ctypes.data),
            C.byref(config),
            C.byref(pointer),
            reason,
            C.c_size_t(TEXT_SIZE),
        )
        if code != 0:
            raise BridgeError(reason.value.decode())
        self._library.physai_bridge_destroy.restype = None
        self._handle = NativeHandle("the bridge", pointer, self._library.physai_bridge_destroy)

    def _check_layout(self) -> None:
        check_layout(self._library, "physai_bridge", MIRRORS, NUMBERS)

    @property
    def handle(self) -> NativeHandle:
        """The C object, for `physai_bridge_cycle`."""
        return self._handle

    @property
    def cycle_function(self) -> C.c_void_p:
        """Address of `physai_bridge_cycle`."""
        return C.cast(self._library.physai_bridge_cycle, C.c_void_p)

    def set_faults(self, faults: WireFaults) -> None:
        """From now on; from any thread."""
        self._handle.call(
            self._library.physai_bridge_set_faults,
            C.byref(_Faults(**{field.name: getattr(faults, field.name) for field in fields(faults)})),
        )

    def counts(self) -> WireCounts:
        """Messages so far; from any thread."""
        counts = _Counts()
        self._handle.call(self._library.physai_bridge_read_counts, C.byref(counts))
        return WireCounts(**{field.name: int(getattr(counts, field.name)) for field in fields(WireCounts)})

    def round_trips(self) -> np.ndarray:
        """Wall times (N,) s from the newest states to their answers; not while the plant runs."""
        seconds = np.zeros(ROUND_TRIPS)
        count = self._handle.call(
            self._library.physai_bridge_read_round_trips,
            seconds.ctypes.data_as(C.POINTER(C.c_double)),
            C.c_int(ROUND_TRIPS),
        )
        return seconds[:count]

    def close(self) -> None:
        """Leave the ROS graph and free the bridge; after the plant's last step."""
        self._handle.close()
