"""The stack with its policy on a server: it does the job, and when the server fails the arm ends in hold.

As in test_stack.py, what the arm does is read from the cell.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from openpi_client import msgpack_numpy
from paths import SHIPPED_REMOTE
from remote_peers import (
    EvilServer,
    Proxy,
    openpi_handshake,
    read_websocket_message,
    serving,
    silence,
    websocket_frame,
)  # fmt: skip
from watcher import AT_REST_RAD_S, Watcher

from physai_base.bundle import Bundle
from physai_base.task import Task
from physai_base.values import ControlState
from physai_lab.stack.bringup import Stack, StackError, join_stack
from physai_policy.flow_policy import FlowPolicy
from physai_ros.graph import bringup_graph

pytestmark = [pytest.mark.ros, pytest.mark.slow]
RUNNING, ABORTED = 1, 4


@pytest.fixture
def link(task: Task) -> Iterator[Proxy]:
    """A link to a server of the shipped policy."""
    policy = FlowPolicy(Bundle.open("cups/policy"), task)
    with serving(policy, features=len(task.feature_names())) as server, Proxy(server.port) as link:
        yield link


@pytest.fixture
def stack(link: Proxy, tmp_path: Path) -> Iterator[Stack]:
    """A stack whose policy is behind the link."""
    path = tmp_path / "far.yaml"
    path.write_text(SHIPPED_REMOTE.read_text().replace("127.0.0.1:8000", f"127.0.0.1:{link.port}"))
    join_stack()
    with Stack(bringup_graph(policy=str(path)), lambda name, line: print(f"[{name}] {line}")) as running:
        running.wait_ready()
        yield running


@pytest.fixture
def watcher(stack: Stack) -> Iterator[Watcher]:
    import rclpy

    rclpy.init(args=[])
    watching = Watcher()
    yield watching
    watching.close()


def ends_in_hold(watcher: Watcher, failed_s: float, reason: str) -> None:
    """The last chunk runs out, the arm holds, the status says why, and then the task is given up."""
    watcher.until(
        lambda: watcher.policy.state == RUNNING and reason in watcher.policy.message, 30.0, "says why"
    )
    watcher.simulate(2.0)
    last = watcher.chunks[-1]
    expiry_s = last.expiry.sec + last.expiry.nanosec * 1e-9
    moving = [stamp for stamp, speed in watcher.motion if stamp > failed_s and speed > AT_REST_RAD_S]
    assert max(moving, default=0.0) <= max(expiry_s, failed_s) + 0.020
    assert watcher.control.state == ControlState.HOLD
    assert "expired" in watcher.control.cause
    watcher.until(lambda: watcher.policy.state == ABORTED, 30.0, "the task is given up")
    assert reason in watcher.policy.message
    start = len(watcher.motion)
    watcher.simulate(1.0)
    assert max(speed for _, speed in watcher.motion[start:]) < AT_REST_RAD_S


def test_a_server_that_fails_ends_in_hold_and_a_new_task_goes_on(
    stack: Stack, watcher: Watcher, link: Proxy
) -> None:
    def senseless(connection: socket.socket) -> None:
        openpi_handshake(connection)
        read_websocket_message(connection)
        actions = msgpack_numpy.packb({"actions": np.full((16, 4), np.nan), "samples": np.zeros((16, 0, 4))})
        connection.sendall(websocket_frame(actions))
        silence(connection)

    watcher.start_moving(seed=21)
    link.dead, failed_s = True, watcher.now_s
    ends_in_hold(watcher, failed_s, "no answer within 0.5 s")

    link.drop()
    link.dead = False
    watcher.start_moving(seed=22)
    with EvilServer(senseless) as evil:
        link.target, failed_s = evil.port, watcher.now_s
        link.drop()
        ends_in_hold(watcher, failed_s, "not finite")
    assert stack.starts["policy"] == 1, "the node failed with its server"


def test_a_wrong_file_ends_the_start_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "far.yaml"
    path.write_text(SHIPPED_REMOTE.read_text().replace("kind: openpi", "kind: lerobot"))
    said: list[str] = []
    join_stack()
    stack = Stack(bringup_graph(policy=str(path)), lambda name, line: said.append(line))
    with stack as running, pytest.raises(StackError, match="policy"):
        running.wait_ready()
    assert any("pickle" in line for line in said)


def test_the_job_through_a_link_with_delay(stack: Stack, watcher: Watcher, link: Proxy) -> None:
    from physai.srv import Randomize

    link.delay_s = 0.02
    assert watcher.call(watcher.randomize, Randomize.Request(seed=3, parts=["poses"])).success
    watcher.simulate(1.0)
    result = watcher.send("put the red cup on the top shelf").get_result_async()
    watcher.until(result.done, 180.0, "the task ends")
    assert result.result().result.success, result.result().result.message
