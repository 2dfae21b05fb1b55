"""What the expert would do next, after part of some chunk has been carried out: labels for training-time chunking.

The paper (Black et al., arXiv 2512.05964) gives the first d steps of the demonstration itself. A robot's running chunk
is another one: computed for an older observation, off by what has happened since, and ahead of an arm that lags. Here the
given steps are what the arm was really told (disturbed demonstrations), and half of the time that is spoiled at random:
told later, stretched or shrunk, moved aside, the gripper late. The expert, which is a function of the state alone, plans
on from where they lead as far as can be foreseen: an object drifts on.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

import numpy as np

from physai_base.expert import DT_S, HORIZON, Expert, ExpertState
from physai_lab.pool import work_on
from physai_policy.policy import longest_prefix

LONGEST_DELAY = longest_prefix(HORIZON)  # steps that are carried out before a chunk arrives
TRUE_SHARE = 0.5  # so often the steps are what was told
LONGEST_LAG = 4  # steps by which the arm is behind what it is told
SHARE = (0.0, 1.3)  # of the way that was told
ASIDE = np.array([0.015, 0.015, 0.015, 0.05])  # standard deviation, m and rad
BATCH = 256  # moments that a process gets at once


def led_along(expert: Expert, state: ExpertState, rows: np.ndarray) -> ExpertState:
    """The state that the expert foresees once the arm has been led along `rows` (K, D), of which the first is for now."""
    state = expert.moved(state, rows[0, :-1], state.tool_velocity, float(rows[0, -1]), 0.0)
    for before, row in itertools.pairwise(rows):
        state = expert.moved(state, row[:-1], (row[:-1] - before[:-1]) / DT_S, float(before[-1]), DT_S)
    return state


def continuation(
    expert: Expert, state: ExpertState, told: np.ndarray, steps: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Some `steps` that are given (H, D), zeros after them, and what is best after them (H, D).

    `told` (K, D) is what the arm was told from `state` on, K >= 1; where it ends the arm stays.
    """
    at: np.ndarray = np.arange(steps)
    spoiled = rng.random() > TRUE_SHARE
    if spoiled:
        at = at + rng.integers(0, LONGEST_LAG + 1)
    rows = told[np.minimum(at, len(told) - 1)].copy()
    if spoiled:
        rows[:, :-1] = state.tool + rng.uniform(*SHARE) * (rows[:, :-1] - state.tool)
        rows[:, :-1] += rng.normal(0, ASIDE[: rows.shape[1] - 1])
        rows[:, -1] = told[np.clip(at - rng.integers(0, steps + 1), 0, len(told) - 1), -1]
    plan = expert.plan(led_along(expert, state, rows))  # its first row is where the given steps end
    given = np.zeros((HORIZON, rows.shape[1]))
    given[:steps] = rows
    return given, np.concatenate([plan[1:], plan[-1:]])


_expert: Expert | None = None


def _start(expert: Expert) -> None:
    global _expert
    _expert = expert


def _work(batch: list[tuple[ExpertState, np.ndarray, int, int]]) -> list[tuple[np.ndarray, np.ndarray]]:
    assert _expert is not None
    return [
        continuation(_expert, state, told, steps, np.random.default_rng(seed))
        for state, told, steps, seed in batch
    ]


def continuations(
    expert: Expert,
    states: list[ExpertState],
    commands: np.ndarray,
    following: np.ndarray,
    seed: int,
    progress: Callable[[int, int, str], None] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each moment steps that are given (N, H, D), how many (N,), and what is best after them (N, H, D), absolute.

    `commands` (N, D) is what the arm was told at each moment, `following` (N,) how many moments follow without a gap.
    """
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, LONGEST_DELAY + 1, size=len(states))
    jobs = [
        (state, commands[i : i + min(following[i], LONGEST_DELAY + LONGEST_LAG) + 1], int(counts[i]), seed * 1_000_003 + i)
        for i, state in enumerate(states)
    ]  # fmt: skip
    batches = [jobs[i : i + BATCH] for i in range(0, len(jobs), BATCH)]
    results: list[tuple[np.ndarray, np.ndarray]] = []
    for batch in work_on(batches, _work, os.cpu_count() or 1, _start, (expert,)):
        results += batch
        if progress:
            progress(len(results), len(jobs), "what the expert does next")
    given, ahead = (np.array(values) for values in zip(*results, strict=True))
    return given, counts, ahead
