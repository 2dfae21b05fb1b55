"""From recording to bundle: every step runs for real, only shorter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from physai_base.bundle import Bundle
from physai_base.embodiment import Embodiment
from physai_base.task import Task
from physai_lab.cli import main
from physai_lab.data.dataset import DatasetError, read_episodes
from physai_lab.data.demos import make_demos
from physai_lab.training.checkpoint import CheckpointError, load_checkpoint
from physai_lab.training.export import PARITY, export_policy, export_world_model
from physai_lab.training.policy import PolicyTraining, load_samples, train_policy
from physai_lab.training.world_model import WorldModelTraining, train_world_model
from physai_policy.flow_policy import FlowPolicy
from physai_policy.policy import Observation
from physai_world_model.model import WorldModel

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory, embodiment: Embodiment, task: Task) -> Path:
    """Some episodes as `physai demos` makes them: demonstrations, of which the expert may fail one, and one of play."""
    root = tmp_path_factory.mktemp("data") / "demos"
    kept = make_demos(root, embodiment, task, count=4, workers=2)
    assert kept["play"] == 1 and kept["expert"] >= 2
    return root


def test_a_recording_of_nothing_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("physai_lab.data.demos.episodes", lambda *_: iter([None, None]))
    assert main(["demos", "--episodes", "2", "--out", str(tmp_path / "demos")]) == 1
    said = capsys.readouterr()
    assert "2 failed" in said.out and "nothing was recorded" in said.err


def test_demonstrations_end_with_the_cup_in_its_place(demos: Path, task: Task) -> None:
    episodes = list(read_episodes(demos))
    assert [episode.kind for episode in episodes][-1] == "play"
    for episode in episodes[:-1]:
        target, level = episode.columns["observation.goal"][-1].astype(int) - [0, len(task.objects)]
        cup = episode.columns["observation.objects"][-1].reshape(-1, 3)[target]
        place = episode.columns["observation.places"][-1].reshape(-1, 3)[level]
        np.testing.assert_allclose(cup, place, atol=0.05)
        assert (np.diff(episode.columns["observation.stamp_ns"]) > 0).all()


def test_the_policy_learns_and_its_bundle_computes_what_torch_does(
    demos: Path, tmp_path: Path, embodiment: Embodiment, task: Task
) -> None:
    seen: list[int] = []
    errors = [
        train_policy(
            demos, tmp_path / f"policy{steps}", embodiment, task, PolicyTraining(steps=steps, width=64, blocks=1),
            lambda done, total, note: seen.append(done),
        )["held_out_position_error_mm_fresh"]
        for steps in (1, 300)
    ]  # fmt: skip
    assert errors[1] < 0.7 * errors[0]
    assert seen
    parity = export_policy(tmp_path / "policy300", tmp_path / "bundle", embodiment, task)
    assert parity < PARITY
    policy = FlowPolicy(Bundle.open(tmp_path / "bundle", kind="policy", robot="fr3"), task)
    samples = load_samples(demos, embodiment, task)
    assert samples.observations.shape[1] == len(task.feature_names())
    plan = policy.infer(Observation(0, samples.observations[0], samples.tool[0, :3])).chosen
    assert plan.shape == (16, 4)
    assert np.abs(plan[:, :3] - samples.plans[0, :, :3]).max() < 0.3


def test_the_world_model_learns_and_its_bundle_computes_what_torch_does(
    demos: Path, tmp_path: Path, embodiment: Embodiment, task: Task
) -> None:
    errors = [
        train_world_model(
            demos, tmp_path / f"world{steps}", embodiment, task, WorldModelTraining(steps=steps, width=32, members=3)
        )["tcp_error_mm_at_0.4s"]
        for steps in (1, 300)
    ]  # fmt: skip
    assert errors[1] < 0.7 * errors[0]
    assert export_world_model(tmp_path / "world300", tmp_path / "bundle", embodiment, task) < PARITY
    model = WorldModel(Bundle.open(tmp_path / "bundle", kind="world_model", robot="fr3"), task)
    assert min(model.ood_threshold, model.knock_displacement_m, model.topple_probability) > 0


def test_what_is_missing_is_named_with_its_remedy(tmp_path: Path, embodiment: Embodiment, task: Task) -> None:
    with pytest.raises(DatasetError, match="physai demos"):
        train_policy(tmp_path / "none", tmp_path / "out", embodiment, task)
    with pytest.raises(CheckpointError, match="physai train world-model"):
        export_world_model(tmp_path / "none", tmp_path / "out", embodiment, task)
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path, "policy")
    assert not (tmp_path / "out").exists()
