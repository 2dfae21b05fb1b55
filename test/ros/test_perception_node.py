"""The perception node on messages as cameras and drivers send them: scenes, or what is missing on `diagnostics`."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import paths
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import CameraInfo, Image, JointState

from physai.msg import SceneState
from physai_base.embodiment import Embodiment
from physai_base.values import CameraFrame
from physai_base.values import JointState as State
from physai_perception.node import PerceptionNode
from physai_ros import conversions, qos
from physai_ros.executor import CachingExecutor

pytestmark = pytest.mark.ros
CASES = paths.CASES / "images"
MS = 1_000_000
WAIT_S = 30.0
_domains = itertools.count(150 + os.getpid() % 40)


class Bench:
    """The node, active, and somebody who sends and listens."""

    def __init__(self, context: rclpy.Context) -> None:
        self.robot = Embodiment.load("fr3")
        self.rgb = cv2.imread(str(CASES / "cell.png"))[:, :, ::-1]
        depth = cv2.imread(str(CASES / "cell_depth_mm.png"), cv2.IMREAD_UNCHANGED)
        self.depth = depth.astype(np.float32) / np.float32(1000)
        self.node = PerceptionNode(context=context)
        self.other = rclpy.create_node("feeder", context=context)
        self.scenes: list[SceneState] = []
        self.conditions: dict[str, str] = {}
        base = "camera/overview"
        self.senders = {
            "colour": self.other.create_publisher(Image, f"{base}/image_raw", 2),
            "depth": self.other.create_publisher(Image, f"{base}/depth/image_rect_raw", 2),
            "info": self.other.create_publisher(CameraInfo, f"{base}/camera_info", 2),
            "joints": self.other.create_publisher(JointState, "joint_states", 10),
        }
        self.other.create_subscription(SceneState, "scene", self.scenes.append, qos.SENSOR)
        self.other.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.conditions = {v.key: v.value for v in status.values if v.key.startswith("condition.")}

    def messages(self, now_ns: int) -> dict[str, object]:
        frame = CameraFrame(
            now_ns, "overview", self.rgb, self.depth, self.robot.camera("overview").intrinsics()
        )
        return {
            "colour": conversions.rgb_to_msg(frame, "cam"),
            "depth": conversions.depth_to_msg(frame, "cam"),
            "info": conversions.camera_info_to_msg(frame, "cam"),
            "joints": self.joints(now_ns + 5 * MS),
        }

    def joints(self, stamp_ns: int) -> JointState:
        home = np.array(self.robot.home)
        return conversions.joint_state_to_msg(
            State(stamp_ns, home, np.zeros(7), np.zeros(7), np.array([0.08])), self.robot
        )

    def play(self, change: Callable[[dict[str, object]], object], until: Callable[[], bool]) -> bool:
        """Send, changed, until it is so."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            parts = self.messages(self.other.get_clock().now().nanoseconds)
            change(parts)
            for name in ("joints", "info", "depth", "colour"):
                if name in parts:
                    self.senders[name].publish(parts[name])
            time.sleep(0.05)
            if until():
                return True
        return False


@pytest.fixture
def bench() -> Iterator[Bench]:
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=next(_domains))
    bench = Bench(context)
    executor = CachingExecutor(context=context)
    executor.add_node(bench.node)
    executor.add_node(bench.other)

    def spin() -> None:
        with contextlib.suppress(rclpy.executors.ExternalShutdownException):
            executor.spin()

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    state = LifecycleState(label="unconfigured", state_id=1)
    assert bench.node.on_configure(state) is TransitionCallbackReturn.SUCCESS
    assert bench.node.on_activate(state) is TransitionCallbackReturn.SUCCESS
    yield bench
    bench.node.close()
    context.try_shutdown()
    thread.join(5.0)


def without(name: str) -> Callable[[dict[str, object]], object]:
    return lambda parts: parts.pop(name)


@pytest.mark.parametrize(
    ("part", "condition", "topic"),
    [
        ("depth", "depth_absent", "/camera/overview/depth/image_rect_raw"),
        ("joints", "joint_states_absent", "/joint_states"),
        ("info", "camera_info_absent", "/camera/overview/camera_info"),
    ],
)
def test_a_part_that_is_absent_is_named_and_scenes_come_once_it_is_there(
    bench: Bench, part: str, condition: str, topic: str
) -> None:
    key = f"condition.{condition}"
    assert bench.play(without(part), lambda: key in bench.conditions)
    assert topic in bench.conditions[key] and not bench.scenes
    assert bench.play(lambda parts: None, lambda: len(bench.scenes) > 2 and key not in bench.conditions)


def test_stamps_that_differ_pair_or_are_named(bench: Bench) -> None:
    def shift(*names: str, by_ms: int) -> Callable[[dict[str, object]], None]:
        def change(parts: dict[str, object]) -> None:
            for name in names:
                header = parts[name].header
                header.stamp = conversions.time_to_msg(conversions.time_from_msg(header.stamp) + by_ms * MS)

        return change

    assert bench.play(shift("depth", by_ms=1), lambda: len(bench.scenes) > 2)
    assert bench.play(shift("depth", by_ms=18), lambda: "condition.unpaired" in bench.conditions)
    assert "later" in bench.conditions["condition.unpaired"]
    ahead = shift("colour", "depth", "info", by_ms=1500)
    assert bench.play(ahead, lambda: "condition.camera_ahead" in bench.conditions)
    assert "ahead of the newest on /joint_states" in bench.conditions["condition.camera_ahead"]


def test_what_makes_scenes_less_sure_is_a_condition_and_scenes_come(bench: Bench) -> None:
    def of_another(parts: dict[str, object]) -> None:
        parts["info"].header.frame_id = "other_camera"

    key = "condition.camera_info_frame"
    assert bench.play(of_another, lambda: key in bench.conditions and len(bench.scenes) > 2)
    assert "'other_camera'" in bench.conditions[key]
    assert bench.play(lambda parts: None, lambda: key not in bench.conditions)


def test_joint_states_that_cannot_be_used_are_named(bench: Bench) -> None:
    def degrees(parts: dict[str, object]) -> None:
        joints = parts["joints"]
        joints.position = [float(np.degrees(q)) for q in joints.position]

    assert bench.play(degrees, lambda: "condition.joint_states_refused" in bench.conditions)
    assert "degrees" in bench.conditions["condition.joint_states_refused"]
    assert "condition.camera_ahead" not in bench.conditions

    def of_another_arm(parts: dict[str, object]) -> None:
        parts["joints"].name = [f"left_{name}" for name in parts["joints"].name]

    key = "condition.joint_states_absent"
    assert bench.play(of_another_arm, lambda: "left_fr3_joint1" in bench.conditions.get(key, ""))

    turns = itertools.count()

    def every_second(parts: dict[str, object]) -> None:
        if next(turns) % 2:
            parts["joints"].position[0] = float("nan")

    key = "condition.joint_states_refused"
    assert bench.play(every_second, lambda: "of the last 20)" in bench.conditions.get(key, ""))

    def no_effort(parts: dict[str, object]) -> None:
        parts["joints"].effort = [float("nan")] * len(parts["joints"].name)

    assert bench.play(no_effort, lambda: len(bench.scenes) > 2)
