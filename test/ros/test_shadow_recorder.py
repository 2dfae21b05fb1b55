"""The recorder of shadow mode in process: which tasks it gives the policy, and when it leaves the disk to others."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from mcap.reader import make_reader
from rclpy.action import ActionServer, CancelResponse
from rclpy.parameter import Parameter
from rclpy.task import Future

from physai.action import ExecuteTask
from physai.msg import Instruction, PolicyStatus
from physai_ros import qos
from physai_ros.executor import CachingExecutor
from physai_ros.recording import Recording
from physai_ros.shadow import ShadowRecorder

pytestmark = pytest.mark.ros
_domains = itertools.count(101 + os.getpid() % 30)


class Bench:
    """The recorder, active in /left/shadow, with a robot and a policy around it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=next(_domains))
        self.executor = CachingExecutor(context=self.context)
        self.robot = rclpy.create_node("robot", context=self.context, namespace="/left")
        self.instructions = self.robot.create_publisher(Instruction, "instruction", qos.ESTOP)
        self.mover = self.robot.create_publisher(PolicyStatus, "policy/status", qos.STATUS)
        self.events: list[str] = []  # of the policy
        self.ended: Future[None] = Future()
        self.said: list[str] = []
        self.robot.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.executor.add_node(self.robot)
        self.server: Any = None

    def start(self, least_free_mb: float = 0.0) -> None:
        overrides = [
            Parameter("recordings", value=str(self.folder)), Parameter("least_free_mb", value=least_free_mb),
        ]  # fmt: skip
        self.node = ShadowRecorder(
            context=self.context, namespace="/left/shadow", parameter_overrides=overrides
        )
        self.executor.add_node(self.node)
        self.thread = threading.Thread(target=self._spin, daemon=True)
        self.thread.start()
        self.node.trigger_configure()
        self.heard: list[str] = []  # of the mover
        status = self.node._task.status
        self.node._task.status = lambda *said: (self.heard.append(said[1]), status(*said))
        self.node.trigger_activate()
        self.until(lambda: self.instructions.get_subscription_count() == 4, "the recorder listens")
        self.until(lambda: self.mover.get_subscription_count() == 4, "to the mover as well")

    def _spin(self) -> None:
        with contextlib.suppress(rclpy.executors.ExternalShutdownException):
            self.executor.spin()

    def serve(self) -> None:
        """A policy comes."""
        self.policy = rclpy.create_node("policy", context=self.context, namespace="/left/shadow")
        self.server = ActionServer(
            self.policy, ExecuteTask, "execute_task", self._execute,
            cancel_callback=lambda handle: self._cancel(),
        )  # fmt: skip
        self.executor.add_node(self.policy)

    async def _execute(self, handle: Any) -> ExecuteTask.Result:
        self.events.append(f"begin {handle.request.instruction}")
        self.ended = Future(executor=self.executor)
        await self.ended
        self.events.append(f"end {handle.request.instruction}")
        if handle.is_cancel_requested:
            handle.canceled()
        else:
            handle.succeed()
        return ExecuteTask.Result(message="over")

    def _cancel(self) -> CancelResponse:
        ended = self.ended

        def end() -> None:
            timer.cancel()
            ended.set_result(None)

        timer = self.robot.create_timer(0.1, end)
        return CancelResponse.ACCEPT

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.said += [status.message for status in message.status]

    def instruct(self, text: str) -> None:
        self.instructions.publish(Instruction(text=text))

    def mover_says(self, state: int, text: str) -> None:
        """Returns when it was heard: between topics there is no order."""
        heard = len(self.heard)
        self.mover.publish(PolicyStatus(state=state, instruction=text))
        self.until(lambda: len(self.heard) > heard, "the recorder hears the mover")

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, f"{what}: {self.events}"
            time.sleep(0.01)

    def close(self) -> None:
        self.node.trigger_deactivate()
        self.node.trigger_cleanup()
        if self.server is not None:
            self.server.destroy()
        self.executor.shutdown()
        self.thread.join()
        self.context.try_shutdown()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def test_the_policy_is_at_the_task_of_whoever_moves_the_robot(bench: Bench) -> None:
    bench.start()
    bench.instruct("a")  # before the policy is there
    bench.serve()
    expected = ["begin a"]

    def expect(*events: str) -> None:
        expected.extend(events)
        bench.until(lambda: len(bench.events) >= len(expected), " ".join(events))
        assert bench.events == expected

    expect()
    bench.mover_says(PolicyStatus.RUNNING, "a")
    bench.instruct("b")
    expect("end a", "begin b")
    bench.mover_says(PolicyStatus.REFUSED, "b")
    bench.mover_says(PolicyStatus.RUNNING, "a")  # it was busy
    expect("end b", "begin a")
    bench.mover_says(PolicyStatus.SUCCEEDED, "a")
    expect("end a")
    bench.mover_says(PolicyStatus.SUCCEEDED, "a")
    bench.mover_says(PolicyStatus.RUNNING, "c")
    expect("begin c")
    bench.ended.set_result(None)  # the policy sees that it is done
    expect("end c")
    bench.mover_says(PolicyStatus.RUNNING, "c")  # and does not begin once more
    bench.instruct("d")
    expect("begin d")

    bench.node.trigger_deactivate()
    (path,) = bench.folder.glob("*.mcap")
    topics = [message.topic for message in Recording(path)]
    assert topics.count("/left/instruction") == 3
    assert topics.count("/left/policy/status") == 7


def test_the_moment_at_which_a_policy_asks_for_a_person_is_marked(bench: Bench) -> None:
    bench.start()
    bench.serve()
    bench.mover_says(PolicyStatus.RUNNING, "a")
    bench.until(lambda: bench.events == ["begin a"], "the shadow begins")
    for _ in range(2):  # once for each hand-over
        bench.mover_says(PolicyStatus.HANDOVER, "a")
    bench.mover_says(PolicyStatus.RUNNING, "a")
    bench.mover_says(PolicyStatus.HANDOVER, "a")
    assert bench.events == ["begin a"]  # the task has not ended

    bench.node.trigger_deactivate()
    (path,) = bench.folder.glob("*.mcap")
    with path.open("rb") as file:
        marks = [mark.metadata for mark in make_reader(file).iter_metadata() if mark.name == "handover"]
    assert [mark["policy"] for mark in marks] == ["mover", "mover"]
    assert marks[0]["instruction"] == "a" and marks[0]["stamp_ns"].isdigit()


def test_the_disk_is_left_to_others(bench: Bench) -> None:
    bench.start(least_free_mb=1e6)
    bench.until(lambda: any("recording ended early" in text for text in bench.said), "diagnostics say so")
    assert any("limit 1e+06 MB" in text for text in bench.said)
    (path,) = bench.folder.iterdir()
    assert path.name.endswith(".mcap.partial")
