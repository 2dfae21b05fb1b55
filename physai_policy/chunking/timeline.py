"""What the arm is going to do, and how long a chunk takes to get there."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from physai_policy.policy import Proposal


class DelayEstimator:
    """How long after its observation a chunk takes over: a high quantile of the last ones."""

    def __init__(self, initial_s: float = 0.15, quantile: float = 0.9, window: int = 30) -> None:
        self._quantile = quantile
        self._initial_s = initial_s
        self._seen: deque[float] = deque(maxlen=window)

    def add(self, delay_s: float) -> None:
        """One more delay, as it was measured; nonsense is left out."""
        if 0.0 <= delay_s < math.inf:
            self._seen.append(delay_s)

    @property
    def seconds(self) -> float:
        """What to expect of the next one."""
        if not self._seen:
            return self._initial_s
        return float(np.quantile(self._seen, self._quantile, method="higher"))


@dataclass(frozen=True)
class Sent:
    """A chunk on its way to the arm, or there."""

    sequence: int
    sent_ns: int
    start_ns: int
    proposal: Proposal

    def covers(self, time_ns: int) -> bool:
        """Whether it says what the arm does then."""
        return time_ns <= self.start_ns + (len(self.proposal.chosen) - 1) * round(self.proposal.dt_s * 1e9)


class Timeline:
    """What the arm is going to do: the chunks that were sent, of which the last accepted one runs."""

    def __init__(self) -> None:
        self._sent: tuple[Sent, ...] = ()  # replaced, never changed: it is read while another thread sends

    def clear(self) -> None:
        """The arm does nothing of what was sent."""
        self._sent = ()

    def send(self, sequence: int, sent_ns: int, start_ns: int, proposal: Proposal) -> None:
        """A chunk was sent; until it is dropped it counts as what the arm does."""
        self._sent = (*self._sent[-7:], Sent(sequence, sent_ns, start_ns, proposal))

    def knows(self, sequence: int) -> bool:
        """Whether that one was sent, lately, and not dropped."""
        return any(sent.sequence == sequence for sent in self._sent)

    def drop(self, sequence: int) -> None:
        """The arm will not do that one: it was refused, vetoed or lost."""
        self._sent = tuple(s for s in self._sent if s.sequence != sequence)

    def confirm(self, sequence: int, now_ns: int, grace_s: float = 0.2) -> None:
        """The controller says which chunk it follows: what was sent after that one, and not just now, it did not take."""
        lost = [
            s.sequence for s in self._sent if s.sequence > sequence and now_ns - s.sent_ns > grace_s * 1e9
        ]
        for each in lost:
            self.drop(each)

    @property
    def running(self) -> Sent | None:
        """The last one that was sent and not dropped."""
        sent = self._sent
        return sent[-1] if sent else None

    def rows(self, from_ns: int, count: int, dt_s: float) -> tuple[np.ndarray, int]:
        """Actions (count, D), `dt_s` apart, and how many of them the running chunk covers; those after repeat its last."""
        sent = self.running
        if sent is None:
            return np.zeros((0, 0)), 0
        actions = sent.proposal.chosen
        at = ((from_ns - sent.start_ns) / 1e9 + np.arange(count) * dt_s) / sent.proposal.dt_s
        last = len(actions) - 1
        valid = int(np.sum(at <= last + 1e-6))
        at = np.clip(at, 0, last)
        low = np.minimum(at.astype(int), last - 1)
        share = (at - low)[:, None]
        return (1 - share) * actions[low] + share * actions[low + 1], valid
