"""Real-time chunking whose running chunk is corrected with every observation (physai_policy/correction.py)."""

from __future__ import annotations

from physai_base.errors import PhysaiError
from physai_policy.chunking.method import Circumstances
from physai_policy.chunking.real_time import RealTime
from physai_policy.policy import Observation, Proposal, takes_features


class Corrected(RealTime):
    """For a policy that works on features, as its corrector does."""

    corrects = True

    def __init__(self, circumstances: Circumstances) -> None:
        super().__init__(circumstances)
        if circumstances.corrector is None:
            raise PhysaiError("method 'corrected' needs a corrector's bundle")
        if not takes_features(circumstances.policy):
            raise PhysaiError(
                f"method 'corrected' needs a policy that works on features; {circumstances.policy.name} does not"
            )
        self._corrector = circumstances.corrector

    def correct(self, observation: Observation) -> Proposal | None:
        """What is left of the running chunk, as this observation asks for it."""
        return self._corrector.correct(observation, self._timeline)


METHOD = Corrected
