"""The arm stops and waits for each chunk."""

from __future__ import annotations

from dataclasses import replace

from physai_policy.chunking.method import ChunkingMethod
from physai_policy.decoding import STOPPING_S
from physai_policy.policy import Proposal


class Synchronous(ChunkingMethod):
    """One chunk after the other, each from rest to rest."""

    def part(self, proposal: Proposal) -> Proposal:
        """The first half; then the arm stops and waits for the next."""
        return replace(proposal, actions=proposal.actions[:, : self.policy.horizon // 2 + 1])

    def due_ns(self, inferred_ns: int) -> int:
        """Once the arm rests after what runs."""
        running = self._timeline.running
        if running is None:
            return super().due_ns(inferred_ns)
        steps = len(running.proposal.chosen) - 1
        return running.start_ns + round((steps * running.proposal.dt_s + STOPPING_S) * 1e9)

    def waited_for(self, start_ns: int) -> bool:
        """Always."""
        return True


METHOD = Synchronous
