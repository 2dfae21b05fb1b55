"""A task's expert at work in the cell, nothing spoiled."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.task import Task
from physai_lab.data.demos import ExpertPolicy, goal_of
from physai_lab.evaluation.cell import Cell, EpisodeResult
from physai_policy.agent import AgentSettings
from physai_sim.scene import RANDOMIZABLE

TIMEOUT_S = 30.0


def demonstrate(task: Task, embodiment: Embodiment, seeds: Iterable[int]) -> list[EpisodeResult]:
    """One random cell for each seed, goals in turn."""
    cell, results = Cell(embodiment, task, sight="truth"), []
    try:
        for seed in seeds:
            cell.randomize(seed, RANDOMIZABLE)
            goal = goal_of(seed, task, cell.situation())
            rng = np.random.default_rng(seed)
            expert = ExpertPolicy(cell, task.expert(embodiment), goal, rng, noise_m=0.0)
            settings = AgentSettings(timeout_s=TIMEOUT_S, settle_s=0.8)
            results.append(cell.run(expert, goal, task.order(goal), seed, settings=settings))
    finally:
        cell.close()
    return results
