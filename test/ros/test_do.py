"""`physai do` against a policy that answers as it is told: text that is markup or no text, questions, cancellation."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import rclpy
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import MultiThreadedExecutor

from physai.action import ExecuteTask
from physai.msg import PolicyStatus
from physai_ros import topics

pytestmark = pytest.mark.ros
PHYSAI = Path(sys.executable).with_name("physai")
QUESTION = "I will put the red cup on the top shelf: yes?"


class AnsweringPolicy:
    """Asks back what says "perhaps" until it is confirmed, holds what says "long" until it is cancelled, does the rest."""

    def __init__(self) -> None:
        self.node = rclpy.create_node("policy", namespace="/test_do")
        self.goals: list[tuple[str, int, str, str]] = []
        self.running = threading.Event()
        self.cancelled = threading.Event()
        self.asked = threading.Event()
        self.stop = threading.Event()
        self.accepts_after_s = 0.0
        self._server = ActionServer(
            self.node, ExecuteTask, "execute_task", self._execute, callback_group=ReentrantCallbackGroup(),
            goal_callback=self._accept, cancel_callback=lambda handle: CancelResponse.ACCEPT,
        )  # fmt: skip
        self._executor = MultiThreadedExecutor(num_threads=3)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def _accept(self, _: object) -> GoalResponse:
        self.asked.set()
        time.sleep(self.accepts_after_s)
        return GoalResponse.ACCEPT

    def _execute(self, handle: object) -> ExecuteTask.Result:
        goal = handle.request
        self.goals.append((goal.instruction, goal.confirm, goal.target, goal.destination))
        if "perhaps" in goal.instruction and not goal.target:
            handle.abort()
            return ExecuteTask.Result(
                message="asked back", question=QUESTION, target="red_cup", destination="top_shelf"
            )
        feedback = ExecuteTask.Feedback(message="carries [/b] on", progress=0.5)
        handle.publish_feedback(feedback)
        if "long" in goal.instruction:
            self.running.set()
            while not handle.is_cancel_requested and not self.stop.is_set():
                time.sleep(0.02)
            time.sleep(1.0)  # until the arm rests
            if self.stop.is_set():
                handle.abort()
                return ExecuteTask.Result()
            handle.canceled()
            self.cancelled.set()
            return ExecuteTask.Result(message="cancelled, the arm rests")
        handle.succeed()
        return ExecuteTask.Result(success=True, target="red_cup", destination="top_shelf")

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join(timeout=5)
        self._server.destroy()
        self.node.destroy_node()


@pytest.fixture(scope="module")
def ros() -> Iterator[None]:
    rclpy.init(args=[])
    yield
    rclpy.try_shutdown()


@pytest.fixture
def policy(ros) -> Iterator[AnsweringPolicy]:
    policy = AnsweringPolicy()
    yield policy
    policy.close()


def do(
    *arguments: str | bytes, stdin: int | None = subprocess.DEVNULL, stdout: int | None = subprocess.PIPE
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [PHYSAI, "do", *arguments, "--namespace", "test_do"],
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err, err
    return process.returncode, out or "", err


def test_markup_in_a_sentence_and_in_an_answer_is_text(policy):
    master, slave = pty.openpty()  # where there is a terminal there is a bar, drawn by rich
    process = do("[/x] [bold]put[/bold] the red cup", stdout=slave)
    os.close(slave)
    drawn = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:
            break
        if not part:
            break
        drawn += part
    os.close(master)
    code, _, err = ended(process)
    assert code == 0, err
    assert b"[/x] [bold]put[/bold]" in drawn
    assert policy.goals[0][0] == "[/x] [bold]put[/bold] the red cup"


def test_what_is_no_utf_8_is_refused_before_it_is_sent(policy):
    code, _, err = ended(do(b"put the red \xff\xfe cup on the top shelf"))
    assert code == 1
    assert "not UTF-8 at character 13" in err
    assert not policy.goals


def test_without_a_terminal_a_question_is_a_refusal_with_its_own_exit_code(policy):
    code, _, err = ended(do("perhaps the red cup"))
    assert code == 4
    assert QUESTION in err
    assert "--yes" in err
    assert len(policy.goals) == 1


def test_yes_sends_what_was_understood(policy):
    code, out, _ = ended(do("perhaps the red cup", "--yes", "--confirm", "always"))
    assert code == 0
    assert QUESTION in out
    assert policy.goals == [
        ("perhaps the red cup", 1, "", ""),
        ("perhaps the red cup", 1, "red_cup", "top_shelf"),
    ]


@pytest.mark.parametrize(("typed", "code", "goals"), (("y\n", 0, 2), ("\n", 4, 1)))
def test_on_a_terminal_a_person_is_asked(policy, typed, code, goals):
    master, slave = pty.openpty()
    process = do("perhaps the red cup", stdin=slave)
    os.close(slave)
    while not policy.goals and process.poll() is None:
        time.sleep(0.05)
    os.write(master, typed.encode())
    found, _, err = ended(process)
    os.close(master)
    assert (found, len(policy.goals)) == (code, goals), err


@pytest.mark.parametrize(("number", "code"), ((signal.SIGTERM, 143), (signal.SIGINT, 130)))
def test_a_signal_cancels_the_task_and_waits_until_it_has_ended(policy, number, code):
    process = do("a long task")
    assert policy.running.wait(30)
    process.send_signal(number)
    found, _, err = ended(process)
    assert policy.cancelled.is_set()  # before the command ended
    assert found == code
    assert "cancelled, the arm rests" in err


@pytest.mark.parametrize(
    ("task", "after_s", "said"),
    [("a long task", 1.5, "accepted late and is cancelled"), ("a task", 5.0, "may still begin")],
)
def test_a_task_that_is_accepted_after_the_command_was_ended_is_cancelled_or_said(
    policy, task, after_s, said
):
    policy.accepts_after_s = after_s
    process = do(task)
    assert policy.asked.wait(30)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    code, _, err = ended(process)
    assert code == 130
    assert said in err
    if "cancelled" in said:
        assert policy.cancelled.wait(10)
    while not policy.goals:  # it began
        time.sleep(0.05)


LEAVING = """
import os, sys, time, rclpy
sys.path.insert(0, sys.argv[1])
from test_do import AnsweringPolicy
rclpy.init(args=[])
policy = AnsweringPolicy()
policy.running.wait(30)
time.sleep(0.5)
policy._server.destroy()
policy.node.destroy_node()
time.sleep(30)
os._exit(0)
"""


def test_a_policy_that_goes_away_without_an_answer_is_not_waited_for(ros):
    leaving = subprocess.Popen([sys.executable, "-c", LEAVING, Path(__file__).parent])
    try:
        code, _, err = ended(do("a long task"))
    finally:
        leaving.kill()
        leaving.wait()
    assert code == 1
    assert len(err.strip().splitlines()) == 1
    assert "the policy has gone away" in err


def test_a_policy_that_goes_away_before_it_answers_is_not_waited_for(ros):
    program = LEAVING.replace("policy.running.wait(30)", "policy.accepts_after_s = 60; policy.asked.wait(30)")
    leaving = subprocess.Popen([sys.executable, "-c", program, Path(__file__).parent])
    try:
        code, _, err = ended(do("a task"))
    finally:
        leaving.kill()
        leaving.wait()
    assert code == 1
    assert "the policy has gone away before it answered: the task was not accepted" in err


def test_a_policy_that_was_started_again_is_not_waited_for(policy):
    """The new one offers the action too, and knows nothing of the task."""
    statuses = topics.advertise(policy.node, "policy/status")
    policy.node.create_timer(0.2, lambda: statuses.publish(PolicyStatus(state=PolicyStatus.IDLE)))
    process = do("a long task")
    code, _, err = ended(process)
    assert code == 1
    assert "the policy has gone away" in err
    policy.stop.set()
