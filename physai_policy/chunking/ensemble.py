"""Temporal ensembling: the mean of all chunks that cover a moment."""

from __future__ import annotations

from collections import deque

import numpy as np

from physai_base.errors import PolicyError
from physai_policy.chunking.method import ChunkingMethod, Circumstances
from physai_policy.policy import ActionSpace, Observation, Policy, Prefix, Proposal


class Ensembled:
    """The mean of all chunks that cover a moment, with weights exp(-m k), the oldest first (k = 0)."""

    def __init__(self, policy: Policy, m: float = 0.01, window: int = 12) -> None:
        self._policy, self._m = policy, m
        self._past: deque[tuple[int, np.ndarray]] = deque(maxlen=window)
        self.name, self.horizon, self.dt_s = policy.name, policy.horizon, policy.dt_s

    def clear(self) -> None:
        """Forget the chunks of a task that has ended."""
        self._past.clear()

    def infer(self, observation: Observation, prefix: Prefix | None = None) -> Proposal:
        """The new chunk with sample 0 averaged over those before it."""
        proposal = self._policy.infer(observation, prefix)
        if proposal.space is ActionSpace.TOOL_POSE:
            raise PolicyError("quaternions cannot be averaged row by row; use another method for tool poses")
        if self._past and observation.stamp_ns < self._past[-1][0]:
            self._past.clear()
        self._past.append((observation.stamp_ns, proposal.chosen))
        steps = np.arange(self.horizon)
        total, weights = np.zeros_like(proposal.chosen), np.zeros(self.horizon)
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
        return Proposal(np.concatenate([mean[None], proposal.actions[1:]]), proposal.space, proposal.dt_s)


class Ensemble(ChunkingMethod):
    """All chunks of a task count, the last one's time is the observation's."""

    def __init__(self, circumstances: Circumstances) -> None:
        super().__init__(circumstances)
        self._ensembled = Ensembled(circumstances.policy)
        self.policy = self._ensembled

    def begin(self) -> None:
        """Forget the chunks of a task that has ended."""
        self._ensembled.clear()

    def waited_for(self, start_ns: int) -> bool:
        """Never: their steps belong to the time of what was seen."""
        return False


METHOD = Ensemble
