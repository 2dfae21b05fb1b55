"""Rendered images through the whole of perception; the simulator's truth is only compared with."""

from dataclasses import replace

import mujoco
import numpy as np
import pytest

from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.kinematics import TOOL_DOWN, ArmKinematics, Pose
from physai_base.task import Boards, Task
from physai_base.values import JointState
from physai_perception.errors import ExtrinsicsError, FrameError, PerceptionError, SynchronizationError
from physai_perception.extrinsics import pose_difference
from physai_perception.overlay import draw_overlay
from physai_perception.perception import ScenePerception
from physai_perception.settings import PerceptionSettings
from physai_sim.camera import CellCameras
from physai_sim.scene import Scene

PERIOD_NS = 66_666_667


class World:
    def __init__(self) -> None:
        self.embodiment, self.task = Embodiment.load("fr3"), Task.load("cups")
        self.scene = Scene.build(self.embodiment, self.task)
        self.cameras = CellCameras(self.scene.model, self.embodiment.cameras)
        self.kinematics = ArmKinematics(self.embodiment)
        self.perception = ScenePerception(self.embodiment, self.task)
        self.stamp_ns = 0
        self.width_m = 0.08
        self.arm = self.embodiment.home

    def arrange(self, seed: int) -> None:
        self.scene.randomize(seed, ["all"])
        self.perception.reset()
        self.arm, self.width_m = self.embodiment.home, 0.08

    def reach(self, position, width_m: float) -> None:
        self.arm = self.kinematics.inverse(
            Pose(np.array(position), TOOL_DOWN), self.embodiment.home, self.embodiment.home
        )
        self.width_m = width_m
        self.scene.set_arm(self.arm)
        for name in self.embodiment.finger_joints:
            self.scene.data.joint(name).qpos[0] = width_m / 2
        mujoco.mj_forward(self.scene.model, self.scene.data)

    def put(self, label: str, foot, quat=(1, 0, 0, 0)) -> None:
        self.scene.data.joint(label).qpos[:] = [*foot, *quat]
        mujoco.mj_forward(self.scene.model, self.scene.data)

    def image(self):
        self.stamp_ns += PERIOD_NS
        return self.cameras.render(self.scene.data, "overview", self.stamp_ns)

    def joints(self) -> JointState:
        n = len(self.arm)
        return JointState(self.stamp_ns, self.arm, np.zeros(n), np.zeros(n), np.array([self.width_m]))

    def observe(self, frame=None):
        frame = self.image() if frame is None else frame
        return self.perception.observe(frame, self.joints())

    def errors_mm(self, scene) -> dict[str, float]:
        return {
            o.label: 1e3 * np.linalg.norm(o.position_m - self.scene.position(o.label)) for o in scene.objects
        }


@pytest.fixture(scope="module")
def shared():
    world = World()
    yield world
    world.cameras.close()


@pytest.fixture
def world(shared):
    shared.arrange(1)
    return shared


def test_finds_everything_in_random_cells_from_one_image(world):
    cups, levels = [], []
    for seed in range(100, 112):
        world.arrange(seed)
        scene = world.observe()
        assert [o.label for o in scene.objects] == [*world.task.objects, *world.task.places]
        assert [o.id for o in scene.objects] == [1, 2, 3, 4, 5]
        for label, error in world.errors_mm(scene).items():
            (levels if "shelf" in label else cups).append(error)
        for thing in scene.objects:
            assert thing.upright and thing.confidence > 0.8 and thing.last_seen_ns == world.stamp_ns
            truth = world.scene.data.site(thing.label).xmat.reshape(3, 3)
            if "shelf" in thing.label:
                w, _, _, z = thing.orientation
                assert abs(2 * np.arctan2(z, w) - np.arctan2(truth[1, 0], truth[0, 0])) < np.radians(1.5)
        pose = world.perception.camera_pose
        assert np.linalg.norm(pose.T_base_camera[:3, 3] - world.scene.data.camera("overview").xpos) < 0.003
    assert np.median(cups) < 3 and np.percentile(cups, 95) < 6
    assert max(levels) < 4


def test_scene_carries_the_arm_at_the_stamp_of_the_image(world):
    frame = world.image()
    n = len(world.arm)
    for k in (-2, -1, 0, 1):  # constant velocity
        stamp_ns = frame.stamp_ns + k * 10_000_000 + 4_000_000
        position = world.arm + 0.1 * (stamp_ns - frame.stamp_ns) * 1e-9
        world.perception.add_joint_state(
            JointState(stamp_ns, position, np.full(n, 0.1), np.zeros(n), np.array([0.05]))
        )
    scene = world.perception.observe(frame)
    np.testing.assert_allclose(scene.joint_position, world.arm, atol=1e-9)
    np.testing.assert_allclose(
        scene.tool.position_m, world.kinematics.tool_pose(world.arm).position, atol=1e-9
    )
    assert scene.stamp_ns == frame.stamp_ns and scene.tool.opening == pytest.approx(0.05)


def test_a_cup_on_a_board_and_one_fallen_over(world):
    world.put("red_cup", world.scene.position("top_shelf") + [0.02, 0.05, 0])
    half = np.sqrt(0.5)
    foot = world.scene.position("blue_cup")
    world.put("blue_cup", [foot[0], foot[1], world.task.grip_m / 2], (half, 0, half, 0))
    scene = world.observe()
    errors = world.errors_mm(scene)
    assert errors["red_cup"] < 3 and errors["top_shelf"] < 4
    assert scene.find("red_cup").upright and not scene.find("blue_cup").upright


def test_a_held_cup_is_seen_in_the_air_and_followed_when_hidden(world):
    label = "green_cup"
    world.reach([0.45, 0.0, 0.30], 0.06)
    world.put(label, [0.45, 0.0, 0.26])
    assert world.errors_mm(world.observe())[label] < 3
    for k in range(1, 8):
        world.reach([0.45, 0.01 * k, 0.30 + 0.01 * k], 0.06)
        world.put(label, [0.45, 0.01 * k, 0.26 + 0.01 * k])
        frame = world.image()
        grey = frame.rgb.copy()  # as if something stood in front: its colour is gone
        vivid = (np.ptp(grey, axis=2) > 20) & (grey.argmax(axis=2) == 1)
        grey[vivid] = 90
        scene = world.observe(replace(frame, rgb=grey))
    thing = scene.find(label)
    assert thing.last_seen_ns < scene.stamp_ns and 0.3 < thing.confidence < 1
    assert world.errors_mm(scene)[label] < 4


def test_a_cup_that_is_gone_is_soon_not_believed(world):
    assert world.observe().find("blue_cup").confidence > 0.8
    world.put("blue_cup", [0, 0, -5])
    for _ in range(15):
        scene = world.observe()
    assert scene.find("blue_cup").confidence < 0.1


def test_the_shelf_stays_when_the_arm_hides_part_of_it_and_is_found_again_when_moved(world):
    world.observe()
    x, y, z = world.scene.position("top_shelf")
    world.reach([x + 0.05, y, z + 0.12], 0.08)
    assert world.errors_mm(world.observe())["top_shelf"] < 4
    world.reach([0.4, -0.2, 0.4], 0.08)
    world.scene.model.body("shelf").pos[:2] += [0.0, -0.05]
    mujoco.mj_forward(world.scene.model, world.scene.data)
    for _ in range(6):
        scene = world.observe()
    assert world.errors_mm(scene)["top_shelf"] < 4


def test_a_moved_camera_is_noticed_and_then_taken(world):
    for _ in range(3):
        world.observe()
    world.scene.model.camera("overview").pos[0] += 0.03
    mujoco.mj_forward(world.scene.model, world.scene.data)
    with pytest.raises(ExtrinsicsError, match="moved by"):
        world.observe()
    with pytest.raises(ExtrinsicsError, match="moved by"):
        world.observe()
    assert max(world.errors_mm(world.observe()).values()) < 6


def test_an_implausible_camera_pose_is_refused(world):
    world.scene.model.camera("overview").pos[0] += 0.3
    mujoco.mj_forward(world.scene.model, world.scene.data)
    with pytest.raises(ExtrinsicsError, match="from its nominal pose"):
        world.observe()


def test_without_markers_there_is_no_scene(world):
    ids = [world.scene.model.geom(f"marker{i}").id for i in world.task.workcell.markers.centers]
    before = world.scene.model.geom_pos[ids, 2].copy()
    try:
        world.scene.model.geom_pos[ids, 2] = -1
        mujoco.mj_forward(world.scene.model, world.scene.data)
        with pytest.raises(ExtrinsicsError, match="at least 2 of the table's markers"):
            world.observe()
        world.scene.model.geom_pos[ids, 2] = before
        mujoco.mj_forward(world.scene.model, world.scene.data)
        world.observe()
        world.scene.model.geom_pos[ids, 2] = -1
        mujoco.mj_forward(world.scene.model, world.scene.data)
        with pytest.raises(ExtrinsicsError, match="no longer trusted"):
            for _ in range(world.perception.settings.max_unseen_frames + 1):
                world.observe()
    finally:
        world.scene.model.geom_pos[ids, 2] = before


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: replace(f, rgb=np.zeros_like(f.rgb)), "black"),
        (lambda f: replace(f, rgb=np.full_like(f.rgb, 128)), "single colour"),
        (lambda f: replace(f, rgb=f.rgb[::2, ::2]), "robot file promises"),
        (lambda f: replace(f, depth_m=np.zeros_like(f.depth_m)), "carry a depth"),
        (lambda f: replace(f, depth_m=np.full_like(f.depth_m, np.nan)), "carry a depth"),
        (lambda f: replace(f, depth_m=f.depth_m[:100]), "depth is"),
        (lambda f: replace(f, intrinsics=np.full((3, 3), np.nan)), "camera matrix"),
    ],
)
def test_useless_images_are_refused(world, spoil, message):
    with pytest.raises(FrameError, match=message):
        world.observe(spoil(world.image()))


def test_a_frozen_or_repeated_image_is_refused(world):
    world.reach([0.45, -0.1, 0.3], 0.08)
    frame = world.image()
    world.observe(frame)
    with pytest.raises(FrameError, match="not after the last"):
        world.observe(frame)
    world.reach([0.45, 0.1, 0.3], 0.08)
    world.stamp_ns += PERIOD_NS
    with pytest.raises(FrameError, match="frozen"):
        world.observe(replace(frame, stamp_ns=world.stamp_ns))


def test_late_joints_another_camera_and_bad_settings_are_refused(world):
    frame = world.image()
    late = replace(world.joints(), stamp_ns=frame.stamp_ns - 500_000_000)
    with pytest.raises(SynchronizationError, match="compare the clocks"):
        world.perception.observe(frame, late)
    with pytest.raises(PerceptionError, match="uses 'overview'"):
        world.perception.observe(replace(frame, camera="wrist"), world.joints())
    with pytest.raises(PerceptionError, match="it has: overview, wrist"):
        ScenePerception(world.embodiment, world.task, PerceptionSettings(camera="attic"))
    with pytest.raises(PerceptionError, match="moves with tool0"):
        ScenePerception(world.embodiment, world.task, PerceptionSettings(camera="wrist"))
    with pytest.raises(ValueError, match="gate_m must be within"):
        PerceptionSettings(gate_m=float("nan"))
    assert issubclass(PerceptionError, PhysaiError)


def test_the_overlay_is_a_changed_copy(world):
    frame = world.image()
    scene = world.observe(frame)
    before = frame.rgb.copy()
    overlay = draw_overlay(frame, scene, world.perception.camera_pose.T_base_camera)
    assert overlay.shape == frame.rgb.shape and overlay.dtype == np.uint8
    assert (frame.rgb == before).all() and (overlay != before).any()


def test_pose_difference():
    turned = np.eye(4)
    turned[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    turned[:3, 3] = [0, 0, 2]
    assert pose_difference(np.eye(4), turned) == pytest.approx((2.0, 90.0))


def test_a_task_without_boards_is_seen_as_well(world):
    world.arrange(0)
    nothing = Boards.none()
    perception = ScenePerception(world.embodiment, replace(world.task, boards=nothing))
    for _ in range(3):
        scene = perception.observe(world.image(), world.joints())
    assert {thing.label for thing in scene.objects} == set(world.task.objects)
    for label in world.task.objects:
        np.testing.assert_allclose(scene.require(label).position_m, world.scene.position(label), atol=0.006)
