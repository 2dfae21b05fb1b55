"""Recordings of ROS messages as MCAP files, which ros2 bag, Foxglove and PlotJuggler open."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from mcap.writer import Writer
from rclpy.serialization import serialize_message

SEPARATOR = "=" * 80


class Recorder:
    """One MCAP file with profile ros2; a context manager. The file appears under its name when it is complete."""

    def __init__(self, path: Path) -> None:
        """Start `path`; its folder is made.

        Raises:
            OSError: the file cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._partial = path.with_suffix(".mcap.partial")
        self._file = self._partial.open("wb")
        self._writer = Writer(self._file)
        self._writer.start(profile="ros2", library="physai")
        self._channels: dict[str, int] = {}

    def write(self, topic: str, message: Any, stamp_ns: int) -> None:
        """Add a message as of `stamp_ns` (ROS time); a topic keeps the type of its first message."""
        if topic not in self._channels:
            name = type_name(type(message))
            schema = self._writer.register_schema(name, "ros2msg", definition(name).encode())
            self._channels[topic] = self._writer.register_channel(topic, "cdr", schema)
        self._writer.add_message(self._channels[topic], stamp_ns, serialize_message(message), stamp_ns)

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
