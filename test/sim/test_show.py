"""Clips show the whole arm and what really happened, and change nothing of what the robot's cameras see."""

from __future__ import annotations

import io
from dataclasses import replace

import mujoco
import numpy as np
import pytest
from PIL import Image

from physai_base.embodiment import Embodiment
from physai_base.task import Task
from physai_lab.report import animation
from physai_sim.camera import CellCameras
from physai_sim.scene import RANDOMIZABLE, Scene
from physai_sim.show import SHOTS, SIZE, Film, Show, clips, seen

FR3 = Embodiment.load("fr3")
BEYOND = ("light", "distractors")


def _film(name: str, scene: Scene) -> Film:
    scene.randomize(3, RANDOMIZABLE)
    film = Film.begin(scene, FR3.scene_camera.name)
    film.shoot(scene, 0.0)
    scene.set_arm(FR3.home + np.array([0.5, 0.5, 0.0, -0.2, 0.0, 0.8, 0.0]))
    if name == "wipe":
        scene.model.geom("purple_stain_spot0").rgba[3] = 0.0
    mujoco.mj_forward(scene.model, scene.data)
    film.shoot(scene, 1.0)
    return film


@pytest.mark.parametrize("name", ["cups", "wipe"])
def test_the_robots_camera_sees_in_a_film_what_it_saw(name: str) -> None:
    task = Task.load(name)
    scene = Scene.build(FR3, task, BEYOND)
    film = _film(name, scene)
    cameras = CellCameras(scene.model, FR3.cameras)
    then = cameras.render(scene.data, film.camera, 0).rgb.astype(int)
    cameras.close()
    ((first, now), nothing) = seen(FR3, task, BEYOND, [film, replace(film, camera="")])
    assert np.abs(now - then).mean() < 0.01
    assert np.abs(now - then).max(axis=2).mean() < np.abs(first.astype(int) - then).max(axis=2).mean() / 5
    assert nothing == []


@pytest.mark.parametrize("name", ["insert", "drawer"])
def test_the_arm_is_in_the_picture_and_the_room_is_not_black(name: str) -> None:
    task = Task.load(name)
    film = _film(name, Scene.build(FR3, task))
    show = Show(FR3, task)
    show.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
    there = show.draw(film)
    gone = replace(
        film, shots=[replace(s, rgba=s.rgba * (~show.of_robot[: len(s.rgba), None])) for s in film.shots]
    )
    without = show.draw(gone)
    show.close()
    for with_arm, bare in zip(there, without, strict=True):
        assert with_arm.shape == (SIZE[1], SIZE[0], 3)
        arm = np.abs(with_arm.astype(int) - bare).max(axis=2) > 8
        assert arm.mean() > 0.03
        assert not (arm[0].any() or arm[-1].any() or arm[:, 0].any() or arm[:, -1].any())
        assert (bare.max(axis=2) > 30).mean() > 0.95
        assert len(np.unique(bare.reshape(-1, 3), axis=0)) > 500  # light, textures


def test_a_clip_has_the_view_in_its_corner_and_is_small() -> None:
    task = Task.load("push")
    scene = Scene.build(FR3, task)
    film = _film("push", scene)
    long = replace(film, shots=[replace(film.shots[k % 2], time_s=0.1 * k) for k in range(3 * SHOTS)])
    short = long.shortened()
    assert len(short.shots) == SHOTS
    assert (short.shots[0].time_s, short.shots[-1].time_s) == (0.0, long.shots[-1].time_s)
    (pictures, plain) = clips(
        FR3, task, (), [replace(short, shots=short.shots[:4]), replace(film, camera="")]
    )
    assert (pictures[0][:2, -100:] == 255).all()  # its rim
    assert not (plain[0][:2, -100:] == 255).all()
    data = animation(pictures, 100)
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 4
        assert image.size == SIZE
    assert len(data) < 100_000
