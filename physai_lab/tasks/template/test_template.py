"""The template task: what counts as done and why not, and whether all of its parts fit together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.expert import Goal
from physai_base.outcome import Situation, Stance, Tool
from physai_base.task import Task
from physai_lab.robots.remark import WRONG
from physai_lab.tasks.check import findings

GOAL = Goal("red_jar", "green_mark")
MARK = Stance(np.array([0.5, 0.2, 0.0]))
START = {"red_jar": Stance(np.array([0.5, -0.2, 0.0])), "blue_jar": Stance(np.array([0.45, -0.1, 0.0]))}
AWAY = Tool(np.array([0.4, 0.0, 0.4]))


def cause(red_jar: Stance, tool: Tool = AWAY, blue_jar: Stance = START["blue_jar"]) -> str:
    """What the task says with the jars there."""
    things = {"red_jar": red_jar, "blue_jar": blue_jar, "green_mark": MARK}
    return Task.load("template").outcome(GOAL, Situation(things, tool), START).cause


def test_a_jar_is_on_the_mark_or_it_is_said_why_not() -> None:
    """One case for each cause."""
    on_it = Stance(np.array([0.51, 0.19, 0.0]))
    assert cause(on_it) == ""
    assert cause(START["red_jar"]) == "beside_the_mark"
    assert cause(replace(on_it, position_m=np.array([0.5, 0.2, 0.1]))) == "beside_the_mark"
    assert cause(replace(on_it, upright=False)) == "target_fell_over"
    assert cause(replace(on_it, velocity_m_s=np.array([0.1, 0, 0]))) == "still_moving"
    assert cause(on_it, Tool(np.array([0.5, 0.2, 0.05]))) == "not_released"
    assert cause(on_it, blue_jar=replace(START["blue_jar"], upright=False)) == "moved_other_jar"


def test_what_it_is_not_about_or_nobody_sees_is_not_done() -> None:
    """Neither is an error."""
    task = Task.load("template")
    assert task.outcome(GOAL, Situation({}, AWAY)).cause == "target_or_destination_not_seen"
    assert task.outcome(Goal("red_jar", "moon"), Situation({}, AWAY)).cause == "unknown_target_or_destination"


def test_nothing_is_wrong_with_it() -> None:
    """As `physai task check`: cell, features, expert, words, and a few episodes in which the expert does it."""
    found = list(findings(Task.load("template"), Embodiment.load("fr3")))
    assert not [str(remark) for remark in found if remark.level == WRONG]
