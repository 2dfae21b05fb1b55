"""The other end of a remote policy, for tests: servers as their own projects write them, and ones that mean harm."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import io
import json
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import json_numpy
import msgpack
import numpy as np
import zmq
from openpi_client import msgpack_numpy

from physai_policy.policy import ActionSpace, Observation, Prefix, Proposal
from physai_policy.remote.client import RemotePolicy
from physai_policy.remote.server import ObservationReader, PolicyServer, ServerSettings

HORIZON, DT_S = 6, 0.05
SHAPE = (HORIZON, 4)

Make = Callable[..., RemotePolicy]


class Echo:
    """A policy whose chunk says which observation it is for: the tool's place, going up."""

    name = "echo"
    horizon = HORIZON
    dt_s = DT_S

    def __init__(self) -> None:
        self.seen: list[Observation] = []
        self.prefixes: list[Prefix | None] = []
        self.wait: Callable[[Observation], None] = lambda observation: None

    def infer(self, observation: Observation, prefix: Prefix | None = None) -> Proposal:
        self.wait(observation)
        self.seen.append(observation)
        self.prefixes.append(prefix)
        rows = np.tile(np.append(observation.tool_m, observation.gripper_width_m), (HORIZON, 1))
        rows[:, 2] += 0.001 * np.arange(HORIZON)
        return Proposal(np.stack([rows, rows, rows + 0.01]), ActionSpace.TOOL_POSITION, DT_S)


@contextlib.contextmanager
def serving(
    policy: Any, features: int = 0, example: Observation | None = None, **settings: Any
) -> Iterator[PolicyServer]:
    """A `PolicyServer` in a thread."""
    names = tuple(f"f{i}" for i in range(features))
    server = PolicyServer(policy, ObservationReader(names, 7), ServerSettings(port=0, **settings))
    example = example or Observation(0, np.zeros(features, np.float32), np.zeros(3))
    ready = threading.Event()
    thread = threading.Thread(target=server.run, args=(example, ready.set), daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield server
    finally:
        server.stop()
        thread.join(30)
        assert not thread.is_alive()


OBSERVATION = """
observation:
  tool_m: {values: [tool], dtype: float64}
  gripper_width_m: {constant: 0.04}
  prompt: {text: instruction}
"""
ACTIONS = f"actions: {{space: tool_position, dt_s: {DT_S}, horizon: {HORIZON}}}\n"
MAPPINGS = {
    "openpi": OBSERVATION + ACTIONS,
    "gr00t": """
observation:
  video: {front: {image: overview, size: [32, 32]}}
  state: {arm: {values: [joints]}, hand: {values: [gripper_width]}}
  language: {annotation.human.task_description: {text: instruction}}
"""
    + f"actions: {{space: joint_position, dt_s: {DT_S}, horizon: {HORIZON}, keys: [arm, hand]}}\n",
    "openvla": """
observation:
  image: {image: overview, size: [32, 32]}
  instruction: {text: instruction}
  unnorm_key: {constant: bridge_orig}
actions: {space: tool_pose, dt_s: 0.2, horizon: 1, keys: [action], rotation: euler, relative: step}
gripper: {closed: 0.0, open: 1.0, width_m: 0.08}
""",
}


def write_config(
    folder: Path, kind: str, port: int, extra: str = "timeout_s: 5.0\n", scheme: str = ""
) -> Path:
    """A remote policy's file for a server on this machine."""
    scheme = scheme or {"openpi": "ws", "gr00t": "tcp", "openvla": "http"}[kind]
    path = folder / f"{kind}.yaml"
    path.write_text(f"kind: {kind}\naddress: {scheme}://localhost:{port}\n{extra}{MAPPINGS[kind]}")
    return path


def observation(tool: tuple[float, float, float] = (0.4, 0.1, 0.3), robot: Any = None) -> Observation:
    """What is asked about."""
    joints = np.zeros(7) if robot is None else robot.home
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    return Observation(
        7, np.zeros(0, np.float32), np.array(tool), joints, 0.04, {"overview": image}, "lift it"
    )


# Peers that mean harm ---------------------------------------------------------------------------------------


class Evil(Exception):
    """Ends an evil script, which closes its connection."""


class EvilServer:
    """Runs `script(connection)` for every client, until the client goes."""

    def __init__(self, script: Callable[[socket.socket], None]) -> None:
        self.script = script
        self.accepted = 0
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.accepted += 1
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, Evil):
            self.script(connection)
        connection.close()

    def __enter__(self) -> EvilServer:
        return self

    def __exit__(self, *error: object) -> None:
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def read_exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise Evil
        data += more
    return data


def silence(connection: socket.socket) -> None:
    """Hold the connection and say nothing until the client goes."""
    while connection.recv(1 << 16):
        pass


def flood(connection: socket.socket, data: bytes) -> None:
    """Send it until the client goes."""
    while True:
        connection.sendall(data)


def websocket_upgrade(request: bytes) -> bytes:
    """The answer to a websocket's handshake (RFC 6455)."""
    key = next(
        line.split(b": ")[1]
        for line in request.split(b"\r\n")
        if line.lower().startswith(b"sec-websocket-key")
    )
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


def websocket_frame(payload: bytes, opcode: int = 2, fin: bool = True, claim: int | None = None) -> bytes:
    """A server's frame, with the length that it claims to have."""
    size = len(payload) if claim is None else claim
    first = bytes([(0x80 if fin else 0) | opcode])
    if size < 126:
        return first + bytes([size]) + payload
    if size < 1 << 16:
        return first + struct.pack(">BH", 126, size) + payload
    return first + struct.pack(">BQ", 127, size) + payload


def openpi_handshake(connection: socket.socket, metadata: bytes = b"\x80") -> None:
    request = b""
    while b"\r\n\r\n" not in request:
        more = connection.recv(4096)
        if not more:
            raise Evil
        request += more
    connection.sendall(websocket_upgrade(request) + websocket_frame(metadata))


def read_websocket_message(connection: socket.socket) -> bytes:
    """One masked, unfragmented frame of a client."""
    _, size = read_exactly(connection, 2)
    size &= 0x7F
    if size == 126:
        size = struct.unpack(">H", read_exactly(connection, 2))[0]
    elif size == 127:
        size = struct.unpack(">Q", read_exactly(connection, 8))[0]
    mask, data = read_exactly(connection, 4), read_exactly(connection, size)
    return bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))


def openpi_reply(frames: bytes | Callable[[socket.socket], None]) -> Callable[[socket.socket], None]:
    """A script that behaves until it is asked, then sends these bytes, or does this, and falls silent."""

    def script(connection: socket.socket) -> None:
        openpi_handshake(connection)
        read_websocket_message(connection)
        if isinstance(frames, bytes):
            connection.sendall(frames)
        else:
            frames(connection)
        silence(connection)

    return script


def good_actions(**change: Any) -> bytes:
    """A reply as openpi packs it, with some of it changed."""
    return msgpack_numpy.packb({"actions": np.zeros(SHAPE), **change})


ZMTP_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
ZMTP_READY = b"\x04\x1a\x05READY\x0bSocket-Type\x00\x00\x00\x03REP"
ZMTP_READY = bytes([4, len(ZMTP_READY) - 2]) + ZMTP_READY[2:]


def gr00t_reply(data: bytes) -> Callable[[socket.socket], None]:
    """A script that shakes hands as a REP socket, then sends these bytes and falls silent."""

    def script(connection: socket.socket) -> None:
        connection.sendall(ZMTP_GREETING + ZMTP_READY)
        read_exactly(connection, 64)
        size = read_exactly(connection, 2)[1]  # READY
        read_exactly(connection, size)
        assert read_exactly(connection, 2) == b"\x01\x00"
        assert read_exactly(connection, 1) == b"\x02"
        read_exactly(connection, struct.unpack(">Q", read_exactly(connection, 8))[0])
        connection.sendall(data)
        silence(connection)

    return script


def zmtp_frame(payload: bytes, more: bool = False, claim: int | None = None) -> bytes:
    return struct.pack(">BQ", 2 | more, len(payload) if claim is None else claim) + payload


def http_reply(data: bytes, close: bool = False) -> Callable[[socket.socket], None]:
    """A script that reads one request, sends these bytes and falls silent or closes."""

    def script(connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            more = connection.recv(4096)
            if not more:
                raise Evil
            head += more
        connection.sendall(data)
        if not close:
            silence(connection)

    return script


# Peers as their own projects write them ---------------------------------------------------------------------


class Gr00tServer:
    """The loop of Isaac-GR00T's PolicyServer and its MsgSerializer, on a real ZeroMQ socket."""

    def __init__(self, get_action: Callable[..., Any], api_token: str | None = None) -> None:
        self._get_action, self._token = get_action, api_token
        self.requests: list[Any] = []
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.REP)
        self._socket.linger = 0
        self.port = self._socket.bind_to_random_port("tcp://127.0.0.1")
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @staticmethod
    def encode(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            output = io.BytesIO()
            np.save(output, value, allow_pickle=False)
            return {"__ndarray_class__": True, "as_npy": output.getvalue()}
        return value

    @staticmethod
    def decode(entry: Any) -> Any:
        if isinstance(entry, dict) and "__ndarray_class__" in entry:
            return np.load(io.BytesIO(entry["as_npy"]), allow_pickle=False)
        return entry

    def _run(self) -> None:
        while not self._stopping:
            if not self._socket.poll(50):
                continue
            request = msgpack.unpackb(self._socket.recv(), object_hook=self.decode)
            self.requests.append(request)
            if self._token is not None and request.get("api_token") != self._token:
                result: Any = {"error": "Unauthorized: Invalid API token"}
            else:
                try:
                    assert request["endpoint"] == "get_action"
                    result = self._get_action(**request["data"])
                except Exception as error:
                    result = {"error": str(error)}
            self._socket.send(msgpack.packb(result, default=self.encode))

    def __enter__(self) -> Gr00tServer:
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping = True
        self._thread.join(10)
        self._socket.close()
        self._context.term()


class OpenvlaServer:
    """What FastAPI and json_numpy make of OpenVLA's deploy.py: POST /act."""

    def __init__(self, predict: Callable[[dict[str, Any]], Any]) -> None:
        self.requests: list[dict[str, Any]] = []
        self.connections = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                outer.connections += 1

            def do_POST(self) -> None:
                assert self.path == "/act"
                payload = json_numpy.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append(payload)
                try:
                    reply = json_numpy.dumps(predict(payload)).encode()
                except Exception:
                    reply = json.dumps("error").encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self) -> OpenvlaServer:
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


# A bad link ------------------------------------------------------------------------------------------------


class Proxy:
    """A TCP link to a server on this machine that is late, stalls, goes dead or ends in the middle.

    TCP hides a lost packet as a stall until it is sent again; `stall_share` of the pieces stall by `stall_s`.
    """

    def __init__(self, port: int) -> None:
        self.delay_s = self.stall_s = self.stall_share = 0.0
        self.dead = False  # half open: both ends stay connected, nothing passes
        self.cut_after: int | None = None  # bytes from the server, then the connection is reset
        self.target = port
        self._random = random.Random(1)
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                if self.dead:
                    continue
                server = socket.create_connection(("127.0.0.1", self.target))
                self._open.append(server)
                for source, sink, back in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._forward, args=(source, sink, back), daemon=True).start()

    def drop(self) -> None:
        """End the connections that are open; new ones go to `target`."""
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._open.clear()

    def _forward(self, source: socket.socket, sink: socket.socket, back: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                stalls = self._random.random() < self.stall_share
                time.sleep(self.delay_s + (self.stall_s if stalls else 0.0))
                if self.dead:
                    continue
                if back and self.cut_after is not None and passed + len(data) > self.cut_after:
                    sink.sendall(data[: self.cut_after - passed])
                    break
                passed += len(data)
                sink.sendall(data)
        if not self.dead:
            for one in (source, sink):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *error: object) -> None:
        self.drop()
        self._listener.close()
