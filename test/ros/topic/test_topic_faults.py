"""F1, F9, F14 and F24 on the topic backend: cell, control and policy are three processes that share DDS topics alone.

What the arm does is read from the plant's own log. Nothing here trusts the controller's word for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import HELPERS
from sway_policy import HORIZON_S
from sway_policy import LATCHED as LATCHED_QOS
from topic_cell import Truth, bridge, until, write_robot

from physai_base.embodiment import Embodiment
from physai_base.values import ControlState
from physai_lab.stack.bringup import Stack, join_stack
from physai_ros.graph import Graph, NodeSpec, with_supervisor
from physai_sim.plant import Gate

pytestmark = [pytest.mark.ros, pytest.mark.slow]

MOVING_RAD_S = 0.15
AT_REST_RAD_S = 0.02
STOPPED_MS = 150  # from the last torque of the controller to rest
GATE_MS, DAMPING_MS = 20, 10
LATCHED = (ControlState.FAULT, ControlState.ESTOP)
HELD = (ControlState.HOLD, ControlState.DEGRADED)  # degraded: on a busy machine


class Operator:
    """A person's view of the stack: status, resets, and a knife at the wire."""

    def __init__(self) -> None:
        import rclpy
        from std_msgs.msg import Bool, String
        from std_srvs.srv import Trigger

        from physai.msg import ControlStatus
        from physai_ros import qos

        self._rclpy, self._bool, self._string, self._trigger = rclpy, Bool, String, Trigger
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=int(os.environ["ROS_DOMAIN_ID"]))
        self.node = rclpy.create_node("operator", context=self.context)
        self.status: Any = None
        self.node.create_subscription(
            ControlStatus, "control/status", lambda m: setattr(self, "status", m), qos.STATUS
        )
        self._sway = self.node.create_publisher(Bool, "sway", LATCHED_QOS)
        self._inject = self.node.create_publisher(String, "bridge/inject", qos.STATUS)
        self.executor = rclpy.executors.SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        with contextlib.suppress(self._rclpy.executors.ExternalShutdownException):
            self.executor.spin()

    def state(self) -> ControlState | None:
        return None if self.status is None else ControlState(self.status.state)

    def reset(self, name: str) -> bool:
        """Whether it was reset; a client that has known a killed process may wait for ever, so each attempt has its own."""
        for timeout_s in (5.0, 5.0, 30.0):
            client = self.node.create_client(self._trigger, f"{name}/reset")
            assert client.wait_for_service(timeout_sec=10.0)
            future = client.call_async(self._trigger.Request())
            with contextlib.suppress(AssertionError):
                until(future.done, f"{name}/reset answers", timeout_s)
            self.node.destroy_client(client)
            if future.done():
                return bool(future.result().success)
        raise AssertionError(f"{name}/reset does not answer")

    def let_sway(self, sway: bool) -> None:
        self._sway.publish(self._bool(data=sway))

    def inject(self, faults: str) -> None:
        until(self._inject.get_subscription_count, "the bridge listens")
        self._inject.publish(self._string(data=faults))

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()
        self._thread.join(1.0)


class Cell:
    """The running processes."""

    def __init__(self, stack: Stack, operator: Operator, truth: Truth, robot: Path) -> None:
        self.stack, self.operator, self.truth, self.robot = stack, operator, truth, robot
        self.embodiment = Embodiment.load(robot)
        self.policy: subprocess.Popen[bytes] | None = None

    def start_moving(self) -> None:
        if not self.policy:
            program = HELPERS / "sway_policy.py"
            robot = json.dumps({"names": self.embodiment.joint_names, "home": self.embodiment.home.tolist()})
            self.policy = subprocess.Popen([sys.executable, "-P", str(program), robot])
        self.operator.let_sway(True)
        until(lambda: self.truth.speed > MOVING_RAD_S, "the arm moves")
        self.truth.run(0.5)
        until(lambda: self.truth.speed > MOVING_RAD_S, "the arm moves in full swing")

    def kill_policy(self) -> None:
        if self.policy:
            self.policy.kill()
            self.policy.wait()
            self.policy = None

    def recover(self) -> None:
        """What a person does after a stop; nothing moves by it."""
        self.operator.let_sway(False)
        self.operator.inject("")
        until(lambda: self.operator.state() in (*HELD, *LATCHED), "the last chunk ends")
        until(self.is_at_rest, "the arm is at rest")
        start = len(self.truth)
        assert self.operator.reset("bridge")
        # The robot says every 50 ms whether it is stopped; until then the controller's reset is refused.
        until(lambda: self.operator.reset("control"), "control can be reset")
        until(lambda: self.truth.is_driven and self.operator.state() in HELD, "control holds the arm")
        self.truth.run(0.3)
        position = self.truth.position(start)
        assert np.abs(position - position[0]).max() < 2e-3

    def is_at_rest(self) -> bool:
        """For 0.2 s: where it turns round it is slow as well, and a busy machine's control is degraded while a chunk runs."""
        recent = len(self.truth) - 200
        return recent >= 0 and bool(np.abs(self.truth.velocity(recent)).max() < AT_REST_RAD_S)

    def check_envelope(self, start: int) -> None:
        rows = self.truth.rows(start)
        gate, missed = rows[:, 1].astype(int), rows[:, 2]
        torque, velocity = self.truth.of(rows, "torque"), self.truth.of(rows, "velocity")
        assert np.isfinite(torque).all()
        assert (np.abs(torque) <= self.embodiment.limits("torque")).all()
        assert (np.abs(velocity) <= 1.05 * self.embodiment.limits("velocity")).all()
        # 1 Nm per ms, counted from the last command that came through.
        driven = (gate == Gate.DRIVEN) | (gate == Gate.MISSING)
        steps = np.abs(np.diff(torque, axis=0)).max(axis=1) - (1 + missed[:-1])
        assert steps[driven[1:] & driven[:-1]].max(initial=0.0) <= 1e-9

    def check_stopped(self, start: int) -> None:
        """From the last torque that came from the controller, the arm is stopped within the gate's time and stays so."""
        gate = self.truth.gate(start)
        last = int(np.flatnonzero(gate == Gate.DRIVEN).max(initial=0))
        after = gate[last + 1 :]
        assert (after == Gate.MISSING).sum() <= GATE_MS
        assert (after == Gate.DAMPING).sum() <= DAMPING_MS + 1
        assert set(after[GATE_MS + DAMPING_MS + 2 :]) <= {Gate.LATCHED, Gate.BRAKED}
        late = self.truth.velocity(start + last)[STOPPED_MS:]
        assert len(late) > 500
        assert np.abs(late).max() < AT_REST_RAD_S
        self.check_envelope(start)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    """One stack for all tests of this file: a stop that a person has reset is no stop any more."""
    folder = tmp_path_factory.mktemp("cell")
    with pytest.MonkeyPatch.context() as environment:
        join_stack()
        environment.setenv("ROS_DOMAIN_ID", str(20 + os.getpid() % 70))
        robot = write_robot(folder)
        control = NodeSpec("control", "control", {"robot": str(robot), "world_model": "off"})
        graph = with_supervisor(Graph((bridge(robot, folder / "truth"), control)))
        with Stack(graph, lambda name, line: print(f"[{name}] {line}")) as stack:
            stack.wait_ready()
            operator = Operator()
            cell = Cell(stack, operator, Truth(folder / "truth"), robot)
            try:
                until(lambda: operator.state() in HELD, "control holds the arm")
                yield cell
            finally:
                cell.kill_policy()
                operator.close()


@pytest.fixture
def cell(running: Cell) -> Iterator[Cell]:
    """The running cell, with the arm in motion; a person resets what a test has stopped."""
    try:
        running.start_moving()
        yield running
    finally:
        running.recover()


def test_f1_a_killed_policy_ends_in_hold(cell: Cell) -> None:
    start = len(cell.truth)
    cell.kill_policy()
    cell.truth.run(HORIZON_S + 0.6)
    velocity, gate = cell.truth.velocity(start), cell.truth.gate(start)
    assert np.abs(velocity[:200]).max() > AT_REST_RAD_S  # what was validated is finished
    # At rest by the last chunk's expiry; 0.1 s is for the kill to fall between two rows and for the last messages.
    assert np.abs(velocity[round((HORIZON_S + 0.1) * 1000) :]).max() < AT_REST_RAD_S
    assert set(gate) <= {Gate.DRIVEN, Gate.MISSING}  # held by the controller, not by the gate
    assert cell.operator.state() in HELD
    assert "expired" in cell.operator.status.cause
    cell.check_envelope(start)


def test_f9_joint_states_that_stop_are_a_latched_fault(cell: Cell) -> None:
    start = len(cell.truth)
    cell.operator.inject("mute_states=1")
    until(lambda: cell.operator.state() in LATCHED, "control latches")
    cell.truth.run(0.7)
    cell.check_stopped(start)
    cell.operator.inject("")  # states come again, and so do chunks
    cell.truth.run(1.0)
    cell.check_stopped(start)
    assert cell.operator.state() is ControlState.FAULT
    assert "no joint state" in cell.operator.status.cause


def check_gate(cell: Cell, start: int) -> None:
    """Commands were missing for the gate's time, then damping, then the brakes, for good."""
    gate = cell.truth.gate(start)
    damping = np.flatnonzero(gate == Gate.DAMPING)
    assert len(damping)
    assert (gate[damping[0] - GATE_MS + 1 : damping[0]] == Gate.MISSING).all()
    assert (gate[damping[-1] + 1 :] == Gate.LATCHED).all()
    cell.check_stopped(start)


def test_f14_a_frozen_control_process_is_stopped_by_the_gate(cell: Cell) -> None:
    start = len(cell.truth)
    os.kill(cell.stack.pid("control"), signal.SIGSTOP)
    try:
        cell.truth.run(0.8)
        check_gate(cell, start)
    finally:
        os.kill(cell.stack.pid("control"), signal.SIGCONT)
    until(lambda: cell.operator.state() in LATCHED, "control sees the gap")
    cell.truth.run(1.0)
    check_gate(cell, start)  # thawed, it does not go on
    assert not cell.operator.reset("control")  # and a reset does not reach over the robot's own gate
    cell.truth.run(0.3)
    check_gate(cell, start)


def test_f14_a_killed_control_process_is_stopped_by_the_gate(cell: Cell) -> None:
    start, starts = len(cell.truth), cell.stack.starts["control"]
    os.kill(cell.stack.pid("control"), signal.SIGKILL)
    cell.truth.run(0.8)
    check_gate(cell, start)
    cell.operator.status = None
    until(lambda: cell.stack.starts["control"] > starts, "control is started again")
    until(lambda: cell.operator.state() in LATCHED, "the new one sees that the robot is stopped")
    cell.truth.run(1.0)
    check_gate(cell, start)


def test_f24_a_bridge_that_comes_back_does_not_move(cell: Cell) -> None:
    starts = cell.stack.starts["bridge"]
    os.kill(cell.stack.pid("bridge"), signal.SIGKILL)
    killed = len(cell.truth)
    until(lambda: cell.operator.state() in LATCHED, "control latches")
    until(lambda: cell.stack.starts["bridge"] > starts, "the bridge is started again")
    cell.truth.run(1.5)
    assert cell.truth.rows(killed)[-1, 0] < 60.0  # a new plant counts from 0
    assert set(cell.truth.gate(killed)) == {Gate.BRAKED}  # chunks come, and nothing goes on by itself
    assert np.abs(cell.truth.velocity(killed)).max() < AT_REST_RAD_S
    assert cell.operator.state() is ControlState.FAULT
    assert "no joint state" in cell.operator.status.cause
    # cell.recover() then shows that both ends have found each other again: newer stamps, counted anew.


def test_f24_a_poor_wire_is_driven_over(cell: Cell) -> None:
    start = len(cell.truth)
    cell.operator.inject("drop=0.1 duplicate=0.1 reorder=0.1 jitter_s=0.001")
    cell.truth.run(2.5)
    gate = cell.truth.gate(start)
    assert set(gate) <= {Gate.DRIVEN, Gate.MISSING}
    assert (gate == Gate.MISSING).sum() > 20  # the wire was poor
    assert np.abs(cell.truth.velocity(start)).max() > MOVING_RAD_S
    cell.check_envelope(start)


@pytest.mark.parametrize("faults", ["drop=0.9", "delay_s=0.03", "mute_commands=1"])
def test_f24_a_bad_wire_ends_in_a_stop(cell: Cell, faults: str) -> None:
    start = len(cell.truth)
    cell.operator.inject(faults)
    until(lambda: cell.operator.state() in LATCHED, "control latches")
    cell.truth.run(0.7)
    cell.check_stopped(start)
    cell.operator.inject("")  # a good wire again
    cell.truth.run(0.7)
    cell.check_stopped(start)
    assert cell.operator.state() is ControlState.FAULT
