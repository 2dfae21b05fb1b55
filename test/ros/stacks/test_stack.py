"""The whole stack as real processes: one episode, the graph, and what the arm does when a process is killed.

What the arm does is read from the cell (`sim/joint_truth`), not from the controller.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from headers import Headers
from topic_graph import disagreements, missing
from watcher import AT_REST_RAD_S, MOVING_RAD_S, Watcher

from physai_base.values import ControlCause, ControlState
from physai_lab.stack.bringup import Stack, join_stack
from physai_ros.graph import bringup_graph
from physai_ros.topics import TOPICS

pytestmark = [pytest.mark.ros, pytest.mark.slow]

LAYERS = ("perception", "world_model", "policy", "control", "sim", "supervisor")


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A running stack; its output is shown when a test fails."""
    join_stack()
    with Stack(bringup_graph(), lambda name, line: print(f"[{name}] {line}")) as running:
        running.wait_ready()
        yield running


@pytest.fixture
def watcher(stack: Stack) -> Iterator[Watcher]:
    import rclpy

    rclpy.init(args=[])
    watching = Watcher()
    yield watching
    watching.close()


def test_one_episode_closed_loop(stack: Stack, watcher: Watcher) -> None:
    from physai.srv import Randomize, Score

    # What runs, and what it talks about.
    headers = Headers(watcher.node)
    watcher.until(lambda: watcher.control is not None and watcher.motion, 30.0, "control/status")
    watcher.until(lambda: set(LAYERS) <= watcher.nodes(), 30.0, "all nodes are discovered")
    assert len({stack.pid(name) for name in LAYERS}) == len(LAYERS)
    declared = {entry.name for entry in TOPICS if not entry.in_c and "bridge/" not in entry.name}
    watcher.until(lambda: not missing(watcher.node, declared), 30.0, "all topics are discovered")
    watcher.until(
        lambda: watcher.control is not None and watcher.policy is not None, 30.0, "the layers speak"
    )
    with contextlib.suppress(AssertionError):  # until all is discovered
        watcher.until(lambda: not disagreements(watcher.node, ("watcher",)), 10.0, "the graph")
    assert disagreements(watcher.node, ("watcher",)) == []

    # Nobody but this test listens to the simulator's truth.
    for topic in ("/sim/ground_truth", "/sim/joint_truth"):
        listeners = {info.node_name for info in watcher.node.get_subscriptions_info_by_topic(topic)}
        assert listeners <= {"watcher"}, topic

    # Nonsense is refused with a reason and without motion.
    assert watcher.call(watcher.randomize, Randomize.Request(seed=3, parts=["all"])).success
    watcher.simulate(1.0)
    for nonsense in ("sing a song", "put the purple cup on the moon"):
        handle = watcher.send(nonsense)
        result = handle.get_result_async()
        watcher.until(result.done, 30.0, "refusal")
        assert not result.result().result.success
        assert result.result().result.message
        watcher.until(
            lambda: watcher.policy is not None and watcher.policy.state == 3,
            5.0,
            "policy/status says refused",
        )
    headers.leave_images()
    assert not watcher.chunks
    assert watcher.motion[-1][1] < AT_REST_RAD_S

    # A chunk into the table, from whoever may send one, is vetoed and the arm does not move.
    start = len(watcher.motion)
    watcher.publish_dive()
    watcher.until(lambda: "table_contact" in watcher.control.last_rejection, 30.0, "the veto shows")
    watcher.simulate(1.0)
    assert max(speed for _, speed in watcher.motion[start:]) < AT_REST_RAD_S
    assert watcher.control.state == ControlState.HOLD

    # The job.
    handle = watcher.send("put the red cup on the top shelf")
    result = handle.get_result_async()
    watcher.until(result.done, 180.0, "the task ends")
    assert result.result().result.success, result.result().result.message
    watcher.simulate(0.5)
    score = watcher.call(watcher.score, Score.Request(target="red_cup", destination="top_shelf"))
    assert score.success, score.failure

    # Whatever was said names frames of one tree, and is stamped in simulated time.
    said = {name.replace("overview", "*").replace("wrist", "*") for name in headers.frames}
    expected = (
        "camera/*/camera_info",
        "camera/*/depth/camera_info",
        "joint_states",
        "wrench",
        "scene",
        "action_chunk",
    )
    expected = (
        *expected,
        "chunk_verdict",
        "control/status",
        "policy/status",
        "diagnostics",
        "tf",
        "sim/joint_truth",
    )
    assert set(expected) <= said
    assert headers.faults(round(watcher.now_s * 1e9)) == []


def test_killed_policy_ends_in_hold(stack: Stack, watcher: Watcher) -> None:
    watcher.start_moving(seed=11)
    os.kill(stack.pid("policy"), signal.SIGKILL)
    killed_s = watcher.now_s
    watcher.simulate(3.0)
    last = watcher.chunks[-1]
    expiry_s = last.expiry.sec + last.expiry.nanosec * 1e-9
    moving = [stamp for stamp, speed in watcher.motion if stamp > killed_s and speed > AT_REST_RAD_S]
    # In hold by the expiry and 20 ms, as the plant sees it.
    assert max(moving, default=0.0) <= max(expiry_s, killed_s) + 0.020
    assert watcher.control.state == ControlState.HOLD
    assert "expired" in watcher.control.cause
    # It comes back idle: nothing moves by itself.
    watcher.simulate(6.0)
    assert max(speed for stamp, speed in watcher.motion if stamp > expiry_s + 0.5) < AT_REST_RAD_S


def test_killed_control_is_stopped_by_the_cell(stack: Stack, watcher: Watcher) -> None:
    from std_srvs.srv import Trigger

    watcher.start_moving(seed=12)
    os.kill(stack.pid("control"), signal.SIGKILL)
    killed_s = watcher.now_s  # or up to 0.1 s later: on a busy machine we lag behind the cell
    watcher.simulate(1.0)
    before = max(speed for stamp, speed in watcher.motion if abs(stamp - killed_s) < 0.1)
    assert before > AT_REST_RAD_S
    # 20 ms without a command, then damping and brake. The kill may fall anywhere between two of our samples.
    late = [speed for stamp, speed in watcher.motion if stamp > killed_s + 0.45]
    assert max(late) < AT_REST_RAD_S, max(late)
    peak = max(speed for stamp, speed in watcher.motion if stamp > killed_s)
    assert peak < before + 0.3, (peak, before)
    watcher.simulate(5.0)
    assert max(speed for stamp, speed in watcher.motion if stamp > killed_s + 0.45) < AT_REST_RAD_S
    # Here the cell's gate has latched as well as control, and is reset first.
    watcher.until(lambda: "was lost" in watcher.control.cause, 40.0, "control is back, latched")
    reset = watcher.node.create_client(Trigger, "control/reset")
    refused = watcher.call(reset, Trigger.Request())
    assert not refused.success and "sim/reset" in refused.message
    assert watcher.control.state == ControlState.ESTOP
    assert watcher.call(watcher.node.create_client(Trigger, "sim/reset"), Trigger.Request()).success
    watcher.simulate(1.0)
    assert watcher.control.state == ControlState.ESTOP
    assert watcher.call(reset, Trigger.Request()).success
    watcher.until(lambda: watcher.control.state == ControlState.HOLD, 30.0, "a person's reset clears it")


def test_a_latched_stop_outlives_the_controller_s_process(stack: Stack, watcher: Watcher) -> None:
    from std_srvs.srv import Trigger

    watcher.until(lambda: watcher.control is not None and watcher.motion, 30.0, "control/status")
    estop = watcher.node.create_client(Trigger, "control/estop")
    reset = watcher.node.create_client(Trigger, "control/reset")
    assert watcher.call(estop, Trigger.Request()).success
    watcher.until(lambda: watcher.control.state == ControlState.ESTOP, 30.0, "control latches")
    watcher.simulate(1.0)  # on the brakes, where the cell's own gate has nothing to latch for
    killed = stack.pid("control")
    os.kill(killed, signal.SIGKILL)
    watcher.until(lambda: f"process {killed} was lost" in watcher.control.cause, 40.0, "control is back")
    assert stack.starts["control"] == 2
    start = len(watcher.motion)
    watcher.simulate(2.0)
    assert watcher.control.state == ControlState.ESTOP
    assert "still latched" in watcher.control.cause
    assert max(speed for _, speed in watcher.motion[start:]) < AT_REST_RAD_S
    # Reset succeeds, so it was not the cell's gate that held the latch.
    assert watcher.call(reset, Trigger.Request()).success
    watcher.until(lambda: watcher.control.state == ControlState.HOLD, 30.0, "a person's reset clears it")


def test_stop_resume_and_cancel(stack: Stack, watcher: Watcher) -> None:
    from std_srvs.srv import Trigger

    watcher.start_moving(seed=13)
    clients = {name: watcher.node.create_client(Trigger, f"supervisor/{name}") for name in ("stop", "resume")}
    assert watcher.call(clients["stop"], Trigger.Request()).success
    watcher.until(lambda: watcher.motion[-1][1] < AT_REST_RAD_S, 30.0, "the arm stops")
    watcher.until(lambda: watcher.policy.state == 4, 30.0, "the task is aborted")
    assert watcher.call(clients["resume"], Trigger.Request()).success
    start = len(watcher.motion)
    watcher.simulate(1.0)
    assert max(speed for _, speed in watcher.motion[start:]) < AT_REST_RAD_S  # nothing goes on by itself
    handle = watcher.send("put the red cup on the bottom shelf")
    watcher.until(lambda: watcher.motion[-1][1] > MOVING_RAD_S, 30.0, "a new task moves the arm")
    assert not watcher.send("put the blue cup on the top shelf").accepted
    watcher.until(lambda: watcher.policy.state == 1, 30.0, "the first goes on")
    # Cancelled, the arm stops on its path, and the answer comes when it rests.
    began_s, asked = watcher.now_s, len(watcher.motion)
    handle.cancel_goal_async()
    ended = handle.get_result_async()
    watcher.until(ended.done, 30.0, "the cancellation is answered")
    assert watcher.motion[-1][1] < AT_REST_RAD_S
    assert watcher.control.cause_code == ControlCause.CHUNK_ENDED
    moving = [stamp for stamp, speed in watcher.motion[asked:] if speed > AT_REST_RAD_S]
    assert max(moving, default=began_s) < began_s + 0.7  # a chunk alone would take 1.1 s
    watcher.check_that_doubts_are_asked_back()


def test_a_latched_stop_outlives_a_restart_of_the_cell(stack: Stack, watcher: Watcher) -> None:
    from std_srvs.srv import Trigger

    watcher.start_moving(seed=14)
    os.kill(stack.pid("sim"), signal.SIGKILL)
    latched = (ControlState.FAULT, ControlState.ESTOP)
    watcher.until(lambda: watcher.control.state in latched, 30.0, "control latches")
    watcher.until(lambda: stack.starts["sim"] == 2 and stack.alive("sim"), 30.0, "the cell is started again")
    reset = watcher.node.create_client(Trigger, "control/reset")

    def renewed() -> bool:
        before = len(watcher.motion)
        for _ in range(10):
            watcher.executor.spin_once(timeout_sec=0.02)
        return len(watcher.motion) > before and "still latched" in watcher.control.cause

    watcher.until(renewed, 40.0, "the new cell runs and control is latched as before")
    watcher.simulate(2.0)
    assert watcher.control.state in latched
    assert "hardware is gone" in watcher.control.cause
    refused = watcher.send("put the red cup on the top shelf").get_result_async()
    watcher.until(refused.done, 30.0, "refusal")
    assert "control" in refused.result().result.message
    assert watcher.call(reset, Trigger.Request()).success
    watcher.until(lambda: watcher.control.state == ControlState.HOLD, 30.0, "a person's reset clears it")
