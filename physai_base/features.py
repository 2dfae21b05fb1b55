"""What tasks' features have in common: near the goal millimetres decide.

Besides a length a network sees it squashed. The networks that anticipate features do the same in torch
(physai_policy/networks.py), which a test compares.
"""

from __future__ import annotations

import numpy as np

FINE_SCALE_M = 0.02  # of an offset
FINE_WIDTH_M = 0.004  # of the hand's opening


def named(quantity: str, ending: str = "") -> list[str]:
    """Names of the three entries of a vector."""
    return [f"{quantity}.{axis}{ending}" for axis in "xyz"]


def fine(offset_m: np.ndarray) -> np.ndarray:
    """An offset as it is seen close to zero."""
    return np.tanh(offset_m / FINE_SCALE_M)


def fine_width(width_m: float, grip_m: float) -> float:
    """The hand's opening as it is seen close to where it holds."""
    return float(np.tanh((width_m - grip_m) / FINE_WIDTH_M))
