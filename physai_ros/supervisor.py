"""The supervisor: brings the lifecycle nodes up in order, watches their heartbeats, takes them down in reverse.

It says how things stand on `~/status`, latched, and on `diagnostics`. When a node is lost it idles the nodes that ask for
motion, and when the lost node's process is back sets it up again, at most `max_restarts` times within
`restart_window_s`, or when `~/retry` is called; a node that hung and came back costs none of them. A node that somebody else
takes out of `active` is left there, and it is said. It never resumes motion: a policy that was
idled comes back without a task, and a latched stop of the controller stays until a person calls `~/reset`.
What a process knew dies with it, so a controller whose process was lost comes back latched whatever it did before.
"""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import hashlib
import os
import signal
import socket
import struct
import threading
import time
from dataclasses import dataclass, field, fields, replace
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.executors import ExternalShutdownException
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from std_srvs.srv import Trigger

from physai.msg import SupervisorStatus
from physai_base.errors import PhysaiError
from physai_ros import parameters as ros_parameters
from physai_ros import topics
from physai_ros.budget import WINDOW_S, RestartBudget
from physai_ros.conditions import Conditions
from physai_ros.ending import StopSignals, last_words, leave_graph, orphaned
from physai_ros.environment import said_by_ros
from physai_ros.executor import CachingExecutor
from physai_ros.graph import hardware_id
from physai_ros.lifecycle_node import DIAGNOSTICS, EXIT_CONFIGURATION, EXIT_SIGNALLED, LAST_DEADLINE_S
from physai_ros.managed import STEADY, Managed
from physai_ros.notify import READY, RETRY, notify, starts_again
from physai_ros.place import StackNode

CONTROL = "control"
LATCH_TIMEOUT_S, LATCH_ATTEMPTS = 3.0, 4
ALONE_S = 1.5  # in which another supervisor in this place would have been heard
STRANGER_S = 2.0  # without a heartbeat of another process it counts as gone
_TRANSITIONS = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "cleanup": Transition.TRANSITION_CLEANUP,
}


def _seconds(default: float, description: str) -> Any:
    return field(default=default, metadata={"unit": "s", "range": (0.05, 600.0), "description": description})


@dataclass(frozen=True)
class SupervisorParameters:
    """Parameters of the node; LIVE ones may be set while it runs."""

    nodes: tuple[str, ...] = field(default=("",), metadata={"description": "managed nodes in order"})
    idle_on_loss: tuple[str, ...] = field(
        default=("",), metadata={"description": "nodes to deactivate when any other is lost"}
    )
    latched_on_loss: tuple[str, ...] = field(
        default=("",), metadata={"description": "nodes that start latched when their process was lost"}
    )
    renewed_with: tuple[str, ...] = field(
        default=("",), metadata={"description": "a:b: set a up anew when b was lost"}
    )
    heartbeat_timeout_s: float = _seconds(2.0, "no heartbeat for this long: the node is lost")
    appear_timeout_s: float = _seconds(30.0, "for a process to start")
    configure_timeout_s: float = _seconds(60.0, "for a node to configure")
    transition_timeout_s: float = _seconds(10.0, "for every other transition")
    max_restarts: int = field(
        default=3, metadata={"range": (0, 100), "description": "of one node within restart_window_s"}
    )
    restart_window_s: float = field(
        default=WINDOW_S,
        metadata={"unit": "s", "range": (1.0, 86400.0), "description": "in which restarts are counted"},
    )
    robot: str = field(default="", metadata={"description": "embodiment, for the hardware_id on diagnostics"})


LIVE = (
    "heartbeat_timeout_s",
    "appear_timeout_s",
    "configure_timeout_s",
    "transition_timeout_s",
    "max_restarts",
    "restart_window_s",
)


_STATES = {
    SupervisorStatus.STARTING: "starting",
    SupervisorStatus.ACTIVE: "active",
    SupervisorStatus.DEGRADED: "degraded",
    SupervisorStatus.STOPPING: "stopping",
    SupervisorStatus.FAILED: "failed",
}


class BringUpError(PhysaiError):
    """A node could not be configured or activated; the message names it and says why.

    `refused`: it refused its configuration, and would again.
    """

    def __init__(self, reason: str, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused


class Supervisor(StackNode):
    """The node; its work is done by `run` in a thread of its own."""

    def __init__(self) -> None:
        super().__init__("supervisor")
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._made_s = time.monotonic()
        # Which of two supervisors came first, and who it is.
        self._identity = (time.time_ns(), str(os.getpid()), socket.gethostname())
        self._elder = ""
        self._strangers: dict[str, float] = {}
        ros_parameters.declare(self, SupervisorParameters)
        self.settings = ros_parameters.read(self, SupervisorParameters)
        self.add_on_set_parameters_callback(self._on_parameters)
        self._managed: dict[str, Managed] = {}
        self._stopping = threading.Event()
        self.conditions = Conditions(
            warn=lambda text: self.get_logger().warning(text),
            fail=lambda text: self.get_logger().error(text),
            tell=lambda text: self.get_logger().info(text),
        )
        self._retry = threading.Event()
        self._state, self._waits_for, self._failure = SupervisorStatus.STARTING, "", ""
        self._said: tuple[Any, ...] = ()
        for name in filter(None, self.settings.nodes):
            client: Any = self.create_client(ChangeState, f"{name}/change_state")
            budget = RestartBudget(self.settings.max_restarts, self.settings.restart_window_s)
            self._managed[name] = Managed(name, client, budget)
        self._by_full_name = {self._full_name(name): managed for name, managed in self._managed.items()}
        self._renewed_with = [pair.split(":", 1) for pair in self.settings.renewed_with if ":" in pair]
        self._publisher = topics.advertise(self, DIAGNOSTICS)
        self._status = topics.advertise(self, "~/status")
        topics.hear(self, DIAGNOSTICS, self._on_diagnostics)
        self.create_timer(0.5, self._report, clock=self._steady)
        for request in ("stop", "reset", "resume"):
            # One client for each service: they forward to the controller's service of the same name.
            client = self.create_client(Trigger, f"{CONTROL}/{request}")
            self.create_service(Trigger, f"~/{request}", self._forward(client, request))
        self.create_service(Trigger, "~/retry", self._on_retry)

    def run(self) -> None:
        """Bring the nodes up, say so, and watch them until `request_stop`.

        Raises:
            BringUpError: a node did not come up at the start.
        """
        while time.monotonic() - self._made_s < ALONE_S and not self._stopping.wait(0.02):
            self._give_way()
        self._take_place()
        for managed in self._managed.values():
            self._await_process(managed)
            self._give_way()
            self._transition(managed, "configure", self.settings.configure_timeout_s)
        for managed in self._managed.values():
            self._transition(managed, "activate")
        if self._stopping.is_set():
            return
        self._become(SupervisorStatus.ACTIVE)
        notify(READY)
        self.get_logger().info("ready: all nodes are active")
        while not self._stopping.wait(0.05):
            if self._retry.is_set():
                self._retry.clear()
                self._try_again()
            for managed in self._managed.values():
                self._watch(managed)
            if self._state != SupervisorStatus.ACTIVE and self._all_well():
                self._become(SupervisorStatus.ACTIVE)
                self.get_logger().info("all nodes are active again; the task that ran is not resumed")

    def _give_way(self) -> None:
        """Two stacks with the same names would configure and stop each other's nodes.

        Raises:
            BringUpError: another one was here first.
        """
        if self._elder:
            raise BringUpError(
                f"another stack runs here already: its supervisor is {self._elder}, in ROS domain "
                f"{self.context.get_domain_id()} and namespace {self.get_namespace()}. Give this one a namespace or a "
                "ROS_DOMAIN_ID of its own, or end that one first"
            )

    def _take_place(self) -> None:
        """Be the only supervisor of this place on this machine, however late one hears of another.

        Raises:
            BringUpError: another one is.
        """
        place = hashlib.sha256(self.get_namespace().encode()).hexdigest()[:32]
        address = f"\0physai-supervisor.{self.context.get_domain_id()}.{place}"
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
            self._give_way()

    def _all_well(self) -> bool:
        return all(
            m.state == "active" and not (m.lost or m.by_hand or m.idled) for m in self._managed.values()
        )

    def _watch(self, managed: Managed) -> None:
        """One look at a node."""
        if not managed.lost:
            managed.lost = managed.loss(self.settings.heartbeat_timeout_s)
            if managed.lost:
                self._on_loss(managed)
            else:
                self._watch_hands(managed)
            return
        if managed.hung and managed.process_ended:
            managed.hung, managed.lost = False, managed.loss(self.settings.heartbeat_timeout_s)
        if managed.given_up and managed.budget.free_in_s <= 0:
            managed.given_up = False
        if not managed.given_up and self._back(managed):
            self._recover(managed)

    def _watch_hands(self, managed: Managed) -> None:
        """A transition that somebody else asked for is not undone; what it broke is mended when it is taken back."""
        if managed.look_for_hands():
            self._become(SupervisorStatus.DEGRADED)
            self.get_logger().warning(managed.says(self._retry_name(), starts_again()))
        if managed.by_hand and managed.state == "active":
            managed.by_hand = ""
            self.get_logger().info(f"{managed.name} is active again")
            if managed.cleaned:
                managed.cleaned = False
                self._renew_attached(managed)

    def _renew_attached(self, managed: Managed) -> None:
        """Set up anew what was attached to a node that was set up anew."""
        try:
            self._take_down_attached(managed)
        except BringUpError as error:
            self.get_logger().error(f"what was attached to {managed.name} could not be set up again: {error}")
            return
        self._set_up_the_rest()

    def _take_down_attached(self, managed: Managed) -> None:
        attached = [self._managed[name] for name, other in self._renewed_with if other == managed.name]
        for each in reversed(attached):
            if not each.lost and not each.by_hand:
                self._take_to(each, "unconfigured")

    def _set_up_the_rest(self) -> None:
        """Everything but what waits for a process of its own, or was taken down by hand; ends at one that fails.

        That one counts as lost, and its own restarts are spent: who was set up before it is not torn down again.
        """
        for managed in self._managed.values():
            if managed.lost or managed.by_hand:
                continue
            try:
                self._set_up(managed)
            except BringUpError as error:
                managed.lost, managed.hung = str(error), False
                self._on_loss(managed)
                return

    @property
    def coming_up(self) -> bool:
        """Whether not every node has been active yet."""
        return self._state == SupervisorStatus.STARTING

    def fail(self, reason: str) -> None:
        """The bring-up ends, because of that; who listens is told."""
        self._failure = reason

    def request_stop(self) -> None:
        """End `run`."""
        self._stopping.set()

    def take_down(self, budget_s: float) -> None:
        """Deactivate in reverse order, in `budget_s` altogether."""
        self._stopping.set()
        self._become(SupervisorStatus.FAILED if self._failure else SupervisorStatus.STOPPING)
        deadline = time.monotonic() + budget_s
        for managed in reversed(list(self._managed.values())):
            left = deadline - time.monotonic()
            ours = managed.running_pid == managed.pid  # else another stack's
            if (
                left > 0
                and ours
                and managed.state == "active"
                and not managed.loss(self.settings.heartbeat_timeout_s)
            ):
                with contextlib.suppress(BringUpError):
                    self._transition(managed, "deactivate", left, stopping=True)

    # Loss and recovery.

    def _on_loss(self, lost: Managed) -> None:
        self._become(SupervisorStatus.DEGRADED)
        what = "hangs" if lost.hung else "is lost"
        self.get_logger().error(
            f"{lost.name} {what}: {lost.lost}; motion is stopped and will not resume by itself"
        )
        lost.hangs += lost.hung
        self._report()
        for managed in reversed(list(self._managed.values())):
            if (
                managed is not lost
                and managed.name in self.settings.idle_on_loss
                and managed.state == "active"
            ):
                managed.idled = True
                with contextlib.suppress(BringUpError):
                    self._transition(managed, "deactivate")
        if not lost.hung:
            self._give_up_if_spent(lost)

    def _give_up_if_spent(self, lost: Managed) -> None:
        lost.given_up = lost.budget.free_in_s > 0
        if lost.given_up:
            self.get_logger().error(lost.says(self._retry_name(), starts_again()))

    def _back(self, managed: Managed) -> bool:
        """Whether a process of that name lives again: a new one, or the old one that was only stuck."""
        beats = time.monotonic() - managed.seen_s < 1.0
        if any(name == managed.name and self._managed[other].lost for name, other in self._renewed_with):
            return False  # first what it is attached to
        # A transition that outlasted its timeout goes on; meanwhile no other can be asked for.
        steady = managed.state in STEADY
        return beats and steady and not managed.process_ended and managed.client.service_is_ready()

    def _recover(self, lost: Managed) -> None:
        # Containers give each process the same id: one that is not active any more is another one.
        only_hung = lost.hung and lost.pid == lost.running_pid and lost.state == "active"
        if not only_hung:
            lost.restarts += 1
            lost.budget.spend()
        again = f"restart {lost.budget.used} of {self.settings.max_restarts}"
        self.get_logger().warning(f"{lost.name} is back ({'it hung' if only_hung else again})")
        try:
            self._take_down_attached(lost)
            self._set_up(lost)
        except BringUpError as error:
            lost.lost, lost.hung = str(error), False
            self.get_logger().error(f"{lost.name} could not be set up again: {error}")
            self._give_up_if_spent(lost)
            return
        lost.running_pid, lost.lost, lost.hung = lost.pid, "", False
        lost.by_hand, lost.cleaned = "", False
        self._set_up_the_rest()

    # A person asks for another try.

    def _on_retry(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        wrong = [m for m in self._managed.values() if m.lost or m.by_hand or m.idled]
        response.success = self._state in (SupervisorStatus.ACTIVE, SupervisorStatus.DEGRADED)
        if not response.success:
            response.message = "the bring-up is not up: " + (self._message() or "it ends")
        elif not wrong:
            response.message = "nothing to do: every node is active"
        else:
            self._retry.set()
            left = [] if starts_again() else [m for m in wrong if m.lost and (m.hung or m.process_ended)]
            tried = [m.name for m in wrong if m not in left]
            response.success = bool(tried)
            said = ["tries again: " + ", ".join(tried)] if tried else []
            if left:
                names = ", ".join(f"{m.name} (process {m.pid})" for m in left)
                said.append(f"ends and starts no process, as under `physai up`; do that yourself: {names}")
            response.message = "; ".join((*said, f"see {self._status.topic}"))
        return response

    def _try_again(self) -> None:
        """Forget what was counted and take everything to active; under `physai up` also have processes started again,
        and end those that hang.
        """
        self.get_logger().info("tries again, as a person asked for")
        for managed in self._managed.values():
            managed.budget.clear()
            managed.given_up, managed.by_hand = False, ""
            if starts_again() and managed.hung and managed.here and not managed.process_ended:
                with contextlib.suppress(OSError, ValueError):
                    os.kill(int(managed.pid), signal.SIGKILL)
        notify(RETRY)
        try:
            for managed in self._managed.values():
                if managed.cleaned and not managed.lost:
                    managed.cleaned = False
                    self._take_down_attached(managed)
        except BringUpError as error:
            self.get_logger().error(f"not everything could be taken to active: {error}")
            return
        self._set_up_the_rest()

    def _set_up(self, managed: Managed) -> None:
        """Take a node to active; one that may have forgotten a latched stop is told to start latched."""
        # Containers give each process the same id: a lost node that is not active any more is another one, too.
        forgot = managed.pid != managed.running_pid or (managed.lost and managed.state != "active")
        if managed.name in self.settings.latched_on_loss and forgot:
            self._take_to(managed, "unconfigured")
            self._latch(managed)
        self._take_to(managed, "active")
        managed.idled = False

    def _latch(self, managed: Managed) -> None:
        """Have the node start latched.

        A client that has known the lost process may wait for an answer of that one for ever: each attempt has a
        client of its own.

        Raises:
            BringUpError: it refused or did not answer; it must not be activated.
        """
        reason = f"process {managed.running_pid} was lost, and with it whether a stop was latched"
        request = SetParameters.Request(parameters=[Parameter("latched", value=reason).to_parameter_msg()])
        for left in reversed(range(LATCH_ATTEMPTS)):
            client: Any = self.create_client(SetParameters, f"{managed.name}/set_parameters")
            try:
                client.wait_for_service(timeout_sec=LATCH_TIMEOUT_S)
                result = self._call(managed, client, request, "take the parameter `latched`", LATCH_TIMEOUT_S)
                break
            except BringUpError:
                if not left:
                    raise
            finally:
                self.destroy_client(client)
        if result is not None and not result.results[0].successful:
            raise BringUpError(f"{managed.name} refused to start latched: {result.results[0].reason}")

    def _take_to(self, managed: Managed, goal: str) -> None:
        """Walk a node through its states; its heartbeat says where it is.

        Raises:
            BringUpError: it did not get there.
        """
        up = {"unconfigured": "configure", "inactive": "activate"}
        down = {"active": "deactivate", "inactive": "cleanup"}
        configure_s, other_s = self.settings.configure_timeout_s, self.settings.transition_timeout_s
        deadline = time.monotonic() + configure_s + 2 * other_s
        while managed.state != goal and not self._stopping.is_set():
            silent = time.monotonic() - managed.seen_s > 5 * self.settings.heartbeat_timeout_s
            if time.monotonic() > deadline or silent or managed.process_ended:
                raise BringUpError(
                    f"{managed.name} is {managed.state} and did not become {goal}{self._because(managed)}"
                )
            step = (up if goal == "active" else down).get(managed.state)
            if step is None:
                time.sleep(0.02)
            else:
                self._transition(managed, step, configure_s if step == "configure" else other_s)

    # Transitions.

    def _await_process(self, managed: Managed) -> None:
        deadline = time.monotonic() + self.settings.appear_timeout_s
        text = f"waits for the process of {managed.name}: was it started, and in this domain and namespace?"
        self._waits_for = f"waits for {managed.name} to start"
        with self.conditions.during(f"process_absent.{managed.name}", text):
            while not self._stopping.is_set():
                if managed.seen_s and managed.client.service_is_ready():
                    managed.running_pid = managed.pid
                    return
                if time.monotonic() > deadline:
                    raise BringUpError(
                        f"{managed.name} did not appear within {self.settings.appear_timeout_s:g} s"
                    )
                time.sleep(0.02)

    def _transition(
        self, managed: Managed, step: str, timeout_s: float | None = None, stopping: bool = False
    ) -> None:
        if self._stopping.is_set() and not stopping:
            return
        self._waits_for = f"waits for {managed.name} to {step}"
        request = ChangeState.Request()
        request.transition.id = _TRANSITIONS[step]
        text = f"waits for {managed.name} to {step}: its own diagnostics and log say what it is at"
        with self.conditions.during(f"transition_late.{managed.name}", text):
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
        timeout_s = timeout_s or self.settings.transition_timeout_s
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
            silent = time.monotonic() - managed.seen_s > 5 * self.settings.heartbeat_timeout_s
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

    # ROS.

    def _on_parameters(self, changed: list[Parameter[Any]]) -> SetParametersResult:
        """Take what counts from the next look on; which nodes there are is fixed when the process starts."""
        own = {item.name: item.metadata for item in fields(SupervisorParameters)}
        changes: dict[str, Any] = {}
        for parameter in changed:
            if parameter.name not in own:
                continue
            reason = ros_parameters.reason_against(parameter.value, own[parameter.name])
            if parameter.name not in LIVE:
                reason = "is read when the process starts; start the bring-up anew"
            if reason:
                return SetParametersResult(successful=False, reason=f"{parameter.name} {reason}")
            changes[parameter.name] = parameter.value
        self.settings = replace(self.settings, **changes)
        for managed in self._managed.values():
            managed.budget.limit = self.settings.max_restarts
            managed.budget.window_s = self.settings.restart_window_s
        return SetParametersResult(successful=True)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {item.key: item.value for item in status.values}
            if status.name == self.get_fully_qualified_name():
                self._hear_supervisor(values)
            managed = self._by_full_name.get(status.name)
            if managed is not None:
                other = managed.heard(values, status.level, status.message)
                self._say_stranger(managed.name, other)

    def _hear_supervisor(self, values: dict[str, str]) -> None:
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
        self._say_stranger("supervisor", who)

    def _say_stranger(self, name: str, who: str) -> None:
        """There are two nodes of one name; `who` is not heeded."""
        condition = f"second_node.{name}"
        if who:
            self._strangers[condition] = time.monotonic()
            text = (
                f"there is a second {name} in this domain and namespace, {who}, which is not heeded: end it"
            )
            self.conditions.set(condition, text)

    def _retry_name(self) -> str:
        return f"{self.get_fully_qualified_name()}/retry"

    def _become(self, state: int) -> None:
        self._state = state
        self._report()

    def _message(self) -> str:
        """What is wrong or waited for, and what to do."""
        if self._failure:
            return self._failure
        if self._state == SupervisorStatus.STARTING:
            because = [f"{m.name}: {m.error}" for m in self._managed.values() if m.error]
            return "; ".join([self._waits_for, *because])
        said = (m.says(self._retry_name(), starts_again()) for m in self._managed.values())
        return "; ".join(filter(None, said))

    def _report(self) -> None:
        """On `diagnostics`, on `~/status` when something changed, and to whoever started this process."""
        for condition, heard_s in list(self._strangers.items()):
            if time.monotonic() - heard_s > STRANGER_S:
                self.conditions.end(condition)
                self._strangers.pop(condition, None)
        name, text = _STATES[self._state], self._message()
        lost = any(managed.lost for managed in self._managed.values()) or self._failure
        status = DiagnosticStatus(name=self.get_fully_qualified_name())
        status.hardware_id = hardware_id(self.settings.robot, self.get_namespace())
        degraded = self._state == SupervisorStatus.DEGRADED
        status.level = (
            DiagnosticStatus.ERROR if lost else DiagnosticStatus.WARN if degraded else DiagnosticStatus.OK
        )
        status.message = text or name
        identity = zip(("started_ns", "pid", "host"), map(str, self._identity), strict=True)
        status.values = [KeyValue(key="state", value=name)]
        status.values += [KeyValue(key=key, value=value) for key, value in identity]
        status.values += [
            KeyValue(
                key=each.name,
                value=f"{'lost' if each.lost else each.state}, restarts {each.restarts}, hangs {each.hangs}",
            )
            for each in self._managed.values()
        ]
        self.conditions.show_on(status)
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        said = SupervisorStatus(header=message.header, state=self._state, message=text)
        said.nodes = list(self._managed)
        said.node_states = [managed.code for managed in self._managed.values()]
        changed = (said.state, said.message, tuple(said.node_states))
        with contextlib.suppress(Exception):
            self._publisher.publish(message)
            if changed != self._said:
                self._said = changed
                self._status.publish(said)
                notify(f"STATUS={name}: {text}" if text else f"STATUS={name}")

    def _forward(self, client: Any, name: str) -> Any:
        async def handle(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            if not client.service_is_ready():
                response.success, response.message = False, f"{CONTROL} does not answer; its state is unknown"
                return response
            future = client.call_async(Trigger.Request())
            give_up = self.create_timer(2.0, lambda: future.set_result(None), clock=self._steady)
            answer: Trigger.Response | None = await future
            self.destroy_timer(give_up)
            if answer is None:
                response.success, response.message = False, f"{CONTROL} did not answer {name} within 2 s"
                return response
            return answer

        return handle

    def _full_name(self, name: str) -> str:
        return f"{self.get_namespace().rstrip('/')}/{name}"


def main() -> None:
    """Entry point of the executable `supervisor`."""
    stop = StopSignals()
    try:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        supervisor = Supervisor()
    except PhysaiError as error:
        _exit(EXIT_CONFIGURATION, str(error))
    except Exception as error:
        if not (reason := said_by_ros(error)):
            raise
        _exit(EXIT_CONFIGURATION, reason)
    executor = CachingExecutor()
    executor.add_node(supervisor)
    failure: list[str] = []
    failure_code = 1

    def spin() -> None:
        try:
            executor.spin()
        except ExternalShutdownException:
            pass
        except Exception as error:
            failure.append(f"{type(error).__name__}: {error}")

    def work() -> None:
        nonlocal failure_code
        try:
            supervisor.run()
        except BringUpError as error:
            failure_code = EXIT_CONFIGURATION if error.refused else 1
            failure.append(str(error))
        except Exception as error:
            failure.append(f"{type(error).__name__}: {error}")

    spinner = threading.Thread(target=spin, name="spin", daemon=True)
    spinner.start()
    worker = threading.Thread(target=work, name="supervise", daemon=True)
    worker.start()
    while not (stop.is_set() or failure) and worker.is_alive() and not orphaned():
        time.sleep(0.05)
    code = EXIT_SIGNALLED + stop.number if stop.is_set() and supervisor.coming_up else 0
    faulthandler.dump_traceback_later(LAST_DEADLINE_S, exit=True)
    supervisor.request_stop()
    worker.join(timeout=0.2)
    if failure:
        code = failure_code
        supervisor.fail(failure[0])
    supervisor.take_down(budget_s=1.0)
    # Leaving in order removes this process's shared memory; it must not take long.
    deadline = threading.Timer(0.4, _exit, (code, failure[0] if failure else ""))
    deadline.daemon = True
    deadline.start()
    leave_graph(supervisor, spinner)
    _exit(code, failure[0] if failure else "")


def _exit(code: int, line: str) -> None:
    last_words(f"physai supervisor: {line}" if line else "")
    # Not sys.exit: an executor's thread may still wait for a service that is gone.
    os._exit(code)


if __name__ == "__main__":
    main()
