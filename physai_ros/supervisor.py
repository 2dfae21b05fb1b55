"""The supervisor: brings the lifecycle nodes up in order, watches their heartbeats, takes them down in reverse.

When a node is lost it says so on `diagnostics`, idles the nodes that ask for motion, and when the lost node's
process is back sets it up again, at most `max_restarts` times. It never resumes motion: a policy that was
idled comes back without a task, and a latched stop of the controller stays until a person calls `~/reset`.
What a process knew dies with it, so a controller whose process was lost comes back latched whatever it did before.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
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

from physai_base.errors import PhysaiError
from physai_ros import parameters as ros_parameters
from physai_ros import topics
from physai_ros.conditions import Conditions
from physai_ros.executor import CachingExecutor
from physai_ros.graph import hardware_id
from physai_ros.lifecycle_node import DIAGNOSTICS, EXIT_CONFIGURATION, leave_graph, orphaned
from physai_ros.place import StackNode

READY = "ready: all nodes are active"
CONTROL = "control"
LATCH_TIMEOUT_S, LATCH_ATTEMPTS = 3.0, 4
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
    max_restarts: int = field(default=3, metadata={"range": (0, 100), "description": "of one node"})
    robot: str = field(default="", metadata={"description": "embodiment, for the hardware_id on diagnostics"})


LIVE = (
    "heartbeat_timeout_s",
    "appear_timeout_s",
    "configure_timeout_s",
    "transition_timeout_s",
    "max_restarts",
)


@dataclass
class _Managed:
    """What is known of one node."""

    name: str
    client: Any
    seen_s: float = 0.0  # of the last heartbeat; 0: never
    pid: str = ""
    here: bool = False  # its process is one of this machine and can be looked up
    state: str = ""
    error: str = ""
    running_pid: str = ""  # of the process that was brought up
    restarts: int = 0
    lost: str = ""  # why, empty while it is well
    given_up: bool = False


class BringUpError(PhysaiError):
    """A node could not be configured or activated; the message names it and says why."""


class Supervisor(StackNode):
    """The node; its work is done by `run` in a thread of its own."""

    def __init__(self) -> None:
        super().__init__("supervisor")
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        ros_parameters.declare(self, SupervisorParameters)
        self.settings = ros_parameters.read(self, SupervisorParameters)
        self.add_on_set_parameters_callback(self._on_parameters)
        self._managed: dict[str, _Managed] = {}
        self._stopping = threading.Event()
        self._state = "starting"
        self.conditions = Conditions(
            warn=lambda text: self.get_logger().warning(text),
            fail=lambda text: self.get_logger().error(text),
            tell=lambda text: self.get_logger().info(text),
        )
        for name in filter(None, self.settings.nodes):
            client: Any = self.create_client(ChangeState, f"{name}/change_state")
            self._managed[name] = _Managed(name, client)
        self._by_full_name = {self._full_name(name): managed for name, managed in self._managed.items()}
        self._renewed_with = [pair.split(":", 1) for pair in self.settings.renewed_with if ":" in pair]
        self._publisher = topics.advertise(self, DIAGNOSTICS)
        topics.hear(self, DIAGNOSTICS, self._on_diagnostics)
        self.create_timer(0.5, self._report, clock=self._steady)
        for request in ("stop", "reset", "resume"):
            # One client for each service: they forward to the controller's service of the same name.
            client = self.create_client(Trigger, f"{CONTROL}/{request}")
            self.create_service(Trigger, f"~/{request}", self._forward(client, request))

    def run(self) -> None:
        """Bring the nodes up, say so, and watch them until `request_stop`.

        Raises:
            BringUpError: a node did not come up at the start.
        """
        for managed in self._managed.values():
            self._await_process(managed)
            self._transition(managed, "configure", self.settings.configure_timeout_s)
        for managed in self._managed.values():
            managed.running_pid = managed.pid
            self._transition(managed, "activate")
        if self._stopping.is_set():
            return
        self._state = "active"
        self.get_logger().info(READY)
        while not self._stopping.wait(0.05):
            for managed in self._managed.values():
                if not managed.given_up and not managed.lost:
                    managed.lost = self._loss(managed)
                    if managed.lost:
                        self._on_loss(managed)
                elif managed.lost and not managed.given_up and self._back(managed):
                    self._recover(managed)

    def request_stop(self) -> None:
        """End `run`."""
        self._stopping.set()

    def take_down(self, budget_s: float) -> None:
        """Deactivate in reverse order, in `budget_s` altogether."""
        self._stopping.set()
        deadline = time.monotonic() + budget_s
        for managed in reversed(list(self._managed.values())):
            left = deadline - time.monotonic()
            if left > 0 and managed.state == "active" and not self._loss(managed):
                with contextlib.suppress(BringUpError):
                    self._transition(managed, "deactivate", left, stopping=True)

    # Loss and recovery.

    def _loss(self, managed: _Managed) -> str:
        silent_s = time.monotonic() - managed.seen_s
        if managed.running_pid and managed.pid != managed.running_pid:
            return f"process {managed.running_pid} ended"
        if self._process_ended(managed):
            return f"process {managed.pid} ended"
        if silent_s > self.settings.heartbeat_timeout_s:
            return f"no heartbeat for {silent_s:.1f} s (limit {self.settings.heartbeat_timeout_s:g} s)"
        return ""

    def _on_loss(self, lost: _Managed) -> None:
        self._state = "degraded"
        self.get_logger().error(
            f"{lost.name} is lost: {lost.lost}; motion is stopped and will not resume by itself"
        )
        self._report()
        for managed in reversed(list(self._managed.values())):
            if (
                managed is not lost
                and managed.name in self.settings.idle_on_loss
                and managed.state == "active"
            ):
                with contextlib.suppress(BringUpError):
                    self._transition(managed, "deactivate")
        if lost.restarts >= self.settings.max_restarts:
            lost.given_up = True
            self.get_logger().error(f"{lost.name} was restarted {lost.restarts} times already; giving up")

    def _back(self, managed: _Managed) -> bool:
        """Whether a process of that name lives again: a new one, or the old one that was only stuck."""
        beats = time.monotonic() - managed.seen_s < 1.0 and managed.state != ""
        if any(name == managed.name and self._managed[other].lost for name, other in self._renewed_with):
            return False  # first what it is attached to
        return beats and not self._process_ended(managed) and managed.client.service_is_ready()

    @staticmethod
    def _process_ended(managed: _Managed) -> bool:
        return managed.here and not os.path.exists(f"/proc/{managed.pid}")

    def _recover(self, lost: _Managed) -> None:
        lost.restarts += 1
        self.get_logger().warning(
            f"{lost.name} is back (restart {lost.restarts} of {self.settings.max_restarts})"
        )
        renewed = [self._managed[name] for name, other in self._renewed_with if other == lost.name]
        try:
            for managed in reversed(renewed):
                self._take_to(managed, "unconfigured")
            self._set_up(lost)
            lost.running_pid, lost.lost = lost.pid, ""
            for managed in self._managed.values():
                # Those that wait for a process of their own are not touched here.
                if not managed.lost and not managed.given_up:
                    self._set_up(managed)
        except BringUpError as error:
            lost.lost = str(error)
            self.get_logger().error(f"{lost.name} could not be set up again: {error}")
            lost.given_up = lost.restarts >= self.settings.max_restarts
            return
        if not any(managed.lost for managed in self._managed.values()):
            self._state = "active"
            self.get_logger().info("all nodes are active again; the task that ran is not resumed")

    def _set_up(self, managed: _Managed) -> None:
        """Take a node to active; one that may have forgotten a latched stop is told to start latched."""
        # Containers give each process the same id: a lost node that is not active any more is another one, too.
        forgot = managed.pid != managed.running_pid or (managed.lost and managed.state != "active")
        if managed.name in self.settings.latched_on_loss and forgot:
            self._take_to(managed, "unconfigured")
            self._latch(managed)
        self._take_to(managed, "active")

    def _latch(self, managed: _Managed) -> None:
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

    def _take_to(self, managed: _Managed, goal: str) -> None:
        """Walk a node through its states; its heartbeat says where it is."""
        up = {"unconfigured": "configure", "inactive": "activate"}
        down = {"active": "deactivate", "inactive": "cleanup"}
        for _ in range(4):
            if managed.state == goal:
                return
            step = (up if goal == "active" else down).get(managed.state)
            if step is None:
                time.sleep(0.05)
                continue
            timeout = (
                self.settings.configure_timeout_s
                if step == "configure"
                else self.settings.transition_timeout_s
            )
            self._transition(managed, step, timeout)

    # Transitions.

    def _await_process(self, managed: _Managed) -> None:
        deadline = time.monotonic() + self.settings.appear_timeout_s
        text = f"waits for the process of {managed.name}: was it started, and in this domain and namespace?"
        with self.conditions.during(f"process_absent.{managed.name}", text):
            while not self._stopping.is_set():
                if managed.seen_s and managed.client.service_is_ready():
                    return
                if time.monotonic() > deadline:
                    raise BringUpError(
                        f"{managed.name} did not appear within {self.settings.appear_timeout_s:g} s"
                    )
                time.sleep(0.02)

    def _transition(
        self, managed: _Managed, step: str, timeout_s: float | None = None, stopping: bool = False
    ) -> None:
        if self._stopping.is_set() and not stopping:
            return
        request = ChangeState.Request()
        request.transition.id = _TRANSITIONS[step]
        text = f"waits for {managed.name} to {step}: its own diagnostics and log say what it is at"
        with self.conditions.during(f"transition_late.{managed.name}", text):
            result = self._call(managed, managed.client, request, step, timeout_s, stopping)
        if result is None:
            return
        if not result.success:
            time.sleep(0.3)  # its heartbeat brings the reason
            raise BringUpError(f"{managed.name} could not {step}{self._because(managed)}")
        managed.state = {
            "configure": "inactive",
            "activate": "active",
            "deactivate": "inactive",
            "cleanup": "unconfigured",
        }[step]

    def _call(
        self,
        managed: _Managed,
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
            if silent or managed.pid != pid or self._process_ended(managed):
                raise BringUpError(f"{managed.name} ended while it was to {what}{self._because(managed)}")
        answer = future.result()
        if answer is None:
            raise BringUpError(f"{managed.name} did not {what}: its service gave no answer")
        return answer

    @staticmethod
    def _because(managed: _Managed) -> str:
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
        return SetParametersResult(successful=True)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            managed = self._by_full_name.get(status.name)
            if managed is None:
                continue
            values = {item.key: item.value for item in status.values}
            pid, managed.state = values.get("pid", ""), values.get("state", "")
            if pid != managed.pid:
                # Only once it has been seen there: containers may share a host name but no process ids.
                managed.here = values.get("host") == socket.gethostname() and os.path.exists(f"/proc/{pid}")
                managed.pid = pid
            managed.error = status.message if status.level == DiagnosticStatus.ERROR else ""
            managed.seen_s = time.monotonic()  # last: another thread goes on when it sees this

    def _report(self) -> None:
        status = DiagnosticStatus(name=self.get_fully_qualified_name())
        status.hardware_id = hardware_id(self.settings.robot, self.get_namespace())
        lost = [managed for managed in self._managed.values() if managed.lost]
        status.level = DiagnosticStatus.ERROR if lost else DiagnosticStatus.OK
        status.message = (
            "; ".join(f"{managed.name} is lost: {managed.lost}" for managed in lost) or self._state
        )
        status.values = [KeyValue(key="state", value=self._state)]
        status.values += [
            KeyValue(
                key=name, value=f"{'lost' if managed.lost else managed.state}, restarts {managed.restarts}"
            )
            for name, managed in self._managed.items()
        ]
        self.conditions.show_on(status)
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        with contextlib.suppress(Exception):
            self._publisher.publish(message)

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
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    try:
        supervisor = Supervisor()
    except PhysaiError as error:
        _exit(EXIT_CONFIGURATION, str(error))
    executor = CachingExecutor()
    executor.add_node(supervisor)
    failure: list[str] = []

    def spin() -> None:
        try:
            executor.spin()
        except ExternalShutdownException:
            pass
        except Exception as error:
            failure.append(f"{type(error).__name__}: {error}")
            stop.set()

    def work() -> None:
        try:
            supervisor.run()
        except BringUpError as error:
            failure.append(str(error))
        except Exception as error:
            failure.append(f"{type(error).__name__}: {error}")

    spinner = threading.Thread(target=spin, name="spin", daemon=True)
    spinner.start()
    worker = threading.Thread(target=work, name="supervise", daemon=True)
    worker.start()
    while not stop.wait(0.05) and worker.is_alive() and not orphaned():
        pass
    supervisor.request_stop()
    worker.join(timeout=0.2)
    supervisor.take_down(budget_s=1.0)
    # Leaving in order removes this process's shared memory; it must not take long.
    deadline = threading.Timer(
        0.4, _exit, (EXIT_CONFIGURATION if failure else 0, failure[0] if failure else "")
    )
    deadline.daemon = True
    deadline.start()
    leave_graph(supervisor, spinner)
    _exit(EXIT_CONFIGURATION if failure else 0, failure[0] if failure else "")


def _exit(code: int, line: str) -> None:
    if line:
        print(f"physai supervisor: {line}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: an executor's thread may still wait for a service that is gone.
    os._exit(code)


if __name__ == "__main__":
    main()
