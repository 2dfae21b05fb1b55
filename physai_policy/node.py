"""The policy as a ROS node: instructions and scenes in, action chunks out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.task import Future
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from physai.action import ExecuteTask
from physai.msg import (
    ChunkVerdict,
    ControlStatus,
    Instruction,
    PolicyStatus,
    SceneState,
    SupervisorStatus,
)
from physai_base.bundle import Bundle
from physai_base.embodiment import Embodiment
from physai_base.errors import BundleError, PhysaiError
from physai_base.expert import Goal
from physai_base.golden import GoldenError
from physai_base.resources import defaults
from physai_base.stream import StreamCheck
from physai_base.task import Task
from physai_base.trained_on import MismatchError
from physai_base.values import ActionChunk as Chunk
from physai_base.values import ControlState
from physai_base.values import SceneState as Scene
from physai_policy.agent import Agent, AgentSettings, TaskState
from physai_policy.answers import Answers, RestWatch, wrong_timeout
from physai_policy.correction import Corrector
from physai_policy.decoding import LEASE
from physai_policy.doubt import Monitor
from physai_policy.images import ImageBuffer
from physai_policy.language import Answer, Confirm, InstructionGrounder, answer
from physai_policy.loading import load_policy, where_it_runs
from physai_policy.policy import Policy, cameras_of
from physai_policy.runtimes import PRECISIONS, RUNTIMES, RuntimeOptions
from physai_policy.watch import Stall
from physai_ros import conversions, topics
from physai_ros.executor import CachingExecutor
from physai_ros.lifecycle_node import PhysaiNode, run_node

FEEDBACK_PERIOD_S = 0.2
NO_SCENE = "perception publishes no scene"
REST_TIMEOUT_S = 3.0  # steady time in which the arm comes to rest
GOAL_REJECTED, REJECTED_SHOWN_S = "goal_rejected", 6.0
LAST_ANSWER_S = 0.3  # for the result of a task that ends with the node
IMAGE_TIMEOUT_S = 0.5  # steady time without an image or a scene; named once it lasts
SCENE_ABSENT = "scene_absent"
SCENE_TIMEOUT_S = 5.0  # steady time without a scene: the task is aborted; the arm holds long before
CONTROL_TIMEOUT_S = (
    5.0  # the same without a status: what control last said of the arm need not be so any more
)
CONTROL_SILENT, SILENT_S = "control_silent", 1.0
# Not STOPPING: a chunk that ran out is followed as soon as a new one comes.
STOPPED = (ControlState.FAULT, ControlState.ESTOP, ControlState.INACTIVE)


@dataclass(frozen=True)
class PolicyParameters(AgentSettings):
    """Parameters of the node."""

    robot: str = field(
        default=defaults()["robot"], metadata={"description": "embodiment: an installed name or a file"}
    )
    task: str = field(
        default="", metadata={"description": "task: an installed name or a file; empty: the default one"}
    )
    bundle: str = field(
        default="policy",
        metadata={"description": "an installed bundle's name, a directory, or a remote policy's YAML file"},
    )
    corrector: str = field(
        default="corrector", metadata={"description": "bundle that corrects chunks, for method 'corrected'"}
    )
    doubt: str = field(
        default="doubt",
        metadata={"description": "bundle that says when to hand over, calibrated for the policy"},
    )
    mode: str = field(
        default="active",
        metadata={
            "choices": ("active", "shadow"),
            "description": "shadow: something else moves the arm, with or without our controller",
        },
    )
    runtime: str = field(
        default="onnx",
        metadata={"choices": tuple(RUNTIMES), "description": "what computes the policy's graph"},
    )
    threads: int = field(
        default=1, metadata={"range": (1, 64), "description": "threads of the runtime on the CPU"}
    )
    providers: str = field(
        default="auto", metadata={"description": "of ONNX Runtime: auto, or cuda, tensorrt, cpu by commas"}
    )
    precision: str = field(
        default="fp32",
        metadata={"choices": PRECISIONS, "description": "what the runtime computes in, if it can"},
    )


_STATES = {
    TaskState.IDLE: PolicyStatus.IDLE,
    TaskState.RUNNING: PolicyStatus.RUNNING,
    TaskState.HANDED_OVER: PolicyStatus.HANDOVER,
    TaskState.SUCCEEDED: PolicyStatus.SUCCEEDED,
    TaskState.ABORTED: PolicyStatus.ABORTED,
}


class PolicyNode(PhysaiNode[PolicyParameters]):
    """Grounds instructions and runs the agent in a thread of its own, so that callbacks wait for one inference at most."""

    name = "policy"
    parameters_type = PolicyParameters

    def setup(self) -> None:
        """Load the bundles, warm them up and subscribe."""
        parameters = self.parameters
        self._embodiment = Embodiment.load(parameters.robot)
        self._task = Task.load(parameters.task)
        options = RuntimeOptions(
            threads=parameters.threads, providers=parameters.providers, precision=parameters.precision
        )
        policy = load_policy(
            parameters.bundle, self._embodiment, self._task, runtime=parameters.runtime, options=options
        )
        self.get_logger().info(f"policy {policy.name} runs {where_it_runs(policy)}")
        self._grounder = InstructionGrounder(self._task)
        settings: AgentSettings = parameters
        if (
            parameters.mode == "shadow"
        ):  # the arm follows somebody else's chunks: there is nothing to go on from
            report = "off" if parameters.handover == "off" else "report"
            settings = replace(parameters, method="naive", handover=report)
        corrector = None
        if settings.method == "corrected":
            bundle = Bundle.open(parameters.corrector, kind="corrector", robot=self._embodiment)
            corrector = Corrector(bundle, self._task, threads=parameters.threads)
        self._images = self._look_through(policy)
        self._agent = Agent(
            self._embodiment,
            self._task,
            policy,
            settings,
            corrector,
            self._images.at,
            self._monitor_of(policy),
            drives=parameters.mode != "shadow",
        )
        self._agent.warm_up()
        self._answers, self._rest = Answers(self._agent, LEASE), RestWatch()
        self._lock = threading.Lock()  # of the agent, held for one inference at most
        self._sending = self._agent.ending  # also of what goes out; taken after the other one
        self._wake = threading.Condition()
        self._scene: Scene | None = None
        self._seen: Scene | None = None
        self._scene_s = self._began_s = 0.0  # when the last scene came, and the node was activated
        self._control: ControlState | None = None
        self._bring_up = ""  # what the supervisor misses
        self._control_s = 0.0  # when it was heard
        self._instruction, self._instruction_id = "", ""
        self._refusal, self._asked = "", ("", "")  # why nothing was begun, and what was understood of it
        self._inference_ms = self._age_ms = 0.0
        self._expected = False  # a goal was accepted and has not begun yet
        self._resting_since_s = (
            0.0  # of a task that has ended: since when the arm is waited for; 0: it is not
        )
        self._rejected_s = 0.0  # when a goal was rejected
        self._goal_handle: ServerGoalHandle | None = None  # of the action that runs,
        self._ended: Future[ExecuteTask.Result] = Future()  # and what its coroutine waits for
        self._executing = 0  # the executor's thread
        self._running = self._stopping = False
        self._chunks = topics.advertise(self, "action_chunk")
        self._status = topics.advertise(self, "policy/status")
        topics.hear(self, "scene", self._on_scene)
        topics.hear(self, "chunk_verdict", self._on_verdict)  # heard first when both are there
        topics.hear(self, "control/status", self._on_control)
        topics.hear(self, "supervisor/status", self._on_supervisor)
        topics.hear(self, "instruction", self._on_instruction)
        self.create_timer(FEEDBACK_PERIOD_S, self._tick, clock=self.steady_clock)
        self.create_service(Trigger, "policy/resume", self._on_resume)
        self._server = ActionServer(
            self, ExecuteTask, "execute_task", self._execute,
            goal_callback=self._on_goal, cancel_callback=self._on_cancel,
        )  # fmt: skip
        loops = [self._plan_on_scenes] + ([self._correct_on_scenes] if corrector else [])
        self._threads = [
            threading.Thread(target=self._guarded, args=(loop,), name=loop.__name__.strip("_"), daemon=True)
            for loop in loops
        ]
        for thread in self._threads:
            thread.start()

    def _look_through(self, policy: Policy) -> ImageBuffer:
        """Subscribes to the cameras that the policy needs; a policy that needs none costs nothing."""
        there = [camera.name for camera in self._embodiment.cameras]
        missing = [name for name in cameras_of(policy) if name not in there]
        if missing:
            raise PhysaiError(
                f"policy {policy.name} needs camera {', '.join(missing)}; robot {self._embodiment.name} has: "
                f"{', '.join(there) or 'none'}. Take another policy, or name the robot's cameras as it does"
            )
        buffer = ImageBuffer(cameras_of(policy))
        self._streams: dict[str, StreamCheck] = {}
        self._image_s = dict.fromkeys(cameras_of(policy), 0.0)  # steady time of the last one
        for name in cameras_of(policy):
            topic = f"camera/{name}/image_raw"
            self._streams[name] = StreamCheck(self._embodiment.camera(name), self.resolve_topic_name(topic))
            topics.hear(self, topic, partial(self._on_image, name))
        return buffer

    def _on_image(self, camera: str, message: Image) -> None:
        self._image_s[camera] = time.monotonic()
        stream, stamp_ns = self._streams[camera], conversions.time_from_msg(message.header.stamp)
        stream.add(stamp_ns)
        refusal = stream.wrong_size(message.width, message.height)
        if not refusal:
            try:
                self._images.add(camera, stamp_ns, conversions.rgb_from_msg(message))
            except PhysaiError as error:
                refusal = f"camera {camera}: {error}"
        if refusal:
            self._images.refuse(camera, refusal)
            self.warn_throttled(refusal)
        if self._running:
            self.conditions.set(f"image_refused.{camera}", refusal, True, patience_s=0.5)
            self.conditions.set(f"image_slow.{camera}", stream.too_slow())

    def _name_waits(self) -> None:
        """What the policy needs and does not get, while it is active."""
        now_s = time.monotonic()
        for camera, seen_s in self._image_s.items():
            late = now_s - seen_s > IMAGE_TIMEOUT_S
            topic = self.resolve_topic_name(f"camera/{camera}/image_raw")
            text = f"no image of camera {camera} on {topic}, which the policy needs: is its driver running?"
            self.conditions.set(f"image_absent.{camera}", text if late else "", error=True)
        silent = now_s - self._scene_s > IMAGE_TIMEOUT_S
        text = f"no scene on {self.resolve_topic_name('scene')}: is perception active? Its diagnostics say why not"
        self.conditions.set(SCENE_ABSENT, text if silent else "")

    def _monitor_of(self, policy: Policy) -> Monitor | None:
        """What says when this policy should hand over; None, with a warning, where nothing was calibrated for it."""
        if self.parameters.handover == "off":
            return None
        try:
            bundle = Bundle.open(self.parameters.doubt, kind="doubt", robot=self._embodiment)
            return Monitor.open(bundle, self._task, getattr(policy, "digest", ""))
        except (GoldenError, MismatchError):
            raise  # nobody may go on as if it were watched
        except BundleError as error:
            self.get_logger().warning(f"the policy will never ask for a person: {error}")
            return None

    def start(self) -> None:
        """Accept tasks."""
        self._began_s = time.monotonic()
        self._running = True

    def stop(self) -> None:
        """Abort what runs: the arm stops on its path and holds."""
        self._running = False
        self._abort(f"the policy was deactivated{f': {self._bring_up}' if self._bring_up else ''}")

    def teardown(self) -> None:
        """Answer who asked, and end the threads."""
        self._answer_before_the_end()
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join(timeout=2.0)
        self._server.destroy()

    def _answer_before_the_end(self) -> None:
        """The result of the action that runs, as long as there is a server to send it; does not wait for rest."""
        handle = self._goal_handle
        if handle is None:
            return
        self._attend(handle, rested=True)
        deadline = time.monotonic() + LAST_ANSWER_S
        while handle.is_active and time.monotonic() < deadline:
            self._let_tasks_run()
        self._let_tasks_run()  # the goal has ended; this sends its result

    def _let_tasks_run(self) -> None:
        """A transition that was asked for by service keeps the executor's thread, whose tasks are run here then."""
        if isinstance(self.executor, CachingExecutor) and threading.get_ident() == self._executing:
            self.executor.go_on_with_tasks()
        else:
            if self.executor is not None:
                self.executor.wake()
            time.sleep(0.05)

    def _on_scene(self, message: SceneState) -> None:
        try:
            scene = conversions.scene_from_msg(message)
        except PhysaiError as error:
            self.warn_throttled(f"scene refused: {error}")
            return
        self._scene_s = time.monotonic()
        self._agent.remember(scene)
        with self._wake:
            self._scene = scene
            self._wake.notify_all()

    def _on_control(self, message: ControlStatus) -> None:
        self._control, self._control_s = ControlState(message.state), time.monotonic()
        measured = np.asarray(message.reference) - np.asarray(message.tracking_error)
        self._rest.status(
            conversions.time_from_msg(message.header.stamp), self._control, message.active_sequence, measured
        )
        with self._sending:
            self._answers.control(
                (message.active_lease, message.active_sequence),
                message.activation_latency,
                (message.rejected_lease, message.rejected_sequence),
                message.last_rejection,
                self.get_clock().now().nanoseconds,
            )
        stopped = self._control in STOPPED or message.cause_code == ControlStatus.CAUSE_STOP_REQUESTED
        if stopped and self._agent.state is TaskState.RUNNING:
            self._abort(f"control is {self._control.name.lower()}: {message.cause}")
            self._publish_status()

    def _on_verdict(self, message: ChunkVerdict) -> None:
        try:
            verdict = conversions.verdict_from_msg(message)
        except PhysaiError as error:
            self.warn_throttled(f"verdict refused: {error}")
            return
        with self._sending:
            self._answers.verdict(verdict)

    def _on_supervisor(self, message: SupervisorStatus) -> None:
        """What is not there; it is said to whoever asks, since nothing else would come of it than waiting."""
        self._bring_up = message.message if message.state == SupervisorStatus.DEGRADED else ""

    def _on_instruction(self, message: Instruction) -> None:
        """An instruction by topic; its outcome shows on policy/status alone."""
        found = self._begin(message.text, identifier=message.id)
        if found.reason:
            self.get_logger().warning(f"instruction refused: {found.reason}")

    def _on_goal(self, request: ExecuteTask.Goal) -> GoalResponse:
        """Reject what cannot be begun whatever it says; an answer carries no text, so the reason goes to policy/status.

        While the arm stops after a task the next one is accepted, and begins when the arm rests.
        """
        reason = wrong_timeout(request.timeout) or self._why_busy()
        if reason and self._stops and not self._expected:
            reason = wrong_timeout(request.timeout)
        if not reason:
            self._expected = True
            return GoalResponse.ACCEPT
        self.get_logger().warning(f"goal {request.instruction!r} rejected: {reason}")
        self.conditions.set(GOAL_REJECTED, f"goal {request.instruction!r} rejected: {reason}")
        self._rejected_s = time.monotonic()
        self._publish_status(refused=(request.instruction, "", reason))
        return GoalResponse.REJECT

    def _why_busy(self) -> str:
        """Why no other task can begin now, or nothing; one that was handed over gives way."""
        if self._goal_handle is not None:
            self._attend(self._goal_handle)  # it may have ended since it was last looked at
        if self._agent.state is TaskState.HANDED_OVER and not self._expected:
            return ""
        if self._agent.busy or self._expected:
            return f"busy with {self._instruction!r}; cancel it first"
        return f"the arm still stops after {self._instruction!r}" if self._stops else ""

    @property
    def _stops(self) -> bool:
        """Whether an action's task has ended and the arm does not rest yet."""
        return self._goal_handle is not None and not self._agent.busy

    def _on_cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        """The arm stops now; the result says so once it rests."""
        if handle is self._goal_handle:
            self._abort("cancelled")
        return CancelResponse.ACCEPT

    def _on_resume(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """A person has looked: the policy goes on with the task that it handed over."""
        reason = self._reason_not_to_begin()
        with self._lock:
            if not reason and self._scene is not None and not self._agent.resume(self._scene.stamp_ns):
                reason = "no task was handed over"
        response.success, response.message = not reason, reason or f"goes on with {self._instruction!r}"
        self._publish_status()
        return response

    def _begin(
        self,
        text: str,
        timeout_s: float = 0.0,
        identifier: str = "",
        confirm: int = Confirm.AUTO,
        confirmed: tuple[str, str] = ("", ""),
    ) -> Answer:
        """Start a task; the answer says why not, or what was understood."""
        self._expected = False
        reason = self._why_busy() or wrong_timeout(timeout_s)
        handed_over = self._agent.state is TaskState.HANDED_OVER  # then another task may take its place
        if reason:
            self._publish_status(refused=(text, identifier, reason))
            return Answer(reason)
        found = Answer(self._reason_not_to_begin())
        goal: Goal | None = None
        if not found.reason:
            grounding = self._grounder.ground(text)
            found = answer(grounding, confirm, confirmed)
            if not found.reason:
                goal = Goal(found.target, found.destination)
        if handed_over and found.reason:
            self._publish_status(refused=(text, identifier, found.reason))
            return found
        if handed_over:
            self._abort(f"another task takes its place: {text!r}")
            if self._goal_handle is not None:  # the arm has rested since it was handed over
                self._attend(self._goal_handle, rested=True)
        with self._lock, self._sending:
            self._instruction, self._instruction_id = text, identifier
            self._refusal, self._asked = found.reason, (found.target, found.destination)
            if goal is not None and self._scene is not None:
                # The clock keeps numbers rising also over a restart of this process.
                self._agent.start(
                    goal,
                    self._scene.stamp_ns,
                    first_sequence=self.get_clock().now().nanoseconds,
                    timeout_s=timeout_s,
                    # A policy that reads is told what was understood, not what may be read in another way.
                    instruction=grounding.understood,
                )
        self._publish_status()
        return found

    def _reason_not_to_begin(self) -> str:
        if not self._running:
            return f"the policy is not active{f': {self._bring_up}' if self._bring_up else ''}"
        if self._bring_up:
            return f"the bring-up is degraded: {self._bring_up}"
        if self._control is None and self.parameters.mode != "shadow":
            return "no word from control on control/status"
        if silence := self._control_silence(2 * SILENT_S):
            return silence
        if self._control in STOPPED:
            return f"control is {self._control.name.lower()}; call control/reset or control/resume"
        if self._scene is None or time.monotonic() - self._scene_s > SCENE_TIMEOUT_S:
            return f"{NO_SCENE}: what it lacks is on /diagnostics"
        return ""

    def _control_silence(self, limit_s: float) -> str:
        """Why nothing is known of the arm, or nothing; a shadow is not told what moves its robot."""
        silent_s = time.monotonic() - self._control_s
        if self._control is None or self.parameters.mode == "shadow" or silent_s < limit_s:
            return ""
        return f"control has said nothing for {silent_s:.1f} s, and what the arm does is not known; see /diagnostics"

    async def _execute(self, handle: ServerGoalHandle) -> ExecuteTask.Result:
        """Run one goal of the action; `_attend` gives feedback and notices the end."""
        self._executing = threading.get_ident()
        if self._stops:
            await self._ended
            if handle.is_cancel_requested:
                self._expected = False
                handle.canceled()
                return ExecuteTask.Result(message="cancelled before it began")
        began_ns = self.get_clock().now().nanoseconds
        request = handle.request
        found = self._begin(
            request.instruction,
            request.timeout,
            confirm=request.confirm,
            confirmed=(request.target, request.destination),
        )
        if found.reason:
            handle.abort()
            return ExecuteTask.Result(
                message=found.reason,
                question=found.question,
                target=found.target,
                destination=found.destination,
            )
        self._goal_handle, self._ended = handle, Future()
        result = await self._ended
        assert result is not None
        result.duration = (self.get_clock().now().nanoseconds - began_ns) / 1e9
        if handle.is_cancel_requested:
            handle.canceled()
        elif result.success:
            handle.succeed()
        else:
            handle.abort()
        return result

    def _abort(self, message: str) -> None:
        """Nothing is sent after this, and the arm stops on its path; does not wait for an inference."""
        with self._sending:
            if self._agent.busy:
                self._agent.abort(message)
                self._end_chunk()

    def _end_chunk(self) -> None:
        self._rest.begin()
        if self.parameters.mode != "shadow":
            now_ns = self.get_clock().now().nanoseconds
            self._chunks.publish(conversions.end_to_msg(LEASE, now_ns, self._embodiment.base_frame))

    def _guarded(self, loop: Callable[[], None]) -> None:
        try:
            loop()
        except Exception as error:
            self.fail(f"planning ended: {type(error).__name__}: {error}")

    def _next_scene(self, seen: Scene | None) -> Scene | None:
        """Waits for a scene other than `seen`; None when the node ends. Scenes that came meanwhile are left out."""
        with self._wake:
            self._wake.wait_for(lambda: self._stopping or self._scene is not seen)
            return None if self._stopping else self._scene

    def _plan_on_scenes(self) -> None:
        while (scene := self._next_scene(self._seen)) is not None:
            self._seen = scene
            if not self._running:
                continue
            began = time.perf_counter()
            with self._lock:  # until it is published: nothing goes out after a cancellation
                before = self._agent.state
                plan = self._agent.step(scene)
                if plan is None:
                    self._say_if_changed(before)
                    continue
                self._inference_ms = (time.perf_counter() - began) * 1e3
                with self._sending:
                    if self._agent.state is not TaskState.RUNNING:
                        continue  # cancelled meanwhile
                    now_ns = self.get_clock().now().nanoseconds
                    self._publish(self._agent.send(plan, now_ns), now_ns)

    def _say_if_changed(self, before: TaskState) -> None:
        """What has just ended or was handed over, at the moment at which it was, for those who record it."""
        agent = self._agent
        if agent.state is before:
            return
        if agent.state is TaskState.ABORTED:
            self._end_chunk()
            self.get_logger().warning(f"the task was given up: {agent.message}")
        if agent.state is TaskState.SUCCEEDED:
            self.get_logger().info(f"{agent.message}: {self._instruction!r}")
        self._publish_status()
        if agent.state is TaskState.HANDED_OVER:
            self.get_logger().warning(f"the task was handed over: {agent.message}; go on with policy/resume")

    def _correct_on_scenes(self) -> None:
        seen: Scene | None = None
        while (scene := self._next_scene(seen)) is not None:
            seen = scene
            with self._sending:
                chunk = self._agent.correct(scene) if self._running else None
                if chunk is not None:
                    self._publish(chunk, self.get_clock().now().nanoseconds)

    def _publish(self, chunk: Chunk, now_ns: int) -> None:
        self._age_ms = (now_ns - chunk.observation_ns) / 1e6
        self._chunks.publish(conversions.chunk_to_msg(chunk, now_ns, self._embodiment.base_frame))

    def _progress(self) -> float:
        return self._agent.progress(self._seen) if self._seen is not None else 0.0

    def _tick(self) -> None:
        unseen_s = time.monotonic() - max(self._scene_s, self._began_s)
        no_scene = f"{NO_SCENE}: what it lacks is on /diagnostics" if self._running and unseen_s > 1 else ""
        self.conditions.set("no_scene", no_scene)
        if unseen_s > SCENE_TIMEOUT_S and self._agent.state is TaskState.RUNNING:
            self._abort(no_scene or NO_SCENE)
        self.conditions.set(CONTROL_SILENT, self._control_silence(SILENT_S), error=True)
        silence = self._control_silence(CONTROL_TIMEOUT_S)
        if silence and self._agent.state is TaskState.RUNNING:
            self._abort(silence)
        self._name_conditions()
        if self._goal_handle is not None:
            self._attend(self._goal_handle)
        if self._running:
            self._name_waits()
        self._publish_status()

    def _name_conditions(self) -> None:
        """What repeats without progress, on diagnostics; what a task was given up for stays until the next one."""
        present = {f"policy_{one.stall.value}": one.text for one in self._agent.conditions}
        for stall in Stall:
            name = f"policy_{stall.value}"
            self.conditions.set(name, present.get(name, ""))
        if self._rejected_s and time.monotonic() - self._rejected_s > REJECTED_SHOWN_S:
            self.conditions.end(GOAL_REJECTED)
            self._rejected_s = 0.0

    def _attend(self, handle: ServerGoalHandle, rested: bool = False) -> None:
        """Feedback for the action that runs, and its end: once the arm rests, when it was cancelled or given up."""
        agent = self._agent
        if handle.is_cancel_requested:
            self._abort("cancelled")
        if not agent.busy:
            waited = "" if rested else self._waits_for_rest()
            if waited is None:
                return
            self._goal_handle = None
            result = ExecuteTask.Result(
                success=agent.state is TaskState.SUCCEEDED, message=agent.message + waited
            )
            if agent.goal is not None:
                result.target, result.destination = agent.goal.target, agent.goal.destination
            result.chunks = agent.chunks
            self._publish_status()
            self._ended.set_result(result)
            return
        feedback = ExecuteTask.Feedback()
        feedback.state, feedback.message = _STATES[agent.state], agent.message
        feedback.progress = self._progress()
        handle.publish_feedback(feedback)

    def _waits_for_rest(self) -> str | None:
        """None while the arm of a task that was cancelled or given up has not come to rest; else what there is to add."""
        if (
            self._agent.state is not TaskState.ABORTED
            or self.parameters.mode == "shadow"
            or self._rest.at_rest
        ):
            self._resting_since_s = 0.0
            return ""
        self._resting_since_s = self._resting_since_s or time.monotonic()
        if time.monotonic() - self._resting_since_s < REST_TIMEOUT_S:
            return None
        self._resting_since_s = 0.0
        return f"; within {REST_TIMEOUT_S:g} s control did not report that the arm rests"

    def _publish_status(self, refused: tuple[str, str, str] | None = None) -> None:
        """The present status; once, that an instruction (text, id, reason) was refused because another runs."""
        agent, message = self._agent, PolicyStatus()
        message.header.stamp = self.get_clock().now().to_msg()
        message.instruction, message.instruction_id = self._instruction, self._instruction_id
        if self._refusal:
            message.state, message.message = PolicyStatus.REFUSED, self._refusal
            message.target, message.destination = self._asked
        else:
            message.state, message.message = _STATES[agent.state], agent.message
            if agent.goal is not None:
                message.target, message.destination = agent.goal.target, agent.goal.destination
            message.progress = self._progress()
        if not self._running and message.state == PolicyStatus.IDLE:
            message.message = self._reason_not_to_begin()
        if refused is not None:
            message.state = PolicyStatus.REFUSED
            message.instruction, message.instruction_id, message.message = refused
        message.condition = agent.conditions[0].stall.value if agent.conditions else ""
        message.chunks, message.doubt = agent.chunks, agent.doubt.level
        message.inference_ms, message.observation_age_ms = self._inference_ms, self._age_ms
        self._status.publish(message)


def main() -> None:
    """Entry point of the executable `policy`."""
    run_node(PolicyNode)


if __name__ == "__main__":
    main()
