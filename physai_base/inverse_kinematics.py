"""Inverse kinematics of a chunk in C, by ctypes; the structure is that of `physai_kinematics.h`."""

from __future__ import annotations

import ctypes as C
from pathlib import Path

import numpy as np

from physai_base.errors import KinematicsError
from physai_base.hardware_structures import MAX_JOINTS, NUMBERS, Doubles, Name
from physai_base.layout import check_layout
from physai_base.native import NativeHandle, load_library

TEXT_SIZE = 256


class InverseStructure(C.Structure):
    """struct physai_inverse."""

    _fields_ = [
        ("n_steps", C.c_uint32), ("rounds", C.c_uint32), ("has_posture", C.c_uint32), ("reserved", C.c_uint32),
        ("seed", Doubles), ("posture", Doubles), ("low", Doubles), ("high", Doubles),
        ("weights", C.c_double * 6), ("tolerance", C.c_double * 2),
    ]  # fmt: skip


MIRRORS = {"physai_inverse": InverseStructure}


class InverseKinematics:
    """Of one tool of a model, from a file that the control core can read. Not thread-safe."""

    def __init__(self, model: Path, base_frame: str, tool_frame: str, joints: tuple[str, ...]) -> None:
        """
        Raises:
            KinematicsError: the model cannot be read, or lacks what is named.
        """
        if len(joints) > MAX_JOINTS:
            raise KinematicsError(f"{len(joints)} driven joints given, {MAX_JOINTS} are possible")
        self._library = load_library("physai_control", "physai_control")
        check_layout(self._library, "physai_control", MIRRORS, NUMBERS)
        self._n = len(joints)
        pointer, text, names = C.c_void_p(), C.create_string_buffer(TEXT_SIZE), (Name * self._n)()
        for i, name in enumerate(joints):
            names[i].value = name.encode()
        code = self._library.physai_kinematics_create(
            str(model).encode(), base_frame.encode(), tool_frame.encode(), C.c_uint32(self._n),
            names, C.byref(pointer), text, C.c_size_t(TEXT_SIZE),
        )  # fmt: skip
        if code != 0:
            raise KinematicsError(text.value.decode())
        self._library.physai_kinematics_destroy.restype = None
        self._library.physai_kinematics_inverse.restype = C.c_uint32
        self._handle = NativeHandle("the kinematics", pointer, self._library.physai_kinematics_destroy)

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._handle.close()

    def solve(
        self, positions: np.ndarray, rotations: np.ndarray, limits: tuple[np.ndarray, np.ndarray], seed: np.ndarray,
        posture: np.ndarray | None, weights: tuple[float, ...], tolerance: tuple[float, float], rounds: int,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Joints (k, n) of the first k poses that are reached of positions (H, 3) m and rotations (H, 3, 3), each from the
        one before; and (6,) what is left of the next one: m along the base's axes, rad about the target's."""
        steps = len(positions)
        inverse = InverseStructure(
            n_steps=steps,
            rounds=rounds,
            has_posture=posture is not None,
            weights=weights,
            tolerance=tolerance,
        )
        inverse.seed[: self._n] = seed.tolist()
        inverse.posture[: self._n] = (seed if posture is None else posture).tolist()
        inverse.low[: self._n], inverse.high[: self._n] = limits[0].tolist(), limits[1].tolist()
        places, turns = (np.ascontiguousarray(array, float) for array in (positions, rotations))
        joints, remaining = np.empty((steps, self._n)), np.zeros(6)
        reached = self._handle.call(
            self._library.physai_kinematics_inverse, C.byref(inverse),
            *(C.c_void_p(array.ctypes.data) for array in (places, turns, joints, remaining)),
        )  # fmt: skip
        return joints[:reached], remaining
