"""Imported policies whose statistics cannot be this robot's: other units, other robots. Good ones are not doubted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lerobot_files
import numpy as np
import pytest

from physai_base.embodiment import Embodiment
from physai_base.tensor import TensorSpec
from physai_lab import cli
from physai_lab.importing.plausible import doubts
from physai_policy.mapped import ModelMapping

STATE = "observation.state"
GRIPPER = {"closed": 0.0, "open": 1.0, "width_m": 0.08}


def found(
    robot: Embodiment, state: np.ndarray, action: np.ndarray, values: list[str], **actions: Any
) -> list[str]:
    """Doubts about a policy whose state and action lay between two rows (2, D)."""
    document = {
        "observation": {STATE: {"values": values}},
        "actions": {"space": "joint_position", "dt_s": 0.1, "horizon": 4, **actions},
        "gripper": GRIPPER,
    }
    specs = [
        TensorSpec(
            name, ("batch", rows.shape[1]), "?", mean=tuple(rows.mean(0)), std=tuple(np.ptp(rows, 0) / 2)
        )
        for name, rows in ((STATE, state), ("action", action))
    ]
    return doubts(ModelMapping.parse(document, robot), specs[:1], specs[1], robot)


def ends(robot: Embodiment, turn: float = 1.0, hand: tuple[float, float] = (0.0, 0.08)) -> np.ndarray:
    """From limit to limit (2, 8); the hand last."""
    low = [turn * joint.position_min for joint in robot.joints]
    high = [turn * joint.position_max for joint in robot.joints]
    return np.column_stack([np.array([low, high]), hand])


def test_data_over_the_whole_range_of_the_robot_are_not_doubted(embodiment: Embodiment) -> None:
    state, action = ends(embodiment), ends(embodiment, hand=(0, 1))
    assert found(embodiment, state, action, ["joints", "gripper_width"]) == []
    in_degrees = ends(embodiment, 180 / np.pi, (0, 1))
    scale = [np.pi / 180] * 7
    assert found(embodiment, in_degrees, in_degrees, ["joints_degrees", "gripper"], scale=scale) == []


@pytest.mark.parametrize(
    ("turn", "hand", "values", "names"),
    [
        (180 / np.pi, (0.0, 0.08), ["joints", "gripper_width"], ["fr3_joint1", "fr3_joint1"]),
        (1.0, (0.0, 100.0), ["joints", "gripper_width"], ["width in m: 0 to 100", "the gripper: 0 to 100"]),
        (1.0, (0.0, 100.0), ["joints", "gripper"], ["the gripper: 0 to 100"] * 2),
        (
            180 / np.pi,
            (0.0, 1.0),
            ["joints_degrees", "gripper"],
            ["fr3_joint1"],
        ),  # the action's scale is missing
    ],
)
def test_degrees_and_per_cent_are_doubted(
    turn: float, hand: tuple[float, float], values: list[str], names: list[str], embodiment: Embodiment
) -> None:
    data = ends(embodiment, turn, hand)
    texts = found(embodiment, data, data, values)
    assert len(texts) == len(names) and all(name in text for name, text in zip(names, texts, strict=True))


def test_offsets_are_not_compared_with_limits(embodiment: Embodiment) -> None:
    small = ends(embodiment, 1e-3, (0, 1))
    assert found(embodiment, ends(embodiment), small, ["joints", "gripper_width"], relative="step") == []


@pytest.mark.parametrize(("turn", "warned"), [(1.0, False), (180 / np.pi, True)])
def test_the_command_warns_of_statistics_in_degrees(
    turn: float, warned: bool, embodiment: Embodiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = lerobot_files.recipe("act_state")
    statistics = {"mean": [*(turn * embodiment.home), 0.04], "std": [turn * 0.05] * 7 + [0.01]}
    for content in document["files"].values():
        for key in [k for k in content if k.startswith((STATE, "action"))]:
            content[key] = statistics.get(key.rpartition(".")[2], content[key])
    checkpoint = lerobot_files.write_checkpoint(document, tmp_path / "checkpoint")
    (tmp_path / "map.yaml").write_text(json.dumps(document["map"]))
    arguments = ["--map", str(tmp_path / "map.yaml"), "--out", str(tmp_path / "bundle")]
    assert cli.main(["import", "lerobot", str(checkpoint), *arguments]) == 0
    assert ("joints_degrees and scale" in capsys.readouterr().err) is warned
