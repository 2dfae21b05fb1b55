"""Perception as a ROS node: images and joint states in, scenes out."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from sensor_msgs.msg import CameraInfo, Image, JointState

from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.task import Task
from physai_base.values import CameraFrame
from physai_base.values import JointState as State
from physai_perception.perception import ScenePerception
from physai_perception.settings import PerceptionSettings
from physai_ros import conversions, topics
from physai_ros.lifecycle_node import PhysaiNode, run_node
from physai_ros.robot_state import ObjectFrames


@dataclass(frozen=True)
class PerceptionParameters:
    """Parameters of the node."""

    robot: str = field(default="fr3", metadata={"description": "embodiment: an installed name or a file"})
    task: str = field(default="cups", metadata={"description": "task: an installed name or a file"})
    camera: str = field(
        default="overview", metadata={"description": "camera of the embodiment that looks at the table"}
    )
    camera_timeout_s: float = field(
        default=1.0,
        metadata={"unit": "s", "range": (0.05, 60.0), "description": "no image for this long is an error"},
    )


class PerceptionNode(PhysaiNode[PerceptionParameters]):
    """Pairs colour and depth of one stamp and runs perception on them in a thread of its own."""

    name = "perception"
    parameters_type = PerceptionParameters

    def setup(self) -> None:
        """Load the embodiment and subscribe."""
        self._embodiment = Embodiment.load(self.parameters.robot)
        self._task = Task.load(self.parameters.task)
        settings = PerceptionSettings(camera=self.parameters.camera)
        self._perception = ScenePerception(self._embodiment, self._task, settings)
        self._publisher = topics.advertise(self, "scene")
        self._object_frames = ObjectFrames(self, self._embodiment)
        self._intrinsics: CameraInfo | None = None
        self._parts: dict[int, dict[str, Image]] = {}
        self._latest: tuple[Image, Image] | None = None
        self._joints: list[State] = []  # not yet given to perception, which is not thread-safe
        self._newest_ns: int | None = None
        self._wake = threading.Condition()
        self._running = self._stopping = False
        self._last_image_s = time.monotonic()
        topic = f"camera/{self.parameters.camera}"
        topics.hear(self, f"{topic}/camera_info", self._on_info)
        topics.hear(self, f"{topic}/image_raw", lambda m: self._on_image("rgb", m))
        topics.hear(self, f"{topic}/depth/image_rect_raw", lambda m: self._on_image("depth", m))
        topics.hear(self, "joint_states", self._on_joints)
        self.create_timer(0.2, self._watch_camera, clock=self.steady_clock)
        self._thread = threading.Thread(target=self._loop, name="perceive", daemon=True)
        self._thread.start()

    def start(self) -> None:
        """Begin to publish scenes."""
        self._last_image_s = time.monotonic()
        self._running = True

    def stop(self) -> None:
        """Publish no more."""
        self._running = False

    def teardown(self) -> None:
        """End the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(timeout=2.0)

    def _on_info(self, message: CameraInfo) -> None:
        self._intrinsics = message

    def _on_joints(self, message: JointState) -> None:
        try:
            state = conversions.joint_state_from_msg(message, self._embodiment)
        except PhysaiError as error:
            self.warn_throttled(f"joint state refused: {error}")
            return
        with self._wake:
            self._joints.append(state)
            self._newest_ns = state.stamp_ns
            self._wake.notify()

    def _on_image(self, kind: str, message: Image) -> None:
        self._last_image_s = time.monotonic()
        stamp = conversions.time_from_msg(message.header.stamp)
        parts = self._parts.setdefault(stamp, {})
        parts[kind] = message
        if len(parts) < 2:
            for old in sorted(self._parts)[:-4]:
                del self._parts[old]
            return
        del self._parts[stamp]
        with self._wake:
            self._latest = (parts["rgb"], parts["depth"])  # an older one that waits is dropped
            self._wake.notify()

    def _watch_camera(self) -> None:
        silent_s = time.monotonic() - self._last_image_s
        if self._running and silent_s > self.parameters.camera_timeout_s:
            self.report_error(f"no image from camera {self.parameters.camera!r} for {silent_s:.1f} s")

    def _loop(self) -> None:
        try:
            self._perceive()
        except Exception as error:
            self.fail(f"perceiving ended: {type(error).__name__}: {error}")

    def _perceive(self) -> None:
        last_ns: int | None = None
        while True:
            with self._wake:
                self._wake.wait_for(self._ready)
                if self._stopping:
                    return
                assert self._latest is not None and self._intrinsics is not None
                (rgb, depth), self._latest = self._latest, None
                info, joints = self._intrinsics, self._joints
                self._joints = []
            try:
                stamp_ns = conversions.time_from_msg(rgb.header.stamp)
                if last_ns is not None and stamp_ns < last_ns:
                    self._perception.reset()  # simulated time was set back
                last_ns = stamp_ns
                for state in joints:
                    self._perception.add_joint_state(state)
                frame: CameraFrame = conversions.frame_from_msgs(rgb, depth, info, self.parameters.camera)
                scene = self._perception.observe(frame)
            except PhysaiError as error:
                self.report_error(str(error))
                continue
            self.report_ok()
            if self._running:
                self._publisher.publish(conversions.scene_to_msg(scene, self._embodiment))
                self._object_frames.publish(scene)

    def _ready(self) -> bool:
        """Whether there is an image and a joint state not older than it."""
        if self._stopping:
            return True
        if self._latest is None or self._intrinsics is None or not self._running:
            return False
        stamp = conversions.time_from_msg(self._latest[0].header.stamp)
        return self._newest_ns is not None and self._newest_ns >= stamp


def main() -> None:
    """Entry point of the executable `perception`."""
    run_node(PerceptionNode)


if __name__ == "__main__":
    main()
