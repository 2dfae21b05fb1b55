"""One success, one truth: score, policy, expert and evaluation mean the same, and what was so before is nobody's failure."""

from __future__ import annotations

from dataclasses import replace

import mujoco
import numpy as np
import pytest
import yaml
from paths import CASES
from scenes import SHELF_M, make_scene, thing
from transforms3d.quaternions import mat2quat

from physai_base.embodiment import Embodiment
from physai_base.expert import Goal
from physai_base.outcome import Situation, Stance, Tool
from physai_base.task import Task
from physai_base.values import EndEffectorState, SceneState
from physai_policy.agent import Agent
from physai_policy.course import TaskState
from physai_policy.policy import ActionSpace, Observation, Prefix, Proposal
from physai_sim.scene import Scene
from physai_tasks.carrying import CarryState
from physai_tasks.cups.expert import CupExpert
from physai_tasks.cups.outcome import ASIDE_M, CLEARANCE_M, Cause

GOAL = Goal("red_cup", "top_shelf")
PLACEMENTS = yaml.safe_load((CASES / "success/placements.yaml").read_text())


class Still:
    """A policy that stays where it is."""

    name, horizon, dt_s = "still", 16, 0.1

    def infer(self, observation: Observation, prefix: Prefix | None = None) -> Proposal:
        """The same row again and again."""
        rows = np.tile(np.append(observation.tool_m, observation.gripper_width_m), (self.horizon, 1))
        return Proposal(rows[None], ActionSpace.TOOL_POSITION, self.dt_s)


@pytest.fixture(scope="module")
def cell(embodiment: Embodiment, task: Task) -> Scene:
    return Scene.build(embodiment, task)


@pytest.fixture
def agent(embodiment: Embodiment, task: Task) -> Agent:
    agent = Agent(embodiment, task, Still())
    agent.start(GOAL, 0)
    return agent


def seen(cell: Scene, stamp_ns: int = 0) -> SceneState:
    """The true state as a perception without errors would report it."""
    tool, now = cell.data.site(cell.embodiment.tool_frame), cell.situation()
    objects = [
        replace(
            thing(label, tuple(cell.position(label)), stamp_ns),
            upright=now.things[label].upright,
            velocity_m_s=now.things[label].velocity_m_s,
            orientation=mat2quat(now.things[label].rotation),
        )
        for label in now.things
    ]
    home = cell.embodiment.home
    return SceneState(
        stamp_ns,
        tuple(objects),
        home,
        np.zeros(len(home)),
        (EndEffectorState.at_rest(tool.xpos.copy(), np.array([0.0, 1, 0, 0]), 0.08),),
    )


def put(cell: Scene, label: str, foot: np.ndarray, tilt: float = 0.0, speed: float = 0.0) -> None:
    joint = cell.data.joint(label)
    joint.qpos[:] = [*foot, np.cos(tilt / 2), np.sin(tilt / 2), 0, 0]
    joint.qvel[:] = [speed, 0, 0, 0, 0, 0]
    mujoco.mj_forward(cell.model, cell.data)


def has_ended(agent: Agent, scene: SceneState) -> bool:
    """Whether the policy calls it done once it has seen that for a second."""
    agent.start(GOAL, scene.stamp_ns)
    for i in range(21):
        agent.step(replace(scene, stamp_ns=scene.stamp_ns + i * 50_000_000))
    return agent.state is TaskState.SUCCEEDED


@pytest.mark.parametrize("case", PLACEMENTS, ids=lambda case: str(case["at"]))
def test_score_and_policy_agree_where_they_once_did_not(cell: Scene, agent: Agent, case: dict) -> None:
    cell.reset()
    start = cell.stances()
    put(cell, "red_cup", cell.position("top_shelf") + case["at"])
    assert cell.score(Goal("red_cup", "top_shelf"), start) == case["cause"]
    assert has_ended(agent, seen(cell)) is (case["cause"] == "")


def test_score_and_policy_agree_on_random_placements(cell: Scene, agent: Agent) -> None:
    rng = np.random.default_rng(3)
    causes: dict[str, int] = {}
    for k in range(600):
        cell.randomize(k, ["poses"])
        agent.start(GOAL, 0)
        before = seen(cell)
        agent.course._remember_start(before)
        start = cell.stances()
        near = rng.normal(size=3) * [0.06, 0.1, 0.008]
        put(
            cell,
            "red_cup",
            cell.position("top_shelf") + near,
            rng.choice([0, 0, 0, 0.2, 0.5]),
            rng.choice([0, 0, 0.05]),
        )
        if rng.random() < 0.3:
            moved = rng.normal(size=3) * [0.03, 0.03, 0]
            put(cell, "blue_cup", cell.position("blue_cup") + moved, rng.choice([0, 0, 1.57]))
        if rng.random() < 0.3:  # the hand is about the cup
            cell.data.site(cell.embodiment.tool_frame).xpos[:] = cell.position("red_cup") + rng.uniform(
                [-0.15, -0.15, 0.0], [0.15, 0.15, 0.2]
            )
        score = cell.score(Goal("red_cup", "top_shelf"), start)
        assert agent.course.outcome(seen(cell)).cause == score
        causes[score] = causes.get(score, 0) + 1
    wanted = {"", "wrong_place", "target_fell_over", "not_released", "still_moving", "moved_other_cup"}
    assert wanted | {"knocked_over_other_cup"} == set(causes), causes
    assert min(causes.values()) >= 10, causes


def test_the_expert_means_the_same_by_done(cell: Scene, task: Task, embodiment: Embodiment) -> None:
    gripper = embodiment.gripper
    expert = CupExpert(np.array([0.4, 0, 0.5]), gripper.opening_max, gripper.speed, task)
    place, rng, found = np.array([0.42, 0.30, 0.20]), np.random.default_rng(5), set()
    for _ in range(300):
        cup = place + rng.normal(size=3) * [0.06, 0.1, 0.008]
        tool = cup + rng.uniform([-0.2, -0.2, 0.0], [0.2, 0.2, 0.3])
        done = expert.finished(CarryState(tool, np.zeros(3), 0.08, cup, place, expert.load))
        places = {"red_cup": cup, "top_shelf": place}
        scene = SceneState(
            0, tuple(thing(label, tuple(at)) for label, at in places.items()),
            embodiment.home, np.zeros(7), (EndEffectorState.at_rest(tool, np.array([0.0, 1, 0, 0]), 0.08),),
        )  # fmt: skip
        assert done is task.outcome(Goal("red_cup", "top_shelf"), Situation.perceived(scene)).success
        found.add(done)
    assert found == {True, False}


def stances(**changed: Stance) -> dict[str, Stance]:
    on_table = {"green_cup": (0.55, -0.2, 0.0), "blue_cup": (0.42, -0.05, 0.0), "red_cup": (0.4, -0.3, 0.0)}
    return {**{label: Stance(np.array(at)) for label, at in on_table.items()}, **changed}


def situation(task: Task, **changed: Stance) -> Situation:
    """The red cup on the top shelf's middle, the hand away."""
    x, y, z = SHELF_M["top_shelf"]
    scene = {"red_cup": Stance(np.array([x, y, z])), **changed}
    boards = Situation.perceived(_shelf()).things
    return Situation({**stances(**scene), **boards}, Tool(np.array([x, y, z + 0.3])))


def _shelf() -> SceneState:
    return SceneState(
        0, tuple(thing(label, at) for label, at in SHELF_M.items()),
        np.zeros(7), np.zeros(7), (EndEffectorState.at_rest(np.zeros(3), np.array([0.0, 1, 0, 0]), 0.08),),
    )  # fmt: skip


def lying(x: float, y: float) -> Stance:
    return Stance(np.array([x, y, 0.03]), upright=False)


@pytest.mark.parametrize(
    ("before", "now", "cause"),
    [
        ({"green_cup": lying(0.55, -0.2)}, {"green_cup": lying(0.55, -0.2)}, Cause.NONE),
        ({"green_cup": lying(0.55, -0.2)}, {"green_cup": lying(0.60, -0.2)}, Cause.NONE),
        ({"green_cup": lying(0.55, -0.2)}, {"green_cup": lying(0.56, -0.2), "blue_cup": lying(0.42, -0.05)}, Cause.KNOCKED_OVER),
        ({}, {"green_cup": lying(0.55, -0.2)}, Cause.KNOCKED_OVER),
        ({"green_cup": lying(0.55, -0.2)}, {"green_cup": Stance(np.array([0.60, -0.2, 0.0]))}, Cause.NONE),
        ({}, {"green_cup": Stance(np.array([0.59, -0.2, 0.0]))}, Cause.MOVED),
        ({}, {"green_cup": Stance(np.array([0.57, -0.2, 0.0]))}, Cause.NONE),
        ({"red_cup": lying(0.4, -0.3)}, {"red_cup": lying(0.4, -0.3)}, Cause.LAY_BEFORE),
        ({"red_cup": lying(0.4, -0.3)}, {"red_cup": lying(0.45, -0.3)}, Cause.LAY_BEFORE),
        ({}, {"red_cup": lying(0.45, -0.3)}, Cause.FELL),
        ({}, {"red_cup": Stance(np.array([0.4, -0.3, 0.0]))}, Cause.NOT_MOVED),
    ],
)  # fmt: skip
def test_what_was_so_before_is_nobodys_failure(
    task: Task, before: dict[str, Stance], now: dict[str, Stance], cause: Cause
) -> None:
    found = task.outcome(Goal("red_cup", "top_shelf"), situation(task, **now), stances(**before))
    assert found.cause == cause


def test_of_what_was_not_seen_nothing_is_said(task: Task) -> None:
    now = situation(task, green_cup=lying(0.6, -0.2))
    start = stances()
    del start["green_cup"]
    assert task.outcome(Goal("red_cup", "top_shelf"), now, start).success
    assert task.outcome(Goal("red_cup", "top_shelf"), now).success
    unseen = replace(now, things={"blue_cup": now.things["blue_cup"]})
    assert task.outcome(Goal("red_cup", "top_shelf"), unseen, start).cause == Cause.NOT_SEEN
    assert task.outcome(Goal("sofa", "top_shelf"), now, start).cause == Cause.UNKNOWN


@pytest.mark.parametrize(
    ("hand", "released"),
    [((0, 0, 0.10 + CLEARANCE_M - 0.001), False), ((0, 0, 0.10 + CLEARANCE_M + 0.001), True),
     ((ASIDE_M - 0.001, 0, 0.06), False), ((0, -ASIDE_M - 0.001, 0.06), True)],
)  # fmt: skip
def test_released_is_the_hand_above_or_beside(
    task: Task, hand: tuple[float, float, float], released: bool
) -> None:
    now = situation(task)
    now = replace(now, tool=Tool(now.things["red_cup"].position_m + hand))
    found = task.outcome(Goal("red_cup", "top_shelf"), now)
    assert found.cause == (Cause.NONE if released else Cause.NOT_RELEASED)


def test_wide_cups_are_noticed(embodiment: Embodiment, task: Task) -> None:
    """As wide as the hand opens: once the policy asked for more room than there is."""
    wide = replace(task, cups=replace(task.cups, radius_m=0.038))
    agent = Agent(embodiment, wide, Still())
    x, y, z = SHELF_M["top_shelf"]
    assert has_ended(agent, make_scene(embodiment, wide, (x, y, 0.45), 1_000_000_000, red_cup=(x, y, z)))
