"""OpenVLA's protocol: JSON with arrays over HTTP, POST /act.

openvla/openvla: vla-scripts/deploy.py. The request is {"image", "instruction"} and perhaps "unnorm_key"; the reply is
one action (7,), a list of actions from OpenVLA-OFT, or the text "error".
"""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from typing import Any

from physai_policy.remote import wire
from physai_policy.remote.config import RemoteConfig
from physai_policy.remote.stream import Stream
from physai_policy.remote.wire import WireError, WireLimits

REPLY = WireLimits(bytes=1 << 20)


class OpenvlaConversation:
    """One HTTP connection, kept between requests when the server keeps it."""

    def __init__(self, stream: Stream, config: RemoteConfig) -> None:
        self._stream, self._config = stream, config
        self.metadata: Mapping[str, Any] = {}
        self._connection = http.client.HTTPConnection(config.host, config.port)
        self._connection.auto_open = 0  # type: ignore[misc]  # it has the stream's deadline, or nothing
        self._connection.sock = _Lent(stream)  # type: ignore[assignment]

    def ask(self, observation: Mapping[str, Any]) -> Mapping[str, Any]:
        """The server's reply, its rows under the key `action`."""
        headers = {"Content-Type": "application/json"}
        if self._config.token:
            headers["Authorization"] = f"Bearer {self._config.token}"
        try:
            self._connection.request("POST", self._config.resource, wire.pack_json(observation), headers)
            response = self._connection.getresponse()
            data = response.read(REPLY.bytes + 1)
            response.close()
        except http.client.HTTPException as error:
            raise WireError(f"the server broke HTTP: {type(error).__name__} {str(error)[:200]}") from error
        if response.status in (401, 403):
            raise WireError(f"the server refused the token (HTTP {response.status})")
        if response.status != 200:
            raise WireError(
                f"the server answered HTTP {response.status}: {data[:500].decode(errors='replace')}"
            )
        reply = wire.unpack_json(data, REPLY)
        if isinstance(reply, str):  # where numbers are wanted
            raise WireError(f"the server answered {reply[:2000]!r}; its own log says more")
        return {"action": reply}

    @staticmethod
    def server_ms(reply: Mapping[str, Any]) -> float | None:
        """OpenVLA's server does not say how long it took."""
        return None

    def is_usable(self) -> bool:
        """Whether the connection is still open: after a reply the server may close it."""
        return self._connection.sock is not None and self._stream.receive_now() is None


class _Lent:
    """A stream as http.client's socket, which it closes before it has read the answer."""

    def __init__(self, stream: Stream) -> None:
        self.sendall, self.makefile = stream.sendall, stream.makefile

    def close(self) -> None:
        """Left to the stream's owner."""
