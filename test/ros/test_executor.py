"""The executor with a kept wait set does what rclpy's own does: every kind of entity, coming and going."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.task import Future
from std_msgs.msg import String
from std_srvs.srv import Trigger

from physai_ros.executor import CachingExecutor

pytestmark = pytest.mark.ros
_domains = itertools.count(150 + os.getpid() % 40)


class Spun:
    """A node on an executor that spins in a thread, and what became of that thread."""

    def __init__(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=next(_domains))
        self.node = rclpy.create_node("spun", context=self.context)
        self.executor = CachingExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._spin, daemon=True)
        self.thread.start()

    def _spin(self) -> None:
        try:
            self.executor.spin()
        except BaseException as error:
            self.error = error

    def end(self) -> None:
        """Shut the context down; the executor must notice."""
        self.context.try_shutdown()
        self.thread.join(5.0)
        assert not self.thread.is_alive()


@pytest.fixture
def spun() -> Iterator[Spun]:
    """A spinning node in a domain of its own."""
    spun = Spun()
    yield spun
    spun.end()


def wait_for(condition: Callable[[], Any], timeout_s: float = 10.0) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_entities_made_while_it_spins_are_served(spun: Spun) -> None:
    heard: list[str] = []
    spun.node.create_subscription(String, "talk", lambda message: heard.append(message.data), 10)
    publisher = spun.node.create_publisher(String, "talk", 10)
    wait_for(publisher.get_subscription_count)
    for i in range(20):
        publisher.publish(String(data=str(i)))
        wait_for(lambda count=i + 1: len(heard) == count)
    assert heard == [str(i) for i in range(20)]


def test_a_destroyed_subscription_is_silent_and_a_timer_goes_on(spun: Spun) -> None:
    heard: list[str] = []
    ticks: list[float] = []
    subscription = spun.node.create_subscription(
        String, "talk", lambda message: heard.append(message.data), 10
    )
    publisher = spun.node.create_publisher(String, "talk", 10)
    spun.node.create_timer(0.02, lambda: ticks.append(time.monotonic()))
    wait_for(publisher.get_subscription_count)
    publisher.publish(String(data="a"))
    wait_for(lambda: heard == ["a"])
    spun.node.destroy_subscription(subscription)
    wait_for(lambda: not publisher.get_subscription_count())
    publisher.publish(String(data="b"))
    before = len(ticks)
    wait_for(lambda: len(ticks) > before + 5)
    assert heard == ["a"]


def test_a_service_may_wait_for_another(spun: Spun) -> None:
    def inner(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.message = "inner"
        return response

    client = spun.node.create_client(Trigger, "inner")

    async def outer(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        answer = await client.call_async(Trigger.Request())
        response.message = f"outer got {answer.message}"
        return response

    spun.node.create_service(Trigger, "inner", inner)
    spun.node.create_service(Trigger, "outer", outer)
    caller = spun.node.create_client(Trigger, "outer")
    assert client.wait_for_service(5.0)
    assert caller.wait_for_service(5.0)
    future = caller.call_async(Trigger.Request())
    wait_for(future.done)
    assert future.result().message == "outer got inner"


def test_a_waiting_coroutine_holds_nothing_up(spun: Spun) -> None:
    gate, order = Future(), []

    async def slow() -> None:
        order.append("waits")
        await gate
        order.append("goes on")

    spun.executor.create_task(slow)
    wait_for(lambda: order == ["waits"])
    ticks: list[int] = []
    spun.node.create_timer(0.01, lambda: ticks.append(1))
    wait_for(lambda: len(ticks) > 5)
    assert order == ["waits"]
    gate.set_result(None)
    wait_for(lambda: order == ["waits", "goes on"])


def test_an_error_in_a_callback_ends_the_spinning_and_is_not_lost(spun: Spun) -> None:
    def broken() -> None:
        raise ValueError("broken callback")

    spun.node.create_timer(0.01, broken)
    spun.thread.join(5.0)
    assert isinstance(spun.error, ValueError)


def test_shutting_the_context_down_ends_the_spinning() -> None:
    spun = Spun()
    time.sleep(0.1)
    spun.end()
    assert spun.error is None or isinstance(spun.error, ExternalShutdownException)


def test_it_sleeps_when_there_is_nothing_to_do(spun: Spun) -> None:
    time.sleep(0.3)
    rounds = 0
    wait = spun.executor._wait

    def counted(timeout_ns: int) -> None:
        nonlocal rounds
        rounds += 1
        wait(timeout_ns)

    spun.executor._wait = counted  # type: ignore[method-assign]
    spun.node.create_timer(0.1, lambda: None)
    time.sleep(1.05)
    assert 5 < rounds < 40  # some ten for the timer, not thousands
