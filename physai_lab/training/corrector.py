"""Trains the network that corrects running chunks (A2C2, arXiv 2509.23224) for a policy that stays as it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.expert import DT_S, HORIZON
from physai_base.task import Task
from physai_lab.data.continuations import LONGEST_DELAY
from physai_lab.data.dataset import made_with
from physai_lab.progress import Progress
from physai_lab.training.checkpoint import dataset_id, load_checkpoint, save_checkpoint
from physai_lab.training.loop import Recipe, begin, optimize
from physai_lab.training.policy import (
    FEATURE_CLIP,
    OBSERVATION_NOISE,
    PolicyTraining,
    build_network,
    load_samples,
)
from physai_policy.networks import sampler

OLDEST = HORIZON - 3  # steps since the observation of the chunk that is corrected
LARGEST_CORRECTION_M = 0.10


@dataclass(frozen=True)
class CorrectorTraining:
    """Settings of the training."""

    steps: int = 6_000
    batch: int = 256
    width: int = 128
    learning_rate: float = 1e-3
    seed: int = 0


def build_corrector(inputs: int, width: int, columns: int) -> Any:
    """Observation, plan (B, H, D), share of it that is left and age (B, 1) to a correction (B, H, D)."""
    import torch
    from torch import nn

    class CorrectionNetwork(nn.Module):
        """An MLP; it starts at no correction at all."""

        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(
                nn.Linear(inputs + HORIZON * columns + 2, width), nn.LayerNorm(width), nn.GELU(),
                nn.Linear(width, width), nn.GELU(), nn.Linear(width, HORIZON * columns),
            )  # fmt: skip
            nn.init.zeros_(self.layers[-1].weight)
            nn.init.zeros_(self.layers[-1].bias)

        def forward(self, observation: Any, plan: Any, left: Any, age: Any) -> Any:
            """What to add to each step, normalized."""
            hidden = torch.cat([observation, plan.flatten(1), left, age], dim=1)
            return self.layers(hidden).reshape(-1, HORIZON, columns)

    return CorrectionNetwork()


def train_corrector(
    data: Path,
    policy: Path,
    out: Path,
    embodiment: Embodiment,
    task: Task,
    settings: CorrectorTraining | None = None,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Train for the policy in checkpoint `policy` and write a checkpoint to `out`; returns its metrics."""
    import torch

    settings = settings or CorrectorTraining()
    trained_on = made_with(data, task, embodiment)  # before the time is spent
    rng = begin(settings.seed)
    notes, weights = load_checkpoint(policy, "policy")
    mean, std = (
        np.array(notes["observation_mean"], np.float32),
        np.array(notes["observation_std"], np.float32),
    )
    offset, scale = np.array(notes["action_mean"], np.float32), np.array(notes["action_std"], np.float32)
    base_settings = PolicyTraining(**notes["settings"])
    network = build_network(task.feature_names(), len(task.action), base_settings)
    network.load_state_dict(weights)
    chunks_of = sampler(network, base_settings.flow_steps).eval()
    samples = load_samples(data, embodiment, task)
    tools, columns = samples.tool, len(task.action)
    x = torch.from_numpy(np.clip((samples.observations - mean) / std, -FEATURE_CLIP, FEATURE_CLIP))
    held_out = np.isin(samples.episode, np.unique(samples.episode)[::20])
    # What the policy would have said at every moment, when the steps up to some delay were given.
    base = np.empty((len(x), HORIZON, columns), np.float32)
    for start in range(0, len(x), 1024):
        rows = np.arange(start, min(start + 1024, len(x)))
        given = np.minimum(rng.integers(0, LONGEST_DELAY + 1, size=len(rows)), samples.following[rows])
        told = samples.commands[rows[:, None] + np.minimum(np.arange(HORIZON), given[:, None])].copy()
        told -= tools[rows][:, None]
        prefix = torch.from_numpy(((told - offset) / scale).astype(np.float32))
        mask = torch.from_numpy((np.arange(HORIZON) < given[:, None]).astype(np.float32))
        with torch.no_grad():
            chunk = chunks_of(x[rows], torch.zeros_like(prefix), prefix, mask).numpy() * scale + offset
        base[rows] = chunk + tools[rows][:, None]
    steps: np.ndarray = np.arange(HORIZON)

    def batch_of(old: np.ndarray, age: np.ndarray) -> tuple[Any, ...]:
        """Inputs and wanted corrections for chunks of moments `old` as they look `age` steps later, and their weight."""
        age = np.minimum(age, samples.following[old])
        now = old + age
        at = steps + age[:, None]
        plan = np.take_along_axis(base[old], np.minimum(at, HORIZON - 1)[..., None], axis=1)
        wanted = samples.plans[now] - plan
        tool = tools[now][:, None]
        valid = (at < HORIZON).astype(np.float32)
        return (
            x[torch.from_numpy(now)],
            torch.from_numpy(((plan - tool - offset) / scale).astype(np.float32)),
            torch.from_numpy(valid.mean(axis=1, keepdims=True)),
            torch.from_numpy((age[:, None] * DT_S).astype(np.float32)),
            torch.from_numpy((wanted / scale).astype(np.float32)),
            torch.from_numpy(valid),
        )

    corrector = build_corrector(len(mean), settings.width, columns)
    candidates = np.flatnonzero(~held_out)

    def loss_of_a_batch() -> Any:
        """What is missing to the expert's plan, for chunks of every age."""
        old = candidates[rng.integers(len(candidates), size=settings.batch)]
        observation, plan, left, age, wanted, valid = batch_of(
            old, rng.integers(0, OLDEST + 1, size=settings.batch)
        )
        observation = observation + OBSERVATION_NOISE * torch.randn(observation.shape)
        # A push leaves large errors behind: they count, but do not drown the rest.
        error = torch.nn.functional.smooth_l1_loss(
            corrector(observation, plan, left, age), wanted, reduction="none", beta=0.1
        )
        return (error.mean(-1) * valid).sum() / valid.sum()

    recipe = Recipe(settings.steps, settings.learning_rate, clip=None, fused=False)
    optimize(corrector, loss_of_a_batch, recipe, progress)
    corrector.eval()
    metrics = {}
    tested = np.flatnonzero(held_out)
    for age_steps in (4, 8, 12):
        observation, plan, left, age, wanted, valid = batch_of(tested, np.full(len(tested), age_steps))
        with torch.no_grad():
            after = corrector(observation, plan, left, age) - wanted
        for name, error in (("before", wanted), ("after", after)):
            size = np.abs((error * valid[..., None]).numpy() * scale)[..., :3].sum() / (
                3 * float(valid.sum())
            )
            metrics[f"error_mm_{name}_age_{age_steps}"] = float(size * 1e3)
    save_checkpoint(
        out, "corrector", corrector,
        {
            "settings": asdict(settings), "observation_mean": mean.tolist(), "observation_std": std.tolist(),
            "action_mean": offset.tolist(), "action_std": scale.tolist(), "metrics": metrics, "data": dataset_id(data), "trained_on": trained_on,
        },
    )  # fmt: skip
    return metrics
