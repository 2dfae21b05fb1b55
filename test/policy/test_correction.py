"""The network that corrects the running chunk with each new scene."""

from __future__ import annotations

import numpy as np
import pytest
from scenes import CUPS_M, features_of, make_scene

from physai_base.bundle import Bundle
from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.expert import Goal
from physai_base.kinematics import ArmKinematics
from physai_base.task import Task
from physai_policy.agent import Agent, AgentSettings
from physai_policy.chunking.timeline import Timeline
from physai_policy.correction import LEAST_STEPS, Corrector
from physai_policy.flow_policy import FlowPolicy
from physai_policy.policy import ActionSpace, Observation, Proposal

GOAL = Goal("red_cup", "top_shelf")
START_NS, STEP_NS = 1_000_000_000, 50_000_000
ABOVE = (CUPS_M["red_cup"][0], CUPS_M["red_cup"][1] + 0.06, 0.22)


@pytest.fixture(scope="module")
def corrector(task: Task) -> Corrector:
    return Corrector(Bundle.open("cups/corrector", kind="corrector", robot="fr3"), task)


@pytest.fixture(scope="module")
def policy(task: Task) -> FlowPolicy:
    return FlowPolicy(Bundle.open("cups/policy", kind="policy", robot="fr3"), task, samples=2)


def see(embodiment: Embodiment, task: Task, after_ns: int = 0, **places: tuple[float, ...]) -> Observation:
    kinematics = ArmKinematics(embodiment)
    scene = make_scene(embodiment, task, tcp=ABOVE, stamp_ns=START_NS + after_ns, **places)
    return Observation(scene.stamp_ns, features_of(scene, GOAL, task, kinematics), scene.tool.position_m)


def running(chunk: Proposal) -> Timeline:
    timeline = Timeline()
    timeline.send(1, START_NS, START_NS, chunk)
    return timeline


@pytest.fixture
def timeline(embodiment: Embodiment, task: Task, policy: FlowPolicy) -> Timeline:
    """What the policy wants to do, as it runs."""
    return running(policy.infer(see(embodiment, task)))


def test_the_chunk_follows_a_cup_that_has_moved_since(
    embodiment: Embodiment, task: Task, corrector: Corrector, timeline: Timeline
) -> None:
    here = CUPS_M["red_cup"]
    seen = see(embodiment, task, 2 * STEP_NS)
    moved = see(embodiment, task, 2 * STEP_NS, red_cup=(here[0] + 0.03, here[1]))
    still, after = corrector.correct(seen, timeline), corrector.correct(moved, timeline)
    assert still is not None and after is not None
    shift = (after.chosen - still.chosen)[:, :3]
    assert 0.01 < shift[-1, 0] < 0.05  # towards where the cup is now
    assert np.abs(shift[-1, 1]) < 0.01


def test_it_is_what_is_left_of_the_chunk_and_never_longer(
    embodiment: Embodiment, task: Task, corrector: Corrector, timeline: Timeline
) -> None:
    horizon = corrector.horizon
    for passed in (0, 3, horizon - LEAST_STEPS):
        chunk = corrector.correct(see(embodiment, task, passed * STEP_NS), timeline)
        assert chunk is not None and len(chunk.chosen) == horizon - passed
    for passed in (horizon - LEAST_STEPS + 1, horizon + 5):
        assert corrector.correct(see(embodiment, task, passed * STEP_NS), timeline) is None


def test_what_it_cannot_correct_is_left_alone(
    embodiment: Embodiment, task: Task, corrector: Corrector, timeline: Timeline
) -> None:
    seen = see(embodiment, task)
    assert corrector.correct(seen, Timeline()) is None
    joints = Proposal(np.zeros((1, 16, 8)), ActionSpace.JOINT_POSITION, 0.05)
    assert corrector.correct(seen, running(joints)) is None
    broken = Observation(seen.stamp_ns, np.full_like(seen.features, np.nan), seen.tool_m)
    assert corrector.correct(broken, timeline) is None


def test_the_agent_corrects_between_inferences(
    embodiment: Embodiment, task: Task, policy: FlowPolicy, corrector: Corrector
) -> None:
    settings = AgentSettings(method="corrected")
    with pytest.raises(PhysaiError, match="needs a corrector"):
        Agent(embodiment, task, policy, settings)
    agent = Agent(embodiment, task, policy, settings, corrector)
    scene = make_scene(embodiment, task, tcp=ABOVE)
    assert agent.correct(scene) is None  # no task
    agent.start(GOAL, scene.stamp_ns, first_sequence=1)
    assert agent.correct(scene) is None  # nothing runs
    plan = agent.step(scene)
    assert plan is not None
    sent = agent.send(plan, scene.stamp_ns)
    better = agent.correct(make_scene(embodiment, task, tcp=ABOVE, stamp_ns=scene.stamp_ns + 2 * STEP_NS))
    assert better is not None and better.sequence == sent.sequence + 1
    assert better.horizon == sent.horizon - 2
    assert (
        better.expiry_ns <= sent.expiry_ns
    )  # without the policy the arm comes to rest as if nothing corrected it
    assert agent.timeline.running is not None and agent.timeline.running.sequence == better.sequence
