"""The whole stack in one process, as fast as possible: for demonstrations and evaluation.

The parts are those of the nodes: the cell's scene and cameras, perception, agent, judge and the C control
core, which runs the very cycle of its real-time thread. Only the transport is missing; its delay, and that
of the computations, is put back by `LATENCY_S`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.expert import Goal
from physai_base.kinematics import ArmKinematics
from physai_base.outcome import Situation
from physai_base.task import Task
from physai_base.values import ActionChunk, CameraFrame, ControlState, JointState, SceneState
from physai_control.core import ChunkRejected, ControlCore
from physai_lab.evaluation.motion_log import MotionLog
from physai_lab.evaluation.sight import TruthSight
from physai_lab.evaluation.touch import TouchLog, on_arm
from physai_perception.errors import PerceptionError
from physai_perception.perception import ScenePerception
from physai_policy.agent import Agent, AgentSettings, ImageSource
from physai_policy.correction import Corrector
from physai_policy.course import TaskState
from physai_policy.decoding import LEASE, Outgoing
from physai_policy.doubt import Monitor
from physai_policy.policy import Policy, cameras_of
from physai_policy.watch import Stall, why_vetoed
from physai_sim.camera import CellCameras
from physai_sim.disturbance import MOVING_M_S, Disturbance
from physai_sim.plant import Plant
from physai_sim.scene import Scene
from physai_sim.show import Film
from physai_world_model.judge import Judge

# Image stamp to a chunk in the controller: rendering, perception, policy, world model and four topics.
LATENCY_S = 0.08
SUBSTEP_S = 0.01
SCENE_TIMEOUT_S = 2.0  # without a scene the task is aborted, as in the policy's node
# An object counts as picked once the hand has held it this far above where it stood, for so long.
PICK_HEIGHT_M, PICK_S, PICK_REACH_M = 0.05, 0.5, 0.03


class Disturbs(Protocol):
    """Something in the cell that does not wait."""

    def apply(self) -> None:
        """Called every `SUBSTEP_S`."""
        ...


@dataclass
class EpisodeResult:
    """What came of one episode."""

    instruction: str
    goal: Goal
    seed: int
    success: bool
    failure: str  # cause, empty on success
    duration_s: float  # simulated
    chunks: int
    picked: bool = False  # the target, by the simulator's truth; see `PICK_HEIGHT_M`
    vetoes: dict[str, int] = field(default_factory=dict)
    rejections: dict[str, int] = field(default_factory=dict)
    blind_images: int = 0  # that perception refused
    pose_error_mm: list[float] = field(default_factory=list)
    film: Film | None = None
    motion: MotionLog = field(default_factory=lambda: MotionLog(SUBSTEP_S))
    touch: TouchLog = field(default_factory=lambda: TouchLog(SUBSTEP_S))
    stop: str = ""  # why the controller stopped and latched, empty: it did not


@dataclass(frozen=True)
class Moment:
    """What a recorder sees at every image."""

    scene: SceneState
    goal: Goal
    reference: np.ndarray  # (n,) rad the controller's present setpoint
    gripper_command_m: float
    wrench: np.ndarray  # (6,) N, Nm: what pushes the tool, as the controller observes it


class PickWatch:
    """Sees from the simulator's truth whether an object is picked."""

    def __init__(self, scene: Scene, label: str) -> None:
        self._scene, self._label = scene, label
        self._start_m = scene.position(label)[2]
        self._held_s = 0.0
        self.picked = False

    def look(self, seconds: float) -> None:
        """Once for each piece of simulated time."""
        foot = self._scene.position(self._label)
        tool = self._scene.data.site(self._scene.embodiment.tool_frame).xpos
        held = (
            foot[2] - self._start_m >= PICK_HEIGHT_M and np.linalg.norm(tool[:2] - foot[:2]) <= PICK_REACH_M
        )
        self._held_s = self._held_s + seconds if held else 0.0
        self.picked = self.picked or self._held_s >= PICK_S


class Cell:
    """One cell with its controller and its perception."""

    def __init__(
        self,
        embodiment: Embodiment,
        task: Task,
        sight: str = "camera",
        render: bool = False,
        beyond: tuple[str, ...] = (),
    ) -> None:
        """`sight`: "camera" renders images and perceives, "truth" takes noisy scenes from the simulator's state.

        With `render` there are images in either case, for those who `photograph`. `beyond` says in which ways random cells
        leave the ranges, which are otherwise those of training.
        """
        self.embodiment, self.task = embodiment, task
        self.scene = Scene.build(embodiment, task, beyond)
        self.camera = embodiment.scene_camera
        see = render or sight == "camera"
        self.cameras = CellCameras(self.scene.model, embodiment.cameras) if see else None
        self.sight = TruthSight(self.scene, 0) if sight == "truth" else None
        self.disturbance: Disturbs | None = None
        self._seen: SceneState | None = None  # the last scene
        self.kinematics = ArmKinematics(embodiment)
        self.core = ControlCore(embodiment)
        self.plant = Plant(self.scene.model, self.scene.data, embodiment, core=self.core)
        self.perception = ScenePerception(embodiment, task) if self.sight is None else None

    def close(self) -> None:
        """Free the renderer, the core and the plant."""
        if self.cameras is not None:
            self.cameras.close()
        self.plant.close()
        self.core.close()

    @property
    def now_ns(self) -> int:
        """Simulated time."""
        return round(self.scene.data.time * 1e9)

    def randomize(self, seed: int, parts: tuple[str, ...]) -> None:
        """A new random cell, the arm holding at home, whatever state the last episode left it in."""
        self.disturbance, self._seen = None, None
        if self.sight is not None:
            self.sight = TruthSight(self.scene, seed)
        self.scene.randomize(seed, parts)
        self.plant.reset()
        if self.perception is not None:
            self.perception.reset()
        self.plant.run(1)
        self.core.reset()
        self.core.activate()
        self._advance(0.6)  # things settle, gains ramp up
        status = self.core.status()
        if status.state is not ControlState.HOLD:
            raise PhysaiError(f"the controller is {status.state.name.lower()} after a reset: {status.cause}")

    def joint_state(self) -> JointState:
        """What the arm's sensors say now."""
        data, names = self.scene.data, self.embodiment.joint_names
        return JointState(
            stamp_ns=self.now_ns,
            position=np.array([data.joint(name).qpos[0] for name in names]),
            velocity=np.array([data.joint(name).qvel[0] for name in names]),
            effort=np.zeros(len(names)),
            openings=self.embodiment.openings(
                {name: data.joint(name).qpos[0] for name in self.embodiment.finger_joints}
            ),
        )

    def wrench(self) -> np.ndarray:
        """(6,) N, Nm: what pushes the tool, as the controller observes it; zeros where it does not."""
        felt = self.core.status().end_effectors[0].external_wrench
        return np.where(np.isfinite(felt), felt, 0.0)

    def situation(self) -> Situation:
        """How everything truly is; what pushes the tool, as the controller observes it."""
        now = self.scene.situation()
        return replace(now, tool=replace(now.tool, wrench=self.wrench()))

    def situation_as_seen(self) -> Situation:
        """How everything truly is, but what changes its shape as it was last seen: who teaches must not know more of that."""
        now = self.situation()
        if self._seen is None:
            return now
        seen = Situation.perceived(self._seen).things
        changed = {label: seen[label] for label in seen if self.scene.measured(label) is not None}
        return replace(now, things={**now.things, **changed})

    def situation_as_perceived(self) -> Situation:
        """How everything was in the last scene.

        Raises:
            PhysaiError: none has come yet.
        """
        if self._seen is None:
            raise PhysaiError("nothing has been perceived since the cell was arranged")
        scene = self._seen
        twist = self.kinematics.jacobian(scene.joint_position) @ scene.joint_velocity
        return Situation.perceived(scene, twist, self.wrench())

    def photograph(self, camera: str) -> CameraFrame:
        """What a camera of the cell shows now."""
        if self.cameras is None:
            raise PhysaiError("this cell renders no images; make it with sight='camera' or render=True")
        return self.cameras.render(self.scene.data, camera, self.now_ns)

    def camera_pose(self, camera: str) -> np.ndarray:
        """T_base_optical (4, 4) where a camera really is."""
        view, pose = self.scene.data.cam(camera), np.eye(4)
        pose[:3, :3] = view.xmat.reshape(3, 3) @ np.diag([1.0, -1.0, -1.0])  # MuJoCo looks along -z with y up
        pose[:3, 3] = view.xpos
        return pose

    def _advance(self, seconds: float) -> None:
        for _ in range(max(1, round(seconds / SUBSTEP_S))):
            if self.disturbance:
                self.disturbance.apply()
            self.plant.run(round(SUBSTEP_S * 1000))
            self.scene.step(SUBSTEP_S)
            if self.perception is not None:
                self.perception.add_joint_state(self.joint_state())

    def disturb(self, label: str, kind: str, seed: int, moving_m_s: tuple[float, float] = MOVING_M_S) -> None:
        """From now on until the next `randomize`, move that object about; see `physai_sim.disturbance`."""
        self.disturbance = Disturbance(self.scene, label, kind, seed, moving_m_s)

    def run(
        self,
        policy: Policy,
        goal: Goal,
        instruction: str,
        seed: int,
        judge: Judge | None = None,
        settings: AgentSettings | None = None,
        record: Callable[[Moment], None] | None = None,
        film_every: int = 0,
        latency_s: float = LATENCY_S,
        corrector: Corrector | None = None,
        monitor: Monitor | None = None,
    ) -> EpisodeResult:
        """Carry out one task in the cell as it stands and judge the outcome by the simulator's truth.

        A task that is handed over ends there: nobody is here to take it. With `film_every`, every so many images the state is kept.

        One inference runs at a time, as in the node: the next begins with the first scene after a chunk has arrived.
        """
        agent = Agent(
            self.embodiment, self.task, policy, settings, corrector, self._images_of(policy), monitor
        )
        pick = PickWatch(self.scene, goal.target)
        start = self.scene.stances()
        result = EpisodeResult(instruction, goal, seed, False, "", 0.0, 0)
        if film_every:
            result.film = Film.begin(self.scene, "" if self.sight is not None else self.camera.name)
        began = self.now_ns
        agent.start(goal, began, first_sequence=self.core.last_sequence)
        outgoing: Outgoing | None = None
        arrival_ns = 0
        period_s = 1.0 / self.camera.rate_hz
        count, last_scene_ns = 0, began
        while agent.state is TaskState.RUNNING:
            if result.film is not None and count % film_every == 0:
                result.film.shoot(self.scene, (self.now_ns - began) / 1e9)
            scene = self._look(result)
            self._seen, count = scene or self._seen, count + 1
            if scene is None:
                result.blind_images += 1
                if (self.now_ns - last_scene_ns) / 1e9 > SCENE_TIMEOUT_S:
                    agent.abort("perception publishes no scene")
            else:
                last_scene_ns = scene.stamp_ns
                agent.remember(scene)
                if record:
                    opening = float(self.core.opening_command[0])
                    record(Moment(scene, goal, self.core.status().reference, opening, self.wrench()))
                agent.wrench = self.wrench()
                if outgoing is None:
                    outgoing, arrival_ns = agent.step(scene), scene.stamp_ns + round(latency_s * 1e9)
                    seen = scene
                    result.chunks += outgoing is not None
                corrected = agent.correct(scene)
                if corrected is not None:
                    self._post(corrected, scene, agent, judge, result)
            for _ in range(round(period_s / SUBSTEP_S)):
                if outgoing is not None and arrival_ns <= self.now_ns:
                    self._post(agent.send(outgoing, self.now_ns), seen, agent, judge, result)
                    outgoing = None
                self._advance(SUBSTEP_S)
                pick.look(SUBSTEP_S)
                status = self.core.status()
                result.motion.add(status)
                result.touch.add(on_arm(self.scene), status)
            if status.state in (ControlState.FAULT, ControlState.ESTOP):
                result.stop = status.cause_code.name.lower()
                agent.abort(f"controller stopped: {status.cause}")
            if agent.state is TaskState.ABORTED:
                self.core.end_chunk(LEASE)
        result.duration_s = (self.now_ns - began) / 1e9
        self._advance(0.3)
        result.failure = self.scene.score(goal, start)
        if result.failure and agent.state in (TaskState.ABORTED, TaskState.HANDED_OVER):
            result.failure = f"{result.failure} ({agent.message})"
        result.success, result.picked = not result.failure, pick.picked
        return result

    def _images_of(self, policy: Policy) -> ImageSource:
        """What the policy's cameras show; asked in the moment of a scene, so that both are of the same stamp."""
        return lambda stamp_ns: {camera: self.photograph(camera).rgb for camera in cameras_of(policy)}

    def _look(self, result: EpisodeResult) -> SceneState | None:
        """The scene as it is seen now, None where perception refuses to say."""
        if self.sight is not None:
            return self.sight.observe(self.joint_state())
        return self._perceive(self.photograph(self.camera.name), result)

    def _perceive(self, frame: CameraFrame, result: EpisodeResult) -> SceneState | None:
        """The scene that perception makes of an image, None where it refuses to say."""
        assert self.perception is not None
        try:
            scene = self.perception.observe(frame)
        except PerceptionError:
            return None
        seen = scene.find(result.goal.target)
        if seen is not None:
            error_m = np.linalg.norm(seen.position_m - self.scene.position(result.goal.target))
            result.pose_error_mm.append(float(error_m) * 1e3)
        return scene

    def _post(
        self, chunk: ActionChunk, scene: SceneState, agent: Agent, judge: Judge | None, result: EpisodeResult
    ) -> None:
        """Hand a chunk to the controller unless the world model, which imagines it from `scene`, objects."""
        if judge is not None:
            verdict, _ = judge.judge(chunk, scene, result.goal.target, scene.stamp_ns)
            if not verdict.allow:
                result.vetoes[verdict.reason.value] = result.vetoes.get(verdict.reason.value, 0) + 1
                agent.refused(chunk.sequence, Stall.VETOED, why_vetoed(verdict))
                return
        try:
            self.core.post(chunk)
        except ChunkRejected as rejection:
            result.rejections[str(rejection)] = result.rejections.get(str(rejection), 0) + 1
            agent.refused(chunk.sequence, Stall.REJECTED, str(rejection))
            return
        agent.took_over(chunk.sequence, (self.now_ns - chunk.observation_ns) / 1e9, self.now_ns)
        result.motion.take_over(chunk, self.now_ns)
