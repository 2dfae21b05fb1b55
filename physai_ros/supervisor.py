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
import faulthandler
import os
import signal
import threading
import time
from dataclasses import fields, replace
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import SetParametersResult
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
from physai_ros.budget import RestartBudget
from physai_ros.conditions import Conditions
from physai_ros.ending import StopSignals, last_words, leave_graph, orphaned
from physai_ros.environment import said_by_ros
from physai_ros.executor import CachingExecutor
from physai_ros.graph import hardware_id
from physai_ros.lifecycle_node import DIAGNOSTICS, EXIT_CONFIGURATION, EXIT_SIGNALLED, LAST_DEADLINE_S
from physai_ros.managed import STEADY, Managed
from physai_ros.notify import READY, RETRY, notify, starts_again
from physai_ros.place import StackNode
from physai_ros.rivals import Rivals
from physai_ros.supervisor_parameters import LIVE, SupervisorParameters
from physai_ros.transitions import BringUpError, Transitions

CONTROL = "control"
ALONE_S = 1.5  # in which another supervisor in this place would have been heard
_STATES = {
    SupervisorStatus.STARTING: "starting",
    SupervisorStatus.ACTIVE: "active",
    SupervisorStatus.DEGRADED: "degraded",
    SupervisorStatus.STOPPING: "stopping",
    SupervisorStatus.FAILED: "failed",
}


class Supervisor(StackNode):
    """The node; its work is done by `run` in a thread of its own."""

    def __init__(self) -> None:
        super().__init__("supervisor")
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._made_s = time.monotonic()
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
        self._transitions = Transitions(self, self.conditions, lambda: self.settings, self._stopping)
        self._rivals = Rivals(self.context.get_domain_id(), self.get_namespace(), self.conditions)
        self._retry = threading.Event()
        self._state, self._failure = SupervisorStatus.STARTING, ""
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
            self._rivals.give_way()
        self._rivals.take_place()
        for managed in self._managed.values():
            self._transitions.await_process(managed)
            self._rivals.give_way()
            self._transitions.step(managed, "configure", self.settings.configure_timeout_s)
        for managed in self._managed.values():
            self._transitions.step(managed, "activate")
        if self._stopping.is_set():
            return
        self._become(SupervisorStatus.ACTIVE)
        notify(READY)
        note = f"; {self.settings.note}" if self.settings.note else ""
        self.get_logger().info(f"ready: all nodes are active{note}")
        while not self._stopping.wait(0.05):
            if self._retry.is_set():
                self._retry.clear()
                self._try_again()
            for managed in self._managed.values():
                self._watch(managed)
            if self._state != SupervisorStatus.ACTIVE and self._all_well():
                self._become(SupervisorStatus.ACTIVE)
                self.get_logger().info("all nodes are active again; the task that ran is not resumed")

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
                self._transitions.take_to(each, "unconfigured")

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
                    self._transitions.step(managed, "deactivate", left, stopping=True)

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
                    self._transitions.step(managed, "deactivate")
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
            self._transitions.take_to(managed, "unconfigured")
            self._transitions.latch(managed)
        self._transitions.take_to(managed, "active")
        managed.idled = False

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
                self._rivals.hear(values)
            managed = self._by_full_name.get(status.name)
            if managed is not None:
                other = managed.heard(values, status.level, status.message)
                self._rivals.stranger(managed.name, other)

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
            return "; ".join([self._transitions.waits_for, *because])
        said = [m.says(self._retry_name(), starts_again()) for m in self._managed.values()]
        if self._state == SupervisorStatus.ACTIVE and not any(said):
            return self.settings.note
        return "; ".join(filter(None, said))

    def _report(self) -> None:
        """On `diagnostics`, on `~/status` when something changed, and to whoever started this process."""
        self._rivals.forget()
        name, text = _STATES[self._state], self._message()
        lost = any(managed.lost for managed in self._managed.values()) or self._failure
        status = DiagnosticStatus(name=self.get_fully_qualified_name())
        status.hardware_id = hardware_id(self.settings.robot, self.get_namespace())
        degraded = self._state == SupervisorStatus.DEGRADED
        status.level = (
            DiagnosticStatus.ERROR if lost else DiagnosticStatus.WARN if degraded else DiagnosticStatus.OK
        )
        status.message = text or name
        status.values = [KeyValue(key="state", value=name)]
        status.values += [KeyValue(key=key, value=value) for key, value in self._rivals.identity.items()]
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
