"""openpi's protocol, that of π0 and π0.5: msgpack over a websocket; the server speaks first and says what it is.

Physical-Intelligence/openpi: packages/openpi-client/src/openpi_client/websocket_client_policy.py and
src/openpi/serving/websocket_policy_server.py. An observation is one binary message, the answer another; a text
message is an error, after which the server closes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from physai_policy.remote import wire
from physai_policy.remote.config import RemoteConfig
from physai_policy.remote.stream import Stream
from physai_policy.remote.wire import WireError, WireLimits

REPLY = WireLimits(bytes=8 << 20)
MAX_FRAMES = 1024  # until an answer is complete, pings included
PIECE = (
    4096  # bytes parsed between two looks at the clock: 64 kB of empty frames would take a third of a second
)


class OpenpiConversation:
    """One websocket, from the handshake on."""

    def __init__(self, stream: Stream, config: RemoteConfig) -> None:
        from websockets.client import ClientProtocol
        from websockets.uri import parse_uri

        self._stream = stream
        # Only the protocol comes from the library; reading and writing stay under the stream's deadline.
        self._protocol = ClientProtocol(parse_uri(config.address), max_size=REPLY.bytes)
        request = self._protocol.connect()
        if config.token:
            request.headers["Authorization"] = f"Api-Key {config.token}"
        self._protocol.send_request(request)
        self._flush()
        self._shake_hands()
        metadata = self._receive()
        if not isinstance(metadata, Mapping):
            raise WireError(
                f"the server introduced itself with a {type(metadata).__name__}, not with a mapping"
            )
        self.metadata: Mapping[str, Any] = metadata

    def ask(self, observation: Mapping[str, Any]) -> Mapping[str, Any]:
        """The server's reply to one observation."""
        from websockets.exceptions import WebSocketException

        try:
            self._protocol.send_binary(wire.pack_openpi(observation))
        except WebSocketException as error:
            raise ConnectionError(f"the connection cannot be used: {error}") from error
        self._flush()
        return self._receive()

    @staticmethod
    def server_ms(reply: Mapping[str, Any]) -> float | None:
        """How long the server says it took in ms; ours says also how long the observation waited in line."""
        timing = reply.get("server_timing")
        if not isinstance(timing, Mapping):
            return None
        infer_ms, wait_ms = timing.get("infer_ms"), timing.get("wait_ms", 0.0)
        if not isinstance(infer_ms, int | float) or not isinstance(wait_ms, int | float):
            return None
        return float(infer_ms + wait_ms)

    def is_usable(self) -> bool:
        """Whether the connection is still open after a pause; answers the pings that came meanwhile."""
        from websockets.frames import Frame, Opcode
        from websockets.protocol import State

        data = self._stream.receive_now(PIECE)
        if data is None:
            return True
        if not data or self._stream.receive_now(1) is not None:  # the end, or more than pings would take
            return False
        self._protocol.receive_data(data)
        events = self._protocol.events_received()
        pings = all(
            isinstance(event, Frame) and event.opcode in (Opcode.PING, Opcode.PONG) for event in events
        )
        return pings and self._protocol.state is State.OPEN

    def _shake_hands(self) -> None:
        while True:
            self._protocol.receive_data(self._stream.receive(PIECE))
            if self._protocol.handshake_exc is not None:
                response = getattr(self._protocol.handshake_exc, "response", None)
                if response is not None and response.status_code in (401, 403):
                    raise ConnectionError(f"the server refused the token (HTTP {response.status_code})")
                raise ConnectionError(
                    f"the server does not speak websocket: {str(self._protocol.handshake_exc)[:200]}"
                )
            self._events = self._protocol.events_received()
            if self._events:  # the response, and with it perhaps what the server says first
                self._events = self._events[1:]
                return

    def _receive(self) -> Any:
        """The next message, decoded."""
        from websockets.frames import Frame, Opcode

        parts: list[bytes] = []
        is_text, frames = False, 0
        while True:
            for event in self._events:
                frames += 1
                if frames > MAX_FRAMES:
                    raise WireError(f"no answer was complete within {MAX_FRAMES} frames")
                if not isinstance(event, Frame) or event.opcode not in (
                    Opcode.TEXT,
                    Opcode.BINARY,
                    Opcode.CONT,
                ):
                    continue
                if event.opcode is not Opcode.CONT:
                    is_text = event.opcode is Opcode.TEXT
                parts.append(bytes(event.data))
                if event.fin:
                    self._refuse_more(event)
                    return self._decoded(b"".join(parts), is_text)
            self._refuse_end()
            self._protocol.receive_data(self._stream.receive(PIECE))
            self._flush()  # pongs, or the close that answers a violation
            self._events = self._protocol.events_received()

    def _refuse_more(self, last: Any) -> None:
        """One message at a time: what comes unasked would be taken for the next answer."""
        from websockets.frames import Frame, Opcode

        rest = self._events[self._events.index(last) + 1 :]
        self._events = []
        if any(isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY) for event in rest):
            raise WireError("the server sent more than one answer")

    @staticmethod
    def _decoded(data: bytes, is_text: bool) -> Any:
        if is_text:
            raise WireError(
                f"the server answered with an error: {data[:2000].decode(errors='replace').strip()}"
            )
        return wire.unpack_openpi(data, REPLY)

    def _refuse_end(self) -> None:
        from websockets.protocol import State

        if self._protocol.parser_exc is not None:
            raise WireError(
                f"the server broke the websocket protocol: {str(self._protocol.parser_exc)[:200]}"
            )
        if self._protocol.state is not State.OPEN:
            reason = f": {self._protocol.close_reason}" if self._protocol.close_reason else ""
            raise ConnectionError(f"the server closed the connection{reason}")

    def _flush(self) -> None:
        self._stream.sendall(b"".join(self._protocol.data_to_send()))
