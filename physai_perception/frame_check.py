"""Refuses images that say nothing about the scene."""

from __future__ import annotations

import numpy as np

from physai_base.embodiment import Camera
from physai_base.values import CameraFrame
from physai_perception.errors import FrameError
from physai_perception.geometry import project
from physai_perception.still_view import TRAVEL_M, StillView

_STRIDE = 8
_DARK = 10  # of 255: the brightest pixels of a covered or dead camera stay below
_FLAT = 2  # of 255: an image without any contrast
_DEPTH_SHARE = 0.15  # of pixels that must carry a depth
_FROZEN_TRAVEL_M = 0.03  # of the tool in view, without a single pixel changing


class FrameCheck:
    """Checks each image of one camera; it remembers the last one to notice a frozen stream."""

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self.reset()

    def reset(self) -> None:
        """Forget the last image."""
        self._stamp_ns: int | None = None
        self._rgb: np.ndarray | None = None
        self._depth: np.ndarray | None = None
        self._changed_at: np.ndarray | None = None  # tool position when the image last changed
        self._still = StillView()

    def check(self, frame: CameraFrame) -> None:
        """Raise unless `frame` alone is usable.

        Raises:
            FrameError: names what is wrong.
        """
        camera = self._camera
        shape = (camera.height, camera.width)
        if frame.rgb.shape != (*shape, 3) or frame.rgb.dtype != np.uint8:
            raise FrameError(
                f"{frame.camera}: image is {frame.rgb.dtype}{list(frame.rgb.shape)}; "
                f"the embodiment file promises uint8{[*shape, 3]}"
            )
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
        depth = frame.depth_m[::_STRIDE, ::_STRIDE]
        share = float(np.mean(np.isfinite(depth) & (depth > 0)))
        if share < _DEPTH_SHARE:
            raise FrameError(
                f"{frame.camera}: only {share:.0%} of the pixels carry a depth, {_DEPTH_SHARE:.0%} are needed"
            )

    def check_stream(self, frame: CameraFrame, tool: np.ndarray, T_base_camera: np.ndarray) -> None:
        """Raise when the stream stands still: old stamps, or the same image while the tool moves in view.

        Raises:
            FrameError: names what is wrong.
        """
        last = self._stamp_ns
        if last is not None and frame.stamp_ns <= last:
            raise FrameError(
                f"{frame.camera}: stamp {frame.stamp_ns} is not after the last image's {last}; "
                "call reset() when time starts again"
            )
        self._stamp_ns = frame.stamp_ns
        same = (
            self._rgb is not None
            and self._depth is not None
            and np.array_equal(frame.rgb[::2], self._rgb)
            and np.array_equal(frame.depth_m[::2], self._depth)
        )
        u, v, depth = project(tool, T_base_camera, frame.intrinsics)[0]
        in_view = depth > 0 and 0 <= u < frame.rgb.shape[1] and 0 <= v < frame.rgb.shape[0]
        repeated_m = self._still.travel_m(frame.rgb, frame.depth_m, tool) if in_view else 0.0
        if repeated_m > TRAVEL_M:
            raise FrameError(
                f"{frame.camera}: the image is frozen: the tool moved {repeated_m * 1e3:.0f} mm in view and the picture "
                "has not changed but for noise"
            )
        if not same or self._changed_at is None:
            self._rgb, self._depth = frame.rgb[::2].copy(), frame.depth_m[::2].copy()
            self._changed_at = tool
            return
        travel = float(np.linalg.norm(tool - self._changed_at))
        if in_view and travel > _FROZEN_TRAVEL_M:
            raise FrameError(
                f"{frame.camera}: the image is frozen: the tool moved {travel * 1e3:.0f} mm in view and no pixel changed"
            )
