"""How smoothly an arm was driven through an episode: seams between chunks, jerk, starvation, age of what it acted on."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from physai_base.values import ActionChunk, ControlState, ControlStatus


@dataclass
class MotionLog:
    """What the controller was given and did, sampled every `period_s`."""

    period_s: float
    references: list[np.ndarray] = field(default_factory=list)  # (n,) rad
    ages_s: list[float] = field(default_factory=list)  # of the observation behind what is carried out
    seams_rad: list[float] = field(
        default_factory=list
    )  # largest joint's jump between two chunks at take-over
    taken: int = 0  # chunks that the controller accepted
    starved_s: float = 0.0  # held because the chunk had run out
    _chunk: ActionChunk | None = None

    def add(self, status: ControlStatus) -> None:
        """One more sample."""
        self.references.append(status.reference)
        if self._chunk is None:
            return
        since_s = (status.stamp_ns - self._chunk.start_ns) / 1e9
        ended = since_s > (self._chunk.horizon - 1) * self._chunk.dt_ns / 1e9
        if ended or status.state is not ControlState.TRACK:
            self.starved_s += self.period_s
        else:
            self.ages_s.append((status.stamp_ns - self._chunk.observation_ns) / 1e9)

    def take_over(self, chunk: ActionChunk, now_ns: int) -> None:
        """A chunk was accepted."""
        if self._chunk is not None:
            jump = setpoint(chunk, now_ns) - setpoint(self._chunk, now_ns)
            self.seams_rad.append(float(np.abs(jump).max()))
        self._chunk = chunk
        self.taken += 1

    def jerk(self) -> float:
        """RMS over time of the joint references' jerk, of the fastest joint, rad/s³."""
        if len(self.references) < 4:
            return 0.0
        third = np.diff(np.array(self.references), n=3, axis=0) / self.period_s**3
        return float(np.sqrt((third**2).mean(axis=0)).max())


def setpoint(chunk: ActionChunk, time_ns: int) -> np.ndarray:
    """(n,) what a joint chunk asks for at a time, linear between its steps, its last one after its end."""
    at = (time_ns - chunk.start_ns) / chunk.dt_ns
    steps = np.arange(chunk.horizon)
    return np.array([np.interp(at, steps, column) for column in chunk.values.T])
