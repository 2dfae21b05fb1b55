"""Images for policies: what part of one is seen, which one belongs to a scene, and that nobody pays who needs none."""

from __future__ import annotations

import json
from pathlib import Path

import mujoco
import numpy as np
import pyarrow.parquet as pq
import pytest
from scenes import make_scene

from physai_base.embodiment import Embodiment
from physai_base.errors import BundleError, PhysaiError, PolicyError
from physai_base.expert import Goal
from physai_base.task import Task
from physai_lab.data.dataset import (
    DatasetWriter,
    Episode,
    feature_shapes,
    image_column,
    read_episodes,
    views_of,
)
from physai_lab.data.demos import views_of as views_of_robot
from physai_policy.agent import Agent, AgentSettings
from physai_policy.course import TaskState
from physai_policy.images import MAX_IMAGE_AGE_S, ImageBuffer, View
from physai_policy.policy import ActionSpace, Observation, Prefix, Proposal
from physai_policy.remote.mapping import ImageEntry, ValuesEntry, cameras_in
from physai_sim.scene import LOOK_FIELDS, Scene

RNG = np.random.default_rng(0)
SECOND_NS = 1_000_000_000


def test_a_view_is_the_mean_of_the_pixels_it_covers() -> None:
    image = RNG.integers(0, 256, (240, 320, 3), dtype=np.uint8)
    view = View("wrist", crop=(20, 40, 96, 60), size=(20, 32))
    expected = image[40:100, 20:116].reshape(20, 3, 32, 3, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(view.apply(image), expected, atol=0.5001)
    assert View.parse(json.loads(json.dumps(view.as_json()))) == view


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((240, 320), np.uint8), r"uint8 of shape \(h, w, 3\)"),
        (np.zeros((240, 320, 3), np.float32), "float32"),
        (np.zeros((99, 320, 3), np.uint8), "up to 116x100, the image has 320x99"),
    ],
)
def test_an_image_that_is_none_of_the_camera_is_refused(image: np.ndarray, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        View("wrist", crop=(20, 40, 96, 60), size=(20, 32)).apply(image)


@pytest.mark.parametrize(
    "document",
    [
        {"camera": "wrist"},
        {"camera": "wrist", "crop": [0, 0, 8, 8], "size": [9, 8]},
        {"camera": "wrist", "crop": [-1, 0, 8, 8], "size": [8, 8]},
    ],
)
def test_a_view_that_cannot_be_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(BundleError, match="crop"):
        View.parse(document)


def picture(value: int) -> np.ndarray:
    """A plain image."""
    return np.full((4, 4, 3), value, np.uint8)


def test_the_nearest_image_of_each_camera_is_taken() -> None:
    buffer = ImageBuffer(("left", "right"))
    for k in range(20):
        buffer.add("left", k * 50_000_000, picture(k))
    buffer.add("right", 15 * 50_000_000 - 20_000_000, picture(77))
    found = buffer.at(15 * 50_000_000 + 10_000_000)
    assert found["left"][0, 0, 0] == 15
    assert found["right"][0, 0, 0] == 77


def test_a_camera_that_is_missing_or_stale_is_refused() -> None:
    buffer = ImageBuffer(("left", "right"))
    buffer.add("left", SECOND_NS, picture(1))
    with pytest.raises(PolicyError, match="'right' has sent no image"):
        buffer.at(SECOND_NS)
    limit_ns = round(MAX_IMAGE_AGE_S * 1e9)
    buffer.add("right", SECOND_NS, picture(2))
    assert set(buffer.at(SECOND_NS + limit_ns)) == {"left", "right"}
    buffer.add("left", SECOND_NS + 2 * limit_ns, picture(3))
    with pytest.raises(PolicyError, match=r"'right': the nearest image is 0\.20 s older"):
        buffer.at(SECOND_NS + 2 * limit_ns)


def test_a_camera_whose_images_are_refused_says_why_until_one_can_be_used() -> None:
    buffer = ImageBuffer(["wrist"])
    buffer.add("wrist", 0, np.zeros((4, 4, 3), np.uint8))
    buffer.refuse("wrist", "the image is 640x480, the robot file promises 320x240")
    with pytest.raises(PolicyError, match="refused: the image is 640x480, the robot file promises 320x240"):
        buffer.at(0)
    buffer.add("wrist", SECOND_NS, np.ones((4, 4, 3), np.uint8))
    assert buffer.at(SECOND_NS)["wrist"].all()


def test_images_from_before_a_clock_was_set_back_are_forgotten() -> None:
    buffer = ImageBuffer(("left",))
    buffer.add("left", 100 * SECOND_NS, picture(1))
    buffer.add("left", SECOND_NS, picture(2))
    assert buffer.at(SECOND_NS)["left"][0, 0, 0] == 2
    with pytest.raises(PolicyError, match="'left'"):
        buffer.at(100 * SECOND_NS)


class Looker:
    """A policy that goes up, if it sees what it needs."""

    name, horizon, dt_s = "looker", 16, 0.05
    cameras = ("wrist",)
    takes_features = False

    def __init__(self) -> None:
        self.seen: list[Observation] = []

    def infer(self, observation: Observation, prefix: Prefix | None = None) -> Proposal:
        """Rows that rise from where the tool is."""
        self.seen.append(observation)
        rows = np.append(observation.tool_m, 0.08) + np.linspace(0, 0.05, 16)[:, None] * [0, 0, 1, 0]
        return Proposal(rows[None], ActionSpace.TOOL_POSITION, 0.05)


def test_a_policy_that_looks_gets_images_and_no_poses(embodiment: Embodiment, task: Task) -> None:
    buffer, policy, goal = ImageBuffer(("wrist",)), Looker(), Goal("red_cup", "top_shelf")
    agent = Agent(embodiment, task, policy, images=buffer.at)
    agent.warm_up()
    agent.start(goal, SECOND_NS)
    # Not even the cup has to be in perception's sight.
    scene = make_scene(embodiment, task, stamp_ns=SECOND_NS, without=("red_cup", "top_shelf"))
    assert agent.step(scene) is None
    assert "no image" in agent.message
    buffer.add("wrist", SECOND_NS, picture(5))
    assert agent.step(scene) is not None
    assert agent.message == ""
    observation = policy.seen[-1]
    assert observation.images["wrist"][0, 0, 0] == 5
    assert observation.goal == goal
    assert observation.features.size == 0


def test_a_policy_whose_camera_stays_dark_gives_up(embodiment: Embodiment, task: Task) -> None:
    buffer = ImageBuffer(("wrist",))
    agent = Agent(embodiment, task, Looker(), AgentSettings(lost_timeout_s=1.0), images=buffer.at)
    agent.start(Goal("red_cup", "top_shelf"), SECOND_NS)
    buffer.add("wrist", SECOND_NS, picture(5))
    states = []
    for k in range(40):
        agent.step(make_scene(embodiment, task, stamp_ns=SECOND_NS + k * 50_000_000))
        states.append(agent.state)
    assert states[2] is TaskState.RUNNING
    assert states[-1] is TaskState.ABORTED
    assert "older than the scene" in agent.message


def test_who_needs_no_image_is_given_none_and_costs_none(embodiment: Embodiment, task: Task) -> None:
    class Blind(Looker):
        """The same without cameras."""

        cameras = ()

    asked: list[int] = []

    def images(stamp_ns: int) -> dict[str, np.ndarray]:
        asked.append(stamp_ns)
        return {}

    agent = Agent(embodiment, task, Blind(), images=images)
    agent.start(Goal("red_cup", "top_shelf"), SECOND_NS)
    assert agent.step(make_scene(embodiment, task, stamp_ns=SECOND_NS)) is not None
    assert asked == []
    with pytest.raises(PhysaiError, match="needs images of wrist"):
        Agent(embodiment, task, Looker())


def test_the_cameras_of_a_mapping_are_found_however_deep() -> None:
    tree = {
        "video": {"front": ImageEntry("overview"), "hand": ImageEntry("wrist")},
        "again": ImageEntry("wrist"),
        "state": ValuesEntry(("joints",)),
    }
    assert cameras_in(tree) == ("overview", "wrist")


def test_recorded_images_come_back_as_they_were(tmp_path: Path, embodiment: Embodiment, task: Task) -> None:
    length, views = 12, views_of_robot(embodiment)
    columns: dict[str, np.ndarray] = {
        name: RNG.normal(size=(length, *shape)).astype(np.float32)
        for name, shape in feature_shapes(embodiment, task, views).items()
    }
    columns["observation.stamp_ns"] = np.arange(length) * 50_000_000
    for view in views:
        columns[image_column(view)] = RNG.integers(0, 256, (length, *view.size, 3), dtype=np.uint8)
    writer = DatasetWriter(tmp_path / "set", embodiment, task, 20, views)
    writer.add(Episode("a", True, "expert", columns))
    writer.close()
    assert views_of(tmp_path / "set") == views
    (back,) = read_episodes(tmp_path / "set", images=True)
    (without,) = read_episodes(tmp_path / "set")
    info = json.loads((tmp_path / "set/meta/info.json").read_text())
    stats = json.loads((tmp_path / "set/meta/stats.json").read_text())
    for view in views:
        name = image_column(view)
        np.testing.assert_array_equal(back.columns[name], columns[name])
        assert name not in without.columns
        assert info["features"][name]["dtype"] == "image"
        assert info["features"][name]["shape"] == [*view.size, 3]
        pixels = columns[name].reshape(-1, 3) / 255.0
        np.testing.assert_allclose(np.ravel(stats[name]["mean"]), pixels.mean(0), atol=1e-9)
        np.testing.assert_allclose(np.ravel(stats[name]["std"]), pixels.std(0), atol=1e-9)
        np.testing.assert_allclose(np.ravel(stats[name]["q50"]), np.median(pixels, axis=0), atol=0.004)
        assert stats[name]["count"] == [length]
    # As the `datasets` library keeps images.
    entry = pq.read_table(tmp_path / "set/data/chunk-000/file-000.parquet")[image_column(views[0])][0].as_py()
    assert set(entry) == {"bytes", "path"}
    assert entry["bytes"][:8] == b"\x89PNG\r\n\x1a\n"


def test_repainting_changes_looks_alone(embodiment: Embodiment, task: Task) -> None:
    scene = Scene.build(embodiment, task)
    scene.randomize(3, ("all",))
    before = {name: getattr(scene.model, name).copy() for name in (*LOOK_FIELDS, "body_mass", "body_pos")}
    qpos = scene.data.qpos.copy()
    scene.repaint(5)
    moved = {name for name, value in before.items() if np.abs(value - getattr(scene.model, name)).max() > 0}
    assert moved == set(LOOK_FIELDS)
    np.testing.assert_array_equal(scene.data.qpos, qpos)
    # The camera is where the repainted model says, and the same seed gives the same looks from whatever was before.
    first = scene.data.cam("overview").xpos.copy()
    mujoco.mj_forward(scene.model, scene.data)
    np.testing.assert_allclose(scene.data.cam("overview").xpos, first)
    scene.repaint(6)
    assert np.abs(scene.data.cam("overview").xpos - first).max() > 1e-4
    scene.repaint(5)
    np.testing.assert_allclose(scene.data.cam("overview").xpos, first)


def test_the_wrist_camera_sees_what_is_between_the_fingers(embodiment: Embodiment) -> None:
    """Not the inside of the hand: the tool's point lies in its image, a hand's breadth away."""
    wrist = embodiment.camera("wrist")
    pose = wrist.nominal_pose()
    local = pose[:3, :3].T @ (np.zeros(3) - pose[:3, 3])
    pixel = wrist.intrinsics() @ local / local[2]
    assert 0 < pixel[0] < wrist.width
    assert 0 < pixel[1] < wrist.height
    assert 0.03 < local[2] < 0.15
