"""Goals of the policy's action: what is rejected and where that is said, cancellation at rest, and what repeats without progress."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from policy_bench import Bench
from scenes import make_scene

from physai.action import ExecuteTask
from physai.msg import ActionChunk, ChunkVerdict, ControlStatus, PolicyStatus, SceneState, SupervisorStatus
from physai_base.embodiment import Embodiment
from physai_base.task import Task
from physai_ros import conversions, topics

pytestmark = pytest.mark.ros
PERIOD_S = 0.05
TASK = "put the red cup on the top shelf"
STOPPING_S = 0.6  # longer than a real arm takes


class Robot(Bench):
    """A controller and a perception that say what a test wants."""

    def __init__(self, embodiment: Embodiment, task: Task) -> None:
        super().__init__()
        self.embodiment, self.task = embodiment, task
        self.scenes = self.other.create_publisher(SceneState, "scene", 10)
        self.verdicts = self.other.create_publisher(ChunkVerdict, "chunk_verdict", 10)
        self.statuses: list[PolicyStatus] = []
        self.ends: list[float] = []
        self.other.create_subscription(PolicyStatus, "policy/status", self.statuses.append, 10)
        self.other.create_subscription(ActionChunk, "action_chunk", self._on_chunk, 10)
        self.takes_chunks, self.veto, self.tells_scenes = True, "", True
        self.status = ControlStatus(state=ControlStatus.HOLD, law=1)
        self.stops_at = 0.0
        self.moves = 0.0
        self.rested_at = 0.0
        self.other.create_timer(PERIOD_S, self._tell)

    def _on_chunk(self, message: ActionChunk) -> None:
        if message.horizon == 0:
            self.ends.append(time.monotonic())
            if self.status.state == ControlStatus.TRACK:
                self.status.state, self.stops_at = ControlStatus.STOPPING, time.monotonic() + STOPPING_S
            self.status.active_sequence = self.status.active_lease = 0
        elif self.takes_chunks:
            self.status.state = ControlStatus.TRACK
            self.status.active_sequence, self.status.active_lease = message.sequence, message.lease
        else:
            if self.veto:
                verdict = ChunkVerdict(sequence=message.sequence, lease=message.lease, reason="knocks_over")
                verdict.detail, verdict.ood_threshold = self.veto, 1.0
                self.verdicts.publish(verdict)
                time.sleep(0.02)  # control reports at 20 Hz
            self.status.rejected_sequence, self.status.rejected_lease = message.sequence, message.lease
            self.status.last_rejection = f"chunk {message.sequence} refused: the arm is elsewhere"

    def _tell(self) -> None:
        now_ns = self.other.get_clock().now().nanoseconds
        if self.stops_at and time.monotonic() > self.stops_at:
            self.status.state, self.stops_at, self.rested_at = ControlStatus.HOLD, 0.0, time.monotonic()
        if self.status.state != ControlStatus.HOLD:
            self.moves += 0.01
        joints = self.embodiment.home + [self.moves, 0, 0, 0, 0, 0, 0]
        scene = replace(make_scene(self.embodiment, self.task, stamp_ns=now_ns), joint_position=joints)
        if self.tells_scenes:
            self.scenes.publish(conversions.scene_to_msg(scene, self.embodiment))
        self.status.header.stamp = conversions.time_to_msg(now_ns)
        self.status.reference, self.status.tracking_error = joints.tolist(), [0.0] * 7
        self.control.publish(self.status)

    def send(self, text: str = TASK, timeout: float = 0.0) -> Any:
        """The goal's handle."""
        assert self.execute.wait_for_server(timeout_sec=20)
        sending = self.execute.send_goal_async(ExecuteTask.Goal(instruction=text, timeout=timeout))
        self.until(sending.done, "an answer to the goal")
        return sending.result()

    def result(self, handle: Any) -> Any:
        """Its status and result, and when they came."""
        waiting = handle.get_result_async()
        self.until(waiting.done, "a result")
        return waiting.result(), time.monotonic()

    def said(self, word: str) -> bool:
        """Whether policy/status has shown a refusal with that word."""
        return any(s.state == PolicyStatus.REFUSED and word in s.message for s in self.statuses)

    def shown(self, key: str) -> str:
        """What diagnostics show under that key."""
        found = [v.value for m in self.diagnostics[-20:] for s in m.status for v in s.values if v.key == key]
        return found[-1] if found else ""


@pytest.fixture(scope="module")
def loaded(embodiment: Embodiment, task: Task) -> Iterator[Robot]:
    one = Robot(embodiment, task)
    yield one
    one.close()


@pytest.fixture
def robot(loaded: Robot) -> Robot:
    """At rest, nothing asked for."""
    loaded.takes_chunks, loaded.veto = True, ""
    loaded.status = ControlStatus(state=ControlStatus.HOLD, law=1)
    loaded.stops_at = loaded.moves = 0.0
    loaded.until(lambda: loaded.node._session.idle, "it is idle")
    node = loaded.node
    loaded.until(
        lambda: node._session.stepped is not None and node._session.control is not None, "the policy hears"
    )
    loaded.statuses.clear()
    loaded.ends.clear()
    loaded.diagnostics.clear()
    return loaded


def test_a_cancelled_task_ends_its_chunk_at_once_and_is_answered_at_rest(robot: Robot) -> None:
    handle = robot.send()
    robot.until(lambda: robot.status.state == ControlStatus.TRACK, "the arm moves")
    asked = time.monotonic()
    cancelling = handle.cancel_goal_async()
    robot.until(lambda: robot.ends, "the chunk is ended")
    assert robot.ends[0] < asked + STOPPING_S
    robot.until(cancelling.done, "the cancellation is accepted")
    answer, came = robot.result(handle)
    assert answer.status == GoalStatus.STATUS_CANCELED
    assert answer.result.message == "cancelled"
    assert robot.rested_at
    assert came >= robot.rested_at


def test_a_goal_that_comes_while_the_arm_stops_begins_at_rest(robot: Robot) -> None:
    first = robot.send()
    robot.until(lambda: robot.status.state == ControlStatus.TRACK, "the arm moves")
    robot.until(first.cancel_goal_async().done, "the cancellation is accepted")
    robot.rested_at = 0.0
    second = robot.send("put the blue cup on the bottom shelf")
    assert second.accepted and not robot.rested_at
    assert not robot.send().accepted  # one may wait
    answer, _ = robot.result(first)
    assert answer.status == GoalStatus.STATUS_CANCELED
    robot.until(lambda: robot.status.state == ControlStatus.TRACK, "the arm moves for the second")
    assert robot.rested_at
    robot.until(second.cancel_goal_async().done, "cancelled")
    answer, _ = robot.result(second)
    assert (answer.status, answer.result.target) == (GoalStatus.STATUS_CANCELED, "blue_cup")


def test_a_goal_that_is_cancelled_while_it_waits_for_rest_never_begins(robot: Robot) -> None:
    first = robot.send()
    robot.until(lambda: robot.status.state == ControlStatus.TRACK, "the arm moves")
    robot.until(first.cancel_goal_async().done, "the cancellation is accepted")
    second = robot.send()
    robot.until(second.cancel_goal_async().done, "cancelled")
    answer, _ = robot.result(second)
    assert (answer.status, answer.result.message) == (
        GoalStatus.STATUS_CANCELED,
        "cancelled before it began",
    )
    assert robot.node._session.idle
    third = robot.send()  # and the way is free
    assert third.accepted
    robot.until(third.cancel_goal_async().done, "cancelled")
    robot.result(third)


def test_a_second_goal_is_rejected_and_the_reason_is_shown(robot: Robot) -> None:
    first = robot.send()
    robot.until(lambda: robot.status.state == ControlStatus.TRACK, "the arm moves")
    ends = len(robot.ends)
    assert not robot.send("put the blue cup on the bottom shelf").accepted
    robot.until(lambda: robot.said("busy with"), "policy/status says why")
    robot.until(lambda: "busy with" in robot.shown("condition.goal_rejected"), "diagnostics say why")
    assert robot.node._session.agent.busy  # the first goes on
    assert len(robot.ends) == ends
    robot.until(first.cancel_goal_async().done, "cancelled")
    robot.result(first)


@pytest.mark.parametrize("timeout", [np.nan, np.inf, -np.inf, -5.0, 1e300, 1e-9, 3601.0])
def test_a_timeout_that_is_none_is_rejected_and_said(robot: Robot, timeout: float) -> None:
    assert not robot.send(timeout=timeout).accepted
    robot.until(lambda: robot.said("timeout"), "policy/status says why")
    assert not robot.node._session.agent.busy
    assert robot.status.active_sequence == 0


@pytest.mark.parametrize(
    ("veto", "condition", "said"),
    [
        ("green cup imagined to fall", "vetoed", "vetoed for 2 s: would knock something over: green cup"),
        ("", "rejected", "refused by the controller for 2 s: the arm is elsewhere"),
    ],
)
def test_what_repeats_without_progress_reaches_who_asked(
    robot: Robot, veto: str, condition: str, said: str
) -> None:
    robot.takes_chunks, robot.veto = False, veto
    handle = robot.send()
    assert handle.accepted
    robot.until(
        lambda: any(s.condition == condition and s.state == PolicyStatus.RUNNING for s in robot.statuses),
        "policy/status names it while it lasts",
    )
    answer, _ = robot.result(handle)
    assert answer.status == GoalStatus.STATUS_ABORTED
    assert said in answer.result.message
    robot.until(lambda: said in robot.shown(f"condition.policy_{condition}"), "diagnostics name it")
    assert robot.statuses[-1].condition == condition


def test_another_task_takes_the_place_of_one_that_was_handed_over(robot: Robot) -> None:
    first = robot.send()
    robot.until(lambda: robot.status.state == ControlStatus.TRACK, "the arm moves")
    session = robot.node._session
    with session._lock:
        session.agent.course.hand_over("", session.stepped.stamp_ns)  # type: ignore[union-attr]
    second = robot.send("put the blue cup on the bottom shelf")
    assert second.accepted
    answer, _ = robot.result(first)
    assert answer.status == GoalStatus.STATUS_ABORTED
    assert "another task takes its place" in answer.result.message
    robot.until(second.cancel_goal_async().done, "cancelled")
    answer, _ = robot.result(second)
    assert answer.status == GoalStatus.STATUS_CANCELED


def test_scenes_that_stop_are_a_named_condition(robot: Robot) -> None:
    robot.tells_scenes = False
    handle = robot.send()
    robot.until(lambda: "no scene" in robot.shown("condition.no_scene"), "diagnostics name it")
    answer, _ = robot.result(handle)
    assert "no scene" in answer.result.message
    robot.tells_scenes = True


def test_a_goal_to_a_policy_that_is_not_active_gets_the_reason(robot: Robot) -> None:
    robot.node.trigger_deactivate()
    answer, _ = robot.result(robot.send())
    assert answer.status == GoalStatus.STATUS_ABORTED
    assert "not active" in answer.result.message
    robot.until(lambda: robot.said("not active"), "policy/status says it, too")
    robot.node.trigger_activate()


def test_who_asked_is_told_why_the_policy_was_deactivated(robot: Robot) -> None:
    """The supervisor idles it when another node is lost."""
    supervisor = topics.advertise(robot.other, "supervisor/status")
    handle = robot.send()
    robot.until(lambda: robot.status.state == ControlStatus.TRACK, "the arm moves")
    for state, message in ((SupervisorStatus.DEGRADED, "perception is lost"), (SupervisorStatus.ACTIVE, "")):
        supervisor.publish(SupervisorStatus(state=state, message=message))
        robot.until(lambda message=message: robot.node._session.bring_up == message, "the policy hears")
        if message:
            robot.node.trigger_deactivate()
            answer, _ = robot.result(handle)
            assert answer.result.message == "the policy was deactivated: perception is lost"
    robot.other.destroy_publisher(supervisor)
    robot.node.trigger_activate()


@pytest.mark.parametrize("by_service", [False, True], ids=["another thread", "the executor's thread"])
def test_a_policy_that_goes_away_answers_first(robot: Robot, by_service: bool) -> None:
    """The arm still stops, and after the transition there is nobody who could answer."""
    handle = robot.send()
    waiting = handle.get_result_async()
    robot.until(lambda: robot.status.state == ControlStatus.TRACK, "the arm moves")
    if by_service:
        changes = robot.other.create_client(ChangeState, "policy/change_state")
        assert changes.wait_for_service(timeout_sec=20)
        for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
            changing = changes.call_async(ChangeState.Request(transition=Transition(id=transition)))
            robot.until(changing.done, "the transition")
            assert changing.result().success
    else:
        robot.node.trigger_deactivate()
        robot.node.trigger_cleanup()
    robot.until(waiting.done, "a result")
    assert waiting.result().status == GoalStatus.STATUS_ABORTED
    assert "deactivated" in waiting.result().result.message
    robot.node.trigger_configure()
    robot.node.trigger_activate()
