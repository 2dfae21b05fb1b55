"""Clean operation: the real policy at work without any fault, in which every latched stop is a false one."""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from dataclasses import dataclass, field

from physai_base.embodiment import Embodiment
from physai_base.task import Task
from physai_base.values import ControlState
from physai_lab.evaluation.evaluate import Evaluation, Evaluator
from physai_lab.pool import work_on
from physai_lab.progress import Progress
from physai_sim.scene import parse_parts

LATCHED = (ControlState.FAULT, ControlState.ESTOP)
AROUND_S = 0.9  # simulated before and after each episode's task
CONFIDENCE = 0.95


def rate_at_most(events: int, hours: float) -> float:
    """Events per hour: the upper end of the one-sided 95 % interval of a Poisson rate (Garwood 1936)."""
    if hours <= 0:
        return math.inf

    def fewer(mean: float) -> float:  # P(at most `events`) with that mean
        return math.fsum(math.exp(-mean + k * math.log(mean) - math.lgamma(k + 1)) for k in range(events + 1))

    low, high = 1e-9, 10.0 * (events + 1)
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if fewer(middle) > 1 - CONFIDENCE else (low, middle)
    return high / hours


@dataclass
class Clean:
    """What became of the clean operation so far."""

    sight: str = "camera"
    hours: float = 0.0  # simulated
    episodes: int = 0
    successes: int = 0
    chunks: int = 0
    vetoed: int = 0  # by the world model; no concern of the controller's
    refused: Counter[str] = field(default_factory=Counter)  # chunks, by the controller's reason
    stops: list[str] = field(default_factory=list)  # the cause of each latched state
    wall_s: float = 0.0

    def row(self) -> dict[str, object]:
        """For the report."""
        return {
            "sight": self.sight, "hours": round(self.hours, 4), "episodes": self.episodes, "successes": self.successes, "chunks": self.chunks,
            "vetoed": self.vetoed, "refused": sum(self.refused.values()), "stops": len(self.stops),
            "stops per hour, at most (95 %)": round(rate_at_most(len(self.stops), self.hours), 3),
            "wall clock, min": round(self.wall_s / 60, 1), "causes": self.stops, "refusals": dict(self.refused),
        }  # fmt: skip


_evaluator: Evaluator | None = None


def _start(embodiment: Embodiment, task: Task, what: Evaluation) -> None:
    global _evaluator
    _evaluator = Evaluator(embodiment, task, what)


@dataclass(frozen=True)
class _Episode:
    seconds: float
    success: bool
    chunks: int
    vetoed: int
    refused: dict[str, int]
    stop: str  # empty: none


def _run(index: int) -> _Episode:
    assert _evaluator is not None
    result = _evaluator.run(index)
    status = _evaluator.cell.core.status()
    stop = f"seed {result.seed}: {status.cause}" if status.state in LATCHED else ""
    return _Episode(
        result.duration_s + AROUND_S, result.success, result.chunks, sum(result.vetoes.values()), result.rejections, stop
    )  # fmt: skip


def operate(
    embodiment: Embodiment,
    task: Task,
    hours: float,
    seed: int,
    workers: int,
    progress: Progress,
    sight: str = "camera",
) -> Clean:
    """Randomized episodes with the installed policy and world model until `hours` of simulated time.

    `sight` "truth" leaves out cameras and perception: noisy scenes from the simulator's state, several times faster.

    An interruption ends it with what there is.
    """
    what = Evaluation(0, parse_parts(["all"]), "policy", "veto", "world_model", seed=seed, sight=sight)
    clean, began = Clean(sight), time.monotonic()
    episodes = work_on(itertools.count(), _run, workers, _start, (embodiment, task, what))
    try:
        while clean.hours < hours:
            episode = next(episodes)
            clean.hours += episode.seconds / 3600
            clean.episodes += 1
            clean.successes += episode.success
            clean.chunks += episode.chunks
            clean.vetoed += episode.vetoed
            clean.refused.update(episode.refused)
            if episode.stop:
                clean.stops.append(episode.stop)
            clean.wall_s = time.monotonic() - began
            done_s, whole_s = round(clean.hours * 3600), round(hours * 3600)
            note = f"{len(clean.stops)} stops, {sum(clean.refused.values())} chunks refused, {clean.wall_s / 60:.1f} min"
            progress(min(done_s, whole_s), whole_s, f"clean: {note}")
    except KeyboardInterrupt:
        pass
    finally:
        episodes.close()
    return clean
