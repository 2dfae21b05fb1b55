"""Who else is in this supervisor's place: another supervisor, or second nodes of the same names."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
import struct
import time

from physai_ros.conditions import Conditions
from physai_ros.transitions import BringUpError

STRANGER_S = 2.0  # without a heartbeat of another process it counts as gone


class Rivals:
    """Of the supervisor in one namespace of one ROS domain."""

    def __init__(self, domain: int, namespace: str, conditions: Conditions) -> None:
        self._domain, self._namespace, self._conditions = domain, namespace, conditions
        # Which of two supervisors came first, and who it is.
        self._identity = (time.time_ns(), str(os.getpid()), socket.gethostname())
        self._elder = ""
        self._strangers: dict[str, float] = {}

    @property
    def identity(self) -> dict[str, str]:
        """What a supervisor says of itself on `diagnostics`."""
        return dict(zip(("started_ns", "pid", "host"), map(str, self._identity), strict=True))

    def give_way(self) -> None:
        """Two stacks with the same names would configure and stop each other's nodes.

        Raises:
            BringUpError: another one was here first.
        """
        if self._elder:
            raise BringUpError(
                f"another stack runs here already: its supervisor is {self._elder}, in ROS domain "
                f"{self._domain} and namespace {self._namespace}. Give this one a namespace or a "
                "ROS_DOMAIN_ID of its own, or end that one first"
            )

    def take_place(self) -> None:
        """Be the only supervisor of this place on this machine, however late one hears of another.

        Raises:
            BringUpError: another one is.
        """
        place = hashlib.sha256(self._namespace.encode()).hexdigest()[:32]
        address = f"\0physai-supervisor.{self._domain}.{place}"
        self._place = socket.socket(
            socket.AF_UNIX, socket.SOCK_STREAM
        )  # it is free again when this process ends
        try:
            self._place.bind(address)
            self._place.listen()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return
            with contextlib.suppress(OSError):
                self._place.connect(address)
            size = struct.calcsize("3i")
            pid, _, _ = struct.unpack(
                "3i", self._place.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
            )
            self._elder = f"process {pid} on {socket.gethostname()}"
            self.give_way()

    def hear(self, values: dict[str, str]) -> None:
        """Itself, or another one in the same place."""
        try:
            other = (int(values["started_ns"]), values["pid"], values["host"])
        except (KeyError, ValueError):
            return
        if other == self._identity or values.get("state") in ("stopping", "failed"):
            return
        who = f"process {other[1]} on {other[2]}"
        if other < self._identity:
            self._elder = who
        self.stranger("supervisor", who)

    def stranger(self, name: str, who: str) -> None:
        """There are two nodes of one name; `who` is not heeded."""
        condition = f"second_node.{name}"
        if who:
            self._strangers[condition] = time.monotonic()
            text = (
                f"there is a second {name} in this domain and namespace, {who}, which is not heeded: end it"
            )
            self._conditions.set(condition, text)

    def forget(self) -> None:
        """Those of whom nothing is heard any more."""
        for condition, heard_s in list(self._strangers.items()):
            if time.monotonic() - heard_s > STRANGER_S:
                self._conditions.end(condition)
                self._strangers.pop(condition, None)

    def close(self) -> None:
        """The place is free."""
        self._place.close()
