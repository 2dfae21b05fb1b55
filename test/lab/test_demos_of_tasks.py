"""Every task's demonstrations can be recorded, read and learned from; seen by truth, in few and short episodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from physai_base.embodiment import Embodiment
from physai_base.task import Task
from physai_lab.data.dataset import DatasetError, read_episodes
from physai_lab.data.demos import make_demos
from physai_lab.training.export import PARITY, export_policy
from physai_lab.training.policy import PolicyTraining, goal_at, load_samples, train_policy
from physai_policy.loading import load_policy
from physai_policy.policy import Observation, space_of


@pytest.mark.parametrize("name", ["push", "stack", "insert", "wipe", "drawer"])
def test_demonstrations_of_a_task_make_a_policy(name: str, tmp_path: Path, embodiment: Embodiment) -> None:
    task, columns = Task.load(name), len(Task.load(name).action)
    kept = make_demos(tmp_path / "set", embodiment, task, 5, 2, sight="truth")
    assert kept["expert"] >= 2 and kept["play"] == 1
    episodes = list(read_episodes(tmp_path / "set"))
    for episode in episodes:
        assert goal_at(episode, 0, task) in task.goals
        assert episode.columns["action"].shape[1] == columns
        assert np.isfinite(episode.columns["observation.wrench"]).all()
    samples = load_samples(tmp_path / "set", embodiment, task)
    assert samples.observations.shape[1] == len(task.feature_names()) == len(set(task.feature_names()))
    settings = PolicyTraining(steps=3, width=32, blocks=1)
    train_policy(tmp_path / "set", tmp_path / "policy", embodiment, task, settings)
    assert export_policy(tmp_path / "policy", tmp_path / "bundle", embodiment, task) < PARITY
    policy = load_policy(str(tmp_path / "bundle"), embodiment, task)
    tool = samples.tool[0]
    observation = Observation(
        0, samples.observations[0], tool[:3], tool_yaw=float(tool[3]) if columns == 5 else 0.0
    )
    chunk = policy.infer(observation)
    assert chunk.chosen.shape == (16, columns) and chunk.space is space_of(policy)


def test_a_dataset_without_what_came_last_is_to_be_recorded_anew(
    tmp_path: Path, embodiment: Embodiment
) -> None:
    make_demos(tmp_path / "set", embodiment, Task.load("push"), 1, 1, sight="truth")
    info = tmp_path / "set/meta/info.json"
    info.write_text(info.read_text().replace("observation.wrench", "observation.else"))
    with pytest.raises(DatasetError, match="recorded by an older physai; record it anew"):
        list(read_episodes(tmp_path / "set"))
