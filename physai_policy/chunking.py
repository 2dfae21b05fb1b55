"""Action chunks although inference takes time: what the arm does meanwhile, how long that is, and how chunks join.

Control step 0 of a chunk belongs to the observation's stamp. When the chunk arrives, `d` steps have passed: their rows
are skipped by time, never replayed. Methods differ in how a new chunk is made to continue what the arm does meanwhile:

    synchronous   the arm stops and waits for each chunk
    naive         nothing is done about it
    ensemble      the mean of all chunks that cover a moment (ACT, Zhao et al., arXiv 2304.13705)
    real_time     the policy is told what the arm does meanwhile and goes on from there; how is the bundle's matter:
                    trained          the network was trained with the first d rows given (Black et al., arXiv 2512.05964)
                    guided           inpainting by guidance with the vector-Jacobian product of the denoised chunk
                                     (Black et al., arXiv 2506.07339, algorithm 1)
                    guided_identity  the same with the Jacobian taken as the identity: cheaper, another algorithm
    corrected     real_time, and a small network corrects the running chunk with every observation
                  (A2C2, arXiv 2509.23224)
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from physai_base.errors import PolicyError
from physai_policy.policy import ActionSpace, Chunk, Observation, Policy, Prefix, longest_prefix

METHODS = ("synchronous", "naive", "ensemble", "real_time", "corrected")


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
    chunk: Chunk

    def covers(self, time_ns: int) -> bool:
        """Whether it says what the arm does then."""
        return time_ns <= self.start_ns + (len(self.chunk.chosen) - 1) * round(self.chunk.dt_s * 1e9)


class Timeline:
    """What the arm is going to do: the chunks that were sent, of which the last accepted one runs."""

    def __init__(self) -> None:
        self._sent: tuple[Sent, ...] = ()  # replaced, never changed: it is read while another thread sends

    def clear(self) -> None:
        """The arm does nothing of what was sent."""
        self._sent = ()

    def send(self, sequence: int, sent_ns: int, start_ns: int, chunk: Chunk) -> None:
        """A chunk was sent; until it is dropped it counts as what the arm does."""
        self._sent = (*self._sent[-7:], Sent(sequence, sent_ns, start_ns, chunk))

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
        actions = sent.chunk.chosen
        at = ((from_ns - sent.start_ns) / 1e9 + np.arange(count) * dt_s) / sent.chunk.dt_s
        last = len(actions) - 1
        valid = int(np.sum(at <= last + 1e-6))
        at = np.clip(at, 0, last)
        low = np.minimum(at.astype(int), last - 1)
        share = (at - low)[:, None]
        return (1 - share) * actions[low] + share * actions[low + 1], valid


class RealTimeChunking:
    """A policy that is told what the arm does until its chunk arrives, and whose chunk goes on from there."""

    def __init__(self, policy: Policy, timeline: Timeline, delay: DelayEstimator) -> None:
        self._policy, self._timeline, self._delay = policy, timeline, delay
        self.name, self.horizon, self.dt_s = policy.name, policy.horizon, policy.dt_s

    def infer(self, observation: Observation, prefix: Prefix | None = None) -> Chunk:
        """A chunk whose first rows are those of the running one."""
        rows, valid = self._timeline.rows(observation.stamp_ns, self.horizon, self.dt_s)
        # Row k is for k dt: all rows before the one that follows the delay are carried out as they are.
        frozen = min(math.ceil(self._delay.seconds / self.dt_s), valid, longest_prefix(self.horizon))
        if not frozen:
            return self._policy.infer(observation)  # nothing runs, or nothing of it is left
        return replace(self._policy.infer(observation, Prefix(rows, frozen, valid)), given=frozen)


class Ensembled:
    """The mean of all chunks that cover a moment, with weights exp(-m k), the oldest first (k = 0)."""

    def __init__(self, policy: Policy, m: float = 0.01, window: int = 12) -> None:
        self._policy, self._m = policy, m
        self._past: deque[tuple[int, np.ndarray]] = deque(maxlen=window)
        self.name, self.horizon, self.dt_s = policy.name, policy.horizon, policy.dt_s

    def clear(self) -> None:
        """Forget the chunks of a task that has ended."""
        self._past.clear()

    def infer(self, observation: Observation, prefix: Prefix | None = None) -> Chunk:
        """The new chunk with sample 0 averaged over those before it."""
        chunk = self._policy.infer(observation, prefix)
        if chunk.space is ActionSpace.TOOL_POSE:
            raise PolicyError("quaternions cannot be averaged row by row; use another method for tool poses")
        if self._past and observation.stamp_ns < self._past[-1][0]:
            self._past.clear()
        self._past.append((observation.stamp_ns, chunk.chosen))
        steps = np.arange(self.horizon)
        total, weights = np.zeros_like(chunk.chosen), np.zeros(self.horizon)
        covering = [
            (actions, (observation.stamp_ns - stamp) / 1e9 / self.dt_s + steps)
            for stamp, actions in self._past
            if (observation.stamp_ns - stamp) / 1e9 < (self.horizon - 1) * self.dt_s
        ]
        for k, (actions, at) in enumerate(covering):
            covered = at <= self.horizon - 1 + 1e-6
            weight = np.exp(-self._m * k) * covered
            rows = np.column_stack([np.interp(at, steps, column) for column in actions.T])
            total += weight[:, None] * rows
            weights += weight
        mean = total / weights[:, None]
        return Chunk(np.concatenate([mean[None], chunk.actions[1:]]), chunk.space, chunk.dt_s)
