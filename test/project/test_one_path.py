"""What the policy sees is the same live (messages), from a recording and from simulation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scenes import features_of, make_scene

from physai_base.embodiment import Embodiment
from physai_base.expert import Goal
from physai_base.kinematics import ArmKinematics
from physai_base.task import Task
from physai_lab.data.dataset import DatasetWriter, Episode, read_episodes
from physai_lab.data.demos import columns_of
from physai_lab.evaluation.cell import Moment
from physai_lab.training.policy import scene_of
from physai_ros import conversions

pytestmark = pytest.mark.ros
GOAL = Goal("blue_cup", "bottom_shelf")


def test_live_recorded_and_simulated_inputs_are_equal(
    tmp_path: Path, embodiment: Embodiment, task: Task, kinematics: ArmKinematics
) -> None:
    rng = np.random.default_rng(4)
    scenes = []
    for i in range(20):
        scene = make_scene(
            embodiment, task, tuple(rng.uniform([0.35, -0.3, 0.1], [0.6, 0.3, 0.4])), i * 50_000_000,
            rng.uniform(0, 0.08), blue_cup=tuple(rng.uniform([0.4, -0.3, 0], [0.6, 0, 0.2])),
        )  # fmt: skip
        scene.joint_velocity[:] = rng.normal(0, 0.3, 7)
        scenes.append(scene)
    simulated = [features_of(scene, GOAL, task, kinematics) for scene in scenes]

    messages = [conversions.scene_to_msg(scene, embodiment) for scene in scenes]
    live = [features_of(conversions.scene_from_msg(message), GOAL, task, kinematics) for message in messages]

    moments = [Moment(scene, GOAL, embodiment.home, 0.08, np.zeros(6)) for scene in scenes]
    writer = DatasetWriter(tmp_path / "set", embodiment, task, fps=20)
    writer.add(Episode("t", True, "expert", columns_of(moments, [np.zeros((16, 4))] * 20, task, kinematics)))
    writer.close()
    (episode,) = read_episodes(tmp_path / "set")
    recorded = [features_of(scene_of(episode, i, task), GOAL, task, kinematics) for i in range(20)]

    np.testing.assert_array_equal(live, simulated)
    np.testing.assert_allclose(
        recorded, simulated, rtol=0, atol=1e-5
    )  # recordings are float32; the fine features magnify
