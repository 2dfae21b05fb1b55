"""The fault campaign: its envelope, its injector, its mutants, and a short run of it with controls."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fr3_pair import write_pair
from paths import ROOT

from physai_base.embodiment import Embodiment
from physai_base.embodiment_parts import EndEffector, Fence, Gripper, Hand
from physai_base.errors import PhysaiError
from physai_base.native import LibraryError
from physai_base.values import ActionChunk, ControlState
from physai_control.core import ChunkRejected
from physai_lab.faults.campaign import (
    Campaign,
    CampaignOutcome,
    What,
    choose,
    fault_rows,
    guards_of,
    summary,
    write_report,
)
from physai_lab.faults.catalogue import FAULTS
from physai_lab.faults.clean import Clean, rate_at_most
from physai_lab.faults.controller import _swing
from physai_lab.faults.envelope import Term, ToolEnvelope, judge, restart
from physai_lab.faults.motion import MotionPlanner
from physai_lab.faults.mutants import MutantsError, apply, source_root
from physai_lab.faults.mutations import BY_NAME, GUARDS_OFF, MUTATIONS
from physai_lab.faults.trial import Trial, World
from physai_lab.faults.workers import Job, Workers
from physai_sim.inject import Event, FaultKind, Field
from physai_sim.plant import Gate, PlantLog

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(embodiment: Embodiment) -> World:
    return World(embodiment)


# ---- the envelope ----


def _still(embodiment: Embodiment, rows: int = 200) -> PlantLog:
    n = len(embodiment.home)
    return PlantLog(
        time_s=np.arange(rows) * 1e-3,
        gate=np.full(rows, Gate.DRIVEN),
        missed=np.zeros(rows, int),
        position=np.tile(embodiment.home, (rows, 1)),
        velocity=np.zeros((rows, n)),
        torque=np.zeros((rows, n)),
    )


def _spoiled(log: PlantLog, **changes: tuple[object, float]) -> PlantLog:
    fields = {}
    for name, (where, value) in changes.items():
        array = getattr(log, name).astype(float).copy()
        array[where] = value  # type: ignore[index]
        fields[name] = array
    return replace(log, **fields)


def test_envelope_holds_for_an_arm_at_rest(embodiment: Embodiment) -> None:
    terms = judge(_still(embodiment), embodiment, ToolEnvelope(embodiment))
    assert all(term.holds for term in terms.values())


LAST = (100, -1)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("finite", {"position": (LAST, np.nan)}),
        ("finite", {"torque": (LAST, np.inf)}),
        ("torque", {"torque": (np.s_[:, -1], 12.1)}),
        ("torque", {"torque": (LAST, np.nan)}),
        ("torque step", {"torque": (np.s_[100:, -1], 1.1)}),
        ("position", {"position": (LAST, 3.1)}),
        ("position", {"position": (LAST, -np.inf)}),
        ("velocity", {"velocity": (LAST, -1.06 * 5.26)}),
        ("velocity", {"velocity": (LAST, np.nan)}),
        ("outside the geofence, m", {"position": (np.s_[:, 1], 1.4)}),
    ],
)
def test_envelope_is_broken_by(
    embodiment: Embodiment, name: str, changes: dict[str, tuple[object, float]]
) -> None:
    terms = judge(_spoiled(_still(embodiment), **changes), embodiment, ToolEnvelope(embodiment))
    assert not terms[name].holds
    assert terms[name].share > 1


def test_torque_step_is_the_controllers_alone(embodiment: Embodiment) -> None:
    """Brakes take the whole weight at once."""
    log = _spoiled(_still(embodiment), torque=(np.s_[100:], 9.0), gate=(np.s_[100:], Gate.LATCHED))
    assert judge(log, embodiment, ToolEnvelope(embodiment))["torque step"].holds


def test_restart_motion(embodiment: Embodiment) -> None:
    tool = ToolEnvelope(embodiment)
    positions = np.tile(embodiment.home, (100, 1))
    assert restart(positions, tool).holds
    positions[50:, 0] += 0.01  # half a metre out: 5 mm
    moved = restart(positions, tool)
    assert not moved.holds
    assert 0.003 < moved.value < 0.008


def test_not_a_number_is_beyond_every_bound() -> None:
    assert not Term("x", float("nan"), 1.0).holds
    assert Term("x", float("nan"), 1.0).share == float("inf")
    assert Term("x", 1.0, 1.0).holds


# ---- scenarios ----


def test_motions_keep_every_limit(embodiment: Embodiment) -> None:
    tool = ToolEnvelope(embodiment)
    planner = MotionPlanner(embodiment, tool)
    for seed in range(20):
        motion = planner.draw(np.random.default_rng(seed))
        times = np.linspace(0, motion.period_s, 400)
        path = motion.at(times)
        step = times[1]
        assert (np.abs(np.gradient(path, step, axis=0)) <= embodiment.limits("velocity")).all()
        assert (
            np.abs(np.gradient(np.gradient(path, step, axis=0), step, axis=0))
            < embodiment.limits("acceleration")
        ).all()
        points = tool.positions(path)
        assert ((points > embodiment.geofence_min) & (points < embodiment.geofence_max)).all()


def _run(world: World, *events: Event) -> Trial:
    trial = Trial(world, 3)
    for event in events:
        trial.inject(event)
    trial.run()
    return trial


def test_a_trial_without_a_fault_is_clean(world: World) -> None:
    trial = _run(world)
    result = trial.judge("none")
    trial.close()
    assert result.failures == ()
    assert result.state == "track"
    assert all(post.accepted for post in trial.posts)
    assert len(trial.log.time_s) == len(trial.said.time_s)
    np.testing.assert_allclose(trial.log.time_s - trial.said.time_s, 1e-3, atol=1e-9)
    np.testing.assert_allclose(  # what the controller wants is what the arm does
        trial.said.reference[1000:], trial.log.position[1000:], atol=0.05
    )


@pytest.mark.parametrize("rate_hz", [500, 250])
def test_a_controller_of_another_rate_is_judged_as_one(embodiment: Embodiment, rate_hz: float) -> None:
    """Rows stay a millisecond apart; torque and reference may go as far in a cycle as a cycle is long."""
    slower = replace(embodiment, control=replace(embodiment.control, rate_hz=rate_hz))
    world, cycle = World(slower), round(1000 / rate_hz)
    trial = _run(world)
    result, seam = trial.judge("none"), trial.largest_seam()
    trial.close()
    assert result.failures == () and seam < 1e-3
    assert result.terms["torque step"].holds
    assert len(trial.log.time_s) == len(trial.said.reference) == len(trial.said.state)
    assert (np.diff(trial.log.time_s) < 1.1e-3).all()
    log = _still(slower)
    for factor, holds in ((0.9, True), (1.1, False)):
        step = factor * slower.joints[-1].stop_torque_rate * cycle * 1e-3
        stepped = _spoiled(log, torque=(np.s_[100:, -1], log.torque[100, -1] + step))
        assert judge(stepped, slower, ToolEnvelope(slower))["torque step"].holds is holds


def test_a_robot_with_several_end_effectors_is_sent_chunks_for_each(embodiment: Embodiment) -> None:
    (first,) = embodiment.end_effectors
    several = replace(embodiment, end_effectors=(first, EndEffector("second", "fr3_hand", Gripper(), Hand())))
    trial = Trial(World(several), 3)
    trial.use("joint")
    trial.run()
    result = trial.judge("none")
    trial.close()
    assert result.failures == ()
    assert not [post for post in trial.posts if not post.accepted]
    below = replace(several, fences=(Fence("plane", ("elbow",), normal=np.array([0.0, 0, 1]), offset=9.0),))
    for elbow in ("fr3_link4", "tool0"):  # a body, a site; of the second arm alone
        ends = (replace(first, elbow_frame=""), replace(several.end_effectors[1], elbow_frame=elbow))
        assert ToolEnvelope(replace(below, end_effectors=ends)).outside(embodiment.home[None])[0] > 8.0
    poses = ToolEnvelope(several).poses(embodiment.home[None])
    assert poses.shape == (1, 14) and not np.allclose(poses[0, :3], poses[0, 7:10])


@pytest.fixture
def hobby(embodiment: Embodiment) -> Embodiment:
    """An arm that takes positions at 100 Hz and measures nothing else."""
    control = replace(embodiment.control, rate_hz=100.0, state_timeout_s=0.2)
    return replace(embodiment, hardware=replace(embodiment.hardware, command="position"), control=control)


@pytest.mark.parametrize(
    ("name", "why"), [("F12", "positions are all that it measures"), ("F18", "joint positions")]
)
def test_faults_that_make_no_sense_for_a_robot_are_left_out_and_said(
    name: str, why: str, hobby: Embodiment, embodiment: Embodiment
) -> None:
    result = FAULTS[name].run(World(hobby), 1)
    assert why in result.senseless and not result.failures
    outcome = CampaignOutcome(What((FAULTS[name],), 1, controls=False))
    outcome.senseless[name].append(result)
    assert why in outcome.verdict(FAULTS[name]) and outcome.good()
    assert not FAULTS[name].run(World(embodiment), 1).senseless


def test_a_servo_follows_positions_in_a_trial_and_its_torque_is_its_own(hobby: Embodiment) -> None:
    trial = _run(World(hobby))
    result = trial.judge("none")
    reference, position = trial.said.reference[1000:], trial.log.position[1000:]
    trial.close()
    assert result.failures == () and result.state == "track"
    assert "torque step" not in result.terms
    np.testing.assert_allclose(reference, position, atol=0.1)  # which lags behind


@pytest.mark.parametrize("name", ["F6", "F13", "F19", "F20", "F21", "F22", "F24"])
def test_what_a_fault_asks_for_is_counted_in_cycles_and_of_what_the_robot_has(
    name: str, hobby: Embodiment
) -> None:
    """With the numbers of a controller of 1 kHz, that feels and moves by torque, each of these asked for the impossible."""
    world = World(hobby)
    for seed in range(1, 5):
        result = FAULTS[name].run(world, seed)
        assert not result.failures, (name, seed, result.failures)


def test_motions_are_small_where_there_is_little_room_and_none_is_said(world: World) -> None:
    def fenced(half_m: float) -> Embodiment:
        middle = world.tool.positions(world.embodiment.home[None])[0, 0]
        box = Fence("inside", ("tool",), middle - half_m, middle + half_m)
        return replace(world.embodiment, geofence_min=box.low, geofence_max=box.high, fences=(box,))

    narrow = fenced(0.10)
    motion = MotionPlanner(narrow, ToolEnvelope(narrow)).draw(np.random.default_rng(0))
    assert 0 < np.abs(motion.swing).max() < 0.3
    none = fenced(1e-4)
    with pytest.raises(PhysaiError, match="no motion around home"):
        MotionPlanner(none, ToolEnvelope(none)).draw(np.random.default_rng(0))


ALWAYS = {"start_s": 1.0, "duration_s": 0.01}


@pytest.mark.parametrize(
    ("event", "withheld"),
    [
        (Event(FaultKind.STATE_LOSS, magnitude=1.0, **ALWAYS), 10),
        (Event(FaultKind.STATE_DELAY, magnitude=4, **ALWAYS), 4),
        (Event(FaultKind.STATE_REPEAT, magnitude=1.0, **ALWAYS), 10),
        (Event(FaultKind.STATE_REORDER, magnitude=1.0, **ALWAYS), 10),
        (Event(FaultKind.COMMAND_LOSS, magnitude=1.0, **ALWAYS), 0),
        (Event(FaultKind.OFFSET, magnitude=1e-3, **ALWAYS), 0),
    ],
)
def test_injector_disturbs_the_channel_as_said(world: World, event: Event, withheld: int) -> None:
    trial = _run(world, event)
    said, log = trial.said, trial.log
    trial.close()
    assert said.withheld[-1] == withheld
    during = np.zeros(len(log.time_s), bool)
    during[1000:1010] = True
    missing = log.gate == Gate.MISSING
    assert not missing[~during].any()
    answered = event.kind is FaultKind.OFFSET
    assert missing[during].all() == (not answered) or event.kind is FaultKind.STATE_REORDER
    assert missing.any() == (not answered)


def test_corrupted_values_reach_the_controller_and_not_the_truth(world: World) -> None:
    clean, lied = _run(world), _run(world, Event(FaultKind.OFFSET, 1.0, 0.5, 0.006, Field.POSITION, 2))
    apart = np.abs(lied.log.position[1400] - clean.log.position[1400])
    for trial in (clean, lied):
        trial.close()
    assert 0.003 < apart[2] < 0.009  # the arm goes where the sensor makes it believe to be
    assert apart[0] < 0.003


# ---- mutants ----


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_mutation_fits_the_present_sources(mutation: object) -> None:
    text = (ROOT / mutation.file).read_text()  # type: ignore[attr-defined]
    assert apply(text, mutation) != text  # type: ignore[arg-type]


def test_mutations_are_well_formed() -> None:
    assert len(BY_NAME) == len(MUTATIONS)
    for mutation in MUTATIONS:
        assert mutation.caught_by and set(mutation.caught_by) <= set(FAULTS), mutation.name
        assert set(mutation.behind) <= set(BY_NAME), mutation.name
    texts: dict[str, str] = {}
    for mutation in GUARDS_OFF:  # together they must still fit
        text = texts.get(mutation.file) or (ROOT / mutation.file).read_text()
        texts[mutation.file] = apply(text, mutation)


def test_guards_off_takes_away_what_a_fault_is_for() -> None:
    own = {m.name for m in guards_of(FAULTS["F19"])}
    assert own == {"contact-joints", "contact-tool", "latched-runaway", "latched-speed"}
    assert guards_of(FAULTS["F13"]) == list(GUARDS_OFF)  # no removal names it
    assert "law-not-finite" not in {m.name for m in guards_of(FAULTS["F11"])}  # is no guard


def test_mutation_that_no_longer_fits_is_named() -> None:
    with pytest.raises(MutantsError, match=r"state-finite.*found 0 times"):
        apply("int main(void) { return 0; }", BY_NAME["state-finite"])


def test_missing_sources_are_named(tmp_path: Path) -> None:
    with pytest.raises(MutantsError, match="source checkout"):
        source_root(tmp_path)


# ---- the campaign ----


def test_every_fault_of_the_table_is_there() -> None:
    assert list(FAULTS) == [f"F{k}" for k in range(1, 28)]
    for fault in FAULTS.values():
        assert fault.title and fault.how.endswith(".") and fault.passes


def test_unknown_fault_is_refused() -> None:
    with pytest.raises(PhysaiError, match=r"F99.*known: F1"):
        choose("F1,F99")


def test_trials_repeat(embodiment: Embodiment) -> None:
    """The same seed gives the same trial, whatever else the machine does."""
    jobs = [Job("F9", seed) for seed in range(4)] * 2
    with Workers(embodiment.path, 2) as pool:
        results = sorted((r for _, r in pool.run(jobs)), key=lambda r: r.seed)
    for first, second in zip(results[::2], results[1::2], strict=True):
        assert first.terms == second.terms
        assert first.reaction_ms == second.reaction_ms or np.isnan(first.reaction_ms)


def test_a_library_that_cannot_be_loaded_catches_no_mutant(embodiment: Embodiment, tmp_path: Path) -> None:
    """It ends the campaign: a trial that failed for this would count as a guard's proof."""
    (tmp_path / "libphysai_control.so").write_bytes(b"no library")
    with (
        pytest.raises(LibraryError, match=r"libphysai_control\.so cannot be loaded"),
        Workers(embodiment.path, 1, str(tmp_path)) as pool,
    ):
        list(pool.run([Job("F1", 0)]))
    with Workers(embodiment.path, 1) as pool:
        ((_, sound),) = list(pool.run([Job("F1", 0)]))
    assert sound.failures == ()


@pytest.mark.parametrize("gone", [False, True])
def test_a_process_that_dies_is_a_failed_trial(embodiment: Embodiment, gone: bool) -> None:
    with Workers(embodiment.path, 1) as pool:
        running = pool.run([Job("F1", seed) for seed in range(2)])
        for process in multiprocessing.active_children():
            process.kill()
            if gone:  # before it is given its trial
                process.join()
        results = [result for _, result in running]
    assert results[0].failures == ("the process died: SIGKILL",)
    assert results[1].failures == ()


CHEAP = "F1,F4,F5,F22,F27"


@pytest.fixture(scope="module")
def outcome(embodiment: Embodiment) -> CampaignOutcome:
    what = What(choose(CHEAP), trials=4, seed=7, workers=2, mutations=(BY_NAME["chunk-sequence-repeat"],))
    return Campaign(embodiment, what, lambda done, total, note: None, ROOT).run()


def test_short_campaign_passes_with_its_controls(outcome: CampaignOutcome) -> None:
    assert summary(outcome).startswith("20 trials, 0 failed; 5 passes")
    assert outcome.good()
    for fault in outcome.what.faults:
        assert not outcome.failures(fault)
        assert any(result.failures for result in outcome.off[fault.id]), f"{fault.id} proves nothing"
    assert outcome.catches["chunk-sequence-repeat"].fault == "F4"


def test_installed_library_is_the_one_of_the_sources(outcome: CampaignOutcome) -> None:
    assert sum(map(len, outcome.rebuilt.values())) == 10
    assert outcome.differing() == []


def test_report_holds_the_table(outcome: CampaignOutcome, tmp_path: Path) -> None:
    page = write_report(outcome, tmp_path)
    document = json.loads((tmp_path / "report.json").read_text())
    assert [row["fault"] for row in document["faults"]] == CHEAP.split(",")
    assert document["mutants"][0]["caught"] is True
    assert "chunk-sequence-repeat" in page.read_text()
    assert fault_rows(outcome)[0]["at most (95 %)"] == "48.99%"


def test_failed_trial_is_no_pass(outcome: CampaignOutcome) -> None:
    """A campaign that shows failures or lets a mutant live says so."""
    worse = replace(outcome, on={**outcome.on, "F1": [replace(outcome.on["F1"][0], failures=("x",))]})
    assert worse.verdict(FAULTS["F1"]) == "FAILS"
    assert not worse.good()
    harmless = replace(outcome, off={**outcome.off, "F1": outcome.on["F1"]})
    assert harmless.verdict(FAULTS["F1"]) == "proves nothing"
    tame = replace(outcome, all_off={**outcome.all_off, "F22": outcome.on["F22"]})
    assert tame.verdict(FAULTS["F22"]) == "proves nothing", "its own guards keep no term of the envelope"
    lives = replace(outcome, catches={"x": replace(outcome.catches["chunk-sequence-repeat"], fault="")})
    assert not lives.good()


def test_every_fault_passes_a_few_trials(embodiment: Embodiment) -> None:
    what = What(tuple(FAULTS.values()), trials=2, seed=11, workers=2, controls=False)
    outcome = Campaign(embodiment, what, lambda done, total, note: None).run()
    for fault in what.faults:
        assert fault.impossible() or outcome.verdict(fault) == "passes", outcome.failures(fault)


# ---- clean operation ----


def test_rate_at_most() -> None:
    """Against the table of the Poisson distribution's one-sided 95 % limits."""
    assert rate_at_most(0, 1.0) == pytest.approx(2.9957, rel=1e-4)
    assert rate_at_most(0, 10.0) == pytest.approx(0.29957, rel=1e-4)
    assert rate_at_most(3, 1.0) == pytest.approx(7.7537, rel=1e-4)


def test_false_stop_is_no_pass() -> None:
    what = What((), 0)
    assert CampaignOutcome(what, clean=Clean(hours=1.0, chunks=9).row()).good()
    stopped = CampaignOutcome(what, clean=Clean(hours=1.0, chunks=9, stops=["seed 3: contact"]).row())
    assert not stopped.good()
    assert summary(stopped).startswith(
        "1 false stops, 0 of 9 chunks refused in 1.00 h of clean operation; stops per hour at most 4.744"
    )


@pytest.mark.parametrize(
    ("fault", "seed"),
    [
        ("F19", 302),  # a push at the elbow: beyond the speed limit before the contact was noticed
        ("F1", 1000006),  # the elbow swung on while the tool rested
        ("F19", 1000266),  # a push faster than the stop that it caused
        ("F20", 294),  # pulled at in a stop: brakes that crept
        ("F20", 360),  # a load that crept through the barrier over a joint's limit
        ("F23", 118),  # a reset as the brakes closed
    ],
)
def test_what_failed_once(world: World, fault: str, seed: int) -> None:
    result = FAULTS[fault].run(world, seed)
    assert not result.failures, result.failures


def test_trials_are_about_each_arm_and_the_envelope_watches_all(
    embodiment: Embodiment, tmp_path: Path
) -> None:
    pair = Embodiment.load(write_pair(embodiment, tmp_path))
    world = World(pair)
    trials = [Trial(world, seed) for seed in range(6)]
    assert {trial.end.name for trial in trials} == {"left", "right"}
    for trial in trials:
        assert trial.arm_joints == list(range(7 * trial.arm, 7 * trial.arm + 7))
        trial.close()
    still = np.tile(pair.home, (100, 1))
    assert world.tool.positions(still).shape == (2, 100, 3)
    still[50:, 7] += 0.01  # of the right arm
    assert not restart(still, world.tool).holds
    for seed in (0, 1, 2, 3):  # a stretch, a sweep, a flip: of either arm
        result = FAULTS["F18"].run(world, seed)
        assert result.failures == (), (seed, result.failures)


def test_what_a_robot_has_not_is_no_trial_and_said(embodiment: Embodiment) -> None:
    bare = replace(
        embodiment,
        joints=tuple(replace(joint, contact_torque=0.0) for joint in embodiment.joints),
        control=replace(embodiment.control, contact_force=0.0, contact_moment=0.0),
    )
    world = World(bare)
    results = [FAULTS["F19"].run(world, seed) for seed in range(6)]
    left_out = [r for r in results if r.senseless]
    assert left_out and len(left_out) < 6 and "no contact torques" in left_out[0].senseless
    fault = FAULTS["F19"]
    outcome = CampaignOutcome(What((fault,), 6))
    outcome.senseless["F19"] = left_out
    assert outcome.verdict(fault).startswith("makes no sense here: a push is noticed by no threshold")
    assert outcome.good()


def test_the_controller_process_outlives_a_chunk_that_came_too_late(
    embodiment: Embodiment, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped between reading the state and posting: the core has latched, or the chunk has expired, by then."""

    class Core:
        posted = 0

        def status(self) -> SimpleNamespace:
            state = ControlState.FAULT if self.posted else ControlState.HOLD
            return SimpleNamespace(state=state, stamp_ns=1_000_000, cause="states stayed away")

        def post(self, chunk: ActionChunk) -> None:
            self.posted += 1
            raise ChunkRejected("the controller is in fault; reset it first")

    core = Core()
    _swing(core, embodiment, "")  # type: ignore[arg-type]
    assert core.posted == 1
    assert capsys.readouterr().out.splitlines() == [
        "refused: the controller is in fault; reset it first",
        "fault: states stayed away",
    ]
