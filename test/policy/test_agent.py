"""The agent with the shipped policy: chunks that the arm can follow, and an end to every task."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scenes import SHELF_M, features_of, make_scene

from physai_base.bundle import Bundle
from physai_base.embodiment import Embodiment
from physai_base.errors import BundleError, MissingObjectError
from physai_base.expert import Goal
from physai_base.kinematics import ArmKinematics
from physai_base.outcome import Situation
from physai_base.task import TURNING, Task
from physai_base.values import ActionChunk, SceneState
from physai_policy.agent import Agent, AgentSettings
from physai_policy.course import TaskState
from physai_policy.decoding import STOPPING_S, ChunkDecoder
from physai_policy.flow_policy import FlowPolicy
from physai_policy.policy import ActionSpace, Proposal

GOAL = Goal("red_cup", "top_shelf")


@pytest.fixture(scope="module")
def policy(task: Task) -> FlowPolicy:
    """The shipped policy."""
    return FlowPolicy(Bundle.open("cups/policy", kind="policy", robot="fr3"), task)


@pytest.fixture
def agent(embodiment: Embodiment, task: Task, policy: FlowPolicy) -> Agent:
    """An agent that runs the task of `GOAL` since one second."""
    agent = Agent(embodiment, task, policy)
    agent.start(GOAL, 1_000_000_000, first_sequence=100)
    return agent


def stepped(agent: Agent, scene: SceneState) -> ActionChunk | None:
    """The chunk that is sent at once, if a plan is due."""
    plan = agent.step(scene)
    return None if plan is None else agent.send(plan, scene.stamp_ns)


def test_a_chunk_starts_at_the_observation_and_respects_the_arm(
    embodiment: Embodiment, task: Task, agent: Agent, kinematics: ArmKinematics
) -> None:
    scene = make_scene(embodiment, task)
    chunk = stepped(agent, scene)
    assert chunk is not None
    assert chunk.sequence == 101
    assert chunk.start_ns == chunk.observation_ns == scene.stamp_ns
    last_ns = chunk.start_ns + (chunk.horizon - 1) * chunk.dt_ns
    assert chunk.expiry_ns == last_ns + round(STOPPING_S * 1e9)
    assert np.abs(chunk.values[0] - scene.joint_position).max() < 0.05
    low = np.array([joint.position_min for joint in embodiment.joints])
    high = np.array([joint.position_max for joint in embodiment.joints])
    assert ((chunk.values > low) & (chunk.values < high)).all()
    # It reaches for the red cup.
    away = [np.linalg.norm(kinematics.tool_pose(q).position[:2] - [0.40, -0.30]) for q in chunk.values]
    assert away[-1] < away[0] - 0.05


def late(agent: Agent, scene: SceneState) -> int:
    """How much later than its observation, ns, a chunk begins that comes 0.25 s after it."""
    plan = agent.step(scene)
    assert plan is not None
    return agent.send(plan, scene.stamp_ns + 250_000_000).start_ns - scene.stamp_ns


def test_a_chunk_that_the_arm_has_waited_for_begins_when_it_comes(
    embodiment: Embodiment, task: Task, agent: Agent
) -> None:
    assert late(agent, make_scene(embodiment, task)) == 250_000_000
    # Now that one runs: what comes late goes on from it, and its first steps are in the past.
    assert late(agent, make_scene(embodiment, task, stamp_ns=1_500_000_000)) == 0
    assert late(agent, make_scene(embodiment, task, stamp_ns=4_000_000_000)) == 250_000_000  # it has ended


def test_a_policy_that_knows_nothing_of_the_arm_leaves_its_chunks_where_they_are(
    embodiment: Embodiment, task: Task, policy: FlowPolicy
) -> None:
    """As in shadow mode, where the arm follows somebody else."""
    agent = Agent(embodiment, task, policy, AgentSettings(method="naive"))
    agent.start(GOAL, 1_000_000_000)
    assert late(agent, make_scene(embodiment, task)) == 0


def test_a_new_chunk_only_after_the_replanning_period(
    embodiment: Embodiment, task: Task, agent: Agent
) -> None:
    stamps = 1_000_000_000 + np.arange(20) * 50_000_000
    chunks = [stepped(agent, make_scene(embodiment, task, stamp_ns=int(stamp))) for stamp in stamps]
    due = [chunk is not None for chunk in chunks]
    assert due[:5] == [True, False, False, False, True]
    sequences = [chunk.sequence for chunk in chunks if chunk]
    assert sequences == sorted(set(sequences))


def test_success_is_the_cup_seen_standing_there_for_a_while(
    embodiment: Embodiment, task: Task, agent: Agent
) -> None:
    x, y, z = SHELF_M["top_shelf"]
    for i in range(20):
        scene = make_scene(
            embodiment, task, (x, y, 0.45), 1_000_000_000 + i * 50_000_000, red_cup=(x, y + 0.01, z)
        )
        agent.step(scene)
        if agent.state is not TaskState.RUNNING:
            break
    assert agent.state is TaskState.SUCCEEDED
    assert i * 0.05 >= agent.settings.settle_s
    assert agent.step(scene) is None


@pytest.mark.parametrize("flaw", ["lying", "hand", "far", "low"])
def test_not_yet_success(embodiment: Embodiment, task: Task, agent: Agent, flaw: str) -> None:
    x, y, z = SHELF_M["top_shelf"]
    cup = {"far": (x + 0.09, y, z), "low": (x, y, z - 0.05)}.get(flaw, (x, y, z))
    for i in range(20):
        scene = make_scene(
            embodiment, task, (x, y, 0.30 if flaw == "hand" else 0.45), 1_000_000_000 + i * 50_000_000, red_cup=cup
        )  # fmt: skip
        if flaw == "lying":
            objects = tuple(replace(o, upright=o.label != "red_cup") for o in scene.objects)
            scene = replace(scene, objects=objects)
        agent.step(scene)
    assert agent.state is TaskState.RUNNING


def test_a_lost_cup_ends_the_task_after_a_while_not_at_once(
    embodiment: Embodiment, task: Task, agent: Agent
) -> None:
    for i in range(200):
        scene = make_scene(embodiment, task, stamp_ns=1_000_000_000 + i * 50_000_000, without=("red_cup",))
        assert agent.step(scene) is None
        if agent.state is not TaskState.RUNNING:
            break
    assert agent.state is TaskState.ABORTED
    assert "red cup is not in view" in agent.message
    assert i * 0.05 >= agent.settings.lost_timeout_s


def test_a_task_that_takes_too_long_is_aborted(
    embodiment: Embodiment, task: Task, policy: FlowPolicy
) -> None:
    agent = Agent(embodiment, task, policy, AgentSettings(timeout_s=5.0))
    agent.start(GOAL, 1_000_000_000)
    assert agent.step(make_scene(embodiment, task, stamp_ns=5_900_000_000)) is not None
    assert agent.step(make_scene(embodiment, task, stamp_ns=6_100_000_000)) is None
    assert agent.state is TaskState.ABORTED
    assert "not done within 5 s" in agent.message


def test_a_clock_that_is_set_back_ends_the_task(embodiment: Embodiment, task: Task, agent: Agent) -> None:
    agent.start(GOAL, 60_000_000_000)
    assert stepped(agent, make_scene(embodiment, task, stamp_ns=60_300_000_000)) is not None
    agent.step(make_scene(embodiment, task, stamp_ns=60_200_000_000))  # two scenes in another order
    assert agent.state is TaskState.RUNNING
    agent.step(make_scene(embodiment, task, stamp_ns=50_000_000_000))
    assert agent.state is TaskState.ABORTED and "set back by 10.3 s" in agent.message


def test_the_same_scene_gives_the_same_chunk(embodiment: Embodiment, task: Task, policy: FlowPolicy) -> None:
    chunks = []
    for _ in range(2):
        agent = Agent(embodiment, task, policy)
        agent.start(GOAL, 1_000_000_000)
        chunks.append(stepped(agent, make_scene(embodiment, task)))
    np.testing.assert_array_equal(chunks[0].values, chunks[1].values)


def test_features_are_named_finite_and_in_order(
    embodiment: Embodiment, task: Task, kinematics: ArmKinematics
) -> None:
    scene = make_scene(embodiment, task)
    values, names = features_of(scene, GOAL, task, kinematics), task.feature_names()
    assert values.shape == (len(names),)
    assert np.isfinite(values).all()
    named = dict(zip(names, values, strict=True))
    assert named["gripper.width"] == pytest.approx(0.08)
    offset = np.array([0.40, -0.30, 0.0]) - scene.tool.position_m
    assert [named[f"target_from_tcp.{axis}"] for axis in "xyz"] == pytest.approx(offset, abs=1e-6)
    gone = tuple(replace(o, confidence=0.0) if o.label == "red_cup" else o for o in scene.objects)
    with pytest.raises(MissingObjectError, match="red cup is not in view"):
        features_of(replace(scene, objects=gone), GOAL, task, kinematics)
    with pytest.raises(MissingObjectError, match="top shelf is not in view"):
        features_of(make_scene(embodiment, task, without=("top_shelf",)), GOAL, task, kinematics)


def test_a_policy_for_other_features_is_refused(task: Task) -> None:
    bundle = Bundle.open("cups/policy", kind="policy", robot="fr3")
    fewer = {**bundle.config, "features": bundle.config["features"][:-3]}
    with pytest.raises(BundleError, match="other features"):
        FlowPolicy(replace(bundle, config=fewer), task)


@pytest.mark.parametrize("inert", [False, True])
@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_a_network_without_its_normalization_is_refused(task: Task, side: str, inert: bool) -> None:
    bundle = Bundle.open("cups/policy", kind="policy", robot="fr3")
    first, *rest = getattr(bundle, side)
    size = int(first.shape[-1])
    first = replace(first, mean=(0.0,) * size if inert else None, std=(1.0,) * size if inert else None)
    with pytest.raises(BundleError, match=f"{first.name} is not normalized"):
        FlowPolicy(replace(bundle, **{side: (first, *rest)}), task)


def test_each_action_space_becomes_the_same_joint_chunk(
    embodiment: Embodiment, task: Task, policy: FlowPolicy, kinematics: ArmKinematics
) -> None:
    scene = make_scene(embodiment, task)
    decoder = ChunkDecoder(embodiment, kinematics)
    path = scene.tool.position_m + np.outer(np.linspace(0, 1, 16), [0.05, 0.02, -0.03])
    width = np.full((16, 1), 0.05)
    down = np.tile([0.0, 1.0, 0.0, 0.0], (16, 1))
    by_position = decoder.decode(
        Proposal(np.hstack([path, width])[None], ActionSpace.TOOL_POSITION, 0.05), scene, 1, "test"
    )
    by_pose = decoder.decode(
        Proposal(np.hstack([path, down, width])[None], ActionSpace.TOOL_POSE, 0.05), scene, 1, "test"
    )
    np.testing.assert_allclose(by_pose.chunk.values, by_position.chunk.values, atol=1e-6)
    joints = np.hstack([by_position.chunk.values, width])
    by_joints = decoder.decode(Proposal(joints[None], ActionSpace.JOINT_POSITION, 0.05), scene, 1, "test")
    np.testing.assert_allclose(
        by_joints.chunk.values, by_position.chunk.values, atol=1e-3
    )  # smoothed once more
    yaw = np.linspace(0, 0.7, 16)
    turning = np.column_stack([path, yaw, width])[None]
    turned = decoder.decode(Proposal(turning, ActionSpace.TOOL_POSITION_YAW, 0.05), scene, 1, "test").chunk
    for row, at, angle in zip(turned.values[::5], path[::5], yaw[::5], strict=True):
        pose = kinematics.tool_pose(row)
        assert np.linalg.norm(pose.position - at) < 2e-3
        np.testing.assert_allclose(pose.rotation[:2, 0], [np.cos(angle), np.sin(angle)], atol=0.02)
        assert pose.rotation[2, 2] < -0.999
    now = Situation.perceived(replace(scene, joint_position=turned.values[-1]))
    assert now.tool.row(TURNING).shape == (4,) and turned.openings.shape == (16, 1)


@pytest.mark.parametrize("space", [ActionSpace.TOOL_POSITION, ActionSpace.TOOL_POSE])
@pytest.mark.parametrize("given", [0, 5])
def test_a_slower_arm_goes_the_same_way_in_more_time(
    embodiment: Embodiment, task: Task, kinematics: ArmKinematics, space: ActionSpace, given: int
) -> None:
    """And what was said of it is so: the next chunk goes on from the slower one."""
    slow = replace(embodiment, joints=tuple(replace(joint, velocity=0.3) for joint in embodiment.joints))
    scene = make_scene(embodiment, task)
    steps = np.concatenate([0.1 * np.ones(given), np.ones(16 - given)]).cumsum() / 16
    path = scene.tool.position_m + np.outer(steps, [0.25, 0.10, -0.05])
    turns = np.tile([0.0, 1.0, 0.0, 0.0], (16, 1)) * np.where(np.arange(16) % 2, -1.0, 1.0)[:, None]
    middle = [turns] if space is ActionSpace.TOOL_POSE else []
    actions = np.hstack([path, *middle, np.full((16, 1), 0.05)])
    proposal = Proposal(np.array([actions, actions]), space, 0.05, given)
    sent = ChunkDecoder(slow, kinematics).decode(proposal, scene, 1, "test")
    speed = np.abs(np.diff(sent.chunk.values, axis=0)).max() / 0.05
    assert 0.2 < speed < 0.3
    found = sent.proposal.actions[..., :3]
    np.testing.assert_allclose(found[0, :given], path[:given], atol=1e-9)
    away = np.linalg.norm(found[0, :, None] - np.linspace(path[0], path[-1], 2001), axis=-1).min(axis=1)
    assert away.max() < 1e-3 and np.linalg.norm(found[0, -1] - path[-1]) > 0.02
    tools = np.array([kinematics.tool_pose(row).position for row in sent.chunk.values])
    np.testing.assert_allclose(tools, found[0], atol=5e-3)
