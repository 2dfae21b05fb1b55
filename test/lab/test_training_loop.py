"""The loop that every network is trained in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from physai_base.embodiment import Embodiment
from physai_base.task import Task
from physai_lab.training import doubt
from physai_lab.training.loop import Recipe, TrainingError, begin, optimize

pytestmark = pytest.mark.slow


def trained(recipe: Recipe, seed: int = 0, factor: float = 1.0, **options: Any) -> tuple[Any, Any, float]:
    """A line through y = 2 x + 1: what is kept, what was trained, and the last loss."""
    begin(seed)
    network = torch.nn.Linear(1, 1)
    last = [float("nan")]

    def loss_of_a_batch() -> Any:
        x = torch.randn(64, 1)
        loss = ((network(x) - (2 * x + 1)) ** 2).mean() * factor
        last[0] = loss.item()
        return loss

    return optimize(network, loss_of_a_batch, recipe, **options), network, last[0]


def test_it_learns_the_same_from_the_same_seed() -> None:
    recipe = Recipe(steps=400, learning_rate=0.05)
    kept, network, loss = trained(recipe)
    assert kept is network and loss < 1e-3
    torch.testing.assert_close(kept.weight, torch.tensor([[2.0]]), atol=0.02, rtol=0)
    assert torch.equal(trained(recipe)[0].weight, kept.weight)
    assert not torch.equal(trained(recipe, seed=1)[0].weight, kept.weight)


def test_an_average_follows_the_weights_and_is_what_is_kept() -> None:
    kept, network, _ = trained(Recipe(steps=60, learning_rate=0.05, average=0.02))
    assert kept is not network and not torch.equal(kept.weight, network.weight)
    alone, _, _ = trained(Recipe(steps=60, learning_rate=0.05))
    assert torch.equal(alone.weight, network.weight), "an average changes what is trained"
    assert abs(kept.weight.item() - 2) > abs(network.weight.item() - 2), "an average is late"


def test_what_is_reported_and_how_often() -> None:
    told: list[tuple[int, int, str]] = []
    trained(
        Recipe(steps=101, learning_rate=0.05, report_every=50),
        progress=lambda *what: told.append(what),
        note=lambda loss: f"{loss < 10}",
    )
    assert told == [(0, 101, "True"), (50, 101, "True"), (100, 101, "True")]


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_it(factor: float) -> None:
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) at step 0 of 9: .*nothing was written"):
        trained(Recipe(steps=9, learning_rate=0.05), factor=factor)


def test_weights_that_are_not_finite_end_it() -> None:
    begin(0)
    network = torch.nn.Linear(1, 1)
    with pytest.raises(TrainingError, match="left weights"):
        # The square root of 0 is finite, its slope is not.
        optimize(network, lambda: (network.weight * 0).abs().sum().sqrt(), Recipe(1, 0.05, clip=None))


def test_ctrl_c_leaves_an_earlier_checkpoint_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embodiment: Embodiment, task: Task
) -> None:
    (tmp_path / "checkpoint.json").write_text("earlier")
    monkeypatch.setattr(doubt, "made_with", lambda *_: {})
    monkeypatch.setattr(doubt, "load_samples", lambda *_: _Samples())
    steps: list[int] = []

    def interrupt(done: int, total: int, note: str) -> None:
        steps.append(done)
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        doubt.train_doubt(tmp_path, tmp_path, embodiment, task, doubt.DoubtTraining(width=8), interrupt)
    assert steps == [0, 50]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.json"]
    assert (tmp_path / "checkpoint.json").read_text() == "earlier"


class _Samples:
    observations = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)).numpy()
    episode = torch.arange(40).numpy()
