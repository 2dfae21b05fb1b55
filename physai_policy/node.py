"""The policy as a ROS node: instructions and scenes in, action chunks out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.task import Future
from sensor_msgs.msg import Image
from std_msgs.msg import String
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
from physai_base.golden import GoldenError
from physai_base.resources import defaults
from physai_base.stream import StreamCheck
from physai_base.task import Task, load_tasks
from physai_base.trained_on import MismatchError
from physai_base.values import ActionChunk as Chunk
from physai_base.values import ControlState
from physai_policy.agent import Agent, AgentSettings
from physai_policy.chunking.method import chunking_method
from physai_policy.correction import Corrector
from physai_policy.course import TaskState
from physai_policy.decoding import LEASE
from physai_policy.doubt import Monitor
from physai_policy.images import ImageBuffer
from physai_policy.language import TasksGrounder
from physai_policy.loading import load_policy, where_it_runs
from physai_policy.policy import Policy, cameras_of, space_of
from physai_policy.reach import check_reach
from physai_policy.runtimes import PRECISIONS, RUNTIMES, RuntimeOptions
from physai_policy.session import ControlWord, Ended, Request, Session, Standing
from physai_policy.watch import Stall
from physai_ros import conversions, topics
from physai_ros.executor import CachingExecutor
from physai_ros.lifecycle_node import PhysaiNode, run_node

FEEDBACK_PERIOD_S = 0.2
GOAL_REJECTED, REJECTED_SHOWN_S = "goal_rejected", 6.0
LAST_ANSWER_S = 0.3  # for the result of a task that ends with the node
IMAGE_TIMEOUT_S = 0.5  # steady time without an image or a scene; named once it lasts
SCENE_ABSENT = "scene_absent"
CONTROL_SILENT = "control_silent"


@dataclass(frozen=True)
class PolicyParameters(AgentSettings):
    """Parameters of the node."""

    robot: str = field(
        default=defaults()["robot"], metadata={"description": "embodiment: an installed name or a file"}
    )
    task: str = field(
        default="",
        metadata={
            "description": "task: an installed name or a file; empty: the default one. By commas: an instruction says which of them"
        },
    )
    bundle: str = field(
        default="policy",
        metadata={
            "description": "a bundle: a name in models/<task>, TASK/NAME, a directory; or a remote policy's YAML file"
        },
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
    None: PolicyStatus.REFUSED,
    TaskState.IDLE: PolicyStatus.IDLE,
    TaskState.RUNNING: PolicyStatus.RUNNING,
    TaskState.HANDED_OVER: PolicyStatus.HANDOVER,
    TaskState.SUCCEEDED: PolicyStatus.SUCCEEDED,
    TaskState.ABORTED: PolicyStatus.ABORTED,
}


class PolicyNode(PhysaiNode[PolicyParameters]):
    """A session (session.py) between topics, an action and the controller; it is the session's `Outlet`."""

    name = "policy"
    parameters_type = PolicyParameters

    def setup(self) -> None:
        """Load the bundles of each task, warm them up and subscribe."""
        parameters = self.parameters
        self._embodiment = Embodiment.load(parameters.robot)
        tasks = load_tasks(parameters.task)
        policies = {task.name: self._policy_of(task) for task in tasks}
        settings: AgentSettings = parameters
        if (
            parameters.mode == "shadow"
        ):  # the arm follows somebody else's chunks: there is nothing to go on from
            report = "off" if parameters.handover == "off" else "report"
            settings = replace(parameters, method="naive", handover=report)
        corrects = chunking_method(settings.method).corrects
        self._images = self._look_through(policies.values())
        agents = {
            task.name: Agent(
                self._embodiment,
                task,
                policies[task.name],
                settings,
                self._corrector_of(task) if corrects else None,
                self._images.at,
                self._monitor_of(policies[task.name], task),
                drives=parameters.mode != "shadow",
            )
            for task in tasks
        }
        for agent in agents.values():
            agent.warm_up()
        self._session = Session(
            agents,
            TasksGrounder(tasks),
            self,
            now_ns=lambda: self.get_clock().now().nanoseconds,
            drives=parameters.mode != "shadow",
        )
        self._age_ms = 0.0
        self._rejected_s = 0.0  # when a goal was rejected
        self._goal_handle: ServerGoalHandle | None = None  # of the action that runs,
        self._ended: Future[ExecuteTask.Result] = Future()  # and what its coroutine waits for
        self._executing = 0  # the executor's thread
        self._chunks = topics.advertise(self, "action_chunk")
        self._status = topics.advertise(self, "policy/status")
        self._task_named = topics.advertise(self, "task")
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
        loops = [self._session.run] + ([self._session.run_corrections] if corrects else [])
        self._threads = [
            threading.Thread(target=self._guarded, args=(loop,), name=loop.__name__, daemon=True)
            for loop in loops
        ]
        for thread in self._threads:
            thread.start()

    def _policy_of(self, task: Task) -> Policy:
        parameters = self.parameters
        options = RuntimeOptions(
            threads=parameters.threads, providers=parameters.providers, precision=parameters.precision
        )
        policy = load_policy(
            parameters.bundle, self._embodiment, task, runtime=parameters.runtime, options=options
        )
        if warning := check_reach(policy.name, space_of(policy), self._embodiment, task):
            self.get_logger().warning(warning)
        self.get_logger().info(f"policy {policy.name} of {task.name} runs {where_it_runs(policy)}")
        return policy

    def _corrector_of(self, task: Task) -> Corrector:
        name, robot = self.parameters.corrector, self._embodiment
        bundle = Bundle.open(name, kind="corrector", robot=robot, task=task)
        return Corrector(bundle, task, threads=self.parameters.threads)

    def _look_through(self, policies: Iterable[Policy]) -> ImageBuffer:
        """Subscribes to the cameras that the policies need; one that needs none costs nothing."""
        there = [camera.name for camera in self._embodiment.cameras]
        needed: dict[str, None] = {}
        for policy in policies:
            missing = [name for name in cameras_of(policy) if name not in there]
            if missing:
                raise PhysaiError(
                    f"policy {policy.name} needs camera {', '.join(missing)}; robot {self._embodiment.name} has: "
                    f"{', '.join(there) or 'none'}. Take another policy, or name the robot's cameras as it does"
                )
            needed |= dict.fromkeys(cameras_of(policy))
        buffer = ImageBuffer(tuple(needed))
        self._streams: dict[str, StreamCheck] = {}
        self._image_s = dict.fromkeys(needed, 0.0)  # steady time of the last one
        for name in needed:
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
        if self._session.active:
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
        silent = self._session.scene_age_s > IMAGE_TIMEOUT_S
        text = f"no scene on {self.resolve_topic_name('scene')}: is perception active? Its diagnostics say why not"
        self.conditions.set(SCENE_ABSENT, text if silent else "")

    def _monitor_of(self, policy: Policy, task: Task) -> Monitor | None:
        """What says when this policy should hand over; None, with a warning, where nothing was calibrated for it."""
        if self.parameters.handover == "off":
            return None
        try:
            bundle = Bundle.open(self.parameters.doubt, kind="doubt", robot=self._embodiment, task=task)
            return Monitor.open(bundle, task, getattr(policy, "digest", ""))
        except (GoldenError, MismatchError):
            raise  # nobody may go on as if it were watched
        except BundleError as error:
            self.get_logger().warning(f"the policy will never ask for a person: {error}")
            return None

    def start(self) -> None:
        """Accept tasks."""
        self._session.activate()

    def stop(self) -> None:
        """Abort what runs: the arm stops on its path and holds."""
        self._session.deactivate()

    def teardown(self) -> None:
        """Answer who asked, and end the threads."""
        self._answer_before_the_end()
        self._session.close()
        for thread in self._threads:
            thread.join(timeout=2.0)
        self._server.destroy()

    def _answer_before_the_end(self) -> None:
        """The result of the action that runs, as long as there is a server to send it; does not wait for rest."""
        handle = self._goal_handle
        if handle is None:
            return
        self._session.attend(rested=True)
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

    # What is heard.

    def _on_scene(self, message: SceneState) -> None:
        try:
            scene = conversions.scene_from_msg(message)
        except PhysaiError as error:
            self.warn_throttled(f"scene refused: {error}")
            return
        self._session.hear_scene(scene)

    def _on_control(self, message: ControlStatus) -> None:
        wrench = np.zeros(6)  # unknown
        with suppress(PhysaiError):  # of another controller
            if message.end_effectors:
                wrench = conversions.wrench_from_msg(message.end_effectors[0].external_wrench)
        self._session.hear_control(
            ControlWord(
                stamp_ns=conversions.time_from_msg(message.header.stamp),
                state=ControlState(message.state),
                cause=message.cause,
                on_request=message.cause_code == ControlStatus.CAUSE_STOP_REQUESTED,
                measured_rad=np.asarray(message.reference) - np.asarray(message.tracking_error),
                active=(message.active_lease, message.active_sequence),
                latency_s=message.activation_latency,
                rejected=(message.rejected_lease, message.rejected_sequence),
                rejection=message.last_rejection,
                wrench=wrench,
            )
        )

    def _on_verdict(self, message: ChunkVerdict) -> None:
        try:
            verdict = conversions.verdict_from_msg(message)
        except PhysaiError as error:
            self.warn_throttled(f"verdict refused: {error}")
            return
        self._session.hear_verdict(verdict)

    def _on_supervisor(self, message: SupervisorStatus) -> None:
        """What is not there; it is said to whoever asks, since nothing else would come of it than waiting."""
        self._session.bring_up = message.message if message.state == SupervisorStatus.DEGRADED else ""

    # What is asked for.

    def _on_instruction(self, message: Instruction) -> None:
        """An instruction by topic; its outcome shows on policy/status alone."""
        found = self._session.begin(Request(message.text, identifier=message.id))
        if found.reason:
            self.get_logger().warning(f"instruction refused: {found.reason}")

    def _on_goal(self, request: ExecuteTask.Goal) -> GoalResponse:
        """Reject what cannot be begun whatever it says; an answer carries no text, so the reason goes to policy/status."""
        reason = self._session.accept(request.instruction, request.timeout)
        if not reason:
            return GoalResponse.ACCEPT
        self.get_logger().warning(f"goal {request.instruction!r} rejected: {reason}")
        self.conditions.set(GOAL_REJECTED, f"goal {request.instruction!r} rejected: {reason}")
        self._rejected_s = time.monotonic()
        return GoalResponse.REJECT

    def _on_cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        """The arm stops now; the result says so once it rests."""
        if handle is self._goal_handle:
            self._session.abort("cancelled")
        return CancelResponse.ACCEPT

    def _on_resume(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """A person has looked: the policy goes on with the task that it handed over."""
        reason = self._session.resume()
        response.success = not reason
        response.message = reason or f"goes on with {self._session.instruction!r}"
        return response

    async def _execute(self, handle: ServerGoalHandle) -> ExecuteTask.Result:
        """Run one goal of the action; `result` brings it."""
        self._executing = threading.get_ident()
        if self._session.stops:
            await self._ended
            if handle.is_cancel_requested:
                self._session.withdraw()
                handle.canceled()
                return ExecuteTask.Result(message="cancelled before it began")
        began_ns = self.get_clock().now().nanoseconds
        request = handle.request
        found = self._session.begin(
            Request(
                request.instruction,
                request.timeout,
                confirm=request.confirm,
                confirmed=(request.target, request.destination),
                by_action=True,
            )
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

    # What is told: the session's `Outlet`.

    def chunk(self, chunk: Chunk, now_ns: int) -> None:
        """To the controller."""
        self._age_ms = (now_ns - chunk.observation_ns) / 1e6
        self._chunks.publish(conversions.chunk_to_msg(chunk, now_ns, self._embodiment.base_frame))

    def end_chunk(self, now_ns: int) -> None:
        """The arm stops on its path."""
        self._chunks.publish(conversions.end_to_msg(LEASE, now_ns, self._embodiment.base_frame))

    def feedback(self, standing: Standing) -> None:
        """Of the action that runs."""
        if self._goal_handle is not None:
            feedback = ExecuteTask.Feedback(state=_STATES[standing.state], message=standing.message)
            feedback.progress = standing.progress
            self._goal_handle.publish_feedback(feedback)

    def result(self, ended: Ended) -> None:
        """The action's result; `_execute` sends it."""
        self._goal_handle = None
        self._ended.set_result(
            ExecuteTask.Result(
                success=ended.success,
                message=ended.message,
                target=ended.target,
                destination=ended.destination,
                chunks=ended.chunks,
            )
        )

    def standing(self, standing: Standing) -> None:
        """On policy/status."""
        message = PolicyStatus(state=_STATES[standing.state], message=standing.message)
        message.header.stamp = self.get_clock().now().to_msg()
        message.instruction, message.instruction_id = standing.instruction, standing.identifier
        message.target, message.destination = standing.target, standing.destination
        message.progress, message.condition = standing.progress, standing.condition
        message.chunks, message.doubt = standing.chunks, standing.doubt
        message.inference_ms, message.observation_age_ms = self._session.inference_ms, self._age_ms
        self._status.publish(message)

    def name_task(self, name: str) -> None:
        """On the topic `task`, also for whoever comes later."""
        self.get_logger().info(f"the task is {name} now")
        self._task_named.publish(String(data=name))

    def warn(self, text: str) -> None:
        """In the log."""
        self.get_logger().warning(text)

    def info(self, text: str) -> None:
        """In the log."""
        self.get_logger().info(text)

    def _guarded(self, loop: Callable[[], None]) -> None:
        try:
            loop()
        except Exception as error:
            self.fail(f"the loop over scenes ended: {type(error).__name__}: {error}")

    def _tick(self) -> None:
        session = self._session
        self.conditions.set("no_scene", session.scene_silence())
        self.conditions.set(CONTROL_SILENT, session.control_silence(), error=True)
        if self._goal_handle is not None and self._goal_handle.is_cancel_requested:
            session.abort("cancelled")
        self._name_conditions()
        if session.active:
            self._name_waits()
        session.look()

    def _name_conditions(self) -> None:
        """What repeats without progress, on diagnostics; what a task was given up for stays until the next one."""
        present = {f"policy_{one.stall.value}": one.text for one in self._session.agent.conditions}
        for stall in Stall:
            name = f"policy_{stall.value}"
            self.conditions.set(name, present.get(name, ""))
        if self._rejected_s and time.monotonic() - self._rejected_s > REJECTED_SHOWN_S:
            self.conditions.end(GOAL_REJECTED)
            self._rejected_s = 0.0


def main() -> None:
    """Entry point of the executable `policy`."""
    run_node(PolicyNode)


if __name__ == "__main__":
    main()
