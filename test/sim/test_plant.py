"""The plant's gate against a controller in another process that dies or hangs; judged by the plant's own log."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest
from bare_arm import Arm

from physai_base.embodiment import Embodiment
from physai_base.task import Task
from physai_base.values import ControlState
from physai_control.core import ControlCore, ControlError
from physai_lab.faults.processes import PlantProcess
from physai_sim.plant import Gate, Plant, PlantError
from physai_sim.scene import Scene


@pytest.fixture
def cell(embodiment: Embodiment) -> Iterator[PlantProcess]:
    name = f"physai_test_{os.getpid()}"
    cell = PlantProcess(embodiment, name)
    yield cell
    cell.close()
    assert not Path(f"/dev/shm/{name}").exists()


def _check_stop(cell: PlantProcess, since: int, gate_ms: int, rest_ms: int) -> None:
    """From the first missed command on, simulated time until the gate acts and until the arm rests."""
    log = cell.plant.log()
    late = log.time_s > log.time_s[-1] - since / 1000
    first = np.flatnonzero(late & (log.gate != Gate.DRIVEN))[0]
    latched = np.flatnonzero(log.gate[first:] >= Gate.DAMPING)[0]
    assert latched <= gate_ms
    speed = np.abs(log.velocity[first:]).max(axis=1)
    assert speed[0] > 0.1
    assert speed.max() < speed[0] + 0.1
    assert speed[rest_ms:].max() < 0.01
    drift = np.abs(log.position[first + rest_ms :] - log.position[first + rest_ms]).max()
    assert drift < 2e-3


def test_killed_controller_is_stopped_by_the_gate(cell: PlantProcess) -> None:
    cell.move()
    cell.controller.send_signal(signal.SIGKILL)
    cell.plant.run(300)  # the process stays a zombie: nobody has waited for it
    _check_stop(cell, 300, gate_ms=1, rest_ms=20)  # death is noticed at the first missing command
    log = cell.plant.log(300)
    assert np.abs(log.velocity[-1]).max() < 1e-3
    assert cell.plant.gate is Gate.LATCHED
    # A new controller finds the gate latched and cannot move the arm.
    cell.controller.communicate()
    before = cell.plant.log(1).position[0]
    cell.start()
    cell.run_until_said("fault: the robot's own gate")
    assert cell.plant.gate is Gate.LATCHED
    assert np.abs(cell.plant.log().position[-1] - before).max() < 1e-3
    # It takes a reset of the gate and one of the controller.
    cell.plant.reset()
    cell.order()
    cell.run_until_said("holding again")
    cell.plant.run(500)
    assert cell.plant.gate is Gate.DRIVEN
    assert np.abs(cell.plant.log(500).position - before).max() < 5e-3


def test_hanging_controller_is_stopped_by_the_gate_and_does_not_resume(cell: PlantProcess) -> None:
    cell.move()
    started = time.monotonic()
    cell.controller.send_signal(signal.SIGSTOP)
    cell.plant.run(100)
    assert time.monotonic() - started > 0.2  # a living process is given the benefit of the doubt first
    _check_stop(cell, 100, gate_ms=20, rest_ms=35)
    before = cell.plant.log(1).position[0]
    cell.controller.send_signal(signal.SIGCONT)
    cell.run_until_said("fault: the robot's own gate")
    cell.plant.run(500)
    assert cell.plant.gate is Gate.LATCHED
    assert np.abs(cell.plant.log(500).position - before).max() < 1e-3


def test_slow_controller_makes_time_slow_not_faulty(cell: PlantProcess) -> None:
    cell.move()
    for _ in range(3):
        cell.controller.send_signal(signal.SIGSTOP)
        resume = subprocess.Popen(["sh", "-c", f"sleep 0.05; kill -CONT {cell.controller.pid}"])
        cell.plant.run(20)
        resume.wait()
    log = cell.plant.log(60)
    assert (log.gate == Gate.DRIVEN).all()
    assert (log.missed == 0).all()


def test_controller_that_leaves_puts_the_brakes_on_without_a_fault(
    cell: PlantProcess, embodiment: Embodiment
) -> None:
    core = ControlCore(_with_name(embodiment, cell.name))
    core.start()
    with pytest.raises(ControlError, match="running"):
        core.start()
    second = ControlCore(_with_name(embodiment, cell.name))
    with pytest.raises(ControlError, match="another controller"):
        second.start()
    second.close()
    cell.plant.run(5)
    core.activate()
    cell.plant.run(300)
    assert cell.plant.gate is Gate.DRIVEN
    core.close()
    cell.plant.run(300)
    assert cell.plant.gate is Gate.BRAKED
    assert np.abs(cell.plant.log(300).position - embodiment.home).max() < 2e-3


def _with_name(embodiment: Embodiment, name: str) -> Embodiment:
    from dataclasses import replace

    return replace(embodiment, hardware=replace(embodiment.hardware, options={"name": name}))


def test_missing_plant_is_named(embodiment: Embodiment) -> None:
    core = ControlCore(_with_name(embodiment, "physai_nowhere"))
    with pytest.raises(ControlError, match=r"physai_nowhere.*start the simulator first"):
        core.start()
    core.close()


def test_second_plant_of_the_same_name_is_refused(cell: PlantProcess, embodiment: Embodiment) -> None:
    with pytest.raises(PlantError, match="another running plant"):
        Plant(cell.model, cell.data, embodiment, shm_name=cell.name)


def test_segment_of_a_killed_plant_is_replaced(embodiment: Embodiment) -> None:
    name = f"physai_stale_{os.getpid()}"
    left = Path(f"/dev/shm/{name}")
    left.write_bytes(b"whatever a killed plant left")
    cell = PlantProcess(embodiment, name)
    cell.plant.run(5)
    cell.close()
    assert not left.exists()


def test_real_time_factor(embodiment: Embodiment) -> None:
    model = mujoco.MjModel.from_xml_path(str(embodiment.model_path))
    data = mujoco.MjData(model)
    plant = Plant(model, data, embodiment, real_time_factor=2.0)
    plant.run(10)
    start = time.monotonic()
    plant.run(400)
    assert time.monotonic() - start > 0.15
    plant.close()


def test_closed_brakes_hold_and_slip_beyond_what_they_can(embodiment: Embodiment) -> None:
    model = mujoco.MjModel.from_xml_path(str(embodiment.model_path))
    data = mujoco.MjData(model)
    data.qpos[: len(embodiment.home)] = embodiment.home
    friction = model.dof_frictionloss.copy()
    body = model.site(embodiment.tool_frame).bodyid[0]
    with closing(Plant(model, data, embodiment)) as plant:
        assert plant.gate is Gate.BRAKED
        start = data.qpos[:7].copy()
        data.xfrc_applied[body, :3] = [0, 0, -80]
        plant.run(2000)
        assert np.abs(data.qpos[:7] - start).max() < 1e-3
        data.xfrc_applied[body, :3] = [0, 0, -1500]  # more than three times what the joints' drives can
        plant.run(100)
        assert np.abs(data.qpos[:7] - start).max() > 0.05
    np.testing.assert_array_equal(model.dof_frictionloss, friction)


def test_a_robot_that_takes_positions_has_servos_of_its_own_and_measures_nothing_else(
    embodiment: Embodiment,
) -> None:
    """At 50 Hz, a second of it: the arm goes where it is told, no faster than its servos; torques it neither takes nor has."""
    hardware = replace(embodiment.hardware, command="position")
    slow = replace(embodiment.control, rate_hz=50.0, state_timeout_s=0.2)
    joints = tuple(replace(joint, contact_torque=0.0) for joint in embodiment.joints)
    with closing(Arm(replace(embodiment, hardware=hardware, control=slow, joints=joints))) as arm:
        arm.activate()
        arm.core.post(arm.chunk(0.3, steps=21))
        arm.run(0.5)
        state, status = arm.core.joint_state(), arm.core.status()
        assert status.state is ControlState.TRACK, status.cause
        true = arm.plant.log(1).velocity[0]
        np.testing.assert_allclose(state.velocity, true, atol=0.1)  # of positions, filtered, a cycle old
        assert not np.array_equal(state.velocity, true)
        assert not state.effort.any() and not status.tool.external_wrench.any()
        arm.run(1.0)
        status = arm.core.status()
        assert status.state is ControlState.HOLD, status.cause
        np.testing.assert_allclose(arm.plant.log(1).position[0], embodiment.home + 0.3, atol=5e-3)
        arm.data.qpos[0] -= 0.3  # held back, and let go
        arm.plant.run(60)
        fastest = np.abs(arm.plant.log(60).velocity[:, 0]).max()
        assert 0.5 < fastest < 1.05 * embodiment.joints[0].velocity


def test_the_table_is_changed_under_an_arm_that_goes_on(embodiment: Embodiment) -> None:
    cups, push = (Scene.build(embodiment, Task.load(name)) for name in ("cups", "push"))
    damping = {scene.task.name: scene.model.dof_damping.copy() for scene in (cups, push)}
    core = ControlCore(embodiment)
    with closing(core), closing(Plant(cups.model, cups.data, embodiment, core=core)) as plant:
        plant.run(1)
        core.activate()
        plant.run(300)
        for new, old in ((push, cups), (cups, push)):
            before, cycles = plant.log(1), core.status().cycles
            new.take_over(old)
            plant.move(new.model, new.data)
            plant.run(300)
            log, status = plant.log(300), core.status()
            assert np.allclose(log.position[0], before.position[-1], atol=1e-4)
            assert np.allclose(np.diff(np.append(before.time_s[-1], log.time_s)), 0.001)
            assert (log.gate == Gate.DRIVEN).all() and np.abs(log.velocity).max() < 0.01
            assert status.cycles - cycles == 300 and status.missed_states == 0
            assert status.state is ControlState.HOLD
            assert not np.allclose(old.data.time, new.data.time)  # one of them stands
    assert (cups.model.dof_damping == damping["cups"]).all()
    assert (push.model.dof_damping == damping["push"]).all()
