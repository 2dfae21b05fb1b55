"""One TCP or TLS connection on which everything, from the name look-up on, ends at one deadline.

Time-outs of sockets are for one call each, so that a peer that sends a byte now and then holds a reader for ever.
Here each call may take what is left until the deadline.
"""

from __future__ import annotations

import io
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

CHUNK = 1 << 16

Clock = Callable[[], float]


class DeadlineError(TimeoutError):
    """The deadline has passed."""


@dataclass(frozen=True)
class Deadline:
    """A moment by which something must be done."""

    at_s: float
    clock: Clock = time.monotonic

    @staticmethod
    def after(seconds: float, clock: Clock = time.monotonic) -> Deadline:
        """So many seconds from now."""
        return Deadline(clock() + seconds, clock)

    def left_s(self) -> float:
        """Seconds that are left, above zero.

        Raises:
            DeadlineError: none are.
        """
        left = self.at_s - self.clock()
        if not left > 0:
            raise DeadlineError("the deadline has passed")
        return left


class Stream:
    """A connection; `deadline` is that of whatever is going on, and its user moves it."""

    def __init__(self, connected: socket.socket, deadline: Deadline) -> None:
        self._socket = connected
        self.deadline = deadline

    @staticmethod
    def connect(host: str, port: int, tls: ssl.SSLContext | None, deadline: Deadline) -> Stream:
        """Connect to the first address of `host` that answers.

        Raises:
            OSError: none does, the certificate is not accepted, or the deadline has passed.
        """
        failure: OSError = OSError(f"{host} has no address")
        addresses = _look_up(host, port, deadline)
        for i, (family, kind, protocol, _, address) in enumerate(addresses):
            connected = socket.socket(family, kind, protocol)
            try:
                # An address that never answers must leave time for the next.
                connected.settimeout(deadline.left_s() / (len(addresses) - i))
                connected.connect(address)
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if tls is not None:
                    connected.settimeout(deadline.left_s())
                    connected = tls.wrap_socket(connected, server_hostname=host)
                return Stream(connected, deadline)
            except OSError as error:
                connected.close()
                failure = error
        raise failure

    def sendall(self, data: bytes) -> None:
        """Send all of `data`."""
        rest = memoryview(data)
        while rest:
            self._socket.settimeout(self.deadline.left_s())
            rest = rest[self._socket.send(rest[:CHUNK]) :]

    def receive(self, limit: int = CHUNK) -> bytes:
        """What has come, at most `limit` bytes; waits for at least one.

        Raises:
            ConnectionError: the peer closed the connection.
        """
        self._socket.settimeout(self.deadline.left_s())
        data = self._socket.recv(min(limit, CHUNK))
        if not data:
            raise ConnectionError("the server closed the connection")
        return data

    def receive_exactly(self, count: int) -> bytes:
        """`count` bytes; memory grows with what comes, not with what was promised."""
        data = bytearray()
        while len(data) < count:
            data += self.receive(count - len(data))
        return bytes(data)

    def receive_now(self, limit: int = 1) -> bytes | None:
        """At most `limit` bytes of what waits to be read: None for nothing, and nothing (b"") for the end of the connection."""
        self._socket.settimeout(0)
        try:
            return self._socket.recv(limit)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except OSError:
            return b""

    def makefile(self, mode: str = "rb") -> io.BufferedReader:
        """A file to read from, as http.client wants one."""
        return io.BufferedReader(_Reader(self), CHUNK)

    def close(self) -> None:
        """Close at once, without waiting for anybody."""
        self._socket.close()


class _Reader(io.RawIOBase):
    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            data = self._stream.receive(len(buffer))
        except ConnectionError:
            return 0  # the end, which http.client knows how to judge
        buffer[: len(data)] = data
        return len(data)


class _LookUp:
    """One name look-up in a thread: getaddrinfo waits as long as the machine's resolver likes."""

    def __init__(self, host: str, port: int) -> None:
        self.result: list | OSError = OSError(f"the name {host!r} could not be looked up in time")
        self.done = threading.Event()
        threading.Thread(target=self._run, args=(host, port), name="look up", daemon=True).start()

    def _run(self, host: str, port: int) -> None:
        try:
            self.result = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            self.result = OSError(f"the name {host!r} has no address: {error.strerror or error}")
        except UnicodeError:
            self.result = OSError(f"{host!r} is not a host name")
        self.done.set()


_under_way: dict[tuple[str, int], _LookUp] = {}


def _look_up(host: str, port: int, deadline: Deadline) -> list:
    """Addresses of `host`; a look-up that outlives its deadline is waited for by the next one, not repeated."""
    look_up = _under_way.get((host, port)) or _under_way.setdefault((host, port), _LookUp(host, port))
    if look_up.done.wait(deadline.left_s()):
        _under_way.pop((host, port), None)
    if isinstance(look_up.result, OSError):
        raise look_up.result
    return look_up.result
