"""Wiping: what counts as clean and why not, what comes off and what does not, and the expert in the cell."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from physai_base.embodiment import Embodiment
from physai_base.expert import Goal
from physai_base.outcome import Situation, Stance, Tool
from physai_base.task import Task
from physai_lab.tasks.trial import demonstrate
from physai_sim.scene import Scene

GOAL = Goal("purple_stain")
AWAY = Tool(np.array([0.37, 0.0, 0.42]))
SPONGE = Stance(np.array([0.5, 0.1, 0.0]))
CLEAN, DIRTY = (
    Stance(np.array([0.5, 0.1, 0.0]), size_m=np.array(size)) for size in ((0, 0, 0), (0.05, 0.03, 0))
)


@pytest.fixture(scope="module")
def wipe() -> Task:
    return Task.load("wipe")


@pytest.mark.parametrize(
    ("stain", "sponge", "tool", "cause"),
    [
        (CLEAN, SPONGE, AWAY, ""),
        (DIRTY, SPONGE, AWAY, "stain_left"),
        (CLEAN, SPONGE, Tool(np.array([0.5, 0.1, 0.03])), "sponge_not_put_down"),
        (CLEAN, Stance(np.array([0.5, 0.1, 0.1])), AWAY, "sponge_not_put_down"),
        (CLEAN, Stance(np.array([0.5, 0.1, 0.0]), upright=False), AWAY, "sponge_on_its_side"),
        (CLEAN, SPONGE, Tool(AWAY.position_m, wrench=np.array([0, 0, 30.0, 0, 0, 0])), "pressed_too_hard"),
    ],
)
def test_it_is_clean_or_it_is_said_why_not(
    wipe: Task, stain: Stance, sponge: Stance, tool: Tool, cause: str
) -> None:
    now = Situation({"purple_stain": stain, "yellow_sponge": sponge}, tool)
    assert wipe.outcome(GOAL, now).cause == cause
    assert wipe.needs(GOAL) == {"purple_stain", "yellow_sponge"}


@pytest.mark.parametrize(("force_n", "comes_off"), [(3.0, False), (10.0, True)])
def test_only_what_is_rubbed_hard_enough_comes_off(
    wipe: Task, embodiment: Embodiment, force_n: float, comes_off: bool
) -> None:
    scene = Scene.build(embodiment, wipe)
    model, data = scene.model, scene.data
    stain = scene.position("purple_stain")
    joint, body = data.joint("yellow_sponge"), model.body("yellow_sponge").id
    joint.qpos[:3] = stain + [-0.09, 0, 0]
    weight = model.body_mass[body] * 9.81
    for _ in range(round(3.0 / model.opt.timestep)):
        data.xfrc_applied[body, 2] = -(force_n - weight)
        data.xfrc_applied[body, 0] = 200 * model.body_mass[body] * (0.07 - joint.qvel[0]) + 0.35 * force_n
        mujoco.mj_step(model, data)
        scene.step(model.opt.timestep)
    left = scene.measured("purple_stain")
    assert left is not None and left.size_m is not None
    assert bool(left.size_m[0] < 0.05) is comes_off
    assert scene.score(GOAL) != "pressed_too_hard"
    scene.reset()
    whole = scene.measured("purple_stain")
    assert whole is not None and whole.size_m is not None
    np.testing.assert_allclose(whole.size_m[:2], [0.12, 0.036], atol=1e-6)


def test_a_table_that_was_scratched_stays_so_until_the_next_cell(wipe: Task, embodiment: Embodiment) -> None:
    scene = Scene.build(embodiment, wipe)
    body = scene.model.body("yellow_sponge").id
    for force_n, steps in ((40.0, 200), (0.0, 500)):
        for _ in range(steps):
            scene.data.xfrc_applied[body, 2] = -force_n
            mujoco.mj_step(scene.model, scene.data)
            scene.step(scene.model.opt.timestep)
    assert scene.score(GOAL) == "pressed_too_hard"
    scene.randomize(1)
    assert scene.score(GOAL) == "stain_left"


def test_the_expert_wipes_with_the_right_force(wipe: Task, embodiment: Embodiment) -> None:
    results = demonstrate(wipe, embodiment, range(3))
    assert all(result.success for result in results), [result.failure for result in results]
