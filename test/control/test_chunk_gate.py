"""The gate between policy and motors fails closed."""

from __future__ import annotations

import numpy as np

from physai_base.values import ActionChunk, ChunkMode
from physai_control.gate import ChunkGate


def _chunk(sequence: int, lease: int = 1) -> ActionChunk:
    return ActionChunk(
        sequence=sequence, policy="test", observation_ns=0, start_ns=0, dt_ns=50_000_000, mode=ChunkMode.JOINT_POSITION,
        joint_names=("a",), values=np.zeros((4, 1)), openings=np.zeros((4, 1)), uncertainty=0.0, expiry_ns=10**9, lease=lease,
    )  # fmt: skip


def _sequence(outcome: tuple[ActionChunk | None, str]) -> int:
    chunk, why = outcome
    assert chunk is not None, why
    return chunk.sequence


def test_nothing_passes_without_a_verdict() -> None:
    gate = ChunkGate(0.1)
    assert gate.offer(_chunk(1), 0.0) == (None, "")
    assert gate.expire(0.05) == ""
    assert "no verdict" in gate.expire(0.11)
    # Too late: the chunk is gone.
    assert gate.decide(1, 1, True, "", 0.12) == (None, "")


def test_order_of_chunk_and_verdict_does_not_matter() -> None:
    gate = ChunkGate(0.1)
    gate.offer(_chunk(1), 0.0)
    assert _sequence(gate.decide(1, 1, True, "", 0.01)) == 1
    gate.decide(1, 2, True, "", 0.02)
    assert _sequence(gate.offer(_chunk(2), 0.03)) == 2


def test_a_verdict_serves_one_chunk_once() -> None:
    gate = ChunkGate(0.1)
    gate.offer(_chunk(1), 0.0)
    gate.decide(1, 1, True, "", 0.0)
    assert gate.decide(1, 1, True, "", 0.0) == (None, "")
    gate.offer(_chunk(2), 0.0)
    assert gate.decide(1, 3, True, "", 0.0) == (None, "")


def test_veto_drops_with_its_reason() -> None:
    gate = ChunkGate(0.1)
    gate.offer(_chunk(5), 0.0)
    chunk, why = gate.decide(1, 5, False, "table_contact: 3 mm", 0.01)
    assert chunk is None
    assert "table_contact" in why
    assert gate.decide(1, 5, True, "", 0.02) == (None, "")


def test_late_verdict_counts_as_veto_even_before_the_timer() -> None:
    gate = ChunkGate(0.1)
    gate.offer(_chunk(1), 0.0)
    chunk, why = gate.decide(1, 1, True, "", 0.2)
    assert chunk is None
    assert "no verdict" in why


def test_an_old_verdict_does_not_let_a_chunk_pass() -> None:
    gate = ChunkGate(0.1)
    assert gate.decide(1, 5, True, "", 0.0) == (None, "")
    chunk, why = gate.offer(_chunk(5), 0.5)
    assert chunk is None
    assert "0.50 s old" in why


def test_a_verdict_serves_the_lease_that_it_names() -> None:
    """Two policies may use the same number; a consent to one's chunk must not move the other's."""
    gate = ChunkGate(0.1)
    gate.offer(_chunk(1, lease=7), 0.0)
    assert gate.decide(8, 1, True, "", 0.01) == (None, "")
    assert _sequence(gate.decide(7, 1, True, "", 0.02)) == 1
    # Of the many verdicts of one lease the latest is not forgotten for another lease's higher numbers.
    for sequence in range(1000, 1020):
        gate.decide(9, sequence, False, "no", 0.03)
    gate.decide(7, 2, True, "", 0.04)
    assert _sequence(gate.offer(_chunk(2, lease=7), 0.05)) == 2
