"""docs/howto/example_policy.py: a model of one's own becomes a bundle that moves the arm."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from paths import ROOT

from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.expert import Goal
from physai_base.task import Task
from physai_lab.evaluation.cell import Cell
from physai_lab.training.export import export_module
from physai_policy.agent import AgentSettings
from physai_policy.loading import load_policy

pytestmark = pytest.mark.slow

EXAMPLE = ROOT / "docs/howto/example_policy.py"


def test_the_example_brings_the_hand_above_the_cup(
    embodiment: Embodiment, task: Task, tmp_path: Path
) -> None:
    subprocess.run([sys.executable, str(EXAMPLE), str(tmp_path / "own")], check=True)
    policy = load_policy(tmp_path / "own", embodiment, task)
    cell = Cell(embodiment, task, sight="truth")
    try:
        cell.randomize(5, ("poses",))
        result = cell.run(policy, Goal("red_cup", "top_shelf"), "", 5, settings=AgentSettings(timeout_s=6.0))
        hand = cell.scene.data.site(embodiment.tool_frame).xpos
        assert result.failure == "target_not_moved (not done within 6 s)"  # it only goes there
        assert hand - cell.scene.position("red_cup") == pytest.approx(np.array([0, 0, 0.15]), abs=0.003)
        assert cell.core.status().chunks_rejected == 0
    finally:
        cell.close()


def test_a_module_that_gives_another_shape_is_refused(tmp_path: Path) -> None:
    mapping = {"observation": {"tool": {"values": ["tool"]}}, "actions": {"dt_s": 0.05, "horizon": 8}}
    shapes = {"tool": (3,)}
    with pytest.raises(PhysaiError, match=r"gives \(1, 3\), expected \(1, 8, D\)"):
        export_module(
            torch.nn.Identity(), tmp_path, shapes, mapping, robot="fr3", licence="-", training_data="-"
        )
    assert not list(tmp_path.iterdir())
