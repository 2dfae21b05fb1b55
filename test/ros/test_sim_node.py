"""The embedded cell's node in process: what its cameras say to whom, and how often."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import MultiThreadedExecutor
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image, JointState

from physai_base.embodiment import Embodiment, find_embodiment
from physai_ros import conversions, qos
from physai_sim.node import SimNode

pytestmark = pytest.mark.ros
_domains = itertools.count(181 + os.getpid() % 40)


class Bench:
    """The node, its cell running as fast as it can, and somebody who listens."""

    def __init__(self, folder: Path) -> None:
        document = yaml.safe_load(find_embodiment("fr3").read_text())
        document["model"] = str(find_embodiment("fr3").parent / document["model"])
        document["hardware"]["options"]["name"] = f"physai_test_{os.getpid()}"
        robot = folder / "robot.yaml"
        robot.write_text(yaml.safe_dump(document))
        self.embodiment = Embodiment.load(robot)
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=next(_domains))
        values = {"robot": str(robot), "real_time_factor": 0.0}
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        self.node = SimNode(context=self.context, parameter_overrides=overrides)
        self.listener = rclpy.create_node("listener", context=self.context)
        self.executor = MultiThreadedExecutor(num_threads=2, context=self.context)
        self.executor.add_node(self.node)
        self.executor.add_node(self.listener)
        self.thread = threading.Thread(target=self._spin, daemon=True)
        self.thread.start()

    def _spin(self) -> None:
        with contextlib.suppress(rclpy.executors.ExternalShutdownException):
            self.executor.spin()

    def listen(self, kind: type, topic: str) -> list[Any]:
        heard: list[Any] = []
        self.listener.create_subscription(kind, topic, heard.append, qos.SENSOR)
        return heard

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, what
            time.sleep(0.01)

    def close(self) -> None:
        self.node.trigger_cleanup()
        self.executor.shutdown()
        self.thread.join()
        self.node.destroy_node()
        self.listener.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    one = Bench(tmp_path)
    yield one
    one.close()


def stamps_ms(messages: list[Any]) -> np.ndarray:
    return np.array([conversions.time_from_msg(message.header.stamp) / 1e6 for message in messages])


def test_camera_info_comes_without_images_for_colour_and_depth_at_the_declared_rate(bench: Bench) -> None:
    """Best effort at full speed may lose messages: what came must lie on the camera's own times."""
    topics = (
        "overview/camera_info",
        "overview/depth/camera_info",
        "wrist/camera_info",
        "wrist/depth/camera_info",
    )
    heard = {topic: bench.listen(CameraInfo, f"camera/{topic}") for topic in topics}
    bench.node.trigger_configure()
    bench.until(lambda: all(len(messages) >= 20 for messages in heard.values()), "20 of each camera_info")
    for topic, messages in heard.items():
        camera = bench.embodiment.camera(topic.partition("/")[0])
        message = messages[-1]
        assert message.header.frame_id == camera.frame
        assert (message.width, message.height) == (camera.width, camera.height)
        np.testing.assert_allclose(np.reshape(message.k, (3, 3)), camera.intrinsics())
        stamps = stamps_ms(list(messages))
        count = stamps * camera.rate_hz / 1000
        np.testing.assert_allclose(count, np.round(count), atol=0.51 * camera.rate_hz / 1000)
        assert np.diff(np.round(count)).min() == 1  # no time of the camera is left out by the cell itself


def test_images_and_camera_info_have_one_stamp(bench: Bench) -> None:
    infos = bench.listen(CameraInfo, "camera/wrist/camera_info")
    images = bench.listen(Image, "camera/wrist/image_raw")
    bench.node.trigger_configure()
    bench.until(lambda: len(images) >= 10 and len(infos) >= 10, "ten wrist images")
    common = set(stamps_ms(list(images))) & set(stamps_ms(list(infos)))
    assert len(common) >= 5


def test_the_cell_stamps_its_heartbeat_with_the_time_that_it_makes(bench: Bench) -> None:
    beats: list[DiagnosticArray] = []
    bench.listener.create_subscription(DiagnosticArray, "/diagnostics", beats.append, 10)
    bench.until(lambda: bool(beats), "a heartbeat before there is a cell")
    bench.node.trigger_configure()
    seen = len(beats)
    bench.until(lambda: len(beats) >= seen + 5, "heartbeats of the cell")
    stamps = stamps_ms(list(beats))
    assert stamps[0] == 0
    assert 0 < stamps[-1] < 1e8 and (np.diff(stamps) >= 0).all()  # a wall clock is beyond 1e12 ms


def test_the_cell_does_not_stand_in_for_a_robot_that_is_there(tmp_path: Path) -> None:
    """Else chunks that follow what the cell measures would move the real arm."""
    robot = tmp_path / "robot.yaml"
    robot.write_text(f"extends: {find_embodiment('fr3_topic').resolve()}\nname: there\n")
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=next(_domains))
    driver = rclpy.create_node("driver", context=context)
    topic = Embodiment.load(robot).hardware.options["state_topic"]
    driver.create_publisher(JointState, topic, 10)
    node = SimNode(context=context, parameter_overrides=[Parameter("robot", value=str(robot))])
    try:
        node.trigger_configure()
        assert node.exit_code and "/driver publishes" in node.reason and "sim:=none" in node.reason
    finally:
        node.destroy_node()
        driver.destroy_node()
        rclpy.shutdown(context=context)
