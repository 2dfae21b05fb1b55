"""The contract of every method by which chunks join, and how one is found by its name."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from physai_base.errors import PhysaiError
from physai_base.plugins import plugins
from physai_policy.chunking.timeline import DelayEstimator, Timeline
from physai_policy.policy import Observation, Policy, Proposal

if TYPE_CHECKING:
    from physai_policy.correction import Corrector

OURS = ("synchronous", "naive", "ensemble", "real_time", "corrected")
"""The modules beside this one; each names its class `METHOD`."""
GROUP = "physai.chunking"  # entry points of other packages: a name and a class


@dataclass(frozen=True)
class Circumstances:
    """What a method works with, all of it of one agent."""

    policy: Policy
    timeline: Timeline  # what was sent; the agent keeps it
    delay: DelayEstimator
    period_s: float  # from one inference to the next
    corrector: Corrector | None = None


class ChunkingMethod:
    """Chunks are due one period after the other, and what the arm has waited for begins when it comes."""

    corrects: ClassVar[bool] = False  # whether `correct` is to be asked, and a corrector to be given

    policy: Policy
    """What is asked at an inference: the policy itself or what stands around it."""

    def __init__(self, circumstances: Circumstances) -> None:
        self.policy = circumstances.policy
        self._timeline, self._period_s = circumstances.timeline, circumstances.period_s

    def begin(self) -> None:
        """The arm does nothing of what was sent: a task begins or goes on, or the way home does."""

    def due_ns(self, inferred_ns: int) -> int:
        """When the next inference is due after one at `inferred_ns`."""
        return inferred_ns + round(self._period_s * 1e9)

    def part(self, proposal: Proposal) -> Proposal:
        """What of a proposal is to be carried out."""
        return proposal

    def waited_for(self, start_ns: int) -> bool:
        """Whether the arm stands where a chunk from `start_ns` on begins until it comes; else its first steps are in the past."""
        running = self._timeline.running
        return running is None or not running.covers(start_ns)

    def correct(self, observation: Observation) -> Proposal | None:
        """The running chunk as a newer observation asks for it; from another thread than all else."""
        return None


def chunking_method(name: str) -> type[ChunkingMethod]:
    """The method's class.

    Raises:
        PhysaiError: there is none of that name, or two.
    """
    theirs = plugins(GROUP, {ours: f"physai_policy.chunking.{ours}, which is shipped," for ours in OURS})
    if name in OURS:
        return importlib.import_module(f"physai_policy.chunking.{name}").METHOD  # type: ignore[no-any-return]
    if name not in theirs:
        raise PhysaiError(f"method {name!r} is not known; there are: {', '.join((*OURS, *theirs))}")
    return theirs[name].load()  # type: ignore[no-any-return]
