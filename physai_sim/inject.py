"""Faults between a plant and a controller in this process, by ctypes; the structures are those of `physai_inject.h`."""

from __future__ import annotations

import ctypes as C
from dataclasses import dataclass, fields
from enum import IntEnum
from pathlib import Path

import numpy as np

from physai_base.hardware_structures import MAX_JOINTS, MAX_TOOLS
from physai_base.layout import check_layout
from physai_base.native import NativeHandle, find_library, load_library
from physai_base.values import POSE
from physai_sim.plant import LOG_SIZE, PlantError

MAX_EVENTS, MAX_WATCHED = 40, 8


class FaultKind(IntEnum):
    """What happens; the numbers are those of `enum physai_inject_kind`."""

    OFFSET = 1
    NOISE = 2
    SCALE = 3
    VALUE = 4
    BIT_FLIP = 5
    FREEZE = 6
    STATE_LOSS = 7
    STATE_DELAY = 8
    STATE_REPEAT = 9
    STATE_REORDER = 10
    FLAG = 11
    COMMAND_LOSS = 12
    COMMAND_DELAY = 13
    CLOCK = 14
    COMMAND_VALUE = 15


class Field(IntEnum):
    """Of which measured quantity."""

    POSITION = 0
    VELOCITY = 1
    TORQUE = 2
    GRIPPER = 3


@dataclass(frozen=True)
class Event:
    """One entry of the schedule: acts in [start_s, start_s + duration_s) of simulated time."""

    kind: FaultKind
    start_s: float
    duration_s: float
    magnitude: float = 0.0
    field: Field = Field.POSITION
    joint: int = -1  # below 0: every joint


class _Event(C.Structure):
    _fields_ = [
        ("kind", C.c_uint32), ("field", C.c_uint32), ("joint", C.c_int32), ("reserved", C.c_uint32),
        ("start_s", C.c_double), ("duration_s", C.c_double), ("magnitude", C.c_double),
    ]  # fmt: skip


class _Config(C.Structure):
    _fields_ = [
        ("seed", C.c_uint64), ("n_events", C.c_uint32), ("n_watched", C.c_uint32), ("events", _Event * MAX_EVENTS),
        ("watched", C.c_void_p * MAX_WATCHED), ("cycle", C.c_void_p), ("read_status", C.c_void_p), ("controller", C.c_void_p),
    ]  # fmt: skip


class _Sample(C.Structure):
    _fields_ = [
        ("time_s", C.c_double), ("state", C.c_uint32), ("cause", C.c_uint32), ("cause_joint", C.c_int32), ("allocations", C.c_uint32),
        ("cause_cycle", C.c_uint64), ("cycles", C.c_uint64), ("missed_states", C.c_uint64), ("withheld", C.c_uint64), ("active_sequence", C.c_uint64),
        ("space", C.c_uint32), ("residual_active", C.c_uint32), ("reference", C.c_double * MAX_JOINTS),
        ("tool_reference", (C.c_double * POSE) * MAX_TOOLS), ("watched", C.c_double * MAX_WATCHED),
    ]  # fmt: skip


MIRRORS = {
    "physai_inject_event": _Event, "physai_inject_config": _Config, "physai_inject_sample": _Sample,
}  # fmt: skip
_FIELDS = {"POSITION": "Q", "VELOCITY": "DQ", "TORQUE": "TAU", "GRIPPER": "GRIPPER"}
NUMBERS = {
    "PHYSAI_INJECT_EVENTS": MAX_EVENTS, "PHYSAI_INJECT_WATCHED": MAX_WATCHED, "PHYSAI_MAX_JOINTS": MAX_JOINTS, "PHYSAI_MAX_TOOLS": MAX_TOOLS,
    **{f"PHYSAI_INJECT_{kind.name}": kind.value for kind in FaultKind},
    **{f"PHYSAI_INJECT_{_FIELDS[field.name]}": field.value for field in Field},
}  # fmt: skip


@dataclass(frozen=True)
class ControllerLog:
    """What the controller said of itself in each of the last steps, oldest first."""

    time_s: np.ndarray  # (N,)
    state: np.ndarray  # (N,) ControlState
    cause: np.ndarray  # (N,) enum physai_cause
    cause_cycle: np.ndarray  # (N,)
    cycles: np.ndarray  # (N,)
    missed_states: np.ndarray  # (N,)
    withheld: np.ndarray  # (N,) cycles so far to which no newer state was passed
    active_sequence: np.ndarray  # (N,)
    allocations: np.ndarray  # (N,) within the cycle; 0 without libphysai_trial
    space: np.ndarray  # (N,) enum physai_chunk_mode
    residual_active: np.ndarray  # (N,)
    reference: np.ndarray  # (N, n) rad, as measured in pose space
    tool_reference: np.ndarray  # (N, 7 k) of each end effector: m and quaternion w x y z, base frame
    watched: np.ndarray  # (N, w)

    def repeated(self, times: int, rows: int) -> ControllerLog:
        """As the `rows` steps of a plant of which a cycle takes `times`: references run on, all else stays for a cycle."""
        if times == 1:
            return self
        cycles, at = np.arange(len(self.time_s)), np.arange(rows) / times
        columns = {f.name: np.repeat(getattr(self, f.name), times, axis=0)[:rows] for f in fields(self)}
        for name in ("reference", "tool_reference"):
            given = getattr(self, name)
            columns[name] = np.column_stack([np.interp(at[: len(columns[name])], cycles, c) for c in given.T])
        return ControllerLog(**columns)


def trial_library() -> Path:
    """The library to preload so that trials repeat."""
    return find_library("physai_sim", "physai_trial")


class Injector:
    """Stands in front of a controller; hand it to a `Plant` in the controller's place."""

    def __init__(
        self,
        cycle_function: C.c_void_p,
        read_status_function: C.c_void_p,
        controller: NativeHandle,
        n_joints: int,
        n_tools: int,
        seed: int,
        watched: tuple[np.ndarray, ...] = (),
    ) -> None:
        """`watched` are arrays whose memory stays where it is: views of mjData, at most eight numbers.

        Raises:
            PlantError: the library is of another version, or there are too many numbers to watch.
        """
        self._library = load_library("physai_sim", "physai_plant")
        self._library.physai_inject_create.restype = C.c_void_p
        self._library.physai_inject_destroy.restype = None
        check_layout(self._library, "physai_plant", MIRRORS, NUMBERS)
        config = _Config(seed=seed & (2**64 - 1))
        addresses = [view.ctypes.data + 8 * k for view in watched for k in range(view.size)]
        if len(addresses) > MAX_WATCHED or any(view.dtype != np.float64 for view in watched):
            raise PlantError(f"at most {MAX_WATCHED} doubles can be watched, {len(addresses)} given")
        config.n_watched = len(addresses)
        for k, address in enumerate(addresses):
            config.watched[k] = address
        config.cycle, config.read_status, config.controller = (
            cycle_function.value,
            read_status_function.value,
            controller.value,
        )
        self._n, self._tools, self._watched = n_joints, n_tools, len(addresses)
        self._alive = (watched, controller)
        pointer = C.c_void_p(self._library.physai_inject_create(C.byref(config)))
        if not pointer:
            raise PlantError("the injector could not be made: out of memory")
        destroy = self._library.physai_inject_destroy
        self._handle = NativeHandle("the injector", pointer, destroy, (controller,))

    @property
    def handle(self) -> NativeHandle:
        """The C object."""
        return self._handle

    @property
    def cycle_function(self) -> C.c_void_p:
        """Address of `physai_inject_cycle`."""
        return C.cast(self._library.physai_inject_cycle, C.c_void_p)

    @property
    def repeats(self) -> bool:
        """The controller's clock is simulated time: libphysai_trial is preloaded."""
        return bool(self._library.physai_inject_repeats())

    def add(self, event: Event) -> None:
        """Put an event on the schedule, between two runs of the plant.

        Raises:
            PlantError: the schedule is full.
        """
        raw = _Event(
            event.kind, event.field, event.joint, 0, event.start_s, event.duration_s, event.magnitude
        )
        if self._handle.call(self._library.physai_inject_add, C.byref(raw)) != 0:
            raise PlantError(f"the schedule holds {MAX_EVENTS} events and is full")

    def log(self, steps: int = LOG_SIZE) -> ControllerLog:
        """The last `steps` steps; not while another thread runs the plant."""
        samples = (_Sample * steps)()
        count = self._handle.call(self._library.physai_inject_log, samples, C.c_int(steps))
        rows = np.ctypeslib.as_array(samples)[:count]
        return ControllerLog(
            rows["time_s"], rows["state"], rows["cause"], rows["cause_cycle"], rows["cycles"], rows["missed_states"],
            rows["withheld"], rows["active_sequence"], rows["allocations"], rows["space"], rows["residual_active"],
            rows["reference"][:, : self._n], rows["tool_reference"][:, : self._tools].reshape(count, -1), rows["watched"][:, : self._watched],
        )  # fmt: skip

    def close(self) -> None:
        """Free it; the plant must be closed before."""
        self._handle.close()
