"""What a fitter of a shape is: from the pixels of one colour to where a thing of that shape is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from physai_base.values import CameraFrame
from physai_perception.geometry import project, rays, rim, transform
from physai_perception.segmentation import Blob

_OCCLUDER_M = 0.008  # a neighbouring pixel may hide the object unless it is further off by this
_SEEN_THROUGH_M = 0.03  # a depth this far behind a thing says that it is not there,
_SEEN_OVER = 0.6  # or by this share of its height, where what it stood on is seen from above


@dataclass(frozen=True)
class Guess:
    """Where a thing should be, by what was seen before."""

    origin: np.ndarray  # (3,) m, base frame
    rotation: np.ndarray  # (3, 3)
    size_m: np.ndarray  # (3,)
    held: bool = field(default=False, kw_only=True)  # a hand carries it: it goes where that goes

    @property
    def axis(self) -> np.ndarray:
        """(3,) its own z, base frame."""
        return self.rotation[:, 2]


@dataclass(frozen=True)
class ShapeFit(Guess):
    """Where a thing is, by one image."""

    covariance: np.ndarray  # (6, 6) of origin and rotation vector
    rms_m: float  # of the surface points
    inliers: float  # share of the points within 3 mm


@dataclass(frozen=True)
class Sighting:
    """What one image says about one thing."""

    fit: ShapeFit | None  # None: not seen
    visibility: float = 0.0  # 0..1, share of what would be seen if nothing hid it
    absent: bool = False  # its place is seen to be empty


class Fitter(Protocol):
    """Finds things of one kind."""

    def fit(
        self,
        frame: CameraFrame,
        blob: Blob,
        T_base_camera: np.ndarray,
        supports_m: tuple[float, ...] = (0.0,),
        guess: Guess | None = None,
    ) -> ShapeFit | None:
        """The pose that explains the blob best, or None when none of this kind does.

        `supports_m` are the heights on which it may stand, `guess` is where it was last seen: both only help where the image
        leaves something open.
        """
        ...

    def visibility(self, frame: CameraFrame, blob: Blob, T_base_camera: np.ndarray, fit: ShapeFit) -> float:
        """Share (0..1) of the thing's picture that the blob covers."""
        ...

    def unseen(self, frame: CameraFrame, T_base_camera: np.ndarray, guess: Guess | None) -> Sighting:
        """What an image says in which no blob is the thing."""
        ...


@dataclass(frozen=True)
class Rim:
    """Ends of the visible surface that nothing in front has cut."""

    points: np.ndarray  # (n, 3) base frame, at the depth of the last pixel on the object
    pixels: np.ndarray  # (n, 2) half way to the first pixel beyond it
    down: np.ndarray  # (n,) bool: the object ends towards the bottom of the image
    up: np.ndarray  # (n,) bool
    up_cut: float  # share of the upper ends that something hides
    down_cut: float


def find_rim(frame: CameraFrame, blob: Blob, T_base_camera: np.ndarray) -> Rim:
    """Where the blob really ends, as opposed to where something hides it."""
    inside, outside, step = rim(blob.mask)
    inside, outside = inside + blob.origin, outside + blob.origin
    height, width = frame.depth_m.shape
    in_image = (outside >= 0).all(axis=1) & (outside[:, 0] < width) & (outside[:, 1] < height)
    inside, outside, step = inside[in_image], outside[in_image], step[in_image]
    depth = frame.depth_m[inside[:, 1], inside[:, 0]].astype(float)
    beyond = frame.depth_m[outside[:, 1], outside[:, 0]].astype(float)
    known = np.isfinite(depth) & (depth > 0)
    pixels = inside + step
    down, up = step[:, 1] > 0, step[:, 1] < 0
    # A foot touches what it stands on; elsewhere something that touches the object may well hide more of it.
    free = known & ((beyond > depth + np.where(down, -_OCCLUDER_M, _OCCLUDER_M)) | ~(beyond > 0))
    local = rays(pixels[free, 0], pixels[free, 1], frame.intrinsics) * depth[free, None]

    def cut(side: np.ndarray) -> float:
        return float(1 - free[side].mean()) if side.any() else 1.0

    return Rim(transform(T_base_camera, local), pixels[free], down[free], up[free], cut(up), cut(down))


def seen_through(frame: CameraFrame, T_base_camera: np.ndarray, guess: Guess, height_m: float) -> bool:
    """Whether the image shows what lies behind a solid thing's place."""
    points = guess.origin + np.outer([0.2, 0.5, 0.8], height_m * guess.axis)
    pixels = project(points, T_base_camera, frame.intrinsics)
    behind_m = min(guess.size_m[0] / 2 + _SEEN_THROUGH_M, _SEEN_OVER * height_m)
    height, width = frame.depth_m.shape
    empty = 0
    for u, v, depth in pixels:
        column, row = round(u), round(v)
        if not (depth > 0 and 0 <= column < width and 0 <= row < height):
            continue
        measured = frame.depth_m[row, column]
        empty += bool(not measured > 0 or measured > depth + behind_m)
    return empty >= 2


def upright_turn(yaw: float) -> np.ndarray:
    """Rotation (3, 3) by `yaw` rad about the vertical."""
    cosine, sine = np.cos(yaw), np.sin(yaw)
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def yaw_of(rotation: np.ndarray) -> float:
    """By how much a rotation (3, 3) turns the x axis about the vertical, rad."""
    return float(np.arctan2(rotation[1, 0], rotation[0, 0]))
