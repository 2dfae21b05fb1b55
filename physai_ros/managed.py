"""What the supervisor knows of one node, and how it says it."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass, field
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus

from physai.msg import SupervisorStatus
from physai_ros.budget import RestartBudget

STEADY = ("unconfigured", "inactive", "active", "finalized")  # the other states are on the way
BY_HAND_S = 1.0  # out of `active` for so long: heartbeats and answers of services may overtake each other


@dataclass
class Managed:
    """One node: what its heartbeat says, and what became of it."""

    name: str
    client: Any
    budget: RestartBudget  # of lost processes and failed set-ups; one that hangs and comes back costs nothing
    seen_s: float = 0.0  # of the last heartbeat; 0: never
    pid: str = ""
    here: bool = False  # its process is one of this machine and can be looked up
    state: str = ""
    error: str = ""
    running_pid: str = ""  # of the process that was brought up
    restarts: int = 0  # since the start of the bring-up
    hangs: int = 0
    lost: str = ""  # why, empty while it is well
    hung: bool = False  # lost, but its process lives
    given_up: bool = False  # until the budget is free again, or a person asks
    idled: bool = False  # deactivated by the supervisor
    by_hand: str = ""  # the state to which somebody else took it
    cleaned: bool = False  # by hand, to unconfigured: what was attached to it has lost it
    _away_since_s: float = field(default=0.0, repr=False)

    def heard(self, values: dict[str, str], level: bytes, message: str) -> str:
        """A heartbeat came. Where another process sends it while the one that was brought up lives, nothing is taken from
        it: somebody started a second stack here. The answer is that process, else empty.
        """
        pid, host = values.get("pid", ""), values.get("host", "")
        if self._lives and (pid, host) != (self.running_pid, socket.gethostname()):
            return f"process {pid} on {host}"
        self.state = values.get("state", "")
        if pid != self.pid:
            # Only once it has been seen there: containers may share a host name but no process ids.
            self.here = host == socket.gethostname() and os.path.exists(f"/proc/{pid}")
            self.pid = pid
        self.error = message if level == DiagnosticStatus.ERROR else ""
        self.seen_s = time.monotonic()  # last: another thread goes on when it sees this
        return ""

    @property
    def _lives(self) -> bool:
        """Whether the process that was brought up can be seen to live."""
        return (
            bool(self.running_pid) and self.running_pid == self.pid and self.here and not self.process_ended
        )

    @property
    def process_ended(self) -> bool:
        """Its process was here and is gone, or is dead and not yet collected."""
        return self.here and not os.path.exists(f"/proc/{self.pid}")

    def loss(self, heartbeat_timeout_s: float) -> str:
        """Why it counts as lost, empty if it does not; `hung` tells which."""
        silent_s = time.monotonic() - self.seen_s
        died = self.process_ended or bool(self.running_pid and self.pid != self.running_pid)
        if died:
            self.hung = False
            gone = self.pid if self.process_ended and self.pid != self.running_pid else self.running_pid
            return f"process {gone or self.pid} ended"
        if silent_s > heartbeat_timeout_s:
            self.hung = True
            return f"no heartbeat for {silent_s:.1f} s (limit {heartbeat_timeout_s:g} s)"
        return ""

    def look_for_hands(self) -> bool:
        """Whether somebody else's transition has just been noticed; not for one that is idled or lost."""
        now = time.monotonic()
        if self.state == "active" or self.idled or self.lost:
            self._away_since_s = 0.0
            return False
        if self.state not in STEADY:
            return False
        self._away_since_s = self._away_since_s or now
        self.cleaned = self.cleaned or self.state == "unconfigured"
        fresh = not self.by_hand and now - self._away_since_s > BY_HAND_S
        if fresh or self.by_hand:
            self.by_hand = self.state
        return fresh

    @property
    def code(self) -> int:
        """As SupervisorStatus has it."""
        status = SupervisorStatus
        if self.lost:
            return int(
                status.NODE_GIVEN_UP if self.given_up else status.NODE_HUNG if self.hung else status.NODE_LOST
            )
        if self.by_hand:
            return int(status.NODE_BY_HAND)
        if self.idled:
            return int(status.NODE_IDLED)
        return int(status.NODE_ACTIVE if self.state == "active" else status.NODE_PENDING)

    def says(self, retry: str, starts_again: bool = True) -> str:
        """What is wrong with it and what to do, for a person; empty while it is well.

        `retry` is that service's name; `starts_again`: it ends and starts processes.
        """
        again = f"ros2 service call {retry} std_srvs/srv/Trigger"
        if self.given_up:
            free_s = self.budget.free_in_s
            later = "there is no other try"
            if free_s < float("inf"):
                later = (
                    f"the next try is at {time.strftime('%H:%M:%S', time.localtime(time.time() + free_s))}"
                )
            if self.process_ended and not starts_again:
                again += ", once its process is started again"
            return (
                f"{self.name} is lost: {self.lost}; given up after {self.budget.used} restarts within "
                f"{self.budget.window_s:g} s: {later}, or now with: {again}"
            )
        if self.lost and self.hung and not self.process_ended:
            cure = f"have it killed and started again with: {again}"
            if not starts_again:
                cure = f"end it (kill -9 {self.pid}); another one is set up when it is there"
            return (
                f"{self.name} hangs: its process {self.pid} lives and gives no heartbeat; if it does not come back, "
                f"{cure}"
            )
        if self.lost:
            return f"{self.name} is lost: {self.lost}; it is set up again when its process is back"
        if self.by_hand:
            return (
                f"{self.name} is {self.by_hand}: somebody took it there by hand; take it to active the same way, or "
                f"have everything taken there with: {again}"
            )
        return ""
