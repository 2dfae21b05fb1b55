"""Fits a box of known size, standing on one of its faces, to the visible part of its surface and to its outline."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from physai_base.values import CameraFrame
from physai_perception.fitting import (
    Guess,
    Rim,
    ShapeFit,
    Sighting,
    find_rim,
    seen_through,
    upright_turn,
    yaw_of,
)
from physai_perception.geometry import inverse, median
from physai_perception.segmentation import Blob
from physai_perception.settings import PerceptionSettings

_HUBER_M = 0.002
_GATES_M = (0.03, 0.02, 0.012, 0.008, 0.006, 0.005, 0.005)  # of a point from the box, iteration by iteration
_OUTLINE_SIGMA_M = 0.001  # of where a pixel of the outline is
_PRIOR_SIGMA = np.array([0.03, 0.03, 0.03, 0.5])  # m, rad: keeps what is not observed from running away
_CORRELATION = 25.0  # neighbouring pixels err together: so many count as one
_BEYOND_M = 0.012  # by which more may be seen of a box than it has, since depth is noisy
_CAP_M = 0.01  # a point further off than this says no more than that it is off
_ON_M, _ON_OUTLINE_M = 0.003, 0.004
_OUTLINE_POINTS = 140
_NEAR_M = 0.006
_LEAST_INLIERS = 0.5
_LARGEST = 0.8  # of its diagonal: so far from the middle of what is seen of it may the rest be
_CLEAR_RMS_M, _CLEAR_OUTLINE, _CLEAR_INLIERS = 0.003, 0.9, 0.6
_STAYS = np.array([0.01, 0.01, 0.01, 0.1])  # m, rad: a box that is where it was is looked for nowhere else,
_STAYS_INLIERS = 0.85  # though something hides much of it
_OTHER_FACE = 0.5  # of the cost of standing: a box on another face must do so much better
_YAW_STEP_RAD = np.radians(22.5)
_OTHER_YAW = 0.3  # sine: of the starts the best one is refined, and the best one that is turned by more than this from it
_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (0, 1)]) * [0.5, 0.5, 1.0]
_FLOOR = np.diag([0.0005**2] * 3 + [0.003**2])  # what no number of pixels makes better


@dataclass(frozen=True)
class _View:
    """What of a box one image shows."""

    points: np.ndarray  # (n, 3) of its surface, base frame
    outline: np.ndarray  # (m, 2) pixels
    T_base_camera: np.ndarray
    intrinsics: np.ndarray

    @cached_property
    def T_camera_base(self) -> np.ndarray:
        return inverse(self.T_base_camera)


@dataclass(frozen=True)
class _Standing:
    """A box on one of its faces."""

    extents_m: np.ndarray  # (3,) along its two horizontal axes, and its height
    state: np.ndarray  # (4,) x, y, z of the middle of the lower face, and yaw of the first axis
    information: np.ndarray  # (4, 4)
    surface: np.ndarray  # (n,) distances of the points, m
    outline: np.ndarray  # (m,)

    @property
    def cost(self) -> float:
        """Mean square, m^2."""
        return float(np.mean(np.minimum(np.abs(np.concatenate([self.surface, self.outline])), _CAP_M) ** 2))

    @property
    def rms_m(self) -> float:
        """Of the points that are of its faces, not of the inside of a hole or of what else has its colour."""
        near = self.surface[np.abs(self.surface) < _NEAR_M]
        return float(np.sqrt(np.mean(near**2))) if len(near) else _NEAR_M

    @property
    def inliers(self) -> float:
        on = np.count_nonzero(np.abs(self.surface) < _ON_M)
        on += np.count_nonzero(np.abs(self.outline) < _ON_OUTLINE_M)
        return on / (len(self.surface) + len(self.outline))

    @property
    def clear(self) -> bool:
        """Whether no other start need be tried; a hole in it changes nothing about its outline."""
        outlined = np.mean(np.abs(self.outline) < _ON_OUTLINE_M) if len(self.outline) else 0.0
        return self.rms_m < _CLEAR_RMS_M and outlined > _CLEAR_OUTLINE and self.inliers > _CLEAR_INLIERS


class BoxFitter:
    """Finds the pose of a box of known size from one blob."""

    def __init__(
        self, size_m: tuple[float, float, float], settings: PerceptionSettings | None = None
    ) -> None:
        self._size_m = np.array(size_m, dtype=float)
        self._faces = [2] + [axis for axis in (0, 1) if abs(size_m[axis] - size_m[2]) > _ON_M]
        self._settings = settings or PerceptionSettings()

    def fit(
        self,
        frame: CameraFrame,
        blob: Blob,
        T_base_camera: np.ndarray,
        supports_m: tuple[float, ...] = (0.0,),
        guess: Guess | None = None,
    ) -> ShapeFit | None:
        """The pose that explains the blob best, or None when no box of this size does."""
        away = np.linalg.norm(blob.points - median(blob.points), axis=1)
        near = away < _LARGEST * np.linalg.norm(self._size_m) + 0.01
        if near.mean() < 0.9:
            return None
        points = blob.points[near]
        faces = [up for up in self._faces if not _too_large(points, _on_face(self._size_m, up))]
        if not faces:
            return None
        edge = find_rim(frame, blob, T_base_camera)
        outline = edge.pixels[:: max(1, -(-len(edge.pixels) // _OUTLINE_POINTS))]
        view = _View(points, outline, T_base_camera, frame.intrinsics)
        best: tuple[int, _Standing] | None = None
        for up in faces:
            if best is None or not best[1].clear:
                box = self._stand(
                    view, edge, _on_face(self._size_m, up), supports_m, guess if up == 2 else None
                )
                if best is None or box.cost < _OTHER_FACE * best[1].cost:
                    best = up, box
        assert best is not None
        up, box = best
        if not (box.rms_m <= self._settings.fit_rms_m and box.inliers > _LEAST_INLIERS):
            return None
        return self._fit(box, up)

    def visibility(self, frame: CameraFrame, blob: Blob, T_base_camera: np.ndarray, fit: ShapeFit) -> float:
        """Share of the box's picture that the blob covers."""
        local = (_CORNERS * self._size_m) @ fit.rotation.T + fit.origin
        pixels, _, _ = _project(local, inverse(T_base_camera), frame.intrinsics)
        area = float(cv2.contourArea(cv2.convexHull(pixels.astype(np.float32))))
        return min(1.0, blob.pixels / max(area, 1.0))

    def unseen(self, frame: CameraFrame, T_base_camera: np.ndarray, guess: Guess | None) -> Sighting:
        """Whether its place is seen to be empty."""
        absent = guess is not None and seen_through(frame, T_base_camera, guess, float(self._size_m[2]))
        return Sighting(None, 0.0, absent)

    def _fit(self, box: _Standing, up: int) -> ShapeFit:
        rotation = upright_turn(box.state[3]) @ _FACES[up]
        middle = box.state[:3] + [0.0, 0.0, box.extents_m[2] / 2]
        origin = middle - rotation[:, 2] * self._size_m[2] / 2
        on = np.abs(box.surface) < _ON_M
        sigma = self._settings.depth_sigma_m
        spread = max(float(np.sqrt(np.mean(box.surface[on] ** 2))) if on.any() else sigma, 0.5 * sigma)
        standing = np.linalg.inv(box.information / _CORRELATION) * (spread / sigma) ** 2 + _FLOOR
        covariance = np.diag([0, 0, 0, 0.02**2, 0.02**2, 0])
        order = np.ix_([0, 1, 2, 5], [0, 1, 2, 5])
        covariance[order] = standing
        return ShapeFit(origin, rotation, self._size_m, covariance, box.rms_m, box.inliers)

    def _stand(
        self,
        view: _View,
        edge: Rim,
        extents_m: np.ndarray,
        supports_m: tuple[float, ...],
        guess: Guess | None,
    ) -> _Standing:
        """The best box with these extents; where the last one was is tried first."""
        if guess is not None:
            was = np.append(guess.origin, yaw_of(guess.rotation))
            near = self._refine(view, extents_m, was)
            stays = bool((np.abs(near.state - was) < _STAYS).all()) and near.inliers > _STAYS_INLIERS
            if near.clear or (stays and near.rms_m < _CLEAR_RMS_M):
                return near
        feet = self._feet(view.points[:, 2], edge, float(extents_m[2]), supports_m, guess)
        starts = [
            _evaluated(view, extents_m, np.array([*middle, foot, yaw]))
            for yaw in self._yaws(view, extents_m, guess)
            for middle in _middles(view, extents_m, yaw)
            for foot in feet
        ]
        starts.sort(key=lambda box: box.cost)
        elsewhere = [box for box in starts if abs(np.sin(box.state[3] - starts[0].state[3])) > _OTHER_YAW]
        refined = [self._refine(view, extents_m, box.state) for box in (starts[:1] + elsewhere[:1])]
        return min(refined if guess is None else [*refined, near], key=lambda box: box.cost)

    @staticmethod
    def _feet(
        z: np.ndarray, edge: Rim, height_m: float, supports_m: tuple[float, ...], guess: Guess | None
    ) -> list[float]:
        """Heights on which it may stand, by its top, by its lower end, or else by what it may stand on."""
        feet: list[float] = []
        highest = -(-len(z) // 50)  # of 50 points, leave one out
        top = float(np.partition(z, -highest)[-highest])
        if edge.up_cut < 0.5 or np.mean(z > top - _ON_M) > 0.15:
            feet.append(top - height_m)
        ends = edge.points[edge.down, 2]
        if len(ends) >= 4 and edge.down_cut < 0.5:
            low = np.partition(ends, len(ends) // 8)[len(ends) // 8]
            foot = float(median(ends[np.abs(ends - low) < 0.01]))
            feet += [foot] if not feet or abs(feet[0] - foot) > 0.008 else []
        if not feet:
            fits = [s for s in supports_m if s <= z.min() + 0.01 and top <= s + height_m + 0.01]
            was = guess is not None and top - height_m - 0.01 <= guess.origin[2] <= z.min() + 0.01
            feet = [float(guess.origin[2])] if was and guess is not None else fits or [top - height_m]
        return feet

    @staticmethod
    def _yaws(view: _View, extents_m: np.ndarray, guess: Guess | None) -> list[float]:
        """Of the first horizontal axis: as the rectangle around its top has it, as it was, and all around."""
        x, y = extents_m[:2]
        period = np.pi / 2 if abs(x - y) < 1e-4 else np.pi
        yaws = list(np.arange(0.0, period, _YAW_STEP_RAD))
        points = view.points
        top = points[points[:, 2] > np.partition(points[:, 2], -3)[-3] - _ON_M]
        if len(top) >= 10:
            degrees = cv2.minAreaRect((top[:, :2] * 1000).astype(np.float32))[2]
            yaws += [float(np.radians(degrees)) + k * np.pi / 2 for k in range(round(2 * period / np.pi))]
        return yaws if guess is None else [*yaws, yaw_of(guess.rotation)]

    def _refine(self, view: _View, extents_m: np.ndarray, start: np.ndarray) -> _Standing:
        """Gauss-Newton of the points on the surface and of the outline on the box's outline."""
        state = start.copy()
        sigma = self._settings.depth_sigma_m
        prior = 1 / _PRIOR_SIGMA**2
        for gate_m in _GATES_M:
            surface, surface_rows = _surface(view, extents_m, state)
            outline, outline_rows = _outline(view, extents_m, state)
            residual = np.concatenate([surface, outline])
            rows = np.concatenate([surface_rows, outline_rows])
            size = np.abs(residual)
            weight = np.where(size < gate_m, 1.0 / np.maximum(1.0, size / _HUBER_M), 0.0)
            weight[: len(surface)] /= sigma**2
            weight[len(surface) :] /= _OUTLINE_SIGMA_M**2
            information = rows.T @ (weight[:, None] * rows) + np.diag(prior)
            gradient = rows.T @ (weight * residual) + prior * (state - start)
            step = -np.linalg.solve(information, gradient)
            state = (
                state + np.clip(step, -0.02, 0.02) * [1, 1, 1, 0] + np.clip(step, -0.3, 0.3) * [0, 0, 0, 1]
            )
            if gate_m <= _GATES_M[3] and np.abs(step[:3]).max() < 5e-5:
                break
        done = _evaluated(view, extents_m, state)
        return _Standing(extents_m, state, information, done.surface, done.outline)


# A box on the face across its x, its y or its z axis: that axis is up, the other two are the first and the second horizontal one.
_FACES = (
    np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]),
    np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    np.eye(3),
)


def _on_face(size_m: np.ndarray, up: int) -> np.ndarray:
    """Extents (3,) along the horizontal axes and upwards of a box whose axis `up` is vertical."""
    return np.abs(_FACES[up]) @ size_m


def _evaluated(view: _View, extents_m: np.ndarray, state: np.ndarray) -> _Standing:
    surface, outline = _surface(view, extents_m, state)[0], _outline(view, extents_m, state)[0]
    return _Standing(extents_m, state, np.eye(4), surface, outline)


def _too_large(points: np.ndarray, extents_m: np.ndarray) -> bool:
    """Whether points (n, 3) lie further apart than on a box with these extents."""
    few = len(points) // 100  # may be wrong
    z = np.partition(points[:, 2], (few, -few - 1))
    away = ((points[:, :2] - median(points[:, :2])) ** 2).sum(axis=1)
    sure = away <= np.partition(away, -2 * few - 1)[-2 * few - 1]
    across = cv2.minAreaRect((points[sure, :2] * 1000).astype(np.float32))[1]
    return bool(
        z[-few - 1] - z[few] > extents_m[2] + _BEYOND_M
        or min(across) / 1000 > min(extents_m[:2]) + _BEYOND_M
        or max(across) / 1000 > np.hypot(*extents_m[:2]) + _BEYOND_M
    )


def _middles(view: _View, extents_m: np.ndarray, yaw: float) -> list[np.ndarray]:
    """Where the middle may be, (2,) each: where less than the whole is seen, that is its near or its far end."""
    turn = upright_turn(yaw)[:2, :2]
    local = view.points[:, :2] @ turn
    camera = view.T_base_camera[:2, 3] @ turn
    few = len(local) // 100  # may be wrong
    ends = np.partition(local, (few, -few - 1), axis=0)
    low, high = ends[few], ends[-few - 1]
    along = []
    for axis in range(2):
        half = extents_m[axis] / 2
        if high[axis] - low[axis] > extents_m[axis] - 0.004:
            along.append([(low[axis] + high[axis]) / 2])
        else:
            middles = [high[axis] - half, low[axis] + half]
            along.append(middles if camera[axis] > high[axis] else middles[::-1])
    return [turn @ [x, y] for x in along[0] for y in along[1]]


def _surface(view: _View, extents_m: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances (n,) of the points from the faces that the camera can see, outwards, and rows (n, 4).

    From a face that it cannot see only what lies beyond it is away.
    """
    cosine, sine = np.cos(state[3]), np.sin(state[3])
    x, y, z = (view.points - state[:3]).T
    x, y = cosine * x + sine * y, cosine * y - sine * x
    ox, oy, _ = view.T_base_camera[:3, 3] - state[:3]
    ox, oy = cosine * ox + sine * oy, cosine * oy - sine * ox
    half_x, half_y = extents_m[:2] / 2
    out = np.stack([x - half_x, -x - half_x, y - half_y, -y - half_y, z - extents_m[2], -z])  # (6, n)
    seen = (ox > half_x, -ox > half_x, oy > half_y, -oy > half_y, True, False)
    for face, visible in enumerate(seen):
        if not visible:
            out[face][out[face] < 0] = -np.inf
    face = out.argmax(axis=0)
    distance = out[face, np.arange(len(face))]
    sign = np.where(face % 2 == 0, 1.0, -1.0)
    on_x, on_y, on_z = face < 2, (face == 2) | (face == 3), face > 3
    rows = np.column_stack([
        sign * np.where(on_x, -cosine, np.where(on_y, sine, 0.0)),
        sign * np.where(on_x, -sine, np.where(on_y, -cosine, 0.0)),
        np.where(on_z, -sign, 0.0),
        sign * np.where(on_x, y, np.where(on_y, -x, 0.0)),
    ])  # fmt: skip
    return distance, rows


def _project(
    points: np.ndarray, T_camera_base: np.ndarray, intrinsics: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels (n, 2) of points, their derivative (n, 2, 3) to the points, and depths (n,)."""
    local = points @ T_camera_base[:3, :3].T + T_camera_base[:3, 3]
    depth = np.maximum(local[:, 2], 1e-3)
    x, y = local[:, 0] / depth, local[:, 1] / depth
    focal = intrinsics[0, 0], intrinsics[1, 1]
    R = T_camera_base[:3, :3]
    du = focal[0] / depth[:, None] * (R[0] - x[:, None] * R[2])
    dv = focal[1] / depth[:, None] * (R[1] - y[:, None] * R[2])
    pixels = np.column_stack([focal[0] * x + intrinsics[0, 2], focal[1] * y + intrinsics[1, 2]])
    return pixels, np.stack([du, dv], axis=1), depth


def _outline(view: _View, extents_m: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances (m,) of the outline's pixels from the box's own outline, outwards, as metres at its depth, and rows (m, 4)."""
    offset = (_CORNERS * extents_m) @ upright_turn(state[3]).T
    pixels, by_point, depth = _project(offset + state[:3], view.T_camera_base, view.intrinsics)
    by_yaw = by_point[:, :, 1] * offset[:, :1] - by_point[:, :, 0] * offset[:, 1:2]
    by_state = np.concatenate([by_point, by_yaw[:, :, None]], axis=2)  # (8, 2, 4)
    hull = cv2.convexHull(pixels.astype(np.float32), returnPoints=False)[:, 0]
    a, b = hull, np.roll(hull, -1)
    start, edge = pixels[a], pixels[b] - pixels[a]
    length = np.maximum(np.linalg.norm(edge, axis=1), 1e-6)
    inside = pixels[hull].mean(axis=0)
    normal = np.column_stack([edge[:, 1], -edge[:, 0]]) / length[:, None]
    normal *= np.where(((inside - start) * normal).sum(axis=1) > 0, -1.0, 1.0)[:, None]
    relative = view.outline[:, None] - start  # (m, e, 2)
    along = np.clip((relative * edge).sum(axis=2) / length**2, 0.0, 1.0)
    away = ((relative - along[:, :, None] * edge) ** 2).sum(axis=2)
    which = away.argmin(axis=1)
    each = np.arange(len(which))
    n, t = normal[which], along[each, which][:, None, None]
    distance = np.sqrt(away[each, which]) * np.sign((n * relative[each, which]).sum(axis=1))
    moved = (1 - t) * by_state[a[which]] + t * by_state[b[which]]  # (m, 2, 4)
    metres = float(depth.mean()) / view.intrinsics[0, 0]
    return distance * metres, -metres * (n[:, None] @ moved)[:, 0]
