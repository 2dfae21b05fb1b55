"""A second task without a reset, as `physai do` twice: the arm begins where the first one left it, and a cup stands on a board.

In process, from the simulator's truth as noisily as perception has it, at several delays from image to controller.

python test/bench/bench_second_task.py --seeds 6
"""

from __future__ import annotations

import argparse

from physai_base.embodiment import Embodiment
from physai_base.expert import Goal
from physai_base.task import Task
from physai_lab.evaluation.cell import Cell
from physai_lab.statistics import wilson_interval
from physai_policy.loading import load_policy

GOALS = (Goal("red_cup", "top_shelf"), Goal("blue_cup", "bottom_shelf"))
DELAYS_S = (0.08, 0.2, 0.35)


def main() -> None:
    """Print the share of first and of second tasks that were done, with 95 % Wilson intervals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=6, help="cells for each delay")
    options = parser.parse_args()
    embodiment, task = Embodiment.load("fr3"), Task.load("cups")
    policy, cell = load_policy("policy", embodiment, task), Cell(embodiment, task, sight="truth")
    for delay_s in DELAYS_S:
        done = [0, 0]
        for seed in range(options.seeds):
            cell.randomize(seed, ("poses",))
            for number, goal in enumerate(GOALS):
                result = cell.run(policy, goal, "", seed, latency_s=delay_s)
                done[number] += result.success
                if not result.success:
                    print(f"  {delay_s:g} s, seed {seed}, task {number + 1}: {result.failure}")
        for name, count in zip(("first", "second"), done, strict=True):
            low, high = wilson_interval(count, options.seeds)
            print(f"{delay_s:g} s {name}: {count} of {options.seeds} ({low:.0%} to {high:.0%})", flush=True)
    cell.close()


if __name__ == "__main__":
    main()
