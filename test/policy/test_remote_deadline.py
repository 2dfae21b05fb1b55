"""An inference of a remote policy ends by its deadline: on a simulated clock, where a busy machine changes nothing."""

from __future__ import annotations

import math
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evil_servers import http_head
from remote_peers import (
    SHAPE,
    ZMTP_GREETING,
    ZMTP_READY,
    Echo,
    Make,
    good_actions,
    observation,
    serving,
    websocket_frame,
    websocket_upgrade,
    write_config,
    zmtp_frame,
)  # fmt: skip

from physai_base.embodiment import Embodiment
from physai_base.errors import PolicyError
from physai_policy.policy import Proposal
from physai_policy.remote import stream
from physai_policy.remote.client import BACK_OFF_S, RemotePolicy
from physai_policy.remote.config import RemoteConfig
from physai_policy.remote.stream import Deadline, DeadlineError, Stream


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
