"""Perception as a ROS node: images and joint states in, scenes out."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field

from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String

from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.optics import Optics
from physai_base.resources import defaults
from physai_base.stream import StreamCheck
from physai_base.task import load_tasks
from physai_base.values import CameraFrame
from physai_base.values import JointState as State
from physai_perception.errors import FrameError, RegistrationError
from physai_perception.inputs import PARTS, InputWatch, behind, clocks
from physai_perception.joint_assembly import JointAssembler
from physai_perception.pairing import FramePairing
from physai_perception.perception import ScenePerception
from physai_perception.rectification import FrameMaker, Picture, parse_extrinsics
from physai_perception.settings import PerceptionSettings
from physai_ros import conversions, topics
from physai_ros.depth_source import depth_source
from physai_ros.lifecycle_node import PhysaiNode, run_node
from physai_ros.robot_state import ObjectFrames

WATCH_PERIOD_S = 0.2
SOON_S = 0.5  # for what no patience mends
STUCK_S = 0.5  # an image that waits longer for its joint states is a condition
SET_BACK_NS = 300_000_000  # stamps that run back further than this: time was set back
REMARKS = (  # of images that are taken all the same
    "registration_unchecked",
    "registration_unknown",
    "depth_grown",
    "depth_scale",
    "markers_uneven",
    "marker_left_out",
    "object_unfit",
    "camera_info_frame",
    "depth_info_ignored",
    "depth_reading_unknown",
)
CHANGE_S = 0.5  # for the table to be changed in, before another task's things are looked for
MAX_JOINT_STATES = 4096  # kept for perception while no image comes


@dataclass(frozen=True)
class PerceptionParameters(PerceptionSettings):
    """Parameters of the node."""

    robot: str = field(
        default=defaults()["robot"], metadata={"description": "embodiment: an installed name or a file"}
    )
    task: str = field(
        default="",
        metadata={
            "description": "task: an installed name or a file; empty: the default one. By commas: the first one until `task` names "
            "another"
        },
    )
    camera_timeout_s: float = field(
        default=1.0,
        metadata={
            "unit": "s",
            "range": (0.05, 60.0),
            "description": "an input that does not come for this long is an error",
        },
    )
    pairing_tolerance_s: float = field(
        default=0.01,
        metadata={
            "unit": "s",
            "range": (0.0, 0.2),
            "description": "between the stamps of colour and depth of one moment",
        },
    )
    depth_source: str = field(
        default="image",
        metadata={
            "description": "what depth comes as: image (sensor_msgs/Image), or the name of a plug-in (entry points physai.depth)"
        },
    )
    colour_rectified: str = field(
        default="auto",
        metadata={
            "choices": ("auto", "yes", "no"),
            "description": "whether the lens is already taken out of the colour image; auto: its topic is image_rect…",
        },
    )
    depth_extrinsics: str = field(
        default="",
        metadata={
            "description": "the depth camera's pose in the colour camera's optical frame, x y z qx qy qz qw [m], for depth that "
            "is not registered"
        },
    )


class PerceptionNode(PhysaiNode[PerceptionParameters]):
    """Pairs colour and depth of one moment and runs perception on them in a thread of its own."""

    name = "perception"
    parameters_type = PerceptionParameters

    def setup(self) -> None:
        """Load the embodiment and subscribe."""
        parameters = self.parameters
        self._embodiment = Embodiment.load(parameters.robot)
        self._perceptions = {
            task.name: ScenePerception(self._embodiment, task, parameters)
            for task in load_tasks(parameters.task)
        }
        self._perception = next(iter(self._perceptions.values()))
        self._next = self._perception  # from the next image on that is not older than `_from_ns`
        self._from_ns = 0
        camera = self._perception.camera.name
        self._frames = FrameMaker(camera, parse_extrinsics(parameters.depth_extrinsics))
        self._pairing: FramePairing[Image] = FramePairing(parameters.pairing_tolerance_s)
        self._assembler = JointAssembler(self._embodiment)
        self._publisher = topics.advertise(self, "scene")
        self._object_frames = ObjectFrames(self, self._embodiment)
        self._optics: Optics | None = None
        self._depth_optics: Optics | None = None
        self._latest: tuple[int, Image, Image] | None = None
        self._joints: deque[State] = deque(maxlen=MAX_JOINT_STATES)  # not yet given to perception
        self._newest_ns: int | None = None
        self._used_s = 0.0  # when an image last left the queue
        self._wake = threading.Condition()
        self._running = self._stopping = False
        base = f"camera/{camera}"
        self._source = depth_source(parameters.depth_source)
        heard = {
            "colour": (f"{base}/image_raw", lambda m: self._on_image("colour", m)),
            "depth": (self._source.topic.name.replace("*", camera), lambda m: self._on_image("depth", m)),
            "camera_info": (f"{base}/camera_info", self._on_info),
            "depth_info": (f"{base}/depth/camera_info", self._on_depth_info),
            "joint_states": ("joint_states", self._on_joints),
        }
        self._topics = {part: self.resolve_topic_name(name) for part, (name, _) in heard.items()}
        auto = _says_rectified(self._topics["colour"])
        self._rectified = {"auto": auto, "yes": True, "no": False}[parameters.colour_rectified]
        self._inputs = InputWatch(camera, self._topics, parameters.camera_timeout_s, self.count_publishers)
        self._stream = StreamCheck(self._perception.camera, self._topics["colour"])
        for part, (name, callback) in heard.items():
            topics.hear(self, name, callback, entry=self._source.topic if part == "depth" else None)
        self.create_timer(WATCH_PERIOD_S, self._watch, clock=self.steady_clock)
        topics.hear(self, "task", self._on_task)
        self._thread = threading.Thread(target=self._loop, name="perceive", daemon=True)
        self._thread.start()

    def start(self) -> None:
        """Begin to publish scenes."""
        self._used_s = time.monotonic()
        self._inputs.restart(self._used_s)
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

    def _on_task(self, message: String) -> None:
        """Another task's things are looked for, once the table has been changed; until then there is no scene."""
        found = self._perceptions.get(message.data)
        if found is None:
            self.warn_throttled(
                f"the task {message.data} is not loaded here: {', '.join(self._perceptions)} are"
            )
            return
        with self._wake:
            if found is self._next:
                return
            self._next = found
            self._from_ns = self.get_clock().now().nanoseconds + round(CHANGE_S * 1e9)
        self.get_logger().info(f"looks for the things of the task {message.data}")

    def _on_info(self, message: CameraInfo) -> None:
        self._inputs.arrived("camera_info", time.monotonic())
        self._optics = conversions.optics_from_msg(message, self._topics["camera_info"])

    def _on_depth_info(self, message: CameraInfo) -> None:
        self._depth_optics = conversions.optics_from_msg(message, self._topics["depth_info"])

    def _on_joints(self, message: JointState) -> None:
        try:
            samples = conversions.joint_samples_from_msg(message, self._assembler.names)
            state = self._assembler.add(conversions.time_from_msg(message.header.stamp), samples)
        except PhysaiError as error:
            self._inputs.arrived("joint_states", time.monotonic())
            refused = self._inputs.joint_state(str(error))
            self.conditions.set(
                "joint_states_refused", refused if self._running else "", error=True, patience_s=SOON_S
            )
            self.warn_throttled(f"joint state refused: {error}")
            return
        if state is None:  # of wheels, or of the hand alone
            self._inputs.foreign = ", ".join(message.name[:4]) + (", …" if len(message.name) > 4 else "")
            return
        self._inputs.arrived("joint_states", time.monotonic())
        refused = self._inputs.joint_state("")  # every second one is as good as none
        self.conditions.set(
            "joint_states_refused", refused if self._running else "", error=True, patience_s=SOON_S
        )
        self.conditions.set("joint_states_mended", self._assembler.remark if self._running else "")
        with self._wake:
            self._joints.append(state)
            self._newest_ns = state.stamp_ns
            self._wake.notify()

    def _on_image(self, part: str, message: Image) -> None:
        self._inputs.arrived(part, time.monotonic())
        stamp_ns = conversions.time_from_msg(message.header.stamp)
        if stamp_ns == 0:
            text = f"images on {self._topics[part]} carry no stamp; the driver must fill in header.stamp"
            self.conditions.set(f"{part}_unstamped", text if self._running else "", True, patience_s=SOON_S)
            return
        self.conditions.end(f"{part}_unstamped")
        if part == "colour":
            self._stream.add(stamp_ns)
        pair = self._pairing.add(part, stamp_ns, message)
        if pair is None:
            return
        with self._wake:
            self._latest = pair  # an older one that waits is dropped
            self._wake.notify()

    def _watch(self) -> None:
        """Say what is waited for."""
        if not self._running:
            return
        now_s, conditions, names = time.monotonic(), self.conditions, self._topics
        missing = {one.name: one for one in self._inputs.missing(now_s)}
        for name in ("camera_absent", *(f"{part}_absent" for part in PARTS)):
            one = missing.get(name)
            if one is None:
                conditions.end(name)
            else:
                conditions.set(name, one.text, True, one.since_s, self.parameters.camera_timeout_s)
        conditions.set(
            "unpaired",
            f"{names['colour']} and {names['depth']}: {fault}" if (fault := self._pairing.fault) else "",
            True,
        )
        conditions.set("camera_slow", self._stream.too_slow())
        conditions.set("images_refused", self._inputs.refusals(), error=True)
        conditions.set("camera_runs_back", self._inputs.back_and_forth(), error=True)
        latest, newest_ns = self._latest, self._newest_ns
        waits = latest is not None and self._optics is not None and now_s - self._used_s > STUCK_S
        if waits:
            self.report_ok()  # what was wrong with the last image is not what is wrong now
        other = "joint_states_absent" in missing or conditions.since_s("joint_states_refused") is not None
        early = latest is not None and (
            newest_ns is None or latest[0] > newest_ns
        )  # else it is being looked at, or next
        if waits and latest is not None and early and not other:
            text = clocks(latest[0], newest_ns, names["colour"], names["joint_states"])
            conditions.set("camera_ahead", text, True, self._used_s, 2 * SOON_S)
        else:
            conditions.end("camera_ahead")

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
                assert self._latest is not None and self._newest_ns is not None
                pair, self._latest = self._latest, None
                joints, self._joints = self._joints, deque(maxlen=MAX_JOINT_STATES)
                newest_ns = self._newest_ns
                following, from_ns = self._next, self._from_ns
            self._used_s = time.monotonic()
            if following is not self._perception:
                following.reset()
                following.joints = self._perception.joints  # what the arm measured is of no task
                self._perception = following
            refusal = ""
            ran_back = last_ns is not None and pair[0] < last_ns - SET_BACK_NS
            try:
                if ran_back:
                    self._perception.reset()
                last_ns = pair[0]
                for state in joints:
                    self._perception.add_joint_state(state)
                if pair[0] < from_ns:
                    continue
                scene = self._perception.observe(self._frame(*pair))
            except PhysaiError as error:
                refusal = str(error)
                if isinstance(error, RegistrationError):
                    self._frames.reconsider()
                self.report_error(refusal)
            self._inputs.evaluated(refusal, ran_back)
            remarks = {**self._perception.remarks, **self._frames.remarks}
            for name in REMARKS:
                self.conditions.set(name, remarks.get(name, ""))
            late = behind(pair[0], newest_ns, self._topics["colour"], self._topics["joint_states"])
            self.conditions.set("camera_behind", late)
            if refusal:
                continue
            self.report_ok()
            if self._running:
                self._publisher.publish(conversions.scene_to_msg(scene, self._embodiment))
                self._object_frames.publish(scene)

    def _frame(self, stamp_ns: int, rgb: Image, depth: Image) -> CameraFrame:
        """The registered pinhole image of a pair."""
        wrong = self._stream.wrong_size(rgb.width, rgb.height) if self._whole(self._optics) else ""
        if wrong:
            raise FrameError(wrong)
        assert self._optics is not None
        colour = Picture(
            conversions.rgb_from_msg(rgb), self._topics["colour"], rgb.header.frame_id, self._rectified
        )
        measured = Picture(
            self._source.metres(depth),
            self._topics["depth"],
            depth.header.frame_id,
            _says_rectified(self._topics["depth"]),
        )
        return self._frames.make(stamp_ns, colour, measured, self._optics, self._depth_optics)

    @staticmethod
    def _whole(optics: Optics | None) -> bool:
        """Whether images are to have the full size: neither binned nor cut."""
        return optics is None or (optics.bins == (1, 1) and optics.region[:2] == (0, 0))

    def _ready(self) -> bool:
        """Whether there is an image, its calibration and a joint state not older than it."""
        if self._stopping:
            return True
        if self._latest is None or self._optics is None or not self._running:
            return False
        return self._newest_ns is not None and self._newest_ns >= self._latest[0]


def _says_rectified(topic: str) -> bool:
    return topic.rsplit("/", 1)[-1].startswith("image_rect")


def main() -> None:
    """Entry point of the executable `perception`."""
    run_node(PerceptionNode)


if __name__ == "__main__":
    main()
