"""One rendered image of the cell, its depth and where things stand (test/cases/images), to be spoiled as drivers do."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import paths
import pytest

from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.optics import Optics
from physai_base.task import Task
from physai_base.values import CameraFrame, JointState, SceneState
from physai_perception.perception import ScenePerception
from physai_perception.rectification import FrameMaker, Picture
from physai_perception.settings import PerceptionSettings

CASES = paths.CASES / "images"
ROBOT, TASK = Embodiment.load("fr3"), Task.load("cups")
SIZE = (640, 480)
PERIOD_NS = 66_666_667
NEAR_MM = 3.0  # of everything in this image, through any lens


class Cell:
    """The image, what it shows, and one perception."""

    def __init__(self) -> None:
        self.robot, self.task = ROBOT, TASK
        self.K = self.robot.camera("overview").intrinsics()
        self.rgb = cv2.imread(str(CASES / "cell.png"))[:, :, ::-1].copy()
        millimetres = cv2.imread(str(CASES / "cell_depth_mm.png"), cv2.IMREAD_UNCHANGED)
        self.depth = millimetres.astype(np.float32) / np.float32(1000)
        self.truth = json.loads((CASES / "cell.json").read_text())["objects_m"]
        self.optics = Optics.ideal(self.K, *SIZE, source="camera_info")
        self.stamp_ns = PERIOD_NS
        self.begin()

    def begin(self, **settings: float) -> None:
        self.perception = ScenePerception(self.robot, self.task, PerceptionSettings(**settings))
        self.frames = FrameMaker("overview")

    def frame(
        self,
        rgb: np.ndarray,
        depth: np.ndarray,
        info: Optics | None = None,
        depth_info: Optics | None = None,
        rectified: bool = False,
        frames: tuple[str, str] = ("", ""),
    ) -> CameraFrame:
        colour = Picture(rgb, "image_raw", frames[0], rectified)
        metres = Picture(depth, "depth/image_rect_raw", frames[1], False)
        return self.frames.make(self.stamp_ns, colour, metres, info or self.optics, depth_info)

    def observe(self, frame: CameraFrame, position: np.ndarray | None = None) -> SceneState:
        self.stamp_ns += PERIOD_NS
        arm = np.array(self.robot.home) if position is None else position
        joints = JointState(self.stamp_ns, arm, np.zeros(7), np.zeros(7), np.array([0.08]))
        return self.perception.observe(replace(frame, stamp_ns=self.stamp_ns), joints)

    def off_mm(self, scene: SceneState) -> dict[str, float]:
        return {
            thing.label: 1e3 * float(np.linalg.norm(thing.position_m - self.truth[thing.label]))
            for thing in scene.objects
        }

    def check(self, frame: CameraFrame) -> None:
        off = self.off_mm(self.observe(frame))
        assert set(off) == set(self.truth)
        assert max(off.values()) < NEAR_MM, off

    def refuses(self, frame: CameraFrame, match: str) -> None:
        with pytest.raises(PhysaiError, match=match):
            self.observe(frame)


def bend(pixels: np.ndarray, optics: Optics, nearest: bool = False) -> np.ndarray:
    """The pinhole image as that lens shows it."""
    v, u = np.indices(pixels.shape[:2])
    points = np.stack([u, v], -1).reshape(-1, 1, 2).astype(np.float64)
    D = np.array(optics.distortion)
    if optics.is_fisheye:
        ideal = cv2.fisheye.undistortPoints(points, optics.K, D, P=optics.P)
    else:
        criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 60, 1e-7)
        ideal = cv2.undistortPointsIter(points, optics.K, D, np.eye(3), optics.P, criteria)
    maps = ideal.reshape(*pixels.shape[:2], 2).astype(np.float32)
    how = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    return cv2.remap(np.ascontiguousarray(pixels), maps[..., 0].copy(), maps[..., 1].copy(), how)


def edges_unknown(depth: np.ndarray, size: int) -> np.ndarray:
    """As sensors send it that leave out what they are not sure of."""
    jumps = np.zeros(depth.shape, np.uint8)
    jumps[:, 1:] |= np.abs(np.diff(depth, axis=1)) > 0.03
    jumps[1:] |= np.abs(np.diff(depth, axis=0)) > 0.03
    return np.where(cv2.dilate(jumps, np.ones((size, size), np.uint8)) > 0, 0, depth).astype(np.float32)


CURVED = replace(
    Optics.ideal(ROBOT.camera("overview").intrinsics(), *SIZE),
    distortion=(-0.2, 0.0, 0.0, 0.0, 0.0),
)
