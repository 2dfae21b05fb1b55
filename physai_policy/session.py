"""What a policy's tasks go through between whoever asks and the controller: asked for by topic or by action, begun or refused,
run, handed over, resumed, stopped, and ended with a reason once the arm rests. Nothing here knows ROS.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from physai_base.expert import Goal
from physai_base.task import wrong_task
from physai_base.values import ActionChunk, ChunkVerdict, ControlState, SceneState
from physai_policy.agent import Agent
from physai_policy.answers import Answers, RestWatch, wrong_timeout
from physai_policy.course import TaskState
from physai_policy.decoding import LEASE
from physai_policy.language import Answer, Confirm, Grounder, answer

NO_SCENE = "perception publishes no scene"
LOOK = "what it lacks is on /diagnostics"
# All steady time, in s.
REST_TIMEOUT_S = 3.0  # in which the arm comes to rest
SCENE_TIMEOUT_S = 5.0  # without a scene: the task is aborted; the arm holds long before
CHANGE_TIMEOUT_S = 20.0  # until the first scene of another task: a table is changed meanwhile
CONTROL_TIMEOUT_S = (
    5.0  # the same without a status: what control last said of the arm need not be so any more
)
SILENT_S = 1.0  # from then on it is said
# Not STOPPING: a chunk that ran out is followed as soon as a new one comes.
STOPPED = (ControlState.FAULT, ControlState.ESTOP, ControlState.INACTIVE)


@dataclass(frozen=True)
class Request:
    """An instruction and how it was asked for."""

    text: str
    timeout_s: float = 0.0  # 0: the policy's own
    identifier: str = ""  # of who asks by topic
    confirm: int = Confirm.AUTO
    confirmed: tuple[str, str] = ("", "")  # target and destination that a person has said yes to
    by_action: bool = False  # somebody waits for its end


@dataclass(frozen=True)
class ControlWord:
    """What the controller says of itself and of chunks, which are (lease, sequence)."""

    stamp_ns: int
    state: ControlState
    cause: str
    on_request: bool  # it stopped because somebody asked for it
    measured_rad: np.ndarray  # (n,)
    active: tuple[int, int]  # the chunk that it follows; sequence 0: none
    latency_s: float  # from that chunk's observation until it took over
    rejected: tuple[int, int]  # the last one that it did not take
    rejection: str
    wrench: np.ndarray = field(
        default_factory=lambda: np.zeros(6)
    )  # (6,) N, Nm: what pushes the tool, base frame


@dataclass(frozen=True)
class Standing:
    """Where things stand, for whoever listens."""

    state: TaskState | None  # None: the instruction was refused
    message: str
    instruction: str
    identifier: str
    target: str = ""
    destination: str = ""
    progress: float = 0.0  # a rough share, 0..1
    condition: str = ""  # what repeats without progress, the oldest of them
    chunks: int = 0
    doubt: float = 0.0


@dataclass(frozen=True)
class Ended:
    """What has come of a task that was asked for by action."""

    success: bool
    message: str
    target: str
    destination: str
    chunks: int


class Outlet(Protocol):
    """Where a session's words go."""

    def chunk(self, chunk: ActionChunk, now_ns: int) -> None:
        """To the controller."""
        ...

    def end_chunk(self, now_ns: int) -> None:
        """The controller is to end the chunk it follows: the arm stops on its path."""
        ...

    def standing(self, standing: Standing) -> None:
        """How things stand, when that has changed."""
        ...

    def feedback(self, standing: Standing) -> None:
        """The task that was asked for by action goes on."""
        ...

    def result(self, ended: Ended) -> None:
        """It has ended; once for each."""
        ...

    def name_task(self, name: str) -> None:
        """Its things are to be looked for from now on, and no other's."""
        ...

    def warn(self, text: str) -> None:
        """For the log."""
        ...

    def info(self, text: str) -> None:
        """For the log."""
        ...


class Session:
    """Tasks one after another, each by the agent of what it is one of: `agent` is the one that works or worked last.

    An instruction may be for another task than that whose things perception looks for. Then the others are told (`Outlet.name_task`), and
    its agent waits for a scene of that task: until one comes there is no chunk, and when none does it is given up.

    Scenes are stepped in a thread of its own (`run`); everything else may come from other threads and waits for one
    inference at most, a stop for none.
    """

    def __init__(
        self,
        agents: Mapping[str, Agent],
        grounder: Grounder,
        outlet: Outlet,
        now_ns: Callable[[], int],
        drives: bool = True,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`agents` by the names of their tasks, at least one; `drives`: the arm follows them; else nothing is known of what
        moves it, nor told to it."""
        self._agents = dict(agents)
        self.agent = agent = next(iter(self._agents.values()))
        self._grounder, self._outlet, self._drives = grounder, outlet, drives
        self._now_ns, self._steady_s = now_ns, steady_s
        self._answers, self._rest = Answers(agent, LEASE), RestWatch()
        self._lock = threading.Lock()  # of the agent, held for one inference at most
        self._sending = agent.course.ending  # also of what goes out; taken after the other one
        for other in self._agents.values():
            other.course.ending = self._sending  # one for all
        self._wake = threading.Condition()
        self._closed = False
        self.active = False
        self.bring_up = ""  # what the supervisor misses
        self.control: ControlState | None = None  # as it was last heard
        self.scene: SceneState | None = None  # the newest one
        self._awaited = ""  # the task of which a scene is waited for
        self._unknown: str | None = None  # the last one that a scene was of and nobody here knows
        self.stepped: SceneState | None = None  # the last one that the agent was given
        self.inference_ms = 0.0
        self._scene_s = self._began_s = self._control_s = 0.0
        self._request = Request("")
        self._refusal, self._understood = "", ("", "")  # why nothing was begun, and what was understood of it
        self._accepted = False  # somebody waits for a task that has not begun yet,
        self.by_action = False  # or for one that has not been answered yet
        self._resting_since_s = 0.0  # of one that has ended: since when the arm is waited for; 0: it is not

    # What is heard.

    def hear_scene(self, scene: SceneState) -> None:
        """The newest scene; one of another task than the one that runs is none."""
        with self._sending:
            known = scene.task in self._agents or (len(self._agents) == 1 and not scene.task)
            if not known and scene.task != self._unknown:  # once
                self._unknown = scene.task
                self._outlet.warn(f"scene refused: {wrong_task(scene.task, self._agents)}")
            if not known or (self.agent.busy and self._agent_of(scene) is not self.agent):
                return
            self._take_scene(scene)

    def _agent_of(self, scene: SceneState) -> Agent:
        return self._agents[scene.task] if scene.task else self.agent

    def _take_scene(self, scene: SceneState) -> None:
        self._awaited = ""
        self._scene_s = self._steady_s()
        self.agent.remember(scene)
        with self._wake:
            self.scene = scene
            self._wake.notify_all()

    def hear_verdict(self, verdict: ChunkVerdict) -> None:
        """The world model's judgement of a chunk."""
        with self._sending:
            self._answers.verdict(verdict)

    def hear_control(self, word: ControlWord) -> None:
        """The controller's status."""
        self.control, self._control_s = word.state, self._steady_s()
        self.agent.wrench = np.where(np.isfinite(word.wrench), word.wrench, 0.0)
        self._rest.status(word.stamp_ns, word.state, word.active[1], word.measured_rad)
        with self._sending:
            self._answers.control(word.active, word.latency_s, word.rejected, word.rejection, self._now_ns())
        stopped = word.state in STOPPED or word.on_request
        if stopped and self.agent.state is TaskState.RUNNING:
            self.abort(f"control is {word.state.name.lower()}: {word.cause}")
            self.tell()

    # What is asked for.

    def accept(self, text: str, timeout_s: float) -> str:
        """Why a task cannot be asked for by action, whatever it says; when empty it is to be begun, or withdrawn.

        While the arm stops after a task the next one is accepted, and begins when the arm rests.
        """
        reason = wrong_timeout(timeout_s) or self._why_busy()
        if reason and self.stops and not self._accepted:
            reason = wrong_timeout(timeout_s)
        if reason:
            self._refuse(Request(text), reason)
        else:
            self._accepted = True
        return reason

    def withdraw(self) -> None:
        """What was accepted is not begun."""
        self._accepted = False

    def begin(self, request: Request) -> Answer:
        """Start a task; the answer says why not, or what was understood."""
        self._accepted = False
        reason = self._why_busy() or wrong_timeout(request.timeout_s)
        if reason:
            self._refuse(request, reason)
            return Answer(reason)
        handed_over = self.agent.state is TaskState.HANDED_OVER  # then another task may take its place
        found, goal, understood, task = Answer(self.reason_not_to_begin()), None, "", ""
        if not found.reason:
            grounding = self._grounder.ground(request.text)
            found = answer(grounding, request.confirm, request.confirmed)
            if not found.reason:
                goal, understood = Goal(found.target, found.destination), grounding.understood
                task = grounding.task
        if handed_over and found.reason:
            self._refuse(request, found.reason)
            return found
        if handed_over:
            self.abort(f"another task takes its place: {request.text!r}")
            self.attend(rested=True)  # the arm has rested since it was handed over
        with self._lock, self._sending:
            self._request = request
            self._refusal, self._understood = found.reason, (found.target, found.destination)
            if goal is not None and self.scene is not None:
                began_ns = self._turn_to(task, self.scene)
                # The clock keeps numbers rising also over a restart of this process.
                self.agent.start(
                    goal,
                    began_ns,
                    first_sequence=self._now_ns(),
                    timeout_s=request.timeout_s,
                    # A policy that reads is told what was understood, not what may be read in another way.
                    instruction=understood,
                )
                self.by_action = request.by_action
            if self._awaited:
                self.agent.course.note(
                    f"waits until perception looks for the things of the task {self._awaited}"
                )
        self.tell()
        return found

    def _turn_to(self, task: str, scene: SceneState) -> int:
        """The agent of that task takes over; the time of what it begins with, ns. Both locks are held."""
        agent = self._agents.get(task, self.agent)  # who reads the words of one task may not name it
        there = self._agent_of(scene) is agent
        if agent is not self.agent:
            agent.wrench = self.agent.wrench
            self.agent, self._answers = agent, Answers(agent, LEASE)
        if there:
            return scene.stamp_ns
        self._end_chunk()
        with self._wake:
            self.scene, self._scene_s, self._began_s = None, 0.0, self._steady_s()
        self._awaited = task
        self._outlet.name_task(task)
        return self._now_ns()

    def resume(self) -> str:
        """A person has looked: go on with the task that was handed over; why not, or nothing."""
        reason = self.reason_not_to_begin()
        with self._lock:
            if not reason and self.scene is not None and not self.agent.resume(self.scene.stamp_ns):
                reason = "no task was handed over"
        self.tell()
        return reason

    def abort(self, message: str) -> None:
        """Nothing is sent after this, and the arm stops on its path; does not wait for an inference."""
        with self._sending:
            if self.agent.abort(message):
                self._end_chunk()

    def activate(self) -> None:
        """Tasks may begin."""
        self._began_s = self._steady_s()
        self.active = True

    def deactivate(self) -> None:
        """None may, and what runs is aborted: the arm stops on its path and holds."""
        self.active = False
        self.abort(f"the policy was deactivated{f': {self.bring_up}' if self.bring_up else ''}")

    def close(self) -> None:
        """End `run` and `run_corrections`."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()

    @property
    def instruction(self) -> str:
        """The last one that was begun or not understood."""
        return self._request.text

    @property
    def stops(self) -> bool:
        """Whether a task that was asked for by action has ended and the arm does not rest yet."""
        return self.by_action and not self.agent.busy

    @property
    def idle(self) -> bool:
        """Whether nobody waits for anything."""
        return not (self.agent.busy or self.by_action or self._accepted)

    def _refuse(self, request: Request, reason: str) -> None:
        """Say once why; what else there is to tell stays."""
        refused = replace(
            self.standing, state=None, message=reason, instruction=request.text, identifier=request.identifier
        )
        self._outlet.standing(refused)

    def _why_busy(self) -> str:
        """Why no other task can begin now, or nothing; one that was handed over gives way."""
        self.attend()  # it may have ended since it was last looked at
        if self.agent.state is TaskState.HANDED_OVER and not self._accepted:
            return ""
        if self.agent.busy or self._accepted:
            return f"busy with {self.instruction!r}; cancel it first"
        return f"the arm still stops after {self.instruction!r}" if self.stops else ""

    def reason_not_to_begin(self) -> str:
        """Why nothing can begin, whatever it is, or nothing."""
        if not self.active:
            return f"the policy is not active{f': {self.bring_up}' if self.bring_up else ''}"
        if self.bring_up:
            return f"the bring-up is degraded: {self.bring_up}"
        if self.control is None and self._drives:
            return "no word from control on control/status"
        if silence := self.control_silence(2 * SILENT_S):
            return silence
        if self.control in STOPPED:
            return f"control is {self.control.name.lower()}; call control/reset or control/resume"
        if self.scene is None or self.scene_age_s > SCENE_TIMEOUT_S:
            return f"{NO_SCENE}: {LOOK}"
        return ""

    def control_silence(self, limit_s: float = SILENT_S) -> str:
        """Why nothing is known of the arm, or nothing; who does not drive is not told what moves the robot."""
        silent_s = self._steady_s() - self._control_s
        if self.control is None or not self._drives or silent_s < limit_s:
            return ""
        return f"control has said nothing for {silent_s:.1f} s, and what the arm does is not known; see /diagnostics"

    @property
    def scene_age_s(self) -> float:
        """Since the last scene came."""
        return self._steady_s() - self._scene_s

    def scene_silence(self, limit_s: float = SILENT_S) -> str:
        """That there has been no scene since it was activated, or for so long; empty when there was one."""
        unseen_s = self._steady_s() - max(self._scene_s, self._began_s)
        of_task = f" of the task {self._awaited}" if self._awaited else ""
        return f"{NO_SCENE}{of_task}: {LOOK}" if self.active and unseen_s > limit_s else ""

    # From scenes to chunks.

    def run(self) -> None:
        """Step with each scene; those that come meanwhile are left out."""
        while (scene := self._next_scene(self.stepped)) is not None:
            self.stepped = scene
            if self.active:
                self.step(scene)

    def run_corrections(self) -> None:
        """Correct what runs with each scene, also while an inference goes on."""
        seen: SceneState | None = None
        while (scene := self._next_scene(seen)) is not None:
            seen = scene
            with self._sending:
                ours = self.active and self._agent_of(scene) is self.agent
                chunk = self.agent.correct(scene) if ours else None
                if chunk is not None:
                    self._outlet.chunk(chunk, self._now_ns())

    def _next_scene(self, seen: SceneState | None) -> SceneState | None:
        """Waits for a scene other than `seen`; None at the end."""
        with self._wake:
            self._wake.wait_for(lambda: self._closed or (self.scene is not None and self.scene is not seen))
            return None if self._closed else self.scene

    def step(self, scene: SceneState) -> None:
        """Look whether the task has ended, infer if that is due, and send what comes of it."""
        began_s = time.perf_counter()
        with self._lock:  # until it is sent: nothing goes out after a cancellation
            if self._agent_of(scene) is not self.agent:  # another task has begun meanwhile
                return
            before = self.agent.state
            outgoing = self.agent.step(scene)
            if outgoing is None:
                self._say_if_changed(before)
                return
            self.inference_ms = (time.perf_counter() - began_s) * 1e3
            with self._sending:
                if self.agent.state is TaskState.RUNNING:  # else cancelled meanwhile
                    now_ns = self._now_ns()
                    self._outlet.chunk(self.agent.send(outgoing, now_ns), now_ns)

    def _say_if_changed(self, before: TaskState) -> None:
        """What has just ended or was handed over, at the moment at which it was, for those who record it."""
        agent = self.agent
        if agent.state is before:
            return
        if agent.state is TaskState.ABORTED:
            self._end_chunk()
            self._outlet.warn(f"the task was given up: {agent.message}")
        if agent.state is TaskState.SUCCEEDED:
            self._outlet.info(f"{agent.message}: {self.instruction!r}")
        self.tell()
        if agent.state is TaskState.HANDED_OVER:
            self._outlet.warn(f"the task was handed over: {agent.message}; go on with policy/resume")

    def _end_chunk(self) -> None:
        self._rest.begin()
        if self._drives:
            self._outlet.end_chunk(self._now_ns())

    # What is told.

    def look(self) -> None:
        """To be called again and again: ends what nothing is heard of any more, and tells who waits how things stand."""
        scene_s = CHANGE_TIMEOUT_S if self._awaited else SCENE_TIMEOUT_S
        for silence in (self.scene_silence(scene_s), self.control_silence(CONTROL_TIMEOUT_S)):
            if silence and self.agent.state is TaskState.RUNNING:
                self.abort(silence)
        self.attend()
        self.tell()

    def attend(self, rested: bool = False) -> None:
        """Feedback for who asked by action, and its end: once the arm rests, when it was cancelled or given up."""
        if not self.by_action:
            return
        if self.agent.busy:
            self._outlet.feedback(self.standing)
            return
        waited = "" if rested else self._waits_for_rest()
        if waited is None:
            return
        self.by_action = False
        agent, goal = self.agent, self.agent.goal or Goal("", "")
        succeeded = agent.state is TaskState.SUCCEEDED
        self.tell()
        self._outlet.result(
            Ended(succeeded, agent.message + waited, goal.target, goal.destination, agent.chunks)
        )

    def _waits_for_rest(self) -> str | None:
        """None while the arm of a task that was cancelled or given up has not come to rest; else what there is to add."""
        if self.agent.state is not TaskState.ABORTED or not self._drives or self._rest.at_rest:
            self._resting_since_s = 0.0
            return ""
        self._resting_since_s = self._resting_since_s or self._steady_s()
        if self._steady_s() - self._resting_since_s < REST_TIMEOUT_S:
            return None
        self._resting_since_s = 0.0
        return f"; within {REST_TIMEOUT_S:g} s control did not report that the arm rests"

    def tell(self) -> None:
        """How things stand, to whoever listens."""
        self._outlet.standing(self.standing)

    @property
    def standing(self) -> Standing:
        """How things stand."""
        agent = self.agent
        standing = Standing(
            state=agent.state,
            message=agent.message,
            instruction=self._request.text,
            identifier=self._request.identifier,
            condition=agent.conditions[0].stall.value if agent.conditions else "",
            chunks=agent.chunks,
            doubt=agent.doubt.level,
        )
        if self._refusal:
            target, destination = self._understood
            standing = replace(
                standing, state=None, message=self._refusal, target=target, destination=destination
            )
        elif agent.goal is not None:
            progress = agent.course.progress(self.stepped) if self.stepped is not None else 0.0
            goal = agent.goal
            standing = replace(standing, target=goal.target, destination=goal.destination, progress=progress)
        if not self.active and standing.state is TaskState.IDLE:
            standing = replace(standing, message=self.reason_not_to_begin())
        return standing
