"""The learned dynamics: an ensemble that imagines robot and objects along a sequence of setpoints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from physai_base.bundle import Bundle
from physai_base.errors import BundleError
from physai_base.task import Task

DISAGREEMENT_SCALE_M = 0.05


@dataclass(frozen=True)
class Imagination:
    """What each of E ensemble members imagines over H steps."""

    tcp_m: np.ndarray  # (E, H, 3)
    objects_m: np.ndarray  # (E, H, k, 3)
    upright: np.ndarray  # (E, H, k) probability of standing
    novelty: float  # distance of the inputs from the training data, in standard deviations

    def finite(self) -> bool:
        """Whether every number is one."""
        parts = (self.tcp_m, self.objects_m, self.upright, self.novelty)
        return all(bool(np.isfinite(part).all()) for part in parts)

    def disagreement(self) -> np.ndarray:
        """Epistemic uncertainty (H,), m."""
        return disagreement(self.tcp_m, self.objects_m)

    def disturbance(self, objects_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How far each object (k, 3) is imagined to move, m, and how likely to fall, both (k,)."""
        return disturbance(self.objects_m, self.upright, objects_m)

    def ood_score(self) -> float:
        """How far this is from what the model was trained on; the bundle has the threshold for it."""
        return float(ood_score(self.disagreement().max(), self.novelty))


def disagreement(tcp_m: np.ndarray, objects_m: np.ndarray) -> np.ndarray:
    """Largest standard deviation over members (first axis) of tool (E, …, 3) and objects (E, …, k, 3), m (Chua et al. 2018)."""
    return np.maximum(tcp_m.std(axis=0).max(axis=-1), objects_m.std(axis=0).max(axis=(-1, -2)))


def disturbance(
    paths_m: np.ndarray, upright: np.ndarray, objects_m: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Farthest imagined displacement, m, and likelihood of a fall (…, k) of objects at `objects_m` (…, k, 3).

    `paths_m` is (E, …, H, k, 3) and `upright` (E, …, H, k); the members' mean counts.
    """
    moved = np.linalg.norm(paths_m.mean(axis=0) - objects_m[..., None, :, :], axis=-1).max(axis=-2)
    return moved, 1.0 - upright.mean(axis=0).min(axis=-2)


def touchable(setpoints: np.ndarray, objects_m: np.ndarray, reach_m: float) -> np.ndarray:
    """Whether each object (…, k, 3) is within the hand's reach of some setpoint (…, H, 4), seen from above."""
    offset = setpoints[..., :, None, :2] - objects_m[..., None, :, :2]
    return np.asarray(np.linalg.norm(offset, axis=-1).min(axis=-2) < reach_m)


def ood_score(disagreement_m: np.ndarray | float, novelty: np.ndarray | float) -> np.ndarray:
    """The score that calibration and judgement share: 1 for a disagreement of 5 cm, plus the novelty of the inputs."""
    return np.asarray(disagreement_m / DISAGREEMENT_SCALE_M + novelty)


class WorldModel:
    """The ensemble on ONNX Runtime; the whole rollout is one graph."""

    def __init__(self, bundle: Bundle, task: Task, threads: int = 1) -> None:
        config = bundle.config
        bundle.check_task(task)
        if tuple(config["objects"]) != task.objects or tuple(config["places"]) != task.places:
            raise BundleError(
                f"{bundle.path}: the world model was trained on other objects than task {task.name!r} has"
            )
        self.name = bundle.name
        self.horizon = int(config["horizon"])
        self.dt_s = float(config["dt_s"])
        self.ood_threshold = float(config["ood_threshold"])
        self.knock_displacement_m = float(config["knock_displacement_m"])
        self.topple_probability = float(config["topple_probability"])
        self._session = bundle.session(threads=threads)

    def imagine(
        self,
        tcp_m: np.ndarray,
        tcp_velocity_m_s: np.ndarray,
        gripper_width_m: float,
        objects_m: np.ndarray,
        places_m: np.ndarray,
        setpoints: np.ndarray,
    ) -> Imagination:
        """Imagine the states after each of `setpoints` (H, 4): tool position and gripper width.

        `objects_m` is (k, 3), `places_m` (places, 3), all in the base frame.
        """
        feeds = {
            "tcp": tcp_m[None],
            "velocity": tcp_velocity_m_s[None],
            "width": np.array([[gripper_width_m]]),
            "objects": objects_m[None],
            "places": places_m[None],
            "setpoints": setpoints[None],
        }
        tcp, objects, upright, novelty = self._session.run(
            ["tcp_path", "objects_path", "upright_path", "novelty"],
            {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in feeds.items()},
        )
        return Imagination(tcp[:, 0], objects[:, 0], upright[:, 0], float(novelty.max()))
