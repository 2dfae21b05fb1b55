"""The base of every layer's node: a ROS 2 lifecycle node whose subclass says what to do and raises when it cannot.

    class PerceptionNode(PhysaiNode[PerceptionParameters]):
        name = "perception"
        parameters_type = PerceptionParameters

        def setup(self): ...      # configure: read self.parameters, create publishers, subscriptions, threads
        def start(self): ...      # activate
        def stop(self): ...       # deactivate
        def teardown(self): ...   # cleanup, shutdown, or after a failed setup: end threads, close devices

What setup() creates with create_subscription, create_timer, create_service, create_client and
create_publisher is destroyed by the base. No callback runs any more when teardown() begins.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import inspect
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar, cast

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from rclpy.time import Time

from physai_base.errors import PhysaiError
from physai_ros import parameters as ros_parameters
from physai_ros import place, topics
from physai_ros.conditions import Conditions
from physai_ros.ending import StopSignals, exit_after, exit_now, leave_graph, orphaned
from physai_ros.environment import said_by_ros
from physai_ros.executor import CachingExecutor
from physai_ros.graph import hardware_id

P = TypeVar("P")
F = TypeVar("F", bound=Callable[..., Any])

HEARTBEAT_PERIOD_S = 0.2
STUCK_S = 2.0  # a callback that takes longer silences the heartbeat,
LONG_PHASES = ("configuring", "activating")  # but in these, which may load for minutes
DIAGNOSTICS = (
    "/diagnostics"  # absolute, as diagnostic_aggregator and rqt have it (REP 107); names tell robots apart
)
EXIT_CONFIGURATION = 78
"""Exit code of a node that could not be configured: starting it again would not help (EX_CONFIG)."""
EXIT_DEADLINE_S = 1.2  # for stop() and teardown() after a signal
TRANSITION_DEADLINE_S = 1.0  # of it, for a transition that a signal breaks off
EXIT_SIGNALLED = 128  # plus the signal's number: exit code of a node that was broken off while it came up
LEAVE_DEADLINE_S = 0.5  # for leaving the ROS graph in order after that
LAST_DEADLINE_S = (
    4.0  # for all of it, where a library that holds Python's lock keeps even our timers from running
)
THROTTLE_S = 1.0


class Interrupted(PhysaiError):
    """The process was asked to end while something was set up or waited for."""


def _exclusive(transition: F) -> F:
    """Nothing is torn down under a transition."""

    @functools.wraps(transition)
    def run(self: PhysaiNode[Any], *arguments: Any) -> Any:
        with self._transition:
            return transition(self, *arguments)

    return cast("F", run)


class PhysaiNode(LifecycleNode, Generic[P]):
    """A lifecycle node with typed parameters, diagnostics as its heartbeat and one tear-down."""

    name: ClassVar[str]
    parameters_type: ClassVar[type[Any]]
    executor_threads: ClassVar[int] = 1
    """More than one for a node whose callbacks wait; a waiting coroutine needs none."""

    fixed_parameters: ClassVar[tuple[str, ...]] = ()
    """Those that are read when the process starts: setting them later is refused."""

    parameters: P
    """The parameters as they were when the node was configured."""

    def __init__(self, **arguments: Any) -> None:
        self._started_ns = time.monotonic_ns()
        self.steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        self.ended = threading.Event()
        self.exit_code = 0
        self._configured = self._active = False
        self._phase = "unconfigured"
        self._error = ""
        self._refusal = ""  # why the last activation failed; stays where report_ok() takes an error back
        self._reason = ""
        self._interrupted = threading.Event()
        self._transition = threading.RLock()  # held by one at a time: a transition, or the end of the process
        self._beating = threading.Event()
        self._callbacks_in_flight = 0
        self._callbacks_allowed = True
        self._callbacks_condition = threading.Condition()
        self._throttled: dict[int, tuple[float, int]] = {}
        self.conditions = Conditions(
            warn=lambda text: self.get_logger().warning(text),
            fail=lambda text: self.get_logger().error(text),
            tell=lambda text: self.get_logger().info(text),
        )
        self._constructed = False
        super().__init__(self.name, **arguments)
        self._constructed = True
        ros_parameters.declare(self, self.parameters_type)
        self.add_on_set_parameters_callback(self._check_parameters)
        self._diagnostics = topics.advertise(self, DIAGNOSTICS)
        self._turned_s = time.monotonic()
        super().create_timer(STUCK_S / 4, self._turn, clock=self.steady_clock)  # as long as the node exists
        threading.Thread(target=self._beat_on, name="heartbeat", daemon=True).start()
        self._reserved = frozenset(vars(self))

    # What a subclass implements.

    def setup(self) -> None:
        """Configure; raise to refuse."""

    def start(self) -> None:
        """Activate; raise to refuse."""

    def stop(self) -> None:
        """Deactivate."""

    def teardown(self) -> None:
        """Release what setup() took; setup() may not have finished."""

    # What a subclass may call.

    def report_error(self, reason: str) -> None:
        """Show an error on `diagnostics` until report_ok()."""
        if reason != self._error:
            self._error = reason
            self._warn(reason, sys._getframe(1).f_lineno)

    def report_ok(self) -> None:
        """Take back what report_error() said."""
        self._error = ""

    def ros_time_ns(self) -> int:
        """Now, in the time of all header stamps: on a robot wall time, with a simulator the simulated one."""
        return self.get_clock().now().nanoseconds

    def warn_throttled(self, text: str) -> None:
        """Log a warning, at most once a second from one line of code."""
        self._warn(text, sys._getframe(1).f_lineno)

    def go_on(self) -> None:
        """Call it between long steps of setup() and start().

        Raises:
            Interrupted: the process was asked to end meanwhile.
        """
        if self._interrupted.is_set():
            raise Interrupted(f"interrupted while {self._phase}")

    def wait_until(
        self, reached: Callable[[], bool], timeout_s: float, name: str = "", text: str = ""
    ) -> bool:
        """Whether it came true in time, on the steady clock; with a name it is a condition meanwhile.

        Raises:
            Interrupted: the process was asked to end meanwhile.
        """
        deadline = time.monotonic() + timeout_s
        with self.conditions.during(name, text) if name else contextlib.nullcontext():
            while not reached():
                self.go_on()
                if time.monotonic() > deadline:
                    return False
                self._interrupted.wait(0.005)
        return True

    def fail(self, reason: str) -> None:
        """End this process: something broke that the node cannot mend. May be called from any thread."""
        self._end(1, reason)

    # Transitions.

    @_exclusive
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters and set up; a refusal ends the process, with its reason."""
        if self._interrupted.is_set():
            return TransitionCallbackReturn.FAILURE
        self._phase = "configuring"
        self._permanent = {id(entity) for entity in self._entities()}
        self._callbacks_allowed = True
        try:
            self.parameters = ros_parameters.read(self, self.parameters_type)
            inherited = dict(vars(self))
            self.setup()
            self._check_overwritten(inherited)
            self.go_on()
        except Exception as error:
            if self._interrupted.is_set():  # whatever it is: parts of the node may be gone already
                with contextlib.suppress(Exception):
                    self._close(quietly=True)
                return TransitionCallbackReturn.FAILURE
            self._error = self._describe(error)
            self._close(quietly=True)
            self._phase = "unconfigured"
            self._beat()
            self._end(EXIT_CONFIGURATION, self._error)
            return TransitionCallbackReturn.FAILURE
        self._configured = True
        self._phase = "inactive"
        return TransitionCallbackReturn.SUCCESS

    @_exclusive
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start; a refusal leaves the node inactive."""
        if self._interrupted.is_set():
            return TransitionCallbackReturn.FAILURE
        self._phase, self._refusal = "activating", ""
        try:
            result = super().on_activate(state)
            self.start()
        except Exception as error:
            if self._interrupted.is_set():
                return TransitionCallbackReturn.FAILURE
            self._phase = "inactive"
            self._refusal = f"cannot be activated: {self._describe(error)}"
            self.get_logger().error(self._refusal)
            self._beat()  # whoever asked has the reason before the answer
            return TransitionCallbackReturn.FAILURE
        self._active = True
        self._phase = "active"
        return result

    @_exclusive
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop."""
        self._stop()
        return super().on_deactivate(state)

    @_exclusive
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Tear down; the node can be configured again."""
        self.close()
        self._phase = "unconfigured"
        return TransitionCallbackReturn.SUCCESS

    @_exclusive
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop, tear down and end the process."""
        self.close()
        self._phase = "finalized"
        self._end(0, "")
        return TransitionCallbackReturn.SUCCESS

    @_exclusive
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Tear down after an error in a transition; the node can be configured again."""
        self.close()
        self._phase = "unconfigured"
        return TransitionCallbackReturn.SUCCESS

    def close(self, ending: bool = False) -> None:
        """Stop and tear down, each at most once for one setup(); `ending`: the process is about to end.

        A transition that runs in another thread is broken off, and waited for: nothing is released under it. One that
        does not come back in time keeps what it has; the process then ends with it.
        """
        if ending:
            self._interrupted.set()
        if not self._transition.acquire(timeout=TRANSITION_DEADLINE_S):
            return
        try:
            self._stop()
            if self._configured:
                self._configured = False
                self._refusal = ""
                self._close(quietly=False, ending=ending)
        finally:
            self._transition.release()

    @property
    def coming_up(self) -> bool:
        """Whether the node is being made, configured or activated."""
        return not self._constructed or self._phase in LONG_PHASES

    # Callbacks are counted, so that none still runs when what it uses is torn down.

    def create_subscription(self, msg_type: Any, topic: str, callback: Any, *rest: Any, **named: Any) -> Any:
        """As in rclpy; the callback does not run once teardown() has begun."""
        self.go_on()
        return super().create_subscription(
            msg_type, place.in_place(topic), self._counted(callback), *rest, **named
        )

    def create_publisher(self, *arguments: Any, **named: Any) -> Any:
        """As in rclpy."""
        self.go_on()
        return super().create_publisher(*arguments, **named)

    def create_client(self, *arguments: Any, **named: Any) -> Any:
        """As in rclpy."""
        self.go_on()
        return super().create_client(*arguments, **named)

    def create_timer(self, timer_period_sec: float, callback: Any, *rest: Any, **named: Any) -> Any:
        """As in rclpy; the callback does not run once teardown() has begun."""
        self.go_on()
        return super().create_timer(timer_period_sec, self._counted(callback), *rest, **named)

    def create_service(self, srv_type: Any, srv_name: str, callback: Any, *rest: Any, **named: Any) -> Any:
        """As in rclpy; a request that comes once teardown() has begun gets an empty answer."""
        self.go_on()
        return super().create_service(srv_type, srv_name, self._counted(callback, answer=1), *rest, **named)

    def _counted(self, callback: Callable[..., Any], answer: int | None = None) -> Callable[..., Any]:
        if not self._constructed:
            return callback  # what rclpy's own node makes serves as long as the node exists
        if inspect.iscoroutinefunction(callback):

            @functools.wraps(callback)
            async def run_coroutine(*arguments: Any) -> Any:
                with self._callbacks_condition:
                    if not self._callbacks_allowed:
                        return None if answer is None else arguments[answer]
                return await callback(*arguments)

            return run_coroutine

        @functools.wraps(callback)
        def run(*arguments: Any) -> Any:
            with self._callbacks_condition:
                if not self._callbacks_allowed:
                    return None if answer is None else arguments[answer]
                self._callbacks_in_flight += 1
            try:
                return callback(*arguments)
            finally:
                with self._callbacks_condition:
                    self._callbacks_in_flight -= 1
                    self._callbacks_condition.notify_all()

        return run

    def _check_overwritten(self, inherited: dict[str, Any]) -> None:
        """rclpy keeps its state in plain attributes (`_clock`, `_parameters`, …), which a subclass may hit unawares."""
        ours = (
            "_error",
            "_phase",
            "_turned_s",
            "_active",
            "_reason",
            "_callbacks_in_flight",
            "_callbacks_allowed",
            "exit_code",
        )
        for name in self._reserved.difference(ours):
            if vars(self).get(name) is not inherited.get(name):
                raise TypeError(f"setup() overwrites the node's attribute {name}; give it another name")

    def _stop(self) -> None:
        if not self._active:
            return
        self._active = False
        self._phase = "inactive"
        try:
            self.stop()
        except Exception as error:
            self.get_logger().error(f"stop: {self._describe(error)}")
        self.conditions.end()

    def _close(self, quietly: bool, ending: bool = False) -> None:
        with self._callbacks_condition:
            self._callbacks_allowed = False
        if not ending:
            self._destroy(lambda entity: not isinstance(entity, rclpy.publisher.Publisher))
        with self._callbacks_condition:
            self._callbacks_condition.wait_for(lambda: not self._callbacks_in_flight, timeout=0.5)
        try:
            self.teardown()
        except Exception as error:
            # After a setup() that broke off, teardown() may miss what was never made.
            if not quietly:
                self.get_logger().error(f"teardown: {self._describe(error)}")
        self.conditions.end()
        # Threads of the node may publish until teardown() has ended them. A process that ends leaves the rest to
        # its context: taking entities down one by one can take the middleware a second when a peer was killed.
        if not ending:
            self._destroy(lambda entity: True)

    def _entities(self) -> list[Any]:
        return [*self.publishers, *self.subscriptions, *self.timers, *self.services, *self.clients]

    def _destroy(self, chosen: Callable[[Any], bool]) -> None:
        for entity in self._entities():
            if id(entity) in self._permanent or not chosen(entity):
                continue
            for destroy in (
                self.destroy_publisher, self.destroy_subscription, self.destroy_timer, self.destroy_service, self.destroy_client,
            ):  # fmt: skip
                with contextlib.suppress(ValueError):
                    if destroy(entity):  # type: ignore[operator]
                        break

    def _check_parameters(self, changed: list[Parameter[Any]]) -> SetParametersResult:
        import dataclasses

        own = {item.name: item.metadata for item in dataclasses.fields(self.parameters_type)}
        for parameter in changed:
            if parameter.name not in own:
                continue
            if parameter.name in self.fixed_parameters:
                return SetParametersResult(
                    successful=False,
                    reason=f"{parameter.name} is read when the process starts; give it to a new one",
                )
            if self._configured:
                return SetParametersResult(
                    successful=False,
                    reason=f"{parameter.name} is read when the node is configured; clean it up first",
                )
            value = tuple(parameter.value) if isinstance(parameter.value, list) else parameter.value
            reason = ros_parameters.reason_against(value, own[parameter.name])
            if reason:
                return SetParametersResult(successful=False, reason=f"{parameter.name} {reason}")
        return SetParametersResult(successful=True)

    def destroy_node(self) -> None:
        """Leave the ROS graph."""
        self._beating.set()
        super().destroy_node()

    def _turn(self) -> None:
        self._turned_s = time.monotonic()

    def _beat_on(self) -> None:
        """In a thread: a transition keeps the executor busy, and only the executor being stuck shall show."""
        beating = self._beating
        while not beating.wait(HEARTBEAT_PERIOD_S):
            with contextlib.suppress(Exception):  # the node's parts go one by one when it leaves the graph
                if self._phase in LONG_PHASES or time.monotonic() - self._turned_s < STUCK_S:
                    self._beat()

    def _beat(self) -> None:
        message = DiagnosticArray()
        message.header.stamp = Time(nanoseconds=self.ros_time_ns()).to_msg()
        robot = str(self.get_parameter("robot").value) if self.has_parameter("robot") else ""
        status = DiagnosticStatus(name=self.get_fully_qualified_name())
        status.hardware_id = hardware_id(robot, self.get_namespace())
        error = self._refusal or self._error
        status.level = DiagnosticStatus.ERROR if error else DiagnosticStatus.OK
        status.message = error or self._phase
        values = {
            "state": self._phase,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "uptime_s": (time.monotonic_ns() - self._started_ns) // 10**9,
        }
        status.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        self.conditions.show_on(status)
        message.status = [status]
        with contextlib.suppress(Exception):  # the context may be gone when the process ends
            self._diagnostics.publish(message)

    def _warn(self, text: str, line: int) -> None:
        now = time.monotonic()
        last, hidden = self._throttled.get(line, (-THROTTLE_S, 0))
        if now - last < THROTTLE_S:
            self._throttled[line] = (last, hidden + 1)
            return
        self._throttled[line] = (now, 0)
        self.get_logger().warning(f"{text} ({hidden} more like this)" if hidden else text)

    def _describe(self, error: Exception) -> str:
        """One line for a user's mistake; for a defect of ours the traceback goes to the log."""
        if isinstance(error, PhysaiError):
            return str(error)
        import traceback

        self.get_logger().error("".join(traceback.format_exception(error)).rstrip())
        return f"{type(error).__name__}: {error}"

    def _end(self, code: int, reason: str) -> None:
        if not self.ended.is_set():
            self.exit_code, self._reason = code, reason
            self.ended.set()

    @property
    def phase(self) -> str:
        """Where it stands: a lifecycle state, or `configuring` and `activating` on the way there."""
        return self._phase

    @property
    def reason(self) -> str:
        """Why the process ends, empty when it was asked to."""
        return self._reason


def run_node(node_type: type[PhysaiNode[Any]], arguments: list[str] | None = None) -> None:
    """Run a node until SIGINT, SIGTERM or its own end, then exit: the `main` of every executable.

    The exit code is 0 after a signal; 130 (SIGINT) or 143 (SIGTERM) when that broke off its construction, configuration
    or activation; EXIT_CONFIGURATION when the node could not be configured and 1 when it failed. Where it is not 0, the
    last line on stderr is `physai <name>: <reason>`.
    """
    faulthandler.enable()  # a crash in a C library says where it came from
    stop = StopSignals()
    try:
        rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
        node = node_type()
    except (PhysaiError, rclpy.exceptions.ROSInterruptException) as error:
        rclpy.try_shutdown()
        exit_now(EXIT_CONFIGURATION, f"physai {node_type.name}: {error}")
    except Exception as error:
        if not (reason := said_by_ros(error)):
            raise
        exit_now(EXIT_CONFIGURATION, f"physai {node_type.name}: {reason}")
    broken_off = "constructing" if stop.is_set() else ""
    several = node.executor_threads > 1
    executor = MultiThreadedExecutor(num_threads=node.executor_threads) if several else CachingExecutor()
    executor.add_node(node)

    def spin() -> None:
        try:
            executor.spin()
        except ExternalShutdownException:
            pass
        except Exception as error:
            if not stop.is_set():
                node.fail(f"{type(error).__name__}: {error}")

    spinner = threading.Thread(target=spin, name="spin", daemon=True)
    if not broken_off:
        spinner.start()
    # In slices, because a signal wakes only the main thread, and only between them on some platforms.
    while not stop.is_set() and not node.ended.wait(0.05) and not orphaned():
        pass
    if stop.is_set() and node.coming_up:
        broken_off = node.phase
    code, reason = node.exit_code, node.reason
    if broken_off and not node.ended.is_set():
        code, reason = EXIT_SIGNALLED + stop.number, f"interrupted while {broken_off}"
    if code == EXIT_CONFIGURATION:
        time.sleep(0.3)  # for the answer to whoever asked, and the error on `diagnostics`
    last = f"physai {node.name}: {reason}" if reason else ""
    # Whatever hangs from here on, the process ends.
    faulthandler.dump_traceback_later(LAST_DEADLINE_S, exit=True)
    exit_after(
        EXIT_DEADLINE_S, code or 1, last or f"physai {node.name}: did not stop within {EXIT_DEADLINE_S:g} s"
    )
    # close() first: a callback that waits for the node to stop would hold the executor up.
    with contextlib.suppress(Exception):
        node.close(ending=True)
    exit_after(LEAVE_DEADLINE_S, code, last)
    leave_graph(node, spinner if spinner.ident else None)
    exit_now(code, last)
