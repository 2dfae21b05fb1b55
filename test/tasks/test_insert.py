"""Inserting: what counts as in and why not, the search, and the expert in the cell."""

from __future__ import annotations

import numpy as np
import pytest

from physai_base.embodiment import Embodiment
from physai_base.expert import Goal
from physai_base.outcome import Situation, Stance, Tool
from physai_base.task import Task
from physai_lab.tasks.trial import demonstrate
from physai_sim.scene import Scene
from physai_tasks.insert.expert import FARTHEST_M, PITCH_M, search

GOAL = Goal("red_peg", "blue_block")
AWAY = Tool(np.array([0.37, 0.0, 0.42]))
START = {"red_peg": Stance(np.array([0.4, -0.2, 0])), "green_peg": Stance(np.array([0.55, -0.2, 0]))}
BLOCK = {"blue_block": Stance(np.array([0.5, 0.2, 0]))}


@pytest.fixture(scope="module")
def insert() -> Task:
    return Task.load("insert")


@pytest.mark.parametrize(
    ("peg", "tool", "cause"),
    [
        ((0.502, 0.201, 0.02), (0.4, 0.0, 0.4), ""),
        ((0.502, 0.201, 0.02), (0.502, 0.201, 0.10), "not_released"),
        ((0.502, 0.201, 0.04), (0.4, 0.0, 0.4), "not_in_the_hole"),
        ((0.502, 0.201, 0.06), (0.4, 0.0, 0.4), "not_in_the_hole"),
        ((0.56, 0.2, 0.0), (0.4, 0.0, 0.4), "not_at_the_hole"),
        ((0.4, -0.2, 0.0), (0.4, 0.0, 0.4), "target_not_moved"),
    ],
)
def test_a_peg_is_in_or_it_is_said_why_not(insert: Task, peg: tuple, tool: tuple, cause: str) -> None:
    things = {**START, **BLOCK, "red_peg": Stance(np.array(peg))}
    assert insert.outcome(GOAL, Situation(things, Tool(np.array(tool))), START).cause == cause


def test_another_peg_that_falls_is_harm(insert: Task) -> None:
    things = {**START, **BLOCK, "red_peg": Stance(np.array([0.5, 0.2, 0.02]))}
    fallen = {**things, "green_peg": Stance(np.array([0.55, -0.2, 0]), upright=False)}
    assert insert.outcome(GOAL, Situation(fallen, AWAY), START).cause == "knocked_over_other_peg"


def test_the_search_comes_near_every_place_where_the_hole_may_be() -> None:
    """Without memory: the next step follows from where the peg is, however far it got."""
    at, way = np.zeros(2), [np.zeros(2)]
    for _ in range(600):
        at = at + 0.6 * (search(at, 0.002) - at)  # an arm that lags
        way.append(at)
    rng = np.random.default_rng(0)
    for _ in range(200):
        angle, radius = rng.uniform(-np.pi, np.pi), 0.003 * np.sqrt(rng.random())
        hole = radius * np.array([np.cos(angle), np.sin(angle)])
        assert np.linalg.norm(np.array(way) - hole, axis=1).min() < PITCH_M
    assert np.linalg.norm(way, axis=1).max() < FARTHEST_M
    assert not search(np.array([FARTHEST_M, 0.0]), 0.002).any()  # in vain: it begins anew


def test_the_hole_is_where_it_was_bored_and_the_block_looks_the_same(
    insert: Task, embodiment: Embodiment
) -> None:
    scene, off = Scene.build(embodiment, insert), []
    for seed in range(20):
        scene.randomize(seed)
        hole = scene.data.site("blue_block_hole").xpos - scene.position("blue_block")
        assert hole[2] == pytest.approx(insert.socket.height_m)  # type: ignore[attr-defined]
        off.append(np.linalg.norm(hole[:2]))
        walls = [scene.model.geom(f"blue_block_{name}") for name in ("front", "back", "left", "right")]
        low = np.min([wall.pos[:2] - wall.size[:2] for wall in walls], axis=0)
        high = np.max([wall.pos[:2] + wall.size[:2] for wall in walls], axis=0)
        np.testing.assert_allclose([low, high], [[-0.05, -0.05], [0.05, 0.05]])
        for wall in walls:  # what collides is where the numbers say
            at = scene.data.geom(wall.name).xpos - scene.position("blue_block")
            assert np.linalg.norm(at) == pytest.approx(np.linalg.norm(wall.pos))
        gap = (walls[0].pos - walls[0].size)[0] - (walls[1].pos + walls[1].size)[0]
        assert gap == pytest.approx(2 * 0.013)
    assert 0.002 < max(off) <= 0.003 and min(off) < 0.0015


def test_the_expert_inserts(insert: Task, embodiment: Embodiment) -> None:
    results = demonstrate(insert, embodiment, range(4))
    assert all(result.success for result in results), [result.failure for result in results]
