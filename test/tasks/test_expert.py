"""The expert does the job in its own imagination from any state, and is a function of the state alone."""

from __future__ import annotations

import numpy as np
import pytest

from physai_tasks.carrying import CarryState
from physai_tasks.cups.expert import CupExpert
from physai_tasks.steering import MAX_SPEED_M_S


@pytest.fixture
def expert(task, embodiment, kinematics) -> CupExpert:
    home = kinematics.tool_pose(embodiment.home).position
    return CupExpert(home, embodiment.gripper.opening_max, embodiment.gripper.speed, task)


def _run(expert: CupExpert, state: CarryState, seconds: float = 15.0) -> CarryState:
    h = 0.01
    for _ in range(round(seconds / h)):
        state = expert._advance(state, *expert.decide(state), h)
        if expert.finished(state):
            break
    return state


def test_finishes_from_random_states(expert: CupExpert) -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        cup = np.array([rng.uniform(0.36, 0.6), rng.uniform(-0.34, 0.0), 0.0])
        place = np.array([rng.uniform(0.4, 0.6), rng.uniform(0.26, 0.33), rng.choice([0.08, 0.20])])
        tcp = rng.uniform([0.3, -0.3, 0.15], [0.6, 0.3, 0.45])
        state = CarryState(tcp, np.zeros(3), 0.08, cup, place, expert.load)
        end = _run(expert, state)
        assert expert.finished(end)
        assert np.linalg.norm(end.thing_m - place) < 0.025


def test_plan_is_smooth_and_bounded(expert: CupExpert) -> None:
    state = CarryState(
        np.array([0.37, 0.0, 0.42]),
        np.zeros(3),
        0.08,
        np.array([0.5, -0.2, 0.0]),
        np.array([0.5, 0.3, 0.2]),
        expert.load,
    )
    plan = expert.plan(state)
    assert plan.shape == (16, 4)
    assert np.allclose(plan[0, :3], state.tool)
    assert np.linalg.norm(np.diff(plan[:, :3], axis=0), axis=1).max() <= MAX_SPEED_M_S * expert.dt_s + 1e-9


def test_plan_depends_on_nothing_but_the_state(expert: CupExpert) -> None:
    state = CarryState(
        np.array([0.4, 0.1, 0.3]),
        np.zeros(3),
        0.08,
        np.array([0.5, -0.1, 0.0]),
        np.array([0.5, 0.3, 0.08]),
        expert.load,
    )
    first = expert.plan(state)
    expert.plan(CarryState(np.zeros(3), np.ones(3), 0.0, np.zeros(3), np.ones(3), expert.load))
    assert np.array_equal(first, expert.plan(state))
