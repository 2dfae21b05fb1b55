"""What repeats without progress is named after two seconds, and what can be done about it is done: through the real cell."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import replace

import mujoco
import numpy as np
import pytest
import yaml
from paths import CASES
from scenes import make_scene

from physai_base.bundle import Bundle
from physai_base.bystanders import MEMORY_S, Bystanders
from physai_base.embodiment import Embodiment
from physai_base.expert import Goal
from physai_base.outcome import Outcome
from physai_base.task import Task
from physai_base.values import ActionChunk, JointState, SceneState
from physai_lab.evaluation.cell import Cell, EpisodeResult
from physai_policy.agent import Agent, AgentSettings
from physai_policy.course import TaskState
from physai_policy.flow_policy import FlowPolicy
from physai_policy.policy import ActionSpace, Observation, Prefix, Proposal
from physai_policy.progress import Progress
from physai_policy.watch import PATIENCE_S, Grasps, Stall
from physai_policy.way_home import SPEED_RAD_S, WayHome
from physai_world_model.judge import Judge
from physai_world_model.model import WorldModel

pytestmark = pytest.mark.slow

GOAL = Goal("red_cup", "top_shelf")
OFFSETS = yaml.safe_load((CASES / "posture/offsets.yaml").read_text())
STEP_NS = 50_000_000
EMBODIMENT = Embodiment.load("fr3")


@pytest.fixture(scope="module")
def cell(embodiment: Embodiment, task: Task) -> Iterator[Cell]:
    cell = Cell(embodiment, task, sight="truth")
    yield cell
    cell.close()


@pytest.fixture(scope="module")
def policy(task: Task) -> FlowPolicy:
    return FlowPolicy(Bundle.open("cups/policy", kind="policy", robot="fr3"), task)


@pytest.fixture(scope="module")
def judge(embodiment: Embodiment, task: Task) -> Judge:
    model = WorldModel(Bundle.open("cups/world_model", kind="world_model", robot="fr3"), task)
    return Judge(embodiment, task, model)


def run(cell: Cell, policy: FlowPolicy, judge: Judge, timeout_s: float = 30.0) -> tuple[EpisodeResult, float]:
    """One task, and how far a joint went from where it stood (rad)."""
    before = cell.joint_state().position
    result = cell.run(policy, GOAL, "", 0, judge, AgentSettings(timeout_s=timeout_s))
    return result, float(np.abs(cell.joint_state().position - before).max())


def lay(cell: Cell, label: str) -> None:
    """Put a cup on its side."""
    joint, turn = cell.scene.data.joint(label), np.empty(4)
    mujoco.mju_axisAngle2Quat(turn, np.array([1.0, 0.0, 0.0]), np.pi / 2)
    joint.qpos[2], joint.qpos[3:7], joint.qvel[:] = cell.task.grip_m / 2, turn, 0.0
    cell._advance(0.5)


# ---- where the arm stands ----


@pytest.mark.parametrize("case", [OFFSETS[k] for k in (1, 4, 6, 7, 8)], ids=lambda case: case["right"])
def test_an_arm_that_was_jogged_goes_home_first_or_says_why_not(
    cell: Cell, policy: FlowPolicy, judge: Judge, monkeypatch: pytest.MonkeyPatch, case: dict
) -> None:
    """`test/bench/bench_posture.py` does whole tasks from many more."""
    elsewhere = cell.embodiment.home + case["offset"]
    set_arm = cell.scene.set_arm
    monkeypatch.setattr(cell.scene, "set_arm", lambda _: set_arm(elsewhere))
    cell.randomize(case["seed"], ("poses",))
    result, moved = run(cell, policy, judge, timeout_s=1.0)  # of the policy: the way home is not counted
    assert sum(result.rejections.values()) == 0
    if case["right"] == "done":
        assert "not done within 1 s" in result.failure
        assert moved > 0.3
        home = cell.kinematics.tool_pose(cell.embodiment.home).position
        target = cell.scene.position(GOAL.target)
        tool = cell.kinematics.tool_pose(cell.joint_state().position).position
        assert np.linalg.norm((tool - target)[:2]) < np.linalg.norm((home - target)[:2]) - 0.05
    else:
        assert case["right"] in result.failure
        assert moved < 0.01
        assert result.duration_s < 3


def test_the_way_home_is_slow_and_ends_at_rest(embodiment: Embodiment, task: Task) -> None:
    scene = make_scene(embodiment, task)
    scene = replace(
        scene,
        joint_position=embodiment.home + np.linspace(-0.5, 0.5, 7),
        end_effectors=(replace(scene.tool, opening=0.03),),
    )
    way = WayHome.from_here(embodiment, scene)
    times = np.arange(0.0, way.duration_s + 2, 0.01)
    path = way.at(times / way.duration_s)
    assert np.abs(np.diff(path, axis=0)).max() <= 0.01 * SPEED_RAD_S + 1e-9
    np.testing.assert_allclose(path[-1], embodiment.home)
    first = way.proposal(scene.stamp_ns, 16, 0.05)
    np.testing.assert_allclose(first.chosen[0, :-1], scene.joint_position)
    assert set(first.chosen[:, -1]) == {0.03}


# ---- vetoes ----


def test_a_cup_that_lies_already_is_not_knocked_over(cell: Cell, policy: FlowPolicy, judge: Judge) -> None:
    """Once 76 of 76 chunks were vetoed."""
    cell.randomize(70800, ("poses",))
    lay(cell, "green_cup")
    result, _ = run(cell, policy, judge, timeout_s=2.0)
    assert result.chunks > 5
    assert not result.vetoes


class Standing:
    """A policy with three samples, each with another way up; it notes which was asked for."""

    name, horizon, dt_s = "standing", 16, 0.05

    def infer(self, observation: Observation, prefix: Prefix | None = None) -> Proposal:
        """Straight up from where the tool is."""
        path = observation.tool_m + np.outer(np.linspace(0, 1, self.horizon), [0, 0, 0.01])
        samples = [np.column_stack([path + [0, 0, 0.002 * k], np.full(16, 0.08)]) for k in range(3)]
        return Proposal(np.array(samples), ActionSpace.TOOL_POSITION, self.dt_s)


class Trial:
    """An agent whose chunks are answered as a test says."""

    def __init__(self, embodiment: Embodiment, task: Task, **settings: float) -> None:
        self.agent = Agent(embodiment, task, Standing(), AgentSettings(**settings))  # type: ignore[arg-type]
        self.embodiment, self.task, self.now_ns = embodiment, task, 1_000_000_000
        self._noise = np.random.default_rng(0)  # nothing measured is the same twice
        self.agent.start(GOAL, self.now_ns)

    def step(self, scene: SceneState | None = None, **places: object) -> ActionChunk | None:
        """One scene later."""
        if scene is None:
            scene = make_scene(self.embodiment, self.task, stamp_ns=self.now_ns, **places)  # type: ignore[arg-type]
            scene = replace(scene, joint_position=scene.joint_position + self._noise.normal(0, 1e-6, 7))
        plan = self.agent.step(replace(scene, stamp_ns=self.now_ns))
        self.now_ns += STEP_NS
        return None if plan is None else self.agent.send(plan, self.now_ns)

    def elapsed_s(self) -> float:
        return (self.now_ns - 1_000_000_000) / 1e9


@pytest.fixture
def trial(embodiment: Embodiment, task: Task) -> Trial:
    return Trial(embodiment, task)


@pytest.mark.parametrize(
    ("stall", "said"),
    [(Stall.VETOED, "vetoed for 2 s: would knock over the green cup"), (Stall.REJECTED, "refused by the controller for 2 s: too far")],
)  # fmt: skip
def test_refusals_in_a_row_end_the_task_after_two_seconds(trial: Trial, stall: Stall, said: str) -> None:
    heights = []
    while trial.agent.busy and trial.elapsed_s() < 10:
        chunk = trial.step()
        if chunk is not None:
            heights.append(chunk.values[8])
            trial.agent.refused(chunk.sequence, stall, said.split(": ")[1])
            assert trial.agent.conditions[0].stall is stall
    assert trial.agent.state is TaskState.ABORTED
    assert trial.agent.message == said
    assert trial.agent.conditions[0].stall is stall
    assert PATIENCE_S <= trial.elapsed_s() < PATIENCE_S + 0.5
    repeated = np.array([np.allclose(a, b, atol=1e-5) for a, b in itertools.pairwise(heights)])
    assert repeated.all() == (stall is Stall.REJECTED)  # another sample after each veto


@pytest.mark.parametrize("stall", [Stall.VETOED, Stall.REJECTED])
@pytest.mark.parametrize(("refusals", "apart_s", "ends"), [(1, 9.0, False), (2, 2.5, False), (4, 0.2, False), (3, 1.5, True)])  # fmt: skip
def test_few_refusals_end_nothing_however_long_ago_they_were(
    task: Task, stall: Stall, refusals: int, apart_s: float, ends: bool
) -> None:
    """After one veto the target may be hidden for a while; a slow remote policy sends little."""
    progress, found = Progress(task, True, 3.0), Outcome("wrong_place")
    given_up = None
    for k in range(200):
        scene = make_scene(EMBODIMENT, task, stamp_ns=k * STEP_NS)
        moved = replace(scene, joint_position=scene.joint_position + 1e-6 * k)
        given_up = given_up or progress.look(moved, "red_cup", found)
        if k % round(apart_s / 0.05) == 0 and k * 0.05 < refusals * apart_s - 1e-6:
            progress.sent(k * STEP_NS)
            progress.refused(stall, "no")
    assert (given_up is not None) == ends


def test_a_refusal_does_not_hide_that_nothing_is_answered_after_it(trial: Trial) -> None:
    refused = False
    while trial.agent.busy and trial.elapsed_s() < 10:
        chunk = trial.step()
        if chunk is not None and not refused:
            trial.agent.refused(chunk.sequence, Stall.REJECTED, "no")
            refused = True
        trial.agent.took_over(0, 0.0, trial.now_ns)
    assert "follows none of the chunks" in trial.agent.message


def test_a_chunk_that_is_followed_ends_what_was_refused_before(trial: Trial) -> None:
    for k in range(160):
        chunk = trial.step()
        if chunk is None:
            continue
        if k % 32 == 0:  # every eighth is taken
            trial.agent.took_over(chunk.sequence, 0.1, trial.now_ns)
            assert not trial.agent.conditions
        else:
            trial.agent.refused(chunk.sequence, Stall.VETOED, "no")
    assert trial.agent.state is TaskState.RUNNING


def test_a_controller_that_does_not_answer_is_named(trial: Trial) -> None:
    while trial.agent.busy and trial.elapsed_s() < 10:
        trial.step()
        trial.agent.took_over(0, 0.0, trial.now_ns)  # as control/status says: it follows none
    assert "follows none of the chunks" in trial.agent.message
    assert PATIENCE_S <= trial.elapsed_s() < PATIENCE_S + 0.5


def test_an_agent_that_does_not_drive_is_not_told(embodiment: Embodiment, task: Task) -> None:
    """In shadow mode nothing of its own is followed."""
    trial = Trial(embodiment, task)
    trial.agent = Agent(embodiment, task, Standing(), AgentSettings(method="naive"), drives=False)
    trial.agent.start(GOAL, trial.now_ns)
    away = replace(make_scene(embodiment, task), joint_position=embodiment.home + 0.2)
    for _ in range(100):
        chunk = trial.step(away)
        if chunk is not None:
            trial.agent.refused(chunk.sequence, Stall.VETOED, "no")
        trial.agent.took_over(0, 0.0, trial.now_ns)
    assert trial.agent.state is TaskState.RUNNING


# ---- targets that cannot be had ----


def test_a_lying_target_ends_the_task_without_motion(cell: Cell, policy: FlowPolicy, judge: Judge) -> None:
    """Once the hand hovered over it until the time was up."""
    cell.randomize(70803, ("poses",))
    lay(cell, "red_cup")
    result, moved = run(cell, policy, judge)
    assert "the red cup lies: I cannot pick up what lies" in result.failure
    assert result.failure.startswith("target_lay_from_the_start")
    assert result.duration_s < 3
    assert moved < 0.01


def test_a_glimpse_of_a_lying_target_ends_nothing(trial: Trial) -> None:
    for k in range(100):
        scene = make_scene(trial.embodiment, trial.task)
        tilted = k % 30 < 20
        things = tuple(replace(t, upright=not (tilted and t.label == "red_cup")) for t in scene.objects)
        trial.step(replace(scene, objects=things))
    assert trial.agent.state is TaskState.RUNNING


# ---- what is seen is not the present ----


class Frozen:
    """Eyes that go on showing a scene of before, with noise, under new stamps; the joints are as they are."""

    def __init__(self, cell: Cell, whole: bool) -> None:
        self._eyes, self._whole = cell.sight, whole
        self._rng = np.random.default_rng(0)
        self._first: SceneState | None = None

    def observe(self, joints: JointState) -> SceneState:
        """The joints of now, the cups of the beginning."""
        assert self._eyes is not None
        scene = self._eyes.observe(joints)
        self._first = self._first or scene
        if self._whole:
            return replace(self._first, stamp_ns=joints.stamp_ns)
        things = tuple(
            replace(
                thing,
                position_m=thing.position_m + self._rng.normal(0, 5e-4, 3),
                last_seen_ns=joints.stamp_ns,
            )
            for thing in self._first.objects
        )
        return replace(scene, objects=things)


@pytest.mark.parametrize("whole", [False, True], ids=["cups", "everything"])
def test_a_frozen_stream_is_named(
    cell: Cell, policy: FlowPolicy, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    cell.randomize(70800, ("poses",))
    monkeypatch.setattr(cell, "sight", Frozen(cell, whole))
    # Without a world model, which may veto what comes of it before.
    result = cell.run(policy, GOAL, "", 0, None, AgentSettings(timeout_s=30.0))
    assert "present?" in result.failure
    assert result.duration_s < 10


def test_one_slip_is_no_frozen_stream(embodiment: Embodiment, task: Task) -> None:
    grasps = Grasps(task)
    now_ns = 0
    for width, height in [(0.08, 0.05)] * 2 + [(0.06, 0.05)] * 5 + [(0.06, 0.15)] * 6 + [(0.03, 0.15)] * 40:
        now_ns += STEP_NS
        x, y = 0.40, -0.30
        scene = make_scene(embodiment, task, stamp_ns=now_ns, width_m=width)
        scene = replace(scene, end_effectors=(replace(scene.tool, position_m=np.array([x, y, height])),))
        assert grasps.look(scene, "red_cup") == ("", "")


@pytest.mark.parametrize("case", ["never followed", "on the way home", "another cup", "wide cups"])
def test_a_hand_that_did_not_grasp_in_this_task_contradicts_nothing(task: Task, case: str) -> None:
    progress, found = Progress(task, True, 3.0), Outcome("wrong_place")
    if case == "wide cups":  # an open hand is as wide
        task = replace(task, cups=replace(task.cups, radius_m=0.038))
        progress = Progress(task, True, 3.0)
    if case != "never followed":
        progress.followed(0)
    for k in range(200):
        home = case in ("never followed", "on the way home")
        width = 0.08 if (home and k < 20) or case == "wide cups" else 0.06
        scene = make_scene(EMBODIMENT, task, stamp_ns=k * STEP_NS, width_m=width)
        moved = replace(scene, joint_position=scene.joint_position + 1e-6 * k)
        assert progress.look(moved, "red_cup", found, case == "on the way home") is None


# ---- what the hand holds ----


@pytest.mark.parametrize("width_m", [0.055, 0.06, 0.063])
def test_the_way_home_does_not_drop_what_the_hand_may_hold(
    embodiment: Embodiment, task: Task, width_m: float
) -> None:
    """The way keeps the width that is measured, and a cup is held by a width that is less."""
    trial = Trial(embodiment, task)
    scene = make_scene(embodiment, task, width_m=width_m)
    scene = replace(scene, joint_position=embodiment.home + np.array([0.3, 0, 0, 0, 0, 0, 0]))
    assert trial.step(scene) is None
    assert trial.agent.state is TaskState.ABORTED
    assert "the hand holds something" in trial.agent.message


def test_a_task_that_is_resumed_does_not_go_home(embodiment: Embodiment, task: Task) -> None:
    trial = Trial(embodiment, task)
    trial.agent.course.hand_over("", trial.now_ns)
    assert trial.agent.resume(trial.now_ns)
    scene = make_scene(embodiment, task)
    for k in range(20):
        away = embodiment.home + np.array([0.3 + 1e-6 * k, 0, 0, 0, 0, 0, 0])
        chunk = trial.step(replace(scene, joint_position=away))
        if chunk is not None:
            trial.agent.refused(chunk.sequence, Stall.REJECTED, "no")
    assert trial.agent.state is TaskState.RUNNING
    assert not trial.agent._homing.active


# ---- the end ----


def test_what_has_ended_stays_so_and_nothing_is_sent_after_it(
    embodiment: Embodiment, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancellation may come in the middle of a step."""
    for outcome_s in ("finished", "given up"):
        trial = Trial(embodiment, task, settle_s=0.0)
        agent, found = trial.agent, Outcome("" if outcome_s == "finished" else "wrong_place")

        def outcome(_: SceneState, agent: Agent = agent, found: Outcome = found) -> Outcome:
            agent.abort("cancelled")
            return found

        monkeypatch.setattr(agent.course, "outcome", outcome)
        assert trial.step(without=("red_cup",)) is None
        assert (agent.state, agent.message) == (TaskState.ABORTED, "cancelled")


def test_the_end_waits_for_what_is_being_sent(trial: Trial) -> None:
    """A correction that is on its way goes out before the end, or not at all."""
    with trial.agent.course.ending:
        ending = threading.Thread(target=trial.agent.abort, args=("over",))
        ending.start()
        ending.join(0.2)
        assert trial.agent.state is TaskState.RUNNING
    ending.join(10)
    assert trial.agent.state is TaskState.ABORTED


# ---- what the task does not need ----


def test_a_lost_bystander_ends_no_task(
    cell: Cell, policy: FlowPolicy, judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell.randomize(70801, ("poses",))
    eyes = cell.sight
    assert eyes is not None
    began_ns = cell.now_ns

    class Losing:
        """One bystander was never there, the other is lost after a second."""

        def observe(self, joints: JointState) -> SceneState:
            scene = eyes.observe(joints)
            gone = {"blue_cup"} | ({"green_cup"} if joints.stamp_ns - began_ns > 1e9 else set())
            return replace(scene, objects=tuple(t for t in scene.objects if t.label not in gone))

    monkeypatch.setattr(cell, "sight", Losing())
    result, _ = run(cell, policy, judge, timeout_s=7.0)  # once it was given up after four
    assert result.picked, result.failure
    assert "stale_scene" not in result.vetoes


def test_a_bystander_is_remembered_for_a_while_and_then_stood_in_for(
    embodiment: Embodiment, task: Task
) -> None:
    known = Bystanders(task)
    known.complete(make_scene(embodiment, task, stamp_ns=0), {"red_cup"})
    for seconds, remembered in ((1.0, True), (MEMORY_S, True), (MEMORY_S + 1, False)):
        partial = make_scene(
            embodiment, task, stamp_ns=round(seconds * 1e9), without=("green_cup", "red_cup")
        )
        scene, stand_ins = known.complete(partial, {"red_cup"})
        assert stand_ins == (frozenset() if remembered else {"green_cup"})
        green = scene.find("green_cup")
        assert green is not None
        assert scene.find("red_cup") is None  # the target is not made up
        at_home = np.allclose(green.position_m[:2], [0.55, -0.20])
        assert at_home == remembered
        blue = scene.find("blue_cup")
        assert blue is not None
        assert np.linalg.norm(green.position_m - blue.position_m) > 0.12
