"""The control core in the cell's physics: two laws, tool poses, changes under motion, reduced mode, guards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from bare_arm import Arm, cartesian, pose_chunk, wall

from physai_base.embodiment import Embodiment, Fence
from physai_base.values import ControlState
from physai_control.core import ChunkRejected, ControlError

SWING = np.array([0.4, 0.1, -0.2, 0.2, 0.3, 0.3, 0.4])


def test_the_cartesian_law_tracks_joint_chunks(arm: Arm) -> None:
    arm.activate()
    cartesian(arm)
    arm.core.post(arm.chunk(SWING))
    worst = np.zeros(6)
    for _ in range(80):
        arm.run(0.01)
        worst = np.maximum(worst, np.abs(arm.core.status().tool.pose_error))
    assert arm.core.status().law == "cartesian"
    assert np.linalg.norm(worst[:3]) < 2e-3 and np.linalg.norm(worst[3:]) < 0.01, worst
    arm.run(1.0)
    error = arm.core.status().tool.pose_error
    assert np.linalg.norm(error[:3]) < 1e-3 and np.degrees(np.linalg.norm(error[3:])) < 0.5, error


def test_the_cartesian_law_follows_tool_poses_without_inverse_kinematics(arm: Arm) -> None:
    arm.activate()
    cartesian(arm)
    chunk = pose_chunk(arm, (-0.1, 0.15, -0.1), 0.6)
    arm.core.post(chunk)  # type: ignore[arg-type]
    worst = 0.0
    for _ in range(110):
        arm.run(0.01)
        worst = max(worst, float(np.linalg.norm(arm.core.status().tool.pose_error[:3])))
    assert worst < 3e-3
    arm.run(1.0)
    status = arm.core.status()
    assert status.state is ControlState.HOLD
    goal = chunk.values[-1]  # type: ignore[attr-defined]
    assert np.linalg.norm(status.tool.pose[:3] - goal[:3]) < 1e-3
    assert abs(status.tool.pose[3:] @ goal[3:]) > np.cos(np.radians(0.5) / 2)


def test_the_joint_law_follows_tool_poses_by_inverse_kinematics(arm: Arm) -> None:
    arm.activate()
    chunk = pose_chunk(arm, (-0.1, 0.15, -0.1), 0.6)
    arm.core.post(chunk)  # type: ignore[arg-type]
    arm.run(2.0)
    status = arm.core.status()
    assert status.state is ControlState.HOLD and status.law == "joint"
    goal = chunk.values[-1]  # type: ignore[attr-defined]
    assert np.linalg.norm(status.tool.pose[:3] - goal[:3]) < 2e-3
    assert abs(status.tool.pose[3:] @ goal[3:]) > np.cos(np.radians(1.0) / 2)


POSES: dict[str, tuple[str, Callable[[Arm], object], str]] = {
    "far beyond reach": ("joint", lambda arm: pose_chunk(arm, (0.7, 0, 0.35), steps=60), "cannot reach"),
    "out of the fence": ("cartesian", lambda arm: pose_chunk(arm, (0, 0, -0.45), steps=40), "geofence 0"),
    "too fast": ("cartesian", lambda arm: pose_chunk(arm, (0.14, 0, 0), steps=3), "along x"),
    "turned too fast": ("cartesian", lambda arm: pose_chunk(arm, (0, 0, 0), 1.5, steps=6), "about z"),
    "turned too far": ("cartesian", lambda arm: pose_chunk(arm, (0, 0, 0), 2.9, steps=100), "turns the tool"),
    "a jump": (
        "cartesian",
        lambda arm: pose_chunk(arm, (0, 0, 0), values=np.tile(arm.core.status().tool.pose + [0.2, 0, 0, 0, 0, 0, 0], (20, 1))),
        "from where the tool is",
    ),
    "no unit quaternion": (
        "cartesian",
        lambda arm: pose_chunk(arm, (0, 0, 0), values=np.tile(arm.core.status().tool.pose * [1, 1, 1, 1.5, 1.5, 1.5, 1.5], (20, 1))),
        "length 1.5",
    ),
    "a zero quaternion": (
        "cartesian",
        lambda arm: pose_chunk(arm, (0, 0, 0), values=np.tile(arm.core.status().tool.pose * [1, 1, 1, 0, 0, 0, 0], (20, 1))),
        "length 0",
    ),
    "not a number": (
        "cartesian",
        lambda arm: pose_chunk(arm, (0, 0, 0), values=np.full((20, 7), np.nan)),
        "not finite",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", POSES)
def test_bad_tool_poses_are_refused_with_the_reason(arm: Arm, name: str) -> None:
    law, make, reason = POSES[name]
    arm.activate()
    if law == "cartesian":
        cartesian(arm)
        arm.run(0.1)
    before = arm.core.joint_state().position  # type: ignore[union-attr]
    with pytest.raises(ChunkRejected, match=reason):
        arm.core.post(make(arm))  # type: ignore[arg-type]
    arm.run(0.5)
    assert arm.core.status().state is ControlState.HOLD
    assert np.abs(arm.core.joint_state().position - before).max() < 2e-3  # type: ignore[union-attr]


def torque_steps(arm: Arm, milliseconds: int) -> float:
    """The largest change of a torque from one step of the plant to the next, Nm."""
    return float(np.abs(np.diff(arm.plant.log(milliseconds).torque, axis=0)).max())


def test_laws_gains_and_spaces_change_under_motion_without_a_step(arm: Arm) -> None:
    arm.activate()
    base = arm.embodiment.impedance
    stiff = tuple(2 * k for k in base.stiffness)
    changes = (
        replace(base, law="cartesian"),
        replace(base, law="cartesian", cartesian_stiffness=(2000.0,) * 3 + (100.0,) * 3),
        base,
        replace(base, stiffness=stiff),
        replace(base, law="cartesian", reduced=True),
        base,
        replace(base, law="cartesian", friction_compensation=0.0, target_wrench=(5.0, 0, 0, 0, 0, 0)),
        base,
    )
    for round_trip in range(2):
        sign = 1 - 2 * (round_trip % 2)
        arm.core.post(arm.chunk(sign * SWING, 40))
        for change in changes:
            arm.run(0.15)
            arm.core.configure(change)
            arm.run(0.05)
        assert np.abs(arm.plant.log(1600).velocity).max() > 0.3
        assert torque_steps(arm, 1600) <= 0.5 + 1e-9
        arm.run(1.0)
    cartesian(arm)
    arm.run(0.5)
    for _ in range(3):  # from joints to poses and back while it moves
        arm.core.post(pose_chunk(arm, (0.05, 0.05, 0.0)))  # type: ignore[arg-type]
        arm.run(0.4)
        arm.core.post(arm.chunk(0.1 * SWING))
        arm.run(0.4)
    assert torque_steps(arm, 2400) <= 0.5 + 1e-9
    assert arm.core.status().state in (ControlState.TRACK, ControlState.STOPPING, ControlState.HOLD)


def test_a_change_under_motion_does_not_jerk_the_tool(arm: Arm) -> None:
    """The clamp would keep the torque steps small; here the arm itself must not notice the change."""
    speeds = []
    for switched in (False, True):
        fresh = Arm(arm.embodiment)
        fresh.activate()
        fresh.core.post(fresh.chunk(0.5 * SWING, 40))
        fresh.run(0.8)
        if switched:
            fresh.core.configure(replace(arm.embodiment.impedance, law="cartesian"))
        fresh.run(0.4)
        speeds.append(fresh.plant.log(400).velocity)
        fresh.close()
    assert np.abs(speeds[1] - speeds[0]).max() < 0.02


def test_the_joint_law_stops_the_arm_when_it_takes_over_from_a_pose(arm: Arm) -> None:
    arm.activate()
    cartesian(arm)
    arm.core.post(pose_chunk(arm, (0.1, 0.1, 0.0)))  # type: ignore[arg-type]
    arm.run(0.5)
    arm.core.configure(arm.embodiment.impedance)
    arm.run(0.8)
    status = arm.core.status()
    assert status.state is ControlState.HOLD and "cannot follow a tool pose" in status.cause
    assert torque_steps(arm, 800) <= 0.5 + 1e-9
    arm.core.post(arm.chunk(0.1))
    arm.run(0.3)
    assert arm.core.status().state is ControlState.TRACK


@pytest.mark.parametrize("space", ["joints", "pose"])
def test_reduced_mode_bounds_the_speed_and_catches_up(arm: Arm, space: str) -> None:
    arm.activate()
    reduced = replace(
        arm.embodiment.impedance, law="joint" if space == "joints" else "cartesian", reduced=True
    )
    arm.core.configure(reduced)
    arm.run(0.5)
    by = (0.25, 0.25, 0.0)
    if space == "joints":
        arm.core.post(arm.chunk(np.array([1.0, 0, 0, 0, 0, 0, 0]), 40))
    else:
        arm.core.post(pose_chunk(arm, by, steps=20))  # type: ignore[arg-type]
    last, fastest = arm.core.status().tool.pose, 0.0
    for _ in range(600):
        arm.run(0.005)
        here = arm.core.status().tool.pose
        fastest = max(fastest, float(np.linalg.norm(here[:3] - last[:3]) / 0.005))
        last = here
    assert 0.2 < fastest < 0.25 * 1.05
    assert arm.core.status().state is ControlState.HOLD
    arm.core.configure(replace(reduced, reduced=False))
    arm.run(1.0)
    assert torque_steps(arm, 1000) <= 0.5 + 1e-9


def test_contact_force_is_bounded_by_stiffness_times_clip(arm: Arm) -> None:
    arm.activate()
    clip = 0.04
    cartesian(arm, cartesian_clip=(clip, 0.4))
    arm.run(0.5)
    x = float(arm.core.status().tool.pose[0]) + 0.05
    # 0.15 m at 0.1 m/s, and the wall after a third of it.
    times = np.arange(31) * 0.05
    steps = len(times)
    values = np.tile(arm.core.status().tool.pose, (steps, 1))
    values[:, 0] += np.where(times < 0.2, 0.1 * times**2 / 0.4, 0.1 * (times - 0.1))
    arm.core.post(pose_chunk(arm, (0, 0, 0), steps=steps, values=values))  # type: ignore[arg-type]
    forces = []
    for _ in range(2500):
        wall(arm, x)
        forces.append(-arm.data.xfrc_applied[arm.model.site(arm.embodiment.tool_frame).bodyid[0], 0])
        arm.plant.run(1)
    bound = arm.embodiment.impedance.cartesian_stiffness[0] * clip
    assert arm.core.status().state is ControlState.HOLD, arm.core.status().cause
    assert bound * 0.8 < forces[-1] <= bound
    assert max(forces) <= 1.15 * bound


def test_a_hard_contact_latches(arm: Arm, embodiment: Embodiment) -> None:
    arm.activate()
    cartesian(arm, cartesian_stiffness=(3000.0,) * 3 + (100.0,) * 3)
    arm.run(0.5)
    x = float(arm.core.status().tool.pose[0]) + 0.05
    arm.core.post(pose_chunk(arm, (0.14, 0, 0), steps=16))  # type: ignore[arg-type]
    for _ in range(1000):
        wall(arm, x, 3e4)
        arm.plant.run(1)
    assert arm.core.status().state is ControlState.FAULT
    assert "contact" in arm.core.status().cause


def test_the_energy_tank_bounds_what_the_arm_is_given(embodiment: Embodiment) -> None:
    given = {}
    for energy in (0.0, 0.2):
        arm = Arm(replace(embodiment, impedance=replace(embodiment.impedance, tank_energy=energy)))
        arm.activate()
        arm.core.post(arm.chunk(SWING))
        net = [0.0]
        for _ in range(800):
            bias = arm.data.qfrc_bias[:7].copy()
            arm.plant.run(1)
            log = arm.plant.log(1)
            net.append(net[-1] + float((log.torque[0] - bias) @ log.velocity[0]) * 1e-3)
        given[energy] = max(net)
        assert arm.core.status().state in (ControlState.TRACK, ControlState.STOPPING, ControlState.HOLD)
        arm.close()
    assert given[0.0] > 0.3
    assert given[0.2] < 0.2 * 1.05


def test_the_elbow_has_its_own_fence(embodiment: Embodiment) -> None:
    behind = Fence(
        "plane", ("elbow",), normal=np.array([-1.0, 0.0, 0.0]), offset=0.0
    )  # the elbow stays behind x = 0
    arm = Arm(replace(embodiment, fences=(*embodiment.fences, behind)))
    arm.activate()
    with pytest.raises(ChunkRejected, match="elbow"):
        arm.core.post(arm.chunk(np.array([0, 0.55, 0, -0.3, 0, 0.3, 0]), 40))
    arm.close()


def test_wrong_settings_change_nothing(arm: Arm) -> None:
    arm.activate()
    base = arm.embodiment.impedance
    for wrong, reason in (
        (replace(base, stiffness=(float("nan"),) * 7), "fr3_joint1"),
        (replace(base, cartesian_stiffness=(-1.0,) * 6), "Cartesian stiffness"),
        (replace(base, stiffness=(1.0,) * 3), "7 numbers"),
        (replace(base, friction_compensation=2.0), "friction"),
        (replace(base, tank_energy=float("inf")), "tank"),
    ):
        with pytest.raises(ControlError, match=reason):
            arm.core.configure(wrong)
        assert arm.core.impedance == base
    arm.run(0.1)
    assert arm.core.status().state is ControlState.HOLD


def test_a_stop_keeps_the_cycles_around_it(arm: Arm) -> None:
    arm.activate()
    assert arm.core.stop_records() == ()
    arm.core.post(arm.chunk(SWING))
    arm.run(0.4)
    arm.core.estop()
    arm.run(0.05)
    assert arm.core.stop_records() == ()  # not complete yet
    arm.run(0.2)
    records = arm.core.stop_records()
    assert len(records) == 640
    assert [record.cycle for record in records] == list(range(records[0].cycle, records[0].cycle + 640))
    states = [record.state for record in records]
    assert states.index(ControlState.ESTOP) == 640 - 128
    assert arm.core.stop_records() == ()  # read once
    truth = arm.plant.log(1000)
    cycle_torque = np.array([record.command_torque for record in records if record.enabled])
    assert np.isin(np.round(cycle_torque[10:20], 9), np.round(truth.torque, 9)).all()
    arm.core.reset()
    arm.run(0.3)
    arm.core.estop()
    arm.run(0.3)
    again = arm.core.stop_records()
    assert again and again[0].cycle > records[-1].cycle  # the box starts over


def test_a_robot_that_carries_its_own_weight(embodiment: Embodiment) -> None:
    hardware = replace(embodiment.hardware, gravity="robot")
    arm = Arm(replace(embodiment, hardware=hardware))
    arm.activate()
    arm.core.post(arm.chunk(SWING))
    pull = 0.0
    for _ in range(200):
        arm.run(0.01)
        pull = max(pull, float(np.linalg.norm(arm.core.status().tool.external_wrench[:3])))
    status = arm.core.status()
    assert status.state is ControlState.HOLD and "expired" in status.cause
    assert np.abs(status.tracking_error_rad).max() < 3e-3
    # The shoulder's drive carries the weight, which is no pull at the tool.
    assert np.abs(arm.plant.log(1).torque[0, 1]) > 10.0
    assert pull < 10.0
    arm.close()
