"""When a policy should not act: scores of how doubtful it is, and the thresholds above which a person is asked.

    disagreement   the samples of one chunk differ: entropy of the chunk (Römer et al., FIPER, arXiv 2510.09459)
    inconsistency  consecutive chunks differ where they overlap: STAC (Agia et al., Sentinel, arXiv 2410.04640)
    surprise       the observation is unlike the demonstrations: logpZO (Xu et al., FAIL-Detect, arXiv 2503.08558)

and one for what none of these can see, since a policy that waits for ever is sure of itself and consistent:

    stalling       time since the task last came closer to its end than ever before
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from physai_base.bundle import Bundle
from physai_base.errors import BundleError
from physai_base.task import Task
from physai_policy.conformal import Band, Run
from physai_policy.policy import Observation, Proposal

SCORES = {"disagreement": "nat", "inconsistency": "m", "surprise": "", "stalling": "s"}
RESOLUTION_M = 0.001  # samples closer together than this agree: entropy has no lower end otherwise
LEAST_PROGRESS = 0.01  # counts as coming closer
CALIBRATE = "make some for this one with `physai calibrate-doubt`"


def disagreement(proposal: Proposal) -> float:
    """Mean entropy (nat) of a Gaussian fitted to the drawn samples, over the steps in which the policy was free.

    Sample 0 is the mode and was not drawn. NaN with fewer than two others.
    """
    drawn = proposal.actions[1:, proposal.given :]
    count, steps, size = drawn.shape
    if count < 2 or not steps:
        return math.nan
    apart = drawn - drawn.mean(axis=0)
    covariance = np.einsum("khi,khj->hij", apart, apart) / (count - 1) + RESOLUTION_M**2 * np.eye(size)
    return float(0.5 * (np.linalg.slogdet(covariance)[1] + size * math.log(2 * math.pi * math.e)).mean())


def energy_distance(x: np.ndarray, y: np.ndarray) -> float:
    """How far apart the distributions of samples x (K, D) and y (L, D) are: 2 E|x-y| - E|x-x'| - E|y-y'|.

    It is the squared maximum mean discrepancy for the kernel -|x-y| (Sejdinovic et al. 2013), without a bandwidth to
    choose; of two single samples it is twice their distance.
    """

    def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.linalg.norm(a[:, None] - b[None], axis=-1)

    def within(a: np.ndarray) -> float:
        return float(distances(a, a).sum() / (len(a) * (len(a) - 1))) if len(a) > 1 else 0.0

    return 2 * float(distances(x, y).mean()) - within(x) - within(y)


def inconsistency(before: Proposal, after: Proposal, later_s: float) -> float:
    """Energy distance of two chunks' samples over the steps that both cover; a step counts as much in long overlaps.

    `after` is for an observation `later_s` after that of `before`. First steps that were given are left out: those of
    `after` are the old chunk's by construction. NaN where nothing overlaps. m (rad in joint space).
    """
    at = (later_s + np.arange(len(after.chosen)) * after.dt_s) / before.dt_s
    last = len(before.chosen) - 1
    both = (np.arange(len(at)) >= after.given) & (at >= before.given) & (at <= last + 1e-6)
    if not both.any() or before.space is not after.space:
        return math.nan
    low = np.clip(at[both].astype(int), 0, last - 1)
    share = (at[both] - low)[:, None]
    old = (1 - share) * before.actions[:, low] + share * before.actions[:, low + 1]
    new = after.actions[:, both]
    scale = math.sqrt(both.sum())
    return energy_distance(old.reshape(len(old), -1) / scale, new.reshape(len(new), -1) / scale)


class Surprise:
    """How unlike the demonstrations an observation is, on ONNX Runtime: about 1 for a familiar one."""

    def __init__(self, bundle: Bundle, task: Task) -> None:
        bundle.check_task(task)
        if tuple(bundle.config["features"]) != task.feature_names():
            raise BundleError(
                f"{bundle.path}: was trained on other features than this task gives; train it again"
            )
        self._clip = float(bundle.config["feature_clip"])
        self._input = bundle.input("observation")
        self._session = bundle.session()

    def __call__(self, features: np.ndarray) -> float:
        """Of features (F,); see `physai_lab.training.doubt.build_surprise`."""
        normalized = np.clip(self._input.normalize(features), -self._clip, self._clip)
        (value,) = self._session.run(["surprise"], {"observation": normalized[None]})
        return float(value[0, 0])


class Scores:
    """The four scores of one run, in the order of `SCORES`; NaN where one cannot be had."""

    def __init__(self, surprise: Surprise) -> None:
        self._surprise = surprise
        self._last: tuple[int, Proposal] | None = None
        self._best, self._best_ns = -math.inf, 0

    def look(self, observation: Observation, proposal: Proposal, progress: float) -> np.ndarray:
        """(4,) for one inference; `progress` is how far the task has come, 0..1."""
        now_ns = observation.stamp_ns
        if progress > self._best + LEAST_PROGRESS:
            self._best, self._best_ns = progress, now_ns
        values = [
            disagreement(proposal),
            math.nan if self._last is None else inconsistency(self._last[1], proposal, (now_ns - self._last[0]) / 1e9),
            self._surprise(observation.features),
            (now_ns - self._best_ns) / 1e9,
        ]  # fmt: skip
        self._last = now_ns, proposal
        return np.array(values)


@dataclass(frozen=True)
class Doubt:
    """What one inference says of whether the policy should act."""

    level: float  # 1 is where a person is asked
    reason: str  # for a person: the score that says most, its value and threshold

    @property
    def asks(self) -> bool:
        """Whether a person is asked."""
        return self.level > 1.0


class Monitor:
    """Watches one run after the other; a run is from `begin` to the next."""

    def __init__(self, surprise: Surprise, band: Band | None) -> None:
        """Without a band it notes the scores of a run and doubts nothing."""
        self._surprise, self._band = surprise, band
        self.begin()

    @staticmethod
    def open(bundle: Bundle, task: Task, policy: str) -> Monitor:
        """From a calibrated bundle; `policy` is the identity of the bundle of the policy to watch.

        Raises:
            BundleError: the bundle has no thresholds, or has them for another policy.
        """
        config = bundle.config
        if "thresholds" not in config:
            raise BundleError(f"{bundle.path}: has no thresholds yet; {CALIBRATE}")
        if config["policy"] != policy:
            raise BundleError(f"{bundle.path}: its thresholds are another policy's; {CALIBRATE}")
        if tuple(config["scores"]) != tuple(SCORES):
            raise BundleError(f"{bundle.path}: its thresholds are of other scores; {CALIBRATE}")
        return Monitor(Surprise(bundle, task), Band.from_json(config["thresholds"]))

    def begin(self) -> None:
        """A new task."""
        self._elapsed_s = 0.0
        self._moments: list[tuple[float, np.ndarray]] = []
        self.resume()
        self._aligned = True

    def resume(self) -> None:
        """Go on after a person has looked: the scores begin anew, and the time says nothing any more of what is usual."""
        self._aligned = False
        self._scores = Scores(self._surprise)
        self._last_ns: int | None = None

    def look(self, observation: Observation, proposal: Proposal, progress: float) -> Doubt:
        """Of one inference; `progress` is how far the task has come, 0..1."""
        if self._last_ns is not None:
            self._elapsed_s += (observation.stamp_ns - self._last_ns) / 1e9
        self._last_ns = observation.stamp_ns
        scores = self._scores.look(observation, proposal, progress)
        self._moments.append((self._elapsed_s, scores))
        if self._band is None:
            return Doubt(0.0, "")
        time_s = self._elapsed_s if self._aligned else None
        excess = self._band.excess(time_s, scores)
        most = int(np.argmax(excess))
        name, unit = list(SCORES.items())[most]
        threshold = self._band.thresholds(time_s)[most]
        return Doubt(
            float(excess[most]), f"{name} {scores[most]:.3g} is above {threshold:.3g}{unit and ' '}{unit}"
        )

    @property
    def run(self) -> Run:
        """What was scored since the task began."""
        return Run(
            np.array([at for at, _ in self._moments]), np.array([scores for _, scores in self._moments])
        )
