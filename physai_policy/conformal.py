"""Thresholds that follow the time in a run, with a bound on how often a run like those seen before crosses one.

Split conformal prediction for whole runs (Diquigiovanni et al., arXiv 2102.06746; used for policies by Xu et al., FAIL-Detect,
arXiv 2503.08558). Half of the successful runs say what each score looks like as time goes by: its median and how far above
that it gets. The other half say how far beyond that a whole run gets at its worst. The k-th smallest of those n worst
values, k = ceil((n + 1)(1 - alpha)), is the limit. A new run that is exchangeable with them, a run of the same policy at the
same tasks in the same cell, crosses the limit anywhere, in any score, with probability at most alpha, on average over the
runs that were drawn for calibration. Nothing is promised about what fails.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from physai_base.errors import PhysaiError

LEAST_RUNS = 20
STEP_S = 0.25
WINDOW_S = 0.5  # to either side, from which a moment's median is taken
FEWEST = 10  # runs that must still go on; where fewer do, what was last stays


@dataclass(frozen=True)
class Run:
    """What was scored in one run: T moments, S scores."""

    elapsed_s: np.ndarray  # (T,) since the task began
    scores: np.ndarray  # (T, S), NaN where there is none


@dataclass(frozen=True)
class Band:
    """What is usual for each score, at times `STEP_S` apart, and the limit of how unusual a run may get."""

    usual: np.ndarray  # (T, S)
    spread: np.ndarray  # (T, S), above zero
    limit: float  # in spreads
    alpha: float
    runs: int  # that the limit was taken from

    def excess(self, elapsed_s: float | None, scores: np.ndarray) -> np.ndarray:
        """(S,) how far above what is usual each score is, 1 at the threshold; -inf for NaN.

        Without a time, above what is usual at the time when that is highest.
        """
        rows = self._rows(elapsed_s)
        with np.errstate(invalid="ignore"):
            excess = ((scores - self.usual[rows]) / (self.limit * self.spread[rows])).min(axis=0)
        return np.where(np.isnan(scores), -np.inf, excess)

    def thresholds(self, elapsed_s: float | None) -> np.ndarray:
        """(S,) at that time, or the highest of all, in the scores' own units."""
        rows = self._rows(elapsed_s)
        return (self.usual[rows] + self.limit * self.spread[rows]).max(axis=0)

    def _rows(self, elapsed_s: float | None) -> slice:
        if elapsed_s is None:
            return slice(None)
        row = min(max(0, round(elapsed_s / STEP_S)), len(self.usual) - 1)
        return slice(row, row + 1)

    def as_json(self) -> dict[str, Any]:
        """For a manifest."""
        return {
            "usual": np.round(self.usual, 6).tolist(), "spread": np.round(self.spread, 6).tolist(), "limit": self.limit,
            "alpha": self.alpha, "runs": self.runs, "step_s": STEP_S,
        }  # fmt: skip

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> Band:
        """What `as_json` gave."""
        usual, spread = np.array(document["usual"], float), np.array(document["spread"], float)
        limit = float(document["limit"])
        if usual.ndim != 2 or usual.shape != spread.shape or not (spread > 0).all() or not limit > 0:
            raise PhysaiError(
                "thresholds: usual and spread must be tables of one shape, spread and limit above zero"
            )
        if document["step_s"] != STEP_S:
            raise PhysaiError(
                f"thresholds: are {document['step_s']} s apart, {STEP_S} s is what is read here"
            )
        return Band(usual, spread, limit, float(document["alpha"]), int(document["runs"]))


def runs_needed(alpha: float) -> int:
    """The fewest runs from which a limit for `alpha` can be taken."""
    return max(LEAST_RUNS, math.ceil(1 / alpha - 1e-9) - 1)


def check_enough(runs: int, alpha: float) -> None:
    """Raises:
    PhysaiError: so many runs are too few for `alpha`.
    """
    needed = 2 * runs_needed(alpha)
    if runs < needed:
        raise PhysaiError(
            f"{runs} successful runs are too few for thresholds that {alpha:.3g} of all runs may cross: {needed} are "
            "needed, half of them to say what is usual. Make more, or allow a larger share: 40 do for 0.05"
        )


def calibrate(runs: Sequence[Run], alpha: float) -> Band:
    """The band of successful runs.

    Raises:
        PhysaiError: there are too few for `alpha`.
    """
    check_enough(len(runs), alpha)
    # By lot: tasks come in turn, and either half must have all of them.
    order = np.random.default_rng(0).permutation(len(runs))
    shaping, limiting = [runs[i] for i in order[::2]], [runs[i] for i in order[1::2]]
    usual, spread = _shape(shaping)
    band = Band(usual, spread, 1.0, alpha, len(limiting))
    worst = sorted(worst_of(band, run) for run in limiting)
    rank = math.ceil((len(worst) + 1) * (1 - alpha) - 1e-9)
    return Band(usual, spread, max(worst[rank - 1], 1e-9), alpha, len(limiting))


def worst_of(band: Band, run: Run) -> float:
    """How unusual a run got; a limit of 1 spread makes it a number of spreads."""
    return float(max(band.excess(t, s).max() for t, s in zip(run.elapsed_s, run.scores, strict=True)))


def _shape(runs: Sequence[Run]) -> tuple[np.ndarray, np.ndarray]:
    """What is usual (T, S) and the spread (T, S) of scores.

    The spread is how far above the median 90 % of the moments around are, no less than what it is over all
    times; then scaled so that 90 % of the runs stay below one spread: no score sets the limit for all by its units or its tails.
    """
    elapsed = np.concatenate([run.elapsed_s for run in runs])
    scores = np.concatenate([run.scores for run in runs])
    count = len(scores[0])
    ends = sorted((float(run.elapsed_s[-1]) for run in runs), reverse=True)
    last_s = ends[min(FEWEST, len(ends)) - 1]
    overall = np.nanquantile(scores, 0.9, axis=0) - np.nanmedian(scores, axis=0)
    usual, spread = [], []
    for step in range(int(last_s / STEP_S) + 1):
        near = scores[np.abs(elapsed - step * STEP_S) <= WINDOW_S]
        known = [column[np.isfinite(column)] for column in near.T]
        middle = [np.median(column) if len(column) else np.nan for column in known]
        above = [np.quantile(column, 0.9) if len(column) else np.nan for column in known]
        usual.append(middle)
        spread.append(np.fmax(np.subtract(above, middle), overall))
    table: np.ndarray = np.array(usual).reshape(-1, count)
    width: np.ndarray = np.array(spread).reshape(-1, count)
    # A score that is not known yet at some times is as usual as it is overall.
    table = np.where(np.isnan(table), np.nanmedian(scores, axis=0), table)
    width = np.where(np.isfinite(width) & (width > 0), width, np.maximum(np.nan_to_num(overall), 1e-9))
    first = Band(table, width, 1.0, 1.0, 0)
    worst = np.array([
        np.max([first.excess(t, s) for t, s in zip(run.elapsed_s, run.scores, strict=True)], axis=0) for run in runs
    ])  # fmt: skip
    scale = np.quantile(worst, 0.9, axis=0)
    return table, width * np.where(np.isfinite(scale) & (scale > 0), scale, 1.0)
