"""Colours of the cell."""

from __future__ import annotations

import cv2
import numpy as np

WOOD = np.array([0.72, 0.55, 0.36])
TABLE_GREY = np.array([0.55, 0.55, 0.55])


def hsv_to_rgb(hsv: tuple[float, float, float]) -> np.ndarray:
    """RGB (3,) in 0..1 of hue in degrees, saturation and value in 0..1."""
    pixel = np.array([[[hsv[0] % 360.0, hsv[1], hsv[2]]]], dtype=np.float32)
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0].astype(float)


def hue_of(rgb: np.ndarray) -> float:
    """Degrees, of RGB (3,) in 0..1."""
    return float(cv2.cvtColor(np.asarray(rgb, np.float32).reshape(1, 1, 3), cv2.COLOR_RGB2HSV)[0, 0, 0])
