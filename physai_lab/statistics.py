"""Intervals and quantiles for reports."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def wilson_interval(successes: float, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Two-sided 95 % interval of a proportion (Wilson 1927)."""
    if trials <= 0:
        return 0.0, 1.0
    p = successes / trials
    denominator = 1 + z * z / trials
    middle = (p + z * z / (2 * trials)) / denominator
    half = z * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials)) / denominator
    return max(0.0, middle - half), min(1.0, middle + half)


def fewest_successes(trials: int, share: float, risk: float = 0.05) -> int:
    """The most successes of so many trials below which what succeeds in `share` of them falls with at most that risk."""
    below, least = 0.0, 0
    for good in range(trials):
        below += math.comb(trials, good) * share**good * (1 - share) ** (trials - good)
        if below > risk:
            break
        least = good + 1
    return least


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and the maximum; empty when there are no values."""
    if not len(values):
        return {}
    array = np.asarray(values, float)
    return {
        "p50": float(np.quantile(array, 0.5)),
        "p95": float(np.quantile(array, 0.95)),
        "p99": float(np.quantile(array, 0.99)),
        "max": float(array.max()),
        "n": len(array),
    }
