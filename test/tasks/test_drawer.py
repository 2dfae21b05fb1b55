"""The drawer: what counts as done and why not, where things are in it, and the expert in the cell."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
from transforms3d.euler import euler2mat

from physai_base.embodiment import Embodiment
from physai_base.expert import Goal
from physai_base.outcome import Situation, Stance, Tool
from physai_base.task import Task
from physai_lab.tasks.trial import demonstrate
from physai_sim.scene import Scene
from physai_tasks.drawer.handle import DrawerPose, facing

GOAL = Goal("red_block", "blue_drawer")
AWAY = Tool(np.array([0.37, 0.0, 0.42]))
YAW = 0.1
TURN = euler2mat(0, 0, YAW)
CABINET = np.array([0.65, 0.15, 0.0])


@pytest.fixture(scope="module")
def drawer() -> Task:
    return Task.load("drawer")


def things(opening_m: float, block_m: np.ndarray) -> dict[str, Stance]:
    front = CABINET + TURN @ [-(0.17 + 0.012) / 2 - opening_m, 0, 0]
    return {
        "green_cabinet": Stance(CABINET, TURN), "blue_drawer": Stance(front, TURN), "red_block": Stance(block_m),
        "yellow_block": Stance(np.array([0.4, -0.3, 0.0])),
    }  # fmt: skip


IN_IT = CABINET + TURN @ [-0.03, 0.01, 0.010]
START = things(0.0, np.array([0.45, -0.15, 0.0]))


@pytest.mark.parametrize(
    ("opening", "block", "tool", "cause"),
    [
        (0.004, IN_IT, AWAY, ""),
        (0.030, IN_IT, AWAY, "drawer_not_closed"),
        (0.004, IN_IT, Tool(np.array([0.53, 0.14, 0.05])), "hand_not_off"),
        (0.004, np.array([0.45, -0.05, 0.0]), AWAY, "not_in_the_drawer"),
        (0.100, np.array([0.45, -0.15, 0.0]), AWAY, "target_not_moved"),
        (0.004, CABINET + [0, 0, 0.09], AWAY, "not_in_the_drawer"),
    ],
)
def test_it_is_in_the_closed_drawer_or_it_is_said_why_not(
    drawer: Task, opening: float, block: np.ndarray, tool: Tool, cause: str
) -> None:
    assert drawer.outcome(GOAL, Situation(things(opening, block), tool), START).cause == cause


def test_another_block_is_left_alone_and_the_cabinet_is_needed(drawer: Task) -> None:
    moved = {**things(0.0, IN_IT), "yellow_block": Stance(np.array([0.4, -0.2, 0.0]))}
    assert drawer.outcome(GOAL, Situation(moved, AWAY), START).cause == "moved_other_block"
    assert drawer.needs(GOAL) == {"red_block", "blue_drawer", "green_cabinet"}


def test_the_drawer_is_where_cabinet_and_front_say(drawer: Task, embodiment: Embodiment) -> None:
    scene = Scene.build(embodiment, drawer)
    for seed in range(10):
        scene.randomize(seed)
        out_m = 0.01 * seed
        scene.data.joint("blue_drawer").qpos[0] = out_m
        mujoco.mj_forward(scene.model, scene.data)
        pose = DrawerPose.of(drawer, scene.situation())  # type: ignore[arg-type]
        assert pose.opening_m == pytest.approx(out_m, abs=1e-6)
        handle = scene.data.geom("blue_drawer_handle").xpos
        np.testing.assert_allclose(pose.handle_m[:2], handle[:2], atol=1e-6)
        assert pose.handle_m[2] == pytest.approx(handle[2])
    assert facing(Stance(CABINET, euler2mat(0, 0, YAW + np.pi))) == pytest.approx(YAW)


def test_the_expert_opens_puts_in_and_closes(drawer: Task, embodiment: Embodiment) -> None:
    results = demonstrate(drawer, embodiment, range(4))
    assert all(result.success for result in results), [result.failure for result in results]
