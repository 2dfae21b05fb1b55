"""Shadow mode with real processes: nothing of it reaches the controller, whatever the policy does.

Which topics the controller listens to is read from the running graph.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import HELPERS, SHIPPED_REMOTE

from physai_base.embodiment import Embodiment
from physai_base.values import ControlState
from physai_lab.stack.bringup import Stack, join_stack, stack_environment
from physai_ros.graph import Graph, bringup_graph

pytestmark = [pytest.mark.ros, pytest.mark.slow]
AT_REST_RAD_S = 0.02
RUNNING = 1


@contextlib.contextmanager
def running(graph: Graph, folder: Path) -> Iterator[tuple[Stack, Operator]]:
    """The stack, with its recordings in `folder`, and somebody who watches it."""
    import rclpy

    recordings = {"recordings": str(folder), "least_free_mb": 0.0}
    nodes = [
        replace(spec, parameters={**spec.parameters, **recordings}) if spec.name == "recorder" else spec
        for spec in graph.nodes
    ]
    join_stack()
    stack = Stack(replace(graph, nodes=tuple(nodes)), lambda name, line: print(f"[{name}] {line}"))
    with stack:
        stack.wait_ready()
        rclpy.init(args=[])
        try:
            operator = Operator()
            yield stack, operator
            operator.close()
        finally:
            rclpy.try_shutdown()


@contextlib.contextmanager
def program(name: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python program of this folder beside the stack."""
    command = [sys.executable, str(HELPERS / name), *arguments]
    with subprocess.Popen(command, env=stack_environment()) as process:
        try:
            yield process
        finally:
            process.kill()


class Operator:
    """Gives instructions, and sees the cell's truth and all that the controller is told."""

    def __init__(self) -> None:
        import rclpy
        from sensor_msgs.msg import JointState
        from shadow_watch import ControllerWatch
        from std_msgs.msg import Bool

        from physai.msg import ActionChunk, ControlStatus, Instruction, PolicyStatus
        from physai_ros import qos

        self.node = rclpy.create_node("operator")
        self.speeds: list[tuple[float, float]] = []  # simulated s, largest |dq|
        self.control: Any = None
        self.shadow: Any = None  # policy/status
        self.chunks = 0  # of the shadow policy
        create = self.node.create_subscription
        create(JointState, "sim/joint_truth", self._on_joints, qos.JOINTS)
        create(ControlStatus, "control/status", lambda m: setattr(self, "control", m), qos.STATUS)
        create(PolicyStatus, "shadow/policy/status", lambda m: setattr(self, "shadow", m), qos.STATUS)
        create(ActionChunk, "shadow/action_chunk", self._on_chunk, qos.STATUS)
        self._instructions = self.node.create_publisher(Instruction, "instruction", qos.ESTOP)
        self._sway = self.node.create_publisher(Bool, "sway", qos.ESTOP)
        self.watch = ControllerWatch(self.node)
        self.executor = rclpy.executors.SingleThreadedExecutor()
        self.executor.add_node(self.node)
        topics = {"/action_chunk", "/chunk_verdict", "/estop", "/clock"}
        self.until(lambda: "control" in self.node.get_node_names(), "the controller is discovered")
        self.until(lambda: self.watch.look() >= topics, "and what it listens to")
        self.until(lambda: self.control is not None and self.speeds, "the stack runs")

    def _on_joints(self, message: Any) -> None:
        stamp = message.header.stamp
        self.speeds.append((stamp.sec + stamp.nanosec * 1e-9, float(np.abs(message.velocity).max())))

    def _on_chunk(self, _: Any) -> None:
        self.chunks += 1

    def instruct(self, text: str) -> None:
        from physai.msg import Instruction

        def heard() -> bool:  # to be recorded and to be followed, each by reliable and by best-effort readers
            return self._instructions.get_subscription_count() >= 4

        self.until(heard, "the recorder is found: what was said before it was is not heard")
        since_s = time.monotonic()  # it has to find us, too
        self.until(lambda: time.monotonic() > since_s + 0.5, "half a second passes")
        self._instructions.publish(Instruction(text=text))

    def sway(self, on: bool) -> None:
        from std_msgs.msg import Bool

        self._sway.publish(Bool(data=on))

    def until(self, condition: Any, what: str, timeout_s: float = 60.0) -> None:
        from shadow_watch import spin_until

        spin_until(self.executor, condition, timeout_s, what)

    def simulate(self, seconds: float) -> None:
        end = self.speeds[-1][0] + seconds
        while self.speeds[-1][0] < end:
            self.watch.look()
            near = min(end, self.speeds[-1][0] + 0.5)
            self.until(lambda near=near: self.speeds[-1][0] >= near, "simulated time passes")
        self.until(self.watch.knows_all, "every publisher's name is discovered")

    def close(self) -> None:
        from physai_ros.ending import leave_graph

        self.executor.shutdown()
        leave_graph(self.node)


def mover(embodiment: Embodiment) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """Another policy, which moves the arm."""
    home = [float(angle) for angle in embodiment.home]
    return program("sway_policy.py", json.dumps({"names": list(embodiment.joint_names), "home": home}))


def test_a_shadow_is_recorded_and_reaches_nothing(embodiment: Embodiment, tmp_path: Path) -> None:
    from physai_lab.shadow.compare import Tolerance, read_shadow, tasks_of
    from physai_lab.shadow.report import make_report

    with running(bringup_graph(mode="shadow"), tmp_path) as (stack, operator), mover(embodiment):
        operator.sway(True)
        operator.until(lambda: operator.speeds[-1][1] > 0.1, "another policy moves the arm")
        operator.instruct("put the red cup on the top shelf")
        operator.until(lambda: operator.chunks >= 5, "the shadow policy proposes")
        assert operator.shadow.target == "red_cup"
        operator.simulate(2.0)
        operator.instruct("put the blue cup on the bottom shelf")
        operator.until(
            lambda: operator.shadow.target == "blue_cup", "the next instruction replaces the first"
        )
        operator.simulate(3.0)

        # The controller followed the other policy, and nobody else could have told it anything.
        assert operator.control.state == ControlState.TRACK
        assert operator.watch.counts["/action_chunk", "/sway_policy"] > 10
        assert not operator.watch.reaching("/shadow")
        assert not operator.watch.clients("/shadow") & operator.watch.services()
        assert {name for topic, name in operator.watch.offered if topic == "/action_chunk"} == {
            "/sway_policy"
        }
        assert {name for topic, name in operator.watch.counts if topic == "/clock"} == {"/sim"}
        nodes = set(operator.node.get_node_names_and_namespaces())
        inside = {name for name, place in nodes if place == "/shadow"}
        assert inside == {"recorder", "world_model", "policy"}
        for name in inside:
            # Whatever it listens to, somebody says: an input that is missing in the graph would stay silent.
            for topic, _ in operator.node.get_subscriber_names_and_types_by_node(name, "/shadow"):
                silent = ("/shadow/instruction", "/instruction", "/policy/status")
                assert operator.node.count_publishers(topic) or topic in silent, (name, topic)
        os.kill(stack.pid("recorder"), signal.SIGKILL)

    # What was recorded until the kill can be read and reported on.
    (path,) = (p for p in tmp_path.iterdir() if p.stat().st_size > 10_000)
    recording = read_shadow(path, embodiment)
    assert recording.notes
    assert len(recording.proposals) >= 10
    assert len(recording.real) >= 10
    assert recording.verdicts
    assert {task.instruction for task in tasks_of(recording)} == {
        "put the red cup on the top shelf", "put the blue cup on the bottom shelf",
    }  # fmt: skip
    data = make_report(recording, embodiment, Tolerance()).data
    # The other policy sways about home: it does not do what was instructed, and the arm does what it says.
    assert data["agreement"]["share"] < 0.5
    assert data["agreement of what moved the robot"]["share"] > 0.9
    assert data["refusals"]["checked"] >= 10


def test_a_policy_that_tries_everything_reaches_nothing(tmp_path: Path) -> None:
    graph = bringup_graph(mode="shadow")
    rogue = (sys.executable, str(HELPERS / "rogue_policy.py"))
    nodes = [replace(spec, command=rogue) if spec.name == "policy" else spec for spec in graph.nodes]
    with running(replace(graph, nodes=tuple(nodes)), tmp_path) as (_, operator):
        operator.until(lambda: operator.chunks >= 20, "it talks")
        start = len(operator.speeds)
        operator.simulate(5.0)
        assert not operator.watch.reaching("/shadow")
        assert not operator.watch.clients("/shadow") & operator.watch.services()
        assert not operator.watch.counts["/action_chunk", "/shadow/policy"]
        assert operator.control.state == ControlState.HOLD
        assert operator.control.chunks_accepted == operator.control.chunks_rejected == 0
        assert max(speed for _, speed in operator.speeds[start:]) < AT_REST_RAD_S

        # The same from outside of the shadow's namespace does arrive: the test sees what it looks for.
        with program("rogue_policy.py", "--plain", "--ros-args", "-p", "use_sim_time:=true"):
            operator.until(lambda: operator.control.state == ControlState.ESTOP, "it stops the controller")
            operator.until(lambda: operator.watch.counts["/action_chunk", "/rogue"] > 0, "it is seen")


def test_a_server_that_answers_nonsense_reaches_nothing(tmp_path: Path) -> None:
    from openpi_client import msgpack_numpy
    from remote_peers import EvilServer, openpi_handshake, read_websocket_message, websocket_frame

    rng = random.Random(3)
    asked, behaves = threading.Event(), threading.Event()
    behaves.set()

    def nonsense(connection: socket.socket) -> None:
        openpi_handshake(connection)
        while True:
            read_websocket_message(connection)
            asked.set()
            size = 0.0 if behaves.is_set() else rng.choice([0.1, 1.0, 1e300, np.nan, np.inf])
            actions = [0.4, 0.0, 0.4, 0.04] + size * np.random.default_rng(rng.randrange(99)).normal(
                size=(16, 4)
            )
            reply = msgpack_numpy.packb({"actions": actions, "samples": np.zeros((16, 0, 4))})
            broken = [] if behaves.is_set() else [reply[:-9], rng.randbytes(200), b"\x80\x04."]
            connection.sendall(websocket_frame(rng.choice([reply, reply, *broken])))

    with EvilServer(nonsense) as server:
        path = tmp_path / "far.yaml"
        path.write_text(SHIPPED_REMOTE.read_text().replace("127.0.0.1:8000", f"127.0.0.1:{server.port}"))
        graph = bringup_graph(mode="shadow", policy=str(path), world_model="off")
        with running(graph, tmp_path) as (stack, operator):
            operator.instruct("put the green cup on the top shelf")
            operator.until(
                lambda: operator.shadow is not None and operator.shadow.state == RUNNING, "it is asked"
            )
            behaves.clear()
            asked.clear()
            operator.simulate(8.0)
            assert asked.is_set()
            os.kill(stack.pid("policy"), signal.SIGKILL)
            operator.until(lambda: stack.starts["policy"] == 2, "it is started again")
            operator.simulate(2.0)
            assert not operator.watch.reaching("/shadow")
            assert operator.control.state == ControlState.HOLD
            assert max(speed for _, speed in operator.speeds) < AT_REST_RAD_S
