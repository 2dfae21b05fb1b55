"""A cell of boxes, cylinders and patches whose state is set, not simulated, and perception of it."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

import cv2
import mujoco
import numpy as np
from shapes_task import STAIN_CELL_M, ShapesTask

from physai_base.embodiment import Embodiment
from physai_base.errors import KinematicsError
from physai_base.kinematics import TOOL_DOWN, ArmKinematics, Pose
from physai_base.task import Shape
from physai_base.values import CameraFrame, JointState, SceneObject, SceneState
from physai_perception.overlay import draw_overlay
from physai_perception.perception import ScenePerception
from physai_perception.thing_tracker import fold, symmetry
from physai_sim.camera import CellCameras
from physai_sim.scene import Scene

PERIOD_NS = 66_666_667
OPEN_M = 0.08
ROBOT = Embodiment.load("fr3")


class Hands(Enum):
    """Where the hand is."""

    HOME = "home"
    ABOVE = "above"  # one of the things
    HOLDING = "holding"


class World:
    """One task's cell."""

    def __init__(self, task: ShapesTask) -> None:
        self.task = task
        self.scene = Scene.build(ROBOT, task)
        self.cameras = CellCameras(self.scene.model, ROBOT.cameras)
        self.kinematics = ArmKinematics(ROBOT)
        self.perception = ScenePerception(ROBOT, task)
        self.left: dict[
            str, np.ndarray
        ] = {}  # middles (k, 2) of the cells that are left of a stain, in its own frame
        self.stamp_ns = 0
        self.arm, self.width_m = ROBOT.home, OPEN_M

    def arrange(self, seed: int) -> None:
        """Another light, other colours, a camera a little elsewhere; everything away."""
        self.scene.randomize(seed, ["all"])
        self.perception.reset()
        for label, cells in self.task.cell.cells.items():
            self.wipe(label, np.ones(len(cells), bool))
        self.left = {}
        self.arm, self.width_m = ROBOT.home, OPEN_M

    def put(self, label: str, origin, yaw: float = 0.0) -> None:
        """Stand a thing somewhere."""
        self.scene.data.joint(label).qpos[:] = [*origin, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
        mujoco.mj_forward(self.scene.model, self.scene.data)

    def wipe(self, label: str, keep: np.ndarray) -> None:
        """Leave those cells (k,) bool of a stain."""
        self.task.cell.wipe(self.scene.model, label, keep)
        self.left[label] = self.task.cell.cells[label][keep]

    def reach(self, position, width_m: float = OPEN_M, yaw: float = 0.0) -> bool:
        """Put the tool there, pointing down."""
        cosine, sine = np.cos(yaw), np.sin(yaw)
        turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1.0]])
        try:
            self.arm = self.kinematics.inverse(
                Pose(np.array(position, dtype=float), turn @ TOOL_DOWN), ROBOT.home, ROBOT.home
            )
        except KinematicsError:
            return False
        self.width_m = width_m
        self.scene.set_arm(self.arm)
        for name in ROBOT.finger_joints:
            self.scene.data.joint(name).qpos[0] = width_m / 2
        mujoco.mj_forward(self.scene.model, self.scene.data)
        return True

    def place_hand(self, hand: Hands, rng: np.random.Generator) -> None:
        """At home, above one of the things, or holding one of those that fit between its fingers."""
        if hand is Hands.HOME:
            return
        fits = [
            thing.label
            for thing in self.task.moved
            if thing.kind.shape is not Shape.PATCH and thing.kind.grip_m < 0.07
        ]
        if hand is Hands.HOLDING and fits:
            label = rng.choice(fits)
            tool = np.array([rng.uniform(0.4, 0.55), rng.uniform(-0.2, 0.2), rng.uniform(0.22, 0.35)])
            yaw = rng.uniform(-0.7, 0.7)
            if self.reach(tool, self.task.kind(label).grip_m, yaw):
                height = self.task.kind(label).size_m[2]
                self.put(label, tool - [0, 0, height * rng.uniform(0.5, 0.9)], yaw)
            return
        label = rng.choice(self.task.objects)
        top = self.scene.position(label) + [0, 0, self.task.kind(label).size_m[2]]
        self.reach(top + [*rng.uniform(-0.02, 0.02, size=2), rng.uniform(0.02, 0.12)])

    def image(self) -> CameraFrame:
        """The next image."""
        self.stamp_ns += PERIOD_NS
        return self.cameras.render(self.scene.data, "overview", self.stamp_ns)

    def joints(self) -> JointState:
        """Of the arm at rest at the last image."""
        n = len(self.arm)
        return JointState(self.stamp_ns, self.arm, np.zeros(n), np.zeros(n), np.array([self.width_m]))

    def observe(self) -> SceneState:
        """The scene of the next image."""
        frame = self.image()
        return self.perception.observe(frame, self.joints())

    def truth(self, label: str) -> tuple[np.ndarray, np.ndarray]:
        """Origin and size (3,) each; of a stain, of what is left."""
        if label not in self.left:
            return self.scene.position(label), np.array(self.task.kind(label).size_m)
        cells, site = self.left[label], self.scene.data.site(label)
        low, high = cells.min(axis=0) - STAIN_CELL_M / 2, cells.max(axis=0) + STAIN_CELL_M / 2
        middle = site.xpos + site.xmat.reshape(3, 3) @ [*(low + high) / 2, 0.0]
        return middle, np.array([*(high - low), 0.0])

    def visible_pixels(self) -> dict[str, int]:
        """How many pixels of each thing the camera sees, from the renderer's identities."""
        scene = self.cameras._scene
        for flag in (mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR):
            scene.flags[flag] = 1
        rgb = self.cameras.render(self.scene.data, "overview", 0).rgb.astype(int)
        for flag in (mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR):
            scene.flags[flag] = 0
        numbers = rgb[:, :, 0] + 256 * rgb[:, :, 1] + 65536 * rgb[:, :, 2]
        bodies = {self.scene.model.body(label).id: label for label in self.task.things}
        count = dict.fromkeys(self.task.things, 0)
        for geom in scene.geoms[: scene.ngeom]:
            if geom.objtype == mujoco.mjtObj.mjOBJ_GEOM:
                label = bodies.get(int(self.scene.model.geom_bodyid[geom.objid]))
                if label:
                    count[label] += int(np.count_nonzero(numbers == geom.segid + 1))
        return count

    def picture(self, frame: CameraFrame, state: SceneState, path: Path) -> None:
        """What perception believes, drawn into the image."""
        pose = self.perception.camera_pose
        assert pose is not None
        cv2.imwrite(str(path), draw_overlay(frame, state, pose.T_base_camera, self.task)[:, :, ::-1])


def yaw_of(thing: SceneObject) -> float:
    """Of an upright thing, rad."""
    w, x, y, z = thing.orientation
    return float(np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)))


def yaw_error(world: World, thing: SceneObject) -> float:
    """Folded by its symmetry, rad."""
    truth = world.scene.data.site(thing.label).xmat.reshape(3, 3)
    turns = symmetry(world.task.kind(thing.label))
    return fold(yaw_of(thing) - float(np.arctan2(truth[1, 0], truth[0, 0])), turns)
