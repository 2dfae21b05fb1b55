"""robot_description, tf, tf_static and wrench of the control node: what rviz2 and MoveIt find."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
import yaml
from geometry_msgs.msg import WrenchStamped
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from physai_base.embodiment import Embodiment, find_embodiment
from physai_base.kinematics import ArmKinematics
from physai_base.models.description import describe
from physai_base.urdf import matrix
from physai_base.values import EndEffectorState, SceneObject, SceneState
from physai_control.node import ControlNode
from physai_ros import conversions
from physai_ros.executor import CachingExecutor
from physai_ros.robot_state import ObjectFrames

pytestmark = pytest.mark.ros
_domains = itertools.count(61 + os.getpid() % 40)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)  # as tf2's listener and rviz2 ask


class Bench:
    """A controller in a namespace, and somebody who comes later and looks frames up as tf2 does."""

    def __init__(self, folder: Path, **parameters: str) -> None:
        source = find_embodiment("fr3")
        document = yaml.safe_load(source.read_text())
        document["model"] = str(source.parent / document["model"])
        start = " ".join(str(angle + 0.1) for angle in document["home"])
        document["hardware"] = {"backend": "loopback", "gravity": "controller", "options": {"start": start}}
        document["control"]["state_timeout_s"] = 1.0  # a busy machine is not the subject here
        robot = folder / "robot.yaml"
        robot.write_text(yaml.safe_dump(document))
        self.robot = Embodiment.load(robot)
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=next(_domains))
        given = {"robot": str(robot), "world_model": "off", "stop_recordings": "", **parameters}
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        self.node = ControlNode(context=self.context, namespace="left", parameter_overrides=overrides)
        self.node.trigger_configure()
        self.late = rclpy.create_node("late", context=self.context, namespace="left")
        self.frames: dict[str, tuple[str, np.ndarray]] = {}
        self.moving: list[TFMessage] = []
        self.heard: dict[str, list[Any]] = {}
        self.late.create_subscription(TFMessage, "tf", self._on_tf, 100)
        self.late.create_subscription(TFMessage, "tf_static", self._take, LATCHED)
        for kind, topic, profile in (
            (String, "robot_description", LATCHED), (JointState, "joint_states", 10), (WrenchStamped, "wrench", 10),
        ):  # fmt: skip
            self.heard[topic] = []
            self.late.create_subscription(kind, topic, self.heard[topic].append, profile)
        self.executor = CachingExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.executor.add_node(self.late)
        self.thread = threading.Thread(target=self._spin, daemon=True)
        self.thread.start()

    def _spin(self) -> None:
        try:
            self.executor.spin()
        except Exception:
            if self.context.ok():  # else it was shut down under a waiting executor
                raise

    def _on_tf(self, message: TFMessage) -> None:
        self.moving.append(message)
        self._take(message)

    def _take(self, message: TFMessage) -> None:
        for transform in message.transforms:
            t, q = transform.transform.translation, transform.transform.rotation
            pose = matrix(np.array([t.x, t.y, t.z]), np.array([q.w, q.x, q.y, q.z]))
            self.frames[transform.child_frame_id] = (transform.header.frame_id, pose)

    def until(self, condition: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, what
            time.sleep(0.01)

    def pose(self, frame: str) -> np.ndarray:
        """T_base_frame (4, 4), by walking to the root."""
        pose = np.eye(4)
        for _ in range(30):
            if frame not in self.frames:
                break
            frame, step = self.frames[frame]
            pose = step @ pose
        assert frame == self.robot.base_frame
        return pose

    def close(self) -> None:
        self.node.trigger_cleanup()
        self.context.try_shutdown()
        self.thread.join(5.0)
        assert not self.thread.is_alive()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    one = Bench(tmp_path)
    yield one
    one.close()


def test_frames_stand_where_the_joints_put_them_before_anything_is_activated(bench: Bench) -> None:
    bench.until(lambda: len(bench.moving) >= 5 and len(bench.heard["robot_description"]) == 1, "frames")
    description = describe(bench.robot)
    assert bench.heard["robot_description"][0].data == description.urdf
    expected = {link.name for link in (*description.links, *description.cameras)}
    assert set(bench.frames) == expected
    q = np.array(bench.robot.home) + 0.1
    tool = ArmKinematics(bench.robot).tool_pose(q).matrix()
    np.testing.assert_allclose(bench.pose(bench.robot.tool_frame), tool, atol=1e-9)
    for camera in bench.robot.cameras:
        mount = np.eye(4) if camera.parent == bench.robot.base_frame else tool
        np.testing.assert_allclose(bench.pose(camera.frame), mount @ camera.nominal_pose(), atol=1e-9)
    # A tool that looks a frame up at the stamp of a joint state finds it there.
    states = {(m.header.stamp.sec, m.header.stamp.nanosec) for m in bench.heard["joint_states"]}
    stamps = [(m.transforms[0].header.stamp.sec, m.transforms[0].header.stamp.nanosec) for m in bench.moving]
    assert set(stamps[1:-1]) <= states


def test_tf_is_the_type_that_every_other_installation_knows(bench: Bench) -> None:
    """Peers go by the type's name and hash, wherever it was built."""
    bench.until(lambda: bench.late.count_publishers("tf"), "tf is there")
    (info,) = bench.late.get_publishers_info_by_topic("/left/tf")
    assert info.topic_type == "tf2_msgs/msg/TFMessage"
    assert "e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087" in str(info.topic_type_hash)


def test_what_every_message_names_is_a_frame(bench: Bench) -> None:
    bench.until(lambda: bench.moving and all(bench.heard.values()), "all topics")
    for topic in ("joint_states", "wrench"):
        frame = bench.heard[topic][-1].header.frame_id
        assert frame == bench.robot.base_frame or frame in bench.frames, topic


@pytest.mark.parametrize(("frames", "cameras", "robot"), [("robot", False, True), ("none", False, False)])
def test_frames_that_others_publish_are_left_to_them(
    tmp_path: Path, frames: str, cameras: bool, robot: bool
) -> None:
    bench = Bench(tmp_path, tf=frames)
    bench.until(lambda: len(bench.heard["joint_states"]) >= 20 and bench.heard["robot_description"], "states")
    assert any(camera.frame in bench.frames for camera in bench.robot.cameras) == cameras
    assert (bench.robot.tool_frame in bench.frames) == robot
    assert bool(bench.late.count_publishers("tf")) == robot
    bench.close()


def test_the_wrench_is_along_the_axes_of_the_frame_that_it_names(bench: Bench) -> None:
    """A tool that points down and is pushed upwards: -z for the tool, +z for the base."""
    bench.until(lambda: bench.heard["wrench"], "wrench")
    assert bench.heard["wrench"][-1].header.frame_id == bench.robot.tool_frame
    status = bench.node._core.status()
    down = np.array([0.4, 0, 0.3, 0.0, 1.0, 0, 0])  # half a turn about x
    push = np.array([1.0, 2.0, 7.0, 0.1, 0.2, 0.3])
    pushed = replace(status.tool, pose=down, external_wrench=push)
    message = conversions.tool_wrench_to_msg(pushed, status.stamp_ns, "tool0")
    assert message.header.frame_id == "tool0"
    np.testing.assert_allclose(
        conversions.wrench_from_msg(message.wrench), [1, -2, -7, 0.1, -0.2, -0.3], atol=1e-12
    )


def test_perceived_objects_are_frames_while_they_are_believed_in(bench: Bench) -> None:
    frames = ObjectFrames(bench.node, bench.robot)
    things = tuple(
        SceneObject(
            i, label, np.array([0.5, 0.1 * i, 0.2]), np.array([np.sqrt(0.5), 0, 0, np.sqrt(0.5)]), np.eye(6), np.zeros(3),
            np.ones(3), confidence, 1,
        )
        for i, (label, confidence) in enumerate({"red_cup": 0.9, "green_cup": 0.0, "top_shelf": 1.0}.items())
    )  # fmt: skip
    tool = EndEffectorState.at_rest(np.zeros(3), np.eye(4)[0], 0.0)
    scene = SceneState(7_000_000_001, things, np.zeros(7), np.zeros(7), (tool,))
    bench.until(lambda: bench.late.count_publishers("tf") == 2, "discovery")
    deadline = time.monotonic() + 20
    while "top_shelf" not in bench.frames:
        assert time.monotonic() < deadline
        frames.publish(scene)
        time.sleep(0.05)
    assert "green_cup" not in bench.frames
    parent, pose = bench.frames["red_cup"]
    assert parent == bench.robot.base_frame
    np.testing.assert_allclose(pose, matrix(things[0].position_m, things[0].orientation), atol=1e-12)
