"""Stack, supervisor and base node together: small lifecycle nodes in real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rclpy
from lifecycle_msgs.srv import ChangeState
from paths import HELPERS
from std_srvs.srv import Trigger

from physai_lab.stack.bringup import Stack, StackError
from physai_ros.graph import Graph, NodeSpec, with_supervisor

pytestmark = pytest.mark.ros

DUMMY = (sys.executable, str(HELPERS / "dummy_node.py"))


def graph(**failures: str) -> Graph:
    def node(name: str, **more: object) -> NodeSpec:
        parameters = {"fail": failures[name]} if name in failures else {}
        return NodeSpec(name, name, parameters, command=DUMMY, **more)  # type: ignore[arg-type]

    return with_supervisor(
        Graph(
            (
                node("sim"),
                node("control", latched_on_loss=True, renewed_with=("sim",)),
                node("policy", idle_on_loss=True),
            ),
            namespace="arm",
        ),
        {"heartbeat_timeout_s": 2.0},
    )


class Log:
    """What the processes print, in order."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def __call__(self, name: str, line: str) -> None:
        self.lines.append((name, line))

    def index(self, name: str, text: str, start: int = 0) -> int:
        """Where `name` says `text` first, or -1."""
        for i, (who, line) in enumerate(self.lines[start:], start):
            if who == name and text in line:
                return i
        return -1

    def wait(self, name: str, text: str, start: int = 0, timeout_s: float = 20.0) -> int:
        deadline = time.monotonic() + timeout_s
        while (i := self.index(name, text, start)) < 0:
            assert time.monotonic() < deadline, f"{name} did not say {text!r}: {self.lines}"
            time.sleep(0.02)
        return i


@pytest.fixture(autouse=True)
def own_domain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tests must not meet another stack on the same machine."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(20 + os.getpid() % 70))
    yield


@pytest.fixture
def log() -> Log:
    return Log()


def gone(pids: list[int]) -> bool:
    """Whether these processes have ended; who inherited one from a dead parent may collect it later."""

    def ended(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    return all(map(ended, pids))


def wait_for(true: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def call(context: Any, kind: Any, name: str, request: Any) -> Any:
    """The answer of a service."""
    node = rclpy.create_node("operator", context=context)
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        client = node.create_client(kind, name)
        assert client.wait_for_service(timeout_sec=20.0)
        future = client.call_async(request)
        executor.spin_until_future_complete(future, timeout_sec=20.0)
        return future.result()
    finally:
        executor.shutdown()
        node.destroy_node()


def ask(context: Any, name: str) -> Any:
    return call(context, Trigger, name, Trigger.Request())


def change(context: Any, node: str, transition: int) -> bool:
    request = ChangeState.Request()
    request.transition.id = transition
    return bool(call(context, ChangeState, f"{node}/change_state", request).success)


def segments() -> set[str]:
    return {p.name for p in Path("/dev/shm").glob("*fast*")}


def test_nodes_come_up_in_order_and_go_down_in_reverse(log: Log) -> None:
    before = segments()
    with Stack(graph(), log) as stack:
        stack.wait_ready()
        pids = [stack.pid(spec.name) for spec in stack.graph.nodes]
        took = stack.stop()
    up = [log.index("sim", "set up"), log.index("control", "set up"), log.index("policy", "set up")]
    up += [log.index("sim", "started"), log.index("control", "started"), log.index("policy", "started")]
    assert min(up) >= 0
    names = ("policy", "control", "sim")
    assert all(log.index(name, "stopped") > max(up) for name in names)
    assert all(log.index(name, "torn down") > log.index(name, "stopped") for name in names)
    assert took < 10.0  # 3 s where nothing else is busy
    assert gone(pids)
    assert segments() <= before


def test_a_node_that_hangs_does_not_hold_the_stop_up(log: Log) -> None:
    with Stack(graph(control="hang_on_stop"), log) as stack:
        stack.wait_ready()
        pids = [stack.pid(spec.name) for spec in stack.graph.nodes]
        assert stack.stop() < 10.0
    assert gone(pids)


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        ("setup", "control ended with code 78: there is no camera 'left'; there are: overview, wrist"),
        ("bug", "control ended with code 78: KeyError: 'left'"),
        ("start", "control could not activate: cannot be activated: no power"),
        ("sideways", "control ended with code 78: parameter fail.* must be one of"),
    ],
)
def test_a_node_that_cannot_start_ends_the_stack_with_its_reason(
    log: Log, failure: str, message: str
) -> None:
    with Stack(graph(control=failure), log) as stack, pytest.raises(StackError) as error:
        stack.wait_ready()
    text = str(error.value)
    # Whichever of node and supervisor says it first.
    import re

    assert re.search(message.split(": ", 1)[1], text), text
    assert "control" in text
    assert "\n" not in text
    assert error.value.exit_code == (1 if failure == "start" else 78)


def test_a_program_that_is_not_there() -> None:
    missing = Graph((NodeSpec("x", "x", command=("/nonexistent/program",)),))
    with pytest.raises(StackError, match="x could not be started"), Stack(missing):
        pass


def test_a_lost_node_is_set_up_again_and_motion_is_not_resumed(log: Log) -> None:
    with Stack(graph(), log) as stack:
        stack.wait_ready()
        start = len(log.lines)
        killed = stack.pid("control")
        os.kill(killed, signal.SIGKILL)
        # By its end, not after the heartbeat's timeout.
        log.wait("supervisor", f"control is lost: process {killed} ended", start)
        log.wait("policy", "stopped", start)
        log.wait("supervisor", "all nodes are active again; the task that ran is not resumed", start)
        assert stack.starts["control"] == 2
        # The simulator's loss renews the controller that was attached to it.
        start = len(log.lines)
        os.kill(stack.pid("sim"), signal.SIGKILL)
        torn_down = log.wait("control", "torn down", start)
        assert log.wait("control", "set up", start) > torn_down
        log.wait("supervisor", "all nodes are active again", start)


def test_a_second_stack_in_the_same_place_is_refused_and_does_not_touch_the_first(log: Log) -> None:
    second_log = Log()
    with Stack(graph(), log) as first:
        first.wait_ready()
        with Stack(graph(), second_log) as second, pytest.raises(StackError) as refusal:
            second.wait_ready()
        assert "another stack runs here already" in str(refusal.value)
        assert f"process {first.pid('supervisor')} on" in str(refusal.value)
        assert "namespace /arm" in str(refusal.value) and refusal.value.exit_code == 1
        time.sleep(1.0)  # for what its end might do to the first
        assert log.index("supervisor", "lost") < 0 and first.status == "active"
    names = ("sim", "control", "policy")
    assert [sum(line.endswith("set up") for who, line in log.lines if who == name) for name in names] == [
        1
    ] * 3
    assert not any("set up" in line for _, line in second_log.lines)


def test_a_controller_that_was_lost_starts_latched_or_not_at_all(log: Log) -> None:
    with Stack(graph(), log) as stack:
        stack.wait_ready()
        assert log.index("control", "started process") < 0
        first = stack.pid("control")
        os.kill(first, signal.SIGKILL)
        log.wait("supervisor", "all nodes are active again")
        assert (
            log.index("control", f"started process {first} was lost, and with it whether a stop was latched")
            > 0
        )
        # Only the loss of its own process makes it forget.
        start = len(log.lines)
        os.kill(stack.pid("policy"), signal.SIGKILL)
        log.wait("supervisor", "all nodes are active again", start)
        assert log.index("control", "torn down", start) < 0


def test_a_lost_controller_that_cannot_latch_is_not_activated(log: Log) -> None:
    with Stack(graph(control="never_latched"), log) as stack:
        stack.wait_ready()
        start = len(log.lines)
        os.kill(stack.pid("control"), signal.SIGKILL)
        log.wait(
            "supervisor",
            "control could not be set up again: control refused to start latched: it has no latch",
            start,
        )
        time.sleep(1.0)
        assert log.index("control", "started", start) < 0
        assert log.index("supervisor", "active again", start) < 0


def test_a_frozen_node_is_lost_too(log: Log) -> None:
    with Stack(graph(), log) as stack:
        stack.wait_ready()
        os.kill(stack.pid("control"), signal.SIGSTOP)
        try:
            log.wait("supervisor", "control hangs: no heartbeat", timeout_s=20.0)
            log.wait("policy", "stopped")
            wait_for(lambda: "control hangs: its process" in stack.status)
        finally:
            os.kill(stack.pid("control"), signal.SIGCONT)
        log.wait("supervisor", "control is back (it hung)")  # and no restart was spent
        log.wait("supervisor", "all nodes are active again")


def test_a_node_that_stays_frozen_is_started_again_when_a_person_asks(
    log: Log, ros_context: Callable[[], object]
) -> None:
    with Stack(graph(), log) as stack:
        stack.wait_ready()
        frozen = stack.pid("policy")
        os.kill(frozen, signal.SIGSTOP)
        log.wait("supervisor", "policy hangs")
        assert ask(ros_context(), "/arm/supervisor/retry").success
        log.wait("supervisor", "active again")
        assert gone([frozen]) and stack.starts["policy"] == 2


def test_what_is_taken_down_by_hand_is_said_and_left_and_its_return_is_mended(
    log: Log, ros_context: Callable[[], object]
) -> None:
    with Stack(graph(), log) as stack:
        stack.wait_ready()
        context = ros_context()
        for transition in (4, 2):  # deactivate, clean up
            assert change(context, "/arm/sim", transition)
        log.wait("supervisor", "somebody took it there by hand")
        wait_for(lambda: stack.status.startswith("degraded: sim is unconfigured"))
        assert "supervisor/retry" in stack.status
        time.sleep(1.0)
        assert log.index("supervisor", "active again") < 0  # it is not undone behind anybody's back
        start = len(log.lines)
        for transition in (1, 3):  # configure, activate
            assert change(context, "/arm/sim", transition)
        torn_down = log.wait("control", "torn down", start)  # it was attached to what is gone
        assert log.wait("control", "set up", start) > torn_down
        log.wait("supervisor", "all nodes are active again", start)
        # And when a person asks the supervisor to do it.
        assert change(context, "/arm/policy", 4)
        wait_for(lambda: "policy is inactive" in stack.status)
        assert ask(context, "/arm/supervisor/retry").success
        wait_for(lambda: stack.status == "active")


@pytest.mark.slow
def test_a_node_is_restarted_at_most_three_times_and_when_a_person_asks(
    log: Log, ros_context: Callable[[], object]
) -> None:
    with Stack(graph(), log) as stack:
        stack.wait_ready()
        for n in range(1, 4):
            start = len(log.lines)
            os.kill(stack.pid("policy"), signal.SIGKILL)
            log.wait("supervisor", f"policy is back (restart {n} of 3)", start)
            log.wait("supervisor", "active again", start)
        os.kill(stack.pid("policy"), signal.SIGKILL)
        log.wait("policy", "started 4 times; started again in")
        log.wait("supervisor", "given up after 3 restarts within 600 s")
        assert stack.alive("control")
        wait_for(lambda: "ros2 service call /arm/supervisor/retry" in stack.status)
        # A person asks for another try: the process is started at once and everything set up.
        start = len(log.lines)
        answer = ask(ros_context(), "/arm/supervisor/retry")
        assert answer.success and "policy" in answer.message
        log.wait("supervisor", "active again", start)
        wait_for(lambda: stack.status == "active")
        assert stack.starts["policy"] == 5
        assert ask(ros_context(), "/arm/supervisor/retry").message == "nothing to do: every node is active"


def test_nothing_outlives_a_killed_starter() -> None:
    program = (
        f"import sys, time; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from physai_lab.stack.bringup import Stack\n"
        "from physai_ros.graph import Graph, NodeSpec, with_supervisor\n"
        f"spec = NodeSpec('x', 'control', command={DUMMY!r})\n"
        "with Stack(with_supervisor(Graph((spec,)))) as stack:\n"
        "    stack.wait_ready()\n"
        "    print(stack.pid('control'), stack.pid('supervisor'), flush=True)\n"
        "    time.sleep(60)\n"
    )
    starter = subprocess.Popen([sys.executable, "-P", "-c", program], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    pids = [int(pid) for pid in starter.stdout.readline().split()]
    assert len(pids) == 2
    starter.kill()
    starter.wait()
    deadline = time.monotonic() + 20.0  # nobody is left who would end them
    while not gone(pids):
        assert time.monotonic() < deadline, f"of {pids} some run on"
        time.sleep(0.05)


def test_stop_is_forwarded_to_control(log: Log, ros_context: Callable[[], object]) -> None:
    with Stack(graph(), log) as stack:
        stack.wait_ready()
        answers = {name: ask(ros_context(), f"/arm/supervisor/{name}") for name in ("stop", "resume")}
    assert answers["stop"].success
    assert answers["stop"].message == "control stopped"
    assert not answers["resume"].success  # the dummy has no such service
    assert "control does not answer" in answers["resume"].message


@pytest.fixture
def ros_context(own_domain: None) -> Iterator[Callable[[], object]]:
    contexts = []

    def make() -> object:
        context = rclpy.Context()
        # A context reads the environment's domain when it is made.
        rclpy.init(context=context, domain_id=int(os.environ["ROS_DOMAIN_ID"]))
        contexts.append(context)
        return context

    yield make
    for context in contexts:
        context.try_shutdown()
