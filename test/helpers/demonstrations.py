"""A task's expert at work in the cell."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.task import Task
from physai_lab.data.demos import ExpertPolicy, goal_of
from physai_lab.evaluation.cell import Cell, EpisodeResult
from physai_policy.agent import AgentSettings
from physai_sim.scene import RANDOMIZABLE


def demonstrate(task: Task, embodiment: Embodiment, seeds: Iterable[int]) -> list[EpisodeResult]:
    """One random cell for each seed, goals in turn, nothing spoiled."""
    cell, results = Cell(embodiment, task, sight="truth"), []
    for seed in seeds:
        cell.randomize(seed, RANDOMIZABLE)
        goal = goal_of(seed, task, cell.situation())
        policy = ExpertPolicy(cell, task.expert(embodiment), goal, np.random.default_rng(seed), noise_m=0.0)
        settings = AgentSettings(timeout_s=30.0, settle_s=0.8)
        results.append(cell.run(policy, goal, task.order(goal), seed, settings=settings))
    cell.close()
    return results
