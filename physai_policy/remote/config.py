"""The file that says where a policy's server is, what it is told and what its answers mean (docs/howto/remote.md)."""

from __future__ import annotations

import importlib.util
import ipaddress
import ssl
import stat
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from physai_base.errors import PhysaiError, shown
from physai_base.reader import Reader, nearest, open_yaml
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

SPACES = tuple(
    space.value for space in ActionSpace if space is not ActionSpace.TOOL_POSITION_YAW
)  # of servers
KINDS = {"openpi": ("ws", "wss"), "gr00t": ("tcp", "tls"), "openvla": ("http", "https")}
"""Kind of server → schemes of its address: plain, and with TLS."""
DEFAULT_PORTS = {"ws": 80, "wss": 443, "http": 80, "https": 443, "tcp": 5555, "tls": 5555}
LEROBOT = (
    "LeRobot's policy server takes and sends Python pickles over gRPC without authentication (CVE-2026-25874): "
    "whoever reaches either end runs programs on the other. It is refused on purpose. Serve the checkpoint with "
    "`physai serve`, or through openpi's server; docs/howto/remote.md says how"
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
        file = open_yaml(Path(path), RemoteError, "docs/howto/remote.md says what belongs there")
        config = _parse(file)
        file.finish()
        return config

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


def parse_mapping(mapping: Reader, horizon: int | None = None) -> tuple[Tree, ActionMapping]:
    """Observation and actions as this file describes them, for a model that runs here; what is wrong is noted there.

    `horizon` is taken where the actions do not give it.
    """
    gripper = _gripper(mapping.section("gripper", optional=True))
    return _tree(mapping.section("observation")), _actions(mapping.section("actions"), gripper, horizon)


def _parse(file: Reader) -> RemoteConfig:
    kind = file.text("kind")
    if kind == "lerobot":
        raise RemoteError(f"{file.path}: {LEROBOT}")
    kind = file.choice("kind", tuple(KINDS))
    scheme, host, port, resource = _address(file, kind)
    timeout_s = file.number("timeout_s", *TIMEOUT_S, 1.0)
    tls = scheme == KINDS[kind][1]
    ca_file, token_file = file.file("ca_file", None), file.file("token_file", None)
    if ca_file and not tls:
        file.fail("ca_file", f"is for TLS, and {scheme}:// has none; use {KINDS[kind][1]}://")
    gripper = _gripper(file.section("gripper", optional=True))
    token = ""
    if token_file and file.good("token_file"):
        try:
            token = read_token(token_file)
        except RemoteError as error:
            file.fail("token_file", str(error))
    return RemoteConfig(
        path=file.path,
        kind=kind,
        host=host,
        port=port,
        resource=resource,
        tls=tls,
        timeout_s=timeout_s,
        start_timeout_s=file.number("start_timeout_s", *TIMEOUT_S, timeout_s),
        observation=_tree(file.section("observation")),
        actions=_actions(file.section("actions"), gripper),
        gripper=gripper,
        name=file.text("name", file.path.stem),
        token=token,
        ca_file=ca_file,
    )


def _address(file: Reader, kind: str) -> tuple[str, str, int, str]:
    address = file.text("address")
    plain, secure = KINDS[kind]
    stand_in = (plain, "localhost", DEFAULT_PORTS[plain], "")
    if not file.good("address", "kind"):
        return stand_in
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError as error:  # a port that is no number, half an IPv6 address
        file.fail("address", f"{shown(address)}: {error}")
        return stand_in
    if parts.scheme not in KINDS[kind] or not host:
        file.fail(
            "address", f"of {kind} must be {plain}://host:port or {secure}://host:port, got {shown(address)}"
        )
        return stand_in
    if parts.username or parts.password or parts.query or parts.fragment:
        file.fail("address", "must be host, port and path alone; a token belongs into token_file")
    resource = parts.path if parts.path.strip("/") else {"openpi": "/", "openvla": "/act", "gr00t": ""}[kind]
    return parts.scheme, host, port or DEFAULT_PORTS[parts.scheme], resource


def _tree(level: Reader) -> Tree:
    """A mapping is an entry when it says `values`, `image`, `text` or `constant`; else its keys are a level of the message."""
    result: dict[str, Entry | Tree] = {}
    for key, node in list(level.items()):
        entry = level.section(key)
        if not level.good(key):
            continue
        what = [
            kind for kind in _ENTRIES if kind in node.value and not isinstance(node.value[kind].value, dict)
        ]
        if what:
            result[str(key)] = _ENTRIES[what[0]](entry)
        elif len(entry) and all(isinstance(item.value, dict) for _, item in entry.items()):
            result[str(key)] = _tree(entry)
        else:
            near = [near for name, _ in entry.items() if (near := nearest(str(name), tuple(_ENTRIES)))]
            hint = f"; did you mean {near[0]}?" if near else ""
            level.fail(key, f"must have one of {', '.join(_ENTRIES)}{hint}")
    return result


def _values_entry(entry: Reader) -> Entry:
    names = entry.texts("values")
    wrong = [name for name in names if name not in VALUES]
    if entry.good("values") and (wrong or not names):
        entry.fail("values", f"must be some of {', '.join(VALUES)}, got {', '.join(wrong) or 'none'}")
    return ValuesEntry(names, entry.choice("dtype", ("float32", "float64"), "float32"))


def _image_entry(entry: Reader) -> Entry:
    camera = entry.text("image")
    resize = entry.choice("resize", ("pad", "stretch"), "pad")
    layout = entry.choice("layout", ("hwc", "chw"), "hwc")
    if not entry.has("size"):
        return ImageEntry(camera, None, resize, layout)
    height, width = entry.vector("size", 2, 1, 4096).tolist()
    if height != int(height) or width != int(width):
        entry.fail("size", f"must be whole numbers, got {height:g} and {width:g}")
    return ImageEntry(camera, (int(height), int(width)), resize, layout)


def _text_entry(entry: Reader) -> Entry:
    entry.choice("text", ("instruction",))
    return TextEntry()


def _constant_entry(entry: Reader) -> Entry:
    return ConstantEntry(entry.anything("constant"))


_ENTRIES = {"values": _values_entry, "image": _image_entry, "text": _text_entry, "constant": _constant_entry}


def _gripper(section: Reader) -> GripperScale:
    if not len(section):
        for key in ("closed", "open", "width_m"):
            section.has(key)
        return GripperScale()
    closed, opened = section.number("closed"), section.number("open")
    width_m = section.number("width_m", 1e-6, 1)
    if section.good("closed", "open") and closed == opened:
        section.fail("open", "must differ from closed")
    return GripperScale(closed, opened, width_m)


def _actions(section: Reader, gripper: GripperScale, horizon: int | None = None) -> ActionMapping:
    space = section.choice("space", SPACES)
    relative = "no" if section.anything("relative", "no") is False else ""  # YAML reads a bare no as false
    columns = section.vector("columns", None, 0, 999, ()).tolist()
    if any(column != int(column) for column in columns):
        section.fail("columns", f"must be whole numbers, got {columns}")
    keys = section.texts("keys", ("actions",))
    if section.good("keys") and not keys:
        section.fail("keys", "must name at least one key")
    scale = section.vector("scale", None, default=()).tolist()
    if columns and scale and section.good("columns", "scale") and len(scale) != len(columns) - 1:
        section.fail(
            "scale",
            f"must have {len(columns) - 1} numbers: one per column but the gripper's, got {len(scale)}",
        )
    return ActionMapping(
        ActionSpace(space),
        section.number("dt_s", 0.001, 2.0),
        section.whole("horizon", 1, 1000) if horizon is None else section.whole("horizon", 1, 1000, horizon),
        keys,
        section.text("samples", ""),
        tuple(int(column) for column in columns),
        section.choice("rotation", tuple(ROTATIONS), "quaternion"),
        relative or section.choice("relative", RELATIVE, "no"),
        tuple(scale),
        gripper,
    )
