"""Pixels of each cylinder, by the hue that its label names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from physai_base.values import CameraFrame
from physai_perception.errors import PerceptionError
from physai_perception.geometry import median, nonzero, rays, transform
from physai_perception.settings import PerceptionSettings

HUES_DEG = {
    "red": 0.0,
    "orange": 28.0,
    "yellow": 56.0,
    "green": 125.0,
    "cyan": 180.0,
    "blue": 222.0,
    "purple": 275.0,
    "pink": 325.0,
}
_MARGIN = 4  # pixels around a blob's bounding box
_COARSE = 2  # every second pixel tells where to look closely
_PIECES = 3  # the largest blobs of one colour that are looked at


@dataclass(frozen=True)
class Blob:
    """Pixels of one colour that may be one object; `mask` covers the image from pixel `origin` on."""

    label: str
    origin: tuple[int, int]  # (u, v)
    mask: np.ndarray  # (h, w) bool
    pixels: int
    points: np.ndarray  # (n, 3) of at most `fit_points` pixels, base frame


class ColourSegmenter:
    """Splits an image into blobs of the colours that the labels name."""

    def __init__(self, sizes_m: Mapping[str, float], settings: PerceptionSettings | None = None) -> None:
        """`sizes_m`: of the thing of each label, how far apart pieces of its colour may be that belong together."""
        self._settings = settings or PerceptionSettings()
        self._sizes_m = dict(sizes_m)
        self._labels = labels = tuple(sizes_m)
        self._classes = self._hue_classes(labels)
        self.largest = dict.fromkeys(labels, 0)
        """Pixels of the largest piece of each label's colour in the last image, whether or not it has a depth."""

    def _hue_classes(self, labels: tuple[str, ...]) -> np.ndarray:
        """Class (256,) of each hue of OpenCV's HSV_FULL: k + 1 for the k-th label, 0 for none."""
        hues = np.arange(256) * 360.0 / 256.0
        distance = np.full((len(labels), 256), np.inf)
        for k, label in enumerate(labels):
            colour = label.split("_")[0]
            if colour not in HUES_DEG:
                raise PerceptionError(
                    f"label {label!r} does not begin with a colour that perception knows: {', '.join(HUES_DEG)}"
                )
            distance[k] = np.abs((hues - HUES_DEG[colour] + 180.0) % 360.0 - 180.0)
        nearest = distance.argmin(axis=0)
        within = distance.min(axis=0) <= self._settings.hue_tolerance_deg
        return np.where(within, nearest + 1, 0).astype(np.uint8)

    def classify(self, rgb: np.ndarray) -> np.ndarray:
        """Class (h, w) uint8 of each pixel: k + 1 for the k-th label, 0 for none."""
        hue, saturation, value = cv2.split(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV_FULL))
        vivid = cv2.min(
            cv2.compare(saturation, 255 * self._settings.min_saturation, cv2.CMP_GE),
            cv2.compare(value, 255 * self._settings.min_value, cv2.CMP_GE),
        )
        return cv2.min(cv2.LUT(hue, self._classes), vivid)

    def blobs(self, frame: CameraFrame, T_base_camera: np.ndarray) -> dict[str, list[Blob]]:
        """Candidates for each label, most pixels first."""
        height, width = frame.rgb.shape[:2]
        size = (width // _COARSE, height // _COARSE)
        coarse = self.classify(cv2.resize(frame.rgb, size, interpolation=cv2.INTER_NEAREST))
        return {
            label: self._of_class(frame, T_base_camera, cv2.compare(coarse, k + 1, cv2.CMP_EQ), k)
            for k, label in enumerate(self._labels)
        }

    def _of_class(self, frame: CameraFrame, T: np.ndarray, coarse: np.ndarray, index: int) -> list[Blob]:
        u, v, width, height = (_COARSE * side for side in cv2.boundingRect(coarse))
        label = self._labels[index]
        self.largest[label] = 0
        if width == 0:
            return []
        u0, v0 = max(u - _MARGIN, 0), max(v - _MARGIN, 0)
        colours = np.ascontiguousarray(frame.rgb[v0 : v + height + _MARGIN, u0 : u + width + _MARGIN])
        crop = cv2.compare(self.classify(colours), index + 1, cv2.CMP_EQ)
        _, numbers, stats, _ = cv2.connectedComponentsWithStats(crop, connectivity=8)
        sizes = stats[1:, cv2.CC_STAT_AREA]
        self.largest[label] = int(sizes.max(initial=0))
        order = [
            int(i) for i in np.argsort(-sizes)[: 2 * _PIECES] if sizes[i] >= self._settings.min_pixels // 2
        ]
        pieces = [(piece := numbers == i + 1, self._points(frame, T, piece, (u0, v0))) for i in order]
        return self._merge(frame, pieces, label, (u0, v0))

    def _merge(
        self,
        frame: CameraFrame,
        pieces: list[tuple[np.ndarray, np.ndarray]],
        label: str,
        origin: tuple[int, int],
    ) -> list[Blob]:
        """Pieces near each other in space are one object that something in front cuts apart."""
        blobs: list[Blob] = []
        pieces = [piece for piece in pieces if len(piece[1]) >= 5]
        while pieces and len(blobs) < _PIECES:
            mask, points = pieces.pop(0)
            centre = median(points)
            near = [np.linalg.norm(median(p) - centre) < self._sizes_m[label] for _, p in pieces]
            for belongs, (other, more) in zip(near, pieces, strict=True):
                if belongs:
                    mask, points = mask | other, np.concatenate([points, more])
            pieces = [piece for belongs, piece in zip(near, pieces, strict=True) if not belongs]
            pixels = int(np.count_nonzero(mask))
            if pixels >= self._settings.min_pixels:
                step = max(1, -(-len(points) // self._settings.fit_points))
                blobs.append(Blob(label, origin, mask, pixels, points[::step]))
        return blobs

    def _points(
        self, frame: CameraFrame, T: np.ndarray, mask: np.ndarray, origin: tuple[int, int]
    ) -> np.ndarray:
        pixels = nonzero(mask)
        u, v = (pixels[:: max(1, len(pixels) // (2 * self._settings.fit_points))] + origin).T
        depth = frame.depth_m[v, u].astype(float)
        known = np.isfinite(depth) & (depth > 0)
        return transform(T, rays(u[known], v[known], frame.intrinsics) * depth[known, None])
