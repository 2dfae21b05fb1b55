"""Takes lifecycle nodes from state to state by their services, and says what is waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter

from physai_base.errors import PhysaiError
from physai_ros.conditions import Conditions
from physai_ros.managed import Managed
from physai_ros.supervisor_parameters import SupervisorParameters

LATCH_TIMEOUT_S, LATCH_ATTEMPTS = 3.0, 4
_TRANSITIONS = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "cleanup": Transition.TRANSITION_CLEANUP,
}


class BringUpError(PhysaiError):
    """A node could not be configured or activated; the message names it and says why.

    `refused`: it refused its configuration, and would again.
    """

    def __init__(self, reason: str, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused


class Transitions:
    """One at a time, from the thread that supervises."""

    def __init__(
        self,
        node: Node,
        conditions: Conditions,
        settings: Callable[[], SupervisorParameters],
        stopping: threading.Event,
    ) -> None:
        """`stopping`: from then on nothing is asked for but what is asked for with `stopping`."""
        self._node, self._conditions = node, conditions
        self._settings, self._stopping = settings, stopping
        self.waits_for = ""

    def await_process(self, managed: Managed) -> None:
        """Wait for a node's first heartbeat and its services.

        Raises:
            BringUpError: they did not come in time.
        """
        deadline = time.monotonic() + self._settings().appear_timeout_s
        text = f"waits for the process of {managed.name}: was it started, and in this domain and namespace?"
        self.waits_for = f"waits for {managed.name} to start"
        with self._conditions.during(f"process_absent.{managed.name}", text):
            while not self._stopping.is_set():
                if managed.seen_s and managed.client.service_is_ready():
                    managed.running_pid = managed.pid
                    return
                if time.monotonic() > deadline:
                    raise BringUpError(
                        f"{managed.name} did not appear within {self._settings().appear_timeout_s:g} s"
                    )
                time.sleep(0.02)

    def step(
        self, managed: Managed, step: str, timeout_s: float | None = None, stopping: bool = False
    ) -> None:
        """One transition.

        Raises:
            BringUpError: the node did not make it.
        """
        if self._stopping.is_set() and not stopping:
            return
        self.waits_for = f"waits for {managed.name} to {step}"
        request = ChangeState.Request()
        request.transition.id = _TRANSITIONS[step]
        text = f"waits for {managed.name} to {step}: its own diagnostics and log say what it is at"
        with self._conditions.during(f"transition_late.{managed.name}", text):
            result = self._call(managed, managed.client, request, step, timeout_s, stopping)
        if result is None:
            return
        if not result.success:
            time.sleep(0.3)  # its heartbeat brings the reason
            raise BringUpError(
                f"{managed.name} could not {step}{self._because(managed)}", step == "configure"
            )
        managed.state = {
            "configure": "inactive",
            "activate": "active",
            "deactivate": "inactive",
            "cleanup": "unconfigured",
        }[step]

    def _call(
        self,
        managed: Managed,
        client: Any,
        request: Any,
        what: str,
        timeout_s: float | None = None,
        stopping: bool = False,
    ) -> Any:
        """A service's answer; None when the supervisor is to stop meanwhile.

        Raises:
            BringUpError: there was none in time, or the node ended.
        """
        timeout_s = timeout_s or self._settings().transition_timeout_s
        future = client.call_async(request)
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        pid, deadline = managed.pid, time.monotonic() + timeout_s
        while not done.wait(0.02):
            if self._stopping.is_set() and not stopping:
                return None
            if time.monotonic() > deadline:
                raise BringUpError(f"{managed.name} did not {what} within {timeout_s:g} s")
            # A node sends heartbeats while it configures; a library that holds Python's lock may delay them.
            silent = time.monotonic() - managed.seen_s > 5 * self._settings().heartbeat_timeout_s
            if silent or managed.pid != pid or managed.process_ended:
                raise BringUpError(
                    f"{managed.name} ended while it was to {what}{self._because(managed)}",
                    refused=what == "configure" and bool(managed.error),
                )
        answer = future.result()
        if answer is None:
            raise BringUpError(f"{managed.name} did not {what}: its service gave no answer")
        return answer

    @staticmethod
    def _because(managed: Managed) -> str:
        return f": {managed.error}" if managed.error else ""

    def latch(self, managed: Managed) -> None:
        """Have the node start latched.

        A client that has known the lost process may wait for an answer of that one for ever: each attempt has a
        client of its own.

        Raises:
            BringUpError: it refused or did not answer; it must not be activated.
        """
        reason = f"process {managed.running_pid} was lost, and with it whether a stop was latched"
        request = SetParameters.Request(parameters=[Parameter("latched", value=reason).to_parameter_msg()])
        for left in reversed(range(LATCH_ATTEMPTS)):
            client: Any = self._node.create_client(SetParameters, f"{managed.name}/set_parameters")
            try:
                client.wait_for_service(timeout_sec=LATCH_TIMEOUT_S)
                result = self._call(managed, client, request, "take the parameter `latched`", LATCH_TIMEOUT_S)
                break
            except BringUpError:
                if not left:
                    raise
            finally:
                self._node.destroy_client(client)
        if result is not None and not result.results[0].successful:
            raise BringUpError(f"{managed.name} refused to start latched: {result.results[0].reason}")

    def take_to(self, managed: Managed, goal: str) -> None:
        """Walk a node through its states; its heartbeat says where it is.

        Raises:
            BringUpError: it did not get there.
        """
        up = {"unconfigured": "configure", "inactive": "activate"}
        down = {"active": "deactivate", "inactive": "cleanup"}
        configure_s, other_s = self._settings().configure_timeout_s, self._settings().transition_timeout_s
        deadline = time.monotonic() + configure_s + 2 * other_s
        while managed.state != goal and not self._stopping.is_set():
            silent = time.monotonic() - managed.seen_s > 5 * self._settings().heartbeat_timeout_s
            if time.monotonic() > deadline or silent or managed.process_ended:
                raise BringUpError(
                    f"{managed.name} is {managed.state} and did not become {goal}{self._because(managed)}"
                )
            step = (up if goal == "active" else down).get(managed.state)
            if step is None:
                time.sleep(0.02)
            else:
                self.step(managed, step, configure_s if step == "configure" else other_s)
