"""Carries out one instruction: decides when to infer, turns what comes of it into joint chunks, notices the end.

The same code runs in the policy node, in `physai eval` and on recordings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from physai_base.bystanders import Bystanders
from physai_base.embodiment import Embodiment
from physai_base.errors import KinematicsError, MissingObjectError, PhysaiError, PolicyError
from physai_base.expert import Goal
from physai_base.kinematics import ArmKinematics
from physai_base.outcome import Situation
from physai_base.task import Task
from physai_base.values import ActionChunk, SceneState
from physai_policy.chunking.method import OURS, Circumstances, chunking_method
from physai_policy.chunking.timeline import DelayEstimator, Timeline
from physai_policy.correction import Corrector
from physai_policy.course import Course, TaskState
from physai_policy.decoding import ChunkDecoder, Outgoing
from physai_policy.doubt import Doubt, Monitor
from physai_policy.policy import (
    Observation,
    Policy,
    Proposal,
    cameras_of,
    example_observation,
    has_past,
    takes_features,
)
from physai_policy.progress import Progress
from physai_policy.reach import free_for
from physai_policy.watch import Stall, Stalled, lies
from physai_policy.way_home import Homing

HANDOVERS = ("on", "report", "off")
VETOES_AWAY = 3  # so many before the first chunk was followed, and the arm goes to its start posture

ImageSource = Callable[[int], Mapping[str, np.ndarray]]
"""Images (h, w, 3) uint8 RGB by camera for a stamp in ns; raises `PolicyError` when it has none for that moment."""
NO_DOUBT = Doubt(0.0, "")


@dataclass(frozen=True)
class AgentSettings:
    """When to infer, how chunks join, and when to give up."""

    method: str = field(
        default="real_time",
        metadata={
            "description": f"how chunks continue each other in spite of delay: {', '.join(OURS)}, or another package's"
        },
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

    `step` is called with a new scene and, when an inference was due, returns what came of it; `send` turns that into the
    chunk to send. Meanwhile `remember` and `correct` may be called with newer scenes, each from another thread than `step`.
    """

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
        if cameras_of(policy) and images is None:
            raise PhysaiError(
                f"policy {policy.name} needs images of {', '.join(cameras_of(policy))}; there are none here"
            )
        self.settings = settings or AgentSettings()
        self.course = Course(task, self.settings.settle_s)
        self.timeline, self.delay = Timeline(), DelayEstimator()
        self._method = chunking_method(self.settings.method)(
            Circumstances(policy, self.timeline, self.delay, self.settings.replan_period_s, corrector)
        )
        self.policy = self._method.policy
        self._features = takes_features(policy)
        self._images = images if cameras_of(policy) else None
        self._monitor = monitor if self.settings.handover != "off" else None
        self.doubt = NO_DOUBT
        self._task = task
        self._drives = drives
        self._progress = Progress(task, drives, self.settings.lost_timeout_s)
        self._bystanders = Bystanders(task)
        self._embodiment = embodiment
        self._kinematics = ArmKinematics(embodiment)
        free = free_for(embodiment, self._kinematics, task)
        self._decoder = ChunkDecoder(embodiment, self._kinematics, free)
        self._homing = Homing(embodiment, self._kinematics, task)
        if self._method.corrects:  # in another thread
            self._corrections = ArmKinematics(embodiment)
            self._correction_decoder = ChunkDecoder(embodiment, self._corrections, free)
        self._remember: Callable[[Observation], None] | None = None
        if has_past(policy):
            self._remember = policy.remember
            self._past = ArmKinematics(embodiment)  # for another thread than `step`
        self._sequence = self._confirmed = 0
        self.wrench: np.ndarray = np.zeros(6)
        """What pushes the tool (6,) N, Nm, base frame, as the controller said last; for whoever runs the agent to keep up."""
        self.chunks = 0
        self._inferred_ns = 0

    @property
    def state(self) -> TaskState:
        """Where the task stands."""
        return self.course.state

    @property
    def message(self) -> str:
        """What a person should know of it: a note while it runs, then why it ended."""
        return self.course.message

    @property
    def goal(self) -> Goal | None:
        """Of the task that runs or ran last."""
        return self.course.goal

    @property
    def busy(self) -> bool:
        """Whether there is a task that has not ended; one that was handed over has not."""
        return self.course.busy

    @property
    def conditions(self) -> tuple[Stalled, ...]:
        """What repeats without progress now, the oldest first; of a task that was given up, what it was given up for."""
        return self._progress.conditions

    def warm_up(self) -> None:
        """Run the policy once, so that the first chunk is not the slow one."""
        self.policy.infer(example_observation(self._embodiment, self._task, self._kinematics))

    # A task's course.

    def start(
        self, goal: Goal, now_ns: int, first_sequence: int = 0, timeout_s: float = 0.0, instruction: str = ""
    ) -> None:
        """Begin a task that may take `timeout_s`, or what the settings say when that is 0.

        Sequence numbers go on from the larger of the last one and `first_sequence`.
        """
        self.course.begin(goal, now_ns, timeout_s if timeout_s > 0 else self.settings.timeout_s, instruction)
        self.chunks = self._inferred_ns = 0
        self._progress.begin()
        self._homing.begin()
        self._sequence = max(self._sequence, first_sequence)
        self._forget_chunks()
        self.doubt = NO_DOUBT
        if self._monitor is not None:
            self._monitor.begin()

    def abort(self, message: str) -> bool:
        """End the task; whoever drives the arm ends the last chunk, else it runs out and the controller holds.

        Whether it had not ended before.
        """
        return self.course.end(TaskState.ABORTED, message)

    def resume(self, now_ns: int) -> bool:
        """Go on with a task that was handed over, since a person says so; whether there was one."""
        if not self.course.resume(now_ns):
            return False
        self._progress.begin()
        self._homing.begin(resumed=True)
        self._forget_chunks()
        self.doubt = NO_DOUBT
        if self._monitor is not None:
            self._monitor.resume()
        return True

    def _forget_chunks(self) -> None:
        self.timeline.clear()
        self._method.begin()

    # What became of chunks.

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

    # From a scene to a chunk.

    def remember(self, scene: SceneState) -> None:
        """To be called with every scene, also while `step` is busy: some policies need to know what was a moment ago."""
        if self._remember is None or self.state is not TaskState.RUNNING:
            return
        try:
            self._remember(self._observe(scene, self._past))
        except (MissingObjectError, PolicyError):
            return  # at the next inference something newer stands in for it

    def step(self, scene: SceneState) -> Outgoing | None:
        """What to send next if something is due, after looking whether the task has ended."""
        if not self.busy:
            return None
        now = scene.stamp_ns
        if back_s := self.course.set_back_s(now, self._inferred_ns):  # all that is known of time is wrong
            self.abort(f"the clock was set back by {back_s:.1f} s")
            return None
        if self.course.see(scene) or self.state is TaskState.HANDED_OVER:
            return None
        too_late = self._homing.too_late(now) if self._homing.active else self.course.too_late(now)
        if too_late:
            self.abort(too_late)
            return None
        if not self._goes_on(scene) or now < self._method.due_ns(self._inferred_ns):
            return None
        try:
            outgoing = self._next(scene)
        except (MissingObjectError, KinematicsError, PolicyError) as error:
            missing = isinstance(error, MissingObjectError)
            self._progress.failed(Stall.NOT_SEEN if missing else Stall.NO_PLAN, str(error), now)
            self.course.note(str(error))
            return None
        with self.course.ending:
            if outgoing is None or self.state is not TaskState.RUNNING:  # it may have been ended meanwhile
                return None
            self._progress.answered()
            self.course.note(self._note())
            self._inferred_ns = now
            self.chunks += 1
            return outgoing

    def _note(self) -> str:
        """What a person should know while the task goes on."""
        if self._progress.note:
            return self._progress.note
        if self._homing.active:
            return f"goes to its start posture first: {self._homing.why}"
        return f"would ask for a person: {self.doubt.reason}" if self.doubt.asks else ""

    def _goes_on(self, scene: SceneState) -> bool:
        """Whether to infer; gives up what repeats without progress."""
        assert self.goal is not None
        outcome = self.course.outcome(scene)
        given_up = self._progress.look(scene, self._task.carried(self.goal), outcome, self._homing.active)
        if given_up is None:
            return bool(self.chunks) or not lies(scene, self._task.carried(self.goal))
        text = given_up.text
        if self._homing.active:
            text = f"{self._homing.why}; the way to its start posture: {text}; bring the arm there by hand"
        if self.abort(text):
            self._progress.ended_by = replace(given_up, text=text)
        return False

    def _next(self, scene: SceneState) -> Outgoing | None:
        """What to do next; None when the task has ended or was handed over over it."""
        progress, homing = self._progress, self._homing
        may_home = self._drives and progress.followed_ns is None and not homing.used and homing.away(scene)
        if may_home and (progress.rejections or progress.vetoes >= VETOES_AWAY):
            return self._set_out_home(progress.note, scene)
        if homing.active:
            took_ns = homing.arrived_after_ns(scene)
            if took_ns is None:
                return self._go_home(scene)
            self.course.prolong(took_ns)
            self._forget_chunks()
            if self._monitor is not None:
                self._monitor.begin()
        observation = self._observe(scene, self._kinematics)
        proposal = self.policy.infer(observation)
        if self._doubts(observation, proposal, scene):
            self.course.hand_over(self.doubt.reason, scene.stamp_ns)
            return None
        try:
            outgoing = self._decode(self._method.part(_sample(proposal, progress.vetoes)), scene)
        except KinematicsError as error:
            if may_home:
                return self._set_out_home(str(error), scene)
            raise
        strange = homing.strange(outgoing.chunk.values, scene)
        return self._set_out_home(strange, scene) if may_home and strange else outgoing

    def _set_out_home(self, why: str, scene: SceneState) -> Outgoing | None:
        """The arm stands where the policy does not know it."""
        obstacle = self._homing.set_out(why, scene)
        if obstacle:
            self.abort(obstacle)
            return None
        self._forget_chunks()
        return self._go_home(scene)

    def _go_home(self, scene: SceneState) -> Outgoing:
        if self._progress.vetoes or self._progress.rejections:
            self._homing.anew(scene)
            self._forget_chunks()
        return self._decode(self._homing.proposal(scene), scene)

    def _decode(self, proposal: Proposal, scene: SceneState) -> Outgoing:
        return self._decoder.decode(proposal, scene, 0, self.policy.name)

    def send(self, outgoing: Outgoing, now_ns: int) -> ActionChunk:
        """The chunk to send now; from here on it counts as what the arm does, until it is refused."""
        chunk = outgoing.chunk
        if self._method.waited_for(chunk.start_ns):
            later_ns = now_ns - chunk.start_ns
            chunk = replace(chunk, start_ns=now_ns, expiry_ns=chunk.expiry_ns + later_ns)
        self._sequence += 1
        chunk = replace(chunk, sequence=self._sequence)
        self.timeline.send(self._sequence, now_ns, chunk.start_ns, outgoing.proposal)
        self._progress.sent(now_ns)
        return chunk

    def correct(self, scene: SceneState) -> ActionChunk | None:
        """The running chunk as this scene asks for it, if something corrects it; for scenes while `step` is busy."""
        if not self._method.corrects or self.state is not TaskState.RUNNING or self._homing.active:
            return None
        try:
            proposal = self._method.correct(self._observe(scene, self._corrections))
            if proposal is None:
                return None
            outgoing = self._correction_decoder.decode(proposal, scene, 0, self.policy.name)
        except (MissingObjectError, KinematicsError, PolicyError):
            return None
        return self.send(outgoing, scene.stamp_ns)

    def _observe(self, scene: SceneState, kinematics: ArmKinematics) -> Observation:
        assert self.goal is not None
        seen = np.zeros(0, np.float32)
        if self._features:
            scene, _ = self._bystanders.complete(scene, self._task.needs(self.goal))
        now = Situation.perceived(
            scene, kinematics.jacobian(scene.joint_position) @ scene.joint_velocity, self.wrench
        )
        if self._features:
            seen = self._task.features(now, self.goal)
        return Observation(
            stamp_ns=scene.stamp_ns,
            features=seen,
            tool_m=scene.tool.position_m,
            joint_rad=scene.joint_position,
            gripper_width_m=scene.tool.opening,
            tool_velocity_m_s=now.tool.velocity_m_s,
            goal=self.goal,
            images=self._images(scene.stamp_ns) if self._images else {},
            instruction=self.course.instruction,
            tool_yaw=now.tool.yaw,
        )

    def _doubts(self, observation: Observation, proposal: Proposal, scene: SceneState) -> bool:
        """Whether the policy should not act on that proposal."""
        if self._monitor is None:
            return False
        self.doubt = self._monitor.look(observation, proposal, self.course.progress(scene))
        return self.doubt.asks and self.settings.handover == "on"


def _sample(proposal: Proposal, number: int) -> Proposal:
    """The proposal with another of its samples to be carried out: after a veto the first would come back for ever."""
    return replace(proposal, actions=np.roll(proposal.actions, -(number % len(proposal.actions)), axis=0))
