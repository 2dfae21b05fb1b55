"""The control core in the cell's physics, in process: tracking, seams, refusals, faults."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bare_arm import Arm
from paths import ROOT

from physai_base.embodiment import Embodiment
from physai_base.values import ActionChunk, ChunkMode, ControlState
from physai_control.core import ChunkRejected
from physai_sim.plant import Gate

MS = 1_000_000


def test_inactive_core_leaves_the_arm_to_its_brakes(arm: Arm, embodiment: Embodiment) -> None:
    arm.run(1.0)
    assert arm.plant.gate is Gate.BRAKED
    assert arm.core.status().state is ControlState.INACTIVE
    np.testing.assert_allclose(arm.core.joint_state().position, embodiment.home, atol=1e-3)  # type: ignore[union-attr]


def test_activation_does_not_move_the_arm(arm: Arm, embodiment: Embodiment) -> None:
    arm.activate()
    assert np.abs(arm.plant.log().position - embodiment.home).max() < 1e-3


def test_tracking_error_is_small(arm: Arm) -> None:
    arm.activate()
    arm.core.post(arm.chunk(np.array([0.4, 0.1, -0.2, 0.2, 0.3, 0.3, 0.4])))
    worst = np.zeros(7)
    for _ in range(80):
        arm.run(0.01)
        worst = np.maximum(worst, np.abs(arm.core.status().tracking_error_rad))
    # Friction of 0.2 Nm over the stiffness is what remains.
    stiffness = arm.embodiment.limits("stiffness")
    assert (worst < 0.2 / stiffness + 1e-3).all(), worst
    assert arm.core.status().state is ControlState.HOLD
    assert arm.core.joint_state().openings[0] == pytest.approx(0.04, abs=2e-3)  # type: ignore[union-attr]


def test_expired_chunk_ends_in_hold_at_rest(arm: Arm) -> None:
    arm.activate()
    chunk = arm.chunk(0.25)
    arm.core.post(chunk)
    arm.run(0.81)
    log = arm.plant.log(810)
    assert np.abs(log.velocity).max() > 0.3
    after = log.velocity[log.time_s * 1e9 > chunk.expiry_ns + 20 * MS - MS]
    assert np.abs(after).max(initial=0.0) < 0.02
    status = arm.core.status()
    assert status.state is ControlState.HOLD
    assert f"chunk {chunk.sequence}" in status.cause and "expired" in status.cause
    assert status.active_sequence == 0


def test_early_expiry_is_kept(arm: Arm) -> None:
    """The chunk would go on for longer than it may be followed."""
    arm.activate()
    chunk = arm.chunk(0.3)
    chunk = arm.chunk(0.3, expiry_ns=chunk.start_ns + 500 * MS)
    arm.core.post(chunk)
    arm.run(0.7)
    log = arm.plant.log(700)
    late = log.time_s * 1e9 > chunk.expiry_ns + 20 * MS
    assert np.abs(log.velocity[~late]).max() > 0.2
    assert np.abs(log.velocity[late]).max() < 0.03


def test_seams_between_contradicting_chunks_are_smooth(arm: Arm) -> None:
    """20 to 70 mrad between what chunks want, five times a second: no step above 1 mrad, no kick at the arm."""
    rng = np.random.default_rng(1)
    arm.activate()
    last, last_speed = arm.core.status().reference, np.zeros(7)
    for seam in range(15):
        offset = rng.uniform(0.02, 0.07, 7) * rng.choice([-1, 1], 7)
        chunk = arm.chunk(0.1 * (-1) ** seam)
        arm.core.post(ActionChunk(**{**chunk.__dict__, "values": chunk.values + offset}))
        for _ in range(200):
            arm.plant.run(1)
            reference = arm.core.status().reference
            speed = (reference - last) / 1e-3
            assert np.abs(reference - last - last_speed * 1e-3).max() < 1e-3
            assert np.abs(speed - last_speed).max() < 0.02  # 20 rad/s2
            last, last_speed = reference, speed
    log = arm.plant.log(3000)
    assert np.abs(np.diff(log.torque, axis=0)).max() <= 1.0 + 1e-9  # Nm per ms
    assert (log.gate == Gate.DRIVEN).all()
    assert arm.core.status().chunks_accepted == 15


def _with(values: np.ndarray, row: int, column: int, value: float) -> np.ndarray:
    changed = values.copy()
    changed[row, column] = value
    return changed


REFUSALS: dict[str, tuple[Callable[[ActionChunk], dict[str, object]], str]] = {
    "nan": (lambda c: {"values": _with(c.values, 3, 2, np.nan)}, "fr3_joint3 is not finite"),
    "infinite gripper": (lambda c: {"openings": np.full((16, 1), np.inf)}, "gripper"),
    "too wide": (lambda c: {"openings": np.full((16, 1), 0.2)}, "gripper's opening"),
    "jump": (lambda c: {"values": c.values + 0.36}, "from where fr3_joint1 is"),
    "position": (lambda c: {"values": _with(c.values, 5, 1, 2.0)}, "fr3_joint2 reaches"),
    "degrees": (lambda c: {"values": np.degrees(c.values)}, "is allowed"),
    "spike": (lambda c: {"values": _with(c.values, 5, 4, 0.1)}, "fr3_joint5 accelerates"),
    "stale": (lambda c: {"start_ns": c.start_ns - 5_000 * MS}, "last step was"),
    "expired": (lambda c: {"expiry_ns": c.start_ns - MS}, "expired"),
    "too early": (
        lambda c: {"start_ns": c.start_ns + 1_000 * MS, "expiry_ns": c.expiry_ns + 1_000 * MS},
        "future",
    ),
    "repeated": (lambda c: {"sequence": 1}, "does not come after"),
    "no step": (lambda c: {"values": np.empty((0, 7)), "openings": np.empty((0, 1))}, "shape"),
    "ragged": (lambda c: {"openings": np.full((15, 1), 0.04)}, "shape"),
    "too few joints": (lambda c: {"values": c.values[:, :6]}, "shape"),
    "pose": (lambda c: {"mode": ChunkMode.TCP_POSE}, "quaternion"),
    "joint order": (lambda c: {"joint_names": c.joint_names[::-1]}, "joint names"),
    "no dt": (lambda c: {"dt_ns": 0}, "dt"),
    "without a lease": (lambda c: {"lease": 0}, "lease is 0"),
    "of another policy": (lambda c: {"lease": 2}, "follows the policy with lease 0000000000000001"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_bad_chunks_are_refused_with_the_reason(arm: Arm, name: str) -> None:
    change, reason = REFUSALS[name]
    arm.activate()
    good = arm.chunk(0.2)
    arm.core.post(good)
    arm.run(0.1)
    accepted = arm.core.status().chunks_accepted
    chunk = arm.chunk(0.1)
    with pytest.raises(ChunkRejected, match=reason):
        arm.core.post(ActionChunk(**{**chunk.__dict__, **change(chunk)}))
    # The running one goes on undisturbed.
    arm.run(0.05)
    status = arm.core.status()
    assert status.state is ControlState.TRACK
    assert status.active_sequence == good.sequence
    assert status.chunks_accepted == accepted


def test_chunk_outside_the_geofence_is_refused(arm: Arm) -> None:
    arm.activate()
    with pytest.raises(ChunkRejected, match="geofence"):
        arm.core.post(arm.chunk(np.array([0, 1.5, 0, 0, 0, 0, 0]), steps=60))


def test_fault_is_latched_until_reset(arm: Arm) -> None:
    arm.activate()
    arm.core.post(arm.chunk(0.2))
    arm.run(0.3)
    arm.data.qvel[3] = 3.5  # a blow
    arm.run(0.5)
    status = arm.core.status()
    assert status.state is ControlState.FAULT
    assert "fr3_joint4" in status.cause and "cycle" in status.cause
    assert np.abs(arm.plant.log(1).velocity).max() < 0.05  # the blow has been absorbed
    with pytest.raises(ChunkRejected, match="reset"):
        arm.core.post(arm.chunk(0.1))
    arm.core.activate()
    arm.core.resume()
    arm.run(0.1)
    assert arm.core.status().state is ControlState.FAULT
    before = arm.core.joint_state().position  # type: ignore[union-attr]
    arm.core.reset()
    arm.run(1.0)
    assert arm.core.status().state is ControlState.HOLD
    assert np.abs(arm.plant.log(1000).position - before).max() < 2e-3  # no restart motion
    arm.core.post(arm.chunk(0.1))
    arm.run(0.1)
    assert arm.core.status().state is ControlState.TRACK


def test_blocked_arm_faults_instead_of_pushing_on(arm: Arm) -> None:
    arm.activate()
    lock = arm.model.dof_damping.copy()
    arm.core.post(arm.chunk(np.array([0.9, 0, 0, 0, 0, 0, 0]), steps=40))
    for _ in range(1500):
        arm.model.dof_damping[0] = 1e5
        arm.data.qvel[0] = 0.0
        arm.plant.run(1)
    arm.model.dof_damping[:] = lock
    status = arm.core.status()
    assert status.state is ControlState.FAULT
    assert "contact" in status.cause


def test_emergency_stop_ends_on_the_brakes(arm: Arm) -> None:
    arm.activate()
    arm.core.post(arm.chunk(0.25))
    arm.run(0.4)
    arm.core.estop()
    arm.run(0.6)
    assert arm.core.status().state is ControlState.ESTOP
    assert arm.plant.gate is Gate.BRAKED
    assert np.abs(arm.plant.log(100).velocity).max() < 1e-2
    arm.core.reset()
    arm.run(0.1)
    assert arm.core.status().state is ControlState.HOLD
    assert arm.plant.gate is Gate.DRIVEN


def test_stop_refuses_chunks_until_resume(arm: Arm) -> None:
    arm.activate()
    arm.core.post(arm.chunk(0.25))
    arm.run(0.4)
    arm.core.stop_motion()
    arm.run(0.6)
    assert arm.core.status().state is ControlState.HOLD
    assert "stop requested" in arm.core.status().cause
    with pytest.raises(ChunkRejected, match="resume"):
        arm.core.post(arm.chunk(0.1))
    arm.core.resume()
    arm.run(0.01)
    arm.core.post(arm.chunk(0.1))


def test_rearranged_cell_does_not_alarm_the_core(arm: Arm, embodiment: Embodiment) -> None:
    arm.activate()
    arm.core.post(arm.chunk(0.2))
    arm.run(0.4)
    arm.data.qpos[:7] = embodiment.home + 0.5
    arm.data.qvel[:] = 0
    arm.plant.reset()
    arm.run(0.5)
    status = arm.core.status()
    assert status.state is ControlState.HOLD and "repositioned" in status.cause
    assert np.abs(arm.plant.log(500).position - embodiment.home - 0.5).max() < 2e-3


def test_external_force_is_estimated(arm: Arm) -> None:
    arm.activate()
    push = np.array([8.0, -5.0, -10.0])
    body = arm.model.site(arm.embodiment.tool_frame).bodyid[0]
    site = arm.data.site(arm.embodiment.tool_frame).xpos
    arm.data.xfrc_applied[body, :3] = push
    arm.data.xfrc_applied[body, 3:] = np.cross(site - arm.data.xipos[body], push)
    arm.run(1.0)
    # Dry friction of 0.2 Nm in seven joints hides up to about 2 N.
    np.testing.assert_allclose(arm.core.status().tool.external_wrench[:3], push, atol=2.0)


def test_same_inputs_give_the_same_motion(embodiment: Embodiment) -> None:
    ends = []
    for _ in range(2):
        arm = Arm(embodiment)
        arm.activate()
        arm.core.post(arm.chunk(0.2))
        arm.run(0.7)
        ends.append(arm.plant.log().position)
        arm.close()
    np.testing.assert_array_equal(*ends)


COUNT_ALLOCATIONS = """
import ctypes
import mujoco
from physai_base.embodiment import Embodiment
from physai_control.core import ControlCore
from physai_sim.plant import Plant

embodiment = Embodiment.load("fr3")
model = mujoco.MjModel.from_xml_path(str(embodiment.model_path))
data = mujoco.MjData(model)
data.qpos[: len(embodiment.home)] = embodiment.home
core = ControlCore(embodiment)
plant = Plant(model, data, embodiment, core=core)
plant.run(10)
core.activate()
count = ctypes.CDLL(None).physai_malloc_count
count.restype = ctypes.c_long
figures = []
for steps in (100, 100, 10_000):
    before = count()
    plant.run(steps)
    figures.append(count() - before)
before = count()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free(ctypes.c_void_p(libc.malloc(10)))
assert count() >= before + 2, "the trap does not work"
print(figures[2] - figures[1])
core.close()
"""


def test_no_cycle_allocates(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    assert compiler, "physai is built with a C compiler; where is it now?"
    source = ROOT / "physai_control" / "core"
    trap = tmp_path / "trap.so"
    subprocess.run(
        [
            compiler,
            "-shared",
            "-fPIC",
            "-I",
            source / "include",
            source / "test" / "malloc_trap.c",
            "-o",
            trap,
        ],
        check=True,
    )
    environment = {**os.environ, "LD_PRELOAD": str(trap)}
    command = [sys.executable, "-c", COUNT_ALLOCATIONS]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "0", result.stderr
