"""One short episode in closed loop: images, perception, policy, world model, the C core and physics, in process."""

from __future__ import annotations

import numpy as np
import pytest

from physai_base.embodiment import Embodiment
from physai_base.task import Task
from physai_lab.evaluation.evaluate import Evaluation, Evaluator
from physai_sim.scene import RANDOMIZABLE
from physai_tasks.cups.words import INSTRUCTIONS

pytestmark = pytest.mark.slow


def test_a_cup_gets_onto_the_shelf(embodiment: Embodiment, task: Task) -> None:
    what = Evaluation(1, RANDOMIZABLE, "policy", "veto", "world_model", seed=3)
    evaluator = Evaluator(embodiment, task, what)
    try:
        result = evaluator.run(0)
        core = evaluator.cell.core.status()
    finally:
        evaluator.cell.close()
    assert result.instruction == INSTRUCTIONS[0][0]
    assert result.success, (result.failure, result.vetoes, result.rejections)
    assert 2.0 < result.duration_s < 30.0
    assert result.chunks > 5
    assert np.median(result.pose_error_mm) < 5.0
    assert core.chunks_accepted > 5
