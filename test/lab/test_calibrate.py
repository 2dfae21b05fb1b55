"""Calibration finds what it was not told, writes it and nothing else, and what is wrong stays harmless (F21)."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest
from fr3_pair import write_pair

from physai_base.bundle import Bundle
from physai_base.embodiment import Calibration, Embodiment, Friction
from physai_base.embodiment_parts import Payload
from physai_base.errors import BundleError
from physai_base.values import ControlState
from physai_control.core import ControlError
from physai_control.residual import HIDDEN, load_network, pack
from physai_lab.calibration.arm_model import ArmModel
from physai_lab.calibration.calibrate import CalibrationOutcome, calibrate, rows, write_report
from physai_lab.calibration.cell import CellArm, Hidden
from physai_lab.calibration.excitation import CLEARANCE_M, Workspace, fourier, ramps, random_motion
from physai_lab.calibration.file import replace_section, write_calibration
from physai_lab.calibration.identification import GROUPS, Leftover, fit, friction_torque, leftover
from physai_lab.calibration.motion import (
    CalibrationError,
    CalibrationMotion,
    MotionRecording,
    execute,
    travel,
)
from physai_lab.training.residual import Trained, train_residual, write_residual

pytestmark = pytest.mark.slow

SEED = 3


@pytest.fixture(scope="module")
def workspace(embodiment: Embodiment) -> Workspace:
    return Workspace(embodiment, ArmModel(embodiment))


@pytest.fixture(scope="module")
def hidden(embodiment: Embodiment) -> Hidden:
    return Hidden.draw(embodiment, SEED)


@pytest.fixture(scope="module")
def outcome(embodiment: Embodiment, hidden: Hidden) -> CalibrationOutcome:
    """One calibration of an arm whose parameters it is not told."""
    return calibrate(embodiment, lambda believed: closing(CellArm(believed, hidden, SEED)))


def rest(embodiment: Embodiment, calibration: Calibration) -> Embodiment:
    return replace(embodiment, calibration=calibration)


def test_an_arm_that_takes_no_torques_is_refused_before_it_moves(embodiment: Embodiment) -> None:
    def nobody(_: Embodiment) -> CellArm:
        raise AssertionError("it was to be moved")

    for command in ("position", "velocity"):
        servos = replace(embodiment, hardware=replace(embodiment.hardware, command=command))
        with pytest.raises(
            CalibrationError, match=f"fr3 takes {command} commands: .* driver's own calibration"
        ):
            calibrate(servos, nobody)  # type: ignore[arg-type]


# ---- the model and the motions ----


def test_payload_columns_are_what_a_payload_adds(embodiment: Embodiment) -> None:
    model, rng = ArmModel(embodiment), np.random.default_rng(0)
    q, dq, ddq = (
        embodiment.home + rng.normal(0, 0.3, (9, 7)),
        rng.normal(size=(9, 7)),
        rng.normal(size=(9, 7)),
    )
    bare = model.torque(q, dq, ddq)
    mass, com = 1.3, np.array([0.03, -0.02, 0.05])
    inertia = mass * (com @ com * np.eye(3) - np.outer(com, com))
    parameters = np.array([mass, *(mass * com), *inertia[np.triu_indices(3)]])
    predicted = bare + model.payload_columns(q, dq, ddq) @ parameters
    model.set_payloads([Payload(mass, com)])
    np.testing.assert_allclose(model.torque(q, dq, ddq), predicted, atol=1e-9)


def test_the_models_torque_moves_the_simulated_arm(embodiment: Embodiment) -> None:
    """Forward and inverse dynamics agree: the equation of the fit is that of the physics."""
    m = mujoco.MjModel.from_xml_path(str(embodiment.model_path))
    m.dof_frictionloss[:], m.dof_damping[:] = 0.0, 0.0
    d, rng = mujoco.MjData(m), np.random.default_rng(1)
    n = len(embodiment.joints)
    q, dq, ddq = embodiment.home, rng.normal(size=n), rng.normal(size=n)
    d.qpos[:n], d.qvel[:n], d.qacc[:n] = q, dq, ddq
    mujoco.mj_inverse(m, d)
    model = ArmModel(embodiment)
    np.testing.assert_allclose(model.torque(q[None], dq[None], ddq[None])[0], d.qfrc_inverse[:n], atol=1e-9)


def test_fourier_motions_start_and_end_at_rest_within_the_limits(embodiment: Embodiment) -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        motion = CalibrationMotion("fourier", fourier(embodiment, rng.normal(size=(2, 5, 7)), 8.0))
        for t in (0.0, motion.duration_s):
            np.testing.assert_allclose(motion.evaluate(np.array([t]))[0], embodiment.home, atol=1e-6)
            np.testing.assert_allclose(motion.evaluate(np.array([t]), 1), 0.0, atol=1e-6)
        times = np.arange(0.0, 8.0, 1e-3)
        for derivative, limit in ((1, "velocity"), (2, "acceleration"), (3, "jerk")):
            assert (
                np.abs(motion.evaluate(times, derivative)).max(axis=0) <= 0.51 * embodiment.limits(limit)
            ).all()
        q = motion.evaluate(times)
        assert (q > embodiment.limits("position_min")).all()
        assert (q < embodiment.limits("position_max")).all()


def test_motions_keep_clear_of_fence_and_arm(workspace: Workspace) -> None:
    for motion in (random_motion(workspace, 8.0, seed=5), ramps(workspace)):
        q = motion.evaluate(np.arange(0.0, motion.duration_s, 0.05))
        tool, elbow = (places[:, 0] for places in workspace.model.places(q))
        e = workspace.embodiment
        assert (tool > e.geofence_min + 0.9 * CLEARANCE_M).all()
        assert (tool < e.geofence_max - 0.9 * CLEARANCE_M).all()
        assert elbow[:, 2].min() > 0.15
        assert not any(workspace.model.touches(pose) for pose in q)


def test_a_home_without_room_is_refused(embodiment: Embodiment) -> None:
    narrow = tuple(
        replace(f, low=f.low + 0.3, high=f.high - 0.3) for f in embodiment.fences if f.kind == "inside"
    )
    with pytest.raises(CalibrationError, match="no room to move about the home pose: the tool"):
        random_motion(Workspace(replace(embodiment, fences=narrow), ArmModel(embodiment)), 8.0, seed=1)


def test_ramps_are_mostly_at_constant_speed(workspace: Workspace) -> None:
    motion = ramps(workspace)
    speed = np.abs(motion.evaluate(np.arange(0.6, motion.duration_s - 0.6, 1e-2), 1))
    for column in speed.T:
        assert np.mean(np.abs(column - np.median(column)) < 0.1 * np.median(column)) > 0.6


# ---- recovery ----


def test_it_finds_the_hidden_payload(outcome: CalibrationOutcome, hidden: Hidden) -> None:
    found = outcome.calibrated.calibration
    (payload,), (truth,) = found.payloads, hidden.payloads
    assert abs(payload.mass - truth.mass) < 0.010
    np.testing.assert_allclose(payload.com, truth.com, atol=0.002)


def test_it_finds_the_hidden_friction(outcome: CalibrationOutcome, hidden: Hidden) -> None:
    speed = np.array([0.1, 0.3, 1.0])
    for i, friction in enumerate(outcome.calibrated.calibration.friction):
        truth = hidden.coulomb[i] + hidden.viscous[i] * speed
        np.testing.assert_allclose(friction_torque(friction, speed), truth, rtol=0.05)
        np.testing.assert_allclose(friction_torque(friction, -speed), -truth, rtol=0.05)


def test_it_finds_the_hidden_delay(outcome: CalibrationOutcome, hidden: Hidden) -> None:
    assert abs(outcome.calibrated.calibration.command_delay_s - 1e-3 * hidden.command_delay_steps) < 0.5e-3


def test_it_finds_the_offsets_that_torque_shows_and_keeps_the_others(
    outcome: CalibrationOutcome, hidden: Hidden
) -> None:
    found = outcome.calibrated.calibration.encoder_offset
    offsets = [e for e in outcome.fit.estimates if e.group == "offsets"]
    assert [bool(np.isinf(e.interval)) for e in offsets] == [True, False, False, False, False, False, True]
    np.testing.assert_allclose([e.new for e in offsets[1:6]], hidden.encoder_offset[1:6], atol=1e-3)
    written = np.array([e.note == "" for e in offsets])
    assert written[1:5].all() and not written[[0, 6]].any()  # about the vertical; and a turn of the payload
    assert (found[~written] == 0).all() and (found[written] != 0).all()


def test_intervals_hold_what_they_promise(outcome: CalibrationOutcome, hidden: Hidden) -> None:
    """Of some twenty parameters all but a few lie within twice their interval."""
    truth = {"mass": hidden.payloads[0].mass, "command": 1e-3 * hidden.command_delay_steps}
    truth |= {f"com {'xyz'[k]}": hidden.payloads[0].com[k] for k in range(3)}
    for i, joint in enumerate(outcome.embodiment.joints):
        truth[f"{joint.name} coulomb"], truth[f"{joint.name} viscous"] = hidden.coulomb[i], hidden.viscous[i]
        truth[joint.name] = hidden.encoder_offset[i]
    known = [e for e in outcome.fit.estimates if np.isfinite(e.interval)]
    misses = [abs(e.new - truth[e.name]) / e.interval for e in known]
    assert np.mean(np.array(misses) > 2.0) < 0.2
    assert all(0 < e.interval < 0.1 for e in known)


def test_intervals_contain_what_wrong_links_do(embodiment: Embodiment, workspace: Workspace) -> None:
    """Links that weigh 1 % more or less, at random, move the payload by about as much as its interval says."""
    motion, misses = random_motion(workspace, 8.0, seed=5), []
    for seed in range(2):
        hidden = Hidden.draw(embodiment, seed, link_error=0.01)
        with closing(CellArm(embodiment, hidden, seed)) as arm:
            found = fit(embodiment, [execute(arm, motion)])
        mass = found.estimates[0]
        assert 0.01 < mass.interval < 0.2
        misses.append(abs(mass.new - hidden.payloads[0].mass) / mass.interval)
    assert max(misses) < 2.0
    assert max(misses) > 0.01  # the links do matter


def test_tracking_improves_three_times(outcome: CalibrationOutcome) -> None:
    before, after = outcome.before.rms_error(), outcome.after.rms_error()
    assert np.linalg.norm(before) > 3 * np.linalg.norm(after)
    assert (outcome.fit.rms_after < 0.02 * outcome.embodiment.limits("torque")).all()


def test_a_known_delay_does_not_make_the_arm_lead(embodiment: Embodiment, workspace: Workspace) -> None:
    late = replace(Hidden.none(embodiment), command_delay_steps=2)
    told = rest(embodiment, replace(embodiment.calibration, command_delay_s=0.002))
    with closing(CellArm(told, late)) as arm:
        recording = execute(arm, random_motion(workspace, 5.0, seed=9))
    velocity = recording.motion.evaluate(recording.time_s, 1)
    lag_s = (recording.tracking_error * velocity).sum(axis=0) / (velocity**2).sum(axis=0)
    assert np.abs(lag_s[:4]).max() < 0.5e-3


# ---- what is refused ----


def test_an_arm_that_hardly_moves_is_refused(embodiment: Embodiment) -> None:
    still = CalibrationMotion("still", np.tile(embodiment.home, (300, 1)))
    time_s = np.arange(0.0, 6.0, 1e-3)
    noise = np.random.default_rng(0).normal(0, 1e-5, (len(time_s), 7))
    recording = MotionRecording(still, time_s, embodiment.home + noise, noise, noise, 0.08)
    with pytest.raises(CalibrationError, match="hardly moved"):
        fit(embodiment, [recording])


def test_what_is_no_better_is_refused(embodiment: Embodiment, workspace: Workspace) -> None:
    """An arm that carries nothing, as its file says: there is no payload to write."""
    with closing(CellArm(embodiment, Hidden.none(embodiment))) as arm:
        recording = execute(arm, random_motion(workspace, 8.0, seed=3))
    with pytest.raises(CalibrationError, match="no better than the present one"):
        fit(embodiment, [recording], what=("payload",))


def test_what_no_arm_has_is_refused(outcome: CalibrationOutcome, embodiment: Embodiment) -> None:
    """A robot whose torque has the other sign seems to be driven by its friction."""
    backwards = replace(outcome.before, torque=-outcome.before.torque)
    with pytest.raises(CalibrationError, match="came out, which no arm has"):
        fit(embodiment, [backwards])


def test_slow_and_broken_recordings_are_refused(outcome: CalibrationOutcome, embodiment: Embodiment) -> None:
    r = outcome.before

    def only(keep: np.ndarray) -> MotionRecording:
        return replace(r, time_s=r.time_s[keep], position=r.position[keep], velocity=r.velocity[keep], torque=r.torque[keep])  # fmt: skip

    with pytest.raises(CalibrationError, match="at 50 Hz, calibration needs at least 100"):
        fit(embodiment, [only(np.arange(len(r.time_s)) % 20 == 0)])
    with pytest.raises(CalibrationError, match="missing for 2"):
        fit(embodiment, [only((r.time_s < 2.0) | (r.time_s > 2.2))])


def test_a_controller_that_does_not_follow_is_an_error(embodiment: Embodiment) -> None:
    far = travel(embodiment.home + 1.0, embodiment.home, embodiment.limits("velocity"))
    with closing(CellArm(embodiment, Hidden.none(embodiment))) as arm:
        with pytest.raises(CalibrationError, match="refused a chunk"):
            execute(arm, far)
        assert arm.status().state is ControlState.HOLD


# ---- the file ----


def test_the_file_keeps_everything_else(
    outcome: CalibrationOutcome, embodiment: Embodiment, tmp_path: Path
) -> None:
    copy = tmp_path / "fr3.yaml"
    write_calibration(embodiment, outcome.calibrated.calibration, copy, "a test")
    read = Embodiment.load(copy)
    np.testing.assert_allclose(
        read.calibration.payloads[0].com, outcome.calibrated.calibration.payloads[0].com, atol=1e-5
    )
    assert read.calibration.friction[3].coulomb == pytest.approx(
        outcome.calibrated.calibration.friction[3].coulomb, rel=1e-4
    )
    before, after = embodiment.path.read_text().splitlines(), copy.read_text().splitlines()
    kept = [line for line in before if not line.startswith("model:")]
    assert [line for line in after[: len(before)] if not line.startswith("model:")] == kept
    # Again, in place: the section is replaced, not added.
    write_calibration(read, replace(read.calibration, payloads=(Payload(0.25),)), copy, "again")
    assert Embodiment.load(copy).calibration.payloads[0].mass == pytest.approx(0.25)
    assert copy.read_text().count("calibration:") == 1
    assert list(tmp_path.iterdir()) == [copy]


def test_a_section_in_the_middle_is_replaced() -> None:
    text = "a: 1  # one\ncalibration:\n  payload: {mass: 1}\n\n  residual: x\n# about b\nb: 2\n"
    assert (
        replace_section(text, "calibration:\n  new: 1\n")
        == "a: 1  # one\ncalibration:\n  new: 1\n# about b\nb: 2\n"
    )
    assert replace_section("a: 1", "calibration: {}\n") == "a: 1\n\ncalibration: {}\n"


def test_a_calibration_that_cannot_be_read_back_is_not_written(
    embodiment: Embodiment, tmp_path: Path
) -> None:
    copy = tmp_path / "fr3.yaml"
    copy.write_text("what was there\n")
    broken = replace(embodiment.calibration, payloads=(Payload(float("nan")),))
    with pytest.raises(Exception, match="payload"):
        write_calibration(embodiment, broken, copy, "a test")
    assert copy.read_text() == "what was there\n"
    assert list(tmp_path.iterdir()) == [copy]


def test_only_what_is_asked_for_is_taken_over(
    outcome: CalibrationOutcome, embodiment: Embodiment, hidden: Hidden
) -> None:
    found = fit(embodiment, [outcome.before], what=("payload",))
    assert found.calibration.payloads[0].mass == pytest.approx(hidden.payloads[0].mass, abs=0.05)
    assert found.calibration.friction == embodiment.calibration.friction
    assert found.calibration.command_delay_s == 0
    notes = {row["parameter"]: row[""] for row in rows(found, ("payload",))}
    assert notes["mass"] == "" and "not asked for" in notes["fr3_joint1 coulomb"]


def test_the_report_says_it_all(outcome: CalibrationOutcome, tmp_path: Path) -> None:
    page = write_report(outcome, GROUPS, tmp_path).read_text()
    assert "data:image/png" in page and "fr3_joint7 viscous" in page and "torque does not show it" in page


# ---- the residual ----


@pytest.fixture(scope="module")
def cable_recordings(embodiment: Embodiment, workspace: Workspace) -> list[MotionRecording]:
    """An arm that is as its file says, but for a cable that no parameter can stand for."""
    hidden = replace(Hidden.none(embodiment), cable=True)
    with closing(CellArm(embodiment, hidden, SEED)) as arm:
        return [execute(arm, random_motion(workspace, 8.0, 100 + k)) for k in range(5)]


@pytest.fixture(scope="module")
def trained(embodiment: Embodiment, cable_recordings: list[MotionRecording]) -> Trained:
    return train_residual(embodiment, leftover(embodiment, embodiment.calibration, cable_recordings))


@pytest.fixture(scope="module")
def residual(embodiment: Embodiment, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("residual") / "fr3_residual"
    write_residual(folder, embodiment, trained, "a test")
    return folder


def test_the_residual_improves_what_parameters_cannot(
    embodiment: Embodiment, workspace: Workspace, trained: Trained, residual: Path
) -> None:
    loaded = [i for i in range(6) if trained.rms_before[i] > 0.05]
    assert len(loaded) >= 3
    assert all(trained.rms_after[i] < 0.7 * trained.rms_before[i] for i in loaded)
    hidden, motion = replace(Hidden.none(embodiment), cable=True), random_motion(workspace, 6.0, 7)
    error = {}
    for name, path in (("without", None), ("with", residual)):
        with closing(
            CellArm(rest(embodiment, replace(embodiment.calibration, residual=path)), hidden)
        ) as arm:
            error[name] = np.linalg.norm(execute(arm, motion).rms_error())
            assert arm.status().residual_active == (path is not None)
    assert error["with"] < 0.8 * error["without"]


def test_the_bundle_is_verified(embodiment: Embodiment, residual: Path, trained: Trained) -> None:
    assert Bundle.open(residual).kind == "residual"
    network = load_network(residual, embodiment)
    assert (network.n_joints, network.n_hidden) == (7, HIDDEN)
    np.testing.assert_array_equal(np.array(network.w1)[:21], trained.weights["w1"])
    with pytest.raises(BundleError, match="robot"):
        load_network(residual, replace(embodiment, name="other"))
    with pytest.raises(BundleError, match="w2 must have shape"):
        pack(trained.weights | {"w2": np.zeros((3, 3), np.float32)}, 7)
    large = {"b1": np.zeros(HIDDEN + 1, np.float32)}
    with pytest.raises(BundleError, match="33 units"):
        pack(trained.weights | large, 7)


def test_noise_cannot_be_learned(embodiment: Embodiment) -> None:
    rng, n = np.random.default_rng(0), 7
    noise = Leftover(
        *(rng.normal(size=(2000, n)) for _ in range(4)), np.ones((2000, n), bool), np.arange(2000) // 16
    )
    with pytest.raises(CalibrationError, match="explains nothing"):
        train_residual(embodiment, noise)


# ---- F21: what is wrong stays harmless ----


def evil(trained: Trained, **changes: np.ndarray) -> dict[str, np.ndarray]:
    weights = {name: np.zeros_like(value) for name, value in trained.weights.items()}
    kept = {name: trained.weights[name] for name in ("input_mean", "input_scale", "output_scale")}
    return weights | kept | {name: np.asarray(value, np.float32) for name, value in changes.items()}


def network(kind: str, trained: Trained, limit: np.ndarray) -> dict[str, np.ndarray]:
    """A network with the right shape and the wrong mind."""
    n, scale = len(limit), trained.weights["output_scale"]
    first, second, third = np.zeros((3 * n, HIDDEN)), np.zeros((HIDDEN, HIDDEN)), np.zeros((HIDDEN, n))
    each = np.arange(n)
    second[each, each] = 3.0
    third[each, each] = 0.099 * limit / scale
    if kind == "infinite":
        return evil(trained, b3=np.full(n, 3e38), output_scale=np.full(n, 10.0))
    if kind == "huge":
        return evil(trained, b3=np.full(n, 1e6))
    if kind == "constant":
        return evil(trained, b3=0.1 * limit / scale)
    if kind == "grows with the angle":  # a spring that pushes away from home
        first[each, each] = 5.0
    if kind == "grows with the speed":  # as much friction again, and more
        first[n + each, each] = -20.0
    if kind == "chatters":
        first[each, each] = 1e5
    return evil(trained, w1=first, w2=second, w3=third)


KINDS = ("infinite", "huge", "constant", "grows with the angle", "grows with the speed", "chatters")


@pytest.mark.parametrize("kind", KINDS)
def test_an_evil_residual_is_bounded(
    kind: str, embodiment: Embodiment, workspace: Workspace, trained: Trained, tmp_path: Path
) -> None:
    limit = embodiment.limits("torque")
    bad = replace(trained, weights=network(kind, trained, limit))
    write_residual(tmp_path / "evil", embodiment, bad, "a test")
    believed = rest(embodiment, replace(embodiment.calibration, residual=tmp_path / "evil"))
    with closing(CellArm(believed, Hidden.none(embodiment))) as arm:
        recording = execute(arm, random_motion(workspace, 4.0, 7))
        status = arm.status()
    # What a tenth of the torque limit can do against the stiffness, twice for the swing.
    reach = 0.1 * limit / embodiment.limits("stiffness")
    assert (np.abs(recording.tracking_error).max(axis=0) < 2 * reach + 0.005).all()
    assert status.state is ControlState.HOLD
    if kind in ("infinite", "huge", "chatters"):
        assert not status.residual_active


def test_weights_that_are_not_finite_are_refused(
    embodiment: Embodiment, trained: Trained, tmp_path: Path
) -> None:
    bad = replace(trained, weights=evil(trained, b3=np.full(7, np.nan)))
    write_residual(tmp_path / "evil", embodiment, bad, "a test")
    believed = rest(embodiment, replace(embodiment.calibration, residual=tmp_path / "evil"))
    with pytest.raises(ControlError, match="not all finite"):
        CellArm(believed, Hidden.none(embodiment))


WRONG = {
    "friction three times": lambda c: replace(c, friction=tuple(replace(f, coulomb=3 * f.coulomb, viscous=3 * f.viscous) for f in c.friction)),
    "no friction": lambda c: replace(c, friction=tuple(Friction() for _ in c.friction)),
    "encoders 50 mrad": lambda c: replace(c, encoder_offset=np.full(7, 0.05)),
    "encoders -50 mrad": lambda c: replace(c, encoder_offset=np.full(7, -0.05)),
    "payload 3 kg": lambda c: replace(c, payloads=(Payload(3.0),)),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_calibration_is_bounded(name: str, embodiment: Embodiment, workspace: Workspace) -> None:
    wrong = rest(embodiment, WRONG[name](embodiment.calibration))
    with closing(CellArm(wrong, Hidden.none(embodiment))) as arm:
        start = arm.wait(0.001)[0].position
        way = travel(
            start, embodiment.home, embodiment.limits("velocity")
        )  # its encoders may put it elsewhere
        execute(arm, way)
        recording = execute(arm, random_motion(workspace, 4.0, 7))
        resting = np.array([state.velocity for state in arm.wait(0.5)])
        assert arm.status().state is ControlState.HOLD
    assert np.abs(recording.tracking_error).max() < 0.05
    assert np.abs(resting).max() < 0.05  # no limit cycle


def test_of_two_arms_each_payload_is_found(embodiment: Embodiment, tmp_path: Path) -> None:
    pair = Embodiment.load(write_pair(embodiment, tmp_path))
    hidden = Hidden.draw(pair, SEED)
    assert hidden.payloads[0].mass != hidden.payloads[1].mass
    motion = random_motion(Workspace(pair, ArmModel(pair)), 8.0, seed=5)
    with closing(CellArm(pair, hidden, SEED)) as arm:
        found = fit(pair, [execute(arm, motion)])
    for payload, truth in zip(found.calibration.payloads, hidden.payloads, strict=True):
        assert abs(payload.mass - truth.mass) < 0.02
        np.testing.assert_allclose(payload.com, truth.com, atol=0.005)
    assert [e.name for e in found.estimates if e.group == "payload"][::4] == ["left mass", "right mass"]
    write_calibration(pair, found.calibration, tmp_path / "calibrated.yaml", "a test")
    read = Embodiment.load(tmp_path / "calibrated.yaml").calibration.payloads
    assert [p.mass for p in read] == pytest.approx([p.mass for p in found.calibration.payloads], abs=1e-3)
