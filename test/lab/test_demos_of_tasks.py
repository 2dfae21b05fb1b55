"""Every task's demonstrations can be recorded, read and learned from; seen by truth, in few and short episodes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from physai_base.bundle import Bundle
from physai_base.embodiment import Embodiment
from physai_base.errors import BundleError
from physai_base.task import Task
from physai_lab.data.dataset import DatasetError, read_episodes
from physai_lab.data.demos import ExpertPolicy, goal_of, make_demos
from physai_lab.evaluation.cell import Cell
from physai_lab.training.export import PARITY, export_policy
from physai_lab.training.policy import (
    PolicyTraining,
    goal_at,
    load_samples,
    train_policy,
    train_shared_policy,
)
from physai_policy.loading import load_policy
from physai_policy.policy import Observation, Prefix, space_of, space_of_actions
from physai_tasks.steering import MAX_ACCELERATION_M_S2

SMALL = PolicyTraining(steps=3, width=32, blocks=1)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, embodiment: Embodiment) -> Callable[[str], Path]:
    """Few demonstrations of a task."""

    @cache
    def record(name: str) -> Path:
        data = tmp_path_factory.mktemp("recorded") / name
        kept = make_demos(data, embodiment, Task.load(name), 5, 2, sight="truth")
        assert kept["expert"] >= 2 and kept["play"] == 1
        return data

    return record


@pytest.mark.parametrize("name", ["cups", "push", "stack", "insert", "wipe", "drawer"])
def test_a_teacher_goes_on_from_the_running_chunk(name: str, embodiment: Embodiment) -> None:
    task = Task.load(name)
    cell = Cell(embodiment, task, sight="truth")
    cell.randomize(1, ("poses",))
    goal = goal_of(0, task, cell.situation())
    teacher = ExpertPolicy(cell, task.expert(embodiment), goal, np.random.default_rng(0), noise_m=0.0)
    observation = Observation(cell.now_ns, np.zeros(0), cell.situation().tool_m)
    fresh = teacher.infer(observation).chosen
    running = (
        fresh + np.arange(len(fresh))[:, None] * np.eye(len(task.action))[1] * 0.005
    )  # to the left, at 10 cm/s
    chunk = teacher.infer(observation, Prefix(running, 6, len(running))).chosen
    assert chunk.shape == fresh.shape
    np.testing.assert_allclose(chunk[:6], running[:6], atol=1e-12)
    speeds = np.diff(chunk[:, :3], axis=0) / teacher.dt_s
    assert (
        np.linalg.norm(np.diff(speeds[4:], axis=0), axis=1).max() < 1.3 * MAX_ACCELERATION_M_S2 * teacher.dt_s
    )
    cell.close()


@pytest.mark.parametrize("name", ["push", "stack", "insert", "wipe", "drawer"])
def test_demonstrations_of_a_task_make_a_policy(
    name: str, recorded: Callable[[str], Path], tmp_path: Path, embodiment: Embodiment
) -> None:
    task, columns, data = Task.load(name), len(Task.load(name).action), recorded(name)
    episodes = list(read_episodes(data))
    for episode in episodes:
        assert goal_at(episode, 0, task) in task.goals
        assert episode.columns["action"].shape[1] == columns
        assert np.isfinite(episode.columns["observation.wrench"]).all()
    samples = load_samples(data, embodiment, task)
    assert samples.observations.shape[1] == len(task.feature_names()) == len(set(task.feature_names()))
    train_policy(data, tmp_path / "policy", embodiment, task, SMALL)
    assert export_policy(tmp_path / "policy", tmp_path / "bundle", embodiment, task) < PARITY
    policy = load_policy(str(tmp_path / "bundle"), embodiment, task)
    tool = samples.tool[0]
    observation = Observation(
        0, samples.observations[0], tool[:3], tool_yaw=float(tool[3]) if columns == 5 else 0.0
    )
    chunk = policy.infer(observation)
    assert chunk.chosen.shape == (16, columns) and chunk.space is space_of(policy)


def test_one_network_learns_several_tasks_and_serves_each(
    recorded: Callable[[str], Path], tmp_path: Path, embodiment: Embodiment
) -> None:
    tasks = [Task.load(name) for name in ("push", "stack")]
    data = [(task, recorded(task.name)) for task in tasks]
    train_shared_policy(data, tmp_path / "policy", embodiment, SMALL)
    assert export_policy(tmp_path / "policy", tmp_path / "bundle", embodiment, tasks[1]) < PARITY
    names = Bundle.open(tmp_path / "bundle").config["features"]
    for task, root in data:
        policy = load_policy(str(tmp_path / "bundle"), embodiment, task)
        samples, columns = load_samples(root, embodiment, task), len(task.action)
        tool = samples.tool[0]
        observation = Observation(
            0, samples.observations[0], tool[:3], tool_yaw=float(tool[3]) if columns == 5 else 0.0
        )
        prefix = Prefix(np.repeat([[*tool[:-1], 0.04]], 16, axis=0), 4, 10)
        chunk = policy.infer(observation, prefix)
        assert space_of(policy) is chunk.space is space_of_actions(task.action)
        # The given steps are those that were given, whatever columns the network has.
        np.testing.assert_allclose(chunk.chosen[:4], prefix.actions[:4], atol=1e-5)
        seen = dict(zip(names, policy._seen(observation)["observation"][0], strict=True))
        others = set(names) - set(task.feature_names()) - {f"task.{task.name}" for task in tasks}
        assert others and all(seen[name] == 0.0 for name in others)  # as they are on average
        marks = {task.name: seen[f"task.{task.name}"] for task in tasks}
        assert max(marks, key=marks.__getitem__) == task.name
    with pytest.raises(BundleError, match="was trained on the tasks push, stack, not on wipe"):
        load_policy(str(tmp_path / "bundle"), embodiment, Task.load("wipe"))
    with pytest.raises(DatasetError, match="each task may be given once"):
        train_shared_policy([data[0], data[0]], tmp_path / "twice", embodiment, SMALL)


def test_a_dataset_without_what_came_last_is_to_be_recorded_anew(
    tmp_path: Path, embodiment: Embodiment
) -> None:
    make_demos(tmp_path / "set", embodiment, Task.load("push"), 1, 1, sight="truth")
    info = tmp_path / "set/meta/info.json"
    info.write_text(info.read_text().replace("observation.wrench", "observation.else"))
    with pytest.raises(DatasetError, match="recorded by an older physai; record it anew"):
        list(read_episodes(tmp_path / "set"))
