"""A fixed camera's pose in the base frame, from the markers on the table and the table's plane."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from physai_base.embodiment import Camera
from physai_base.values import CameraFrame
from physai_base.workcell import Markers
from physai_perception.errors import ExtrinsicsError
from physai_perception.geometry import (
    fit_plane,
    kabsch,
    project,
    rays,
    rotation_from_vector,
    rotation_to_vector,
)
from physai_perception.marker_check import (
    Glimpse,
    MarkerView,
    check_depth,
    left_out,
    scale_doubt,
    turned,
    uneven_doubt,
    view_of,
    why_unseen,
)
from physai_perception.settings import PerceptionSettings

_SEARCH_RIM = 0.6  # of a marker's size, searched around its expected place
_LOOK_EVERY = 5  # images without markers, of which one is looked at from its other side
_PLANE_STRIDE = 16
_RATIO_GAIN = 0.2  # of a new comparison of depth with the markers
_PLANE_BANDS_M = (0.008, 0.004)


@dataclass(frozen=True)
class CameraPose:
    """Where a camera is, and how well that is known."""

    T_base_camera: np.ndarray  # (4, 4)
    residual_m: float  # RMS distance of the marker corners from where they should be
    markers: int  # used in the last measurement
    frames: int  # averaged
    unseen_frames: int  # since the last measurement


@dataclass(frozen=True)
class _Measurement:
    T_base_camera: np.ndarray
    residual_m: float
    markers: int
    view: MarkerView


def pose_difference(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Distance in metres and angle in degrees between two poses (4, 4)."""
    angle = np.degrees(np.linalg.norm(rotation_to_vector(a[:3, :3].T @ b[:3, :3])))
    return float(np.linalg.norm(a[:3, 3] - b[:3, 3])), float(angle)


class MarkerExtrinsics:
    """Measures and smooths the pose of one camera that is fixed to the base.

    The embodiment's nominal pose only serves as a plausibility check.
    """

    def __init__(self, camera: Camera, markers: Markers, settings: PerceptionSettings | None = None) -> None:
        self._settings = settings or PerceptionSettings()
        self._camera = camera
        self._corners = markers.corners()
        self._marker_size_m = markers.size_m
        self._nominal = camera.nominal_pose()
        parameters = cv2.aruco.DetectorParameters()
        parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
        parameters.cornerRefinementWinSize = 3
        parameters.adaptiveThreshWinSizeMin = parameters.adaptiveThreshWinSizeMax = 23
        self._dictionary = markers.dictionary
        dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, markers.dictionary))
        self._detector = cv2.aruco.ArucoDetector(dictionary, parameters)
        self.reset()

    def reset(self) -> None:
        """Forget the camera's pose."""
        self._pose: np.ndarray | None = None
        self._residual_m = np.inf
        self._frames = self._unseen = self._used = 0
        self._since_measured = 0
        self._disagreeing: list[np.ndarray] = []
        self._glimpse: Glimpse | None = None
        self._ratios: dict[int, float] = {}  # of depth at the markers over where they are
        self._left_out: dict[int, float] = {}  # markers, and by how many pixels they are off
        self._why = ""  # markers are not found, where the picture itself tells

    @property
    def remarks(self) -> dict[str, str]:
        """What lasts and is no reason to refuse images, by name."""
        doubts = {
            "depth_scale": scale_doubt(self._ratios),
            "markers_uneven": uneven_doubt(self._ratios),
            "marker_left_out": left_out(self._left_out),
        }
        return {name: text for name, text in doubts.items() if text}

    def update(self, frame: CameraFrame) -> CameraPose:
        """The camera's pose after seeing `frame`.

        Raises:
            ExtrinsicsError: too few markers for too long, markers that contradict lens or depth, an implausible pose, or
                a camera that has moved.
        """
        least, last = self._settings.min_markers, self._glimpse
        if self._settled() and last is not None and last.matches(frame, least):
            self._since_measured += 1
            return self._result()
        self._since_measured = 0
        self._glimpse = None  # until all is well again
        found = {} if self._pose is None else self._detect_near(frame)
        if len(found) < self._settings.min_markers:
            # Something may have changed since: look in the whole image before giving up on this frame.
            found = self._detect(grey_of(frame.rgb))
        if len(found) < self._settings.min_markers:
            self._unseen += 1
            self._refuse_if_unknown(frame, len(found))
        else:
            measurement = self._measure(frame, found)
            self._check_plausible(measurement)
            self._fuse(measurement)
            self._glimpse = Glimpse.of(frame, measurement.view)
        return self._result()

    def _settled(self) -> bool:
        """Whether this image may be passed over: all was well in the last measurement, which is recent."""
        settings = self._settings
        well = self._frames >= settings.settled_frames and self._unseen == 0 and not self._disagreeing
        return well and self._since_measured + 1 < settings.settled_every

    def _result(self) -> CameraPose:
        assert self._pose is not None
        return CameraPose(self._pose.copy(), self._residual_m, self._used, self._frames, self._unseen)

    def _refuse_if_unknown(self, frame: CameraFrame, seen: int) -> None:
        settings = self._settings
        if self._pose is None or self._unseen % _LOOK_EVERY == 1:
            self._why = why_unseen(grey_of(frame.rgb), self._detect, seen, settings.min_markers)
        if self._why:
            raise ExtrinsicsError(f"{frame.camera}: {self._why}")
        wanted = f"at least {settings.min_markers} of the table's markers {sorted(self._corners)}"
        if self._pose is None:
            cure = self._seen_instead(grey_of(frame.rgb)) or "uncover them"
            raise ExtrinsicsError(
                f"{frame.camera}: pose unknown: {wanted} ({self._dictionary}) must be visible at least once, {seen or 'none'} can "
                f"be seen; {cure}"
            )
        if self._unseen > settings.max_unseen_frames:
            raise ExtrinsicsError(
                f"{frame.camera}: pose no longer trusted: {wanted} have not been seen for {self._unseen} images; uncover them"
            )

    def _check_plausible(self, measurement: _Measurement) -> None:
        settings = self._settings
        distance, angle = pose_difference(self._nominal, measurement.T_base_camera)
        if not (distance <= settings.nominal_distance_m and angle <= settings.nominal_angle_deg):
            turn = turned(self._nominal, measurement.T_base_camera)
            raise ExtrinsicsError(
                f"{self._camera.name}: {turn + ': ' if turn else ''}the markers put the camera {distance * 1e3:.0f} mm and {angle:.1f} deg from its nominal "
                f"pose; at most {settings.nominal_distance_m * 1e3:.0f} mm and {settings.nominal_angle_deg:.0f} deg are "
                "believed: check the markers, the camera's mount and its entry in the embodiment file"
            )

    def _fuse(self, measurement: _Measurement) -> None:
        settings = self._settings
        new = measurement.T_base_camera
        if self._pose is not None:
            distance, angle = pose_difference(self._pose, new)
            if distance > settings.moved_distance_m or angle > settings.moved_angle_deg:
                self._moved(new, distance, angle)
            self._disagreeing.clear()
        self._unseen, self._used = 0, measurement.markers
        self._frames += 1
        if self._pose is None:
            self._pose, self._residual_m = new, measurement.residual_m
            return
        gain = max(1.0 / self._frames, settings.pose_gain) * measurement.markers / len(self._corners)
        turn = rotation_to_vector(new[:3, :3] @ self._pose[:3, :3].T)
        pose = self._pose.copy()
        pose[:3, :3] = rotation_from_vector(gain * turn) @ pose[:3, :3]
        pose[:3, 3] += gain * (new[:3, 3] - pose[:3, 3])
        self._pose = pose
        self._residual_m += gain * (measurement.residual_m - self._residual_m)

    def _moved(self, new: np.ndarray, distance: float, angle: float) -> None:
        """Accept a moved camera once enough measurements in a row agree; raise until then."""
        settings = self._settings
        self._disagreeing.append(new)
        recent = self._disagreeing[-settings.moved_frames :]
        agree = len(recent) == settings.moved_frames and all(
            pose_difference(new, other)[0] < settings.moved_distance_m
            and pose_difference(new, other)[1] < settings.moved_angle_deg
            for other in recent
        )
        if not agree:
            raise ExtrinsicsError(
                f"{self._camera.name}: the camera moved by {distance * 1e3:.0f} mm and {angle:.1f} deg; "
                f"its new pose is taken after {settings.moved_frames} images that agree"
            )
        self._pose, self._frames = new, 0

    def _measure(self, frame: CameraFrame, found: dict[int, np.ndarray]) -> _Measurement:
        settings = self._settings
        view = view_of(
            found, self._corners, frame.intrinsics, settings.marker_residual_px, settings.min_markers
        )
        on_markers, ratios = check_depth(frame, view, settings.min_markers)
        last = self._ratios if self._frames else {}
        self._ratios = {i: last.get(i, r) + _RATIO_GAIN * (r - last.get(i, r)) for i, r in ratios.items()}
        normal, offset = self._table_plane(frame, np.concatenate(list(on_markers.values())))
        seen = {}
        for i, pixels in view.corners.items():
            directions = rays(pixels[:, 0], pixels[:, 1], frame.intrinsics)
            seen[i] = directions * (offset / (directions @ normal))[:, None]
        first: dict[int, float] = {}
        while len(seen) >= settings.min_markers:
            T = kabsch(np.concatenate(list(seen.values())), np.concatenate([self._corners[i] for i in seen]))
            error = {i: self._rms(T, points, self._corners[i]) for i, points in seen.items()}
            first = first or error
            worst = max(error, key=lambda i: error[i])
            if error[worst] <= settings.marker_residual_m:
                rms = float(np.sqrt(np.mean(np.square(list(error.values())))))
                self._left_out = view.left_out_px
                return _Measurement(T, rms, len(seen), view)
            del seen[worst]
        off = ", ".join(f"{i}: {e * 1e3:.0f}" for i, e in sorted(first.items()))
        raise ExtrinsicsError(
            f"{frame.camera}: by the depth the markers lie elsewhere than by the colour image (off by {off} mm; at most "
            f"{settings.marker_residual_m * 1e3:g} mm are believed): the depth's scale or registration is wrong"
        )

    @staticmethod
    def _rms(T: np.ndarray, points: np.ndarray, wanted: np.ndarray) -> float:
        offsets = points @ T[:3, :3].T + T[:3, 3] - wanted
        return float(np.sqrt((offsets**2).sum(axis=1).mean()))

    def _detect(self, grey: np.ndarray, shift: tuple[int, int] = (0, 0)) -> dict[int, np.ndarray]:
        """Corners (4, 2) in pixels of each of the table's markers; one seen twice is dropped."""
        corners, ids, _ = self._detector.detectMarkers(grey)
        numbers = [] if ids is None else ids.ravel().tolist()
        return {
            i: quad[0].astype(float) + shift
            for i, quad in zip(numbers, corners, strict=True)
            if i in self._corners and numbers.count(i) == 1
        }

    def _seen_instead(self, grey: np.ndarray) -> str:
        """What markers of the same dictionary are seen and cannot be used, or nothing."""
        ids = self._detector.detectMarkers(grey)[1]
        numbers = [] if ids is None else ids.ravel().tolist()
        twice = sorted({i for i in numbers if i in self._corners and numbers.count(i) > 1})
        others = sorted(set(numbers) - set(self._corners))
        if twice:
            return f"markers {twice} are seen more than once: take the copies away"
        return (
            f"markers {others} are seen: print the task's, or name these in the task file" if others else ""
        )

    def _detect_near(self, frame: CameraFrame) -> dict[int, np.ndarray]:
        """The markers, searched only where the last pose expects them."""
        assert self._pose is not None
        found = {}
        height, width = frame.rgb.shape[:2]
        for i, corners in self._corners.items():
            centre = corners.mean(axis=0)
            area = centre + (corners - centre) * (1 + 2 * _SEARCH_RIM)
            pixels = project(area, self._pose, frame.intrinsics)
            u0, v0 = np.maximum(np.floor(pixels[:, :2].min(axis=0)).astype(int), 0)
            u1, v1 = np.minimum(np.ceil(pixels[:, :2].max(axis=0)).astype(int) + 1, (width, height))
            if pixels[:, 2].min() <= 0 or u1 - u0 < 12 or v1 - v0 < 12:
                continue
            seen = self._detect(grey_of(np.ascontiguousarray(frame.rgb[v0:v1, u0:u1])), (u0, v0))
            if i in seen:
                found[i] = seen[i]
        return found

    def _table_plane(self, frame: CameraFrame, on_markers: np.ndarray) -> tuple[np.ndarray, float]:
        """The table in the optical frame: first through the markers' pixels (n, 2), then through all in that plane."""
        points = _points(frame, on_markers[:, 0], on_markers[:, 1])
        normal, offset = fit_plane(points)
        height, width = frame.depth_m.shape
        v, u = np.mgrid[0:height:_PLANE_STRIDE, 0:width:_PLANE_STRIDE]
        everything = _points(frame, u.ravel(), v.ravel())
        for band in _PLANE_BANDS_M:
            near = everything[np.abs(everything @ normal - offset) < band]
            if len(near) < 50:
                break
            normal, offset = fit_plane(np.concatenate([near, points]))
        return normal, offset


def grey_of(rgb: np.ndarray) -> np.ndarray:
    """Brightness (h, w) uint8."""
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)


def _points(frame: CameraFrame, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Points (n, 3) of the pixels that carry a depth, optical frame."""
    height, width = frame.depth_m.shape
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    u, v = u[inside], v[inside]
    depth = frame.depth_m[v, u].astype(float)
    known = np.isfinite(depth) & (depth > 0)
    return rays(u[known].astype(float), v[known].astype(float), frame.intrinsics) * depth[known, None]
