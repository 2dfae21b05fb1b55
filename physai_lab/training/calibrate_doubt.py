"""`physai calibrate-doubt`: the thresholds above which a policy asks for a person, from its own successful runs in the cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from physai_base.bundle import Bundle, rewrite_bundle
from physai_base.embodiment import Embodiment
from physai_base.task import Task
from physai_lab.data.demos import LATENCY_RANGE_S, driven, goal_of
from physai_lab.evaluation.cell import Cell
from physai_policy.agent import AgentSettings
from physai_policy.conformal import Run, calibrate, check_enough
from physai_policy.doubt import SCORES, Monitor, Surprise
from physai_policy.flow_policy import FlowPolicy
from physai_sim.disturbance import DISTURBANCES

FIRST_SEED = 800_000  # neither evaluation's nor the benchmarks' nor the demonstrations'
PARTS = ("poses", "masses", "friction")
TIMEOUT_S = 20.0
GOALS = 6  # after which `goal_of` begins anew


@dataclass(frozen=True)
class DoubtCalibration:
    """What to calibrate on."""

    runs: int = 200  # to try; failures are left out
    share: float = 0.02  # of runs like these may cross a threshold
    seed: int = 0


def disturbance_of(index: int) -> str:
    """What happens to the objects in a run: at rest, moving and pushed in turn, as the demonstrations have them."""
    return DISTURBANCES[index // GOALS % len(DISTURBANCES)]


def latency_of(seed: int) -> float:
    """s from image to controller in a run, from a fast machine to a loaded one, as in the demonstrations."""
    return float(np.random.default_rng([seed, 7]).uniform(*LATENCY_RANGE_S))


def successful_runs(
    cell: Cell,
    policy: FlowPolicy,
    surprise: Surprise,
    what: DoubtCalibration,
    progress: Callable[[int, int, str], None] | None,
) -> list[Run]:
    """What the scores are while the policy does its task, with every object, place and disturbance in turn."""
    runs = []
    for index in range(what.runs):
        seed = FIRST_SEED + 10_000 * what.seed + index
        cell.randomize(seed, PARTS)
        goal = goal_of(index, cell.task, cell.situation())
        cell.disturb(driven(cell.task, goal), disturbance_of(index), seed)
        monitor = Monitor(surprise, None)
        settings = AgentSettings(timeout_s=TIMEOUT_S)
        result = cell.run(
            policy, goal, "", seed, settings=settings, monitor=monitor, latency_s=latency_of(seed)
        )
        if result.success:
            runs.append(monitor.run)
        if progress:
            progress(index + 1, what.runs, f"{len(runs)} successful")
    return runs


def calibrate_doubt(
    path: Path,
    policy_name: str,
    embodiment: Embodiment,
    task: Task,
    what: DoubtCalibration,
    progress: Callable[[int, int, str], None] | None = None,
) -> Bundle:
    """Put the thresholds for that policy into the bundle at `path`.

    Raises:
        PhysaiError: too few runs succeeded for that share.
    """
    check_enough(what.runs, what.share)  # before the time is spent
    bundle = Bundle.open(path, kind="doubt", robot=embodiment, task=task)
    policy_bundle = Bundle.open(policy_name, kind="policy", robot=embodiment, task=task)
    policy = FlowPolicy(policy_bundle, task)
    cell = Cell(embodiment, task, sight="truth")
    try:
        runs = successful_runs(cell, policy, Surprise(bundle, task), what, progress)
    finally:
        cell.close()
    return with_thresholds(bundle, policy_bundle.identity, runs, what)


def with_thresholds(bundle: Bundle, policy: str, runs: Sequence[Run], what: DoubtCalibration) -> Bundle:
    """Put the thresholds of those successful runs of the policy with identity `policy` into a bundle.

    Raises:
        PhysaiError: they are too few.
    """
    thresholds = calibrate(runs, what.share).as_json()
    return rewrite_bundle(
        bundle,
        bundle.path,
        config={**bundle.config, "scores": list(SCORES), "policy": policy, "thresholds": thresholds},
        metrics={**bundle.metrics, "calibration_runs": len(runs), "calibration_tried": what.runs},
    )
