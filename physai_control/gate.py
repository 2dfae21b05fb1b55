"""The gate between a learned policy and the motors: no chunk runs without an allowing verdict in time."""

from __future__ import annotations

from physai_base.values import ActionChunk as Chunk


class ChunkGate:
    """Holds chunks back until the world model has allowed them; fails closed.

    A chunk passes when an allowing verdict of its lease and sequence number arrives within `timeout_s` (steady
    time), whichever of the two comes first. A newer chunk replaces one that waits.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._waiting: tuple[Chunk, float] | None = None
        self._verdicts: dict[tuple[int, int], tuple[bool, str, float]] = {}  # by lease and sequence

    def offer(self, chunk: Chunk, now_s: float) -> tuple[Chunk | None, str]:
        """The chunk if it may run already, else what became of it (empty: it waits)."""
        self._waiting = (chunk, now_s)
        return self._settle(now_s)

    def forget(self, lease: int) -> None:
        """Drop what waits of that lease: its policy has ended it."""
        if self._waiting is not None and self._waiting[0].lease == lease:
            self._waiting = None

    def decide(
        self, lease: int, sequence: int, allow: bool, why: str, now_s: float
    ) -> tuple[Chunk | None, str]:
        """A verdict came."""
        self._verdicts.pop((lease, sequence), None)
        self._verdicts[lease, sequence] = (allow, why, now_s)
        for old in list(self._verdicts)[:-16]:  # of several leases no number says which came first
            del self._verdicts[old]
        return self._settle(now_s)

    @property
    def waiting(self) -> Chunk | None:
        """The chunk that waits for its verdict."""
        return None if self._waiting is None else self._waiting[0]

    def expire(self, now_s: float) -> str:
        """Drop a chunk that has waited too long; returns why, if one was dropped."""
        if self._waiting is None or now_s - self._waiting[1] <= self._timeout_s:
            return ""
        sequence = self._waiting[0].sequence
        self._waiting = None
        return f"chunk {sequence}: no verdict within {self._timeout_s * 1e3:.0f} ms"

    def _settle(self, now_s: float) -> tuple[Chunk | None, str]:
        dropped = self.expire(now_s)
        if dropped or self._waiting is None:
            return None, dropped
        chunk = self._waiting[0]
        verdict = self._verdicts.pop((chunk.lease, chunk.sequence), None)
        if verdict is None:
            return None, ""
        self._waiting = None
        allow, why, came_s = verdict
        if now_s - came_s > self._timeout_s:
            return None, f"chunk {chunk.sequence}: its verdict is {now_s - came_s:.2f} s old"
        return (chunk, "") if allow else (None, f"chunk {chunk.sequence} vetoed: {why}")
