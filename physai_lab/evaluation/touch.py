"""What pushed the arm: the simulator's contact forces, and beside them what the controller made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.task import Task
from physai_base.values import ControlStatus
from physai_control.core import OBSERVER_GAIN_1_S
from physai_lab.statistics import quantiles
from physai_sim.scene import Scene

TOUCHING_N = (
    1.0  # what is less is no touch: an empty hand's share of the observer's error, or a light thing's weight
)


@dataclass
class TouchLog:
    """Forces on the arm from outside in one episode, with the weight of what it holds; sampled every `period_s`."""

    period_s: float
    true_n: list[float] = field(default_factory=list)  # by the simulator's contacts
    felt_n: list[float] = field(default_factory=list)  # by the controller's observer, about 50 ms behind
    errors_n: list[float] = field(default_factory=list)  # felt against true, the latter as late as the former
    _late: np.ndarray = field(default_factory=lambda: np.zeros(3))

    def add(self, true_n: np.ndarray, status: ControlStatus) -> None:
        """One more sample; `true_n` (3,) N, base frame. What the controller does not know is left out."""
        self.true_n.append(float(np.linalg.norm(true_n)))
        self._late = self._late + (1 - np.exp(-OBSERVER_GAIN_1_S * self.period_s)) * (true_n - self._late)
        felt = status.tool.external_wrench[:3]
        if np.isfinite(felt).all():
            self.felt_n.append(float(np.linalg.norm(felt)))
            self.errors_n.append(float(np.linalg.norm(felt - self._late)))

    @property
    def most_n(self) -> float:
        """The peak."""
        return max(self.true_n, default=0.0)

    @property
    def mean_n(self) -> float:
        """The mean while anything touches; 0 where nothing did."""
        return _mean(self.true_n)

    def within(self, low_n: float, high_n: float) -> tuple[float, float]:
        """Seconds of touch between two forces, and seconds of touch."""
        touching = [value for value in self.true_n if value > TOUCHING_N]
        return sum(low_n <= value <= high_n for value in touching) * self.period_s, len(
            touching
        ) * self.period_s


def on_arm(scene: Scene) -> np.ndarray:
    """(3,) N, base frame: the sum of all contact forces on the first arm from what is not of it."""
    import mujoco

    model, data, total, force = scene.model, scene.data, np.zeros(3), np.zeros(6)
    if not data.ncon:
        return total
    mine = scene.of_first_arm[model.geom_bodyid[data.contact.geom]]
    for k in np.flatnonzero(mine[:, 0] != mine[:, 1]):
        mujoco.mj_contactForce(model, data, int(k), force)
        on_second = data.contact.frame[k].reshape(3, 3).T @ force[:3]
        total += on_second if mine[k, 1] else -on_second
    return total


def _mean(values: Sequence[float]) -> float:
    touching = [value for value in values if value > TOUCHING_N]
    return float(np.mean(touching)) if touching else 0.0


def forces(logs: Sequence[TouchLog], embodiment: Embodiment, task: Task) -> dict[str, Any]:
    """Of all episodes together, N: peaks and means while something touches, the observer's error, and the limits."""
    felt = [value for log in logs for value in log.felt_n]
    errors = [value for log in logs for value in log.errors_n]
    found: dict[str, Any] = {
        "peak": max((log.most_n for log in logs), default=0.0),
        "peak_of_episodes": quantiles([log.most_n for log in logs]),
        "mean": _mean([value for log in logs for value in log.true_n]),
        "felt_peak": max(felt, default=0.0),
        "felt_mean": _mean(felt),
        "felt_error_rms": float(np.sqrt(np.mean(np.square(errors)))) if errors else 0.0,
        "limit_of_robot": embodiment.control.contact_force,
    }
    if task.press_n is not None:
        inside, touching = np.sum([log.within(*task.press_n) for log in logs], axis=0)
        found |= {"wanted": list(task.press_n), "share_wanted": float(inside / touching) if touching else 0.0}
    return found


def said(found: dict[str, Any]) -> str:
    """`forces` in a line."""
    limit = f"{found['limit_of_robot']:.0f} N" if found["limit_of_robot"] else "none"
    wanted = (
        f"; {found['share_wanted']:.0%} of the time between {found['wanted'][0]:.0f} and {found['wanted'][1]:.0f} N"
        if "wanted" in found
        else ""
    )
    return (
        f"force on the arm: at most {found['peak']:.0f} N, {found['mean']:.1f} N on average while it touches "
        f"(felt: {found['felt_peak']:.0f} and {found['felt_mean']:.1f} N; the robot stops at: {limit}){wanted}"
    )
