"""Fits a cylinder of known size to the visible part of its surface."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from physai_base.values import CameraFrame
from physai_perception.fitting import Guess, Rim, ShapeFit, Sighting, find_rim, seen_through
from physai_perception.geometry import median, rays_on_level, rotation_from_vector
from physai_perception.segmentation import Blob
from physai_perception.settings import PerceptionSettings

_HUBER_M = 0.002
_STANDS_RMS_M = 0.0022  # no lying cylinder looks like a standing one up to this
_EDGE_SIGMA_M = 0.0015  # of a point on the visible end of a surface
_PRIOR_SIGMA_M = 0.03  # keeps unobserved directions from running away
_TILT_PRIOR_RAD = 0.3
_IN_A_HOLE_M = 0.006
_SAME_PLACE_M = 0.01
_SUNK_M = 0.012
_STOOD_COSINE = 0.97
_PRIOR = np.diag([1 / _PRIOR_SIGMA_M**2] * 3 + [1 / _TILT_PRIOR_RAD**2] * 3)
_TURN_UNKNOWN = np.eye(6) * 0.15**2
_FLOOR = np.eye(3) * 0.0007**2  # m^2: what no number of pixels makes better
_UPRIGHT = np.eye(3)
_CORRELATION = 25.0  # neighbouring pixels err together: so many count as one


class CylinderFitter:
    """Finds the pose of a cylinder of known radius and height from one blob."""

    def __init__(self, radius_m: float, height_m: float, settings: PerceptionSettings | None = None) -> None:
        self._radius_m, self._height_m = radius_m, height_m
        self._size_m = np.array([2 * radius_m, 2 * radius_m, height_m])
        self._settings = settings or PerceptionSettings()

    def fit(
        self,
        frame: CameraFrame,
        blob: Blob,
        T_base_camera: np.ndarray,
        supports_m: tuple[float, ...] = (0.0,),
        guess: Guess | None = None,
    ) -> ShapeFit | None:
        """The pose that explains the blob best, or None when no cylinder of this size does.

        `supports_m` are the heights on which it may stand, `guess` foot and axis where it was last seen: both
        only help where the image leaves the height open.
        """
        edge = find_rim(frame, blob, T_base_camera)
        upright = self._fit_upright(frame, blob, edge, T_base_camera, supports_m, guess)
        if upright is not None and upright.rms_m < 0.0012 and upright.inliers > 0.9:
            return upright
        candidates = [] if upright is None else [upright]
        starts = self._starts(blob, upright, guess)
        if upright is not None and upright.rms_m < _STANDS_RMS_M:
            starts = starts[:1]  # it stands, if not quite straight
        for foot, axis in starts:
            candidates.append(self._refine(blob.points, foot, axis, edge, frame, T_base_camera))
        candidates = [fit for fit in candidates if not self._sunk(fit, blob, supports_m)]
        stays = None if guess is None else self._refine_guess(guess, blob, edge, frame, T_base_camera)
        best = min(
            candidates, key=lambda fit: fit.rms_m + 0.004 * (1 - fit.inliers), default=upright or stays
        )
        if best is None:
            return None
        # What is barely seen fits in many ways: then it stands, or is as it was.
        for likely in (upright, stays):
            if likely is not None and likely.rms_m < 1.15 * best.rms_m + 0.0003:
                best = likely
                break
        return best if best.rms_m <= self._settings.fit_rms_m and best.inliers > 0.6 else None

    def _refine_guess(
        self, guess: Guess, blob: Blob, edge: Rim, frame: CameraFrame, T_base_camera: np.ndarray
    ) -> ShapeFit | None:
        """Standing or lying as it was, near where it was."""
        stood = guess.axis[2] > _STOOD_COSINE
        axis = _UPRIGHT[2] if stood else guess.axis
        fit = self._refine(blob.points, guess.origin, axis, edge, frame, T_base_camera, tilt=not stood)
        fits = fit.rms_m < _STANDS_RMS_M and fit.inliers > 0.9
        return fit if fits else None

    def _sunk(self, fit: ShapeFit, blob: Blob, supports_m: tuple[float, ...]) -> bool:
        """Whether it would be partly within what it lies on, where all that is seen of it is above."""
        lean = math.sqrt(max(0.0, 1.0 - float(fit.axis[2]) ** 2))
        lowest = float(fit.origin[2]) + min(0.0, self._height_m * float(fit.axis[2])) - self._radius_m * lean
        below = [s for s in supports_m if s - _SUNK_M < float(blob.points[:, 2].min())]
        return bool(below) and lowest < min(below) - _SUNK_M

    def visibility(self, frame: CameraFrame, blob: Blob, T_base_camera: np.ndarray, fit: ShapeFit) -> float:
        """Share of the cylinder's picture that the blob covers."""
        radius_m, height_m = self._radius_m, self._height_m
        middle = fit.origin + 0.5 * height_m * fit.axis
        view = middle - T_base_camera[:3, 3]
        distance = float(np.linalg.norm(view))
        cosine = abs(float(view @ fit.axis)) / distance
        area = 2 * radius_m * height_m * math.sqrt(1 - cosine**2) + math.pi * radius_m**2 * cosine
        expected = area * frame.intrinsics[0, 0] * frame.intrinsics[1, 1] / distance**2
        return float(min(1.0, blob.pixels / expected))

    def unseen(self, frame: CameraFrame, T_base_camera: np.ndarray, guess: Guess | None) -> Sighting:
        """Whether its place is seen to be empty."""
        return Sighting(
            None, 0.0, guess is not None and seen_through(frame, T_base_camera, guess, self._height_m)
        )

    def _fit_upright(
        self,
        frame: CameraFrame,
        blob: Blob,
        edge: Rim,
        T: np.ndarray,
        supports_m: tuple[float, ...],
        guess: Guess | None,
    ) -> ShapeFit | None:
        height = self._height_m
        z = blob.points[:, 2]
        highest = -(-len(z) // 50)  # of 50 points, leave one out
        top = float(np.partition(z, -highest)[-highest]) if edge.up_cut < 0.5 else None
        ends = edge.points[edge.down, 2]
        low = None
        if len(ends) >= 4 and edge.down_cut < 0.5:
            lowest = np.partition(ends, len(ends) // 8)[
                len(ends) // 8
            ]  # the very lowest may be a stray pixel
            low = float(median(ends[np.abs(ends - lowest) < 0.01]))
        if top is not None and low is not None and abs(top - low - height) > 0.015:
            hidden = top - low < height and self._expected(top - height, supports_m, guess)
            if not hidden:
                return None  # it does not stand
        flat = z > z.max() - 0.003
        if top is None and low is None and flat.mean() > 0.15:  # a whole face at one height is the top
            top = float(median(z[flat]))
        few = len(z) // 100  # may be wrong
        ends_z = np.partition(z, (few, -few - 1))
        if ends_z[-few - 1] - ends_z[few] > height + 0.012:
            return None
        away = blob.points[:, :2].mean(axis=0) - T[:2, 3]
        middle = start = median(blob.points[:, :2]) + 0.5 * self._radius_m * away / np.linalg.norm(away)
        if guess is not None and guess.axis[2] > _STOOD_COSINE:
            # Of a piece of its top alone nothing tells where the rest is: begin where it was.
            near = float(np.linalg.norm(middle - guess.origin[:2])) < 2 * self._radius_m
            start = guess.origin[:2] if near else middle
        if top is not None:
            foot_z, observed = top - height, True
        elif low is not None and guess is not None and self._in_a_hole(low, middle, supports_m, guess):
            foot_z, observed = float(guess.origin[2]), False
        elif low is not None:
            foot_z, observed = low, True
        else:
            foot_z, observed = self._likely_height(z, supports_m, guess), False
        foot = np.array([*start, foot_z])
        fit = self._refine(blob.points, foot, np.array([0.0, 0.0, 1.0]), edge, frame, T, tilt=False)
        covariance = fit.covariance.copy()
        if not observed:
            covariance[2, 2] += 0.01**2
        return replace(fit, covariance=covariance)

    @staticmethod
    def _expected(foot_m: float, supports_m: tuple[float, ...], guess: Guess | None) -> bool:
        """Whether it may stand there with its foot hidden, as in a hole: on something, or where it was."""
        near = any(abs(foot_m - support) < _IN_A_HOLE_M for support in supports_m)
        return near or (guess is not None and abs(foot_m - guess.origin[2]) < _IN_A_HOLE_M)

    @staticmethod
    def _in_a_hole(low_m: float, middle: np.ndarray, supports_m: tuple[float, ...], guess: Guess) -> bool:
        """Whether what seems to be its lower end may be the rim of a hole that it is put into, or stands in since then."""
        on_something = any(abs(low_m - support) < _IN_A_HOLE_M for support in supports_m)
        stood = any(abs(guess.origin[2] - support) < _IN_A_HOLE_M for support in supports_m)
        stays = stood and float(np.linalg.norm(middle - guess.origin[:2])) < _SAME_PLACE_M
        return on_something and guess.origin[2] < low_m and (guess.held or stays)

    def _likely_height(self, z: np.ndarray, supports_m: tuple[float, ...], guess: Guess | None) -> float:
        """Foot height when neither end is visible: where it was, else the support that fits what is seen."""
        fits = [s for s in supports_m if s <= z.min() + 0.01 and z.max() <= s + self._height_m + 0.01]
        if guess is not None and z.max() - self._height_m - 0.01 <= guess.origin[2] <= z.min() + 0.01:
            return float(guess.origin[2])
        return max(fits) if fits else float((z.min() + z.max() - self._height_m) / 2)

    def _starts(
        self, blob: Blob, upright: ShapeFit | None, guess: Guess | None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Foot and axis to begin with: tilted a little, and lying along or across the visible points."""
        middle = median(blob.points)
        offsets = blob.points - middle
        principal = np.linalg.eigh(offsets.T @ offsets)[1][:, 2]
        starts = [] if upright is None else [(upright.origin, upright.axis)]
        if guess is not None:
            starts.append((middle - guess.axis * self._height_m / 2, guess.axis))
        along = principal * (1.0 if principal[2] >= 0 else -1.0)
        flat = np.array([along[0], along[1], 0.0])
        flat = flat / max(float(np.linalg.norm(flat)), 1e-6)
        across = np.array([-flat[1], flat[0], 0.0])
        for axis in (along, flat, across):
            if np.linalg.norm(axis) > 0.5:
                centre = middle - np.array([0, 0, 0.5 * self._radius_m])
                starts.append((centre - axis * self._height_m / 2, axis))
        return starts

    def _refine(
        self,
        points: np.ndarray,
        foot: np.ndarray,
        axis: np.ndarray,
        edge: Rim,
        frame: CameraFrame,
        T: np.ndarray,
        tilt: bool = True,
    ) -> ShapeFit:
        """Gauss-Newton on the distance of the points from the surface (and of its visible ends from theirs)."""
        n = 6 if tilt else 3
        start = foot
        on_rim = np.zeros((0, 2))
        prior = _PRIOR[:n, :n]
        sigma = self._settings.depth_sigma_m
        for iteration in range(10):
            distance, jacobian = self._surface(points, foot, axis) if tilt else self._standing(points, foot)
            weight = 1.0 / np.maximum(1.0, np.abs(distance) / _HUBER_M) / sigma**2
            rows, residual = jacobian, distance
            if not tilt and iteration >= 2:
                if iteration == 2:
                    on_rim = self._on_rim(edge, frame, T, foot)
                ends, end_rows = self._ends(edge, on_rim, foot)
                rows, residual = np.concatenate([rows, end_rows]), np.concatenate([residual, ends])
                robust = np.maximum(1.0, np.abs(ends) / _HUBER_M)
                weight = np.concatenate([weight, 1.0 / robust / _EDGE_SIGMA_M**2])
            information = rows.T @ (weight[:, None] * rows) + prior
            gradient = rows.T @ (weight * residual)
            gradient[:3] += prior[:3, :3] @ (foot - start)
            step = -np.linalg.solve(information, gradient)
            length = np.linalg.norm(step[:3])
            if length > 0.02:
                step *= 0.02 / length
            foot = foot + step[:3]
            if tilt:
                # The rotation is about the foot.
                axis = rotation_from_vector(step[3:]) @ axis
            if iteration >= 3 and length < 5e-5:
                break
        if axis[2] < -0.05:  # a straight cylinder looks the same from both ends: call the lower one the foot
            foot, axis = foot + self._height_m * axis, -axis
        distance = (self._surface(points, foot, axis) if tilt else self._standing(points, foot))[0]
        inliers = np.abs(distance) < 0.003
        kept = distance[inliers] if inliers.any() else distance
        rms = float(np.sqrt(np.mean(np.minimum(np.abs(distance), 0.01) ** 2)))
        spread = max(float(np.sqrt(np.mean(kept**2))), 0.5 * sigma) / sigma
        covariance = _TURN_UNKNOWN.copy()
        covariance[:n, :n] = np.linalg.inv(information / _CORRELATION) * spread**2
        covariance[:3, :3] += _FLOOR
        return ShapeFit(
            foot, axis_turn(axis) if tilt else _UPRIGHT, self._size_m, covariance, rms, float(inliers.mean())
        )

    def _surface(
        self, points: np.ndarray, foot: np.ndarray, axis: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Signed distance (n,) of points from the closed cylinder and its derivative (n, 6) to foot and turn."""
        offset = points - foot
        along = offset @ axis
        radial = offset - along[:, None] * axis
        rho = np.maximum(np.linalg.norm(radial, axis=1), 1e-9)
        out_side = rho - self._radius_m
        out_end = np.abs(along - self._height_m / 2) - self._height_m / 2
        end_normal = np.where(along > self._height_m / 2, 1.0, -1.0)[:, None] * axis
        side_normal = radial / rho[:, None]
        corner = (out_side > 0) & (out_end > 0)
        distance = np.where(corner, np.hypot(out_side, out_end), np.maximum(out_side, out_end))
        normal = np.where((out_side > out_end)[:, None], side_normal, end_normal)
        mixed = out_side[:, None] * side_normal + out_end[:, None] * end_normal
        normal = np.where(corner[:, None], mixed / np.maximum(distance, 1e-9)[:, None], normal)
        (ox, oy, oz), (nx, ny, nz) = offset.T, normal.T
        turn = np.column_stack([oz * ny - oy * nz, ox * nz - oz * nx, oy * nx - ox * ny])
        return distance, np.hstack([-normal, turn])

    def _standing(self, points: np.ndarray, foot: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`_surface` of an upright cylinder with the derivative (n, 3) to its foot alone; far fewer operations."""
        x, y, z = (points - foot).T
        rho = np.sqrt(x * x + y * y) + 1e-9
        z = z - self._height_m / 2
        out_side, out_end = rho - self._radius_m, np.abs(z) - self._height_m / 2
        side = out_side > out_end
        distance = np.where(side, out_side, out_end)
        flat = np.where(side, -1.0 / rho, 0.0)
        return distance, np.column_stack([flat * x, flat * y, np.where(side, 0.0, -np.sign(z))])

    def _on_rim(self, edge: Rim, frame: CameraFrame, T: np.ndarray, foot: np.ndarray) -> np.ndarray:
        """Points (n, 2) of the top face's visible rim."""
        top = foot[2] + self._height_m
        pixels = edge.pixels[(np.abs(edge.points[:, 2] - top) < 0.005) & ~edge.down]
        return rays_on_level(pixels[:, 0], pixels[:, 1], frame.intrinsics, T, top)[:, :2]

    def _ends(self, edge: Rim, on_rim: np.ndarray, foot: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Residuals and rows (x, y, z) of the visible ends of an upright cylinder: the top's rim and the foot."""
        offset = on_rim - foot[:2]
        rho = np.sqrt((offset**2).sum(axis=1)) + 1e-9
        residual = rho - self._radius_m
        close = np.abs(residual) < 0.01
        rim_rows = np.column_stack([-offset / rho[:, None], np.zeros(len(rho))])[close]
        low = edge.points[edge.down, 2] - foot[2]
        low = low[np.abs(low) < 0.008]
        foot_rows = np.tile([0.0, 0.0, -1.0], (len(low), 1))
        return np.concatenate([residual[close], low]), np.concatenate([rim_rows, foot_rows])


def axis_turn(axis: np.ndarray) -> np.ndarray:
    """Rotation (3, 3) of a cylinder: the smallest turn of the base frame that raises +z to its axis."""
    x, y, z = axis.tolist()
    if z < -0.999999:
        return np.diag([1.0, -1.0, -1.0])
    a, b, c = x * x / (1 + z), x * y / (1 + z), y * y / (1 + z)
    return np.array([[1 - a, -b, x], [-b, 1 - c, y], [-x, -y, z]])


def orientation(axis: np.ndarray) -> np.ndarray:
    """Quaternion (w, x, y, z) of a cylinder: the smallest turn of the base frame that raises +z to its axis."""
    x, y, z = axis
    if z < -0.999999:
        return np.array([0.0, 1.0, 0.0, 0.0])
    quat = np.array([1 + z, -y, x, 0.0])
    return quat / np.linalg.norm(quat)


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """Quaternion (w, x, y, z), w >= 0, of a rotation matrix."""
    from transforms3d.quaternions import mat2quat

    return np.asarray(mat2quat(rotation))
