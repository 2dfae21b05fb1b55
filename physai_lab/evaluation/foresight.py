"""What a world model is for: foreseeing harm that a chunk causes to an object that stood unharmed, and at what false alarms.

A window is one object over the chunk's horizon. Only objects that stand upright and still at its start count: one that lies
already, or still rolls, is no harm that the chunk causes, and foreseeing it is no merit. Beside the model stands the cheapest
alternative in the same windows: an alarm whenever the path comes near the object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from physai_lab.statistics import wilson_interval

HARM_M = 0.025  # an object that is pushed this far was harmed
STILL_M = 0.003  # between two frames, more than the noise of its pose
NEAR_M = 0.07  # of the rule: as near as the path may come to an object's axis


def near(
    path_m: np.ndarray, objects_m: np.ndarray, heights_m: np.ndarray, within_m: float = NEAR_M
) -> np.ndarray:
    """The rule: whether the tool's path (…, H, 3) comes that near to an object (…, k, 3), (k,) high, while below its rim."""
    offset = path_m[..., :, None, :] - objects_m[..., None, :, :]  # (…, H, k, 3)
    away = np.where(offset[..., 2] < heights_m + 0.005, np.linalg.norm(offset[..., :2], axis=-1), np.inf)
    return np.asarray(away.min(axis=-2) < within_m)


@dataclass(frozen=True)
class Foresight:
    """How alarms and harm met in the windows that count."""

    harm: int
    foreseen: int  # of `harm`
    safe: int
    false_alarms: int  # of `safe`

    @staticmethod
    def of(alarm: np.ndarray, harmed: np.ndarray, counts: np.ndarray) -> Foresight:
        """From flags of any one shape: an alarm, harm that came, a window that counts."""
        harm, safe = counts & harmed, counts & ~harmed
        return Foresight(
            int(harm.sum()), int((alarm & harm).sum()), int(safe.sum()), int((alarm & safe).sum())
        )

    def metrics(self, name: str) -> Mapping[str, float]:
        """For a manifest; a rate whose denominator is 0 is left out."""
        found: dict[str, float] = {"harm_windows": self.harm, "safe_windows": self.safe}
        if self.harm:
            found[f"{name}_recall"] = self.foreseen / self.harm
        if self.safe:
            found[f"{name}_false_alarms"] = self.false_alarms / self.safe
        return found

    def row(self, name: str) -> dict[str, str]:
        """For a table, with Wilson's 95 % intervals."""
        return {
            "who warns": name,
            "harm foreseen": _share(self.foreseen, self.harm),
            "false alarms": _share(self.false_alarms, self.safe),
        }


def _share(part: int, whole: int) -> str:
    if not whole:
        return "–"
    low, high = wilson_interval(part, whole)
    return f"{part} of {whole} = {part / whole:.1%} ({low:.1%} to {high:.1%})"
