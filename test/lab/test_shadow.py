"""The report on shadow mode, on a recording whose divergence is known; and that recordings outlive what writes them."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fr3_pair import write_pair
from std_msgs.msg import String

from physai.msg import PolicyStatus
from physai_base.embodiment import Embodiment
from physai_base.kinematics import ArmKinematics
from physai_base.values import (
    ActionChunk,
    ChunkMode,
    ChunkVerdict,
    JointState,
    VerdictReason,
)  # fmt: skip
from physai_control.refusals import RefusalCheck
from physai_lab import cli
from physai_lab.shadow.compare import PublishedChunk, Tolerance, Track, compare, read_shadow, tasks_of
from physai_lab.shadow.report import make_report
from physai_lab.statistics import wilson_interval
from physai_ros import conversions
from physai_ros.recording import Recorder, Recording
from physai_ros.shadow import MoverTask

S = 1_000_000_000
START_NS, TASK_S, TASKS, STEPS, DT_NS = 100 * S, 5, 4, 16, 50_000_000
PERIOD_NS, LATENCY_NS = 200_000_000, 100_000_000
DRIFT_RAD = 0.01  # of one joint, each step further from the observation
WRONG_RAD = 0.5  # in the last task


def truth(robot: Embodiment, times_ns: np.ndarray) -> np.ndarray:
    """Where the arm really is (K, n): swaying about home."""
    phase = 2 * np.pi * (times_ns - START_NS) / (4 * S)
    return robot.home + 0.1 * np.sin(phase)[:, None] * np.eye(len(robot.home))[1]


def width(times_ns: np.ndarray) -> np.ndarray:
    """Closed about a thing of 6 cm in every other task."""
    return np.where((times_ns - START_NS) // (TASK_S * S) % 2, 0.06, 0.08)


def chunk(robot: Embodiment, observation_ns: int, sequence: int, **changes: Any) -> ActionChunk:
    """One that knows what will happen."""
    times = observation_ns + DT_NS * np.arange(STEPS)
    fields = {
        "sequence": sequence, "policy": "known", "observation_ns": observation_ns, "start_ns": observation_ns, "dt_ns": DT_NS,
        "mode": ChunkMode.JOINT_POSITION, "joint_names": robot.joint_names, "values": truth(robot, times),
        "openings": np.where(width(times) < 0.07, 0.0, 0.08)[:, None], "uncertainty": 0.0,
        "expiry_ns": observation_ns + (STEPS + 6) * DT_NS,
    }  # fmt: skip
    return ActionChunk(**{**fields, **changes})


@pytest.fixture(scope="module")
def recording(embodiment: Embodiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tasks in which the shadow drifts and one in which it is far off; the second chunk of each is not finite."""
    path = tmp_path_factory.mktemp("shadow") / "shadow.mcap"
    with Recorder(path, chunk_bytes=1 << 14) as recorder:
        for message, topic, stamp_ns in sorted(messages(embodiment), key=lambda m: m[2]):
            recorder.write(topic, message, stamp_ns + 7 * S)  # when it was recorded does not matter
    return path


def messages(robot: Embodiment) -> Iterator[tuple[Any, str, int]]:
    end_ns = START_NS + TASKS * TASK_S * S
    for t in range(START_NS - S, end_ns + S, 10_000_000):
        q, w = truth(robot, np.array([t]))[0], float(width(np.array([t]))[0])
        state = JointState(t, q, np.zeros(7), np.zeros(7), np.array([w]))
        yield conversions.joint_state_to_msg(state, robot), "/joint_states", t
    joint = np.eye(len(robot.home))[0]
    for number, t in enumerate(range(START_NS + PERIOD_NS, end_ns, PERIOD_NS)):
        sequence, task = number + 1, (t - START_NS) // (TASK_S * S)
        true = chunk(robot, t - LATENCY_NS, sequence)
        yield conversions.chunk_to_msg(true, t, "base_link"), "/action_chunk", t
        off = DRIFT_RAD * np.arange(STEPS) if task < TASKS - 1 else np.full(STEPS, WRONG_RAD)
        planned = chunk(robot, t - LATENCY_NS, sequence, values=true.values + off[:, None] * joint)
        message = conversions.chunk_to_msg(planned, t, "base_link")
        if (t - START_NS) % (TASK_S * S) == PERIOD_NS * 2:
            message.values[0] = float("nan")
        yield message, "/shadow/action_chunk", t
        vetoed = number % 10 == 0
        reason = VerdictReason.TABLE if vetoed else VerdictReason.OK
        verdict = ChunkVerdict(
            t, sequence, not vetoed, reason, "the hand meets the table", 1.0, 0.0, 0.0, 1.0
        )
        yield conversions.verdict_to_msg(verdict, "base_link"), "/shadow/chunk_verdict", t
    for t in range(START_NS, end_ns, PERIOD_NS):
        task, in_task = divmod(t - START_NS, TASK_S * S)
        status = PolicyStatus(state=PolicyStatus.RUNNING, instruction=f"task {task}")
        status.chunks, status.inference_ms = in_task // PERIOD_NS, 20.0
        if in_task == (TASK_S * S) - PERIOD_NS:
            status.state, status.message = PolicyStatus.ABORTED, "cancelled"
        status.header = conversions.header(t, "")
        yield status, "/shadow/policy/status", t


def test_the_report_finds_what_is_known(recording: Path, embodiment: Embodiment) -> None:
    read = read_shadow(recording, embodiment)
    assert not read.notes
    data = make_report(read, embodiment, Tolerance(joint_rad=0.08, tool_m=0.1)).data
    per_task = TASK_S * S // PERIOD_NS

    # Three tasks of four agree; a task is one trial.
    assert [task["instruction"] for task in data["tasks"]] == [f"task {k}" for k in range(TASKS)]
    assert data["tasks"][0]["outcome"] == "aborted: cancelled"
    agreement = data["agreement"]
    assert agreement["tasks"] == TASKS
    # The first task lacks the chunk at its very beginning, all lack the one that is not finite.
    assert agreement["chunks"] == TASKS * (per_task - 1) - 1
    assert agreement["share"] == pytest.approx((3 * (per_task - 1) - 1) / agreement["chunks"])
    low, high = wilson_interval(agreement["share"] * TASKS, TASKS)
    assert agreement["interval"] == [low, high]
    assert low < 0.4
    assert data["agreement of what moved the robot"]["share"] == 1.0
    assert data["hand"]["share"] == 1.0
    assert data["hand"]["steps"] > 100

    # The joint drifts by 0.01 rad a step; the tool moves as the Jacobian says.
    for k, row in enumerate(data["by_horizon"]):
        assert row["ahead_s"] == pytest.approx(0.05 * k)
        assert row["joint_rad_p50"] == pytest.approx(DRIFT_RAD * k, abs=2e-3)
        assert row["joint_rad_p95"] == pytest.approx(WRONG_RAD, abs=2e-3)
    assert len(data["by_horizon"]) == STEPS
    for row in data["by_horizon of what moved the robot"]:
        assert row["tool_m_p95"] < 1e-3

    # 100 ms from observation to chunk, 20 ms of them the network's.
    assert data["latency_ms"]["observation to chunk"]["p95"] == pytest.approx(100)
    assert data["latency_ms"]["between chunks"]["p50"] == pytest.approx(200)
    assert data["latency_ms"]["inference"]["max"] == pytest.approx(20)

    # Every tenth chunk is vetoed. Chunks far off jump, one a task is not finite.
    total = TASKS * per_task - 1
    assert data["vetoes"]["judged"] == total
    assert data["vetoes"]["vetoed"] == len(range(0, total, 10))
    assert set(data["vetoes"]["reasons"]) == {"table_contact"}
    refusals = data["refusals"]
    assert refusals["checked"] == total
    assert refusals["refused"] == per_task + TASKS - 1
    examples = [found["example"] for found in refusals["reasons"].values()]
    assert any("where fr3_joint1 is now" in example for example in examples)
    assert any("finite" in example for example in examples)


def test_tool_divergence_is_that_of_the_kinematics(recording: Path, embodiment: Embodiment) -> None:
    read = read_shadow(recording, embodiment)
    first = compare(read.proposals, tasks_of(read), read.track, embodiment)[0]
    kinematics = ArmKinematics(embodiment)
    chunk_ = first.proposal.chunk
    assert chunk_ is not None
    real = truth(embodiment, chunk_.start_ns + chunk_.dt_ns * np.arange(STEPS))
    for k in (0, 7, 15):
        gap = kinematics.tool_pose(chunk_.values[k]).position - kinematics.tool_pose(real[k]).position
        assert first.tool_m[k] == pytest.approx(np.linalg.norm(gap), abs=1e-4)


def test_due_steps_are_those_until_the_next_chunk(recording: Path, embodiment: Embodiment) -> None:
    read = read_shadow(recording, embodiment)
    first, *_, last = compare(read.proposals, tasks_of(read), read.track, embodiment)
    # Published 100 ms after step 0, replaced 200 ms later.
    assert np.flatnonzero(first.due).tolist() == [2, 3, 4, 5]
    assert np.flatnonzero(last.due).tolist() == list(range(2, STEPS))


def test_a_time_without_joint_states_is_not_compared(embodiment: Embodiment) -> None:
    stamps = np.array([0, 1, 2, 10, 11]) * 100_000_000
    track = Track(stamps, np.tile(np.arange(5.0)[:, None], 7), np.zeros((5, 1)))
    joints, _ = track.at(np.array([-1, 0, 50_000_000, 500_000_000, 1_050_000_000, 1_200_000_000]))
    np.testing.assert_allclose(joints[:, 0], [np.nan, 0, 0.5, np.nan, 3.5, np.nan])
    empty = Track(np.zeros(0, np.int64), np.zeros((0, 7)), np.zeros((0, 1)))
    assert np.isnan(empty.at(np.array([0]))[0]).all()


def test_the_command_writes_the_page(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["shadow", "report", str(recording), "--runs", str(tmp_path)]) == 0
    (folder,) = tmp_path.iterdir()
    assert "agree with what moved the robot" in capsys.readouterr().out
    data = json.loads((folder / "report.json").read_text())
    assert len(data["over_time"]) == data["agreement"]["chunks"]
    page = (folder / "report.html").read_text()
    assert page.count("<img") == 2
    assert "task 3" in page


def test_the_command_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["shadow", "report", str(tmp_path / "none.mcap")]) == 1
    assert "there is no such file" in capsys.readouterr().err
    junk = tmp_path / "junk.mcap"
    junk.write_bytes(b"not a recording at all")
    assert cli.main(["shadow", "report", str(junk)]) == 1
    assert "cannot be read as MCAP" in capsys.readouterr().err
    with Recorder(tmp_path / "other.mcap") as recorder:
        recorder.write("/chatter", String(data="hello"), 1)
    assert cli.main(["shadow", "report", str(tmp_path / "other.mcap")]) == 1
    assert "no chunk on /shadow/action_chunk; it has /chatter" in capsys.readouterr().err


@pytest.mark.slow
def test_a_recording_that_was_cut_off_is_read_up_to_there(
    recording: Path, embodiment: Embodiment, tmp_path: Path
) -> None:
    whole = read_shadow(recording, embodiment)
    data = recording.read_bytes()
    rng = np.random.default_rng(0)
    counts = []
    for cut in sorted(rng.integers(len(data) // 4, len(data) - 9, 25)):
        (tmp_path / "cut.mcap").write_bytes(data[:cut])
        read = read_shadow(tmp_path / "cut.mcap", embodiment)
        assert "cut off" in read.notes[0]
        counts.append(len(read.proposals))
    assert counts == sorted(counts)
    assert counts[0] < counts[-1] == len(whole.proposals)
    assert "cut off" in make_report(read, embodiment, Tolerance()).data["notes"][0]


WRITER = """
import os, signal, sys
from pathlib import Path
from std_msgs.msg import String
from physai_ros.recording import Recorder
recorder = Recorder(Path(sys.argv[1]), chunk_bytes=1 << 14)
try:
    for k in range(100_000):
        recorder.write("/words", String(data=f"{k} " + os.urandom(50).hex()), k)
        if k == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
except OSError as error:
    print(k, error)
    print(recorder.abandon())
"""


def words(path: Path) -> list[int]:
    from rclpy.serialization import deserialize_message

    return [int(deserialize_message(m.data, String).data.split()[0]) for m in Recording(path)]


def test_what_was_recorded_outlives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "words.mcap"
    ended = subprocess.run([sys.executable, "-c", WRITER, str(path), "5000"], check=False)
    assert ended.returncode == -signal.SIGKILL
    read = words(path.with_suffix(".mcap.partial"))
    assert read == list(range(len(read)))
    assert len(read) > 5000 - 200  # a chunk of 16 KiB holds some 100


def test_what_was_recorded_outlives_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "words.mcap"

    def little_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    ended = subprocess.run(
        [sys.executable, "-c", WRITER, str(path), "-1"],
        check=False,
        preexec_fn=little_room,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    count, partial = int(ended.stdout.split()[0]), Path(ended.stdout.splitlines()[1])
    read = words(partial)
    assert read == list(range(len(read)))
    assert count - 300 < len(read) <= count


def test_which_task_the_robot_is_moved_for() -> None:
    task = MoverTask()
    task.instructed("a")
    assert (task.text, task.number) == ("a", 1)
    task.status(True, "a")  # a policy that was instructed as well
    assert (task.text, task.number) == ("a", 1)
    task.instructed("b")
    task.status(False, "b")  # refused, because
    task.status(True, "a")  # it is still at the first
    assert task.text == "a"
    task.status(False, "a")
    assert task.text == ""
    number = task.number
    task.status(False, "a")
    assert task.number == number
    task.status(True, "c")  # by an action that nobody else hears
    assert task.text == "c"
    task.instructed("c")  # once more
    assert task.number == number + 2


def test_a_chunk_is_refused_for_the_controllers_reasons(embodiment: Embodiment) -> None:
    check = RefusalCheck(embodiment)
    rest, now_ns = np.zeros(7), START_NS
    for sequence, (reach, expected) in enumerate(
        [(0.0, ""), (0.5, "its next step is 0.5 rad from where"), (0.0, ""), (0.0, ""), (-5.0, "is allowed")],
        start=1,
    ):
        now_ns += PERIOD_NS
        home = truth(embodiment, np.array([now_ns]))[0]
        values = np.tile(home, (STEPS, 1)) + (reach if reach > 0 else 0)
        if reach < 0:
            values[-1] += reach
        why = check.why_refused(
            chunk(embodiment, now_ns, sequence, values=values),
            JointState(now_ns, home, rest, rest, np.array([0.04])),
            now_ns,
        )
        assert expected in why
        assert bool(why) == bool(expected)
    beyond = embodiment.limits("position_max") + 0.2
    why = check.why_refused(
        chunk(embodiment, now_ns + S, 99),
        JointState(now_ns + S, beyond, rest, rest, np.array([0.04])),
        now_ns + S,
    )
    assert "would not hold the arm there" in why
    check.close()


def test_of_two_arms_the_one_that_is_further_off_counts(embodiment: Embodiment, tmp_path: Path) -> None:
    pair = Embodiment.load(write_pair(embodiment, tmp_path))
    times = START_NS + DT_NS * np.arange(40)
    openings = np.column_stack([np.linspace(0, 0.08, 40), np.linspace(0.08, 0, 40)])
    track = Track(times, np.tile(pair.home, (40, 1)), openings)
    right = np.eye(14)[7] * 0.1
    planned = {name: np.tile(pair.home + off, (STEPS, 1)) for name, off in (("same", 0.0), ("right", right))}
    open_shut = openings[:STEPS] > 0.04
    same = np.where(open_shut, 0.08, 0.0)
    hands = {"same": same, "right": np.abs(same - [0.0, 0.08])}

    def compared(values: str, hand: str) -> tuple[float, float, float]:
        told = chunk(
            embodiment, START_NS, 1, joint_names=pair.joint_names, values=planned[values], openings=hands[hand],
            end_effectors=pair.end_effector_names,
        )  # fmt: skip
        proposal = PublishedChunk(1, 1, START_NS, START_NS, told)
        (found,) = compare([proposal], [], track, pair)
        return found.joint_rad.max(), found.tool_m.max(), found.same_hand.mean()

    assert compared("same", "same") == (0.0, 0.0, 1.0)
    joint_rad, tool_m, _ = compared("right", "same")
    assert joint_rad == pytest.approx(0.1) and tool_m > 0.03
    assert compared("same", "right")[2] < 0.6
