"""Pushing: what counts as done and why not; the expert does it in the cell."""

from __future__ import annotations

import numpy as np
import pytest

from physai_base.embodiment import Embodiment
from physai_base.expert import Goal
from physai_base.outcome import Situation, Stance, Tool
from physai_base.task import Task
from physai_lab.tasks.trial import demonstrate
from physai_sim.scene import Scene
from physai_tasks.push.cell import distance_to_way

GOAL = Goal("red_puck", "green_mark")
START = {"red_puck": Stance(np.array([0.45, -0.1, 0])), "blue_puck": Stance(np.array([0.6, -0.1, 0]))}


@pytest.fixture(scope="module")
def push() -> Task:
    return Task.load("push")


@pytest.mark.parametrize(
    ("puck", "tool", "cause"),
    [
        ((0.5, 0.1, 0.0), (0.4, 0.0, 0.4), ""),
        ((0.512, 0.112, 0.0), (0.5, 0.1, 0.08), ""),
        ((0.5, 0.1, 0.0), (0.45, 0.1, 0.02), "hand_not_off"),
        ((0.525, 0.1, 0.0), (0.4, 0.0, 0.4), "beside_the_mark"),
        ((0.45, -0.1, 0.0), (0.4, 0.0, 0.4), "target_not_moved"),
        ((0.5, 0.1, -0.3), (0.4, 0.0, 0.4), "target_left_the_table"),
    ],
)
def test_a_puck_is_on_the_mark_or_it_is_said_why_not(
    push: Task, puck: tuple, tool: tuple, cause: str
) -> None:
    things = {**START, "red_puck": Stance(np.array(puck)), "green_mark": Stance(np.array([0.5, 0.1, 0]))}
    assert push.outcome(GOAL, Situation(things, Tool(np.array(tool))), START).cause == cause


def test_another_puck_is_left_alone_and_one_that_rolls_is_not_done(push: Task) -> None:
    there = {"red_puck": Stance(np.array([0.5, 0.1, 0])), "green_mark": Stance(np.array([0.5, 0.1, 0]))}
    moved = Situation(
        {**there, "blue_puck": Stance(np.array([0.6, -0.06, 0]))}, Tool(np.array([0.4, 0.0, 0.4]))
    )
    assert push.outcome(GOAL, moved, START).cause == "moved_other_puck"
    rolls = Stance(np.array([0.5, 0.1, 0]), velocity_m_s=np.array([0.1, 0, 0]))
    assert (
        push.outcome(GOAL, Situation({**there, "red_puck": rolls}, moved.tool), START).cause == "still_moving"
    )
    tipped = Stance(np.array([0.5, 0.1, 0]), upright=False)
    assert (
        push.outcome(GOAL, Situation({**there, "red_puck": tipped}, moved.tool)).cause == "target_tipped_over"
    )
    assert push.outcome(Goal("red_puck", "blue_puck"), moved).cause == "unknown_target_or_destination"
    assert push.outcome(GOAL, Situation({}, moved.tool)).cause == "target_or_destination_not_seen"


def test_the_expert_pushes_pucks_onto_the_mark(push: Task, embodiment: Embodiment) -> None:
    results = demonstrate(push, embodiment, range(4))
    assert all(result.success for result in results), [result.failure for result in results]


def test_no_puck_is_in_the_way_of_another(push: Task, embodiment: Embodiment) -> None:
    scene = Scene.build(embodiment, push)
    for seed in range(20):
        scene.randomize(seed)
        here = scene.situation().things
        for puck, other in (push.objects, push.objects[::-1]):
            way = (here[label].position_m[:2] for label in (other, puck, "green_mark"))
            assert distance_to_way(*way) > 0.14
