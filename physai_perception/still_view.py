"""Notices a stream that shows the same picture again and again, also with fresh noise on it, while the tool moves in view."""

from __future__ import annotations

import cv2
import numpy as np

BLOCK = 16  # pixels: over so many noise is averaged away
COLOUR_LEVELS = 5.0  # of 255, of a block's mean, after what the whole picture's brightness has changed by
DEPTH_M = 0.02  # of a block's mean
TRAVEL_M = 0.08  # of the tool in view: some arm must have left some block by then


class StillView:
    """Compares each picture with the one at which something last changed."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget it."""
        self._colour: np.ndarray | None = None
        self._depth: np.ndarray | None = None
        self._tool: np.ndarray | None = None

    def travel_m(self, rgb: np.ndarray, depth_m: np.ndarray, tool: np.ndarray) -> float:
        """How far the tool (3,) m has moved since a picture (h, w, 3) uint8 with its depth (h, w) m last changed; 0 if now."""
        size = max(1, rgb.shape[1] // BLOCK), max(1, rgb.shape[0] // BLOCK)
        colour = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        finite = cv2.checkRange(depth_m)[0]
        known = depth_m if finite else np.nan_to_num(depth_m, nan=0.0, posinf=0.0, neginf=0.0)
        depth = cv2.resize(known.astype(np.float32, copy=False), size, interpolation=cv2.INTER_AREA)
        if self._colour is None or self._depth is None or self._tool is None:
            changed = True
        else:
            difference = colour - self._colour
            difference -= np.median(difference, axis=(0, 1))
            changed = bool(
                np.abs(difference).max() > COLOUR_LEVELS or np.abs(depth - self._depth).max() > DEPTH_M
            )
        if changed or self._tool is None:
            self._colour, self._depth, self._tool = colour, depth, tool.copy()
            return 0.0
        return float(np.linalg.norm(tool - self._tool))
