"""When the policy asks for a person: scores with known answers, thresholds that keep their promise, and what the agent does."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scenes import features_of, make_scene

from physai_base.bundle import Bundle
from physai_base.embodiment import Embodiment
from physai_base.errors import BundleError, PhysaiError
from physai_base.expert import Goal
from physai_base.task import Task
from physai_base.values import SceneState
from physai_policy.agent import Agent, AgentSettings
from physai_policy.conformal import Band, Run, calibrate, worst_of
from physai_policy.course import TaskState
from physai_policy.doubt import (
    RESOLUTION_M,
    SCORES,
    Doubt,
    Monitor,
    Surprise,
    disagreement,
    energy_distance,
    inconsistency,
)
from physai_policy.flow_policy import FlowPolicy
from physai_policy.policy import ActionSpace, Observation, Proposal

GOAL = Goal("red_cup", "top_shelf")
DT_S = 0.05


def chunk_of(actions: np.ndarray, given: int = 0) -> Proposal:
    """A chunk of tool positions."""
    return Proposal(actions, ActionSpace.TOOL_POSITION, DT_S, given)


def test_disagreement_is_the_entropy_of_the_samples() -> None:
    rng = np.random.default_rng(0)
    sigma = 0.02
    samples = rng.normal(0, sigma, (4001, 16, 4))
    truth = 4 * (0.5 * math.log(2 * math.pi * math.e) + math.log(math.hypot(sigma, RESOLUTION_M)))
    assert disagreement(chunk_of(samples)) == pytest.approx(truth, abs=0.01)
    # What is carried out was not drawn; it may lie anywhere.
    samples[0] += 1.0
    assert disagreement(chunk_of(samples)) == pytest.approx(truth, abs=0.01)


def test_disagreement_leaves_given_steps_out() -> None:
    samples = np.random.default_rng(1).normal(0, 0.01, (8, 16, 4))
    frozen = samples.copy()
    frozen[:, :5] = frozen[0, :5]
    assert disagreement(chunk_of(frozen, given=5)) == pytest.approx(disagreement(chunk_of(samples[:, 5:])))
    assert disagreement(chunk_of(frozen)) < disagreement(chunk_of(frozen, given=5))
    assert math.isnan(disagreement(chunk_of(samples[:2])))


def test_energy_distance_tells_distributions_apart() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 800, 1))
    assert abs(energy_distance(x, y)) < 0.02
    # Of normals far apart it is twice the distance less what each has within: 2 / sqrt(pi) each.
    assert energy_distance(x, y + 20.0) == pytest.approx(40.0 - 4 / math.sqrt(math.pi), abs=0.3)
    assert energy_distance(np.zeros((1, 3)), np.array([[3.0, 4.0, 0.0]])) == pytest.approx(10.0)


def test_a_policy_that_keeps_to_its_plan_is_consistent() -> None:
    rng = np.random.default_rng(3)
    line = np.arange(40)[:, None] * np.array([0.01, 0.0, -0.01, 0.0])
    noise = rng.normal(0, 0.0002, (2, 8, 16, 4))
    before, after = chunk_of(line[:16] + noise[0]), chunk_of(line[4:20] + noise[1], given=3)
    elsewhere = chunk_of(after.actions + np.array([0.0, 0.05, 0.0, 0.0]), given=3)
    assert abs(inconsistency(before, after, 0.2)) < 0.0004
    assert inconsistency(before, elsewhere, 0.2) == pytest.approx(0.1, abs=0.003)
    # Half a step later the old chunk is taken between its steps.
    between = chunk_of((line[4:20] + line[5:21]) / 2 + noise[1])
    assert abs(inconsistency(before, between, 0.225)) < 0.0004
    # A different beginning that was given says nothing of the policy.
    actions = after.actions.copy()
    actions[:, :3] += 0.5
    assert inconsistency(before, chunk_of(actions, given=3), 0.2) == inconsistency(before, after, 0.2)
    assert math.isnan(inconsistency(before, after, 0.8))


def simulated(rng: np.random.Generator, shift: float = 0.0) -> Run:
    """A run of scores that rise and fall as time goes by, with a level of its own and heavy tails."""
    elapsed = np.arange(0.0, rng.uniform(4.0, 7.0), 0.2)
    shape = np.stack([np.sin(elapsed), 100.0 + 50.0 * elapsed], axis=1)
    noise = rng.standard_t(4, (len(elapsed), 2)) + rng.normal(0, 1.0, 2) + shift
    scores = shape + noise * [0.1, 20.0]
    scores[0, 0] = np.nan
    return Run(elapsed, scores)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_runs_like_those_of_the_calibration_rarely_cross(alpha: float) -> None:
    """On average over calibrations; the binomial spread of 60 calibrations with 50 runs each is 0.004 and 0.007."""
    rng = np.random.default_rng(4)
    crossed = []
    for _ in range(60):
        band = calibrate([simulated(rng) for _ in range(60)], alpha)
        crossed.append(np.mean([worst_of(band, simulated(rng)) > 1 for _ in range(50)]))
    assert alpha - 2 / 31 - 0.03 < np.mean(crossed) < alpha + 0.03
    assert np.mean([worst_of(band, simulated(rng, shift=20.0)) > 1 for _ in range(50)]) > 0.9


def test_thresholds_follow_the_time() -> None:
    rng = np.random.default_rng(5)
    band = calibrate([simulated(rng) for _ in range(100)], 0.05)
    early, late = band.thresholds(0.5), band.thresholds(4.0)
    assert late[1] - early[1] == pytest.approx(175.0, abs=60.0)
    assert early[0] > late[0]
    assert np.array_equal(band.thresholds(100.0), band.thresholds(7.0))
    assert band.excess(1.0, np.array([np.nan, 0.0]))[0] == -np.inf
    # After a resume nobody knows how far the run should be: the widest thresholds hold.
    times = np.arange(0.0, 7.0, 0.25)
    assert np.array_equal(band.thresholds(None), np.max([band.thresholds(t) for t in times], axis=0))
    assert band.excess(None, late)[1] == pytest.approx(min(band.excess(t, late)[1] for t in times))


def test_too_few_runs_are_refused() -> None:
    rng = np.random.default_rng(6)
    runs = [simulated(rng) for _ in range(40)]
    assert calibrate(runs, 0.05).runs == 20
    with pytest.raises(PhysaiError, match="39 successful runs are too few"):
        calibrate(runs[:39], 0.05)
    with pytest.raises(PhysaiError, match="198 are"):
        calibrate(runs, 0.01)


def test_a_band_survives_the_manifest() -> None:
    rng = np.random.default_rng(7)
    band = calibrate([simulated(rng) for _ in range(40)], 0.05)
    again = Band.from_json(band.as_json())
    assert np.allclose(again.thresholds(3.0), band.thresholds(3.0), atol=1e-4)
    assert (again.limit, again.alpha, again.runs) == (band.limit, 0.05, 20)
    for flaw in ({"limit": 0.0}, {"spread": (band.spread * 0).tolist()}, {"step_s": 0.1}):
        with pytest.raises(PhysaiError, match="thresholds"):
            Band.from_json({**band.as_json(), **flaw})


@pytest.fixture(scope="module")
def policy(task: Task) -> FlowPolicy:
    """The shipped policy."""
    return FlowPolicy(Bundle.open("cups/policy", kind="policy", robot="fr3"), task)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """The shipped doubts."""
    return Bundle.open("cups/doubt", kind="doubt", robot="fr3")


def test_the_shipped_thresholds_are_the_shipped_policys(
    bundle: Bundle, policy: FlowPolicy, task: Task
) -> None:
    Monitor.open(bundle, task, policy.digest)
    with pytest.raises(BundleError, match="another policy's"):
        Monitor.open(bundle, task, "0" * 64)
    bare = replace(bundle, config={k: v for k, v in bundle.config.items() if k != "thresholds"})
    with pytest.raises(BundleError, match="no thresholds yet"):
        Monitor.open(bare, task, policy.digest)
    with pytest.raises(BundleError, match="other scores"):
        Monitor.open(replace(bundle, config={**bundle.config, "scores": ["x"]}), task, policy.digest)
    assert bundle.config["thresholds"]["runs"] >= 20


def test_surprise_knows_the_familiar(
    bundle: Bundle, embodiment: Embodiment, task: Task, kinematics: object
) -> None:

    surprise = Surprise(bundle, task)
    home = features_of(make_scene(embodiment, task), GOAL, task, kinematics)  # type: ignore[arg-type]
    far = features_of(make_scene(embodiment, task, red_cup=(0.95, 0.50)), GOAL, task, kinematics)  # type: ignore[arg-type]
    assert surprise(home) < 3.0 < surprise(far)
    with pytest.raises(BundleError, match="other features"):
        Surprise(replace(bundle, config={**bundle.config, "features": list(task.feature_names())[1:]}), task)


class Doubtful(Monitor):
    """Asks when it is told to."""

    def __init__(self) -> None:
        self.level, self.begun, self.resumed = 0.0, 0, 0

    def begin(self) -> None:
        """Counted."""
        self.begun += 1

    def resume(self) -> None:
        """Counted."""
        self.resumed += 1

    def look(self, observation: Observation, chunk: Proposal, progress: float) -> Doubt:
        """As told."""
        return Doubt(self.level, "surprise 9 is above 3")


def at(embodiment: Embodiment, task: Task, seconds: float) -> SceneState:
    """The scene at that time."""
    return make_scene(embodiment, task, stamp_ns=round(seconds * 1e9))


def test_in_doubt_nothing_is_sent_until_a_person_resumes(
    embodiment: Embodiment, task: Task, policy: FlowPolicy
) -> None:
    monitor = Doubtful()
    agent = Agent(embodiment, task, policy, AgentSettings(timeout_s=5.0, handover="on"), monitor=monitor)
    assert not agent.resume(0)
    agent.start(GOAL, 1_000_000_000)
    assert agent.step(at(embodiment, task, 1.0)) is not None
    monitor.level = 1.2
    assert agent.step(at(embodiment, task, 1.3)) is None
    assert agent.state is TaskState.HANDED_OVER
    assert "asks for a person: surprise 9 is above 3" in agent.message
    for seconds in (1.6, 4.0, 60.0):  # the policy's time does not run meanwhile
        assert agent.step(at(embodiment, task, seconds)) is None
        assert agent.state is TaskState.HANDED_OVER
    monitor.level = 0.0
    assert agent.resume(60_000_000_000)
    assert (monitor.begun, monitor.resumed) == (1, 1)
    assert agent.step(at(embodiment, task, 60.0)) is not None
    assert agent.step(at(embodiment, task, 64.6)) is not None
    assert agent.step(at(embodiment, task, 64.8)) is None
    assert agent.state is TaskState.ABORTED


def test_what_was_handed_over_can_be_ended_or_done_by_a_person(
    embodiment: Embodiment, task: Task, policy: FlowPolicy
) -> None:
    from scenes import SHELF_M

    monitor = Doubtful()
    agent = Agent(embodiment, task, policy, AgentSettings(handover="on"), monitor=monitor)
    for end in ("aborted", "done"):
        monitor.level = 2.0
        agent.start(GOAL, 1_000_000_000)
        agent.step(at(embodiment, task, 1.0))
        assert agent.busy and agent.state is TaskState.HANDED_OVER
        if end == "aborted":
            agent.abort("cancelled")
            assert agent.state is TaskState.ABORTED
            continue
        x, y, z = SHELF_M["top_shelf"]
        for i in range(20):
            agent.step(
                make_scene(embodiment, task, (x, y, 0.45), 2_000_000_000 + i * 50_000_000, red_cup=(x, y, z))
            )
        assert agent.state is TaskState.SUCCEEDED
        assert agent.message == "done by a person"


@pytest.mark.parametrize("handover", ["report", "off"])
def test_doubts_can_be_reported_alone(
    embodiment: Embodiment, task: Task, policy: FlowPolicy, handover: str
) -> None:
    monitor = Doubtful()
    monitor.level = 2.0
    agent = Agent(embodiment, task, policy, AgentSettings(handover=handover), monitor=monitor)
    agent.start(GOAL, 1_000_000_000)
    assert agent.step(at(embodiment, task, 1.0)) is not None
    assert agent.message == ("would ask for a person: surprise 9 is above 3" if handover == "report" else "")
    assert agent.doubt.level == (2.0 if handover == "report" else 0.0)


def test_the_monitor_counts_the_time_at_the_task(
    bundle: Bundle, embodiment: Embodiment, task: Task, policy: FlowPolicy
) -> None:
    monitor = Monitor.open(bundle, task, policy.digest)
    agent = Agent(
        embodiment, task, policy, AgentSettings(handover="report", timeout_s=600.0), monitor=monitor
    )
    agent.start(GOAL, 1_000_000_000)
    for i in range(6):
        agent.step(at(embodiment, task, 1.0 + 0.2 * i))
    monitor.resume()  # a person took two minutes
    agent.step(at(embodiment, task, 120.0))
    run = monitor.run
    assert run.scores.shape == (7, len(SCORES))
    assert run.elapsed_s == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert np.isnan(run.scores[:, 1]).tolist() == [True, False, False, False, False, False, True]
    assert run.scores[5, 3] == pytest.approx(1.0)  # nothing came closer
    assert run.scores[6, 3] == 0.0


def test_a_cup_beyond_reach_is_handed_over(
    bundle: Bundle, embodiment: Embodiment, task: Task, policy: FlowPolicy
) -> None:
    settings = AgentSettings(handover="on")
    agent = Agent(embodiment, task, policy, settings, monitor=Monitor.open(bundle, task, policy.digest))
    agent.start(GOAL, 1_000_000_000)
    for i in range(40):
        stamp_ns = 1_000_000_000 + i * 200_000_000
        agent.step(make_scene(embodiment, task, stamp_ns=stamp_ns, red_cup=(0.98, 0.50)))
        if agent.state is TaskState.HANDED_OVER:
            break
    assert agent.state is TaskState.HANDED_OVER
    assert any(name in agent.message for name in SCORES)


def test_calibrating_needs_enough_runs_before_it_spends_time(
    bundle: Bundle, embodiment: Embodiment, task: Task, tmp_path: Path
) -> None:
    from physai_lab.training.calibrate_doubt import DoubtCalibration, calibrate_doubt

    with pytest.raises(PhysaiError, match="10 successful runs are too few"):
        calibrate_doubt(bundle.path, "policy", embodiment, task, DoubtCalibration(runs=10, share=0.05))
