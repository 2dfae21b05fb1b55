"""What became of the chunks that were sent: from verdicts and the controller's status to the agent, and whether the arm rests."""

from __future__ import annotations

import math

import numpy as np

from physai_base.values import ChunkVerdict, ControlState
from physai_policy.agent import Agent
from physai_policy.watch import Stall, why_vetoed

REST_RAD_S = 0.02
KEPT_VETOES = 32
MOST_TIMEOUT_S = 3600.0
LEAST_TIMEOUT_S = 0.1


def wrong_timeout(timeout_s: float) -> str:
    """Why a task cannot be given that time; empty when it can. 0 stands for the policy's default."""
    if timeout_s == 0 or LEAST_TIMEOUT_S <= timeout_s <= MOST_TIMEOUT_S:
        return ""
    return f"the timeout must be 0 (the policy's default) or {LEAST_TIMEOUT_S:g} to {MOST_TIMEOUT_S:g} s, got {timeout_s:g}"


class Answers:
    """Tells an agent of each of its chunks once."""

    def __init__(self, agent: Agent, lease: int) -> None:
        self._agent, self._lease = agent, lease
        self._vetoes: dict[int, str] = {}

    def verdict(self, verdict: ChunkVerdict) -> None:
        """The world model's judgement of a chunk. Whether it counts is for the controller to say."""
        if verdict.lease != self._lease or verdict.allow:
            return
        self._vetoes[verdict.sequence] = why_vetoed(verdict)
        for old in sorted(self._vetoes)[:-KEPT_VETOES]:
            del self._vetoes[old]

    def control(
        self,
        active: tuple[int, int],
        latency_s: float,
        rejected: tuple[int, int],
        why: str,
        now_ns: int,
    ) -> None:
        """The controller's status: lease and sequence of the chunk it follows, and of the last that it did not take."""
        lease, sequence = rejected
        if lease == self._lease:
            veto = self._vetoes.pop(sequence, "")
            # The verdict may come after the status that speaks of it.
            head, _, reason = why.partition(": ")
            vetoed, why = bool(veto) or head.endswith("vetoed"), reason or why
            self._agent.refused(sequence, Stall.VETOED if vetoed else Stall.REJECTED, veto or why)
        self._agent.took_over(active[1] if active[0] == self._lease else 0, latency_s, now_ns)


class RestWatch:
    """Whether the arm rests: the controller follows nothing, and what it measures does not move."""

    def __init__(self) -> None:
        self._last: tuple[int, np.ndarray] | None = None
        self.at_rest = False

    def begin(self) -> None:
        """The arm may move from now on."""
        self._last, self.at_rest = None, False

    def status(
        self, stamp_ns: int, state: ControlState, active_sequence: int, measured_rad: np.ndarray
    ) -> None:
        """One status of the controller, with the joint angles (n,) that it measured."""
        follows = active_sequence != 0 or state in (ControlState.TRACK, ControlState.STOPPING)
        before, self._last = self._last, (stamp_ns, measured_rad)
        if before is None or len(before[1]) != len(measured_rad):
            self.at_rest = False
            return
        seconds = (stamp_ns - before[0]) / 1e9
        if seconds <= 0:
            self._last = before
            return
        fastest = float(np.abs(measured_rad - before[1]).max(initial=0.0)) / seconds
        self.at_rest = not follows and math.isfinite(fastest) and fastest < REST_RAD_S
