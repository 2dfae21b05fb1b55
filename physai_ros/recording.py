"""Recordings of ROS messages as MCAP files, which ros2 bag, Foxglove and PlotJuggler open."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcap.records import Channel, Footer, Message, Schema
from mcap.stream_reader import StreamReader
from mcap.writer import Writer
from rclpy.serialization import serialize_message

from physai_base.errors import PhysaiError

SEPARATOR = "=" * 80
LARGEST_RECORD = 1 << 30  # bytes
CHUNK_BYTES = 1 << 20  # that are compressed together; what is not yet a whole chunk is lost in a crash


class RecordingError(PhysaiError):
    """A recording that cannot be read."""


class Recorder:
    """One MCAP file with profile ros2; a context manager. The file appears under its name when it is complete.

    Until then it is `<path>.partial`, which `read_recording` reads as far as it goes: every `chunk_bytes` of messages
    are handed to the system at once, and survive the death of this process from then on.
    """

    def __init__(self, path: Path, chunk_bytes: int = CHUNK_BYTES) -> None:
        """Start `path`; its folder is made.

        Raises:
            OSError: the file cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._partial = path.with_suffix(".mcap.partial")
        self._file = self._partial.open("wb")
        self._writer = Writer(self._file, chunk_size=chunk_bytes)
        self._writer.start(profile="ros2", library="physai")
        self._channels: dict[str, int] = {}

    def write(self, topic: str, message: Any, stamp_ns: int) -> None:
        """Add a message as of `stamp_ns` (ROS time); a topic keeps the type of its first message."""
        self.write_serialized(topic, type(message), serialize_message(message), stamp_ns)

    def write_serialized(self, topic: str, kind: type, data: bytes, stamp_ns: int) -> None:
        """The same for a message as it came over the wire.

        Raises:
            OSError: the file cannot be written, e.g. because the disk is full; `abandon` it then.
        """
        if topic not in self._channels:
            name = type_name(kind)
            schema = self._writer.register_schema(name, "ros2msg", definition(name).encode())
            self._channels[topic] = self._writer.register_channel(topic, "cdr", schema)
        self._writer.add_message(self._channels[topic], stamp_ns, data, stamp_ns)
        self._file.flush()

    def mark(self, name: str, stamp_ns: int, **notes: str) -> None:
        """Mark a moment (ROS time) as an MCAP metadata record, which `mcap list metadata` and Foxglove show.

        Raises:
            OSError: the file cannot be written.
        """
        self._writer.add_metadata(name, {"stamp_ns": str(stamp_ns), **notes})
        self._file.flush()

    def abandon(self) -> Path:
        """Leave the file as it is, readable as far as it goes; returns its path."""
        with contextlib.suppress(OSError):
            self._file.close()
        return self._partial

    def close(self) -> None:
        """Finish the file."""
        self._writer.finish()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._partial.rename(self.path)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self._file.close()
            self._partial.unlink(missing_ok=True)


@dataclass(frozen=True)
class Recorded:
    """One message of a recording."""

    topic: str
    kind: str  # `package/msg/Name`
    data: bytes  # CDR
    stamp_ns: int  # when it was recorded


class Recording:
    """The messages of a recording in the order in which they were written: an MCAP file, also one that was cut off
    by a crash, or a rosbag2 folder of them. `cut_off` says after reading which file ended early, if one did."""

    def __init__(self, path: Path) -> None:
        """Raises:
        RecordingError: there is no such recording.
        """
        self.path = path
        self.cut_off = ""
        bag = (path / "metadata.yaml").is_file()
        self._files = sorted(path.glob("*.mcap")) if bag else [path]
        if not self._files or not all(file.is_file() for file in self._files):
            raise RecordingError(f"{path}: no MCAP recording; give one file, or a folder that ros2 bag made")

    def __iter__(self) -> Iterator[Recorded]:
        for file in self._files:
            yield from self._messages(file)

    def _messages(self, path: Path) -> Iterator[Recorded]:
        schemas: dict[int, Schema] = {}
        channels: dict[int, Channel] = {}
        record: object = None
        with path.open("rb") as file:
            records = iter(StreamReader(file, record_size_limit=LARGEST_RECORD).records)
            while not isinstance(record, Footer):
                try:
                    record = next(records)
                except Exception as error:  # half a record is anything to those who unpack it
                    if record is None:
                        raise RecordingError(f"{path}: cannot be read as MCAP: {error}") from error
                    self.cut_off = f"{path.name} was cut off; what was written before is here"
                    return
                if isinstance(record, Schema):
                    schemas[record.id] = record
                elif isinstance(record, Channel):
                    channels[record.id] = record
                elif isinstance(record, Message):
                    channel = channels[record.channel_id]
                    schema = schemas.get(channel.schema_id)
                    if channel.message_encoding == "cdr" and schema is not None:
                        yield Recorded(channel.topic, schema.name, record.data, record.log_time)


def type_name(kind: type) -> str:
    """`package/msg/Name` of a message class."""
    package = kind.__module__.split(".", 1)[0]
    return f"{package}/msg/{kind.__name__}"


def definition(name: str) -> str:
    """The text of a message type and, after separators, of all types in it, as the ros2msg encoding wants it."""
    parts: list[str] = []
    waiting, seen = [name], {name}
    while waiting:
        current = waiting.pop(0)
        package, _, kind = current.split("/")
        text = _source(package, kind)
        head = "" if not parts else f"{SEPARATOR}\nMSG: {package}/{kind}\n"
        parts.append(head + text)
        for nested in _nested(text, package):
            if nested not in seen:
                seen.add(nested)
                waiting.append(nested)
    return "\n".join(parts)


def _source(package: str, kind: str) -> str:
    # Where ROS 2 comes as wheels, the Python environment is itself the prefix.
    prefixes = [prefix for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    for prefix in [*prefixes, sys.prefix]:
        path = Path(prefix) / "share" / package / "msg" / f"{kind}.msg"
        if path.is_file():
            return path.read_text()
    raise FileNotFoundError(
        f"{package}/msg/{kind}.msg is in the share folder of none of: {', '.join([*prefixes, sys.prefix])}"
    )


def _nested(text: str, package: str) -> list[str]:
    """Message types that the fields of a definition name; primitive types are written in lower case."""
    found = []
    for line in text.splitlines():
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        kind = words[0].split("[", 1)[0].split("<", 1)[0]
        if "/" in kind:
            owner, name = kind.split("/")[0], kind.split("/")[-1]
            found.append(f"{owner}/msg/{name}")
        elif kind[:1].isupper():
            found.append(f"{package}/msg/{kind}" if kind != "Header" else "std_msgs/msg/Header")
    return found
