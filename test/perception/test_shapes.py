"""Boxes, cylinders and patches in rendered images, as the tasks have them; the simulator's truth is only compared with."""

import itertools
from dataclasses import replace

import mujoco
import numpy as np
import pytest
from shapes_scenes import SCENES
from shapes_task import INSERT, PUSH, STACK, WIPE, ShapesTask, Thing, box, cylinder, disc
from shapes_world import ROBOT, Hands, World, yaw_error

from physai_base.task import Kind, Shape
from physai_perception.errors import PerceptionError
from physai_perception.geometry import project
from physai_perception.perception import ScenePerception

_OPEN: list[World] = []  # one at a time: each has a graphics context of its own


@pytest.fixture(scope="module", autouse=True)
def _close():
    yield
    while _OPEN:
        _OPEN.pop().cameras.close()


def world_of(task: ShapesTask, seed: int = 1) -> World:
    if not _OPEN or _OPEN[0].task is not task:
        while _OPEN:
            _OPEN.pop().cameras.close()
        _OPEN.append(World(task))
    _OPEN[0].arrange(seed)
    return _OPEN[0]


def off_mm(world: World, scene, label: str) -> float:
    return 1e3 * float(np.linalg.norm(scene.require(label).position_m - world.truth(label)[0]))


@pytest.mark.parametrize("hand", Hands)
@pytest.mark.parametrize("name", SCENES)
def test_things_are_found_in_random_scenes_from_one_image(name, hand):
    task, arrange = SCENES[name]
    for seed in range(200, 206):
        world, rng = world_of(task, seed), np.random.default_rng(seed)
        arrange(world, rng)
        world.place_hand(hand, rng)
        scene = world.observe()
        visible = [label for label, pixels in world.visible_pixels().items() if pixels > 150]
        assert visible
        for label in visible:
            thing = scene.require(label)
            assert thing.last_seen_ns == scene.stamp_ns and thing.upright
            assert thing.kind == task.kind(label).name
            assert off_mm(world, scene, label) < 3, f"{label}, seed {seed}"
            if task.kind(label).shape is Shape.BOX:
                assert abs(yaw_error(world, thing)) < np.radians(3), f"{label}, seed {seed}"


@pytest.mark.parametrize("lower", ["small_red_block", "big_red_block"])
def test_two_blocks_of_one_colour_are_told_apart_by_size_on_top_of_each_other_too(lower):
    world = world_of(STACK)
    upper = ({"small_red_block", "big_red_block"} - {lower}).pop()
    world.put(lower, [0.5, 0.1, 0], 0.3)
    world.put(upper, [0.5, 0.1, STACK.kind(lower).size_m[2]], -0.2)
    for _ in range(3):
        scene = world.observe()
    for label in (lower, upper):
        assert off_mm(world, scene, label) < 3
        assert abs(yaw_error(world, scene.require(label))) < np.radians(3)


def test_one_of_two_blocks_of_a_colour_is_not_taken_for_the_other():
    world = world_of(STACK)
    world.put("small_red_block", [0.5, 0.1, 0], 0.3)
    assert [thing.label for thing in world.observe().objects] == ["small_red_block"]
    world.put("small_red_block", [0.5, 0.1, -5])
    world.put("big_red_block", [0.5, -0.1, 0], 0.3)
    for _ in range(30):
        scene = world.observe()
    assert scene.require("big_red_block").confidence > 0.8
    assert not scene.find("small_red_block").believed


def test_a_thing_on_another_and_a_puck_on_a_mark_of_its_own_colour():
    task = ShapesTask.of(
        (Thing("red_puck", cylinder("puck", 0.04, 0.03)),), (Thing("red_mark", disc("mark", 0.12)),)
    )
    world = world_of(task)
    world.put("red_mark", [0.5, 0.0, 0.0])
    world.put("red_puck", [0.51, 0.015, 0.0])
    scene = world.observe()
    assert off_mm(world, scene, "red_puck") < 3 and off_mm(world, scene, "red_mark") < 3


def test_a_mark_keeps_its_place_under_the_hand_and_is_missed_when_gone():
    world = world_of(PUSH)
    world.put("blue_mark", [0.5, 0.0, 0.0])
    world.observe()
    world.reach([0.53, 0.0, 0.03])
    for _ in range(75):  # five seconds
        scene = world.observe()
        assert off_mm(world, scene, "blue_mark") < 3
    world.arrange(1)
    world.put("blue_mark", [0.5, 0.0, 0.0])
    world.observe()
    world.put("blue_mark", [0.5, 0.0, -5.0])
    for _ in range(15):
        scene = world.observe()
    assert scene.find("blue_mark").confidence < 0.1


def test_a_peg_that_goes_into_a_hole_keeps_its_length():
    world = world_of(INSERT)
    world.put("blue_hole", [0.5, 0.0, 0.0], 0.4)
    for foot in (0.06, 0.045, 0.03, 0.015, 0.0):
        world.reach([0.5, 0.0, foot + 0.085], 2 * 0.014)
        world.put("red_peg", [0.5, 0.0, foot])
        scene = world.observe()
        assert off_mm(world, scene, "red_peg") < 4 and scene.require("red_peg").upright
        assert off_mm(world, scene, "blue_hole") < 3
    world.reach([0.4, -0.2, 0.4])
    for _ in range(3):
        scene = world.observe()
    assert off_mm(world, scene, "red_peg") < 3


def test_a_stain_shrinks_along_its_own_axes_and_is_gone_once_its_place_is_seen_without_it():
    world, label, yaw = world_of(WIPE), "red_stain", 0.5
    world.put(label, [0.5, 0.0, 0.0], yaw)
    cells = WIPE.cell.cells[label]
    for limit in (1.0, 0.03, 0.0, -0.03):
        world.wipe(label, cells[:, 0] < limit)
        scene = world.observe()
        thing = scene.require(label)
        np.testing.assert_allclose(thing.size_m[:2], world.truth(label)[1][:2], atol=0.005)
        assert off_mm(world, scene, label) < 4
        assert abs(yaw_error(world, thing)) < np.radians(3)
    # The sponge hides what is left: it may still be there.
    middle = world.truth(label)[0]
    world.put("yellow_sponge", [*middle[:2], 0.001], yaw + np.pi / 2)
    world.wipe(label, cells[:, 0] < -0.06)
    assert world.observe().require(label).size_m[0] > 0
    world.put("yellow_sponge", [0.5, 0.25, 0.001])
    WIPE.cell.wipe(world.scene.model, label, np.zeros(len(cells), bool))
    for _ in range(3):
        thing = world.observe().require(label)
    np.testing.assert_array_equal(thing.size_m, 0)
    assert thing.confidence > 0.8


def test_a_block_that_is_gone_is_soon_not_believed():
    world = world_of(STACK)
    world.put("green_block", [0.5, 0.0, 0.0])
    assert world.observe().require("green_block").confidence > 0.8
    world.put("green_block", [0.5, 0.0, -5.0])
    for _ in range(15):
        scene = world.observe()
    assert scene.find("green_block").confidence < 0.1


def test_a_brick_on_its_side_is_not_upright():
    world = world_of(STACK)
    half = np.sqrt(0.5)
    world.scene.data.joint("blue_block").qpos[:] = [0.47, 0.0, 0.03, half, 0, half, 0]  # its x axis is down
    mujoco.mj_forward(world.scene.model, world.scene.data)
    thing = world.observe().require("blue_block")
    assert not thing.upright


def _screened(world: World, label: str, side: str, share: float):
    """The next image behind a grey screen that leaves this share of a thing's picture, on one side of it."""
    frame = world.image()
    origin, size = world.truth(label)
    middle = origin + [0, 0, size[2] / 2]
    corners = middle + np.array(list(itertools.product((-0.5, 0.5), repeat=3))) * size
    u, v, _ = project(corners, world.perception.camera_pose.T_base_camera, frame.intrinsics).T
    rgb, depth = frame.rgb.copy(), frame.depth_m.copy()
    box = {
        "left": (u.min(), v.min()),
        "top": (u.min(), v.min()),
        "right": (u.max(), v.max()),
        "bottom": (u.max(), v.max()),
    }[side]
    wide, high = u.max() - u.min(), v.max() - v.min()
    rows, columns = np.indices(depth.shape)
    hidden = {
        "left": columns > box[0] + share * wide, "right": columns < box[0] - share * wide,
        "top": rows > box[1] + share * high, "bottom": rows < box[1] - share * high,
    }[side]  # fmt: skip
    hidden &= (abs(columns - (u.min() + u.max()) / 2) < wide) & (abs(rows - (v.min() + v.max()) / 2) < high)
    rgb[hidden], depth[hidden] = 120, 0.7 * depth[hidden].min()
    return replace(frame, rgb=rgb, depth_m=depth)


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
@pytest.mark.parametrize("task, label", [(PUSH, "red_puck"), (INSERT, "red_peg"), (STACK, "blue_block")])
def test_what_is_barely_seen_is_taken_to_be_as_it_was(task, label, side):
    world = world_of(task, 3)
    world.put(label, (0.5, 0.05, 0.0), 0.3)
    for _ in range(4):
        world.observe()
    for share in (0.5, 0.35, 0.25, 0.18, 0.12, 0.08):
        scene = world.perception.observe(_screened(world, label, side, share), world.joints())
        assert off_mm(world, scene, label) < 8, share
        assert scene.require(label).upright, share


def test_a_carried_block_is_followed_while_its_colour_is_hidden():
    world, label = world_of(STACK), "green_block"
    for k in range(8):
        place, yaw = np.array([0.45, 0.02 * k - 0.1, 0.3]), 0.1 * k
        world.reach(place, 0.045, yaw)
        world.put(label, place - [0, 0, 0.03], yaw)
        frame = world.image()
        if k > 1:
            grey = frame.rgb.copy()
            grey[(np.ptp(grey, axis=2) > 20) & (grey.argmax(axis=2) == 1)] = 90
            frame = replace(frame, rgb=grey)
        scene = world.perception.observe(frame, world.joints())
    thing = scene.require(label)
    assert thing.last_seen_ns < scene.stamp_ns
    assert off_mm(world, scene, label) < 3 and abs(yaw_error(world, thing)) < np.radians(3)


def test_what_perception_cannot_find_is_refused_by_name():
    nameless = ShapesTask.of((Thing("big_block", box("block", 0.05, 0.05, 0.05)),))
    with pytest.raises(PerceptionError, match="'big_block' has no colour among its words"):
        ScenePerception(ROBOT, nameless)
    board = ShapesTask.of((Thing("red_board", Kind("board", Shape.BOARD, (0.2, 0.2, 0.01))),))
    with pytest.raises(PerceptionError, match="red_board: perception finds a board only as one of a task's"):
        ScenePerception(ROBOT, board)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_bare_table_with_a_mark_accuses_no_camera_of_shifted_depth(seed):
    world = world_of(PUSH, seed)
    world.put("blue_mark", [0.5, 0.0, 0.0])
    assert off_mm(world, world.observe(), "blue_mark") < 3
    assert world.perception.remarks == {}
