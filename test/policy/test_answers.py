"""What became of chunks, whether the arm rests, and how a policy ends its chunk."""

from __future__ import annotations

import math

import numpy as np
import pytest

from physai_base.embodiment import Embodiment
from physai_base.task import Task
from physai_base.values import (
    ActionChunk,
    ChunkMode,
    ChunkVerdict,
    ControlCause,
    ControlState,
    VerdictReason,
)
from physai_control.core import ChunkRejected
from physai_control.gate import ChunkGate
from physai_lab.evaluation.cell import SUBSTEP_S, Cell
from physai_policy.answers import Answers, RestWatch, wrong_timeout
from physai_policy.decoding import LEASE
from physai_policy.watch import Stall


class Listener:
    """Stands for the agent."""

    def __init__(self) -> None:
        self.refusals: list[tuple[int, Stall, str]] = []
        self.followed: list[int] = []

    def refused(self, sequence: int, stall: Stall, why: str) -> None:
        self.refusals.append((sequence, stall, why))

    def took_over(self, sequence: int, delay_s: float, now_ns: int) -> None:
        self.followed.append(sequence)


def verdict(sequence: int, lease: int, allow: bool = False) -> ChunkVerdict:
    return ChunkVerdict(0, sequence, allow, VerdictReason.KNOCK, "green cup", 1.0, 0.0, 0.0, 1.0, lease=lease)


def test_a_rejection_is_told_with_the_verdict_behind_it_if_it_is_ours() -> None:
    agent = Listener()
    answers = Answers(agent, lease=7)  # type: ignore[arg-type]
    answers.verdict(verdict(5, lease=7))
    answers.verdict(verdict(6, lease=8))
    answers.verdict(verdict(6, lease=7, allow=True))
    assert not agent.refusals  # a monitor's verdict binds nobody
    answers.control((7, 4), 0.1, (7, 5), "chunk 5 vetoed: knocks_over", 1)
    answers.control((8, 9), 0.1, (7, 6), "chunk 6: too far", 2)
    answers.control((7, 7), 0.1, (8, 6), "chunk 6: not ours", 3)
    assert agent.refusals == [
        (5, Stall.VETOED, "would knock something over: green cup"),
        (6, Stall.REJECTED, "too far"),
    ]
    assert agent.followed == [4, 0, 7]  # of another lease: none of ours


def test_a_veto_whose_verdict_comes_late_is_no_rejection() -> None:
    """The first one before any chunk was followed once sent the arm home."""
    agent = Listener()
    answers = Answers(agent, lease=7)  # type: ignore[arg-type]
    answers.control((0, 0), 0.0, (7, 5), "chunk 5 vetoed: knocks_over", 1)
    answers.verdict(verdict(5, lease=7))
    answers.control((0, 0), 0.0, (7, 6), "chunk 6: no verdict: was vetoed", 2)
    assert agent.refusals == [
        (5, Stall.VETOED, "knocks_over"),
        (6, Stall.REJECTED, "no verdict: was vetoed"),
    ]


@pytest.mark.parametrize("timeout_s", [math.nan, math.inf, -math.inf, -5.0, 1e300, -1e-9, 0.01, 3601.0])
def test_a_timeout_that_is_none_is_refused(timeout_s: float) -> None:
    assert "timeout" in wrong_timeout(timeout_s)


@pytest.mark.parametrize("timeout_s", [0.0, -0.0, 0.1, 30.0, 3600.0])
def test_a_timeout_that_is_one_is_taken(timeout_s: float) -> None:
    assert not wrong_timeout(timeout_s)


def test_rest_is_following_nothing_and_not_moving() -> None:
    watch, now_ns, at = RestWatch(), 0, 0.0

    def tell(state: ControlState, sequence: int = 0, speed: float = 0.0) -> bool:
        nonlocal now_ns, at
        now_ns, at = now_ns + 50_000_000, at + speed * 0.05
        watch.status(now_ns, state, sequence, np.full(7, at))
        return watch.at_rest

    assert not tell(ControlState.HOLD)  # of one status no motion can be told
    assert tell(ControlState.HOLD)
    assert not tell(ControlState.TRACK, sequence=3)
    assert not tell(ControlState.DEGRADED, sequence=3)
    assert not tell(ControlState.STOPPING)
    assert not tell(ControlState.HOLD, speed=0.1)
    assert not tell(ControlState.ESTOP, speed=0.1)  # the arm brakes
    assert tell(ControlState.ESTOP)
    assert tell(ControlState.DEGRADED)
    watch.begin()
    assert not watch.at_rest
    assert not tell(ControlState.HOLD)
    watch.status(now_ns + 1, ControlState.HOLD, 0, np.full(6, at))
    assert not watch.at_rest


def test_an_end_drops_what_waits_for_its_verdict(make_chunk) -> None:
    gate = ChunkGate(0.1)
    chunk = make_chunk(lease=7)
    gate.offer(chunk, 0.0)
    gate.forget(8)
    assert gate.waiting is chunk
    gate.forget(7)
    assert gate.waiting is None
    assert gate.decide(7, chunk.sequence, True, "", 0.01) == (None, "")


def test_an_ended_chunk_brings_the_arm_to_rest_at_once(
    embodiment: Embodiment, task: Task, make_chunk
) -> None:
    cell = Cell(embodiment, task, sight="truth")
    try:
        cell.randomize(1, ("poses",))
        now_ns = cell.now_ns
        values = embodiment.home + np.outer(np.linspace(0, 0.4, 16), [1, 0, 0, 0, 0, 0, 0])
        chunk = make_chunk(values=values, now_ns=now_ns, lease=LEASE)
        cell.core.post(chunk)
        cell._advance(0.3)
        with pytest.raises(ChunkRejected, match="lease"):
            cell.core.end_chunk(LEASE + 1)
        cell._advance(SUBSTEP_S)
        assert cell.core.status().state is ControlState.TRACK
        cell.core.end_chunk(LEASE)
        cell._advance(0.4)  # what was left of the chunk would take longer
        status = cell.core.status()
        assert (status.state, status.cause_code) == (ControlState.HOLD, ControlCause.CHUNK_ENDED)
        assert np.abs(cell.joint_state().velocity).max() < 0.02
        assert cell.now_ns < chunk.expiry_ns - 100_000_000
        again = make_chunk(
            values=np.tile(status.reference, (16, 1)), now_ns=cell.now_ns, lease=LEASE, sequence=2
        )
        cell.core.post(again)
        cell._advance(2 * SUBSTEP_S)
        assert cell.core.status().state is ControlState.TRACK
    finally:
        cell.close()


@pytest.fixture
def make_chunk(embodiment: Embodiment):
    """A chunk of 16 steps, 50 ms apart."""

    def make(
        values: np.ndarray | None = None, now_ns: int = 0, lease: int = 1, sequence: int = 1
    ) -> ActionChunk:
        rows = np.tile(embodiment.home, (16, 1)) if values is None else values
        return ActionChunk(
            sequence=sequence, policy="test", observation_ns=now_ns, start_ns=now_ns, dt_ns=50_000_000,
            mode=ChunkMode.JOINT_POSITION, joint_names=embodiment.joint_names, values=rows,
            openings=np.full((len(rows), 1), 0.08), uncertainty=0.0, expiry_ns=now_ns + 1_100_000_000, lease=lease,
        )  # fmt: skip

    return make
