"""Environment variables that would keep ROS from working, found before ROS is loaded. No ROS is imported here.

rcl and Fast DDS answer them with an error of their own, an exit from inside a library, or with silence: nobody is
found. Every entry point asks `wrong()` first.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

EXIT_CONFIGURATION = 78
MAX_DOMAIN = 232  # the highest whose ports are below 65536
RANGES = ("SUBNET", "LOCALHOST", "SYSTEM_DEFAULT")  # in which somebody can be found
SERVER_ANSWER_S = 0.2  # for this machine to say that nobody listens on the port


@dataclass(frozen=True)
class Wrong:
    """A variable that cannot be meant so."""

    variable: str
    what: str
    cure: str

    def __str__(self) -> str:
        return f"{self.variable}: {self.what}; {self.cure}"


def refuse_wrong(program: str) -> None:
    """End with EXIT_CONFIGURATION and one line for each variable that is wrong; do nothing where none is."""
    found = wrong()
    if found:
        for problem in found:
            print(f"{program}: {problem}", file=sys.stderr, flush=True)
        raise SystemExit(EXIT_CONFIGURATION)


def said_by_ros(error: BaseException) -> str:
    """One line for what rcl refuses to begin with (a name, a variable of security, …); empty for every other error."""
    if type(error).__name__ != "RCLError" and type(error).__module__ != "rclpy.exceptions":
        return ""
    text = str(error).splitlines()[0].partition(", at /")[0]
    return f"ROS cannot begin here: {text}; `physai doctor` looks through the environment"


def wrong(env: Mapping[str, str] | None = None) -> list[Wrong]:
    """What is wrong with the environment; by default that of this process."""
    env = os.environ if env is None else env
    return [
        *_middleware(env),
        *_domain(env),
        *_range(env),
        *_servers(env),
        *_peers(env),
        *_security(env),
        *_logs(env),
        *_profiles(env),
    ]


def _middleware(env: Mapping[str, str]) -> Iterator[Wrong]:
    name = env.get("RMW_IMPLEMENTATION", "")
    if not name:
        return
    prefixes = [Path(p) for p in (sys.prefix, *env.get("AMENT_PREFIX_PATH", "").split(os.pathsep)) if p]
    installed = {
        entry.name
        for prefix in prefixes
        for entry in (prefix / "share/ament_index/resource_index/rmw_typesupport").glob("rmw_*")
        if entry.name != "rmw_implementation"
    }
    if installed and name not in installed:
        yield Wrong(
            "RMW_IMPLEMENTATION",
            f"{name} is not installed; there is {', '.join(sorted(installed))}",
            "unset RMW_IMPLEMENTATION, or install that middleware",
        )


def _domain(env: Mapping[str, str]) -> Iterator[Wrong]:
    text = env.get("ROS_DOMAIN_ID", "")
    if text and not (text.isascii() and text.isdigit() and int(text) <= MAX_DOMAIN):
        yield Wrong(
            "ROS_DOMAIN_ID",
            f"must be a whole number from 0 to {MAX_DOMAIN}, got {text!r}",
            "set it to one, on every machine the same, or unset it for 0",
        )


def _range(env: Mapping[str, str]) -> Iterator[Wrong]:
    value = env.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "")
    if value == "OFF" and not env.get("ROS_STATIC_PEERS") and not env.get("ROS_DISCOVERY_SERVER"):
        yield Wrong(
            "ROS_AUTOMATIC_DISCOVERY_RANGE",
            "OFF: no process finds another one, not even on this machine",
            "set it to LOCALHOST or SUBNET, or unset it",
        )
    elif value and value not in (*RANGES, "OFF"):
        yield Wrong(
            "ROS_AUTOMATIC_DISCOVERY_RANGE",
            f"must be one of {', '.join(RANGES)}, got {value!r}",
            "set it to one of them, or unset it",
        )


def _servers(env: Mapping[str, str]) -> Iterator[Wrong]:
    text = env.get("ROS_DISCOVERY_SERVER", "")
    places = [place for place in text.split(";") if place.strip()]
    if text and not places:
        yield Wrong("ROS_DISCOVERY_SERVER", f"names no server: {text!r}", "give address:port, or unset it")
    reasons = [reason for place in places if (reason := _unreachable(place.strip()))]
    if places and len(reasons) == len(places):  # one of several is enough
        yield Wrong(
            "ROS_DISCOVERY_SERVER",
            f"no discovery server can be reached: {', '.join(reasons)}",
            "start it (fastdds discovery -i 0), correct the address, or unset ROS_DISCOVERY_SERVER",
        )


def _unreachable(place: str) -> str:
    """Why nobody can be at such a place, or nothing: over a network silence says neither."""
    match = re.fullmatch(r"(?:(UDPv4|UDPv6|TCPv4|TCPv6):)?\[?([^\[\]]+?)\]?(?::(\d+))?", place)
    if not match:
        return f"{place} is no address:port"
    tcp, host, port = (match[1] or "").startswith("TCP"), match[2], int(match[3] or 11811)
    try:
        kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
        family, _, _, _, address = socket.getaddrinfo(host, port, type=kind)[0]
        with socket.socket(family, kind) as probe:
            probe.settimeout(SERVER_ANSWER_S)
            probe.connect(address)
            if not tcp:
                probe.send(b"")
                probe.recv(1)
    except TimeoutError:
        return ""
    except (OSError, OverflowError) as error:
        return f"{place}: {getattr(error, 'strerror', None) or error}"
    return ""


def _peers(env: Mapping[str, str]) -> Iterator[Wrong]:
    for place in filter(None, env.get("ROS_STATIC_PEERS", "").split(";")):
        try:
            socket.getaddrinfo(place, None)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "is no name of a computer"
            yield Wrong(
                "ROS_STATIC_PEERS", f"{place!r} is not found: {reason}", "give addresses or names by `;`"
            )


def _security(env: Mapping[str, str]) -> Iterator[Wrong]:
    """rcl heeds it only where it is exactly `true`."""
    if env.get("ROS_SECURITY_ENABLE") != "true" or env.get("ROS_SECURITY_STRATEGY") != "Enforce":
        return
    keys = env.get("ROS_SECURITY_KEYSTORE", "")
    if not keys or not os.path.isdir(keys):
        yield Wrong(
            "ROS_SECURITY_KEYSTORE",
            f"no such folder: {keys}" if keys else "is not set, and ROS_SECURITY_ENABLE asks for keys",
            "set it to the keystore, or unset ROS_SECURITY_ENABLE",
        )


def _logs(env: Mapping[str, str]) -> Iterator[Wrong]:
    """rcl makes a file for each process' log."""
    if env.get("ROS_LOG_DIR"):
        variable, folder = "ROS_LOG_DIR", Path(env["ROS_LOG_DIR"])
    elif env.get("ROS_HOME"):
        variable, folder = "ROS_HOME", Path(env["ROS_HOME"]) / "log"
    elif env.get("HOME"):
        variable, folder = "HOME", Path(env["HOME"]) / ".ros/log"
    else:
        yield Wrong(
            "HOME", "is not set, so ROS has no folder for its logs",
            "set HOME, or ROS_LOG_DIR=/some/folder that can be written to",
        )  # fmt: skip
        return
    if str(folder).startswith("~"):
        folder = Path(env.get("HOME", "/")) / str(folder)[1:].lstrip("/")
    try:
        folder.mkdir(parents=True, exist_ok=True)  # as rcl does, which ends the process where it cannot
        reason = "" if os.access(folder, os.W_OK | os.X_OK) else "cannot be written to"
    except OSError as error:
        reason = f"cannot be made: {error.strerror}"
    if reason:
        yield Wrong(
            variable, f"ROS keeps its logs in {folder}, which {reason}",
            "set ROS_LOG_DIR=/some/folder that can be written to",
        )  # fmt: skip


def _profiles(env: Mapping[str, str]) -> Iterator[Wrong]:
    for variable in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"):
        path = env.get(variable, "")
        try:
            if path:
                ElementTree.parse(path)
        except (OSError, ElementTree.ParseError) as error:  # Fast DDS goes on without it
            what = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
            yield Wrong(variable, f"{what}: {path}", f"correct it, or unset {variable}")
