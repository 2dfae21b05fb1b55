"""Datasets: what is written comes back, in the layout of LeRobotDataset v3.0; what is not whole is refused."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from fr3_pair import write_pair
from scenes import make_scene

from physai_base.embodiment import Embodiment
from physai_base.kinematics import ArmKinematics
from physai_base.task import Task
from physai_base.values import EndEffectorState
from physai_lab.data.dataset import DatasetError, DatasetWriter, Episode, feature_shapes, read_episodes
from physai_lab.data.demos import columns_of
from physai_lab.evaluation.cell import Moment
from physai_lab.training.policy import scene_of

RNG = np.random.default_rng(0)


def make_episode(embodiment: Embodiment, task: Task, length: int, text: str) -> Episode:
    """Random numbers of the right shapes."""
    columns = {
        name: RNG.normal(size=(length, *shape)).astype(np.float32)
        for name, shape in feature_shapes(embodiment, task).items()
    }
    columns["observation.stamp_ns"] = np.arange(length) * 50_000_000 + 123_456_789_012_345_678
    return Episode(text, True, "expert", columns)


@pytest.fixture
def episodes(embodiment: Embodiment, task: Task) -> list[Episode]:
    """Three episodes of two tasks."""
    return [make_episode(embodiment, task, n, text) for n, text in ((7, "a"), (4, "b"), (9, "a"))]


@pytest.fixture
def root(tmp_path: Path, embodiment: Embodiment, task: Task, episodes: list[Episode]) -> Path:
    """A closed dataset of them."""
    writer = DatasetWriter(tmp_path / "set", embodiment, task, fps=20)
    for episode in episodes:
        writer.add(episode)
    writer.close()
    return tmp_path / "set"


def test_what_is_written_comes_back(root: Path, episodes: list[Episode]) -> None:
    back = list(read_episodes(root))
    assert [(e.task, e.success, e.kind, len(e)) for e in back] == [
        (e.task, e.success, e.kind, len(e)) for e in episodes
    ]
    for one, other in zip(back, episodes, strict=True):
        for name, values in other.columns.items():
            np.testing.assert_array_equal(one.columns[name], values)
        assert one.columns["observation.stamp_ns"].dtype == np.int64


def test_metadata_is_that_of_lerobot_v3(root: Path, embodiment: Embodiment) -> None:
    info = json.loads((root / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (3, 20, 2)
    assert info["features"]["observation.state"]["names"] == list(embodiment.state_features)
    table = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pydict()
    assert table["dataset_from_index"] == [0, 7, 11]
    assert table["dataset_to_index"] == [7, 11, 20]
    for index in range(3):
        shard = pq.read_table(root / info["data_path"].format(chunk_index=0, file_index=index)).to_pydict()
        assert shard["index"] == list(
            range(table["dataset_from_index"][index], table["dataset_to_index"][index])
        )
        assert set(shard["episode_index"]) == {index}
        np.testing.assert_allclose(shard["timestamp"], np.arange(table["length"][index]) / 20, atol=1e-6)
    tasks = pq.read_table(root / "meta/tasks.parquet").to_pandas()
    assert tasks["task_index"].to_dict() == {"a": 0, "b": 1}


def test_a_writer_that_was_killed_leaves_no_half_shard(
    tmp_path: Path, embodiment: Embodiment, task: Task, episodes: list[Episode]
) -> None:
    writer = DatasetWriter(tmp_path / "set", embodiment, task, fps=20)
    writer.add(episodes[0])
    shards = sorted((tmp_path / "set/data").rglob("*"))
    assert [path.name for path in shards if path.is_file()] == ["file-000.parquet"]
    with pytest.raises(DatasetError, match="not a complete dataset"):
        list(read_episodes(tmp_path / "set"))


def test_no_dataset_is_overwritten(root: Path, embodiment: Embodiment, task: Task) -> None:
    with pytest.raises(DatasetError, match="exist"):
        DatasetWriter(root, embodiment, task, fps=20)


def test_a_missing_dataset_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="physai demos"):
        list(read_episodes(tmp_path / "nothing"))


def test_of_a_robot_with_two_arms_both_are_recorded(
    embodiment: Embodiment, task: Task, tmp_path: Path
) -> None:
    pair = Embodiment.load(write_pair(embodiment, tmp_path))
    one = make_scene(embodiment, task)
    hands = tuple(
        EndEffectorState.at_rest(np.array([0.4, y, 0.3]), np.array([0.0, 1.0, 0.0, 0.0]), width, side)
        for side, y, width in (("left", 0.2, 0.08), ("right", -0.2, 0.03))
    )
    scene = replace(one, joint_position=pair.home + 0.1, joint_velocity=np.arange(14.0), end_effectors=hands)
    moment = Moment(scene, task.goals[0], pair.home, 0.08, np.zeros(6))
    columns = columns_of([moment] * 5, [np.zeros((16, 4))] * 5, task, ArmKinematics(pair))
    with closing(DatasetWriter(tmp_path / "set", pair, task, fps=20)) as writer:
        writer.add(Episode("t", True, "expert", columns))
    (episode,) = read_episodes(tmp_path / "set")
    state, tools = episode.columns["observation.state"][2], episode.columns["observation.tcp"][2]
    np.testing.assert_allclose(state, [*scene.joint_position, 0.08, 0.03], atol=1e-6)
    np.testing.assert_allclose(tools, [0.4, 0.2, 0.3, 0.4, -0.2, 0.3], atol=1e-6)
    names = json.loads((tmp_path / "set/meta/info.json").read_text())["features"]["observation.state"][
        "names"
    ]
    assert names[-2:] == ["left.opening", "right.opening"] and len(names) == 16
    read = scene_of(episode, 2, task)
    np.testing.assert_allclose(read.joint_position, scene.joint_position, atol=1e-6)
    assert [round(float(end.opening), 3) for end in read.end_effectors] == [0.08, 0.03]
    np.testing.assert_allclose(read.end_effectors[1].position_m, hands[1].position_m, atol=1e-6)
    np.testing.assert_allclose(read.end_effectors[1].orientation, hands[1].orientation, atol=1e-6)
