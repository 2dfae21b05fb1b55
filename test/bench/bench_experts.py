"""How often the scripted experts do their tasks in random cells: what demonstrations are made of.

    python test/bench/bench_experts.py [--tasks stack,wipe] [--episodes 60] [--first 2000000]

They plan from the simulator's state, and what ends a task is perception's noise on it. Two of three are led astray, as in
demonstrations. Beside success and causes stands what pushes the arm, by the simulator's contacts and as the controller observes it:
the most in any episode, and the mean of what is above 1 N; so what a policy has to be compared with is in one place.
"""

from __future__ import annotations

import argparse

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.task import Task
from physai_lab.data.demos import LATENCY_RANGE_S, ExpertPolicy, goal_of
from physai_lab.evaluation.cell import Cell, EpisodeResult
from physai_lab.evaluation.report import causes
from physai_lab.evaluation.touch import forces, said
from physai_lab.pool import work_on
from physai_lab.report import host
from physai_lab.statistics import wilson_interval
from physai_policy.agent import AgentSettings
from physai_sim.scene import RANDOMIZABLE

TASKS = "cups,push,stack,insert,wipe,drawer"
_cell: Cell | None = None


def start(robot: str, task: str) -> None:
    """Of a worker."""
    global _cell
    _cell = Cell(Embodiment.load(robot), Task.load(task), sight="truth")


def run(job: tuple[int, int]) -> EpisodeResult:
    """One episode."""
    assert _cell is not None
    cell, (index, seed) = _cell, job
    cell.randomize(seed, RANDOMIZABLE)
    rng, task = np.random.default_rng([seed, 7]), cell.task
    goal, expert = goal_of(index, task, cell.situation()), task.expert(cell.embodiment)
    policy = ExpertPolicy(cell, expert, goal, rng, noise_m=expert.disturbed_m if index % 3 else 0.0)

    return cell.run(
        policy, goal, task.order(goal), seed, settings=AgentSettings(timeout_s=30.0, settle_s=0.8),
        latency_s=rng.uniform(*LATENCY_RANGE_S),
    )  # fmt: skip


def main() -> None:
    """Prints the table as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--robot", default="fr3")
    parser.add_argument("--tasks", default=TASKS, help="by commas")
    parser.add_argument("--episodes", type=int, default=60)
    parser.add_argument("--first", type=int, default=2_000_000, help="seed")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    print(
        f"{host()}\n\n| task | succeeded | s, median | N, most | N, mean | felt, most | felt, mean | stops | causes |\n"
        "|---|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    jobs = [(index, options.first + index) for index in range(options.episodes)]
    robot = Embodiment.load(options.robot)
    for task in options.tasks.split(","):
        runs = list(work_on(jobs, run, options.workers, start, (options.robot, task)))
        good = sum(result.success for result in runs)
        low, high = wilson_interval(good, len(runs))
        touched = forces([result.touch for result in runs], robot, Task.load(task))
        failed = ", ".join(f"{cause} {count}" for cause, count, _, _ in causes(runs))
        print(
            f"| {task} | {good} of {len(runs)} ({low:.0%} to {high:.0%}) | {np.median([r.duration_s for r in runs]):.1f} "
            f"| {touched['peak']:.0f} | {touched['mean']:.1f} | {touched['felt_peak']:.0f} | {touched['felt_mean']:.1f} "
            f"| {sum(bool(r.stop) for r in runs)} | {failed or 'none'} |",
            flush=True,
        )
        print(f"<!-- {said(touched)}; felt is off by {touched['felt_error_rms']:.1f} N rms -->", flush=True)


if __name__ == "__main__":
    main()
