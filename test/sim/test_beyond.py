"""Cells beyond the ranges are beyond them, make sense, and are the same for the same seed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest
from fr3_pair import write_pair

from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.task import Region, Task
from physai_sim.beyond import BEYOND, DISTRACTORS, OUTSIDE_M, POSTURE_RAD, outside, parse_beyond
from physai_sim.paint import hue_of
from physai_sim.scene import RANDOMIZABLE, Scene

TASKS = ("cups", "push", "stack", "insert", "wipe", "drawer")
SEEDS = range(4)


def _scene(name: str, *beyond: str) -> Scene:
    return Scene.build(Embodiment.load("fr3"), Task.load(name), beyond)


def _distance(region: Region, spot: np.ndarray) -> float:
    """From a region, along the axis on which it is farther; 0 within."""
    return max(
        max(low - value, value - high, 0.0)
        for (low, high), value in zip((region.x, region.y), spot[:2], strict=True)
    )


@pytest.mark.parametrize("name", TASKS)
def test_things_stand_beside_their_regions_and_not_in_each_other(name: str) -> None:
    scene, task = _scene(name, "outside"), Task.load(name)
    for seed in SEEDS:
        scene.randomize(seed, RANDOMIZABLE)
        away = np.array([_distance(task.region(label), scene.position(label)) for label in task.objects])
        assert (away <= OUTSIDE_M + 0.01).all()  # a tower's blocks are a little aside
        assert (away > 0).sum() >= len(away) - 2 if name == "stack" else (away > 0).all()
        before = {label: scene.position(label) for label in task.objects}
        mujoco.mj_step(scene.model, scene.data, nstep=300)
        assert all(np.linalg.norm(scene.position(label) - before[label]) < 0.003 for label in task.objects)


@pytest.mark.parametrize("name", TASKS)
def test_foreign_things_stand_on_the_table_and_stay_there(name: str) -> None:
    scene = _scene(name, "distractors", "lookalikes")
    foreign = [scene.model.body(k).name for k in range(scene.model.nbody)]
    foreign = [label for label in foreign if label.startswith(("distractor_", "like_"))]
    assert len(foreign) > len(DISTRACTORS)
    for seed in SEEDS:
        scene.randomize(seed, RANDOMIZABLE)
        before = {label: scene.position(label) for label in scene.task.objects}
        spots = {label: scene.data.body(label).xpos.copy() for label in foreign}
        mujoco.mj_step(scene.model, scene.data, nstep=300)
        for label, spot in spots.items():
            assert np.linalg.norm(scene.data.body(label).xpos - spot) < 0.005, label
        for label, spot in before.items():
            assert np.linalg.norm(scene.position(label) - spot) < 0.003, label
        hues = [hue_of(scene.model.geom(label).rgba[:3]) for label in DISTRACTORS]
        of_task = [hue_of(scene.model.geom(label).rgba[:3]) for label in scene.task.objects]
        assert min(abs((a - b + 180) % 360 - 180) for a in hues for b in of_task) > 25


def test_a_drawer_can_be_opened_beside_foreign_things() -> None:
    scene = _scene("drawer", "distractors", "lookalikes")
    for seed in range(30):
        scene.randomize(seed, RANDOMIZABLE)
        scene.data.joint("blue_drawer").qpos[0] = 0.11
        mujoco.mj_forward(scene.model, scene.data)
        drawer = scene.model.body("blue_drawer").id
        touching = scene.model.geom_bodyid[scene.data.contact.geom]
        names = {scene.model.body(b).name for pair in touching if drawer in pair for b in pair}
        assert not any(name.startswith(("distractor_", "like_")) for name in names)


def test_friction_mass_and_light_are_beyond_what_is_drawn_and_go_back() -> None:
    plain, changed = _scene("drawer"), _scene("drawer", "friction", "mass", "light")
    for seed in SEEDS:
        plain.randomize(seed, RANDOMIZABLE)
        changed.randomize(seed, RANDOMIZABLE)
        things = ~changed.of_robot
        things[0] = False  # the world weighs nothing
        assert np.allclose(changed.model.body_mass[things], 3 * plain.nominal["body_mass"][things])
        assert np.allclose(changed.model.body_mass[~things], plain.model.body_mass[~things])
        assert np.allclose(changed.model.geom_friction[:, 0], 3 * plain.nominal["geom_friction"][:, 0])
        slide = changed.model.joint("blue_drawer").dofadr[0]
        assert changed.model.dof_frictionloss[slide] == pytest.approx(3 * plain.model.dof_frictionloss[slide])
        assert np.allclose(changed.model.light_diffuse, 0.3 * plain.nominal["light_diffuse"])
        assert np.allclose(changed.model.vis.headlight.diffuse, 0.3 * plain.model.vis.headlight.diffuse)
        assert np.array_equal(changed.data.qpos, plain.data.qpos)
    changed.reset()
    plain.reset()
    for field in plain.nominal:
        assert np.array_equal(getattr(changed.model, field), getattr(plain.model, field)), field
    assert np.array_equal(changed.model.vis.headlight.ambient, plain.model.vis.headlight.ambient)


def test_slippery_reaches_the_pair_of_sponge_and_table() -> None:
    scene = _scene("wipe", "slippery")
    scene.randomize(0, RANDOMIZABLE)
    assert np.allclose(scene.model.pair_friction[:, :2], scene.nominal["pair_friction"][:, :2] / 3)


@pytest.mark.parametrize("arms", [1, 2])
def test_start_postures_are_off_and_free(arms: int, tmp_path: Path) -> None:
    fr3 = Embodiment.load("fr3")
    embodiment = fr3 if arms == 1 else Embodiment.load(write_pair(fr3, tmp_path))
    scene = Scene.build(embodiment, Task.load("push"), ("posture",))
    for seed in range(20):
        scene.randomize(seed, RANDOMIZABLE)
        angles = np.array([scene.data.joint(name).qpos[0] for name in embodiment.joint_names])
        off = np.abs(angles - embodiment.home)
        assert off.max() > 0.1 and off.max() <= POSTURE_RAD
        moved = [scene.model.body(k).name for k in np.flatnonzero(scene.of_first_arm)]
        assert len(moved) * arms < scene.of_robot.sum()
        assert not any(name.startswith("right_") for name in moved)
        assert scene.tool().position_m[2] > scene.task.workcell.workspace_min[2]


def test_same_seed_same_cell_whatever_was_before() -> None:
    scene = _scene("cups", *(part for part in BEYOND if part != "slippery"))
    scene.randomize(5, RANDOMIZABLE)
    state = scene.data.qpos.copy()
    scene.randomize(6, RANDOMIZABLE)
    assert not np.allclose(scene.data.qpos, state)
    scene.randomize(5, RANDOMIZABLE)
    assert np.array_equal(scene.data.qpos, state)


def test_what_cannot_be_left_is_refused() -> None:
    assert parse_beyond([""]) == ()
    with pytest.raises(ValueError, match="weather"):
        parse_beyond(["weather"])
    with pytest.raises(ValueError, match="exclude"):
        parse_beyond(["friction", "slippery"])
    with pytest.raises(PhysaiError, match="whose outside could be drawn"):
        outside(Task.load("none"))
    with pytest.raises(PhysaiError, match="no room"):
        full = Task.load("cups")
        low = full.workcell.workspace_min
        tight = replace(full.workcell, workspace_max=np.array([0.30, 0.0, 0.7]), workspace_min=low)
        Scene.build(Embodiment.load("fr3"), replace(full, workcell=tight), ("distractors",)).randomize(0)
