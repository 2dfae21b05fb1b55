"""Clients of remote policies: their own servers understand them, no server can hold, fool or swell them.

That an inference ends by its deadline is tested on a simulated clock, where a busy machine changes nothing.
"""

from __future__ import annotations

import math
import socket
import ssl
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openpi_client import msgpack_numpy
from remote_peers import (
    DT_S,
    HORIZON,
    SHAPE,
    ZMTP_GREETING,
    ZMTP_READY,
    Echo,
    EvilServer,
    Gr00tServer,
    OpenvlaServer,
    Proxy,
    flood,
    good_actions,
    gr00t_reply,
    http_reply,
    observation,
    openpi_handshake,
    openpi_reply,
    read_websocket_message,
    serving,
    silence,
    websocket_frame,
    websocket_upgrade,
    write_config,
    zmtp_frame,
)  # fmt: skip
from transforms3d.euler import euler2mat
from transforms3d.quaternions import quat2mat

from physai_base.embodiment import Embodiment
from physai_base.errors import PolicyError
from physai_base.kinematics import ArmKinematics
from physai_policy.policy import ActionSpace, Proposal
from physai_policy.remote import stream
from physai_policy.remote.client import BACK_OFF_S, RemotePolicy
from physai_policy.remote.config import RemoteConfig
from physai_policy.remote.stream import Deadline, DeadlineError, Stream

Make = Callable[..., RemotePolicy]
MEMORY = 64 << 20


@pytest.fixture
def make(tmp_path: Path, embodiment: Embodiment) -> Iterator[Make]:
    """Makes clients of servers on this machine."""
    made: list[RemotePolicy] = []

    def make(kind: str, port: int, extra: str = "timeout_s: 10.0\n", **more: Any) -> RemotePolicy:
        made.append(
            RemotePolicy(RemoteConfig.load(write_config(tmp_path, kind, port, extra)), embodiment, **more)
        )
        return made[-1]

    yield make
    for policy in made:
        policy.close()


# The projects' own servers ---------------------------------------------------------------------------------


def test_our_server_and_our_client(make: Make) -> None:
    with serving(Echo()) as server:
        policy = make("openpi", server.port)
        for i in range(20):
            chunk = policy.infer(observation((0.1 * i, 0.0, 0.5)))
            assert chunk.space is ActionSpace.TOOL_POSITION and chunk.actions.shape == (1, *SHAPE)
            np.testing.assert_allclose(chunk.chosen[0], [0.1 * i, 0.0, 0.5, 0.04])
        timing = policy.last_timing
        assert timing is not None and timing.server_ms is not None and timing.network_ms is not None
        assert 0 < timing.server_ms < timing.total_ms
        assert timing.network_ms == pytest.approx(timing.total_ms - timing.server_ms)


@pytest.mark.parametrize("token", ["", "0123456789abcdef"])
def test_gr00ts_server_on_real_zeromq(make: Make, token: str, tmp_path: Path, embodiment: Embodiment) -> None:
    """It checks the observation as gr00t_policy.py's check_observation does."""

    def get_action(observation: dict[str, Any], options: Any) -> Any:
        video, state = observation["video"]["front"], observation["state"]
        assert video.dtype == np.uint8 and video.shape == (1, 1, 32, 32, 3)
        assert state["arm"].dtype == state["hand"].dtype == np.float32
        assert state["arm"].shape == (1, 1, 7) and state["hand"].shape == (1, 1, 1)
        assert observation["language"] == {"annotation.human.task_description": [["lift it"]]}
        assert options is None
        arm = np.repeat(state["arm"], HORIZON, axis=1)
        return {"arm": arm, "hand": np.full((1, HORIZON, 1), 0.03, np.float32)}, {}

    extra = "timeout_s: 10.0\n"
    if token:
        (tmp_path / "token").write_text(token)
        (tmp_path / "token").chmod(0o600)
        extra += "token_file: token\n"
    with Gr00tServer(get_action, token or None) as server:
        policy = make("gr00t", server.port, extra)
        for _ in range(20):
            chunk = policy.infer(observation(robot=embodiment))
            assert chunk.space is ActionSpace.JOINT_POSITION
            np.testing.assert_allclose(
                chunk.chosen, np.tile([*embodiment.home, 0.03], (HORIZON, 1)), atol=1e-6
            )
        assert policy.last_timing is not None and policy.last_timing.network_ms is None
        assert [request["endpoint"] for request in server.requests] == ["get_action"] * 20


def test_gr00ts_server_says_why_not(make: Make) -> None:
    def get_action(**data: Any) -> Any:
        raise ValueError("out of memory")

    with Gr00tServer(get_action) as server, pytest.raises(PolicyError, match="out of memory"):
        make("gr00t", server.port).infer(observation())
    with Gr00tServer(get_action, "a token") as server, pytest.raises(PolicyError, match="Unauthorized"):
        make("gr00t", server.port).infer(observation())


@pytest.mark.parametrize("batch", [False, True], ids=["one action", "OpenVLA-OFT's list"])
def test_openvlas_server(make: Make, batch: bool, embodiment: Embodiment, kinematics: ArmKinematics) -> None:
    action = np.array([0.01, -0.02, 0.03, 0.1, 0.2, -0.1, 1.0])
    with OpenvlaServer(lambda payload: [action] if batch else action) as server:
        policy, seen = make("openvla", server.port), observation(robot=embodiment)
        for _ in range(3):
            chunk = policy.infer(seen)
        assert chunk.space is ActionSpace.TOOL_POSE and chunk.actions.shape == (1, 2, 8) and chunk.dt_s == 0.2
        start = kinematics.tool_pose(embodiment.home).rotation
        np.testing.assert_allclose(chunk.chosen[:, :3], [seen.tool_m, seen.tool_m + action[:3]])
        np.testing.assert_allclose(
            quat2mat(chunk.chosen[1, 3:7]), euler2mat(0.1, 0.2, -0.1) @ start, atol=1e-9
        )
        assert chunk.chosen[:, 7] == pytest.approx(0.08)
        request = server.requests[0]
        assert request["image"].shape == (32, 32, 3) and request["image"].dtype == np.uint8
        assert request["instruction"] == "lift it" and request["unnorm_key"] == "bridge_orig"
        assert server.connections == 1


def test_openvlas_server_says_that_it_failed(make: Make) -> None:
    def fail(payload: Any) -> Any:
        raise RuntimeError

    with OpenvlaServer(fail) as server, pytest.raises(PolicyError, match="answered 'error'"):
        make("openvla", server.port).infer(observation())


# Servers that mean harm ------------------------------------------------------------------------------------


def ignore(connection: socket.socket) -> None:
    """Close at once."""


def openpi_metadata(data: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: (openpi_handshake(connection, data), silence(connection))[1]


def http_head(*lines: str) -> bytes:
    return ("\r\n".join(("HTTP/1.1 200 OK", *lines)) + "\r\n\r\n").encode()


def http_json(text: bytes) -> Callable[[socket.socket], None]:
    return http_reply(http_head(f"Content-Length: {len(text)}") + text)


def endless_pings(connection: socket.socket) -> None:
    flood(connection, websocket_frame(b"", 9) * 100)


def endless_fragments(connection: socket.socket) -> None:
    connection.sendall(websocket_frame(b"", 2, fin=False))
    flood(connection, websocket_frame(b"", 0, fin=False) * 1000)


def gigabytes(connection: socket.socket) -> None:
    connection.sendall(websocket_frame(b"", claim=4 << 30))
    flood(connection, bytes(1 << 20))


ROWS = np.zeros(SHAPE)
PICKLE = b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins\x94\x8c\x05print\x94\x93\x94."
NESTED = b"\x91" * 100_000 + b"\xc0"
NUMPY = {b"__ndarray__": True, b"data": PICKLE, b"dtype": "|O", b"shape": (1,)}
EVIL = {
    # kind, what the server does, what the error says
    "closes at once": ("openpi", ignore, "closed|reset|Broken pipe"),
    "says nothing": ("openpi", silence, "no answer within"),
    "is noise": ("openpi", lambda c: (c.sendall(bytes(range(256)) * 64), silence(c)), "does not speak websocket"),
    "never ends its headers": ("openpi", lambda c: flood(c, b"HTTP/1.1 101 OK\r\n" + b"A: " + b"b" * 4096), "does not speak"),
    "is a web server": ("openpi", http_reply(http_head("Content-Length: 2") + b"OK"), "does not speak websocket"),
    "wants another password": ("openpi", http_reply(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"), "refused the token"),
    "sends no metadata": ("openpi", lambda c: (c.recv(4096), silence(c)), "no answer within"),
    "metadata of 4 GB": ("openpi", lambda c: (openpi_handshake(c, b""), gigabytes(c)), "ends too early"),
    "metadata that is pickle": ("openpi", openpi_metadata(PICKLE), "not msgpack|refused|follow|too early|introduced|more than"),
    "metadata that is a number": ("openpi", openpi_metadata(b"\x01"), "introduced itself"),
    "never answers": ("openpi", openpi_reply(b""), "no answer within"),
    "closes before it answers": ("openpi", lambda c: (openpi_handshake(c), read_websocket_message(c)), "closed"),
    "is cut in a frame": ("openpi", lambda c: (openpi_handshake(c), read_websocket_message(c), c.sendall(websocket_frame(good_actions())[:50])), "closed"),
    "is cut in a frame and stays": ("openpi", openpi_reply(websocket_frame(good_actions())[:50]), "no answer within"),
    "is cut in the message": ("openpi", openpi_reply(websocket_frame(good_actions()[:50])), "ends too early"),
    "a reply of 4 GB": ("openpi", openpi_reply(gigabytes), "broke the websocket protocol"),
    "a reply beyond 2⁶³": ("openpi", openpi_reply(websocket_frame(b"", claim=(1 << 64) - 1)), "broke the websocket protocol"),
    "pickle": ("openpi", openpi_reply(websocket_frame(PICKLE)), "refused|follow|too early"),
    "pickle in an array": ("openpi", openpi_reply(websocket_frame(msgpack_numpy.msgpack.packb({"actions": NUMPY}))), "refused"),
    "deep nesting": ("openpi", openpi_reply(websocket_frame(NESTED)), "nested deeper"),
    "a bomb of maps": ("openpi", openpi_reply(websocket_frame(b"\xdd\x00\x7f\xff\xff" + b"\x80" * 0x7FFFFF)), "broke|more than"),
    "an array of 2³²": ("openpi", openpi_reply(websocket_frame(b"\xdd\xff\xff\xff\xff")), "ends too early"),
    "an error": ("openpi", openpi_reply(websocket_frame(b"Traceback: out of memory", 1)), "out of memory"),
    "nothing": ("openpi", openpi_reply(websocket_frame(b"")), "ends too early"),
    "a list": ("openpi", openpi_reply(websocket_frame(b"\x90")), "not a mapping"),
    "another name": ("openpi", openpi_reply(websocket_frame(msgpack_numpy.packb({"action": ROWS}))), "it has: action"),
    "NaN": ("openpi", openpi_reply(websocket_frame(good_actions(actions=ROWS * np.nan))), "not finite"),
    "infinity": ("openpi", openpi_reply(websocket_frame(good_actions(actions=ROWS + np.inf))), "not finite"),
    "one row too few": ("openpi", openpi_reply(websocket_frame(good_actions(actions=ROWS[1:]))), "shape"),
    "one column too many": ("openpi", openpi_reply(websocket_frame(good_actions(actions=np.zeros((HORIZON, 5))))), "5 columns"),
    "text for actions": ("openpi", openpi_reply(websocket_frame(good_actions(actions="stop"))), "numbers"),
    "two answers": ("openpi", openpi_reply(websocket_frame(good_actions()) * 2), "more than one answer"),
    "a masked frame": ("openpi", openpi_reply(b"\x82\x84\x00\x00\x00\x00abcd"), "broke the websocket protocol"),
    "compressed without asking": ("openpi", openpi_reply(b"\xc2\x01a"), "broke the websocket protocol"),
    "pings for ever": ("openpi", openpi_reply(endless_pings), "1024 frames"),
    "pieces for ever": ("openpi", openpi_reply(endless_fragments), "1024 frames"),
    "gr00t: noise": ("gr00t", lambda c: (c.sendall(b"\x00" * 200), silence(c)), "does not speak ZeroMQ"),
    "gr00t: nothing": ("gr00t", silence, "no answer within"),
    "gr00t: half a greeting": ("gr00t", lambda c: (c.sendall(ZMTP_GREETING[:30]), silence(c)), "no answer within"),
    "gr00t: asks for a password": ("gr00t", lambda c: (c.sendall(ZMTP_GREETING.replace(b"NULL\0", b"PLAIN")), silence(c)), "PLAIN"),
    "gr00t: a publisher": ("gr00t", lambda c: (c.sendall(ZMTP_GREETING + ZMTP_READY.replace(b"REP", b"PUB")), silence(c)), "not one that replies"),
    "gr00t: a command of 4 GB": ("gr00t", lambda c: (c.sendall(ZMTP_GREETING + b"\x06\x00\x00\x00\x01\x00\x00\x00\x00"), silence(c)), "command of"),
    "gr00t: never answers": ("gr00t", gr00t_reply(b""), "no answer within"),
    "gr00t: a reply of 4 GB": ("gr00t", gr00t_reply(b"\x01\x00" + zmtp_frame(b"", claim=4 << 30)), "at most"),
    "gr00t: parts for ever": ("gr00t", gr00t_reply(b"\x01\x00" * 10_000), "more than two parts"),
    "gr00t: an unknown frame": ("gr00t", gr00t_reply(b"\x80\x00"), "unknown kind"),
    "gr00t: no empty part": ("gr00t", gr00t_reply(zmtp_frame(b"\x90")), "an empty part"),
    "gr00t: pickle": ("gr00t", gr00t_reply(b"\x01\x00" + zmtp_frame(PICKLE)), "refused|follow|too early"),
    "gr00t: deep nesting": ("gr00t", gr00t_reply(b"\x01\x00" + zmtp_frame(NESTED)), "nested deeper"),
    "gr00t: an object": ("gr00t", gr00t_reply(b"\x01\x00" + zmtp_frame(b"\x80")), "a list of actions"),
    "gr00t: the word ERROR": ("gr00t", gr00t_reply(b"\x01\x00" + zmtp_frame(b"ERROR")), "follow"),
    "openvla: closes": ("openvla", ignore, "broke HTTP|reset|Broken pipe"),
    "openvla: nothing": ("openvla", silence, "no answer within"),
    "openvla: noise": ("openvla", http_reply(bytes(range(256))), "broke HTTP"),
    "openvla: headers for ever": ("openvla", lambda c: (c.recv(4096), c.sendall(b"HTTP/1.1 200 OK\r\n"), flood(c, b"A: b\r\n" * 1000)), "broke HTTP"),
    "openvla: one line for ever": ("openvla", lambda c: (c.recv(4096), flood(c, b"A" * 65536)), "broke HTTP"),
    "openvla: continue for ever": ("openvla", lambda c: (c.recv(4096), flood(c, b"HTTP/1.1 100 Continue\r\n\r\n" * 100)), "no answer within"),
    "openvla: a reply of 4 GB": ("openvla", lambda c: (http_reply(http_head(f"Content-Length: {4 << 30}"), close=True)(c), flood(c, b"1" * 65536)), "at most"),
    "openvla: a negative length": ("openvla", http_reply(http_head("Content-Length: -1") + b"[1]"), "no answer within"),
    "openvla: cut": ("openvla", http_reply(http_head("Content-Length: 50") + b"[1, 2", close=True), "not JSON|broke HTTP"),
    "openvla: cut and stays": ("openvla", http_reply(http_head("Content-Length: 50") + b"[1, 2"), "no answer within"),
    "openvla: a chunk of 4 GB": ("openvla", lambda c: (http_reply(http_head("Transfer-Encoding: chunked") + b"FFFFFFFFF\r\n", close=True)(c), flood(c, b"1" * 65536)), "at most"),
    "openvla: an error page": ("openvla", http_reply(b"HTTP/1.1 500 No\r\nContent-Length: 3\r\n\r\nwhy"), "HTTP 500: why"),
    "openvla: a redirection": ("openvla", http_reply(b"HTTP/1.1 302 Go\r\nLocation: http://evil/\r\nContent-Length: 0\r\n\r\n"), "HTTP 302"),
    "openvla: NaN": ("openvla", http_json(b"[NaN,0,0,0,0,0,0]"), "NaN"),
    "openvla: infinity in disguise": ("openvla", http_json(b"[1e999,0,0,0,0,0,0]"), "not finite"),
    "openvla: six numbers": ("openvla", http_json(b"[0,0,0,0,0,0]"), "6 columns"),
    "openvla: null": ("openvla", http_json(b"null"), "numbers"),
    "openvla: deep nesting": ("openvla", http_json(b"[" * 500_000), "not JSON"),
    "openvla: deep but right": ("openvla", http_json(b"[" * 500 + b"]" * 500), "array|numbers|shape"),
    "openvla: pickle in an array": ("openvla", http_json(b'{"__numpy__": "gASVHQ==", "dtype": "|O", "shape": [1]}'), "refused"),
}  # fmt: skip


@pytest.mark.parametrize("name", EVIL)
def test_no_server_does_worse_than_a_policy_error(make: Make, name: str) -> None:
    kind, script, reason = EVIL[name]
    with EvilServer(script) as server:
        # Long where the server answers and the answer is at fault, so that nothing is a time-out by accident.
        policy = make(kind, server.port, f"timeout_s: {0.5 if 'no answer' in reason else 30.0}\n")
        tracemalloc.start()
        try:
            with pytest.raises(PolicyError, match=reason) as caught:
                policy.infer(observation())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < MEMORY
        assert str(caught.value).startswith(f"{kind} server {policy.config.address}: ")
        assert policy._stream is None, "a connection is not kept after an error"
        with pytest.raises(PolicyError):  # the second attempt, on a new connection
            policy.infer(observation())
        assert server.accepted == 2


def test_a_good_server_is_used_again_after_a_bad_one(make: Make) -> None:
    answers = iter([NESTED, good_actions(actions=ROWS + 0.5)])

    def script(connection: socket.socket) -> None:
        openpi_handshake(connection)
        read_websocket_message(connection)
        connection.sendall(websocket_frame(next(answers)))
        silence(connection)

    with EvilServer(script) as server:
        policy = make("openpi", server.port)
        with pytest.raises(PolicyError, match="nested deeper"):
            policy.infer(observation())
        np.testing.assert_allclose(policy.infer(observation()).chosen, 0.5)


def test_a_message_in_pieces_with_pings_between_is_one_message(make: Make) -> None:
    data = good_actions(actions=ROWS + 0.25)
    pieces = (
        websocket_frame(data[:10], 2, fin=False) + websocket_frame(b"hi", 9) + websocket_frame(data[10:], 0)
    )
    with EvilServer(openpi_reply(pieces)) as server:
        np.testing.assert_allclose(make("openpi", server.port).infer(observation()).chosen, 0.25)


def test_what_comes_in_a_pause_is_not_the_next_answer(make: Make) -> None:
    """Pings are answered; an answer that nobody asked for ends the connection, and a new one is asked."""
    said = threading.Semaphore(0)
    pongs: list[int] = []

    def script(connection: socket.socket) -> None:
        openpi_handshake(connection)
        first = server.accepted == 1
        for turn in range(9):
            header = connection.recv(2, socket.MSG_PEEK)
            if header and header[0] & 0x0F == 10:
                pongs.append(turn)
                connection.recv(6)
            read_websocket_message(connection)
            connection.sendall(websocket_frame(good_actions(actions=ROWS + turn + 10 * server.accepted)))
            time.sleep(0.05)  # after the answer was read
            connection.sendall(websocket_frame(b"", 9) if turn == 0 else websocket_frame(good_actions()))
            said.release()
            if not first:
                silence(connection)

    with EvilServer(script) as server:
        policy = make("openpi", server.port)
        for expected in (10, 11, 20):
            assert policy.infer(observation()).chosen[0, 0] == expected
            assert said.acquire(timeout=30)
        assert pongs == [1]


@pytest.mark.parametrize(
    "flooded", [websocket_frame(b"", 9), websocket_frame(good_actions())], ids=["pings", "answers"]
)
def test_a_flood_in_a_pause_ends_its_connection(make: Make, flooded: bytes) -> None:
    def script(connection: socket.socket) -> None:
        openpi_handshake(connection)
        read_websocket_message(connection)
        connection.sendall(websocket_frame(good_actions(actions=ROWS + server.accepted)))
        if server.accepted == 1:
            time.sleep(0.2)  # until the answer was read
            flooding.set()
            flood(connection, flooded * 100)
        silence(connection)

    flooding = threading.Event()
    with EvilServer(script) as server:
        policy = make("openpi", server.port)
        assert policy.infer(observation()).chosen[0, 0] == 1
        assert flooding.wait(30)
        time.sleep(0.1)
        assert policy.infer(observation()).chosen[0, 0] == 2


# By the deadline, on a simulated clock ---------------------------------------------------------------------


class World:
    """A clock that only waiting moves, and a connection whose far end is a generator of (seconds to wait, bytes)."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.calls = 0
        self.window = 1 << 30  # bytes that the far end takes
        self.peer: Callable[[World], Iterator[tuple[float, bytes]]] = lambda world: iter(())
        self.sent = b""

    def clock(self) -> float:
        return self.now_s

    def connect(self, host: str, port: int, tls: ssl.SSLContext | None, deadline: Deadline) -> Stream:
        self.sent = b""
        return Stream(SimulatedSocket(self), deadline)  # type: ignore[arg-type]


class SimulatedSocket:
    """A blocking socket with a time-out, as Python's is."""

    def __init__(self, world: World) -> None:
        self._world, self._peer = world, world.peer(world)
        self._timeout_s: float = math.inf
        self._due: tuple[float, bytes] | None = None
        self._waited_s = 0.0

    def settimeout(self, seconds: float) -> None:
        assert seconds >= 0
        self._timeout_s = seconds

    def recv(self, count: int) -> bytes:
        world = self._world
        world.calls += 1
        if self._due is None:
            self._due, self._waited_s = next(self._peer, (math.inf, b"")), 0.0
        wait_s = self._due[0] - self._waited_s
        if self._timeout_s == 0:
            raise BlockingIOError
        if wait_s > self._timeout_s:
            world.now_s += self._timeout_s
            self._waited_s += self._timeout_s
            raise TimeoutError("timed out")
        world.now_s += wait_s
        data, rest = self._due[1][:count], self._due[1][count:]
        self._due = (self._waited_s + wait_s, rest) if rest else None
        self._waited_s += wait_s
        return data

    def send(self, data: bytes) -> int:
        world = self._world
        world.calls += 1
        if len(world.sent) >= world.window:
            world.now_s += self._timeout_s
            raise TimeoutError("timed out")
        count = min(len(data), world.window - len(world.sent))
        world.sent += bytes(data[:count])
        return count

    def close(self) -> None:
        pass


def dripping(
    data: Callable[[World], bytes], seconds: float
) -> Callable[[World], Iterator[tuple[float, bytes]]]:
    """A far end that sends a byte now and then."""

    def peer(world: World) -> Iterator[tuple[float, bytes]]:
        for byte in data(world):
            yield seconds, bytes([byte])

    return peer


def openpi_greeting(world: World) -> bytes:
    return websocket_upgrade(world.sent.split(b"\r\n\r\n")[0]) + websocket_frame(b"\x80")


def greets_then(
    peer: Callable[[World], Iterator[tuple[float, bytes]]],
) -> Callable[[World], Iterator[tuple[float, bytes]]]:
    def whole(world: World) -> Iterator[tuple[float, bytes]]:
        yield 0.01, openpi_greeting(world)
        yield from peer(world)

    return whole


def endless(data: bytes, seconds: float) -> Callable[[World], Iterator[tuple[float, bytes]]]:
    def peer(world: World) -> Iterator[tuple[float, bytes]]:
        while True:
            yield seconds, data

    return peer


SLOW = {
    "silence": ("openpi", endless(b"", math.inf)),
    "a handshake in drips": ("openpi", dripping(openpi_greeting, 0.03)),
    "silence after the handshake": ("openpi", greets_then(endless(b"", math.inf))),
    "an answer in drips": ("openpi", greets_then(dripping(lambda world: websocket_frame(good_actions()), 0.03))),
    "an answer just too late": ("openpi", greets_then(lambda world: iter([(1.0, websocket_frame(good_actions()))]))),
    "pings for ever": ("openpi", greets_then(endless(websocket_frame(b"", 9), 0.01))),
    "gr00t: silence": ("gr00t", endless(b"", math.inf)),
    "gr00t: drips": ("gr00t", dripping(lambda world: ZMTP_GREETING + ZMTP_READY, 0.03)),
    "gr00t: pings for ever": ("gr00t", lambda world: iter([(0.0, ZMTP_GREETING + ZMTP_READY), *[(0.001, b"\x04\x07\x04PING\0\0")] * 9999])),
    "gr00t: an answer in drips": ("gr00t", lambda world: iter([(0.0, ZMTP_GREETING + ZMTP_READY), (0.0, b"\x01\x00" + zmtp_frame(b"", claim=999)), *[(0.03, b"\x90")] * 999])),
    "openvla: silence": ("openvla", endless(b"", math.inf)),
    "openvla: headers in drips": ("openvla", endless(b"H", 0.03)),
    "openvla: continue for ever": ("openvla", endless(b"HTTP/1.1 100 Continue\r\n\r\n", 0.001)),
    "openvla: a body in drips": ("openvla", lambda world: iter([(0.0, http_head("Content-Length: 999")), *[(0.03, b" ")] * 999])),
    "openvla: chunks in drips": ("openvla", lambda world: iter([(0.0, http_head("Transfer-Encoding: chunked")), *[(0.03, b"1\r\n \r\n")] * 999])),
}  # fmt: skip


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize("timeout_s", [0.1, 0.5])
def test_an_inference_ends_at_its_deadline(
    make: Make, monkeypatch: pytest.MonkeyPatch, name: str, timeout_s: float
) -> None:
    world = World()
    kind, world.peer = SLOW[name]
    monkeypatch.setattr(Stream, "connect", world.connect)
    policy = make(kind, 1, f"timeout_s: {timeout_s}\n", clock=world.clock)
    began_s = world.now_s
    with pytest.raises(PolicyError, match=f"no answer within {timeout_s:g} s"):
        policy.infer(observation())
    assert world.now_s - began_s <= timeout_s + 1e-9
    assert world.now_s - began_s > timeout_s - 0.05, "it gave up early"
    assert world.calls < 5000, "it is busy while it waits"


@pytest.mark.parametrize("kind", ["openpi", "gr00t", "openvla"])
def test_a_server_that_takes_nothing_is_left_at_the_deadline(
    make: Make, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A half-open connection: what is sent fills the buffers, and no more goes."""
    world = World()
    world.window = 700 if kind == "openpi" else 300
    greeting = {"gr00t": ZMTP_GREETING + ZMTP_READY, "openvla": b""}
    world.peer = (
        greets_then(endless(b"", math.inf)) if kind == "openpi" else lambda w: iter([(0.0, greeting[kind])])
    )
    monkeypatch.setattr(Stream, "connect", world.connect)
    policy = make(kind, 1, "timeout_s: 0.5\n", clock=world.clock)
    seen = observation()
    seen = type(seen)(**{**vars(seen), "instruction": "lift it " * 200})
    began_s = world.now_s
    with pytest.raises(PolicyError, match=r"no answer within 0\.5 s"):
        policy.infer(seen)
    assert len(world.sent) == world.window
    assert 0 < world.now_s - began_s <= 0.5 + 1e-9


def test_the_first_answer_may_take_longer(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.peer = greets_then(
        lambda world: iter([(20.0, websocket_frame(good_actions())), (0.6, websocket_frame(good_actions()))])
    )
    monkeypatch.setattr(Stream, "connect", world.connect)
    policy = make("openpi", 1, "timeout_s: 0.5\nstart_timeout_s: 30.0\n", clock=world.clock)
    assert policy.infer(observation()).chosen.shape == SHAPE
    assert policy.last_timing is not None and policy.last_timing.total_ms == pytest.approx(20_010)
    with pytest.raises(PolicyError, match=r"no answer within 0\.5 s"):
        policy.infer(observation())


def test_a_late_answer_is_not_used_although_it_is_right(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock passes the deadline between the last byte and the check of the reply."""
    world = World()

    def peer(world: World) -> Iterator[tuple[float, bytes]]:
        yield 0.0, websocket_frame(good_actions())

    world.peer = greets_then(peer)
    monkeypatch.setattr(Stream, "connect", world.connect)
    policy = make("openpi", 1, "timeout_s: 0.5\n", clock=world.clock)
    original = type(policy.config.actions).chunk

    def slow(*arguments: Any) -> Proposal:
        world.now_s += 0.6
        return original(*arguments)

    monkeypatch.setattr(type(policy.config.actions), "chunk", slow)
    with pytest.raises(PolicyError, match=r"no answer within 0\.5 s"):
        policy.infer(observation())


def test_attempts_are_made_with_growing_pauses(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world, attempts = World(), []

    def refuse(*arguments: Any) -> Stream:
        attempts.append(world.now_s)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(Stream, "connect", refuse)
    policy = make("openpi", 1, clock=world.clock)
    for _ in range(4000):
        with pytest.raises(PolicyError, match="Connection refused"):
            policy.infer(observation())
        world.now_s += 0.01
    pauses = np.diff(attempts)
    assert pauses[0] == pytest.approx(0.01)  # one failure may be a server that was started again
    assert np.allclose(pauses[1:7], [0.1, 0.2, 0.4, 0.8, 1.6, 3.2], atol=0.02)
    assert np.allclose(pauses[7:], BACK_OFF_S[1], atol=0.02) and len(pauses) > 10
    with pytest.raises(PolicyError, match=r"Connection refused; the next attempt is in \d\.\d s"):
        policy.infer(observation())


def test_a_name_look_up_that_hangs_ends_at_the_deadline_and_is_not_repeated(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, looks = threading.Event(), []

    def getaddrinfo(*arguments: Any, **more: Any) -> Any:
        looks.append(arguments)
        hangs.wait(60)
        return original(*arguments, **more)

    original = socket.getaddrinfo
    with serving(Echo()) as server:
        policy = make("openpi", server.port, "timeout_s: 0.2\n")
        monkeypatch.setattr(stream.socket, "getaddrinfo", getaddrinfo)
        for _ in range(3):
            policy._retry_at_s = 0.0
            with pytest.raises(PolicyError, match=r"no answer within|could not be looked up in time"):
                policy.infer(observation())
        assert len(looks) == 1
        hangs.set()
        patient = make("openpi", server.port)
        assert patient.infer(observation()).chosen.shape == SHAPE


def test_a_name_without_an_address_says_so(make: Make, tmp_path: Path, embodiment: Embodiment) -> None:
    path = write_config(tmp_path, "openpi", 1)
    path.write_text(path.read_text().replace("localhost", "no-such-host.invalid"))
    with pytest.raises(PolicyError, match=r"no-such-host\.invalid' has no address"):
        RemotePolicy(RemoteConfig.load(path), embodiment).infer(observation())


def test_a_deadline_has_something_left_or_is_over() -> None:
    now = [0.0]
    deadline = Deadline.after(1.0, lambda: now[0])
    assert deadline.left_s() == 1.0
    now[0] = 1.0
    with pytest.raises(DeadlineError):
        deadline.left_s()
    now[0] = math.nan
    with pytest.raises(DeadlineError):
        deadline.left_s()


# A bad link ------------------------------------------------------------------------------------------------


def answers(policy: RemotePolicy, count: int) -> tuple[int, list[str]]:
    """How many of `count` questions were answered, each with its own answer; and why the others were not."""
    good, reasons = 0, []
    for i in range(count):
        place = (0.001 * i, 0.2, 0.3)
        policy._retry_at_s = 0.0  # back-off has a test of its own
        try:
            chunk = policy.infer(observation(place))
        except PolicyError as error:
            reasons.append(str(error))
            continue
        np.testing.assert_allclose(chunk.chosen[0, :3], place)
        good += 1
    return good, reasons


def test_a_slow_link_costs_time_and_the_time_is_known(make: Make) -> None:
    with serving(Echo()) as server, Proxy(server.port) as link:
        link.delay_s = 0.02
        policy = make("openpi", link.port)
        assert answers(policy, 20) == (20, [])
        timing = policy.last_timing
        assert timing is not None and timing.network_ms is not None and timing.network_ms >= 40.0


def test_on_a_link_that_stalls_no_answer_is_taken_for_another(make: Make) -> None:
    with serving(Echo()) as server, Proxy(server.port) as link:
        policy = make("openpi", link.port, "timeout_s: 0.5\n")
        answers(policy, 1)
        link.stall_share, link.stall_s = 0.05, 0.8
        good, reasons = answers(policy, 100)
        assert reasons and all("no answer within 0.5 s" in reason for reason in reasons)
        assert good > 20


def test_a_half_open_link_ends_at_the_deadline_and_heals(make: Make) -> None:
    with serving(Echo()) as server, Proxy(server.port) as link:
        policy = make("openpi", link.port)
        assert answers(policy, 5) == (5, [])
        policy = make("openpi", link.port, "timeout_s: 0.3\n")
        answers(policy, 1)
        link.dead = True
        good, reasons = answers(policy, 3)
        assert good == 0 and all("no answer within 0.3 s" in reason for reason in reasons)
        link.dead = False
        assert answers(make("openpi", link.port), 5) == (5, [])


@pytest.mark.parametrize("kind", ["openpi", "gr00t", "openvla"])
def test_a_link_that_breaks_anywhere_is_an_error_and_never_half_an_answer(
    make: Make, kind: str, embodiment: Embodiment
) -> None:
    def get_action(observation: dict[str, Any], options: Any) -> Any:
        return {
            "arm": np.zeros((1, HORIZON, 7), np.float32),
            "hand": np.zeros((1, HORIZON, 1), np.float32),
        }, {}

    peers = {
        "openpi": lambda: serving(Echo()),
        "gr00t": lambda: Gr00tServer(get_action),
        "openvla": lambda: OpenvlaServer(lambda payload: np.zeros(7)),
    }
    with peers[kind]() as server, Proxy(server.port) as link:
        policy = make(kind, link.port)
        for cut_after in range(1, 400, 37):
            link.cut_after = cut_after
            policy._retry_at_s = 0.0
            try:
                chunk = policy.infer(observation(robot=embodiment))
            except PolicyError:
                continue
            assert chunk.actions.shape[1] == policy.horizon  # all of it came before the cut
            policy.close()
        link.cut_after = None
        policy._retry_at_s = 0.0
        assert policy.infer(observation(robot=embodiment)).dt_s in (DT_S, 0.2)


def test_a_server_that_was_started_again_is_found_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Echo()) as first:
        policy = make("openpi", first.port)
        assert answers(policy, 2) == (2, [])
    with pytest.raises(PolicyError):
        policy.infer(observation())
    monkeypatch.setattr(
        "remote_peers.ServerSettings", lambda port: type(first.settings)(port=first.port)
    )  # the same port again
    with serving(Echo()) as second:
        assert second.port == first.port
        assert answers(policy, 2) == (2, [])
