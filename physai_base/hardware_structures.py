"""What the control core, its hardware backends and the plant share, by ctypes; see `physai_hardware.h`."""

from __future__ import annotations

import ctypes as C

from physai_base.embodiment_parts import GRIPPER_KINDS, Gripper

MAX_JOINTS, MAX_TOOLS, MAX_FINGERS, NAME_SIZE = 32, 4, 8, 64

Name = C.c_char * NAME_SIZE
Doubles = C.c_double * MAX_JOINTS
Openings = C.c_double * MAX_TOOLS


class FingerStructure(C.Structure):
    """struct physai_finger."""

    _fields_ = [("joint", Name), ("closed", C.c_double), ("open", C.c_double)]


class GripperStructure(C.Structure):
    """struct physai_gripper."""

    _fields_ = [
        ("kind", C.c_uint32), ("n_fingers", C.c_uint32), ("fingers", FingerStructure * MAX_FINGERS),
        ("opening_min", C.c_double), ("opening_max", C.c_double), ("speed", C.c_double), ("force", C.c_double),
    ]  # fmt: skip

    @staticmethod
    def of(gripper: Gripper) -> GripperStructure:
        """A gripper as C takes it; it has at most MAX_FINGERS."""
        raw = GripperStructure(
            GRIPPER_KINDS.index(gripper.kind), len(gripper.fingers), opening_min=gripper.opening_min,
            opening_max=gripper.opening_max, speed=gripper.speed, force=gripper.force,
        )  # fmt: skip
        for i, finger in enumerate(gripper.fingers):
            raw.fingers[i] = FingerStructure(finger.joint.encode(), finger.closed, finger.open)
        return raw


MIRRORS = {"physai_finger": FingerStructure, "physai_gripper": GripperStructure}
NUMBERS = {
    "PHYSAI_MAX_JOINTS": MAX_JOINTS, "PHYSAI_MAX_TOOLS": MAX_TOOLS, "PHYSAI_MAX_FINGERS": MAX_FINGERS,
    "PHYSAI_NAME_SIZE": NAME_SIZE,
    **{f"PHYSAI_GRIPPER_{kind.upper()}": number for number, kind in enumerate(GRIPPER_KINDS)},
}  # fmt: skip
