"""Tells whoever started this process how it stands, as sd_notify(3) does: datagrams to the socket in NOTIFY_SOCKET.

The supervisor says `READY=1` when every node is active, `STATUS=…` for a person, and RETRY when a person asks for another
try; `physai up` listens, and a service manager (systemd, `Type=notify`) may; `ros2 launch` does not. No ROS is imported
here.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket

VARIABLE = "NOTIFY_SOCKET"
STARTER = "PHYSAI_STARTER_PID"  # `physai up` sets it for all of its processes
READY, RETRY = "READY=1", "X_PHYSAI_RETRY=1"  # the second is ours: start again what was given up
_LARGEST = 4096


def notify(*assignments: str) -> None:
    """Send `NAME=value` lines; nothing happens where nobody listens."""
    address = os.environ.get(VARIABLE, "")
    if not address:
        return
    if address.startswith("@"):  # a name in the abstract namespace
        address = f"\0{address[1:]}"
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto("\n".join(assignments).encode()[:_LARGEST], address)


def starts_again() -> bool:
    """Whether RETRY has processes started again: `physai up` started this one. Nobody else knows it."""
    return bool(os.environ.get(VARIABLE) and os.environ.get(STARTER))


class Listener:
    """The other end, for one process that is started with `environment`."""

    def __init__(self) -> None:
        self._name = f"physai-{os.getpid()}-{secrets.token_hex(8)}"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind(f"\0{self._name}")

    @property
    def environment(self) -> dict[str, str]:
        """What the process needs to find it."""
        return {VARIABLE: f"@{self._name}"}

    def take(self) -> list[str]:
        """The lines that came since the last time; it does not wait."""
        lines: list[str] = []
        with contextlib.suppress(OSError):
            while True:
                lines += self.socket.recv(_LARGEST).decode(errors="replace").splitlines()
        return lines

    def close(self) -> None:
        """Listen no more."""
        self.socket.close()
