"""Names that hold for one namespace of one domain."""

from __future__ import annotations

import itertools
import os
import time

import pytest
import rclpy
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock

from physai_base.embodiment import Embodiment
from physai_base.task import Task
from physai_lab.stack.running import print_graph
from physai_ros import place
from physai_sim.plant import Plant
from physai_sim.scene import Scene

pytestmark = pytest.mark.ros
_domains = itertools.count(60 + os.getpid() % 40)


def test_shared_memory_differs_by_domain_and_namespace() -> None:
    names = [
        place.shared_memory_name("physai_fr3", domain, namespace)
        for domain in (0, 1, 11)
        for namespace in ("", "/", "arm1", "/arm1", "/cell/arm1", "x" * 200, "x" * 199 + "y")
    ]
    assert names[0] == "physai_fr3"
    assert all(len(name) <= place.MEMORY_NAME_SIZE and "/" not in name for name in names)
    # "" and "/" are one namespace, and so are arm1 and /arm1.
    assert len(set(names)) == 3 * 5


def test_a_namespace_is_never_taken_for_a_domain_and_no_name_is_too_long() -> None:
    named = place.shared_memory_name
    assert named("physai_fr3", 5, "") == "physai_fr3.d5" != named("physai_fr3", 0, "/d5")
    assert named("physai_fr3", 5, "/x") != named("physai_fr3", 0, "/d5/x")
    long = [named(f"physai_{'a' * 43}{end}", 5, "/" + "b" * 40) for end in "xy"]
    assert all(len(name) <= place.MEMORY_NAME_SIZE for name in long) and len(set(long)) == 2


@pytest.mark.parametrize("name", ["physai_file_of", "file_of"])
def test_the_file_of_shared_memory_is_the_cores(name: str) -> None:
    scene = Scene.build(Embodiment.load("fr3"), Task.load("cups"))
    name = f"{name}_{os.getpid()}"
    plant = Plant(scene.model, scene.data, scene.embodiment, shm_name=name)
    try:
        assert place.shared_memory_file(name).exists()
    finally:
        plant.close()
    assert not place.shared_memory_file(name).exists()


@pytest.mark.parametrize("namespace", ["", "arm1"])
def test_simulated_time_is_that_of_the_namespace(namespace: str) -> None:
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=next(_domains))
    node = place.StackNode(
        "tool",
        namespace=namespace,
        context=context,
        parameter_overrides=[Parameter("use_sim_time", value=True)],
    )
    other = rclpy.create_node("sims", context=context)
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(node)
    own = f"/{namespace}/clock".replace("//", "/")
    clocks = {
        topic: other.create_publisher(Clock, topic, 10) for topic in {"/clock", "/arm1/clock", "/arm2/clock"}
    }
    try:
        deadline = time.monotonic() + 20
        while node.get_clock().now().nanoseconds == 0 or not clocks[own].get_subscription_count():
            assert time.monotonic() < deadline
            for topic, publisher in clocks.items():
                message = Clock()
                message.clock.sec = 7 if topic == own else 1000
                publisher.publish(message)
            executor.spin_once(timeout_sec=0.05)
            assert node.get_clock().now().nanoseconds in (0, 7_000_000_000)
    finally:
        executor.shutdown()
        node.destroy_node()
        other.destroy_node()
        rclpy.shutdown(context=context)


def test_doctor_lists_the_stack_of_one_namespace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    domain = next(_domains)
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    nodes = [rclpy.create_node("control", namespace=arm, context=context) for arm in ("arm1", "arm2")]
    try:
        assert print_graph("arm2", listen_s=3.0) == 0
        listed = capsys.readouterr().out
        assert "/arm2/control" in listed and "arm1" not in listed
        assert print_graph("/arm3/", listen_s=3.0) == 1
        assert (
            "no node is running in namespace /arm3/; there are nodes in /arm1, /arm2"
            in capsys.readouterr().err
        )
    finally:
        for node in nodes:
            node.destroy_node()
        rclpy.shutdown(context=context)
