"""`physai eval`: many randomized episodes in process, as fast as possible, with an honest interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from physai_base.bundle import Bundle
from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.expert import Goal
from physai_base.task import Task
from physai_lab.data.demos import ExpertPolicy
from physai_lab.evaluation.cell import LATENCY_S, Cell, EpisodeResult
from physai_lab.pool import work_on
from physai_lab.report import new_run_folder
from physai_policy.agent import AgentSettings
from physai_policy.doubt import Monitor
from physai_policy.language import InstructionGrounder
from physai_policy.loading import load_policy
from physai_policy.policy import Policy, cameras_of, space_of
from physai_policy.reach import check_reach
from physai_world_model.judge import Judge
from physai_world_model.model import WorldModel

CLIPS = 6  # in a report, at most
FILM_EVERY = 6  # images
EXPERT = "expert"  # in place of a bundle: the task's scripted teacher, with what perception believes
SEEDS = 10_000  # of cells, for each seed of an evaluation


@dataclass(frozen=True)
class Evaluation:
    """What to evaluate."""

    episodes: int
    randomize: tuple[str, ...]
    policy: str
    world_model: str  # "off" | "monitor" | "veto"
    world_model_bundle: str
    seed: int = 0
    timeout_s: float = 30.0
    latency_s: float = LATENCY_S
    doubt: str = ""  # bundle by which the policy asks for a person; none: it never does
    only: tuple[int, ...] = ()  # numbers of the episodes, instead of the first `episodes`
    beyond: tuple[str, ...] = ()  # in which ways cells leave what training saw; see `physai_sim.beyond`
    sight: str = "camera"  # whose scenes: perception's, or with "truth" noisy ones from the simulator's state


def learned_parts(
    embodiment: Embodiment, task: Task, what: Evaluation
) -> tuple[Policy | None, Monitor | None, InstructionGrounder, Judge | None]:
    """All that comes out of bundles; no policy where the expert takes its place.

    Raises:
        BundleError: one is damaged, computes something else, or is for another robot or task.
    """
    policy, monitor, judge = None, None, None
    if what.policy != EXPERT:
        policy = load_policy(what.policy, embodiment, task)
        check_reach(policy.name, space_of(policy), embodiment, task)
    if what.doubt:
        bundle = Bundle.open(what.doubt, kind="doubt", robot=embodiment, task=task)
        monitor = Monitor.open(bundle, task, getattr(policy, "digest", ""))
    grounder = InstructionGrounder(task)
    if what.world_model == "veto":
        bundle = Bundle.open(what.world_model_bundle, kind="world_model", robot=embodiment, task=task)
        judge = Judge(embodiment, task, WorldModel(bundle, task))
    return policy, monitor, grounder, judge


class Evaluator:
    """One cell with the learned parts."""

    def __init__(self, embodiment: Embodiment, task: Task, what: Evaluation) -> None:
        self.what = what
        self.policy, self.monitor, self.grounder, self.judge = learned_parts(embodiment, task, what)
        self.cell = Cell(
            embodiment,
            task,
            sight=what.sight,
            render=self.policy is not None and bool(cameras_of(self.policy)),
            beyond=what.beyond,
        )

    def run(self, index: int) -> EpisodeResult:
        """Episode number `index`."""
        seed = self.what.seed * SEEDS + index
        self.cell.randomize(seed, self.what.randomize)
        text, meant = self.cell.task.asked(index, self.cell.situation())
        grounding = self.grounder.ground(text)
        if not grounding.accepted or grounding.target is None or grounding.destination is None:
            return EpisodeResult(text, meant, seed, False, "instruction_refused", 0.0, 0)
        goal = Goal(grounding.target, grounding.destination)
        handover = "on" if self.monitor is not None else "off"
        settings = AgentSettings(timeout_s=self.what.timeout_s, handover=handover)
        policy = self.policy or ExpertPolicy(
            self.cell,
            self.cell.task.expert(self.cell.embodiment),
            goal,
            np.random.default_rng(seed),
            noise_m=0.0,
            perceiving=True,
        )
        result = self.cell.run(
            policy,
            goal,
            text,
            seed,
            self.judge,
            settings,
            film_every=FILM_EVERY,
            latency_s=self.what.latency_s,
            monitor=self.monitor,
        )
        if goal != meant:
            result.success, result.failure = False, "instruction_misunderstood"
        return result


_evaluator: Evaluator | None = None


def _start(embodiment: Embodiment, task: Task, what: Evaluation) -> None:
    global _evaluator
    _evaluator = Evaluator(embodiment, task, what)


def _run(index: int) -> EpisodeResult:
    assert _evaluator is not None
    return _evaluator.run(index)


def evaluate(
    embodiment: Embodiment,
    task: Task,
    what: Evaluation,
    workers: int,
    runs: Path,
    progress: Callable[[int, int, str], None] | None = None,
) -> tuple[list[EpisodeResult], Path]:
    """Run the episodes on `workers` processes; returns them and a new folder for their report."""
    numbers = what.only or range(what.episodes)
    if not numbers:
        raise PhysaiError(f"--episodes must be at least 1, got {what.episodes}")
    # Bad bundles are found here, with one error, before any worker starts.
    learned_parts(embodiment, task, what)
    folder = new_run_folder(runs)
    results: list[EpisodeResult] = []
    for result in work_on(numbers, _run, workers, _start, (embodiment, task, what)):
        results.append(result)
        good = sum(r.success for r in results)
        if (good if result.success else len(results) - good) > CLIPS:
            result.film = None
        if progress:
            progress(len(results), len(numbers), f"{good}/{len(results)} succeeded")
    return results, folder
