"""How often the scripted experts do their tasks in random cells: what demonstrations are made of.

    python test/bench/bench_experts.py [--tasks stack,wipe] [--episodes 60] [--first 2000000]

They plan from the simulator's state, and what ends a task is perception's noise on it. Two of three are led astray, as in
demonstrations. Beside success and causes stands what pushes the tool, as the controller observes it: the most, and the mean of what
is above 1 N; so what a policy has to be compared with is in one place.
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.task import Task
from physai_lab.data.demos import LATENCY_RANGE_S, ExpertPolicy, goal_of
from physai_lab.evaluation.cell import Cell, Moment
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


def run(job: tuple[int, int]) -> tuple[str, float, list[float]]:
    """Why it failed (empty: it did not), s, and N at every image."""
    assert _cell is not None
    cell, (index, seed) = _cell, job
    cell.randomize(seed, RANDOMIZABLE)
    rng, task, felt = np.random.default_rng([seed, 7]), cell.task, []
    goal, expert = goal_of(index, task, cell.situation()), task.expert(cell.embodiment)
    policy = ExpertPolicy(cell, expert, goal, rng, noise_m=expert.disturbed_m if index % 3 else 0.0)

    def record(moment: Moment) -> None:
        felt.append(float(np.linalg.norm(moment.wrench[:3])))

    result = cell.run(
        policy, goal, task.order(goal), seed, settings=AgentSettings(timeout_s=30.0, settle_s=0.8), record=record,
        latency_s=rng.uniform(*LATENCY_RANGE_S),
    )  # fmt: skip
    return result.failure.split(" (")[0], result.duration_s, felt


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
        f"{host()}\n\n| task | succeeded | s, median | N, most | N, mean | causes |\n|---|---|---|---|---|---|",
        flush=True,
    )
    jobs = [(index, options.first + index) for index in range(options.episodes)]
    for task in options.tasks.split(","):
        runs = list(work_on(jobs, run, options.workers, start, (options.robot, task)))
        good = sum(not failure for failure, _, _ in runs)
        low, high = wilson_interval(good, len(runs))
        felt = np.concatenate([values for _, _, values in runs])
        causes = ", ".join(
            f"{cause} {count}" for cause, count in Counter(f for f, _, _ in runs if f).most_common()
        )
        print(
            f"| {task} | {good} of {len(runs)} ({low:.0%} to {high:.0%}) | {np.median([s for _, s, _ in runs]):.1f} "
            f"| {felt.max():.0f} | {felt[felt > 1].mean():.1f} | {causes or 'none'} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
