"""How chunks are joined in spite of delay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scenes import features_of, make_scene

from physai_base.bundle import Bundle
from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError, PolicyError
from physai_base.expert import Goal
from physai_base.kinematics import ArmKinematics
from physai_base.task import Task
from physai_policy.agent import Agent, AgentSettings
from physai_policy.chunking.ensemble import Ensembled
from physai_policy.chunking.method import OURS
from physai_policy.chunking.real_time import RealTimeChunking
from physai_policy.chunking.timeline import DelayEstimator, Timeline
from physai_policy.flow_policy import FlowPolicy, guidance_weights
from physai_policy.networks import anticipation
from physai_policy.policy import ActionSpace, Observation, Prefix, Proposal

H, DT_S, DT_NS = 16, 0.05, 50_000_000
START_NS = 1_000_000_000
EMBODIMENT = Embodiment.load("fr3")


def ramp(slope: float = 0.01, steps: int = H) -> Proposal:
    """Step k is k * slope in every column."""
    return Proposal(
        (np.arange(steps) * slope)[None, :, None].repeat(4, axis=2), ActionSpace.TOOL_POSITION, DT_S
    )


class Recorder:
    """A policy that keeps what it was asked and answers in turn."""

    name, horizon, dt_s = "recorder", H, DT_S

    def __init__(self, *answers: Proposal) -> None:
        self.answers, self.prefixes = list(answers), []  # type: list[Proposal], list[Prefix | None]

    def infer(self, observation: Observation, prefix: Prefix | None = None) -> Proposal:
        self.prefixes.append(prefix)
        return self.answers.pop(0) if self.answers else ramp()


def observe(after_ns: int = 0) -> Observation:
    return Observation(START_NS + after_ns, np.zeros(3, np.float32), np.zeros(3))


def test_the_delay_to_expect_is_a_high_quantile_of_the_last_ones() -> None:
    delay = DelayEstimator(initial_s=0.3, quantile=0.9, window=10)
    assert delay.seconds == 0.3
    for value in [0.9] * 5 + [0.1] * 8 + [0.2, 0.2, float("nan"), -1.0]:
        delay.add(value)
    assert delay.seconds == pytest.approx(0.2)
    for _ in range(5):
        delay.add(0.4)
    assert delay.seconds == pytest.approx(0.4)


def test_the_timeline_knows_what_the_arm_does() -> None:
    timeline = Timeline()
    assert timeline.rows(START_NS, H, DT_S)[1] == 0
    timeline.send(1, START_NS, START_NS, ramp())
    rows, valid = timeline.rows(START_NS + 3 * DT_NS + DT_NS // 2, H, DT_S)
    assert valid == 12  # steps 3.5 to 14.5; the next would be 15.5, and there are steps up to 15
    np.testing.assert_allclose(rows[:12, 0], (np.arange(12) + 3.5) * 0.01)
    np.testing.assert_allclose(rows[12:, 0], 0.15)
    assert timeline.rows(START_NS + H * DT_NS, H, DT_S)[1] == 0


def test_what_the_controller_does_not_take_is_forgotten() -> None:
    timeline = Timeline()
    for sequence in (1, 2, 3):
        timeline.send(sequence, START_NS + sequence * 100_000_000, START_NS, ramp())
    timeline.confirm(1, START_NS + 350_000_000)
    assert timeline.running and timeline.running.sequence == 3  # sent just now: it may be on its way
    timeline.drop(3)
    assert timeline.running and timeline.running.sequence == 2
    timeline.confirm(1, START_NS + 600_000_000)
    assert timeline.running and timeline.running.sequence == 1
    timeline.confirm(0, START_NS + 900_000_000)
    assert timeline.running is None


def test_a_policy_is_told_what_is_carried_out_until_its_chunk_arrives() -> None:
    timeline, delay, policy = Timeline(), DelayEstimator(initial_s=0.12), Recorder()
    chunking = RealTimeChunking(policy, timeline, delay)
    chunking.infer(observe())
    assert policy.prefixes == [None]
    timeline.send(1, START_NS, START_NS, ramp())
    chunking.infer(observe(4 * DT_NS))
    prefix = policy.prefixes[-1]
    assert prefix is not None
    assert prefix.frozen == 3  # 120 ms are more than two steps
    assert prefix.valid == 12
    np.testing.assert_allclose(prefix.actions[:12, 0], np.arange(4, 16) * 0.01)
    delay.add(2.0)  # longer than a policy is trained for: half of the chunk at most
    chunking.infer(observe(4 * DT_NS))
    assert policy.prefixes[-1] is not None and policy.prefixes[-1].frozen == H // 2
    chunking.infer(observe(14 * DT_NS))
    assert policy.prefixes[-1] is not None and policy.prefixes[-1].frozen == 2  # no more is left
    chunking.infer(observe(20 * DT_NS))
    assert policy.prefixes[-1] is None


def test_an_ensemble_is_the_weighted_mean_of_all_chunks_that_cover_a_moment() -> None:
    first, second = ramp(0.01), ramp(0.02)
    ensemble = Ensembled(Recorder(first, second), m=0.5)
    np.testing.assert_allclose(ensemble.infer(observe()).chosen, first.chosen)
    mean = ensemble.infer(observe(4 * DT_NS)).chosen[:, 0]
    k = np.arange(H)
    both = (np.exp(0.0) * (k + 4) * 0.01 + np.exp(-0.5) * k * 0.02) / (1 + np.exp(-0.5))
    np.testing.assert_allclose(mean[:12], both[:12])
    np.testing.assert_allclose(mean[12:], k[12:] * 0.02)
    # Time that runs backwards is another episode.
    np.testing.assert_allclose(ensemble.infer(observe(-DT_NS)).chosen, ramp().chosen)
    ensemble.clear()  # and so is another task
    np.testing.assert_allclose(ensemble.infer(observe(DT_NS)).chosen, ramp().chosen)


def test_tool_poses_are_not_averaged() -> None:
    turned = Proposal(np.zeros((1, H, 8)), ActionSpace.TOOL_POSE, DT_S)
    with pytest.raises(PolicyError, match="another method"):
        Ensembled(Recorder(turned)).infer(observe())


def test_guidance_fades_from_what_is_carried_out_to_what_is_free() -> None:
    weights = guidance_weights(H, frozen=3, valid=10)
    assert (weights[:3] == 1).all() and (weights[10:] == 0).all()
    assert (np.diff(weights[2:11]) < 0).all()
    c = (10 - 5) / (10 - 3 + 1)
    assert weights[5] == pytest.approx(c * (np.exp(c) - 1) / (np.e - 1))


def test_the_network_sees_what_features_would_say_from_where_the_given_steps_end(
    embodiment: Embodiment, task: Task, kinematics: ArmKinematics
) -> None:
    import torch

    goal, there, width_m = Goal("red_cup", "top_shelf"), (0.42, -0.28, 0.25), 0.058
    here = make_scene(embodiment, task, (0.40, -0.10, 0.30))
    then = make_scene(embodiment, task, there, width_m=width_m)
    names = task.feature_names()
    seen, wanted = (features_of(scene, goal, task, kinematics) for scene in (here, then))
    module = anticipation(names, DT_S)
    module.mean.zero_(), module.action_mean.zero_(), module.grasped_m.fill_(task.grip_m)
    last = torch.tensor([[*(then.tool.position_m - here.tool.position_m), width_m]], dtype=torch.float32)
    found = module(torch.from_numpy(seen)[None], last, last, torch.ones(1, 1))[0].tolist()
    entries = {round(float(value), 4) for value in found}
    # Every entry that depends on the arm, in whichever order; the arm rests at both places.
    for name, value in zip(names, wanted, strict=True):
        if not name.startswith(("place_from_target", "target_velocity")):
            assert min(abs(value - entry) for entry in entries) < 2e-4, name
    assert len(found) == module.size == len(names) - 6 - 3
    stays = module(torch.from_numpy(seen)[None], last, last, torch.zeros(1, 1))[0]
    assert stays[:3].tolist() == pytest.approx(seen[:3].tolist(), abs=1e-6)


@pytest.fixture(scope="module")
def shipped(task: Task) -> FlowPolicy:
    return FlowPolicy(Bundle.open("cups/policy", kind="policy", robot="fr3"), task)


def test_the_shipped_policy_goes_on_from_what_is_carried_out(shipped: FlowPolicy, task: Task) -> None:
    spec = Bundle.open("cups/policy", kind="policy", robot="fr3").input("observation")
    assert spec.mean is not None
    features = np.array(spec.mean, np.float32)
    tool = np.array([0.5, 0.0, 0.3])
    observation = Observation(START_NS, features, tool)
    free = shipped.infer(observation).chosen
    drift = np.linspace(0, 0.05, H)  # elsewhere, by 5 cm at the end
    running = free + np.column_stack([drift, -drift, drift, np.zeros(H)])
    chunk = shipped.infer(observation, Prefix(running, frozen=6, valid=12)).chosen
    np.testing.assert_allclose(chunk[:6], running[:6], atol=1e-5)
    step = np.linalg.norm(np.diff(running[:, :3], axis=0), axis=1).max()
    # No jump where it becomes free: a step is as long as others, where to stay with the free chunk jumps by 3 cm.
    assert np.linalg.norm(chunk[6, :3] - chunk[5, :3]) < 2 * step + 0.005
    assert np.linalg.norm(free[6, :3] - running[5, :3]) > np.linalg.norm(chunk[6, :3] - chunk[5, :3])


THEIRS = """
from physai_policy.chunking.method import ChunkingMethod

class Patient(ChunkingMethod):
    def due_ns(self, inferred_ns):
        return inferred_ns + 1_000_000_000
"""


def test_somebody_elses_method_is_one_file(
    embodiment: Embodiment, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_method.py").write_text(THEIRS)
    metadata = tmp_path / "their_method-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-method\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[physai.chunking]\npatient = their_method:Patient\n")
    monkeypatch.syspath_prepend(tmp_path)
    agent = Agent(embodiment, task, Recorder(lift(), lift()), AgentSettings(method="patient"))
    agent.start(Goal("red_cup", "top_shelf"), START_NS)
    due = [
        agent.step(make_scene(embodiment, task, stamp_ns=START_NS + k * 250_000_000)) is not None
        for k in range(5)
    ]
    assert due == [True, False, False, False, True]


def test_a_method_that_nobody_has_is_named_with_those_that_are_there(
    embodiment: Embodiment, task: Task
) -> None:
    with pytest.raises(PhysaiError, match="method 'naif' is not known; there are: synchronous, naive"):
        Agent(embodiment, task, Recorder(), AgentSettings(method="naif"))


@pytest.mark.parametrize("method", OURS[:4])
def test_every_method_begins_with_a_chunk_and_goes_on(
    embodiment: Embodiment, task: Task, method: str
) -> None:
    agent = Agent(embodiment, task, Recorder(*[lift()] * 20), AgentSettings(method=method))
    agent.start(Goal("red_cup", "top_shelf"), START_NS)
    sent = []
    for k in range(20):
        outgoing = agent.step(make_scene(embodiment, task, stamp_ns=START_NS + k * DT_NS))
        if outgoing is not None:
            sent.append((k, agent.send(outgoing, START_NS + k * DT_NS)))
    steps = [k for k, _ in sent]
    # The synchronous one waits for half a chunk (9 rows, 8 steps of 50 ms) and the rest after it (0.3 s).
    assert steps == ([0, 14] if method == "synchronous" else [0, 4, 8, 12, 16])
    assert {chunk.horizon for _, chunk in sent} == {9 if method == "synchronous" else H}


def lift() -> Proposal:
    """Up from where the arm stands at home."""
    tool = ArmKinematics(EMBODIMENT).tool_pose(EMBODIMENT.home).position
    path = tool + np.outer(np.linspace(0, 1, H), [0, 0, 0.01])
    return Proposal(np.column_stack([path, np.full(H, 0.08)])[None], ActionSpace.TOOL_POSITION, DT_S)
