"""What a camera says of its lens and its sensor: the content of a `sensor_msgs/CameraInfo`, as a value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from physai_base.errors import PhysaiError

IDEAL_MODELS = ("", "none", "pinhole")
COEFFICIENTS: dict[str, tuple[int, ...]] = {
    "plumb_bob": (4, 5),
    "rational_polynomial": (8, 12, 14),
    "equidistant": (4,),
    "fisheye": (4,),
}
"""Coefficients of each distortion model that OpenCV undistorts; the last two are one model."""


_MOST_TURNED_DEG = 45.0  # by R: to rectify takes a few degrees


class OpticsError(PhysaiError):
    """Calibration that is absent, contradicts itself or follows a model that is not known here."""


@dataclass(frozen=True)
class Optics:
    """Calibration of one image stream, for the full sensor, as `CameraInfo` has it.

    The image shows the region of interest `roi` (x, y, width, height in pixels of the full sensor; all of it when
    width or height is 0), with `binning` (x, y) pixels of the sensor to one of the image (0 counts as 1).
    """

    source: str  # topic or camera, for messages
    frame_id: str
    width: int
    height: int
    model: str
    distortion: tuple[float, ...]
    camera_matrix: tuple[float, ...]  # K, 9 numbers by rows
    rectification: tuple[float, ...]  # R, 9
    projection: tuple[float, ...]  # P, 12
    binning: tuple[int, int] = (1, 1)
    roi: tuple[int, int, int, int] = (0, 0, 0, 0)

    @staticmethod
    def ideal(intrinsics: np.ndarray, width: int, height: int, source: str = "camera") -> Optics:
        """A pinhole with that matrix K (3, 3)."""
        K = np.asarray(intrinsics, float)
        return Optics(
            source, "", width, height, "plumb_bob", (0.0,) * 5, tuple(K.ravel().tolist()),
            tuple(np.eye(3).ravel().tolist()), tuple(np.hstack([K, np.zeros((3, 1))]).ravel().tolist()),
        )  # fmt: skip

    @property
    def K(self) -> np.ndarray:
        """Pinhole matrix (3, 3) of the distorted image, full sensor."""
        return np.array(self.camera_matrix, float).reshape(3, 3)

    @property
    def P(self) -> np.ndarray:
        """Pinhole matrix (3, 3) of the rectified image, full sensor."""
        return np.array(self.projection, float).reshape(3, 4)[:, :3]

    @property
    def is_fisheye(self) -> bool:
        """Whether the picture is no pinhole's even with all coefficients zero."""
        return self.model in ("equidistant", "fisheye")

    @property
    def is_distorted(self) -> bool:
        """Whether straight lines come out bent."""
        return self.is_fisheye or any(self.distortion)

    @property
    def bins(self) -> tuple[int, int]:
        """Pixels of the sensor, across and down, to one of the image."""
        return max(1, self.binning[0]), max(1, self.binning[1])

    @property
    def region(self) -> tuple[int, int, int, int]:
        """The part of the sensor (x, y, width, height) that the image shows."""
        x, y, width, height = self.roi
        return (x, y, width, height) if width and height else (0, 0, self.width, self.height)

    @property
    def image_size(self) -> tuple[int, int]:
        """Width and height of the image that these numbers belong to."""
        return self.region[2] // self.bins[0], self.region[3] // self.bins[1]

    def check(self) -> None:
        """Raise unless this is a calibration that can be used.

        Raises:
            OpticsError: names what is wrong, and what to do.
        """
        if not (self.width and self.height):
            raise OpticsError(
                f"{self.source}: it names no size ({self.width}x{self.height}); the driver must fill in width and height"
            )
        for name, numbers in (
            ("K", self.camera_matrix),
            ("d", self.distortion),
            ("R", self.rectification),
            ("P", self.projection),
        ):
            if not np.isfinite(numbers).all():
                raise OpticsError(f"{self.source}: {name} is not finite: {name} = {list(numbers)}")
        K = self.K
        if not K.any():
            raise OpticsError(
                f"{self.source}: K is all zeros, which means not calibrated; calibrate the camera, or give the driver its calibration file"
            )
        if not (K[0, 0] > 0 and K[1, 1] > 0 and K[2, 2] == 1):
            raise OpticsError(
                f"{self.source}: focal lengths must be positive and K[8] be 1, got K = {list(self.camera_matrix)}"
            )
        if not (0 <= K[0, 2] <= self.width and 0 <= K[1, 2] <= self.height):
            raise OpticsError(
                f"{self.source}: the principal point ({K[0, 2]:.0f}, {K[1, 2]:.0f}) lies outside of {self.width}x{self.height} pixels; "
                "was the camera calibrated at another size?"
            )
        x, y, width, height = self.region
        if x + width > self.width or y + height > self.height:
            raise OpticsError(
                f"{self.source}: its roi {width}x{height} at ({x}, {y}) does not lie in {self.width}x{self.height} pixels"
            )
        self._check_rectified()
        self._check_model()

    def _check_rectified(self) -> None:
        R, P = np.array(self.rectification, float).reshape(3, 3), self.P
        if R.any() and not (np.allclose(R @ R.T, np.eye(3), atol=1e-3) and np.linalg.det(R) > 0):
            raise OpticsError(f"{self.source}: R is no rotation: R = {list(self.rectification)}")
        turn_deg = float(np.degrees(np.arccos(np.clip((np.trace(R) - 1) / 2, -1, 1)))) if R.any() else 0.0
        if turn_deg > _MOST_TURNED_DEG:
            raise OpticsError(
                f"{self.source}: R turns the picture by {turn_deg:.0f} degrees, where to rectify takes a few: is it the camera's pose? "
                "That belongs in the robot file; have the driver publish the identity"
            )
        for name, matrix in (("K", self.K), ("P", P)):
            beside = matrix[[0, 1, 2, 2], [1, 0, 0, 1]]
            if np.abs(beside).max() > 1e-6 * self.K[0, 0]:
                raise OpticsError(
                    f"{self.source}: {name} has more than focal lengths and a principal point: {matrix.ravel().tolist()}"
                )
        if P[0, 0] > 0 and not (0 <= P[0, 2] <= self.width and 0 <= P[1, 2] <= self.height):
            raise OpticsError(
                f"{self.source}: P's principal point ({P[0, 2]:.0f}, {P[1, 2]:.0f}) lies outside of {self.width}x{self.height} "
                "pixels; was the camera calibrated at another size?"
            )

    def _check_model(self) -> None:
        model, count = self.model, len(self.distortion)
        if model in IDEAL_MODELS:
            if any(self.distortion):
                raise OpticsError(
                    f"{self.source}: d = {list(self.distortion)}, but distortion_model {model!r} does not say what it means; "
                    f"known: {', '.join(COEFFICIENTS)}"
                )
            return
        if model not in COEFFICIENTS:
            raise OpticsError(
                f"{self.source}: distortion_model {model!r} is not known here; known: {', '.join(COEFFICIENTS)}. Have the "
                "driver publish rectified images, or calibrate with one of these"
            )
        if count not in COEFFICIENTS[model] and not (count == 0 and not self.is_fisheye):
            allowed = " or ".join(map(str, COEFFICIENTS[model]))
            raise OpticsError(
                f"{self.source}: distortion_model {model!r} has {allowed} coefficients, d has {count}"
            )
