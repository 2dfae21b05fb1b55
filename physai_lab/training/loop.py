"""The loop that every network of ours is trained in: AdamW on one cycle of learning rates, seeded, to its last step.

The learning rate of one cycle (Smith & Topin 2018) ends near zero, so that the last weights are the ones to keep; where a
running average is kept (Polyak & Juditsky 1992), that is the result. Ctrl-C ends it between two steps as everywhere, by
KeyboardInterrupt, before anything of an earlier training was touched.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from physai_base.errors import PhysaiError
from physai_lab.progress import Progress


class TrainingError(PhysaiError):
    """A training that went wrong; nothing was written."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained."""

    steps: int
    learning_rate: float  # the highest of the cycle
    weight_decay: float = 1e-4
    warm_up: float = 0.05  # share of the steps in which the learning rate rises
    clip: float | None = 1.0  # of the gradient's norm; None: as it is
    average: float | None = None  # share by which the running average follows each step; None: none is kept
    fused: bool = True  # AdamW in one kernel: faster, and other last bits
    report_every: int = 50  # steps


def begin(seed: int) -> np.random.Generator:
    """Seed torch, let it have all cores (the command line gives every other process one thread), and return numpy's generator."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(seed)
    return np.random.default_rng(seed)


def optimize(
    network: Any,
    loss_of_a_batch: Callable[[], Any],
    recipe: Recipe,
    progress: Progress | None = None,
    note: Callable[[float], str] = "loss {:.4f}".format,
) -> Any:
    """Train `network` in place and return what is to be kept: itself, or the running average of its weights.

    `loss_of_a_batch` draws a batch and returns its loss, a scalar tensor; `note` says of a loss what progress shows.

    Raises:
        TrainingError: a loss, or a weight in the end, is not finite.
    """
    import torch

    kept = copy.deepcopy(network) if recipe.average is not None else network
    slow, fast = list(kept.parameters()), list(network.parameters())
    optimizer = torch.optim.AdamW(
        network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay, fused=recipe.fused
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, recipe.steps, pct_start=recipe.warm_up
    )
    for step in range(recipe.steps):
        loss = loss_of_a_batch()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss is {value} at step {step} of {recipe.steps}: the data set holds numbers that are not finite or "
                f"far from all others, or the learning rate {recipe.learning_rate:g} is too high; nothing was written"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if recipe.clip is not None:
            torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
        optimizer.step()
        schedule.step()
        if recipe.average is not None:
            with torch.no_grad():
                torch._foreach_lerp_(slow, fast, max(recipe.average, 1.0 / (step + 1)))
        if progress and step % recipe.report_every == 0:
            progress(step, recipe.steps, note(value))
    if not all(bool(torch.isfinite(values).all()) for values in slow):
        raise TrainingError("the last step left weights that are not finite; nothing was written")
    return kept
