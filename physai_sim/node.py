"""The embedded cell as a ROS node: physics in lock step with the controller, cameras, clock and services."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import mujoco
import numpy as np
from geometry_msgs.msg import Pose, Vector3
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String
from std_srvs.srv import Trigger

from physai.msg import GroundTruth, SceneState
from physai.srv import Randomize, Score
from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.expert import Goal
from physai_base.outcome import NO_SUCH_GOAL, Stance
from physai_base.resources import defaults
from physai_base.task import load_tasks
from physai_ros import conversions, topics
from physai_ros.lifecycle_node import PhysaiNode, run_node
from physai_ros.place import shared_memory_file, shared_memory_of
from physai_sim.bridge import TopicBridge
from physai_sim.camera import CellCameras, Shutter
from physai_sim.plant import Plant
from physai_sim.scene import Scene, parse_parts

CLOCK_STEPS = 10  # physics steps of 1 ms between two clock messages
STEP_S = 0.001
READY_TIMEOUT_S = 20.0
DISCOVERY_S = 0.5  # in which a robot that is there is seen
END_TIMEOUT_S = 0.9  # for the threads to end
CHANGE_S = 1.0  # of simulated time without a scene after the table was changed, in which perception is not waited for
PERCEPTION_PATIENCE_S = 0.5  # wall time without a scene after which perception counts as silent


@dataclass(frozen=True)
class SimParameters:
    """Parameters of the node."""

    robot: str = field(
        default=defaults()["robot"], metadata={"description": "embodiment: an installed name or a file"}
    )
    task: str = field(
        default="",
        metadata={
            "description": "task: an installed name or a file; empty: the default one. By commas: the first one's things stand there "
            "until `task` names another"
        },
    )
    real_time_factor: float = field(
        default=1.0,
        metadata={"range": (0.0, 100.0), "description": "pace of simulated time; 0 runs as fast as possible"},
    )
    perception_lag_s: float = field(
        default=0.2,
        metadata={
            "unit": "s",
            "range": (0.0, 10.0),
            "description": "simulated time waits when the newest scene is older: a slow machine makes time slow, not the "
            "robot blind; 0: it never waits",
        },
    )


@dataclass(frozen=True)
class _Snapshot:
    """The physics' state at the stamp of an image, and the cameras that take one then."""

    scene: Scene
    stamp_ns: int
    cameras: tuple[str, ...]
    qpos: np.ndarray
    qvel: np.ndarray


class SimNode(PhysaiNode[SimParameters]):
    """Runs the cell. Physics, rendering and ROS each have a thread; the scene is changed by the first alone."""

    name = "sim"
    parameters_type = SimParameters
    executor_threads = 2  # services wait for physics
    _now_ns = 0

    def setup(self) -> None:
        """Build the cell, open the shared memory and start the clock; physics run from now on."""
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._embodiment = Embodiment.load(self.parameters.robot)
        tasks, hardware = load_tasks(self.parameters.task), self._embodiment.hardware
        if len(tasks) > 1 and hardware.backend == "topic":
            raise PhysaiError(
                f"{self.parameters.task}: the cell changes its task under a robot behind shared memory alone, and this one is "
                "behind topics; give one task"
            )
        self._scenes = {task.name: Scene.build(self._embodiment, task) for task in tasks}
        self._scene = next(iter(self._scenes.values()))  # of the task whose things stand there
        self._wire = self._stand_in() if hardware.backend == "topic" else None
        self._shm_name = "" if self._wire else shared_memory_of(self, hardware.options["name"])
        self.go_on()
        self._plant = Plant(
            self._scene.model, self._scene.data, self._embodiment, core=self._wire,
            shm_name=self._shm_name, real_time_factor=self.parameters.real_time_factor,
            own_servos=self._wire is not None,
        )  # fmt: skip
        self._clock_publisher = topics.advertise(self, "clock")
        self._truth = topics.advertise(self, "~/ground_truth")
        self._plant_truth = topics.advertise(self, "~/joint_truth")
        self._images, self._camera_infos = {}, {}
        for camera in self._embodiment.cameras:
            topic = f"camera/{camera.name}"
            self._images[camera.name] = (
                topics.advertise(self, f"{topic}/image_raw"),
                topics.advertise(self, f"{topic}/depth/image_rect_raw"),
            )
            # Depth is registered to colour, so what is said of the one holds for the other.
            self._camera_infos[camera.name] = (
                topics.advertise(self, f"{topic}/camera_info"),
                topics.advertise(self, f"{topic}/depth/camera_info"),
            )
        self._scene_ns, self._scene_s = 0, 0.0  # stamp of the newest scene, and when it came
        self._scene_came = threading.Event()
        if self.parameters.perception_lag_s > 0:
            topics.hear(self, "scene", self._on_scene)
        topics.hear(self, "task", self._on_task)
        group = MutuallyExclusiveCallbackGroup()
        self.create_service(Trigger, "~/reset", self._reset, callback_group=group)
        self.create_service(Randomize, "~/randomize", self._randomize, callback_group=group)
        self.create_service(Score, "~/score", self._score, callback_group=group)
        self._start_stances: dict[str, Stance] = {}
        self._jobs: queue.Queue[tuple[threading.Event, Callable[[], None]]] = queue.Queue()
        self._frames: queue.Queue[_Snapshot] = queue.Queue(maxsize=1)
        self._model_lock = threading.Lock()  # randomization edits the model that the renderer reads
        self._renderer_ready = threading.Event()
        self._renderer_error: Exception | None = None
        self._threads = [
            threading.Thread(target=self._render_loop, name="render", daemon=True),
            threading.Thread(target=self._physics_loop, name="physics", daemon=True),
        ]
        self._threads[0].start()
        waits = "waits for the renderer: is there an EGL device, or OSMesa?"
        if not self.wait_until(self._renderer_ready.is_set, READY_TIMEOUT_S, "renderer_starting", waits):
            raise PhysaiError(f"the renderer did not start within {READY_TIMEOUT_S:g} s")
        if self._renderer_error is not None:
            raise self._renderer_error
        self._threads[1].start()

    def _stand_in(self) -> TopicBridge:
        """The cell in the place of a robot behind topics.

        Raises:
            PhysaiError: that robot is there itself: both would be driven, by what one of them measures.
        """
        wire = f"{self.get_name()}_topics"
        topic = self._embodiment.hardware.options.get("state_topic", "hardware/joint_states")

        def robot() -> str:
            there = {
                name for name in topics.publishers(self, topic).values() if not name.endswith(f"/{wire}")
            }
            names = ", ".join(sorted(there))
            return (
                f"{names} publishes {topic}: the robot is there, and the cell would stand in for it; give sim:=none"
                if there
                else ""
            )

        if self.wait_until(lambda: bool(robot()), DISCOVERY_S):
            raise PhysaiError(robot())
        self.create_timer(1.0, lambda: self.fail(why) if (why := robot()) else None, clock=self.steady_clock)
        return TopicBridge(
            self._scene.model,
            self._scene.data,
            self._embodiment,
            node_name=wire,
            namespace=self.get_namespace(),
        )

    def ros_time_ns(self) -> int:
        """Simulated time, which this node makes: it does not listen to its own clock."""
        return self._now_ns

    def teardown(self) -> None:
        """End the threads and remove the shared memory."""
        plant, wire = (
            getattr(self, "_plant", None),
            getattr(self, "_wire", None),
        )  # setup() may have broken off
        self._stopping.set()
        if plant:
            plant.interrupt()
        deadline = time.monotonic() + END_TIMEOUT_S
        for thread in reversed(self._threads):
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads[1:]):
            # The middleware may hold a publisher up when its peers end at the same moment; physics then still uses
            # the plant, which cannot be freed. Its name must not stay.
            if self._shm_name:
                shared_memory_file(self._shm_name).unlink(missing_ok=True)
            return
        for part in (plant, wire):
            if part:
                part.close()

    def _physics_loop(self) -> None:
        """Steps the plant; between steps it publishes the clock, hands snapshots over and runs jobs."""
        shutter = Shutter({camera.name: camera.rate_hz for camera in self._embodiment.cameras})
        steps, next_clock = 0, CLOCK_STEPS
        waits = "simulated time waits for the controller's command: it lives and does not answer"
        try:
            while not self._stopping.is_set():
                with self.conditions.during("controller_late", waits):
                    done = self._plant.run(min(next_clock, shutter.next_step) - steps)
                steps += done
                self._scene.step(done * STEP_S)
                self._now_ns = stamp_ns = round(self._scene.data.time * 1e9)
                if steps >= next_clock:
                    next_clock += CLOCK_STEPS
                    clock = Clock()
                    clock.clock = conversions.time_to_msg(stamp_ns)
                    self._clock_publisher.publish(clock)
                    self._publish_joint_truth(stamp_ns)
                due = shutter.due(steps)
                if due:
                    self._publish_camera_infos(due, stamp_ns)
                    self._take_images(due, stamp_ns)
                    self._publish_truth(stamp_ns)
                self._run_jobs()
        except Exception as error:
            if not self._stopping.is_set():
                self.fail(f"physics ended: {error}")

    def _publish_camera_infos(self, cameras: tuple[str, ...], stamp_ns: int) -> None:
        """Whether or not anybody takes the images: calibration tools and rviz2 ask for this alone."""
        for name in cameras:
            for publisher in self._camera_infos[name]:
                if publisher.get_subscription_count():
                    publisher.publish(
                        conversions.promised_camera_info(self._embodiment.camera(name), stamp_ns)
                    )

    def _take_images(self, cameras: tuple[str, ...], stamp_ns: int) -> None:
        """Hand the present state to the renderer, for the cameras that somebody looks through."""
        wanted = tuple(
            name
            for name in cameras
            if any(publisher.get_subscription_count() for publisher in self._images[name])
        )
        if not wanted:
            return
        data = self._scene.data
        snapshot = _Snapshot(self._scene, stamp_ns, wanted, data.qpos.copy(), data.qvel.copy())
        self._wait_for_perception(stamp_ns)
        # A slow renderer slows simulated time down; it never makes images late or lost.
        with self.conditions.during("renderer_late", "simulated time waits for the renderer, which hangs"):
            while not self._stopping.is_set():
                try:
                    self._frames.put(snapshot, timeout=0.1)
                    break
                except queue.Full:
                    continue

    def _on_scene(self, message: SceneState) -> None:
        self._scene_ns = conversions.time_from_msg(message.header.stamp)
        self._scene_s = time.monotonic()
        self._scene_came.set()

    def _wait_for_perception(self, stamp_ns: int) -> None:
        """Let a perception that is alive catch up; one that is silent is not waited for."""
        lag_ns = self.parameters.perception_lag_s * 1e9
        while stamp_ns - self._scene_ns > lag_ns and not self._stopping.is_set():
            if time.monotonic() - self._scene_s > PERCEPTION_PATIENCE_S:
                return
            self._scene_came.clear()
            self._scene_came.wait(0.02)

    def _run_jobs(self) -> None:
        while True:
            try:
                done, job = self._jobs.get_nowait()
            except queue.Empty:
                return
            job()
            done.set()

    def _in_physics(self, job: Callable[[], None]) -> bool:
        """Run `job` between two steps; False when physics did not get to it."""
        done = threading.Event()
        self._jobs.put((done, job))
        with self.conditions.during("physics_late", "a service waits for physics, which does not come to it"):
            return done.wait(10.0)

    def _render_loop(self) -> None:
        if not self._embodiment.cameras:  # then nobody needs a graphics library either
            self._renderer_ready.set()
            return
        try:
            cameras = {
                name: CellCameras(scene.model, self._embodiment.cameras)
                for name, scene in self._scenes.items()
            }
        except Exception as error:
            self._renderer_error = error
            self._renderer_ready.set()
            return
        self._renderer_ready.set()
        try:
            self._render(cameras)
        except Exception as error:
            if not self._stopping.is_set():
                self.fail(f"rendering ended: {type(error).__name__}: {error}")
        for each in cameras.values():
            each.close()

    def _render(self, cameras: Mapping[str, CellCameras]) -> None:
        """Draw every snapshot."""
        states = {name: mujoco.MjData(scene.model) for name, scene in self._scenes.items()}
        current = ""
        while not self._stopping.is_set():
            try:
                snapshot = self._frames.get(timeout=0.1)
            except queue.Empty:
                continue
            name, model = snapshot.scene.task.name, snapshot.scene.model
            data, view = states[name], cameras[name]
            if name != current:
                view.use()
                current = name
            with self._model_lock:
                data.qpos[:], data.qvel[:] = snapshot.qpos, snapshot.qvel
                mujoco.mj_kinematics(model, data)
                mujoco.mj_camlight(model, data)
                frames = [view.render(data, camera, snapshot.stamp_ns) for camera in snapshot.cameras]
            for frame in frames:
                colour, depth = self._images[frame.camera]
                frame_id = self._embodiment.camera(frame.camera).frame
                colour.publish(conversions.rgb_to_msg(frame, frame_id))
                depth.publish(conversions.depth_to_msg(frame, frame_id))

    def _publish_joint_truth(self, stamp_ns: int) -> None:
        """What the arm really does, for tests that do not believe the controller."""
        if not self._plant_truth.get_subscription_count():
            return
        names = self._embodiment.joint_names
        joints = [self._scene.data.joint(name) for name in names]
        position, velocity = np.array([[joint.qpos[0], joint.qvel[0]] for joint in joints]).T
        self._plant_truth.publish(
            conversions.joints_to_msg(
                conversions.header(stamp_ns, self._embodiment.base_frame), names, position, velocity
            )
        )

    def _publish_truth(self, stamp_ns: int) -> None:
        if not self._truth.get_subscription_count():
            return
        message = GroundTruth()
        message.header.stamp = conversions.time_to_msg(stamp_ns)
        message.header.frame_id = self._embodiment.base_frame
        message.labels = [*self._scene.task.objects, *self._scene.task.places]
        message.poses = [self._pose(label) for label in message.labels]
        message.upright = [self._scene.upright(label) for label in message.labels]
        message.sizes = [self._size(label) for label in message.labels]
        self._truth.publish(message)

    def _pose(self, label: str) -> Pose:
        site, measured, quat = self._scene.data.site(label), self._scene.measured(label), np.empty(4)
        mujoco.mju_mat2Quat(quat, site.xmat)
        return conversions.pose_to_msg(site.xpos if measured is None else measured.position_m, quat)

    def _size(self, label: str) -> Vector3:
        measured = self._scene.measured(label)
        known = self._scene.task.kind(label).size_m if measured is None else measured.size_m
        x, y, z = map(float, np.zeros(3) if known is None else known)
        return Vector3(x=x, y=y, z=z)

    def _on_task(self, message: String) -> None:
        """Somebody clears the table and brings another task's things, while the arm stays where it is."""
        scene = self._scenes.get(message.data)
        if scene is None:
            self.warn_throttled(f"the task {message.data} is not loaded here: {', '.join(self._scenes)} are")
        elif scene is not self._scene and not self._in_physics(lambda: self._change_to(scene)):
            self.warn_throttled(f"the table was not changed for {message.data}: physics did not answer")

    def _change_to(self, scene: Scene) -> None:
        with self._model_lock:
            scene.take_over(self._scene)
        self._plant.move(scene.model, scene.data)
        self._scene = scene
        self._start_stances = scene.stances()
        self._scene_ns = self._now_ns + round(CHANGE_S * 1e9)  # perception, too, waits until that is done

    def _rearrange(self, change: Callable[[], None]) -> None:
        with self._model_lock:
            change()
        self._plant.reset()
        self._start_stances = self._scene.stances()

    def _reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._in_physics(lambda: self._rearrange(self._scene.reset))
        response.message = "" if response.success else "physics did not answer"
        return response

    def _randomize(self, request: Randomize.Request, response: Randomize.Response) -> Randomize.Response:
        try:
            parts = parse_parts(request.parts or ["poses"])
        except ValueError as error:
            response.success, response.message = False, str(error)
            return response

        def rearrange() -> None:
            self._rearrange(lambda: self._scene.randomize(int(request.seed), parts))
            response.labels = [*self._scene.task.objects, *self._scene.task.places]
            response.poses = [self._pose(label) for label in response.labels]

        response.success = self._in_physics(rearrange)
        response.message = "" if response.success else "physics did not answer"
        return response

    def _score(self, request: Score.Request, response: Score.Response) -> Score.Response:
        def judge() -> None:
            start = self._start_stances or None
            response.failure = self._scene.score(Goal(request.target, request.destination), start)
            response.success = not response.failure
            if request.destination and response.failure != NO_SUCH_GOAL:
                offset = self._scene.position(request.target) - self._scene.position(request.destination)
                response.distance = float(np.linalg.norm(offset))

        if not self._in_physics(judge):
            response.success, response.failure = False, "physics did not answer"
        return response


def main() -> None:
    """Entry point of the executable `sim`."""
    run_node(SimNode)


if __name__ == "__main__":
    main()
