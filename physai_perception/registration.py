"""Whether depth lies on the colour image: edges of depth must be edges of colour."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from physai_base.values import CameraFrame
from physai_perception.errors import FrameError

_JUMP_M = 0.04  # between two neighbouring pixels: one thing in front of another
_POINTS = 800
_LEAST_POINTS = 50
_CANNY = (30, 80)  # of 255, per colour channel
_SIGMA_PX = 2.0
_REACH_PX = 45  # shifts up to this are tried
_STEP_PX = 3
_SHIFTED_PX = 3.0  # a shift of this much is more than what sensors do at edges
_GAIN = 0.08  # by which a shifted depth must fit better
_PARTS = (3, 2)  # across and down, of which each must fit for itself
_PART_REACH_PX = 10
_PART_SHIFTED_PX = 3.0
_PART_GAIN = 0.15
_UNLIKE = 0.5  # of the edges; registered depth has 0.87 and more of them on colour's


@dataclass(frozen=True)
class Alignment:
    """How well the edges of depth lie on those of colour."""

    score: float  # 0..1 as they are
    shift_px: tuple[int, int]  # (right, down) by which depth would have to be moved to fit best
    best: float  # 0..1 then
    parts: tuple[
        tuple[int, int], ...
    ] = ()  # the same of parts of the image that lie elsewhere for themselves

    @property
    def fault(self) -> str:
        """What is wrong, or nothing."""
        right, down = self.shift_px
        if np.hypot(right, down) >= _SHIFTED_PX and self.best > self.score + _GAIN and self.best > _UNLIKE:
            return (
                f"its edges lie {abs(right)} pixels to the {'left' if right > 0 else 'right'} and {abs(down)} pixels "
                f"{'above' if down > 0 else 'below'} those of the colour image"
            )
        if len(self.parts) >= 2:  # one alone may be what the depth camera cannot see beside a near thing
            right, down = max(self.parts, key=lambda shift: np.hypot(*shift))
            return f"in a part of the image its edges lie {np.hypot(right, down):.0f} pixels off, as through another lens or scale"
        if self.score < _UNLIKE:
            return (
                f"only {self.score:.0%} of its edges are edges of the colour image, and no shift mends that"
            )
        return ""


def alignment(rgb: np.ndarray, depth_m: np.ndarray) -> Alignment | None:
    """Compares (h, w, 3) uint8 with (h, w) metres; None where depth shows too few edges to tell."""
    height, width = depth_m.shape
    points = _depth_edges(depth_m)
    inner = (points > _REACH_PX).all(axis=1)
    inner &= (points[:, 0] < width - _REACH_PX - 1) & (points[:, 1] < height - _REACH_PX - 1)
    points = points[inner]
    if len(points) < _LEAST_POINTS:
        return None
    likeness = _likeness(rgb).ravel()
    index = points[:, 1] * width + points[:, 0]
    coarse = np.arange(-_REACH_PX, _REACH_PX + 1, _STEP_PX)
    right, down, _ = _best(likeness, index, width, coarse, coarse)
    near = np.arange(-_STEP_PX, _STEP_PX + 1)
    right, down, best = _best(
        likeness,
        index,
        width,
        np.clip(near + right, -_REACH_PX, _REACH_PX),
        np.clip(near + down, -_REACH_PX, _REACH_PX),
    )
    return Alignment(
        float(likeness[index].mean()), (right, down), best, _parts(likeness, points, width, height)
    )


def _parts(likeness: np.ndarray, points: np.ndarray, width: int, height: int) -> tuple[tuple[int, int], ...]:
    """Shifts (right, down) of the parts of the image in which depth clearly fits better elsewhere."""
    part = points[:, 0] * _PARTS[0] // width + _PARTS[0] * (points[:, 1] * _PARTS[1] // height)
    near = np.arange(-_PART_REACH_PX, _PART_REACH_PX + 1)
    found = []
    for number in np.unique(part):
        index = points[part == number] @ (1, width)
        if len(index) < _LEAST_POINTS:
            continue
        right, down, best = _best(likeness, index, width, near, near)
        if np.hypot(right, down) >= _PART_SHIFTED_PX and best > likeness[index].mean() + _PART_GAIN:
            found.append((right, down))
    return tuple(found)


def _best(
    likeness: np.ndarray, index: np.ndarray, width: int, right: np.ndarray, down: np.ndarray
) -> tuple[int, int, float]:
    offsets = (down[:, None] * width + right[None, :]).ravel()
    scores = likeness[index[None, :] + offsets[:, None]].mean(axis=1)
    best = int(np.argmax(scores))
    return int(right[best % len(right)]), int(down[best // len(right)]), float(scores[best])


def _depth_edges(depth_m: np.ndarray) -> np.ndarray:
    """Pixels (n, 2) as (u, v) next to a jump of depth."""
    found = []
    for first, second in (
        (depth_m[:, :-1], depth_m[:, 1:]),
        (depth_m[:-1], depth_m[1:]),
    ):
        jump = (np.abs(first - second) > _JUMP_M) & (first > 0) & (second > 0)
        pixels = cv2.findNonZero(jump.astype(np.uint8))
        if pixels is not None:
            found.append(pixels[:, 0])
    points = np.concatenate(found).astype(int) if found else np.zeros((0, 2), int)
    return points[:: max(1, len(points) // _POINTS)]


def _likeness(rgb: np.ndarray) -> np.ndarray:
    """(h, w) float32: 1 on an edge of colour, falling off beside it."""
    smooth = cv2.GaussianBlur(rgb, (3, 3), 0)
    edges = np.zeros(rgb.shape[:2], np.uint8)
    for channel in cv2.split(smooth):
        edges |= cv2.Canny(channel, *_CANNY)
    distance = cv2.distanceTransform(255 - edges, cv2.DIST_L2, 3)
    return np.exp(-0.5 * np.square(distance / _SIGMA_PX), dtype=np.float32)


class RegistrationWatch:
    """Looks now and then whether depth still lies on colour."""

    def __init__(self, period_s: float) -> None:
        self._period_ns = round(period_s * 1e9)
        self.reset()

    def reset(self) -> None:
        """Look again at the next image."""
        self._next_ns: int | None = None
        self._passed = False
        self._failed = 0

    def check(self, frame: CameraFrame) -> None:
        """Raise when the edges of depth lie elsewhere than those of colour.

        Raises:
            FrameError: by how much, or that they are unlike.
        """
        if self._next_ns is not None and 0 < self._next_ns - frame.stamp_ns <= self._period_ns:
            return
        found = alignment(frame.rgb, frame.depth_m)
        fault = found.fault if found else ""
        if not fault:
            self._passed, self._failed = self._passed or found is not None, 0
            self._next_ns = frame.stamp_ns + self._period_ns
            return
        self._next_ns = None
        self._failed += 1
        if self._failed > int(self._passed):  # one odd image of a stream that was well is let pass
            raise FrameError(
                f"{frame.camera}: the depth is not registered to the colour image: {fault}; publish registered depth "
                "(aligned_depth_to_color, depth_registered), and check for a flip or turn of one of the two"
            )
