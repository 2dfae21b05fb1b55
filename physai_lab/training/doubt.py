"""Trains the flow whose density says how familiar an observation is: one of the policy's doubts, see `physai_policy.doubt`.

Flow matching (Lipman et al. 2023) on the policy's own normalized features, demonstrations alone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.task import Task
from physai_lab.data.dataset import made_with
from physai_lab.progress import Progress
from physai_lab.training.checkpoint import dataset_id, save_checkpoint
from physai_lab.training.loop import Recipe, begin, optimize
from physai_lab.training.policy import load_samples

FEATURE_CLIP = 10.0  # what lies farther out is no more familiar


@dataclass(frozen=True)
class DoubtTraining:
    """Settings of the training."""

    steps: int = 8_000
    batch: int = 512
    width: int = 256
    blocks: int = 2
    learning_rate: float = 1e-3
    ema: float = 0.005
    flow_steps: int = 10
    seed: int = 0


def build_flow(inputs: int, width: int, blocks: int) -> Any:
    """The velocity v(x, time) of features on their way from noise (time 0) to observations (time 1): a residual MLP."""
    import torch
    from torch import nn

    class Flow(nn.Module):
        """Residual MLP with time concatenated to the features."""

        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(inputs + 17, width)
            self.blocks = nn.ModuleList(
                nn.Sequential(
                    nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)
                )
                for _ in range(blocks)
            )
            self.last = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, inputs))
            self.register_buffer("frequencies", 2.0 ** torch.arange(8) * torch.pi / 2)

        def forward(self, x: Any, time: Any) -> Any:
            """Velocity (B, F) at features x (B, F) and time (B, 1)."""
            angles = time * self.frequencies
            hidden = self.first(torch.cat([x, time, torch.sin(angles), torch.cos(angles)], dim=1))
            for block in self.blocks:
                hidden = hidden + block(hidden)
            return self.last(hidden)

    return Flow()


def build_surprise(flow: Any, flow_steps: int) -> Any:
    """Observations (B, F) to the mean square (B, 1) of the noise that the flow would have made them of.

    -log N(z) up to a constant and a factor, z the observation carried back to noise by Euler steps: logpZO of Xu et al.,
    arXiv 2503.08558. It is about 1 for what is familiar. The flow's divergence is left out, as there.
    """
    import torch
    from torch import nn

    class SurpriseNetwork(nn.Module):
        """Integrates the flow from 1 back to 0."""

        def __init__(self) -> None:
            super().__init__()
            self.flow = flow

        def forward(self, observation: Any) -> Any:
            """(B, 1)"""
            z = observation
            for step in range(flow_steps):
                time = torch.full_like(observation[:, :1], 1.0 - step / flow_steps)
                z = z - self.flow(z, time) / flow_steps
            return (z**2).mean(dim=1, keepdim=True)

    return SurpriseNetwork()


def train_doubt(
    data: Path,
    out: Path,
    embodiment: Embodiment,
    task: Task,
    settings: DoubtTraining | None = None,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Train on the demonstrations at `data` and write a checkpoint to `out`; returns its metrics."""
    import torch

    settings = settings or DoubtTraining()
    trained_on = made_with(data, task, embodiment)  # before the time is spent
    begin(settings.seed)
    samples = load_samples(data, embodiment, task)
    mean, std = samples.observations.mean(0), samples.observations.std(0)
    std = np.where(std < 1e-4, 1.0, std)
    x = torch.from_numpy(np.clip((samples.observations - mean) / std, -FEATURE_CLIP, FEATURE_CLIP))
    held_out = np.isin(samples.episode, np.unique(samples.episode)[::20])
    familiar = x[torch.from_numpy(~held_out)]
    flow = build_flow(x.shape[1], settings.width, settings.blocks)
    build_flow(
        x.shape[1], settings.width, settings.blocks
    )  # the shipped bundle's numbers were drawn after a second

    def loss_of_a_batch() -> Any:
        """Flow matching: the velocity from noise to an observation."""
        end = familiar[torch.randint(len(familiar), (settings.batch,))]
        noise, time = torch.randn_like(end), torch.rand(settings.batch, 1)
        return ((flow(time * end + (1 - time) * noise, time) - (end - noise)) ** 2).mean()

    recipe = Recipe(settings.steps, settings.learning_rate, clip=None, average=settings.ema)
    average = optimize(flow, loss_of_a_batch, recipe, progress)
    with torch.no_grad():
        surprise = build_surprise(average, settings.flow_steps)
        seen, unseen = surprise(familiar).numpy(), surprise(x[torch.from_numpy(held_out)]).numpy()
    metrics = {
        "samples": float(len(familiar)),
        "surprise_p50": float(np.median(seen)),
        "surprise_held_out_p50": float(np.median(unseen)),
        "surprise_held_out_p99": float(np.quantile(unseen, 0.99)),
    }
    notes = {
        "settings": asdict(settings), "observation_mean": mean.tolist(), "observation_std": std.tolist(),
        "metrics": metrics, "data": dataset_id(data), "trained_on": trained_on,
    }  # fmt: skip
    save_checkpoint(out, "doubt", average, notes)
    return metrics
