"""Finds the boards: horizontal, at known heights, rigidly related, and where their edges run."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from physai_base.task import Boards
from physai_base.values import CameraFrame
from physai_perception.geometry import median, nonzero, project, rays_on_level, rim
from physai_perception.settings import PerceptionSettings

_NEARER_M = 0.010  # a neighbour nearer than this hides the board's edge
_BEHIND_M = 0.030  # a neighbour above the board must be this much further off not to stand on it
_GATES_M = (0.05, 0.03, 0.015, 0.008, 0.006, 0.006)  # of an edge point from its edge, iteration by iteration
_HUBER_M = 0.0015
_EDGE_SIGMA_M = 0.002
_CORRELATION = 10.0  # neighbouring edge pixels err together: so many count as one
_MAX_YAW_RAD = 0.8
_REGION_RIM_M = 0.10  # searched around the task file's region
_MAX_EDGE_POINTS = 250
_MIN_EDGE_POINTS = 40
_FACE_M = 0.006  # of the front face, seen in the pixel below its upper edge
_GOOD_SHARE = 0.8  # of the edge points explained from the last pose: no other start is tried
_MIN_TOLERANCE_M = 0.001


@dataclass(frozen=True)
class BoardFit:
    """Where the boards stand: their common frame as in the task file."""

    position: np.ndarray  # (2,) m
    yaw: float
    heights_m: np.ndarray  # (k,) measured; NaN for a board that is not seen
    covariance: np.ndarray  # (3, 3) of x, y, yaw
    seen: tuple[bool, ...]  # which boards


@dataclass(frozen=True)
class _Board:
    index: int
    points: np.ndarray  # (n, 2) surface
    edges: np.ndarray  # (m, 2)
    height_m: float


class BoardFinder:
    """Measures the boards' pose in one image."""

    def __init__(self, boards: Boards, settings: PerceptionSettings | None = None) -> None:
        self._boards = boards
        self._settings = settings or PerceptionSettings()
        self._half = np.asarray(boards.board_size_m[:2]) / 2

    def find(
        self,
        frame: CameraFrame,
        T_base_camera: np.ndarray,
        guess: tuple[np.ndarray, float] | None = None,
    ) -> BoardFit | None:
        """The boards' pose, or None when too little of their edges is visible; `guess` is where they were."""
        boards = self._visible(frame, T_base_camera)
        if not boards or sum(len(board.edges) for board in boards) < _MIN_EDGE_POINTS:
            return None
        near = None if guess is None else self._refine(boards, *guess, gates_m=_GATES_M[2:])
        fits = [near] if near is not None and near[2] > _GOOD_SHARE else []
        if not fits:
            starts = [self._first_guess(board) for board in boards] + ([] if guess is None else [guess])
            fits = [fit for start in starts if (fit := self._refine(boards, *start)) is not None]
        if not fits:
            return None
        state, covariance, _ = max(fits, key=lambda fit: fit[2])
        heights = np.full(len(self._boards.labels), np.nan)
        for board in boards:
            heights[board.index] = board.height_m
        seen = tuple(bool(np.isfinite(height)) for height in heights)
        return BoardFit(state[:2], float(state[2]), heights, covariance, seen)

    def _window(self, frame: CameraFrame, T: np.ndarray) -> tuple[int, int, int, int]:
        """Pixels (u0, v0, u1, v1) in which the boards can be."""
        boards = self._boards
        reach = float(np.hypot(*self._half) + np.abs(boards.offsets_x_m).max())
        (x0, x1), (y0, y1) = boards.region_x, boards.region_y
        box = [
            (x, y, z)
            for x in (x0 - reach, x1 + reach)
            for y in (y0 - reach, y1 + reach)
            for z in (min(boards.heights_m), max(boards.heights_m))
        ]
        pixels = project(np.array(box), T, frame.intrinsics)
        height, width = frame.depth_m.shape
        low = np.clip(np.floor(pixels[:, :2].min(axis=0)), 0, (width, height)).astype(int)
        high = np.clip(np.ceil(pixels[:, :2].max(axis=0)) + 1, 0, (width, height)).astype(int)
        return int(low[0]), int(low[1]), int(high[0]), int(high[1])

    def _visible(self, frame: CameraFrame, T: np.ndarray) -> list[_Board]:
        u0, v0, u1, v1 = self._window(frame, T)
        if u1 - u0 < 8 or v1 - v0 < 8:
            return []
        depth = frame.depth_m[v0:v1, u0:u1]
        K = frame.intrinsics
        x = ((np.arange(u0, u1) - K[0, 2]) / K[0, 0]).astype(np.float32)
        y = ((np.arange(v0, v1) - K[1, 2]) / K[1, 1]).astype(np.float32)
        slope = np.float32(T[2, 0]) * x[None, :] + (np.float32(T[2, 1]) * y + np.float32(T[2, 2]))[:, None]
        z = depth * slope + np.float32(T[2, 3])
        z = np.where(np.isfinite(depth) & (depth > 0), z, np.float32(-10.0))
        boards = [
            self._board(frame, T, index, height, z, depth, (u0, v0))
            for index, height in enumerate(self._boards.heights_m)
        ]
        return [board for board in boards if board is not None]

    def _board(
        self,
        frame: CameraFrame,
        T: np.ndarray,
        index: int,
        height_m: float,
        z: np.ndarray,
        depth: np.ndarray,
        origin: tuple[int, int],
    ) -> _Board | None:
        settings = self._settings
        mask = (np.abs(z - height_m) < settings.plane_tolerance_m).astype(np.uint8)
        mask, tolerance = self._tighten(mask, z, height_m)
        opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
        count, numbers, stats, middles = cv2.connectedComponentsWithStats(opened, connectivity=8)
        keep = [i for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] >= settings.min_board_pixels // 2]
        keep = [i for i in keep if self._in_region(frame, T, middles[i] + origin, height_m)]
        # Opening shortens thin ends: take back what is connected to the pieces kept.
        chosen = np.zeros(count, np.uint8)
        chosen[keep] = 1
        full = (cv2.dilate(chosen[numbers], np.ones((3, 3), np.uint8)) & mask).astype(bool)
        pixels = nonzero(full)
        if len(pixels) < settings.min_board_pixels:
            return None
        pixels = pixels[:: max(1, len(pixels) // 800)]
        level = float(median(z[pixels[:, 1], pixels[:, 0]]))
        u, v = (pixels + origin).T
        points = rays_on_level(u, v, frame.intrinsics, T, level)[:, :2]
        edges = self._edges(frame, T, full, z, depth, level, tolerance, origin)
        return _Board(index, points, edges, level)

    def _tighten(self, mask: np.ndarray, z: np.ndarray, height_m: float) -> tuple[np.ndarray, float]:
        """The mask with as little of the board's front face as the depth's noise allows, and its tolerance."""
        pixels = nonzero(mask)[::7]
        if len(pixels) < 20:
            return mask, self._settings.plane_tolerance_m
        heights = z[pixels[:, 1], pixels[:, 0]]
        level = median(heights)
        spread = 1.48 * median(np.abs(heights - level))
        tolerance = float(np.clip(4 * spread, _MIN_TOLERANCE_M, self._settings.plane_tolerance_m))
        return mask & (z > level - tolerance).astype(np.uint8), tolerance

    def _in_region(self, frame: CameraFrame, T: np.ndarray, pixel: np.ndarray, height_m: float) -> bool:
        middle = rays_on_level(pixel[:1], pixel[1:], frame.intrinsics, T, height_m)[0]
        reach = float(np.hypot(*self._half)) + _REGION_RIM_M
        (x0, x1), (y0, y1) = self._boards.region_x, self._boards.region_y
        return bool(x0 - reach <= middle[0] <= x1 + reach and y0 - reach <= middle[1] <= y1 + reach)

    def _edges(
        self,
        frame: CameraFrame,
        T: np.ndarray,
        mask: np.ndarray,
        z: np.ndarray,
        depth: np.ndarray,
        level: float,
        tolerance_m: float,
        origin: tuple[int, int],
    ) -> np.ndarray:
        """Points (n, 2) of the board's own edges: not where something stands on it or hides it."""
        inside, outside, step = rim(mask)
        here, there = depth[inside[:, 1], inside[:, 0]], depth[outside[:, 1], outside[:, 0]]
        above = z[outside[:, 1], outside[:, 0]] > level + self._settings.plane_tolerance_m
        hidden = (there < here - _NEARER_M) | (above & (there < here + _BEHIND_M))
        own = ~hidden & (there > 0)
        # Pixels next to the foot of what stands on the board still have the board's height.
        shape = np.array(depth.shape[::-1]) - 1
        for reach in (3, 5):
            further = np.clip(inside + np.rint(2 * reach * step).astype(int), 0, shape)
            z_further, depth_further = z[further[:, 1], further[:, 0]], depth[further[:, 1], further[:, 0]]
            own &= ~((z_further > level + 0.004) & (depth_further > 0) & (depth_further < here + _BEHIND_M))
        # Where the front face goes on below, the mask ends on that face, `tolerance_m` below its upper edge.
        face = own & (np.abs(there - here) < _NEARER_M)
        face &= z[outside[:, 1], outside[:, 0]] > level - 4 * tolerance_m - _FACE_M
        pixels = inside + step + origin
        ends = []
        for chosen, height_m in ((own & ~face, level), (face, level - tolerance_m)):
            some = pixels[chosen]
            some = some[:: max(1, -(-len(pixels) // _MAX_EDGE_POINTS))]
            ends.append(rays_on_level(some[:, 0], some[:, 1], frame.intrinsics, T, height_m)[:, :2])
        return np.concatenate(ends)

    def _first_guess(self, board: _Board) -> tuple[np.ndarray, float]:
        """Position and yaw from the smallest rectangle around a board's surface."""
        (cx, cy), (w, h), degrees = cv2.minAreaRect((board.points * 1000).astype(np.float32))
        yaw = np.radians(degrees)
        deep_first = (w < h) == (self._half[0] < self._half[1])
        yaw = yaw if deep_first else yaw + np.pi / 2
        yaw = (yaw + np.pi / 2) % np.pi - np.pi / 2  # a board looks the same after half a turn
        offset = self._boards.offsets_x_m[board.index] * np.array([np.cos(yaw), np.sin(yaw)])
        return np.array([cx, cy]) / 1000 - offset, float(yaw)

    def _refine(
        self, boards: list[_Board], position: np.ndarray, yaw: float, gates_m: tuple[float, ...] = _GATES_M
    ) -> tuple[np.ndarray, np.ndarray, float] | None:
        """Gauss-Newton of the edges on the rectangles: state (x, y, yaw), covariance and share explained."""
        state = np.array([position[0], position[1], yaw])
        edges = np.concatenate([board.edges for board in boards])
        offsets = np.concatenate([np.full(len(b.edges), self._boards.offsets_x_m[b.index]) for b in boards])
        information = np.eye(3)
        share = 0.0
        for gate in gates_m:
            cosine, sine = np.cos(state[2]), np.sin(state[2])
            from_centre = edges - state[:2]
            local_x = cosine * from_centre[:, 0] + sine * from_centre[:, 1] - offsets
            local_y = -sine * from_centre[:, 0] + cosine * from_centre[:, 1]
            across_x, across_y = np.abs(local_x) - self._half[0], np.abs(local_y) - self._half[1]
            on_x = np.abs(across_x) < np.abs(across_y)
            residual = np.where(on_x, across_x, across_y)
            sign = np.where(on_x, np.sign(local_x), np.sign(local_y))
            turn = np.where(on_x, local_y, -(local_x + offsets))  # how the local coordinate changes with yaw
            jacobian = sign[:, None] * np.column_stack(
                [np.where(on_x, -cosine, sine), np.where(on_x, -sine, -cosine), turn]
            )
            inside = np.abs(residual) < gate
            if np.count_nonzero(inside) < _MIN_EDGE_POINTS:
                return None
            share = float(inside.mean())
            weight = 1.0 / np.maximum(1.0, np.abs(residual[inside]) / _HUBER_M)
            rows = jacobian[inside]
            information = rows.T @ (weight[:, None] * rows) / _EDGE_SIGMA_M**2
            if np.linalg.eigvalsh(information * np.outer([1, 1, 10], [1, 1, 10]))[0] < 1.0 / 0.01**2:
                return None  # some direction of motion leaves the visible edges in place
            state = state - np.linalg.solve(
                information, rows.T @ (weight * residual[inside]) / _EDGE_SIGMA_M**2
            )
        if abs(state[2]) > _MAX_YAW_RAD or share < 0.5 or not self._covers(boards, state):
            return None
        floor = np.diag([0.0005**2, 0.0005**2, 0.002**2])
        return state, np.linalg.inv(information / _CORRELATION) + floor, share

    def _covers(self, boards: list[_Board], state: np.ndarray) -> bool:
        """Whether what was taken for the boards' surfaces lies within them."""
        turn = np.array([[np.cos(state[2]), -np.sin(state[2])], [np.sin(state[2]), np.cos(state[2])]])
        for board in boards:
            local = (board.points - state[:2]) @ turn - [self._boards.offsets_x_m[board.index], 0.0]
            if np.mean((np.abs(local) < self._half + 0.006).all(axis=1)) < 0.9:
                return False
        return True
