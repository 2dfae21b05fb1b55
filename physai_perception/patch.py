"""Measures patches of colour on the surface that they lie on: marks of known size, and stains of which less and less is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from physai_base.values import CameraFrame
from physai_perception.fitting import Guess, ShapeFit, Sighting, upright_turn, yaw_of
from physai_perception.geometry import median, nonzero, project, rays, rays_on_level, rim
from physai_perception.segmentation import Blob
from physai_perception.settings import PerceptionSettings

_ON_LEVEL_M = 0.006  # of the surface: what is further above it hides it
_NEXT_TO_PIXELS = (
    0,
    3,
    5,
)  # beyond an end of the colour: whether something hides the rest of it begins so far off
_GATES_M = (0.05, 0.03, 0.015, 0.008, 0.005, 0.005, 0.005)
_HUBER_M = 0.0015
_ON_M = 0.003
_RIM_SIGMA_M = 0.0015
_CORRELATION = 10.0
_PRIOR_SIGMA = np.array([0.03, 0.03, 0.3])  # m, rad
_RIM_POINTS = 200
_LEAST_RIM = 8
_FLOOR = np.array([0.0006**2, 0.0006**2, 0.001**2])
_GRID = np.stack(np.meshgrid(np.linspace(-0.5, 0.5, 25), np.linspace(-0.5, 0.5, 25)), -1).reshape(-1, 2)
_PIXEL_M = 0.003  # about one, on the table
_EMPTY_SHARE = 0.7  # of a mark's place seen without it
_WHOLE = 0.8  # of the longer side of a stain must be left for its direction to be seen
_YAW_SIGMA_RAD, _NO_YAW_RAD = 0.03, 3.0


@dataclass(frozen=True)
class _Colour:
    """A blob's pixels on one surface."""

    level_m: float
    points: np.ndarray  # (n, 2) m, base frame
    rim: np.ndarray  # (m, 2) where the colour ends
    free: np.ndarray  # (m,) bool: it ends there because the patch does


def _colour(frame: CameraFrame, blob: Blob, T: np.ndarray) -> _Colour | None:
    pixels = nonzero(blob.mask) + blob.origin
    z = _heights(frame, T, pixels)
    known = np.isfinite(z)
    if np.count_nonzero(known) < 5:
        return None
    level = float(median(z[known]))
    pixels = pixels[~(np.abs(z - level) > _ON_LEVEL_M)]
    mask = np.zeros(blob.mask.shape, np.uint8)
    mask[pixels[:, 1] - blob.origin[1], pixels[:, 0] - blob.origin[0]] = 1
    whole = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))  # but for single wrong depths
    inside, outside, step = rim(whole.astype(bool))
    inside, outside = inside + blob.origin, outside + blob.origin
    edge = (inside + outside) / 2
    free = np.ones(len(edge), bool)
    height, width = frame.depth_m.shape
    for reach in _NEXT_TO_PIXELS:
        next_to = np.rint(outside + 2 * reach * step).astype(int)
        free &= (next_to >= 0).all(axis=1) & (next_to[:, 0] < width) & (next_to[:, 1] < height)
        above = _heights(frame, T, np.clip(next_to, 0, (width - 1, height - 1))) - level
        free &= ~(above > _ON_LEVEL_M)
    return _Colour(level, _on(frame, T, pixels, level), _on(frame, T, edge, level), free)


def _heights(frame: CameraFrame, T: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Heights (n,) of what pixels (n, 2) show, NaN where unknown."""
    depth = frame.depth_m[pixels[:, 1], pixels[:, 0]].astype(float)
    z = depth * (rays(pixels[:, 0], pixels[:, 1], frame.intrinsics) @ T[2, :3]) + T[2, 3]
    return np.where(np.isfinite(depth) & (depth > 0), z, np.nan)


def _on(frame: CameraFrame, T: np.ndarray, pixels: np.ndarray, level_m: float) -> np.ndarray:
    return rays_on_level(pixels[:, 0], pixels[:, 1], frame.intrinsics, T, level_m)[:, :2]


def _in_view(frame: CameraFrame, T: np.ndarray, points: np.ndarray, level_m: float) -> np.ndarray:
    """Which of the places (n, 2) on a surface (n,) bool the image shows, nothing being in front."""
    pixels = project(np.column_stack([points, np.full(len(points), level_m)]), T, frame.intrinsics)
    height, width = frame.depth_m.shape
    u, v = np.rint(pixels[:, 0]).astype(int), np.rint(pixels[:, 1]).astype(int)
    inside = (pixels[:, 2] > 0) & (u >= 0) & (v >= 0) & (u < width) & (v < height)
    shown = np.zeros(len(points), bool)
    z = _heights(frame, T, np.column_stack([u[inside], v[inside]]))
    shown[inside] = ~(z - level_m > _ON_LEVEL_M)
    return shown


class MarkFitter:
    """Finds a patch that keeps its size: its outline is an ellipse or a rectangle of those extents."""

    def __init__(
        self, size_m: tuple[float, float, float], settings: PerceptionSettings | None = None
    ) -> None:
        self._size_m = np.array(size_m, dtype=float)
        self._round = abs(size_m[0] - size_m[1]) < 1e-4
        self._settings = settings or PerceptionSettings()

    def fit(
        self,
        frame: CameraFrame,
        blob: Blob,
        T_base_camera: np.ndarray,
        supports_m: tuple[float, ...] = (0.0,),
        guess: Guess | None = None,
    ) -> ShapeFit | None:
        """Where its outline explains best where the colour ends."""
        colour = _colour(frame, blob, T_base_camera)
        if colour is None or np.count_nonzero(colour.free) < _LEAST_RIM:
            return None
        ends = colour.rim[colour.free]
        ends = ends[:: max(1, -(-len(ends) // _RIM_POINTS))]
        low, high = colour.points.min(axis=0), colour.points.max(axis=0)
        starts = [
            np.append((low + high) / 2, 0.0),
            np.append(colour.points.mean(axis=0), self._along(colour)),
        ]
        if guess is not None:
            starts.append(np.append(guess.origin[:2], yaw_of(guess.rotation)))
        found = [self._refine(outline, ends, start) for outline in (_ellipse, _rectangle) for start in starts]
        state, information, residual = min(
            found, key=lambda one: float(np.mean(np.minimum(one[2], 0.01) ** 2))
        )
        rms, inliers = (
            float(np.sqrt(np.mean(np.minimum(residual, 0.01) ** 2))),
            float(np.mean(residual < _ON_M)),
        )
        if rms > self._settings.fit_rms_m or inliers < 0.6:
            return None
        origin = np.append(state[:2], colour.level_m)
        covariance = np.diag([0, 0, _FLOOR[2], 0.01**2, 0.01**2, 0])
        order = np.ix_([0, 1, 5], [0, 1, 5])
        covariance[order] = np.linalg.inv(information / _CORRELATION) + np.diag([*_FLOOR[:2], 0.005**2])
        return ShapeFit(origin, upright_turn(state[2]), self._size_m, covariance, rms, inliers)

    def visibility(self, frame: CameraFrame, blob: Blob, T_base_camera: np.ndarray, fit: ShapeFit) -> float:
        """Share of the mark that nothing hides."""
        return float(_in_view(frame, T_base_camera, self._places(fit), float(fit.origin[2])).mean())

    def unseen(self, frame: CameraFrame, T_base_camera: np.ndarray, guess: Guess | None) -> Sighting:
        """Whether its place is seen without it."""
        if guess is None:
            return Sighting(None)
        shown = _in_view(frame, T_base_camera, self._places(guess), float(guess.origin[2]))
        return Sighting(None, 0.0, float(shown.mean()) > _EMPTY_SHARE)

    def _places(self, at: Guess) -> np.ndarray:
        within = _GRID[(_GRID**2).sum(axis=1) <= 0.25]
        return (within * self._size_m[:2]) @ at.rotation[:2, :2].T + at.origin[:2]

    def _along(self, colour: _Colour) -> float:
        """Yaw by how the colour is spread."""
        if self._round:
            return 0.0
        spread = np.cov(colour.points.T)
        x, y = np.linalg.eigh(spread)[1][:, 1 if self._size_m[0] > self._size_m[1] else 0]
        return float(np.arctan2(y, x))

    def _refine(
        self,
        outline: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
        ends: np.ndarray,
        start: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Gauss-Newton: state (x, y, yaw), information and distances (m,) of the ends from the outline."""
        state, half = start.copy(), self._size_m[:2] / 2
        prior = 1 / _PRIOR_SIGMA**2
        for gate_m in _GATES_M:
            turn = upright_turn(state[2])[:2, :2]
            local = (ends - state[:2]) @ turn
            distance, normal = outline(local, half)  # of the own axes
            rows = np.column_stack(
                [-normal @ turn.T, normal[:, 0] * local[:, 1] - normal[:, 1] * local[:, 0]]
            )
            size = np.abs(distance)
            weight = np.where(size < gate_m, 1.0 / np.maximum(1.0, size / _HUBER_M), 0.0) / _RIM_SIGMA_M**2
            information = rows.T @ (weight[:, None] * rows) + np.diag(prior)
            step = -np.linalg.solve(information, rows.T @ (weight * distance) + prior * (state - start))
            state = state + np.clip(step, -0.03, 0.03)
        local = (ends - state[:2]) @ upright_turn(state[2])[:2, :2]
        return state, information, np.abs(outline(local, half)[0])


def _ellipse(local: np.ndarray, half: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances (m,) from an ellipse, to first order, and outward normals (m, 2)."""
    scaled = local / half
    radius = np.sqrt((scaled**2).sum(axis=1)) + 1e-9
    gradient = scaled / half / radius[:, None]
    slope = np.sqrt((gradient**2).sum(axis=1)) + 1e-9
    return (radius - 1) / slope, gradient / slope[:, None]


def _rectangle(local: np.ndarray, half: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances (m,) from a rectangle and outward normals (m, 2)."""
    out = np.abs(local) - half
    axis = out.argmax(axis=1)
    each = np.arange(len(local))
    normal = np.zeros_like(local)
    normal[each, axis] = np.sign(local[each, axis])
    return out[each, axis], normal


class StainFitter:
    """Measures what is left of a patch: the extents, along its own axes, of the colour that is seen and of what hides places that had
    it when last seen. Its axes are those of the whole one, and the base frame's where it has no longer side."""

    def __init__(
        self, size_m: tuple[float, float, float], settings: PerceptionSettings | None = None
    ) -> None:
        self._size_m = np.array(size_m, dtype=float)
        self._long = float(np.abs(self._size_m[0] - self._size_m[1])) > 1e-4
        self._settings = settings or PerceptionSettings()

    def fit(
        self,
        frame: CameraFrame,
        blob: Blob,
        T_base_camera: np.ndarray,
        supports_m: tuple[float, ...] = (0.0,),
        guess: Guess | None = None,
    ) -> ShapeFit | None:
        """The extents of what is left of it."""
        colour = _colour(frame, blob, T_base_camera)
        if colour is None:
            return None
        middle = median(colour.points) if guess is None or not guess.size_m[0] else guess.origin[:2]
        reach = float(np.linalg.norm(self._size_m[:2]))
        seen = colour.rim[np.linalg.norm(colour.rim - middle, axis=1) < reach]
        if not len(seen):
            return None
        hidden = self._hidden(frame, T_base_camera, guess, colour.level_m)
        yaw, sigma = self._yaw(seen, guess)
        return self._extents(np.concatenate([seen, hidden]), colour.level_m, yaw, sigma)

    def visibility(self, frame: CameraFrame, blob: Blob, T_base_camera: np.ndarray, fit: ShapeFit) -> float:
        """Share of the extents that nothing hides."""
        shown = _in_view(frame, T_base_camera, _cells(fit), float(fit.origin[2]))
        return float(shown.mean())

    def unseen(self, frame: CameraFrame, T_base_camera: np.ndarray, guess: Guess | None) -> Sighting:
        """What may be left of it where something hides its place; nothing where that is seen without it."""
        if guess is None:
            return Sighting(None)
        level, yaw = float(guess.origin[2]), yaw_of(guess.rotation)
        hidden = self._hidden(frame, T_base_camera, guess, level)
        if len(hidden) == len(_GRID):
            return Sighting(None)
        if len(hidden):
            return Sighting(self._extents(hidden, level, yaw, _NO_YAW_RAD), 1 - len(hidden) / len(_GRID))
        gone = ShapeFit(guess.origin, guess.rotation, np.zeros(3), _stain_covariance(_NO_YAW_RAD), 0.0, 1.0)
        return Sighting(gone, 1.0)

    def _yaw(self, seen: np.ndarray, guess: Guess | None) -> tuple[float, float]:
        """Of its longer side, and its standard deviation: of the colour while that is nearly whole, then as it was."""
        if not self._long:
            return 0.0, _NO_YAW_RAD
        across = cv2.minAreaRect((seen * 1000).astype(np.float32))
        length, yaw = max(across[1]) / 1000, np.radians(across[2])
        if (across[1][0] < across[1][1]) == (self._size_m[0] > self._size_m[1]):
            yaw += np.pi / 2
        if length > _WHOLE * self._size_m[:2].max():
            return float(yaw), _YAW_SIGMA_RAD
        return (0.0, _NO_YAW_RAD) if guess is None else (yaw_of(guess.rotation), _NO_YAW_RAD)

    @staticmethod
    def _hidden(frame: CameraFrame, T: np.ndarray, guess: Guess | None, level_m: float) -> np.ndarray:
        """Places (n, 2) within the last extents that something hides."""
        if guess is None or not guess.size_m[0] > 0:
            return np.zeros((0, 2))
        cells = _cells(guess)
        return cells[~_in_view(frame, T, cells, level_m)]

    def _extents(self, points: np.ndarray, level_m: float, yaw: float, yaw_sigma: float) -> ShapeFit:
        rotation = upright_turn(yaw)
        local = points @ rotation[:2, :2]
        ends = [_end(local, axis, side) for side in (-1, 1) for axis in (0, 1)]
        low, high = np.array(ends[:2]), np.array(ends[2:])
        origin = np.append(rotation[:2, :2] @ (low + high) / 2, level_m)
        size = np.append(high - low, self._size_m[2])
        return ShapeFit(origin, rotation, size, _stain_covariance(yaw_sigma), 0.0, 1.0)


def _stain_covariance(yaw_sigma: float) -> np.ndarray:
    return np.diag([*_FLOOR, 0.01**2, 0.01**2, yaw_sigma**2])


def _end(points: np.ndarray, axis: int, side: int) -> float:
    """Where points end along an axis: the mean of those next to the last one, since an edge is steps of pixels."""
    along = side * points[:, axis]
    return side * float(along[along > along.max() - _PIXEL_M].mean())


def _cells(at: Guess) -> np.ndarray:
    return (_GRID * at.size_m[:2]) @ at.rotation[:2, :2].T + at.origin[:2]
