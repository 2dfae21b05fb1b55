"""Randomization is repeatable, keeps its bounds and can be judged."""

from __future__ import annotations

import itertools

import mujoco
import numpy as np
import pytest

from physai_base.expert import Goal
from physai_sim.scene import RANDOMIZABLE, Scene, parse_parts


@pytest.fixture(scope="module")
def scene(embodiment, task) -> Scene:
    return Scene.build(embodiment, task)


def _fingerprint(scene: Scene) -> np.ndarray:
    model = scene.model
    parts = (
        scene.data.qpos,
        model.geom_rgba,
        model.light_pos,
        model.cam_pos,
        model.cam_quat,
        model.body_mass,
        model.geom_friction,
    )
    return np.concatenate([np.ravel(part) for part in parts])


def test_same_seed_same_cell_and_parts_are_independent(scene: Scene) -> None:
    scene.randomize(5, ["all"])
    everything = _fingerprint(scene)
    scene.randomize(6, ["all"])
    assert not np.allclose(_fingerprint(scene), everything)
    scene.randomize(5, ["all"])
    assert np.array_equal(_fingerprint(scene), everything)
    cups = [scene.position(label) for label in scene.task.objects]
    scene.randomize(5, ["poses"])
    assert np.allclose(cups, [scene.position(label) for label in scene.task.objects])


def test_cups_keep_their_distance_and_region(scene: Scene) -> None:
    cups = scene.task.cups
    for seed in range(200):
        scene.randomize(seed, ["poses"])
        spots = np.array([scene.position(label)[:2] for label in cups.labels])
        for i in range(len(spots)):
            for j in range(i):
                assert np.linalg.norm(spots[i] - spots[j]) >= cups.min_distance_m - 1e-9
        assert (spots[:, 0] >= cups.region.x[0]).all() and (spots[:, 0] <= cups.region.x[1]).all()
        assert (spots[:, 1] >= cups.region.y[0]).all() and (spots[:, 1] <= cups.region.y[1]).all()


def test_score_follows_the_truth(scene: Scene) -> None:
    scene.reset()
    start = scene.stances()
    assert scene.score(Goal("red_cup", "top_shelf"), start) == "target_not_moved"
    place = scene.position("top_shelf")
    scene.data.joint("red_cup").qpos[:3] = place
    mujoco.mj_forward(scene.model, scene.data)
    assert scene.score(Goal("red_cup", "top_shelf"), start) == ""
    assert scene.score(Goal("red_cup", "bottom_shelf"), start) == "wrong_place"
    scene.data.joint("blue_cup").qpos[3:7] = [np.cos(0.7), np.sin(0.7), 0, 0]
    mujoco.mj_forward(scene.model, scene.data)
    assert scene.score(Goal("red_cup", "top_shelf"), start) == "knocked_over_other_cup"


def test_unknown_part_is_named() -> None:
    assert parse_parts(["all"]) == RANDOMIZABLE
    with pytest.raises(ValueError, match="weather"):
        parse_parts(["weather"])


def test_model_limits_are_those_of_the_embodiment(scene: Scene, embodiment) -> None:
    for joint in embodiment.joints:
        low, high = scene.model.joint(joint.name).range
        assert low == pytest.approx(joint.position_min)
        assert high == pytest.approx(joint.position_max)


def test_each_camera_has_its_own_rate_whatever_the_others_have() -> None:
    from physai_sim.camera import Shutter

    rates = {"overview": 20.0, "wrist": 15.0, "odd": 29.97, "slow": 0.5}
    shutter = Shutter(rates)
    taken: dict[str, list[int]] = {name: [] for name in rates}
    step = 0
    while step < 100_000:
        step = shutter.next_step
        for name in shutter.due(step):
            taken[name].append(step)
    for name, rate in rates.items():
        steps = taken[name]
        assert abs(len([s for s in steps if s <= 100_000]) - rate * 100) <= 1
        gaps = {b - a for a, b in itertools.pairwise(steps)}
        assert max(gaps) - min(gaps) <= 1  # of 1 ms
    assert Shutter({}).due(10**6) == ()
