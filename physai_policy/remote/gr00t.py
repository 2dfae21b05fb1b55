"""GR00T's protocol: msgpack in ZeroMQ request and reply, spoken here without libzmq.

NVIDIA/Isaac-GR00T: gr00t/policy/server_client.py (request {"endpoint", "data", "api_token"}, reply [action, info]) and
gr00t_policy.py (every array with a batch and a time axis in front). The few pages of ZMTP 3.0 that it takes
(https://rfc.zeromq.org/spec/23) stand here, because libzmq reads in a thread of its own, past any deadline and
without a bound on the parts of one message, and knows no TLS. GR00T's server has none either: `tls://` is for a
proxy in front of it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from physai_policy.remote import wire
from physai_policy.remote.config import RemoteConfig
from physai_policy.remote.stream import Stream
from physai_policy.remote.wire import WireError, WireLimits

REPLY = WireLimits(bytes=8 << 20)
_SIGNATURE = b"\xff" + bytes(8) + b"\x7f"
_GREETING = (
    _SIGNATURE + b"\x03\x00" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31)
)  # version 3.0, as a client
_MORE, _LONG, _COMMAND = 1, 2, 4
_COMMAND_BYTES = 512
_PING, _PONG = b"\x04PING", b"\x04PONG"


class Gr00tConversation:
    """One ZMTP connection from a REQ to a REP socket."""

    def __init__(self, stream: Stream, config: RemoteConfig) -> None:
        self._stream, self._token = stream, config.token
        self.metadata: Mapping[str, Any] = {}
        stream.sendall(_GREETING)
        theirs = stream.receive_exactly(len(_GREETING))
        if theirs[0] != 0xFF or theirs[9] != 0x7F or theirs[10] < 3:
            raise WireError("the server does not speak ZeroMQ's protocol 3")
        if theirs[12:32].rstrip(b"\0") != b"NULL":
            mechanism = theirs[12:32].rstrip(b"\0").decode(errors="replace")
            raise WireError(f"the server asks for ZeroMQ's {mechanism} security; only NULL is known here")
        self._send(_COMMAND, b"\x05READY" + _property(b"Socket-Type", b"REQ") + _property(b"Identity", b""))
        flags, ready = self._frame()
        if not flags & _COMMAND or not ready.startswith(b"\x05READY"):
            raise WireError(f"the server is not ready: {ready[:80]!r}")
        if b"Socket-Type\0\0\0\3REP" not in ready and b"Socket-Type\0\0\0\6ROUTER" not in ready:
            raise WireError("the server's ZeroMQ socket is not one that replies")

    def ask(self, observation: Mapping[str, Any]) -> Mapping[str, Any]:
        """The actions for one observation, the batch axis taken off."""
        request = {
            "endpoint": "get_action", "data": {"observation": _batched(observation), "options": None},
            **({"api_token": self._token} if self._token else {}),
        }  # fmt: skip
        self._send(_MORE, b"")  # the empty part between addresses and content
        self._send(0, wire.pack_gr00t(request))
        reply = wire.unpack_gr00t(self._message(), REPLY)
        if isinstance(reply, Mapping) and "error" in reply:
            raise WireError(f"the server answered with an error: {str(reply['error'])[:2000]}")
        if not isinstance(reply, list) or len(reply) != 2 or not isinstance(reply[0], Mapping):
            raise WireError("the reply must be a list of actions and of information about them")
        return {str(key): _unbatched(str(key), value) for key, value in reply[0].items()}

    @staticmethod
    def server_ms(reply: Mapping[str, Any]) -> float | None:
        """GR00T's server does not say how long it took."""
        return None

    def is_usable(self) -> bool:
        """Whether the connection is still as it was left."""
        return self._stream.receive_now() is None

    def _message(self) -> bytes:
        """The content of the next message: an empty part, then one more."""
        parts = []
        while True:
            flags, body = self._frame()
            if flags & _COMMAND:
                if body.startswith(_PING):  # command, two bytes of time to live, context to send back
                    self._send(_COMMAND, _PONG + body[len(_PING) + 2 :])
                continue
            parts.append(body)
            if len(parts) > 2:
                raise WireError("the reply has more than two parts")
            if not flags & _MORE:
                break
        if len(parts) != 2 or parts[0]:
            raise WireError("the reply must be an empty part and a second one")
        return parts[1]

    def _frame(self) -> tuple[int, bytes]:
        flags = self._stream.receive_exactly(1)[0]
        if flags & ~(_MORE | _LONG | _COMMAND):
            raise WireError(f"the server sent a frame of unknown kind 0x{flags:02x}")
        size = struct.unpack(">Q", self._stream.receive_exactly(8))[0] if flags & _LONG else self._stream.receive_exactly(1)[0]  # fmt: skip
        if flags & _COMMAND and size > _COMMAND_BYTES:
            raise WireError(f"the server sent a command of {size} bytes")
        REPLY.check_size(size)
        return flags, self._stream.receive_exactly(size)

    def _send(self, flags: int, body: bytes) -> None:
        if len(body) > 255:
            header = struct.pack(">BQ", flags | _LONG, len(body))
        else:
            header = struct.pack(">BB", flags, len(body))
        self._stream.sendall(header + body)


def _property(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + struct.pack(">I", len(value)) + value


def _batched(tree: Any) -> Any:
    """Every array and text with the batch and the time axis that GR00T wants in front."""
    if isinstance(tree, Mapping):
        return {key: _batched(value) for key, value in tree.items()}
    return tree[None, None] if isinstance(tree, np.ndarray) else [[tree]]


def _unbatched(key: str, value: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.ndim != 3 or len(value) != 1:
        shape = value.shape if isinstance(value, np.ndarray) else type(value).__name__
        raise WireError(f"{key!r} of the reply must have shape (1, horizon, columns), got {shape}")
    return value[0]
