"""Carries out one instruction: decides when to plan, turns plans into joint chunks, notices the end.

The same code runs in the policy node, in `physai eval` and on recordings.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np

from physai_base.bystanders import Bystanders
from physai_base.embodiment import Embodiment
from physai_base.errors import KinematicsError, MissingObjectError, PhysaiError, PolicyError
from physai_base.expert import Goal
from physai_base.kinematics import ArmKinematics
from physai_base.outcome import Outcome, Situation, Stance
from physai_base.task import Task
from physai_base.values import ActionChunk, SceneState
from physai_policy.chunking import METHODS, DelayEstimator, Ensembled, RealTimeChunking, Timeline
from physai_policy.correction import Corrector
from physai_policy.decoding import STOPPING_S, ChunkDecoder, Plan
from physai_policy.doubt import Doubt, Monitor
from physai_policy.policy import (
    Chunk,
    Observation,
    Policy,
    cameras_of,
    example_observation,
    has_past,
    takes_features,
)
from physai_policy.progress import Progress
from physai_policy.watch import Condition, Stall, lies
from physai_policy.way_home import Homing

HANDOVERS = ("on", "report", "off")
SET_BACK_S = 1.0  # scenes may overtake each other by less
VETOES_AWAY = 3  # so many before the first chunk was followed, and the arm goes to its start posture

ImageSource = Callable[[int], Mapping[str, np.ndarray]]
"""Images (h, w, 3) uint8 RGB by camera for a stamp in ns; raises `PolicyError` when it has none for that moment."""
NO_DOUBT = Doubt(0.0, "")


class TaskState(Enum):
    """Where a task stands."""

    IDLE = "idle"
    RUNNING = "running"
    HANDED_OVER = "handed_over"  # the arm rests: a person resumes the task, or takes over
    SUCCEEDED = "succeeded"
    ABORTED = "aborted"


@dataclass(frozen=True)
class AgentSettings:
    """When to plan, how chunks join, and when to give up."""

    method: str = field(
        default="real_time",
        metadata={"choices": METHODS, "description": "how chunks continue each other in spite of delay"},
    )

    replan_period_s: float = field(default=0.2, metadata={"unit": "s", "range": (0.02, 1.0)})
    timeout_s: float = field(default=30.0, metadata={"unit": "s", "range": (1.0, 600.0)})
    settle_s: float = field(default=0.4, metadata={"unit": "s", "range": (0.0, 5.0)})
    lost_timeout_s: float = field(default=3.0, metadata={"unit": "s", "range": (0.1, 60.0)})
    handover: str = field(
        default="report",
        metadata={
            "choices": HANDOVERS,
            "description": "what to do in doubt: on: rest and ask for a person, report: say so alone, off: nothing",
        },
    )


class Agent:
    """Runs one task at a time.

    `step` is called with a new scene and, after an inference, returns a plan when one is due; `send` turns it into the
    chunk to send. Meanwhile `remember` and `correct` may be called with newer scenes, each from another thread than `step`.
    """

    _start: Mapping[str, Stance] = {}  # how things were when the task began, as far as they were seen then

    def __init__(
        self,
        embodiment: Embodiment,
        task: Task,
        policy: Policy,
        settings: AgentSettings | None = None,
        corrector: Corrector | None = None,
        images: ImageSource | None = None,
        monitor: Monitor | None = None,
        drives: bool = True,
    ) -> None:
        """`images` is asked at every inference of a policy that needs images, and of no other.

        `monitor` is what doubts the policy; without one, and with `handover` off, nothing does. `drives` says that the arm
        is to follow this agent's chunks, and nobody else's.
        """
        self._features = takes_features(policy)
        self._images = images if cameras_of(policy) else None
        if cameras_of(policy) and images is None:
            raise PhysaiError(
                f"policy {policy.name} needs images of {', '.join(cameras_of(policy))}; there are none here"
            )
        self.settings = settings or AgentSettings()
        self.timeline, self.delay = Timeline(), DelayEstimator()
        self.policy = policy
        if self.settings.method == "ensemble":
            self.policy = Ensembled(policy)
        elif self.settings.method not in ("synchronous", "naive"):
            self.policy = RealTimeChunking(policy, self.timeline, self.delay)
        if self.settings.method == "corrected" and corrector is None:
            raise PhysaiError("method 'corrected' needs a corrector's bundle")
        if self.settings.method == "corrected" and not self._features:
            raise PhysaiError(
                f"method 'corrected' needs a policy that works on features; {policy.name} does not"
            )
        self._corrector = corrector if self.settings.method == "corrected" else None
        self._monitor = monitor if self.settings.handover != "off" else None
        self.doubt = NO_DOUBT
        self._task = task
        self._drives = drives
        self._progress = Progress(task, drives, self.settings.lost_timeout_s)
        self._bystanders = Bystanders(task)
        self._embodiment = embodiment
        self._kinematics = ArmKinematics(embodiment)
        self._decoder = ChunkDecoder(embodiment, self._kinematics)
        self._homing = Homing(embodiment, self._kinematics, task)
        if self._corrector is not None:  # whose corrections are made in another thread
            self._corrections = ArmKinematics(embodiment)
            self._correction_decoder = ChunkDecoder(embodiment, self._corrections)
        self._remember: Callable[[Observation], None] | None = None
        if has_past(policy):
            self._remember = policy.remember
            self._past = ArmKinematics(embodiment)  # for another thread than `step`
        self._sequence = self._confirmed = 0
        self.goal: Goal | None = None
        self._instruction = ""
        self.ending = (
            threading.RLock()
        )  # of the task's end: what is ended stays so, and nothing goes out after it
        self.state = TaskState.IDLE
        self.message = ""
        self.chunks = 0
        self._started_ns = self._handed_over_ns = 0
        self._timeout_s = self.settings.timeout_s
        self._planned_ns = 0
        self._placed_since_ns: int | None = None

    def warm_up(self) -> None:
        """Run the policy once, so that the first chunk is not the slow one."""
        self.policy.infer(example_observation(self._embodiment, self._task, self._kinematics))

    def start(
        self, goal: Goal, now_ns: int, first_sequence: int = 0, timeout_s: float = 0.0, instruction: str = ""
    ) -> None:
        """Begin a task that may take `timeout_s`, or what the settings say when that is 0.

        Sequence numbers go on from the larger of the last one and `first_sequence`.
        """
        self._timeout_s = timeout_s if timeout_s > 0 else self.settings.timeout_s
        self.goal, self._instruction = goal, instruction
        self.state, self.message = TaskState.RUNNING, ""
        self.chunks = 0
        self._started_ns, self._planned_ns = now_ns, 0
        self._placed_since_ns = None
        self._start = {}
        self._progress.begin()
        self._homing.begin()
        self._sequence = max(self._sequence, first_sequence)
        self._forget_chunks()
        self.doubt = NO_DOUBT
        if self._monitor is not None:
            self._monitor.begin()

    def _forget_chunks(self) -> None:
        self.timeline.clear()
        if isinstance(self.policy, Ensembled):
            self.policy.clear()

    def took_over(self, sequence: int, delay_s: float, now_ns: int) -> None:
        """The controller follows that chunk (0: none), `delay_s` after its observation; may be told again and again."""
        ours = self.timeline.knows(sequence)
        self.timeline.confirm(sequence, now_ns)
        if sequence > self._confirmed:
            self._confirmed = sequence
            self.delay.add(delay_s)
            if ours:
                self._progress.followed(now_ns)
                return
        self._progress.silence(now_ns)

    def refused(self, sequence: int, stall: Stall = Stall.REJECTED, why: str = "") -> None:
        """The controller or, with `Stall.VETOED`, the world model did not take that chunk."""
        if not self.timeline.knows(sequence):
            return  # told before, or not of this task
        self.timeline.drop(sequence)
        if self.state is TaskState.RUNNING:
            self._progress.refused(stall, why)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """What repeats without progress now, the oldest first; of a task that was given up, what it was given up for."""
        return self._progress.conditions

    def abort(self, message: str) -> bool:
        """End the task; whoever drives the arm ends the last chunk, else it runs out and the controller holds.

        Whether it had not ended before.
        """
        return self._end(TaskState.ABORTED, message)

    def _end(self, state: TaskState, message: str) -> bool:
        with self.ending:
            if not self.busy:
                return False
            self.state, self.message = state, message
            return True

    @property
    def busy(self) -> bool:
        """Whether there is a task that has not ended; one that was handed over has not."""
        return self.state in (TaskState.RUNNING, TaskState.HANDED_OVER)

    def resume(self, now_ns: int) -> bool:
        """Go on with a task that was handed over, since a person says so; whether there was one."""
        if self.state is not TaskState.HANDED_OVER:
            return False
        self._started_ns += now_ns - self._handed_over_ns  # meanwhile the policy had no time
        self.state, self.message = TaskState.RUNNING, ""
        self._progress.begin()
        self._homing.begin(resumed=True)
        self._forget_chunks()
        self.doubt = NO_DOUBT
        if self._monitor is not None:
            self._monitor.resume()
        return True

    def _hand_over(self, now_ns: int) -> None:
        """Nothing is planned from here on: what was sent last runs out and the controller holds."""
        with self.ending:
            if self.state is not TaskState.RUNNING:
                return
            self.state, self._handed_over_ns = TaskState.HANDED_OVER, now_ns
            self.message = f"asks for a person: {self.doubt.reason}"

    def remember(self, scene: SceneState) -> None:
        """To be called with every scene, also while `step` is busy: some policies need to know what was a moment ago."""
        if self._remember is None or self.state is not TaskState.RUNNING:
            return
        try:
            self._remember(self._observe(scene, self._past))
        except (MissingObjectError, PolicyError):
            return  # at the next inference something newer stands in for it

    def step(self, scene: SceneState) -> Plan | None:
        """The next plan if one is due, after looking whether the task has ended."""
        if not self.busy or self.goal is None:
            return None
        now = scene.stamp_ns
        back_s = (max(self._started_ns, self._planned_ns) - now) / 1e9
        if back_s > SET_BACK_S:  # all that is known of time is wrong
            self.abort(f"the clock was set back by {back_s:.1f} s")
            return None
        self._remember_start(scene)
        if self._finished(scene):
            person = self.state is TaskState.HANDED_OVER
            self._end(TaskState.SUCCEEDED, "done by a person" if person else "done")
            return None
        if self.state is TaskState.HANDED_OVER:
            return None
        too_late = self._homing.too_late(now)
        if not self._homing.active and now - self._started_ns > self._timeout_s * 1e9:
            too_late = f"not done within {self._timeout_s:g} s"
        if too_late:
            self.abort(too_late)
            return None
        if not self._goes_on(scene) or now < self._next_plan_ns():
            return None
        try:
            plan = self._plan(scene)
        except (MissingObjectError, KinematicsError, PolicyError) as error:
            missing = isinstance(error, MissingObjectError)
            self._progress.failed(Stall.NOT_SEEN if missing else Stall.NO_PLAN, str(error), now)
            with self.ending:
                if self.state is TaskState.RUNNING:
                    self.message = str(error)
            return None
        with self.ending:
            if plan is None or self.state is not TaskState.RUNNING:  # it may have been ended meanwhile
                return None
            self._progress.planned()
            self.message = self._note()
            self._planned_ns = now
            self.chunks += 1
            return plan

    def _note(self) -> str:
        """What a person should know while the task goes on."""
        if self._progress.note:
            return self._progress.note
        if self._homing.active:
            return f"goes to its start posture first: {self._homing.why}"
        return f"would ask for a person: {self.doubt.reason}" if self.doubt.asks else ""

    def _goes_on(self, scene: SceneState) -> bool:
        """Whether to plan; gives up what repeats without progress."""
        assert self.goal is not None
        given_up = self._progress.look(scene, self.goal.target, self.outcome(scene), self._homing.active)
        if given_up is None:
            return bool(self.chunks) or not lies(scene, self.goal.target)
        text = given_up.text
        if self._homing.active:
            text = f"{self._homing.why}; the way to its start posture: {text}; bring the arm there by hand"
        if self.abort(text):
            self._progress.ended_by = replace(given_up, text=text)
        return False

    def _plan(self, scene: SceneState) -> Plan | None:
        """What to do next; None when the task has ended or was handed over over it."""
        assert self.goal is not None
        progress, homing = self._progress, self._homing
        may_home = self._drives and progress.followed_ns is None and not homing.used and homing.away(scene)
        if may_home and (progress.rejections or progress.vetoes >= VETOES_AWAY):
            return self._set_out_home(progress.note, scene)
        if homing.active:
            took_ns = homing.arrived_after_ns(scene)
            if took_ns is None:
                return self._go_home(scene)
            self._started_ns += took_ns  # the policy had no time
            self._forget_chunks()
            if self._monitor is not None:
                self._monitor.begin()
        observation = self._observe(scene, self._kinematics)
        chunk = self.policy.infer(observation)
        if self._doubts(observation, chunk, scene):
            self._hand_over(scene.stamp_ns)
            return None
        try:
            plan = self._decode(_sample(chunk, progress.vetoes), scene)
        except KinematicsError as error:
            if may_home:
                return self._set_out_home(str(error), scene)
            raise
        strange = homing.strange(plan.setpoints.values, scene)
        return self._set_out_home(strange, scene) if may_home and strange else plan

    def _set_out_home(self, why: str, scene: SceneState) -> Plan | None:
        """The arm stands where the policy does not know it."""
        obstacle = self._homing.set_out(why, scene)
        if obstacle:
            self.abort(obstacle)
            return None
        self._forget_chunks()
        return self._go_home(scene)

    def _go_home(self, scene: SceneState) -> Plan:
        if self._progress.vetoes or self._progress.rejections:
            self._homing.anew(scene)
            self._forget_chunks()
        chunk = self._homing.chunk(scene)
        return Plan(chunk, self._decoder.decode(chunk, scene, 0, self.policy.name))

    def send(self, plan: Plan, now_ns: int) -> ActionChunk:
        """The chunk to send now; from here on it counts as what the arm does, until it is refused."""
        setpoints = plan.setpoints
        if self._waited_for(setpoints):
            later_ns = now_ns - setpoints.start_ns
            setpoints = replace(setpoints, start_ns=now_ns, expiry_ns=setpoints.expiry_ns + later_ns)
        self._sequence += 1
        setpoints = replace(setpoints, sequence=self._sequence)
        self.timeline.send(self._sequence, now_ns, setpoints.start_ns, plan.chunk)
        self._progress.sent(now_ns)
        return setpoints

    def _waited_for(self, setpoints: ActionChunk) -> bool:
        """Whether the arm stood where the chunk begins until it came; else its first steps are in the past."""
        if self.settings.method in ("naive", "ensemble"):
            return False
        running = self.timeline.running
        return (
            self.settings.method == "synchronous" or running is None or not running.covers(setpoints.start_ns)
        )

    def correct(self, scene: SceneState) -> ActionChunk | None:
        """The running chunk as this scene asks for it, if something corrects it; for scenes while `step` is busy."""
        if self._corrector is None or self.state is not TaskState.RUNNING or self._homing.active:
            return None
        try:
            chunk = self._corrector.correct(self._observe(scene, self._corrections), self.timeline)
            if chunk is None:
                return None
            setpoints = self._correction_decoder.decode(chunk, scene, 0, self.policy.name)
        except (MissingObjectError, KinematicsError, PolicyError):
            return None
        return self.send(Plan(chunk, setpoints), scene.stamp_ns)

    def _observe(self, scene: SceneState, kinematics: ArmKinematics) -> Observation:
        assert self.goal is not None
        seen = np.zeros(0, np.float32)
        velocity = kinematics.jacobian(scene.joint_position)[:3] @ scene.joint_velocity
        if self._features:
            scene, _ = self._bystanders.complete(scene, self.goal.target)
            seen = self._task.features(scene, self.goal, velocity)
        return Observation(
            stamp_ns=scene.stamp_ns,
            features=seen,
            tool_m=scene.tool.position_m,
            joint_rad=scene.joint_position,
            gripper_width_m=scene.tool.opening,
            tool_velocity_m_s=velocity,
            goal=self.goal,
            images=self._images(scene.stamp_ns) if self._images else {},
            instruction=self._instruction,
        )

    def _doubts(self, observation: Observation, chunk: Chunk, scene: SceneState) -> bool:
        """Whether the policy should not act on that chunk."""
        if self._monitor is None:
            return False
        self.doubt = self._monitor.look(observation, chunk, self.progress(scene))
        return self.doubt.asks and self.settings.handover == "on"

    def _decode(self, chunk: Chunk, scene: SceneState) -> Plan:
        if self.settings.method == "synchronous":  # the first half; then the arm stops and waits for the next
            chunk = replace(chunk, actions=chunk.actions[:, : self.policy.horizon // 2 + 1])
        return Plan(chunk, self._decoder.decode(chunk, scene, 0, self.policy.name))

    def _next_plan_ns(self) -> int:
        running = self.timeline.running
        if self.settings.method != "synchronous" or running is None:
            return self._planned_ns + round(self.settings.replan_period_s * 1e9)
        steps = len(running.chunk.chosen) - 1
        return running.start_ns + round((steps * running.chunk.dt_s + STOPPING_S) * 1e9)

    def _remember_start(self, scene: SceneState) -> None:
        """How things stood when they were first seen; what a person does to them is no harm."""
        if self.state is TaskState.HANDED_OVER:
            self._start = {}
        else:
            self._start = {**Situation.perceived(scene).things, **self._start}

    def outcome(self, scene: SceneState) -> Outcome:
        """What has come of the task so far, as it is perceived."""
        assert self.goal is not None
        return self._task.outcome(self.goal, Situation.perceived(scene), self._start)

    def _finished(self, scene: SceneState) -> bool:
        """Whether the task has been seen done for a while."""
        if not self.outcome(scene).success:
            self._placed_since_ns = None
            return False
        if self._placed_since_ns is None:
            self._placed_since_ns = scene.stamp_ns
        return scene.stamp_ns - self._placed_since_ns >= self.settings.settle_s * 1e9

    def progress(self, scene: SceneState) -> float:
        """A rough share of the way done, 0..1: fetched, carried, placed."""
        if self.state is TaskState.SUCCEEDED:
            return 1.0
        if self.goal is None:
            return 0.0
        thing, place = scene.find(self.goal.target), scene.find(self.goal.destination)
        if thing is None or place is None:
            return 0.0
        fetch = np.linalg.norm(scene.tool.position_m - thing.position_m)
        carry = np.linalg.norm(place.position_m - thing.position_m)
        return float(np.clip(1.0 - 0.4 * min(1.0, fetch / 0.5) - 0.6 * min(1.0, carry / 0.6), 0.0, 0.99))


def _sample(chunk: Chunk, number: int) -> Chunk:
    """The chunk with another of its samples to be carried out: after a veto the first would come back for ever."""
    return replace(chunk, actions=np.roll(chunk.actions, -(number % len(chunk.actions)), axis=0))
