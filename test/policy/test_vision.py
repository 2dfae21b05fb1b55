"""The policy that looks: trained for a moment, exported, and never told where anything is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scenes import features_of, make_scene

from physai_base.bundle import Bundle
from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError, PolicyError
from physai_base.expert import Goal
from physai_base.kinematics import TOOL_DOWN, ArmKinematics
from physai_base.task import Task
from physai_lab.data.dataset import DatasetError
from physai_lab.data.demos import make_demos, views_of
from physai_lab.evaluation.cell import PICK_HEIGHT_M, Cell, PickWatch
from physai_lab.evaluation.evaluate import Evaluation, Evaluator
from physai_lab.training.export import PARITY, export_vision
from physai_lab.training.policy import PolicyTraining
from physai_lab.training.vision import (
    VisionTraining,
    build_encoder,
    eyes_of,
    load_frames,
    made_up,
    nominal,
    points_of,
    project,
    train_vision,
)
from physai_policy.loading import load_policy
from physai_policy.policy import Observation, Prefix
from physai_policy.runtimes import RuntimeOptions
from physai_policy.vision import VisionPolicy, goal_vector, seen_feature_names, state_vector
from physai_policy.vision_networks import seen_features
from physai_sim.scene import RANDOMIZABLE

pytestmark = pytest.mark.slow

SHORT = VisionTraining(
    steps=30, batch=8, channels=8, width=32, field=PolicyTraining(steps=30, batch=32, width=32, blocks=1)
)


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory, embodiment: Embodiment, task: Task) -> Path:
    """A demonstration or two as `physai demos --images` makes them."""
    root = tmp_path_factory.mktemp("data") / "demos"
    make_demos(root, embodiment, task, count=2, workers=2, sight="truth", views=views_of(embodiment))
    return root


@pytest.fixture(scope="module")
def bundle(
    tmp_path_factory: pytest.TempPathFactory, demos: Path, embodiment: Embodiment, task: Task
) -> Bundle:
    """A bundle of a policy that has hardly been trained."""
    root = tmp_path_factory.mktemp("vision")
    metrics = train_vision(demos, root / "checkpoint", embodiment, task, SHORT)
    assert np.isfinite(list(metrics.values())).all()
    assert export_vision(root / "checkpoint", root / "vision_policy", embodiment, task) < PARITY
    return Bundle.open(root / "vision_policy", kind="policy", robot="fr3")


def observation(embodiment: Embodiment, task: Task, seed: int = 0) -> Observation:
    """Random images as large as the cameras send them."""
    rng = np.random.default_rng(seed)
    return Observation(
        stamp_ns=0,
        features=np.zeros(len(task.feature_names()), np.float32),
        tool_m=np.array([0.5, -0.1, 0.3]),
        joint_rad=embodiment.home,
        gripper_width_m=0.08,
        goal=Goal("green_cup", "top_shelf"),
        images={
            camera.name: rng.integers(0, 256, (camera.height, camera.width, 3), dtype=np.uint8)
            for camera in embodiment.cameras
        },
    )


def test_recorded_key_points_lie_on_the_cups(demos: Path, embodiment: Embodiment, task: Task) -> None:
    frames = load_frames(demos, embodiment, task)
    overview = frames.views[0]
    for label, k in zip(task.objects, range(3), strict=True):
        channel = {"red": 0, "green": 1, "blue": 2}[label.split("_")[0]]
        foot, rim = frames.marks[0][0, k, :2], frames.marks[0][0, k + 3, :2]
        x, y = ((0.5 * (foot + rim) + 1) / 2 * overview.size[::-1]).astype(int)
        pixel = frames.images[0][0, y, x].astype(int)
        assert pixel.argmax() == channel, (label, pixel)
        assert pixel[channel] > 1.5 * np.delete(pixel, channel).max()


def test_what_is_behind_a_camera_is_not_in_view(embodiment: Embodiment, task: Task) -> None:
    camera = embodiment.camera("overview")
    pose = camera.nominal_pose()
    points = np.array([[camera.look_at, camera.position - 0.5 * pose[:3, 2], [0.5, 5.0, 0.0]]])
    marks = project(points, pose[None, :3], views_of(embodiment)[0], camera.intrinsics())
    assert marks[0, :, 2].tolist() == [1, 0, 0]
    assert points_of(np.zeros((2, 5, 3)), eyes_of(views_of(embodiment), embodiment, task)[0], task).shape == (
        2,
        12,
        3,
    )


@pytest.mark.parametrize("camera", [0, 1])
@pytest.mark.parametrize("height", [0.0, 0.08, 0.25])
def test_rays_through_key_points_come_to_where_things_are(
    camera: int, height: float, embodiment: Embodiment, task: Task
) -> None:
    view, eye = views_of(embodiment)[camera], eyes_of(views_of(embodiment), embodiment, task)[camera]
    seen = embodiment.camera(view.camera)
    tool = np.array([0.5, -0.1, 0.35])
    things = np.array(
        [
            [0.5, -0.12, height],
            [0.47, -0.05, height],
            [0.53, -0.1, height],
            [0.5, -0.1, height],
            [0.52, -0.1, height],
        ]
    )
    pose = seen.nominal_pose()
    if eye.on_tool:
        hand = np.eye(4)
        hand[:3, :3], hand[:3, 3] = TOOL_DOWN, tool
        pose = hand @ pose
    marks = project(points_of(things[None], eye, task), pose[None, :3], view, seen.intrinsics())
    encoder = build_encoder(views_of(embodiment), embodiment, task, SHORT).cameras[view.camera]
    for name, values in nominal(eye, view, embodiment, task).items():
        getattr(encoder, name).copy_(torch.from_numpy(values))
    tools = torch.tensor([[*tool, 0.08]], dtype=torch.float32)
    points = torch.from_numpy(marks[:, : len(encoder.rise), :2])
    table, shift = encoder.rays(points, tools)
    expected = (things - tool)[[0, 1, 2, 0, 1, 2, 3, 4], :2]
    np.testing.assert_allclose((table + height * shift)[0], expected, atol=1e-5)


def test_made_up_layouts_have_a_cup_in_a_hand_as_wide_as_one(task: Task) -> None:
    state = np.zeros((2000, 7), np.float32)
    state[:, :3], state[::2, 6], state[1::2, 6] = (0.5, -0.1, 0.35), task.grip_m, 0.08
    layouts = made_up(state, task, np.random.default_rng(0))
    hanging = (np.abs(layouts[:, :3, 2] - (0.35 - 0.06)) < 0.05).any(axis=1)
    assert 0.8 < hanging[::2].mean() < 0.9
    assert not hanging[1::2].any()
    np.testing.assert_allclose(layouts[:, 3:, 2], [task.boards.heights_m] * 2000, atol=1e-6)


@pytest.mark.parametrize("goal", [Goal("red_cup", "top_shelf"), Goal("blue_cup", "bottom_shelf")])
def test_the_graph_makes_features_as_the_scene_does(
    embodiment: Embodiment, task: Task, kinematics: ArmKinematics, goal: Goal
) -> None:
    scene = make_scene(embodiment, task, tcp=(0.45, -0.1, 0.25), width_m=0.062)
    names = task.feature_names()
    kept = [names.index(name) for name in seen_feature_names(task)]
    expected = features_of(scene, goal, task, kinematics)[kept]
    labels = task.objects + task.places
    found = {thing.label: thing.position_m for thing in scene.objects}
    offsets = np.array([found[label] - scene.tool.position_m for label in labels], np.float32)
    velocity = kinematics.jacobian(scene.joint_position)[:3] @ scene.joint_velocity
    state = state_vector(scene.tool.position_m, velocity, scene.tool.opening)
    seen = seen_features(
        torch.from_numpy(offsets)[None], torch.from_numpy(state)[None],
        torch.from_numpy(goal_vector(goal.target, goal.destination, task))[None], 3, task.grip_m,
    )  # fmt: skip
    np.testing.assert_allclose(seen[0].numpy(), expected, atol=2e-6)


def test_the_bundle_computes_what_torch_does(bundle: Bundle, embodiment: Embodiment, task: Task) -> None:
    policy = load_policy(bundle.path, embodiment, task)
    assert isinstance(policy, VisionPolicy)
    assert policy.cameras == ("overview", "wrist")
    other = load_policy(bundle.path, embodiment, task, "torch", RuntimeOptions())
    seen = observation(embodiment, task)
    chunk = policy.infer(seen)
    assert chunk.actions.shape == (8, 16, 4)
    assert chunk.disagreement > 0
    np.testing.assert_allclose(chunk.actions, other.infer(seen).actions, atol=1e-4)
    assert np.abs(chunk.actions - policy.infer(observation(embodiment, task, seed=1)).actions).max() > 1e-5


def test_a_bundle_of_the_graph_alone(
    bundle: Bundle, tmp_path: Path, embodiment: Embodiment, task: Task
) -> None:
    export_vision(bundle.path.parent / "checkpoint", tmp_path / "small", embodiment, task, graph_alone=True)
    small, seen = load_policy(tmp_path / "small", embodiment, task), observation(embodiment, task)
    whole = load_policy(bundle.path, embodiment, task)
    np.testing.assert_array_equal(small.infer(seen).actions, whole.infer(seen).actions)
    assert not (tmp_path / "small" / "weights.safetensors").exists()
    with pytest.raises(PhysaiError, match="runtime onnx"):
        load_policy(tmp_path / "small", embodiment, task, "torch", RuntimeOptions())


def test_a_running_chunk_is_continued(bundle: Bundle, embodiment: Embodiment, task: Task) -> None:
    policy, seen = VisionPolicy(bundle, task), observation(embodiment, task)
    rows = np.append(seen.tool_m, 0.05) + np.arange(16)[:, None] * [0.004, 0, 0, 0]
    chunk = policy.infer(seen, Prefix(rows, frozen=5, valid=16))
    np.testing.assert_allclose(chunk.actions[:, :5], np.broadcast_to(rows[:5], (8, 5, 4)), atol=1e-5)


def test_no_pose_reaches_the_policy(bundle: Bundle, embodiment: Embodiment, task: Task) -> None:
    """Whatever the features say of the objects, the images alone decide."""
    policy, seen = VisionPolicy(bundle, task), observation(embodiment, task)
    chunk = policy.infer(seen)
    wrong = np.random.default_rng(1).normal(size=len(task.feature_names())).astype(np.float32)
    for poses in (wrong, np.full_like(wrong, np.nan), np.zeros(0, np.float32)):
        np.testing.assert_array_equal(policy.infer(replace(seen, features=poses)).actions, chunk.actions)
    # What it does take of the scene: tool, gripper, goal and every one of its cameras.
    for change in (
        {"tool_m": seen.tool_m + 0.05},
        {"gripper_width_m": 0.03},
        {"goal": Goal("red_cup", "bottom_shelf")},
        {"images": {**seen.images, "wrist": 255 - seen.images["wrist"]}},
        {"images": {**seen.images, "overview": 255 - seen.images["overview"]}},
    ):
        assert np.abs(policy.infer(replace(seen, **change)).actions - chunk.actions).max() > 1e-6, change


def test_what_is_missing_is_named(bundle: Bundle, embodiment: Embodiment, task: Task) -> None:
    policy, seen = VisionPolicy(bundle, task), observation(embodiment, task)
    with pytest.raises(PolicyError, match="no image of camera wrist"):
        policy.infer(replace(seen, images={"overview": seen.images["overview"]}))
    with pytest.raises(PolicyError, match="which object"):
        policy.infer(replace(seen, goal=None))
    with pytest.raises(PolicyError, match="asked for yellow_cup to top_shelf"):
        policy.infer(replace(seen, goal=Goal("yellow_cup", "top_shelf")))
    small = {name: image[:100] for name, image in seen.images.items()}
    with pytest.raises(PolicyError, match="give it the camera that it was trained with"):
        policy.infer(replace(seen, images=small))


def test_it_needs_images_to_learn_from(tmp_path: Path, embodiment: Embodiment, task: Task) -> None:
    make_demos(tmp_path / "demos", embodiment, task, count=1, workers=1, sight="truth")
    with pytest.raises(DatasetError, match="physai demos --images"):
        load_frames(tmp_path / "demos", embodiment, task)
    with pytest.raises(PhysaiError, match="--sight truth"):
        make_demos(tmp_path / "more", embodiment, task, count=1, workers=1, views=views_of(embodiment))


def test_a_cup_counts_as_picked_when_the_hand_holds_it_up_for_a_while(
    embodiment: Embodiment, task: Task
) -> None:
    cell = Cell(embodiment, task, sight="truth")
    try:
        cell.scene.reset()
        tool = cell.scene.data.site(embodiment.tool_frame)
        start = cell.scene.position("red_cup")[2]
        for height, tool_off, seconds, expected in (
            (PICK_HEIGHT_M - 0.01, 0.0, 2.0, False),  # not high enough
            (PICK_HEIGHT_M + 0.05, 0.1, 2.0, False),  # high, but not in the hand: thrown, or on the shelf
            (PICK_HEIGHT_M + 0.05, 0.0, 0.4, False),  # too short
            (PICK_HEIGHT_M + 0.05, 0.0, 0.6, True),
        ):
            watch = PickWatch(cell.scene, "red_cup")
            cell.scene.data.site("red_cup").xpos[:] = [
                tool.xpos[0] + tool_off, tool.xpos[1], start + height
            ]  # fmt: skip
            for _ in range(round(seconds / 0.01)):
                watch.look(0.01)
            assert watch.picked is expected
            cell.scene.data.site("red_cup").xpos[2] = start
    finally:
        cell.close()


def test_the_shipped_policy_picks_a_cup_by_what_the_cameras_show(embodiment: Embodiment, task: Task) -> None:
    """Perception is as it is in the cell: it sees that the task is done, and gives the policy nothing."""
    what = Evaluation(1, RANDOMIZABLE, "vision_policy", "off", "", seed=3)
    evaluator = Evaluator(embodiment, task, what)
    assert isinstance(evaluator.policy, VisionPolicy)
    try:
        result = evaluator.run(0)
    finally:
        evaluator.cell.close()
    assert result.picked, (result.failure, result.rejections)
    assert result.success, (result.failure, result.rejections)
