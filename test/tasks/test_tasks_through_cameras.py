"""What a task needs to be seen of it is seen through the robot's cameras, until it is noticed that it is done."""

from __future__ import annotations

import numpy as np
import pytest

from physai_base.embodiment import Embodiment
from physai_base.task import Task
from physai_lab.data.demos import ExpertPolicy
from physai_lab.evaluation.cell import Cell
from physai_policy.agent import AgentSettings
from physai_sim.scene import RANDOMIZABLE

TIMEOUT_S = 25.0


@pytest.mark.parametrize(
    "name, seed",
    [
        ("push", 40000100), ("stack", 40000100), ("insert", 40000101), ("wipe", 40000100), ("drawer", 40000100),
    ],
)  # fmt: skip
def test_what_is_done_is_seen_to_be_done(
    name: str, seed: int, embodiment: Embodiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Cell, "situation_as_seen")  # the truth is not for who perceives
    task = Task.load(name)
    cell = Cell(embodiment, task)
    cell.randomize(seed, RANDOMIZABLE)
    text, goal = task.asked(seed % 100, cell.situation())
    policy = ExpertPolicy(cell, task.expert(embodiment), goal, np.random.default_rng(0), 0.0, perceiving=True)
    result = cell.run(policy, goal, text, seed, settings=AgentSettings(timeout_s=TIMEOUT_S))
    cell.close()
    assert result.success, result.failure
    assert result.duration_s < TIMEOUT_S  # the agent ended it: perception told
