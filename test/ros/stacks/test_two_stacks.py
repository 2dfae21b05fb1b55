"""Two robots in one ROS domain, told apart by their namespace alone: both work at the same time."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from topic_graph import disagreements

from physai_base.values import ControlState
from physai_lab.stack.bringup import Stack, join_stack
from physai_ros import place
from physai_ros.ending import leave_graph
from physai_ros.graph import bringup_graph

pytestmark = [pytest.mark.ros, pytest.mark.slow]

ARMS = ("arm1", "arm2")
TASK = "put the red cup on the top shelf"


class Operator:
    """Somebody who looks at both arms."""

    def __init__(self) -> None:
        import rclpy
        from rclpy.action import ActionClient
        from rclpy.executors import SingleThreadedExecutor

        from physai.action import ExecuteTask
        from physai_ros import topics

        rclpy.init(args=[])
        self.node = rclpy.create_node("operator")
        self.time_s: dict[str, float] = {}
        self.set_back: list[str] = []
        self.control: dict[str, Any] = {}
        self.arms: dict[str, Any] = {}
        for arm in ARMS:
            topics.hear(self.node, f"/{arm}/clock", lambda m, arm=arm: self._on_clock(arm, m))
            topics.hear(self.node, f"/{arm}/control/status", lambda m, arm=arm: self.control.update({arm: m}))
            self.arms[arm] = ActionClient(self.node, ExecuteTask, f"/{arm}/execute_task")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        import rclpy

        with contextlib.suppress(rclpy.executors.ExternalShutdownException):
            self.executor.spin()

    def _on_clock(self, arm: str, message: Any) -> None:
        seconds = message.clock.sec + message.clock.nanosec * 1e-9
        if seconds < self.time_s.get(arm, 0.0):
            self.set_back.append(f"{arm}: from {self.time_s[arm]} to {seconds}")
        self.time_s[arm] = seconds

    def until(self, condition: Callable[[], Any], timeout_s: float, what: str) -> Any:
        deadline = time.monotonic() + timeout_s
        while not (value := condition()):
            assert time.monotonic() < deadline, what
            time.sleep(0.05)
        return value

    def nodes_on(self, topic: str) -> set[str]:
        """Who publishes a topic."""
        found = self.node.get_publishers_info_by_topic(topic)
        return {f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in found}

    def names_are_known(self) -> bool:
        """Whether discovery has told the names of all who are on the clocks."""
        ask = (self.node.get_publishers_info_by_topic, self.node.get_subscriptions_info_by_topic)
        found = [info for arm in ARMS for each in ask for info in each(f"/{arm}/clock")]
        return not any("UNKNOWN" in info.node_name for info in found)

    def send(self, arm: str, text: str) -> Any:
        from physai.action import ExecuteTask

        assert self.arms[arm].wait_for_server(timeout_sec=20.0)
        future = self.arms[arm].send_goal_async(ExecuteTask.Goal(instruction=text, timeout=60.0))
        self.until(future.done, 30.0, f"{arm} answers")
        assert future.result().accepted
        return future.result().get_result_async()

    def close(self) -> None:
        for client in self.arms.values():
            client.destroy()
        self.executor.shutdown()
        leave_graph(self.node, self._thread)


@pytest.fixture(scope="module")
def operator() -> Iterator[Operator]:
    """Both stacks, up, and somebody beside them."""
    join_stack()
    with contextlib.ExitStack() as held:
        stacks = [
            held.enter_context(
                Stack(
                    bringup_graph(namespace=arm), lambda name, line, arm=arm: print(f"[{arm} {name}] {line}")
                )
            )
            for arm in ARMS
        ]
        for stack in stacks:
            stack.wait_ready(180.0)
        someone = Operator()
        held.callback(someone.close)
        yield someone


def test_each_stack_has_its_own_time_memory_and_names(operator: Operator) -> None:
    operator.until(lambda: len(operator.time_s) == 2, 30.0, "both clocks run")
    # Data may come before the names of who sends and hears it.
    operator.until(operator.names_are_known, 30.0, "the names of who is on the clocks")
    for arm in ARMS:
        assert operator.nodes_on(f"/{arm}/clock") == {f"/{arm}/sim"}
        listeners = operator.node.get_subscriptions_info_by_topic(f"/{arm}/clock")
        assert {i.node_namespace for i in listeners if i.node_name != "operator"} == {f"/{arm}"}
        memory = place.shared_memory_name("physai_fr3", int(os.environ.get("ROS_DOMAIN_ID", "0")), arm)
        assert Path("/dev/shm", memory).exists()
    assert not operator.nodes_on("/clock")
    # Nothing but what is ROS's or meant for all is outside of the two namespaces.
    shared = ("/parameter_events", "/rosout", "/diagnostics", "/tf", "/tf_static")
    topics, services = operator.node.get_topic_names_and_types, operator.node.get_service_names_and_types
    inside = tuple(f"/{arm}/" for arm in ARMS)

    def outside() -> set[str]:
        names = {name for name, _ in topics() if name not in shared} | {name for name, _ in services()}
        return {name for name in names if not name.startswith((*inside, "/operator/"))}

    with contextlib.suppress(AssertionError):  # of a test before this one some may be left for a while
        operator.until(lambda: not outside(), 30.0, "nobody else is there")
    assert outside() == set()
    with contextlib.suppress(AssertionError):
        operator.until(lambda: not disagreements(operator.node, ("operator",)), 10.0, "the graph")
    assert disagreements(operator.node, ("operator",)) == []


def test_two_arms_do_their_tasks_at_the_same_time(operator: Operator) -> None:
    running = {arm: operator.send(arm, TASK) for arm in ARMS}
    operator.until(
        lambda: all(
            arm in operator.control and operator.control[arm].state == ControlState.TRACK for arm in ARMS
        ),
        60.0,
        "both arms move in the same moment",
    )
    for arm, result in running.items():
        operator.until(result.done, 200.0, f"{arm} ends")
        assert result.result().result.success, (arm, result.result().result.message)
    assert operator.set_back == []
