"""What other people's tools take for granted: /diagnostics, hardware ids, clocks, parameters that do what they are set to."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.parameter import Parameter

from physai_perception.node import PerceptionNode
from physai_perception.settings import PerceptionSettings
from physai_policy.agent import AgentSettings
from physai_policy.node import PolicyNode
from physai_ros.graph import hardware_id
from physai_ros.lifecycle_node import PhysaiNode
from physai_ros.supervisor import Supervisor
from physai_sim.bridge_node import BridgeNode
from physai_world_model.judge import JudgeSettings
from physai_world_model.node import WorldModelNode

pytestmark = pytest.mark.ros
_domains = itertools.count(100 + os.getpid() % 40)


@dataclass(frozen=True)
class Parameters:
    """A layer's."""

    robot: str = field(default="fr3", metadata={"description": "embodiment"})


class Layer(PhysaiNode[Parameters]):
    """The smallest of layers."""

    name = "layer"
    parameters_type = Parameters


@pytest.fixture
def context() -> Iterator[rclpy.Context]:
    one = rclpy.Context()
    rclpy.init(context=one, domain_id=next(_domains))
    yield one
    one.try_shutdown()


def heard(context: rclpy.Context, node: Any, want: int = 2) -> list[DiagnosticArray]:
    """What a listener without a namespace hears of that node on `/diagnostics`."""
    listener = rclpy.create_node("listener", context=context)
    messages: list[DiagnosticArray] = []
    listener.create_subscription(DiagnosticArray, "/diagnostics", messages.append, 10)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(listener)
    executor.add_node(node)
    deadline = time.monotonic() + 20
    while len(messages) < want:
        assert time.monotonic() < deadline, "nothing on /diagnostics"
        executor.spin_once(timeout_sec=0.1)
    return messages


def test_a_layer_in_a_namespace_reports_its_hardware_on_the_one_diagnostics_topic(
    context: rclpy.Context,
) -> None:
    given = [Parameter("robot", value="/somewhere/my_arm.yaml")]
    node = Layer(context=context, namespace="/left", parameter_overrides=given)
    (status,) = heard(context, node)[-1].status
    assert (status.name, status.hardware_id) == ("/left/layer", "left/my_arm")
    node.destroy_node()


@pytest.mark.parametrize(
    ("robot", "namespace", "expected"),
    [
        ("fr3", "/", "fr3"),
        ("/home/me/robots/arm.yaml", "", "arm"),
        ("fr3", "/cell_2/left", "cell_2/left/fr3"),
        ("fr3", "/left/shadow", "left/fr3"),  # a shadow is about the robot that it watches
    ],
)
def test_hardware_ids_name_the_robot(robot: str, namespace: str, expected: str) -> None:
    assert hardware_id(robot, namespace) == expected
    assert str(os.getpid()) not in hardware_id("", namespace)


def test_heartbeats_are_stamped_in_ros_time(context: rclpy.Context) -> None:
    """In a simulation that has not begun it is 0, as everywhere in ROS, and not the wall clock's time."""
    node = Layer(context=context, parameter_overrides=[Parameter("use_sim_time", value=True)])
    assert all(message.header.stamp.sec == 0 for message in heard(context, node))
    node.destroy_node()


# The supervisor.


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    """Of the stack in the namespace /left."""
    arguments = ["--ros-args", "-r", "__ns:=/left", "-p", "nodes:=[control]", "-p", "robot:=fr3"]
    rclpy.init(args=arguments, domain_id=next(_domains))
    node = Supervisor()
    executor = SingleThreadedExecutor()
    executor.add_node(node)

    def spin() -> None:
        with contextlib.suppress(ExternalShutdownException):
            executor.spin()

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    yield node
    rclpy.try_shutdown()
    thread.join(5.0)


def heartbeat(name: str) -> DiagnosticArray:
    values = [KeyValue(key="state", value="active"), KeyValue(key="pid", value="1")]
    return DiagnosticArray(status=[DiagnosticStatus(name=name, values=values)])


def test_a_supervisor_heeds_only_the_heartbeats_of_its_own_namespace(supervisor: Supervisor) -> None:
    for other in ("/control", "/right/control", "control", "/left/shadow/control", "/left/control_2"):
        supervisor._on_diagnostics(heartbeat(other))
    (managed,) = supervisor._managed.values()
    assert not managed.seen_s
    supervisor._on_diagnostics(heartbeat("/left/control"))
    assert managed.seen_s and managed.state == "active"


def test_parameters_of_the_supervisor_take_effect_or_are_refused_with_the_reason(
    supervisor: Supervisor,
) -> None:
    taken = {"heartbeat_timeout_s": 3.5, "appear_timeout_s": 7.0, "configure_timeout_s": 8.0}
    taken |= {"transition_timeout_s": 9.0, "max_restarts": 5, "restart_window_s": 60.0}
    for name, value in taken.items():
        (result,) = supervisor.set_parameters([Parameter(name, value=value)])
        assert result.successful, result.reason
        assert getattr(supervisor.settings, name) == value
    refused = {
        "nodes": ["sim"],
        "idle_on_loss": ["x"],
        "latched_on_loss": ["x"],
        "renewed_with": ["a:b"],
        "robot": "x",
        "note": "x",
    }
    for name, given in refused.items():
        (result,) = supervisor.set_parameters([Parameter(name, value=given)])
        assert not result.successful and "start" in result.reason and name in result.reason
    (result,) = supervisor.set_parameters([Parameter("max_restarts", value=-1)])
    assert not result.successful and supervisor.settings.max_restarts == 5
    assert {*taken, *refused} == set(vars(supervisor.settings))


def test_a_parameter_that_is_read_when_the_process_starts_is_refused_later(context: rclpy.Context) -> None:
    node = BridgeNode(context=context, parameter_overrides=[Parameter("autostart", value=False)])
    (result,) = node.set_parameters([Parameter("autostart", value=True)])
    assert not result.successful and "when the process starts" in result.reason
    node.destroy_node()


@pytest.mark.parametrize(
    ("settings", "parameters"),
    [
        (PerceptionSettings, PerceptionNode.parameters_type),
        (JudgeSettings, WorldModelNode.parameters_type),
        (AgentSettings, PolicyNode.parameters_type),
    ],
)
def test_every_setting_of_a_layer_is_a_parameter_with_a_range(settings: type, parameters: type) -> None:
    declared = {item.name: item.metadata for item in fields(parameters)}
    for item in fields(settings):
        metadata = declared.get(item.name)
        assert metadata is not None, f"{item.name} cannot be set"
        assert item.type in ("str", "bool") or "range" in metadata, f"{item.name} takes any number"
