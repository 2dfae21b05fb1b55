"""What tasks' features have in common: near the goal millimetres decide.

Besides a length a network sees it squashed. The networks that anticipate features do the same in torch
(physai_policy/networks.py), which a test compares.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

FORCE = "force"  # what `felt` is called: a policy that sees it needs an arm that feels
FINE_SCALE_M = 0.02  # of an offset
FINE_WIDTH_M = 0.004  # of the hand's opening


STRONG_N = 10.0


def offsets(*vectors_m: np.ndarray) -> list[np.ndarray]:
    """Each vector (3,) as it is and as it is seen close to zero; named by `offset_names`."""
    return [part for vector in vectors_m for part in (vector, fine(vector))]


def offset_names(*quantities: str) -> list[str]:
    """Names of the entries of `offsets`."""
    return [name for quantity in quantities for name in (*named(quantity), *named(quantity, ".fine"))]


def by_distance(vectors_m: Iterable[np.ndarray]) -> list[np.ndarray]:
    """The nearest first, so that a network need not learn that the order of distractors is arbitrary."""
    return sorted(vectors_m, key=lambda offset: float(np.linalg.norm(offset)))


def felt(wrench: np.ndarray) -> np.ndarray:
    """(3,) the force of a wrench (6,) as shares of 10 N, squashed; see `FORCE`."""
    return np.tanh(wrench[:3] / STRONG_N)


def named(quantity: str, ending: str = "") -> list[str]:
    """Names of the three entries of a vector."""
    return [f"{quantity}.{axis}{ending}" for axis in "xyz"]


def fine(offset_m: np.ndarray) -> np.ndarray:
    """An offset as it is seen close to zero."""
    return np.tanh(offset_m / FINE_SCALE_M)


def fine_width(width_m: float, grip_m: float) -> float:
    """The hand's opening as it is seen close to where it holds."""
    return float(np.tanh((width_m - grip_m) / FINE_WIDTH_M))
