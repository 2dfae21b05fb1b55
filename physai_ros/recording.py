"""Recordings of ROS messages as MCAP files, which ros2 bag, Foxglove and PlotJuggler open."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from mcap.records import Channel, Footer, Message, Schema
from mcap.stream_reader import StreamReader
from mcap.writer import Writer
from rclpy.serialization import serialize_message

from physai_base.document import Unreadable, read_yaml
from physai_base.errors import PhysaiError

SEPARATOR = "=" * 80
LARGEST_RECORD = 1 << 30  # bytes
LIST_BYTES, LIST_ENTRIES = 64 << 20, 1_000_000  # of metadata.yaml: weeks, split every minute
MCAP_NAME = re.compile(
    r"(?:_(\d+))?\.mcap(?:\.zstd|\.partial)?$"
)  # <stem>[_<number>], as rosbag2 names splits
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
OTHERS = {  # what a file that is no MCAP begins with → what it is, and the cure
    b"SQLite format 3": "is a bag of storage sqlite3; make it MCAP with: ros2 bag convert",
    b"#ROSBAG": "is a bag of ROS 1; make it MCAP with: mcap convert",
    b"\x1f\x8b": "is compressed with gzip; undo that with: gunzip",
    b"\x04\x22\x4d\x18": "is compressed with lz4 as a whole; undo that with: lz4 -d",
    b"PK\x03\x04": "is a zip archive; unpack it",
}
CHUNK_BYTES = 1 << 20  # that are compressed together; what is not yet a whole chunk is lost in a crash


class RecordingError(PhysaiError):
    """A recording that cannot be read."""


class Recorder:
    """One MCAP file with profile ros2; a context manager. The file appears under its name when it is complete.

    Until then it is `<path>.partial`, which `Recording` reads as far as it goes: every `chunk_bytes` of messages
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
    by a crash or compressed as a whole (`.mcap.zstd`), or a folder with the files of one recording, as rosbag2 splits them.

    A folder without metadata.yaml may hold the files of one recording alone.
    """

    def __init__(self, path: Path) -> None:
        """Raises:
        RecordingError: there is no such recording.
        """
        self.path = path
        self._listing: list[str] = []
        self._reading: list[str] = []
        self._files = _files_of(path, self._listing)
        self._any = False  # whether a record was read from any of the files

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know after reading: which files end early, are missing, or were not listed."""
        return (*self._listing, *self._reading)

    def __iter__(self) -> Iterator[Recorded]:
        self._any, self._reading = False, []
        for file in self._files:
            yield from self._messages(file)
        if not self._any:
            raise RecordingError(f"{self.path}: cannot be read as MCAP: {'; '.join(self.notes)}")

    def _messages(self, path: Path) -> Iterator[Recorded]:
        schemas: dict[int, Schema] = {}
        channels: dict[int, Channel] = {}
        record: object = None
        try:
            file = _opened(path)
        except OSError as error:
            self._reading.append(f"{path.name}: {error.strerror or error}")
            return
        with file:
            records = iter(StreamReader(file, record_size_limit=LARGEST_RECORD).records)
            while not isinstance(record, Footer):
                try:
                    record = next(records)
                    recorded = _recorded(record, schemas, channels)
                except Exception as error:  # half a record is anything to those who unpack it
                    cause = str(error) or type(error).__name__
                    what = f"is cut off or damaged; what was written before is here ({cause})"
                    self._reading.append(f"{path.name} {what if record else _other_format(path, cause)}")
                    return
                self._any = True
                if recorded is not None:
                    yield recorded


def _recorded(record: object, schemas: dict[int, Schema], channels: dict[int, Channel]) -> Recorded | None:
    """The message that a record is; what others say of messages to come is kept."""
    if isinstance(record, Schema):
        schemas[record.id] = record
    elif isinstance(record, Channel):
        channels[record.id] = record
    elif isinstance(record, Message):
        channel = channels[record.channel_id]
        schema = schemas.get(channel.schema_id)
        if channel.message_encoding == "cdr" and schema is not None:
            return Recorded(channel.topic, schema.name, record.data, record.log_time)
    return None


def _other_format(path: Path, cause: str) -> str:
    """What a file is from which not one record could be read."""
    with path.open("rb") as file:
        begin = file.read(16)
    if not begin:
        return "is empty"
    known = (text for magic, text in OTHERS.items() if begin.startswith(magic))
    return next(known, f"holds nothing ({cause})")


def _opened(path: Path) -> IO[bytes]:
    """The file as MCAP; one that rosbag2 compressed as a whole is recognized by what it begins with."""
    file = path.open("rb")
    compressed = file.read(len(ZSTD_MAGIC)) == ZSTD_MAGIC
    file.seek(0)
    if not compressed:
        return file
    import zstandard  # mcap needs it, too

    return cast("IO[bytes]", zstandard.ZstdDecompressor().stream_reader(file, closefd=True))


def _files_of(path: Path, notes: list[str]) -> list[Path]:
    """The files of a recording in the order of time: as metadata.yaml lists them, else by their numbers.

    rosbag2 does not pad the numbers, and one that was killed has written no list, or one without the last file.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise RecordingError(f"{path}: there is no such file or folder")
    there = sorted((file for file in path.iterdir() if MCAP_NAME.search(file.name)), key=_by_number)
    names = [file.name for file in there]
    metadata = path / "metadata.yaml"
    if metadata.is_file():
        listed = _listed(metadata, notes)
        missing = [name for name in listed if name not in names]
        if missing:
            notes.append(f"{', '.join(missing)} of {metadata.name} not there")
        unlisted = [name for name in names if name not in listed]
        if unlisted:
            notes.append(f"{', '.join(unlisted)} not listed in {metadata.name}, read as the last")
        there = [path / name for name in (*listed, *unlisted) if name in names]
    elif len({_by_number(file)[0] for file in there}) > 1:
        raise RecordingError(f"{path}: holds several recordings; give one of {', '.join(names)}")
    elif there:
        notes.append(f"there is no {metadata.name}; the files are read in the order of their numbers")
        numbers = {_by_number(file)[1] for file in there}
        gaps = sorted(set(range(max(numbers))) - numbers) if len(there) > 1 else []
        if gaps:
            notes.append(f"files of the numbers {', '.join(map(str, gaps[:8]))} are not there")
    if not there and any(path.glob("*.db3")):
        raise RecordingError(f"{path}: {OTHERS[b'SQLite format 3']}")
    if not there:
        raise RecordingError(
            f"{path}: no MCAP recording; give one file, or a folder that `ros2 bag record -s mcap` made"
        )
    return there


def _listed(metadata: Path, notes: list[str]) -> list[str]:
    """Names of the files in a rosbag2 folder; none where the list was not finished.

    Raises:
        RecordingError: the bag is of another storage than MCAP, or its messages are compressed one by one.
    """
    try:
        bag = dict(
            read_yaml(metadata, limit=LIST_BYTES, entries=LIST_ENTRIES).plain()["rosbag2_bagfile_information"]
        )
        paths = bag.get("relative_file_paths") or []
        if not isinstance(paths, list):
            raise TypeError(paths)
        names = list(dict.fromkeys(Path(name).name for name in paths))
    except (Unreadable, KeyError, TypeError, ValueError) as error:
        why = f" ({error.problem})" if isinstance(error, Unreadable) else ""
        notes.append(f"{metadata.name} is not the list that ros2 bag writes{why}")
        return []
    folder, storage = metadata.parent, str(bag.get("storage_identifier", "mcap"))
    if storage != "mcap":
        raise RecordingError(f"{folder}: is a bag of storage {storage}; make it MCAP with: ros2 bag convert")
    if str(bag.get("compression_mode") or "").lower() == "message":
        raise RecordingError(
            f"{folder}: its messages are compressed one by one; undo that with: ros2 bag convert"
        )
    return names


def _by_number(path: Path) -> tuple[str, int, str]:
    stem, number = MCAP_NAME.split(path.name)[:2]
    return stem, int(number or 0), path.name


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
