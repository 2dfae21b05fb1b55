"""Recordings as other programs write them, each with one thing that once went wrong; see test_recordings.py."""

from __future__ import annotations

import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import zstandard
from builtin_interfaces.msg import Time
from mcap.writer import CompressionType, Writer
from rclpy.serialization import serialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import Header

from physai_base.embodiment import Embodiment

PERIOD_NS = 10_000_000
START_NS = 1_700_000_000 * 10**9
HOUR_NS = 3600 * 10**9
SCHEMA = b"std_msgs/Header header\nstring[] name\nfloat64[] position\nfloat64[] velocity\nfloat64[] effort\n"
Logged = tuple[int, JointState]


def joint_state(
    robot: Embodiment, k: int, names: Sequence[str] = (), stamp_ns: int | None = None, **fields: Any
) -> JointState:
    """State k, of `names` or of all joints; joint 1 moves by 10 urad a state. `fields` replace what a driver would say."""
    stamp_ns = START_NS + k * PERIOD_NS if stamp_ns is None else stamp_ns
    names = list(names) or [*robot.joint_names, *robot.gripper.joints]
    known = dict(zip(robot.joint_names, robot.home + 1e-5 * k, strict=True)) | dict.fromkeys(
        robot.gripper.joints, 0.04
    )
    message = JointState(
        header=Header(stamp=Time(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)), name=names
    )
    message.position = array.array("d", [known.get(name, 1.0) for name in names])
    message.velocity = message.effort = array.array("d", [0.0] * len(names))
    for name, value in fields.items():
        setattr(message, name, array.array("d", [value] * len(names)) if isinstance(value, float) else value)
    return message


def write(
    path: Path,
    messages: Sequence[Logged],
    compression: CompressionType = CompressionType.ZSTD,
    **settings: Any,
) -> Path:
    """An MCAP file by the `mcap` package, not by our recorder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        writer = Writer(file, compression=compression, chunk_size=4096, **settings)
        writer.start(profile="ros2", library="another program")
        schema = writer.register_schema("sensor_msgs/msg/JointState", "ros2msg", SCHEMA)
        channel = writer.register_channel("/joint_states", "cdr", schema)
        for logged_ns, message in messages:
            writer.add_message(channel, logged_ns, serialize_message(message), logged_ns)
        writer.finish()
    return path


def plain(
    robot: Embodiment, count: int = 240, change: Callable[[int], dict[str, Any]] = lambda k: {}
) -> list[Logged]:
    """`count` states, state k with what `change(k)` says."""
    return [(START_NS + k * PERIOD_NS, joint_state(robot, k, **change(k))) for k in range(count)]


def split(
    folder: Path, messages: Sequence[Logged], parts: int = 12, listed: bool = True, compressed: bool = False
) -> Path:
    """As `ros2 bag record` splits: names are not padded, so that 10 sorts before 2."""
    size = -(-len(messages) // parts)
    names = []
    for part in range(parts):
        path = write(folder / f"{folder.name}_{part}.mcap", messages[part * size : (part + 1) * size])
        if compressed:
            data = zstandard.ZstdCompressor().compress(path.read_bytes())
            path.unlink()
            path = path.with_suffix(".mcap.zstd")
            path.write_bytes(data)
        names.append(path.name)
    if listed:
        (folder / "metadata.yaml").write_text(metadata(names))
    return folder


def metadata(names: Sequence[str], **others: str) -> str:
    """What rosbag2 writes beside the files, as far as it matters."""
    keys = {"version": "9", "storage_identifier": "mcap", **others}
    lines = [f"  {key}: {value}" for key, value in keys.items()]
    return "\n".join(
        ["rosbag2_bagfile_information:", *lines, f"  relative_file_paths: [{', '.join(names)}]", ""]
    )
