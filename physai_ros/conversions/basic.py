"""Times, poses and vectors; and what every conversion checks."""

from __future__ import annotations

import array
import math
from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Point, Pose, Transform, Vector3, Wrench
from std_msgs.msg import Header

from physai_base.errors import PhysaiError
from physai_base.urdf import quaternion_of

QUATERNION_TOLERANCE = 1e-3


_SECOND_NS = 1_000_000_000


class MessageError(PhysaiError):
    """A message whose content contradicts itself or is not finite."""


def time_to_msg(stamp_ns: int) -> Time:
    """Nanoseconds of ROS time as a message."""
    return Time(sec=stamp_ns // _SECOND_NS, nanosec=stamp_ns % _SECOND_NS)


def time_from_msg(message: Time) -> int:
    """Nanoseconds of ROS time."""
    return int(message.sec) * _SECOND_NS + int(message.nanosec)


def duration_to_msg(duration_ns: int) -> Duration:
    """Nanoseconds as a message."""
    return Duration(sec=duration_ns // _SECOND_NS, nanosec=duration_ns % _SECOND_NS)


def duration_from_msg(message: Duration) -> int:
    """Nanoseconds."""
    return int(message.sec) * _SECOND_NS + int(message.nanosec)


def header(stamp_ns: int, frame_id: str) -> Header:
    """A header of that stamp and frame."""
    return Header(stamp=time_to_msg(stamp_ns), frame_id=frame_id)


def pose_to_msg(position_m: np.ndarray, orientation: np.ndarray) -> Pose:
    """A pose from a position (3,) and a quaternion (4,) w x y z."""
    message = Pose(position=point_to_msg(position_m))
    w, x, y, z = (float(value) for value in orientation)
    message.orientation.w, message.orientation.x, message.orientation.y, message.orientation.z = w, x, y, z
    return message


def pose_from_msg(message: Pose, what: str = "pose") -> tuple[np.ndarray, np.ndarray]:
    """Position (3,) and quaternion (4,) w x y z."""
    q = message.orientation
    orientation = finite(np.array([q.w, q.x, q.y, q.z]), f"{what}: orientation")
    check_unit(orientation, f"{what}: orientation")
    return vector_from_msg(message.position, f"{what}: position"), orientation


def point_to_msg(position_m: np.ndarray) -> Point:
    """A point from (3,)."""
    x, y, z = (float(value) for value in position_m)
    return Point(x=x, y=y, z=z)


def vector_to_msg(vector: np.ndarray) -> Vector3:
    """A vector from (3,)."""
    x, y, z = (float(value) for value in vector)
    return Vector3(x=x, y=y, z=z)


def vector_from_msg(message: Point | Vector3, what: str = "vector") -> np.ndarray:
    """(3,) of a point or a vector."""
    return finite(np.array([message.x, message.y, message.z]), what)


def set_transform(message: Transform, pose: np.ndarray) -> None:
    """Fill in a homogeneous matrix (4, 4)."""
    shift, turn = message.translation, message.rotation
    shift.x, shift.y, shift.z = pose[:3, 3].tolist()
    turn.w, turn.x, turn.y, turn.z = quaternion_of(pose[:3, :3]).tolist()


def wrench_to_msg(wrench: np.ndarray) -> Wrench:
    """A wrench from (6,): force [N], then torque [Nm]."""
    return Wrench(force=vector_to_msg(wrench[:3]), torque=vector_to_msg(wrench[3:]))


def wrench_from_msg(message: Wrench) -> np.ndarray:
    """(6,): force, then torque."""
    return np.concatenate(
        [vector_from_msg(message.force, "force"), vector_from_msg(message.torque, "torque")]
    )


def doubles(values: np.ndarray) -> array.array[float]:
    """An array field."""
    return array.array("d", np.ascontiguousarray(values, np.float64).tobytes())


def numbers(values: Sequence[float] | array.array[float] | np.ndarray, count: int, what: str) -> np.ndarray:
    """(count,) finite numbers of a field."""
    if len(values) != count:
        raise MessageError(f"{what}: needs {count} numbers, got {len(values)}")
    return finite(np.array(values, dtype=np.float64), what)


def finite(values: np.ndarray, what: str) -> np.ndarray:
    """The values, each of which is a number."""
    if not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values.ravel()))[0])
        raise MessageError(
            f"{what}: must be finite, but number {bad} of {values.size} is {values.ravel()[bad]}"
        )
    return values


def number(value: float, what: str, low: float = -math.inf, high: float = math.inf) -> float:
    """The value, within those bounds."""
    if not (math.isfinite(value) and low <= value <= high):
        raise MessageError(f"{what}: must be finite and within [{low:g}, {high:g}], got {value}")
    return float(value)


def check_unit(quaternion: np.ndarray, what: str) -> None:
    """Whether a quaternion is one of a rotation."""
    if not abs(np.linalg.norm(quaternion) - 1) <= QUATERNION_TOLERANCE:
        raise MessageError(f"{what}: must be a unit quaternion, got {quaternion.tolist()}")
