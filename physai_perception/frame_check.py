"""Refuses images that say nothing about the scene."""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np

from physai_base.embodiment import Camera
from physai_base.stream import StreamCheck
from physai_base.values import CameraFrame
from physai_perception.errors import FrameError
from physai_perception.geometry import project
from physai_perception.still_view import TRAVEL_M, StillView

_STRIDE = 8
_DARK = 10  # of 255: the brightest pixels of a covered or dead camera stay below
_FLAT = 2  # of 255: an image without any contrast
_DEPTH_SHARE = 0.15  # of pixels that must carry a depth
_PINHOLE_SHARE = 0.03  # of single unknown pixels from which on they are closed
NEAREST_M, FARTHEST_M = 0.1, 8.0  # what is not within these is no measurement in a cell
_TINY_M = 1e-30
_NOWHERE_M = np.float32(1e6)
_ONE_SURFACE = 0.02  # neighbours that differ by less, relative, are of one
_FROZEN_TRAVEL_M = 0.03  # of the tool in view, without a single pixel changing
_LIVE_SHARE = 0.3  # of pixels that change from image to image: the noise of a sensor, not things that move
_LIVE_IMAGES = 5
_FROZEN_S = 0.5  # without noise, of a stream that had it


class _Channel:
    """One of a camera's two streams, colour or depth: whether it lives."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._last: np.ndarray | None = None
        self._changed_at = np.zeros(3)  # tool position when a pixel last changed,
        self._changed_ns = 0  # and the stamp
        self._shares: deque[float] = deque(maxlen=_LIVE_IMAGES)

    def fault(self, pixels: np.ndarray, stamp_ns: int, tool: np.ndarray, in_view: bool) -> str:
        """Why this stream counts as frozen, or nothing."""
        half = pixels[::2]
        if self._last is None or not np.array_equal(half, self._last):
            if self._last is not None and stamp_ns - self._changed_ns < 1e9:
                differs = half[::4, ::_STRIDE] != self._last[::4, ::_STRIDE]
                self._shares.append(float(np.mean(differs.any(axis=2) if differs.ndim == 3 else differs)))
            self._last, self._changed_at, self._changed_ns = half.copy(), tool, stamp_ns
            return ""
        travel = float(np.linalg.norm(tool - self._changed_at))
        if in_view and travel > _FROZEN_TRAVEL_M:
            return f"the {self._name} is frozen: the tool moved {travel * 1e3:.0f} mm in view and no pixel changed"
        still_s = (stamp_ns - self._changed_ns) * 1e-9
        lived = len(self._shares) == _LIVE_IMAGES and min(self._shares) > _LIVE_SHARE
        if lived and still_s > _FROZEN_S:
            return f"the {self._name} is frozen: not a pixel has changed for {still_s:.1f} s, where its noise did before"
        return ""


class FrameCheck:
    """Checks each image of one camera; it remembers the last one to notice a frozen stream."""

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self._size = StreamCheck(camera, f"camera/{camera.name}")
        self.reset()

    def reset(self) -> None:
        """Forget the last image."""
        self._stamp_ns: int | None = None
        self._channels = _Channel("image"), _Channel("depth image")
        self._still = StillView()

    def check(self, frame: CameraFrame) -> None:
        """Raise unless `frame` alone is usable.

        Raises:
            FrameError: names what is wrong.
        """
        shape = (self._camera.height, self._camera.width)
        if frame.rgb.ndim != 3 or frame.rgb.shape[2] != 3 or frame.rgb.dtype != np.uint8:
            raise FrameError(
                f"{frame.camera}: the image is {frame.rgb.dtype}{list(frame.rgb.shape)}; it must be uint8[h, w, 3]"
            )
        wrong = self._size.wrong_size(frame.rgb.shape[1], frame.rgb.shape[0])
        if wrong:
            raise FrameError(wrong)
        if frame.depth_m is None or frame.depth_m.shape != shape:
            given = "missing" if frame.depth_m is None else f"{list(frame.depth_m.shape)}"
            raise FrameError(
                f"{frame.camera}: depth is {given}; it must be registered to the image: {list(shape)}"
            )
        if not (
            np.isfinite(frame.intrinsics).all() and frame.intrinsics[0, 0] > 0 and frame.intrinsics[1, 1] > 0
        ):
            raise FrameError(f"{frame.camera}: the camera matrix is not finite with positive focal lengths")
        colours = np.sort(frame.rgb[::_STRIDE, ::_STRIDE], axis=None)
        bright, dark = int(colours[-len(colours) // 100]), int(colours[len(colours) // 100])
        if bright < _DARK:
            raise FrameError(f"{frame.camera}: the image is black; is the camera covered or the light off?")
        if bright - dark < _FLAT:
            raise FrameError(f"{frame.camera}: the image has a single colour; the camera gives no picture")
        some = frame.rgb[::_STRIDE, ::_STRIDE]
        if (some[:, :, 0] == some[:, :, 1]).all() and (some[:, :, 1] == some[:, :, 2]).all():
            raise FrameError(
                f"{frame.camera}: the image is grey, whatever its encoding says; perception tells things apart by colour"
            )
        depth = frame.depth_m[::_STRIDE, ::_STRIDE]
        share = float(np.mean(np.isfinite(depth) & (depth > 0)))
        if share < _DEPTH_SHARE:
            raise FrameError(
                f"{frame.camera}: only {share:.0%} of the pixels carry a depth, {_DEPTH_SHARE:.0%} are needed"
            )

    def check_stream(self, frame: CameraFrame, tool: np.ndarray, T_base_camera: np.ndarray) -> None:
        """Raise when the stream stands still: old stamps, or the same image where it must have changed.

        Raises:
            FrameError: names what is wrong.
        """
        last = self._stamp_ns
        if last is not None and frame.stamp_ns == last:
            raise FrameError(
                f"{frame.camera}: the image with stamp {last} came again, not after the last: the driver repeats itself"
            )
        if last is not None and frame.stamp_ns < last:
            raise FrameError(
                f"{frame.camera}: stamp {frame.stamp_ns} is not after the last image's {last}; "
                "the camera's clock runs back, or images come out of order"
            )
        self._stamp_ns = frame.stamp_ns
        u, v, depth = project(tool, T_base_camera, frame.intrinsics)[0]
        in_view = bool(depth > 0 and 0 <= u < frame.rgb.shape[1] and 0 <= v < frame.rgb.shape[0])
        repeated_m = self._still.travel_m(frame.rgb, frame.depth_m, tool) if in_view else 0.0
        if repeated_m > TRAVEL_M:
            raise FrameError(
                f"{frame.camera}: the image is frozen: the tool moved {repeated_m * 1e3:.0f} mm in view and the picture "
                "has not changed but for noise"
            )
        for channel, pixels in zip(self._channels, (frame.rgb, frame.depth_m), strict=True):
            fault = channel.fault(pixels, frame.stamp_ns, tool, in_view)
            if fault:
                raise FrameError(f"{frame.camera}: {fault}")


def measurable(depth_m: np.ndarray) -> np.ndarray:
    """Depth, 0 where it is nearer or farther than such cameras measure: drivers write 65.535, a range's end or millimetres
    there for what they do not know."""
    outside = cv2.bitwise_or(
        cv2.inRange(depth_m, _TINY_M, NEAREST_M), cv2.inRange(depth_m, FARTHEST_M, float("inf"))
    )
    if not cv2.countNonZero(outside):
        return depth_m
    return np.where(outside > 0, np.float32(0), depth_m)


def without_pinholes(depth_m: np.ndarray) -> np.ndarray:
    """Depth whose single unknown pixels, within a surface, have the depth of their neighbours; as it is where few are."""
    unknown = ~(depth_m > 0)
    rows = unknown[::_STRIDE]
    if np.mean(rows[:, 1:-1] & ~rows[:, :-2] & ~rows[:, 2:]) < _PINHOLE_SHARE:
        return depth_m
    square = np.ones((3, 3), np.uint8)
    far = cv2.dilate(np.where(unknown, 0, depth_m), square)
    near = cv2.erode(np.where(unknown, _NOWHERE_M, depth_m), square)
    whole = unknown & (near < _NOWHERE_M) & (far < (1 + _ONE_SURFACE) * np.minimum(near, _NOWHERE_M))
    return np.where(whole, 0.5 * (np.minimum(near, _NOWHERE_M) + far), depth_m)
