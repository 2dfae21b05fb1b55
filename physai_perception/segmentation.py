"""Pixels of things, by the hue that their labels name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
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
_SPECK = 4  # pixels: a smaller piece of a patch is noise
_STEP_M = 0.008  # between neighbouring pixels: they are of two things
_STEP_PIXELS = 6  # of such steps in a row
_LEVEL_BIN_M = 0.002
_LEVEL_SHARE = 0.08  # of a piece's points: so many at one height are a face,
_OVER_LEVEL_M = 0.003  # and what is higher than this over it stands on it,
_STANDS_ON_M = 0.008  # if it goes on so far up


def colour_of(label: str) -> str:
    """The first word of a label that is a colour.

    Raises:
        PerceptionError: none is.
    """
    found = next((word for word in label.split("_") if word in HUES_DEG), None)
    if found is None:
        raise PerceptionError(
            f"label {label!r} has no colour among its words; perception knows {', '.join(HUES_DEG)}"
        )
    return found


@dataclass(frozen=True)
class Blob:
    """Pixels of one colour that may be one object; `mask` covers the image from pixel `origin` on."""

    colour: str
    origin: tuple[int, int]  # (u, v)
    mask: np.ndarray  # (h, w) bool
    pixels: int
    points: np.ndarray  # (n, 3) of at most `fit_points` pixels, base frame
    parts: frozenset[int] = (
        frozenset()
    )  # pieces of its colour; two blobs with a part in common are not both right


class ColourSegmenter:
    """Splits an image into blobs of the colours that the labels name."""

    def __init__(
        self,
        sizes_m: Mapping[str, float],
        settings: PerceptionSettings | None = None,
        heights_m: Mapping[str, float] | None = None,
        scattered: Iterable[str] = (),
    ) -> None:
        """`sizes_m`: of the thing of each label, how far apart pieces of its colour may be that belong together; `heights_m`: how
        high it is; `scattered`: labels of what may be in any number of pieces."""
        self._settings = settings or PerceptionSettings()
        self._labels: dict[str, tuple[str, ...]] = {}  # of each colour
        for label in sizes_m:
            colour = colour_of(label)
            self._labels[colour] = (*self._labels.get(colour, ()), label)
        self._reach_m = {
            colour: max(sizes_m[label] for label in labels) for colour, labels in self._labels.items()
        }
        self._heights_m = {
            colour: {(heights_m or {}).get(label, 0.0) for label in labels} - {0.0}
            for colour, labels in self._labels.items()
        }
        self._scattered = {colour_of(label) for label in scattered}
        self._classes = self._hue_classes(tuple(self._labels))
        least = self._settings.min_saturation, self._settings.min_value
        self._least_vivid = (0, *(math.ceil(255 * share) for share in least))
        self.largest = dict.fromkeys(self._labels, 0)
        """Pixels of the largest piece of each colour in the last image, whether or not it has a depth."""

    def _hue_classes(self, colours: tuple[str, ...]) -> np.ndarray:
        """Class (256,) of each hue of OpenCV's HSV_FULL: k + 1 for the k-th colour, 0 for none."""
        hues = np.arange(256) * 360.0 / 256.0
        distance = np.full((len(colours), 256), np.inf)
        for k, colour in enumerate(colours):
            distance[k] = np.abs((hues - HUES_DEG[colour] + 180.0) % 360.0 - 180.0)
        nearest = distance.argmin(axis=0)
        within = distance.min(axis=0) <= self._settings.hue_tolerance_deg
        return np.where(within, nearest + 1, 0).astype(np.uint8)

    def classify(self, rgb: np.ndarray) -> np.ndarray:
        """Class (h, w) uint8 of each pixel: k + 1 for the k-th colour, 0 for none."""
        hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV_FULL)
        vivid = cv2.inRange(hsv, self._least_vivid, (255, 255, 255))
        return cv2.min(cv2.LUT(cv2.extractChannel(hsv, 0), self._classes), vivid)

    def blobs(self, frame: CameraFrame, T_base_camera: np.ndarray) -> dict[str, list[Blob]]:
        """Candidates for the things of each colour, most pixels first."""
        if not self._labels:
            return {}
        height, width = frame.rgb.shape[:2]
        size = (width // _COARSE, height // _COARSE)
        coarse = self.classify(cv2.resize(frame.rgb, size, interpolation=cv2.INTER_NEAREST))
        return {
            colour: self._of_class(frame, T_base_camera, cv2.compare(coarse, k + 1, cv2.CMP_EQ), k, colour)
            for k, colour in enumerate(self._labels)
        }

    def _of_class(
        self, frame: CameraFrame, T: np.ndarray, coarse: np.ndarray, index: int, colour: str
    ) -> list[Blob]:
        u, v, width, height = (_COARSE * side for side in cv2.boundingRect(coarse))
        self.largest[colour] = 0
        if width == 0:
            return []
        u0, v0 = max(u - _MARGIN, 0), max(v - _MARGIN, 0)
        window = np.s_[v0 : v + height + _MARGIN, u0 : u + width + _MARGIN]
        crop = cv2.compare(self.classify(np.ascontiguousarray(frame.rgb[window])), index + 1, cv2.CMP_EQ)
        alone = len(self._labels[colour]) == 1
        if not alone:
            crop[self._behind(frame.depth_m[window])] = 0
        _, numbers, stats, _ = cv2.connectedComponentsWithStats(crop, connectivity=8)
        sizes = stats[1:, cv2.CC_STAT_AREA]
        self.largest[colour] = int(sizes.max(initial=0))
        if alone and colour in self._scattered:
            keep = np.concatenate([[False], sizes >= _SPECK])
            mask = keep[numbers]
            return self._large(colour, (u0, v0), mask, self._points(frame, T, mask, (u0, v0)), frozenset([0]))
        order = [
            int(i) for i in np.argsort(-sizes)[: 2 * _PIECES] if sizes[i] >= self._settings.min_pixels // 2
        ]
        pieces = [(piece := numbers == i + 1, self._points(frame, T, piece, (u0, v0))) for i in order]
        if alone:
            return self._merge(pieces, colour, (u0, v0))
        return self._several(frame, T, pieces, colour, (u0, v0))

    def _merge(
        self, pieces: list[tuple[np.ndarray, np.ndarray]], colour: str, origin: tuple[int, int]
    ) -> list[Blob]:
        """Pieces near each other in space are one object that something in front cuts apart."""
        blobs: list[Blob] = []
        pieces = [piece for piece in pieces if len(piece[1]) >= 5]
        while pieces and len(blobs) < _PIECES:
            mask, points = pieces.pop(0)
            centre = median(points)
            near = [np.linalg.norm(median(p) - centre) < self._reach_m[colour] for _, p in pieces]
            for belongs, (other, more) in zip(near, pieces, strict=True):
                if belongs:
                    mask, points = mask | other, np.concatenate([points, more])
            pieces = [piece for belongs, piece in zip(near, pieces, strict=True) if not belongs]
            blobs += self._large(colour, origin, mask, points, frozenset([len(blobs)]))
        return blobs

    def _several(
        self,
        frame: CameraFrame,
        T: np.ndarray,
        pieces: list[tuple[np.ndarray, np.ndarray]],
        colour: str,
        origin: tuple[int, int],
    ) -> list[Blob]:
        """Of a colour that several things have: each part that may be one of them, then pairs of parts that are near each other."""
        parts = [
            (part, points)
            for mask, whole in pieces
            for part in self._cut(frame, T, mask, whole[:, 2], origin, colour)
            if len(points := self._points(frame, T, part, origin)) >= 5
        ]
        parts.sort(key=lambda part: -np.count_nonzero(part[0]))
        parts = parts[: 2 * _PIECES]
        blobs = [
            blob
            for k, (mask, points) in enumerate(parts)
            for blob in self._large(colour, origin, mask, points, frozenset([k]))
        ]
        for k, (mask, points) in enumerate(parts):
            for j, (other, more) in enumerate(parts[:k]):
                if np.linalg.norm(median(points) - median(more)) < self._reach_m[colour]:
                    both = np.concatenate([more, points])
                    blobs += self._large(colour, origin, mask | other, both, frozenset([j, k]))
        return blobs

    def _large(
        self,
        colour: str,
        origin: tuple[int, int],
        mask: np.ndarray,
        points: np.ndarray,
        parts: frozenset[int],
    ) -> list[Blob]:
        """The blob of a mask, unless it is too small."""
        pixels = int(np.count_nonzero(mask))
        if pixels < self._settings.min_pixels:
            return []
        step = max(1, -(-len(points) // self._settings.fit_points))
        return [Blob(colour, origin, mask, pixels, points[::step], parts)]

    def _cut(
        self,
        frame: CameraFrame,
        T: np.ndarray,
        mask: np.ndarray,
        z: np.ndarray,
        origin: tuple[int, int],
        colour: str,
    ) -> list[np.ndarray]:
        """A mask in slices, where things of one colour may stand on each other; `z` (n,) are heights of its points."""
        if len(z) < 20:
            return [mask]
        heights = self._heights_m[colour]
        cuts = _faces(z) + _OVER_LEVEL_M
        bottom = float(np.partition(z, len(z) // 50)[len(z) // 50])
        if (
            not len(cuts) and z.max() > bottom + max(heights, default=np.inf) + _STANDS_ON_M
        ):  # higher than any of them
            cuts = bottom + np.array(sorted(heights))
        if not len(cuts):
            return [mask]
        v, u = np.nonzero(mask)
        slope = rays(u + origin[0], v + origin[1], frame.intrinsics) @ T[2, :3]
        height = frame.depth_m[v + origin[1], u + origin[0]] * slope + T[2, 3]
        band = np.searchsorted(cuts, height)
        parts = []
        for k in range(len(cuts) + 1):
            part = np.zeros(mask.shape, np.uint8)
            part[v[band == k], u[band == k]] = 1
            parts.append(cv2.medianBlur(part, 3).astype(bool))
        return parts

    @staticmethod
    def _behind(depth: np.ndarray) -> np.ndarray:
        """Pixels (h, w) bool that are the further ones of two neighbours with a step between them."""
        behind = np.zeros(depth.shape, bool)
        for axis in (0, 1):
            step = np.diff(depth, axis=axis)
            low, high = (np.s_[:-1], np.s_[1:]) if axis == 0 else (np.s_[:, :-1], np.s_[:, 1:])
            known = (depth[low] > 0) & (depth[high] > 0)
            behind[high] |= known & (step > _STEP_M)
            behind[low] |= known & (step < -_STEP_M)
        _, numbers, stats, _ = cv2.connectedComponentsWithStats(behind.astype(np.uint8), connectivity=8)
        lines = stats[:, cv2.CC_STAT_AREA] >= _STEP_PIXELS  # the rest is noise
        lines[0] = False
        return lines[numbers]

    def _points(
        self, frame: CameraFrame, T: np.ndarray, mask: np.ndarray, origin: tuple[int, int]
    ) -> np.ndarray:
        pixels = nonzero(mask)
        u, v = (pixels[:: max(1, len(pixels) // (2 * self._settings.fit_points))] + origin).T
        depth = frame.depth_m[v, u].astype(float)
        known = np.isfinite(depth) & (depth > 0)
        return transform(T, rays(u[known], v[known], frame.intrinsics) * depth[known, None])


def _faces(z: np.ndarray) -> np.ndarray:
    """Heights (k,), rising, of horizontal faces that something stands on, from heights (n,) of points."""
    bins = np.arange(z.min(), z.max() + 3 * _LEVEL_BIN_M, _LEVEL_BIN_M)
    count = np.histogram(z, bins)[0] / len(z)
    pair = count[:-1] + count[1:]
    usual = float(np.median(pair))
    levels: list[float] = []
    for k in np.argsort(-pair):
        level = float(bins[k + 1])
        face = pair[k] > max(_LEVEL_SHARE, 2 * usual)
        apart = all(abs(level - other) > 0.01 for other in levels)
        if face and apart and np.mean(z > level + _STANDS_ON_M) > 0.1:
            levels.append(level)
    return np.sort(levels)
