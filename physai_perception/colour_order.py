"""Whether red and blue are exchanged: the boards are the one thing whose colour is known before a cylinder is found."""

from __future__ import annotations

import colorsys

import numpy as np

from physai_base.task import Boards
from physai_base.values import CameraFrame, SceneObject
from physai_perception.errors import FrameError
from physai_perception.geometry import project

_MIN_SATURATION = 0.12  # a paler board says nothing
_MARGIN_DEG = 60.0  # by which the exchanged colour must be nearer
_ON_BOARD_M = 0.01
_LEAST_PIXELS = 30
_GRID = np.linspace(-0.45, 0.45, 12)


class ColourOrder:
    """Compares the boards' hue with what it should be; `hue_deg` below zero: it is not known, nothing is checked."""

    def __init__(self, boards: Boards, hue_deg: float) -> None:
        self._hue_deg = hue_deg
        x, y = np.meshgrid(_GRID * boards.board_size_m[0], _GRID * boards.board_size_m[1])
        self._grid = np.column_stack([x.ravel(), y.ravel()])

    def check(self, frame: CameraFrame, T_base_camera: np.ndarray, boards: tuple[SceneObject, ...]) -> None:
        """Raise when the boards show the colour that they would have with red and blue exchanged.

        Raises:
            FrameError: they do.
        """
        if self._hue_deg < 0 or not boards:
            return
        pixels = np.concatenate([self._of(frame, T_base_camera, board) for board in boards])
        if len(pixels) < _LEAST_PIXELS:
            return
        r, g, b = np.median(pixels, axis=0) / 255.0
        hue, saturation, _ = colorsys.rgb_to_hsv(r, g, b)
        if saturation < _MIN_SATURATION:
            return
        exchanged = colorsys.rgb_to_hsv(b, g, r)[0]
        if self._away(hue) > self._away(exchanged) + _MARGIN_DEG:
            raise FrameError(
                f"{frame.camera}: red and blue are exchanged: the boards show a hue of {360 * hue:.0f} degrees where "
                f"board_hue_deg says {self._hue_deg:g}; the driver labels bgr as rgb, or the other way round (or the boards have "
                "another colour: then set board_hue_deg, -1 for unknown)"
            )

    def _away(self, hue: float) -> float:
        return abs((360 * hue - self._hue_deg + 180.0) % 360.0 - 180.0)

    def _of(self, frame: CameraFrame, T: np.ndarray, board: SceneObject) -> np.ndarray:
        """Colours (n, 3) of pixels that show the board's upper side, and nothing on it."""
        w, _, _, z = board.orientation
        yaw = 2 * np.arctan2(z, w)
        turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
        points = np.column_stack(
            [self._grid @ turn.T + board.position_m[:2], np.full(len(self._grid), board.position_m[2])]
        )
        seen = project(points, T, frame.intrinsics)
        height, width = frame.depth_m.shape
        u, v = np.rint(seen[:, 0]).astype(int), np.rint(seen[:, 1]).astype(int)
        inside = (seen[:, 2] > 0) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
        u, v, depth = u[inside], v[inside], seen[inside, 2]
        on = np.abs(frame.depth_m[v, u] - depth) < _ON_BOARD_M
        return frame.rgb[v[on], u[on]].astype(float)
