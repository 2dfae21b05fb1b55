"""Cups that do not wait: how they move, in the cell, with the arm at home."""

from __future__ import annotations

from collections.abc import Iterator

import mujoco
import numpy as np
import pytest

from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.task import Task
from physai_lab.evaluation.cell import Cell
from physai_sim.disturbance import PUSH_M, TELEPORT_M, Disturbance, Teleport
from physai_sim.scene import Scene

TARGET = "red_cup"
SPEEDS_M_S = (0.05, 0.09)


@pytest.fixture(scope="module")
def shared_cell() -> Iterator[Cell]:
    cell = Cell(Embodiment.load("fr3"), Task.load("cups"), sight="truth")
    yield cell
    cell.close()


@pytest.fixture
def cell(shared_cell: Cell) -> Cell:
    shared_cell.randomize(3, ("poses", "masses", "friction"))
    return shared_cell


def put_under_the_hand(cell: Cell, off_m: float = 0.0) -> None:
    """The target on the table, that far from below the tool; the other cups go out of the way."""
    tool = cell.scene.data.site(cell.embodiment.tool_frame).xpos
    for i, label in enumerate(cell.task.objects):
        place = tool[:2] + [off_m, 0.0] if label == TARGET else tool[:2] + [-0.05, -0.2 - 0.12 * i]
        cell.scene.data.joint(label).qpos[:] = [*place, 0.001, 1.0, 0.0, 0.0, 0.0]
        cell.scene.data.joint(label).qvel[:] = 0.0
    mujoco.mj_forward(cell.scene.model, cell.scene.data)


def path_of(cell: Cell, disturbance: Disturbance | Teleport, seconds: float) -> np.ndarray:
    """(N, 3) where the target is, every 10 ms."""
    path = []
    for _ in range(round(seconds / 0.01)):
        disturbance.apply()
        cell.plant.run(10)
        path.append(cell.scene.position(TARGET))
    return np.array(path)


@pytest.mark.parametrize("seed", range(4))
def test_a_moving_cup_goes_evenly_and_stays_where_cups_belong(cell: Cell, seed: int) -> None:
    cell.randomize(seed, ("poses", "masses", "friction"))
    path = path_of(cell, Disturbance(cell.scene, TARGET, "moving", seed, SPEEDS_M_S), 6.0)[50:]
    speeds = np.linalg.norm(np.diff(path[:, :2], axis=0), axis=1) / 0.01
    usual = np.median(speeds)
    assert SPEEDS_M_S[0] * 0.9 < usual < SPEEDS_M_S[1] * 1.1
    # But for the moments in which it turns round. Dragged with all its weight it stuttered: less than half was even.
    assert np.mean(np.abs(speeds - usual) < 0.3 * usual) > 0.8
    assert speeds.max() < 2 * SPEEDS_M_S[1]
    cups = cell.task.cups
    assert np.all(path[:, :2] > np.array([cups.region.x[0], cups.region.y[0]]) - 0.02)
    assert np.all(path[:, :2] < np.array([cups.region.x[1], cups.region.y[1]]) + 0.02)
    assert np.all(np.abs(path[:, 2]) < 0.005)
    assert cell.scene.upright(TARGET) > 0.99


def test_a_cup_is_pushed_when_the_hand_is_near_and_stands_again(cell: Cell) -> None:
    put_under_the_hand(cell)
    start = cell.scene.position(TARGET)
    path = path_of(cell, Disturbance(cell.scene, TARGET, "pushed", 1), 1.2)
    moved = np.linalg.norm(path[-1, :2] - start[:2])
    assert 0.8 * PUSH_M[0] < moved < 1.3 * PUSH_M[1]
    assert np.linalg.norm(path[-1] - path[-20]) < 0.001
    assert cell.scene.upright(TARGET) > 0.99


def test_a_cup_far_from_the_hand_is_not_pushed(cell: Cell) -> None:
    put_under_the_hand(cell, off_m=0.2)
    start = cell.scene.position(TARGET)
    path = path_of(cell, Disturbance(cell.scene, TARGET, "pushed", 1), 1.0)
    assert np.linalg.norm(path[-1, :2] - start[:2]) < 0.002


def test_a_cup_that_lies_is_left_alone(cell: Cell) -> None:
    half = np.sqrt(0.5)
    joint = cell.scene.data.joint(TARGET)
    joint.qpos[3:], joint.qpos[2] = [half, half, 0.0, 0.0], 0.04
    mujoco.mj_forward(cell.scene.model, cell.scene.data)
    Disturbance(cell.scene, TARGET, "moving", 0, SPEEDS_M_S).apply()
    assert not cell.scene.data.xfrc_applied[cell.scene.model.body(TARGET).id].any()


@pytest.mark.parametrize("kind", ["near", "tipped", "away"])
def test_a_teleported_cup_is_elsewhere_twice(cell: Cell, kind: str) -> None:
    teleport = Teleport(cell.scene, TARGET, kind, 5)
    path = path_of(cell, teleport, 3.0)
    assert np.diff(teleport.moved_s) == pytest.approx([1.0], abs=0.011)
    jumps = np.linalg.norm(np.diff(path[:, :2], axis=0), axis=1)
    assert np.sum(jumps > 0.005) == 2
    if kind != "away":
        assert jumps.max() <= TELEPORT_M[kind] + 0.01
    assert (cell.scene.upright(TARGET) < 0.5) == (kind == "tipped")


def test_what_the_hand_has_touched_is_no_longer_driven(cell: Cell) -> None:
    put_under_the_hand(cell)
    disturbance, target = Disturbance(cell.scene, TARGET, "moving", 0), cell.scene.model.body(TARGET).id
    disturbance.apply()
    assert cell.scene.data.xfrc_applied[target].any()
    cup, stood = cell.scene.data.joint(TARGET), cell.scene.data.joint(TARGET).qpos.copy()
    # A finger in its wall: the grip is open, so that nobody holds it.
    finger = cell.scene.data.body(cell.scene.model.joint(cell.embodiment.finger_joints[0]).bodyid[0]).xpos
    tool = cell.scene.data.site(cell.embodiment.tool_frame).xpos
    cup.qpos[:3] = [*(tool + 1.5 * (finger - tool))[:2], tool[2] - 0.05]
    mujoco.mj_forward(cell.scene.model, cell.scene.data)
    disturbance.apply()
    assert not cell.scene.data.xfrc_applied[target].any()
    cup.qpos[:] = stood
    mujoco.mj_forward(cell.scene.model, cell.scene.data)
    disturbance.apply()
    assert not cell.scene.data.xfrc_applied[target].any()


def test_unknown_kinds_are_refused(cell: Cell) -> None:
    with pytest.raises(PhysaiError, match="'wild' is not among none, moving, pushed"):
        Disturbance(cell.scene, TARGET, "wild", 0)
    with pytest.raises(PhysaiError, match="'wild' is not among near, tipped, away"):
        Teleport(cell.scene, TARGET, "wild", 0)


def test_thin_things_are_driven_along_and_do_not_spin(embodiment: Embodiment) -> None:
    """What damps rocking goes by the inertia about each axis: a peg's own is a sixtieth of the other two."""
    cell = Scene.build(embodiment, Task.load("insert"))
    for seed in range(3):
        cell.randomize(seed)
        disturbance = Disturbance(cell, "green_peg", "moving", seed)
        for _ in range(300):
            disturbance.apply()
            mujoco.mj_step(cell.model, cell.data, nstep=round(0.01 / cell.model.opt.timestep))
            assert np.abs(cell.data.joint("green_peg").qvel[3:]).max() < 5.0
        assert cell.upright("green_peg") > 0.99
