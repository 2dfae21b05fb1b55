"""Real-time chunking: the policy is told what the arm does until its chunk arrives, and goes on from there."""

from __future__ import annotations

import math
from dataclasses import replace

from physai_policy.chunking.method import ChunkingMethod, Circumstances
from physai_policy.chunking.timeline import DelayEstimator, Timeline
from physai_policy.policy import Observation, Policy, Prefix, Proposal, longest_prefix


class RealTimeChunking:
    """A policy that is told what the arm does until its chunk arrives, and whose chunk goes on from there."""

    def __init__(self, policy: Policy, timeline: Timeline, delay: DelayEstimator) -> None:
        self._policy, self._timeline, self._delay = policy, timeline, delay
        self.name, self.horizon, self.dt_s = policy.name, policy.horizon, policy.dt_s

    def infer(self, observation: Observation, prefix: Prefix | None = None) -> Proposal:
        """A chunk whose first rows are those of the running one."""
        rows, valid = self._timeline.rows(observation.stamp_ns, self.horizon, self.dt_s)
        # Row k is for k dt: all rows before the one that follows the delay are carried out as they are.
        frozen = min(math.ceil(self._delay.seconds / self.dt_s), valid, longest_prefix(self.horizon))
        if not frozen:
            return self._policy.infer(observation)  # nothing runs, or nothing of it is left
        return replace(self._policy.infer(observation, Prefix(rows, frozen, valid)), given=frozen)


class RealTime(ChunkingMethod):
    """What comes late goes on from what runs."""

    def __init__(self, circumstances: Circumstances) -> None:
        super().__init__(circumstances)
        self.policy = RealTimeChunking(circumstances.policy, self._timeline, circumstances.delay)


METHOD = RealTime
