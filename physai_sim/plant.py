"""The physics side of the cell from Python, by ctypes; the structures are those of `physai_plant.h`."""

from __future__ import annotations

import ctypes as C
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import mujoco
import numpy as np

from physai_base import hardware_structures
from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.hardware_structures import (
    MAX_FINGERS,
    MAX_JOINTS,
    MAX_TOOLS,
    Doubles,
    GripperStructure,
    Name,
)
from physai_base.layout import check_layout
from physai_base.native import ClosedError, NativeHandle, load_library

ABI = 5
TEXT_SIZE, LOG_SIZE = 256, 8192

GATE_S = 0.020  # simulated time without a command
DAMPING_S = 0.010  # before the brakes close
SERVO_BANDWIDTH_RAD_S = 40.0  # of a robot's own servos, where it takes positions or velocities
GRACE_S = 0.2  # wall time that a living controller may take for one command


class PlantError(PhysaiError):
    """The plant cannot be made, or its physics diverged."""


class Gate(IntEnum):
    """What holds the arm; the numbers are those of `enum physai_gate`."""

    BRAKED = 0
    DRIVEN = 1
    MISSING = 2
    DAMPING = 3
    LATCHED = 4


class Controller(Protocol):
    """A controller in this process: `physai_control.core.ControlCore`, or what stands in front of one."""

    @property
    def cycle_function(self) -> C.c_void_p:
        """Address of a `physai_cycle`."""

    @property
    def handle(self) -> NativeHandle:
        """Its first argument."""


_Ints, _Fingers = C.c_int32 * MAX_JOINTS, (C.c_int32 * MAX_FINGERS) * MAX_TOOLS


class _Config(C.Structure):
    _fields_ = [
        ("abi", C.c_uint32), ("n_joints", C.c_uint32), ("n_tools", C.c_uint32), ("adds_gravity", C.c_uint32),
        ("command_delay_steps", C.c_uint32), ("cycle_steps", C.c_uint32), ("takes_positions", C.c_uint32),
        ("reserved", C.c_uint32),
        ("qpos", _Ints), ("dof", _Ints), ("grippers", GripperStructure * MAX_TOOLS), ("finger_qpos", _Fingers),
        ("finger_dof", _Fingers), ("joint_names", Name * MAX_JOINTS), ("shm_name", Name), ("torque_limit", Doubles),
        ("servo_stiffness", Doubles), ("servo_damping", Doubles), ("servo_speed", Doubles), ("real_time_factor", C.c_double), ("gate_s", C.c_double), ("damping_s", C.c_double),
        ("grace_s", C.c_double),
    ]  # fmt: skip


class _Sample(C.Structure):
    _fields_ = [
        ("time_s", C.c_double), ("gate", C.c_uint32), ("missed", C.c_uint32), ("q", Doubles), ("dq", Doubles), ("tau", Doubles),
    ]  # fmt: skip


MIRRORS = {**hardware_structures.MIRRORS, "physai_plant_config": _Config, "physai_plant_sample": _Sample}
NUMBERS = {
    **hardware_structures.NUMBERS, "PHYSAI_PLANT_ABI": ABI, "PHYSAI_PLANT_LOG_SIZE": LOG_SIZE,
    **{f"PHYSAI_GATE_{gate.name}": gate.value for gate in Gate},
}  # fmt: skip


@dataclass(frozen=True)
class PlantLog:
    """What the arm really did, one row for each of the last steps, oldest first."""

    time_s: np.ndarray  # (N,)
    gate: np.ndarray  # (N,) Gate
    missed: np.ndarray  # (N,) commands missed in a row
    position: np.ndarray  # (N, n) rad
    velocity: np.ndarray  # (N, n) rad/s
    torque: np.ndarray  # (N, n) Nm


class Plant:
    """Steps a cell in lock step with a controller in this process (`core`) or behind shared memory (`shm_name`)."""

    def __init__(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        embodiment: Embodiment,
        *,
        core: Controller | None = None,
        shm_name: str = "",
        real_time_factor: float = 0.0,
        gate_s: float = GATE_S,
        grace_s: float = GRACE_S,
        command_delay_steps: int = 0,
        own_servos: bool = False,
    ) -> None:
        """`real_time_factor` 0 runs as fast as possible; a drive may act on commands some steps late.

        A robot that takes no torques follows the commanded positions with servos of its own, and measures positions
        alone; with `own_servos` what stands between controller and plant brings them, and commands are torques.

        Raises:
            PlantError: the shared memory cannot be had; the message says why.
        """
        self._library = load_library("physai_sim", "physai_plant")
        check_layout(self._library, "physai_plant", MIRRORS, NUMBERS)
        self._model, self._data, self._core = model, data, core  # kept alive for the C side
        self._embodiment, self._n = embodiment, len(embodiment.joints)
        config = _Config(abi=ABI, n_joints=self._n, n_tools=len(embodiment.end_effectors))
        config.adds_gravity = embodiment.hardware.gravity == "robot"
        config.command_delay_steps = command_delay_steps
        config.cycle_steps = max(1, round(1.0 / (embodiment.control.rate_hz * model.opt.timestep)))
        self._find_joints(config)
        for i, name in enumerate(embodiment.joint_names):
            config.joint_names[i].value = name.encode()
            config.torque_limit[i] = embodiment.joints[i].torque
            config.servo_speed[i] = embodiment.joints[i].velocity
        config.takes_positions = embodiment.hardware.command != "effort" and not own_servos
        stiffness, damping = servo_gains(model, embodiment, 1.0 / model.opt.timestep)
        config.servo_stiffness[: self._n], config.servo_damping[: self._n] = stiffness, damping
        for k, end in enumerate(embodiment.end_effectors):
            config.grippers[k] = GripperStructure.of(end.gripper)
        config.shm_name = shm_name.encode()
        config.real_time_factor, config.grace_s = real_time_factor, grace_s
        config.gate_s, config.damping_s = gate_s, DAMPING_S
        pointer = C.c_void_p()
        text = C.create_string_buffer(TEXT_SIZE)
        code = self._library.physai_plant_create(
            C.c_void_p(model._address),
            C.c_void_p(data._address),
            C.byref(config),
            C.byref(pointer),
            text,
            C.c_size_t(TEXT_SIZE),
        )
        if code != 0:
            raise PlantError(text.value.decode())
        self._library.physai_plant_destroy.restype = None
        self._library.physai_plant_move.restype = None
        needs = () if core is None else (core.handle,)
        self._handle = NativeHandle("the plant", pointer, self._library.physai_plant_destroy, needs)
        if core is not None:
            self._library.physai_plant_set_controller.restype = None
            self._handle.call(self._library.physai_plant_set_controller, core.cycle_function, core.handle)

    def _find_joints(self, config: _Config) -> None:
        """Where the robot's joints are in the present model."""
        for i, name in enumerate(self._embodiment.joint_names):
            joint = self._model.joint(name)
            config.qpos[i], config.dof[i] = joint.qposadr[0], joint.dofadr[0]
        for k, end in enumerate(self._embodiment.end_effectors):
            for i, name in enumerate(end.gripper.joints):
                joint = self._model.joint(name)
                config.finger_qpos[k][i], config.finger_dof[k][i] = joint.qposadr[0], joint.dofadr[0]

    def move(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """Go on in another cell with the same robot, whose joints stand and move there as here; not during `run`."""
        config = _Config()
        self._model, self._data = model, data
        self._find_joints(config)
        addresses = C.c_void_p(model._address), C.c_void_p(data._address)
        self._handle.call(self._library.physai_plant_move, *addresses, C.byref(config))

    def run(self, steps: int) -> int:
        """Run physics steps without the interpreter's lock; returns how many were run.

        Raises:
            PlantError: the simulation diverged.
        """
        done = int(self._handle.call(self._library.physai_plant_run, C.c_int(steps)))
        if done < 0:
            raise PlantError(f"the simulation diverged at {self._data.time:.3f} s")
        return done

    def reset(self) -> None:
        """After the cell was rearranged: open the gate, tell the controller."""
        self._handle.call(self._library.physai_plant_reset)

    def interrupt(self) -> None:
        """Make `run` return early, from any thread and for good."""
        with suppress(ClosedError):
            self._handle.call(self._library.physai_plant_interrupt)

    @property
    def gate(self) -> Gate:
        """What holds the arm now."""
        return Gate(self._handle.call(self._library.physai_plant_gate))

    def log(self, steps: int = LOG_SIZE) -> PlantLog:
        """The last `steps` steps; not while another thread is in `run`."""
        samples = (_Sample * steps)()
        count = self._handle.call(self._library.physai_plant_log, samples, C.c_int(steps))
        rows = np.ctypeslib.as_array(samples)[:count]
        n = self._n
        return PlantLog(
            rows["time_s"],
            rows["gate"],
            rows["missed"],
            rows["q"][:, :n],
            rows["dq"][:, :n],
            rows["tau"][:, :n],
        )

    def close(self) -> None:
        """Free the plant and remove the shared memory, once no other thread is in a call of it."""
        self._handle.close()


def servo_gains(
    model: mujoco.MjModel, embodiment: Embodiment, rate_hz: float
) -> tuple[np.ndarray, np.ndarray]:
    """Stiffness (n,) Nm/rad and damping (n,) Nms/rad of an arm's own position servos, critically damped at home."""
    data = mujoco.MjData(model)
    for name, angle in zip(embodiment.joint_names, embodiment.home, strict=True):
        data.joint(name).qpos[0] = angle
    mujoco.mj_forward(model, data)
    full = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, full, data.qM)
    dofs = [model.joint(name).dofadr[0] for name in embodiment.joint_names]
    matrix = full[np.ix_(dofs, dofs)]
    bandwidth = servo_bandwidth(matrix, rate_hz)
    return bandwidth**2 * np.diag(matrix), 2 * bandwidth * np.diag(matrix)


def servo_bandwidth(inertia: np.ndarray, rate_hz: float) -> float:
    """rad/s that an arm of inertia (n, n) bears whose joints are damped each by its own inertia, `rate_hz` times a second.

    Joints that give way to each other have less inertia than the diagonal says: the quickest motion is damped by the
    largest eigenvalue of M⁻¹ diag(M) times that, and a sampled damper must not turn a velocity round within a cycle.
    """
    quickest = float(np.linalg.eigvals(np.linalg.solve(inertia, np.diag(np.diag(inertia)))).real.max())
    return min(SERVO_BANDWIDTH_RAD_S, 0.5 * rate_hz / quickest)
