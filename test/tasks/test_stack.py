"""Stacking: what counts as done and why not, what can be asked for, and the expert in the cell."""

from __future__ import annotations

import numpy as np
import pytest

from physai_base.embodiment import Embodiment
from physai_base.expert import Goal
from physai_base.outcome import Situation, Stance, Tool
from physai_base.task import Task
from physai_lab.tasks.trial import demonstrate
from physai_sim.scene import Scene
from physai_tasks.carrying import FARTHEST_TURN_RAD, turned
from physai_tasks.stack.outcome import stands_on

GOAL = Goal("small_red_block", "big_green_block")
AWAY = Tool(np.array([0.37, 0.0, 0.42]))
START = {
    "small_red_block": Stance(np.array([0.4, -0.2, 0])),
    "big_red_block": Stance(np.array([0.4, 0.2, 0])),
    "small_blue_block": Stance(np.array([0.55, -0.2, 0])),
    "big_green_block": Stance(np.array([0.55, 0.1, 0])),
}


@pytest.fixture(scope="module")
def stack() -> Task:
    return Task.load("stack")


@pytest.mark.parametrize(
    ("block", "cause"),
    [
        ((0.55, 0.1, 0.056), ""),
        ((0.565, 0.1, 0.057), ""),
        ((0.57, 0.1, 0.056), "not_on_the_block"),
        ((0.55, 0.1, 0.10), "not_on_the_block"),
        ((0.4, -0.2, 0.0), "target_not_moved"),
    ],
)
def test_a_block_is_on_the_other_or_it_is_said_why_not(stack: Task, block: tuple, cause: str) -> None:
    things = {**START, "small_red_block": Stance(np.array(block))}
    assert stack.outcome(GOAL, Situation(things, AWAY), START).cause == cause


def test_the_hand_lets_go_and_nothing_else_is_harmed(stack: Task) -> None:
    done = {**START, "small_red_block": Stance(np.array([0.55, 0.1, 0.056]))}
    held = Tool(np.array([0.55, 0.1, 0.08]))
    assert stack.outcome(GOAL, Situation(done, held), START).cause == "not_released"
    moved = {**done, "big_red_block": Stance(np.array([0.4, 0.25, 0]))}
    assert stack.outcome(GOAL, Situation(moved, AWAY), START).cause == "moved_other_block"
    toppled = {**done, "big_red_block": Stance(np.array([0.4, 0.2, 0]), upright=False)}
    assert stack.outcome(GOAL, Situation(toppled, AWAY), START).cause == "toppled_other_block"
    assert stack.outcome(Goal("small_red_block", "small_red_block"), Situation(done, AWAY)).cause


def test_only_blocks_that_carry_nothing_are_asked_for(stack: Task, embodiment: Embodiment) -> None:
    scene, heights = Scene.build(embodiment, stack), set()
    for seed in range(30):
        scene.randomize(seed)
        now = scene.situation()
        on = {(a, b) for a in stack.objects for b in stack.objects if a != b and stands_on(stack, a, b, now)}
        heights.add(len(on))
        for goal in stack.goals:
            carrying = {below for _, below in on} & {goal.target, goal.destination}
            assert stack.possible(goal, now) is not bool(carrying or (goal.target, goal.destination) in on)
    assert heights == {0, 1, 2}


@pytest.mark.parametrize("now", [-0.8, 0.0, 0.8])
def test_a_hand_turns_the_short_way_and_not_too_far(now: float) -> None:
    for yaw in np.linspace(-3.2, 3.2, 65):
        found = turned(float(yaw), now)
        assert abs(found) <= FARTHEST_TURN_RAD and np.isclose(
            (found - yaw) % (np.pi / 2) % (np.pi / 2 - 1e-9), 0, atol=1e-6
        )


def test_the_expert_stacks(stack: Task, embodiment: Embodiment) -> None:
    results = demonstrate(stack, embodiment, range(4))
    assert all(result.success for result in results), [result.failure for result in results]
