"""Whole tasks from postures that the policy was never taught: `python test/bench/bench_posture.py --size 0.35 --runs 12`.

Joint angles are drawn within `size` of home. Right is: the task is done, or it is refused with a reason and without motion.
"""

from __future__ import annotations

import argparse

import numpy as np

from physai_base.bundle import Bundle
from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.task import Task
from physai_lab.evaluation.cell import Cell
from physai_policy.agent import AgentSettings
from physai_policy.loading import load_policy
from physai_tasks.cups.words import INSTRUCTIONS
from physai_world_model.judge import Judge
from physai_world_model.model import WorldModel

FIRST_SEED = 80_800
MOVED_RAD = 0.01


def main() -> None:
    """Print what came of each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=float, default=0.35, help="rad")
    parser.add_argument("--runs", type=int, default=12)
    options = parser.parse_args()
    embodiment, task = Embodiment.load("fr3"), Task.load("cups")
    policy = load_policy("policy", embodiment, task)
    cell = Cell(embodiment, task, sight="truth")
    judge = Judge(
        embodiment, task, WorldModel(Bundle.open("cups/world_model", kind="world_model", robot="fr3"), task)
    )
    low, high = embodiment.limits("position_min") + 0.02, embodiment.limits("position_max") - 0.02
    set_arm = cell.scene.set_arm
    done = refused = 0
    for k in range(options.runs):
        offset = np.random.default_rng([k, 99]).uniform(-options.size, options.size, len(embodiment.joints))
        start = np.clip(embodiment.home + offset, low, high)
        cell.scene.set_arm = lambda _, start=start: set_arm(start)  # type: ignore[assignment,method-assign]
        try:
            cell.randomize(FIRST_SEED + k, ("poses",))
        except PhysaiError as error:  # it stands in the shelf, for one
            print(f"{k}: the controller itself refuses to hold there: {error}")
            refused += 1
            continue
        text, goal = INSTRUCTIONS[k % len(INSTRUCTIONS)]
        before = cell.joint_state().position
        result = cell.run(policy, goal, text, k, judge, AgentSettings())
        moved = float(np.abs(cell.joint_state().position - before).max())
        done += result.success
        refused += not result.success and moved < MOVED_RAD
        outcome = "done" if result.success else f"{result.failure}, a joint moved by {moved:.3f} rad"
        print(
            f"{k}: {outcome} after {result.duration_s:.1f} s, {sum(result.rejections.values())} chunks rejected"
        )
    print(
        f"{done} of {options.runs} done, {refused} refused without motion, {options.runs - done - refused} wrong"
    )
    cell.close()


if __name__ == "__main__":
    main()
