"""`physai csv`: the joint states of an MCAP recording as the CSV file that the `replay` hardware backend reads."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError


class RecordingError(PhysaiError):
    """A recording that cannot be read or holds no usable joint states."""


def header(embodiment: Embodiment) -> list[str]:
    """The columns' names."""
    joints = [f"{kind}.{name}" for kind in ("q", "dq", "tau") for name in embodiment.joint_names]
    return ["time_ns", *joints, "gripper_width"]


def write_states(path: Path, embodiment: Embodiment, stamps_ns: Sequence[int], values: np.ndarray) -> None:
    """Write states; `values` (N, 3 n + 1) has positions rad, velocities rad/s, torques Nm and the gripper's width m."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header(embodiment))
        for stamp_ns, row in zip(stamps_ns, values, strict=True):
            writer.writerow([stamp_ns, *(repr(float(value)) for value in row)])


def convert(recording: Path, out: Path, embodiment: Embodiment, topic: str) -> int:
    """Convert one topic of a recording; returns how many states were written.

    States whose stamp does not come after the last one's are left out, as the `topic` backend drops them. Torques and
    fingers that the messages lack are written as 0.

    Raises:
        RecordingError: the file is no MCAP recording, or the topic has no joint state with all joints.
    """
    stamps: list[int] = []
    rows: list[np.ndarray] = []
    for message in _messages(recording, topic):
        stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        if not stamps or stamp_ns > stamps[-1]:
            stamps.append(stamp_ns)
            rows.append(_row(message, embodiment, recording, topic))
    if not rows:
        raise RecordingError(f"{recording}: there is no joint state on {topic}")
    write_states(out, embodiment, stamps, np.array(rows))
    return len(rows)


def _messages(recording: Path, topic: str) -> Iterator[Any]:
    """The topic's messages; a recorded name may be absolute."""
    from mcap.exceptions import McapError
    from mcap.reader import make_reader
    from rclpy.serialization import deserialize_message
    from sensor_msgs.msg import JointState

    names = {topic.strip("/"), f"/{topic.strip('/')}"}
    try:
        with recording.open("rb") as file:
            for schema, channel, message in make_reader(file).iter_messages(topics=names):
                if (
                    channel.message_encoding != "cdr"
                    or not schema
                    or schema.name != "sensor_msgs/msg/JointState"
                ):
                    kind = schema.name if schema else "unknown"
                    raise RecordingError(
                        f"{recording}: {channel.topic} is {kind}, not sensor_msgs/msg/JointState"
                    )
                yield deserialize_message(message.data, JointState)
    except (OSError, McapError) as error:
        raise RecordingError(f"{recording}: cannot be read as MCAP: {error}") from error


def _row(message: Any, embodiment: Embodiment, recording: Path, topic: str) -> np.ndarray:
    place = {name: i for i, name in enumerate(message.name)}
    missing = [name for name in embodiment.joint_names if name not in place]
    if missing or len(message.position) != len(place) or len(message.velocity) != len(place):
        what = f"no {', '.join(missing)}" if missing else "not one position and velocity a joint"
        raise RecordingError(f"{recording}: {topic} has a joint state with {what}")
    joints = [place[name] for name in embodiment.joint_names]
    fingers = [place[name] for name in embodiment.gripper.joints if name in place]
    effort = np.array(message.effort)[joints] if len(message.effort) == len(place) else np.zeros(len(joints))
    width = float(np.sum(np.array(message.position)[fingers]))
    return np.concatenate(
        [np.array(message.position)[joints], np.array(message.velocity)[joints], effort, [width]]
    )
