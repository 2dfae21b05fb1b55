"""The file that says where a policy's server is, what it is told and what its answers mean (docs/remote.md)."""

from __future__ import annotations

import importlib.util
import ipaddress
import math
import ssl
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from physai_base.errors import PhysaiError, shown
from physai_policy.policy import ActionSpace
from physai_policy.remote.mapping import (
    RELATIVE,
    ROTATIONS,
    VALUES,
    ActionMapping,
    ConstantEntry,
    Entry,
    GripperScale,
    ImageEntry,
    TextEntry,
    Tree,
    ValuesEntry,
)

KINDS = {"openpi": ("ws", "wss"), "gr00t": ("tcp", "tls"), "openvla": ("http", "https")}
"""Kind of server → schemes of its address: plain, and with TLS."""
DEFAULT_PORTS = {"ws": 80, "wss": 443, "http": 80, "https": 443, "tcp": 5555, "tls": 5555}
LEROBOT = (
    "LeRobot's policy server takes and sends Python pickles over gRPC without authentication (CVE-2026-25874): "
    "whoever reaches either end runs programs on the other. It is refused on purpose. Serve the checkpoint with "
    "`physai serve`, or through openpi's server; docs/remote.md says how"
)
TIMEOUT_S = (0.01, 50.0)  # the supervisor gives a node 60 s to configure


class RemoteError(PhysaiError):
    """A remote policy's file, or the options of a server, that cannot be used."""


@dataclass(frozen=True)
class RemoteConfig:
    """One remote policy; read it with `RemoteConfig.load`."""

    path: Path
    kind: str
    host: str
    port: int
    resource: str  # path of the URL
    tls: bool
    timeout_s: float
    start_timeout_s: float  # until the first answer
    observation: Tree = field(repr=False)
    actions: ActionMapping
    gripper: GripperScale
    name: str
    token: str = field(default="", repr=False)
    ca_file: Path | None = None

    @staticmethod
    def load(path: str | Path) -> RemoteConfig:
        """Read the file; paths in it are relative to it.

        Raises:
            RemoteError: it is missing, or something in it is not as documented.
        """
        path = Path(path)
        try:
            document = yaml.safe_load(path.read_text())
        except OSError as error:
            raise RemoteError(f"{path}: no such file of a remote policy: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeError) as error:
            raise RemoteError(f"{path}: cannot be read as YAML: {error}") from error
        try:
            return _parse(path, _mapping(document, "the file"))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise RemoteError(f"{path}: {reason}; docs/remote.md says what belongs there") from error

    @property
    def address(self) -> str:
        """The server's address as a person writes it."""
        scheme = KINDS[self.kind][self.tls]
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}{self.resource}"

    @property
    def exposed(self) -> str:
        """What is missing for a server that is not on this machine, or nothing."""
        if is_loopback(self.host):
            return ""
        return " and ".join([*([] if self.token else ["a token"]), *([] if self.tls else ["TLS"])])

    def tls_context(self) -> ssl.SSLContext | None:
        """Certificate and host name are always verified; there is no switch to turn that off."""
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=None if self.ca_file is None else str(self.ca_file))
        except OSError as error:  # also ssl.SSLError
            raise RemoteError(f"{self.path}: ca_file {self.ca_file} cannot be used: {error}") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


def require_packages() -> None:
    """Make sure of the extra `remote`, before anything half works.

    Raises:
        RemoteError: it is not installed.
    """
    missing = [name for name in ("msgpack", "websockets") if importlib.util.find_spec(name) is None]
    if missing:
        raise RemoteError(
            f"{' and '.join(missing)} not installed; install with: pip install -c constraints.txt {' '.join(missing)}"
        )


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine can reach `host`; a name other than localhost could mean anything."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_token(path: Path) -> str:
    """The token in a file that only its owner may read.

    Raises:
        RemoteError: others may read it, or it is too short or holds anything but visible ASCII.
    """
    try:
        mode, text = path.stat().st_mode, path.read_text().strip()
    except (OSError, UnicodeError) as error:
        raise RemoteError(f"{path}: the token cannot be read: {error}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise RemoteError(f"{path}: others may read the token; run: chmod 600 {path}")
    if len(text) < 16 or not text.isascii() or not text.isprintable() or " " in text:
        raise RemoteError(
            f"{path}: a token is one line of at least 16 visible ASCII characters; make one with: openssl rand -hex 32"
        )
    return text


def parse_mapping(document: Mapping[str, Any]) -> tuple[Tree, ActionMapping]:
    """Observation and actions as this file describes them, for a model that runs here.

    Raises:
        ValueError: an entry is unknown, missing or wrong.
    """
    _known(document, "the mapping", ("observation", "actions", "gripper"))
    try:
        gripper = _gripper(_mapping(document.get("gripper", {}), "gripper"))
        observation = _tree(_mapping(document["observation"], "observation"), "observation")
        return observation, _actions(_mapping(document["actions"], "actions"), gripper)
    except KeyError as error:
        raise ValueError(f"{error.args[0]} is missing") from error
    except TypeError as error:
        raise ValueError(str(error)) from error


def _parse(path: Path, document: Mapping[str, Any]) -> RemoteConfig:
    _known(
        document, "the file",
        ("kind", "name", "address", "token_file", "ca_file", "timeout_s", "start_timeout_s", "observation", "actions", "gripper"),
    )  # fmt: skip
    kind = document["kind"]
    if kind == "lerobot":
        raise RemoteError(f"{path}: {LEROBOT}")
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {shown(kind)}")
    scheme, host, port, resource = _address(kind, document["address"])
    timeout_s = _seconds(document, "timeout_s", 1.0)
    tls = scheme == KINDS[kind][1]
    ca_file, token_file = document.get("ca_file"), document.get("token_file")
    if ca_file and not tls:
        raise ValueError(f"ca_file is for TLS, and {scheme}:// has none; use {KINDS[kind][1]}://")
    gripper = _gripper(_mapping(document.get("gripper", {}), "gripper"))
    return RemoteConfig(
        path=path,
        kind=kind,
        host=host,
        port=port,
        resource=resource,
        tls=tls,
        timeout_s=timeout_s,
        start_timeout_s=_seconds(document, "start_timeout_s", timeout_s),
        observation=_tree(_mapping(document["observation"], "observation"), "observation"),
        actions=_actions(_mapping(document["actions"], "actions"), gripper),
        gripper=gripper,
        name=str(document.get("name") or path.stem),
        token=read_token(path.parent / str(token_file)) if token_file else "",
        ca_file=path.parent / str(ca_file) if ca_file else None,
    )


def _address(kind: str, address: Any) -> tuple[str, str, int, str]:
    parts = urlsplit(str(address))
    if parts.scheme not in KINDS[kind] or not parts.hostname:
        plain, secure = KINDS[kind]
        raise ValueError(
            f"address of {kind} must be {plain}://host:port or {secure}://host:port, got {shown(address)}"
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("address must be host, port and path alone; a token belongs into token_file")
    resource = parts.path if parts.path.strip("/") else {"openpi": "/", "openvla": "/act", "gr00t": ""}[kind]
    return parts.scheme, parts.hostname, parts.port or DEFAULT_PORTS[parts.scheme], resource


def _tree(document: Mapping[str, Any], where: str) -> Tree:
    """A mapping is an entry when it says `values`, `image`, `text` or `constant`; else its keys are a level of the message."""
    result: dict[str, Entry | Tree] = {}
    for key, entry in document.items():
        entry = _mapping(entry, f"{where}.{key}")
        what = [kind for kind in _ENTRIES if kind in entry and not isinstance(entry[kind], Mapping)]
        if what:
            result[str(key)] = _ENTRIES[what[0]](entry, f"{where}.{key}")
        elif entry:
            result[str(key)] = _tree(entry, f"{where}.{key}")
        else:
            raise ValueError(f"{where}.{key} must have one of {', '.join(_ENTRIES)}")
    return result


def _values_entry(entry: Mapping[str, Any], where: str) -> Entry:
    _known(entry, where, ("values", "dtype"))
    names, dtype = _listed(entry["values"], f"{where}.values"), entry.get("dtype", "float32")
    wrong = [name for name in names if name not in VALUES]
    if wrong or not names:
        raise ValueError(f"{where}.values must be some of {', '.join(VALUES)}, got {wrong or 'none'}")
    if dtype not in ("float32", "float64"):
        raise ValueError(f"{where}.dtype must be float32 or float64, got {shown(dtype)}")
    return ValuesEntry(tuple(names), dtype)


def _image_entry(entry: Mapping[str, Any], where: str) -> Entry:
    _known(entry, where, ("image", "size", "resize", "layout"))
    resize, layout = entry.get("resize", "pad"), entry.get("layout", "hwc")
    if resize not in ("pad", "stretch") or layout not in ("hwc", "chw"):
        raise ValueError(f"{where}: resize must be pad or stretch and layout hwc or chw")
    if entry.get("size") is None:
        return ImageEntry(str(entry["image"]), None, resize, layout)
    height, width = (int(value) for value in entry["size"])
    if not (1 <= height <= 4096 and 1 <= width <= 4096):
        raise ValueError(f"{where}.size must be [height, width] from 1 to 4096, got {entry['size']}")
    return ImageEntry(str(entry["image"]), (height, width), resize, layout)


def _text_entry(entry: Mapping[str, Any], where: str) -> Entry:
    _known(entry, where, ("text",))
    if entry["text"] != "instruction":
        raise ValueError(f"{where}.text must be instruction, got {shown(entry['text'])}")
    return TextEntry()


def _constant_entry(entry: Mapping[str, Any], where: str) -> Entry:
    _known(entry, where, ("constant",))
    return ConstantEntry(entry["constant"])


_ENTRIES = {"values": _values_entry, "image": _image_entry, "text": _text_entry, "constant": _constant_entry}


def _gripper(document: Mapping[str, Any]) -> GripperScale:
    _known(document, "gripper", ("closed", "open", "width_m"))
    if not document:
        return GripperScale()
    closed, opened, width_m = (
        _number(document[key], f"gripper.{key}") for key in ("closed", "open", "width_m")
    )
    if closed == opened or not 0 < width_m <= 1:
        raise ValueError("gripper: closed and open must differ and width_m be above 0 and at most 1 m")
    return GripperScale(closed, opened, width_m)


def _actions(document: Mapping[str, Any], gripper: GripperScale) -> ActionMapping:
    _known(
        document, "actions",
        ("space", "dt_s", "horizon", "keys", "samples", "columns", "rotation", "relative", "scale"),
    )  # fmt: skip
    spaces = [space.value for space in ActionSpace]
    if document["space"] not in spaces:
        raise ValueError(f"actions.space must be one of {', '.join(spaces)}, got {shown(document['space'])}")
    dt_s, horizon = _number(document["dt_s"], "actions.dt_s"), document["horizon"]
    if not 0.001 <= dt_s <= 2.0:
        raise ValueError(f"actions.dt_s must be from 0.001 to 2 s, got {dt_s:g}")
    if type(horizon) is not int or not 1 <= horizon <= 1000:
        raise ValueError(f"actions.horizon must be a whole number from 1 to 1000, got {shown(horizon)}")
    rotation, relative = document.get("rotation", "quaternion"), document.get("relative", "no")
    relative = "no" if relative is False else relative  # YAML reads a bare no as false
    if rotation not in ROTATIONS or relative not in RELATIVE:
        raise ValueError(
            f"actions: rotation must be one of {', '.join(ROTATIONS)} and relative one of {', '.join(RELATIVE)}"
        )
    columns = tuple(_listed(document.get("columns", []), "actions.columns"))
    if not all(type(column) is int and 0 <= column < 1000 for column in columns):
        raise ValueError(f"actions.columns must be whole numbers from 0 on, got {list(columns)}")
    keys = tuple(str(key) for key in _listed(document.get("keys", ["actions"]), "actions.keys"))
    if not keys:
        raise ValueError("actions.keys must name at least one key")
    scale = tuple(
        _number(value, "actions.scale") for value in _listed(document.get("scale", []), "actions.scale")
    )
    if columns and scale and len(scale) != len(columns) - 1:
        raise ValueError(
            f"actions.scale must have {len(columns) - 1} numbers: one per column but the gripper's"
        )
    return ActionMapping(
        ActionSpace(document["space"]), dt_s, horizon, keys, str(document.get("samples", "")), columns, rotation,
        relative, scale, gripper,
    )  # fmt: skip


def _known(document: Mapping[str, Any], where: str, names: tuple[str, ...]) -> None:
    unknown = [str(key) for key in document if key not in names]
    if unknown:
        raise ValueError(f"{where} may not have {', '.join(unknown)}; allowed: {', '.join(names)}")


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} must be a mapping, got {type(value).__name__}")
    return value


def _listed(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{where} must be a list, got {type(value).__name__}")
    return value


def _seconds(document: Mapping[str, Any], key: str, default: float) -> float:
    seconds = _number(document.get(key, default), key)
    if not TIMEOUT_S[0] <= seconds <= TIMEOUT_S[1]:
        raise ValueError(f"{key} must be from {TIMEOUT_S[0]} to {TIMEOUT_S[1]} s, got {seconds:g}")
    return seconds


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{where} must be a finite number, got {shown(value)}")
    return float(value)
