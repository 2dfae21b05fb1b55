"""Nothing is done about the delay: a chunk's first steps are in the past when it comes."""

from __future__ import annotations

from physai_policy.chunking.method import ChunkingMethod


class Naive(ChunkingMethod):
    """Also for a policy whose arm follows somebody else, where there is nothing to go on from."""

    def waited_for(self, start_ns: int) -> bool:
        """Never: what the arm did meanwhile is not known."""
        return False


METHOD = Naive
