"""The base node in process: coroutines as callbacks, and what still answers after a clean-up."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import rclpy
from paths import HELPERS
from rcl_interfaces.srv import GetParameters
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from physai_ros.executor import CachingExecutor
from physai_ros.lifecycle_node import Interrupted, PhysaiNode

pytestmark = pytest.mark.ros
_domains = itertools.count(100 + os.getpid() % 40)


@dataclass(frozen=True)
class Parameters:
    """One parameter."""

    rate: float = field(default=1.0, metadata={"range": (0.0, 2.0), "description": "of something"})


class Waiter(PhysaiNode[Parameters]):
    """Offers a service that waits for another one."""

    name = "waiter"
    parameters_type = Parameters

    def setup(self) -> None:
        """A plain service, and a coroutine that asks it."""
        self.create_service(Trigger, "inner", self._inner)
        self.create_service(Trigger, "outer", self._outer)
        self._asker = self.create_client(Trigger, "inner")

    def _inner(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = True, "inner"
        return response

    async def _outer(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        answer = await self._asker.call_async(Trigger.Request())
        response.success, response.message = True, f"outer got {answer.message}"
        return response


@pytest.fixture
def waiter() -> Iterator[Waiter]:
    """The node, spinning."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=next(_domains))
    node = Waiter(context=context)
    executor = CachingExecutor(context=context)
    executor.add_node(node)

    def spin() -> None:
        with contextlib.suppress(rclpy.executors.ExternalShutdownException):
            executor.spin()

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    yield node
    context.try_shutdown()
    thread.join(5.0)
    assert not thread.is_alive()


def call(node: Waiter, kind: Any, name: str, request: Any) -> Any:
    """Ask one of the node's services from outside of it."""
    other = rclpy.create_node("caller", context=node.context)
    executor = CachingExecutor(context=node.context)
    executor.add_node(other)
    client = other.create_client(kind, name)
    assert client.wait_for_service(20.0)
    future = client.call_async(request)
    deadline = time.monotonic() + 20.0
    while not future.done() and time.monotonic() < deadline:
        executor.spin_once(0.1)
    assert future.done()
    return future.result()


def test_a_coroutine_may_be_a_callback(waiter: Waiter) -> None:
    state = LifecycleState(label="unconfigured", state_id=1)
    assert waiter.on_configure(state) is TransitionCallbackReturn.SUCCESS
    answer = call(waiter, Trigger, "outer", Trigger.Request())
    assert answer.success
    assert answer.message == "outer got inner"


def test_parameters_answer_before_and_after_a_clean_up(waiter: Waiter) -> None:
    state = LifecycleState(label="unconfigured", state_id=1)
    waiter.on_configure(state)
    assert not waiter.set_parameters([Parameter("rate", value=0.5)])[0].successful
    waiter.on_cleanup(state)
    request = GetParameters.Request(names=["rate"])
    assert call(waiter, GetParameters, "waiter/get_parameters", request).values[0].double_value == 1.0
    assert waiter.set_parameters([Parameter("rate", value=0.5)])[0].successful
    assert not waiter.set_parameters([Parameter("rate", value=5.0)])[0].successful
    assert waiter.on_configure(state) is TransitionCallbackReturn.SUCCESS
    assert waiter.parameters.rate == 0.5


@pytest.mark.parametrize("stage", ["setup", "start"])
def test_what_breaks_after_an_interrupt_is_no_defect(
    stage: str, waiter: Waiter, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A slow transition finds the node's parts gone when the process ends meanwhile."""

    def gone() -> None:
        waiter._interrupted.set()
        raise RuntimeError("cannot use Destroyable because destruction was requested")

    monkeypatch.setattr(waiter, stage, gone)
    result = waiter.trigger_configure()
    if stage == "start":
        result = waiter.trigger_activate()
    assert result is TransitionCallbackReturn.FAILURE
    assert not waiter.ended.is_set() and not waiter.reason
    assert "Destroyable" not in "".join(capfd.readouterr())


def test_nothing_is_made_after_an_interrupt(waiter: Waiter) -> None:
    waiter._interrupted.set()
    for make in (
        lambda: waiter.create_publisher(Bool, "x", 1),
        lambda: waiter.create_client(Trigger, "x"),
        lambda: waiter.create_timer(1.0, print),
    ):
        with pytest.raises(Interrupted):
            make()


def test_a_process_that_is_interrupted_leaves_no_shared_memory() -> None:
    def segments() -> set[str]:
        return {path.name for path in Path("/dev/shm").glob("*fastdds*")}

    before = segments()
    node = Path(sys.prefix) / "lib/physai/perception"
    environment = {**os.environ, "ROS_DOMAIN_ID": str(next(_domains))}
    with subprocess.Popen([str(node)], env=environment, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 20.0
        while not segments() - before and time.monotonic() < deadline:
            time.sleep(0.05)
        assert segments() - before
        time.sleep(3.0)  # for the node to be made and its handlers to be set
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20.0) == 0
    assert segments() <= before


def test_wrong_parameters_are_one_line_and_78() -> None:
    node = [sys.executable, str(HELPERS / "dummy_node.py"), "--ros-args"]
    wrong = ["-p", "rate_hz:=fast", "-p", "fail:=always", "-p", "latched:=[1, 2]"]
    done = subprocess.run([*node, *wrong], capture_output=True, text=True, check=False)
    assert done.returncode == 78, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    for word in ("physai dummy: ", "rate_hz", "fail", "latched"):
        assert word in lines[0]
