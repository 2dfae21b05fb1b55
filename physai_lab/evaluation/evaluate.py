"""`physai eval`: many randomized episodes in process, as fast as possible, with an honest interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from physai_base.bundle import Bundle
from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.expert import Goal
from physai_base.task import Task
from physai_lab.evaluation.cell import LATENCY_S, Cell, EpisodeResult
from physai_lab.pool import work_on
from physai_lab.report import Report, gif, histogram, new_run_folder
from physai_lab.statistics import quantiles, wilson_interval
from physai_policy.agent import AgentSettings
from physai_policy.doubt import Monitor
from physai_policy.language import InstructionGrounder
from physai_policy.loading import load_policy
from physai_policy.policy import Policy, cameras_of, space_of
from physai_policy.reach import check_reach
from physai_world_model.judge import Judge
from physai_world_model.model import WorldModel


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
    beyond: tuple[str, ...] = ()  # in which ways cells leave what training saw; see `physai_sim.beyond`
    sight: str = "camera"  # whose scenes: perception's, or with "truth" noisy ones from the simulator's state


def learned_parts(
    embodiment: Embodiment, task: Task, what: Evaluation
) -> tuple[Policy, Monitor | None, InstructionGrounder, Judge | None]:
    """All that comes out of bundles.

    Raises:
        BundleError: one is damaged, computes something else, or is for another robot or task.
    """
    policy, monitor, judge = load_policy(what.policy, embodiment, task), None, None
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
            embodiment, task, sight=what.sight, render=bool(cameras_of(self.policy)), beyond=what.beyond
        )

    def run(self, index: int) -> EpisodeResult:
        """Episode number `index`."""
        seed = self.what.seed * 10_000 + index
        self.cell.randomize(seed, self.what.randomize)
        text, meant = self.cell.task.asked(index, self.cell.situation())
        grounding = self.grounder.ground(text)
        if not grounding.accepted or grounding.target is None or grounding.destination is None:
            return EpisodeResult(text, meant, seed, False, "instruction_refused", 0.0, 0)
        goal = Goal(grounding.target, grounding.destination)
        handover = "on" if self.monitor is not None else "off"
        settings = AgentSettings(timeout_s=self.what.timeout_s, handover=handover)
        keep = 10 if index < 6 and self.what.sight == "camera" else 0
        result = self.cell.run(
            self.policy,
            goal,
            text,
            seed,
            self.judge,
            settings,
            keep_frames_every=keep,
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
    if what.episodes < 1:
        raise PhysaiError(f"--episodes must be at least 1, got {what.episodes}")
    # Bad bundles are found here, with one error, before any worker starts.
    learned_parts(embodiment, task, what)
    folder = new_run_folder(runs)
    results: list[EpisodeResult] = []
    for result in work_on(range(what.episodes), _run, workers, _start, (embodiment, task, what)):
        results.append(result)
        if progress:
            good = sum(r.success for r in results)
            progress(len(results), what.episodes, f"{good}/{len(results)} succeeded")
    return results, folder


def summary_line(results: list[EpisodeResult]) -> str:
    """Success with its 95 % Wilson interval, and how often the target was at least picked."""

    def share(good: int) -> str:
        low, high = wilson_interval(good, len(results))
        return f"{good / len(results):.1%} (95 % Wilson interval {low:.1%} to {high:.1%})"

    good, picked = sum(result.success for result in results), sum(result.picked for result in results)
    return f"{good}/{len(results)} succeeded, {share(good)}; {picked} picked the target, {share(picked)}"


def write_report(results: list[EpisodeResult], what: Evaluation, folder: Path) -> Path:
    """report.json and report.html of an evaluation."""
    causes = Counter(result.failure.split(" (")[0] for result in results if not result.success)
    vetoes: Counter[str] = Counter()
    rejections: Counter[str] = Counter()
    for result in results:
        vetoes.update(result.vetoes)
        rejections.update(result.rejections)
    errors = [error for result in results for error in result.pose_error_mm]
    durations = [result.duration_s for result in results if result.success]
    report = Report(f"physai eval: {what.policy}", summary_line(results))
    report.data = {
        "settings": vars(what),
        "successes": sum(r.success for r in results),
        "picked": sum(r.picked for r in results),
        "episodes": len(results),
        "wilson_95": wilson_interval(sum(r.success for r in results), len(results)),
        "failure_causes": dict(causes),
        "vetoes": dict(vetoes),
        "rejected_chunks": dict(rejections),
        "duration_s": quantiles(durations),
        "target_pose_error_mm": quantiles(errors),
        "results": [
            {
                key: value
                for key, value in vars(result).items()
                if key not in ("frames", "pose_error_mm", "goal")
            }
            for result in results
        ],
    }
    report.heading("Failure causes")
    report.table(
        [{"cause": cause, "episodes": count} for cause, count in causes.most_common()]
        or [{"cause": "none", "episodes": 0}]
    )
    report.heading("Vetoes and refused chunks")
    report.table(
        [{"what": name, "chunks": count} for name, count in (vetoes + rejections).most_common()]
        or [{"what": "none", "chunks": 0}]
    )
    report.heading("Distributions")
    report.figure(
        histogram({"time to success": durations, "pose error of the target": errors}, "s / mm"),
        "Successful episodes; perception against the simulator's truth",
    )
    report.heading("Episodes")
    report.pictures(
        [
            (gif([f.rgb for f in r.frames], 200), f"{r.instruction}: {r.failure or 'done'}")
            for r in results
            if r.frames
        ]
    )
    report.table(
        [
            {"seed": r.seed, "instruction": r.instruction, "success": r.success, "picked": r.picked, "failure": r.failure, "s": round(r.duration_s, 1), "chunks": r.chunks, "vetoes": sum(r.vetoes.values())}
            for r in results
        ]
    )  # fmt: skip
    return report.write(folder)
