"""From what a camera sends to a registered pinhole image, as its `camera_info` says: lens, binning, region of interest."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from physai_base.optics import Optics
from physai_base.values import CameraFrame
from physai_perception.errors import FrameError
from physai_perception.registration import alignment

_SAME_K = 0.01  # two pinhole matrices closer than this, relative to the focal length, are one
_BENT_PX = (
    1.5  # a lens that moves no pixel further than this is as good as ideal for which way depth was made
)
_CLEARLY = 0.1  # better edges than the other reading of depth: settled for this calibration
_AGREEING = 5  # images that say the same of it settle it, too
_SHOWN = 0.15  # of the rectified picture that the camera must have seen
_BLIND = 5, 15  # after so many images without edges, only each so many-th is looked at
_DEPTH_JUMP = 0.03  # relative to the distance: nearer pixels hide farther ones when depth is carried over


@dataclass(frozen=True)
class Picture:
    """One image as it came, with what is known of its camera."""

    pixels: np.ndarray  # (h, w, 3) uint8, or (h, w) float32 [m]
    topic: str
    frame_id: str
    rectified: bool  # its topic says that the lens is already taken out


class Undistortion:
    """Carries images of one camera to the pinhole `K`; its maps are computed once."""

    def __init__(self, optics: Optics, rectified: bool) -> None:
        optics.check()
        self.optics, self.rectified = optics, rectified
        self.size = (optics.width, optics.height)
        self.K = _output_matrix(optics)
        whole = optics.image_size == self.size and optics.bins == (1, 1)
        bent = optics.is_distorted and not rectified
        turned = not rectified and not np.allclose(_rotation(optics), np.eye(3), atol=1e-6)
        scaled = not rectified and not np.allclose(self.K, optics.K, rtol=1e-9, atol=1e-6)
        self._maps: tuple[np.ndarray, np.ndarray] | None = None
        self._depth_ratio = self._along_new_axis() if turned else None
        self.bent_px = 0.0
        """How far the lens moves a pixel at most."""
        if not whole or bent or turned or scaled:
            self._maps = self._make_maps(bent or turned or scaled)

    @property
    def is_identity(self) -> bool:
        """Whether images are used as they come."""
        return self._maps is None

    def colour(self, pixels: np.ndarray) -> np.ndarray:
        """The rectified image, interpolated; black where the camera saw nothing."""
        _check_size(pixels, self.optics)
        if self._maps is None:
            return pixels
        return cv2.remap(np.ascontiguousarray(pixels), *self._maps, cv2.INTER_LINEAR)

    def depth(self, pixels: np.ndarray) -> np.ndarray:
        """The rectified depth, each pixel the nearest measured one: edges are not smeared; 0 where there is none.

        Where R turns the camera, depth is along the new optical axis.
        """
        _check_size(pixels, self.optics)
        if self._maps is None:
            return pixels
        depth = cv2.remap(pixels, *self._maps, cv2.INTER_NEAREST)
        return depth if self._depth_ratio is None else depth * self._depth_ratio

    def _make_maps(self, bent: bool) -> tuple[np.ndarray, np.ndarray]:
        optics, (width, height) = self.optics, self.size
        if bent:
            x, y = self._lens_maps()
        else:
            x, y = (a.astype(np.float32) for a in np.meshgrid(np.arange(width), np.arange(height)))
        u, v, _, _ = optics.region
        return (x - np.float32(u)) / np.float32(optics.bins[0]), (y - np.float32(v)) / np.float32(
            optics.bins[1]
        )

    def _lens_maps(self) -> tuple[np.ndarray, np.ndarray]:
        """Where in the distorted image each pixel of the rectified one is found."""
        optics, rotation = self.optics, _rotation(self.optics)
        D = np.array(optics.distortion or (0.0,) * 4, float)
        make = cv2.fisheye.initUndistortRectifyMap if optics.is_fisheye else cv2.initUndistortRectifyMap
        x, y = make(optics.K, D, rotation, self.K, self.size, cv2.CV_32FC1)
        inside = (x >= 0) & (x < optics.width) & (y >= 0) & (y < optics.height)
        if inside.mean() < _SHOWN:
            raise FrameError(
                f"{optics.source}: with distortion_model {optics.model!r}, d = {list(optics.distortion)}, K, R and P the camera has "
                f"seen {inside.mean():.0%} of the rectified picture: these are not the numbers of this lens at this size; calibrate "
                "it anew"
            )
        rightward, downward = np.diff(x, axis=1) > 0, np.diff(y, axis=0) > 0
        if not (rightward[inside[:, 1:]].all() and downward[inside[1:]].all()):
            raise FrameError(
                f"{optics.source}: distortion_model {optics.model!r} with d = {list(optics.distortion)} folds the picture onto "
                "itself: these are not the coefficients of this lens at this size; calibrate it anew"
            )
        columns, rows = np.meshgrid(np.arange(optics.width), np.arange(optics.height))
        self.bent_px = float(np.hypot(x - columns, y - rows)[inside].max(initial=0.0))
        return x, y

    def _along_new_axis(self) -> np.ndarray:
        """(h, w) float32: of each rectified pixel, the depth along the rectified optical axis over that along the raw one."""
        columns, rows = np.meshgrid(np.arange(self.size[0]), np.arange(self.size[1]))
        x, y = (columns - self.K[0, 2]) / self.K[0, 0], (rows - self.K[1, 2]) / self.K[1, 1]
        to_raw = _rotation(self.optics).T[2]
        along = to_raw[0] * x + to_raw[1] * y + to_raw[2]
        return np.where(along > 0.1, 1 / np.maximum(along, 0.1), 0).astype(np.float32)


def _check_size(pixels: np.ndarray, optics: Optics) -> None:
    size = (pixels.shape[1], pixels.shape[0])
    if size == optics.image_size:
        return
    said = f"{optics.source} says {optics.width}x{optics.height}"
    if optics.bins != (1, 1):
        said += f", binned by {optics.bins[0]}x{optics.bins[1]}"
    if optics.image_size != (optics.width, optics.height):
        said += f", of which {optics.image_size[0]}x{optics.image_size[1]} are sent"
    raise FrameError(
        f"the image is {size[0]}x{size[1]}, but {said}: image and camera_info must be of one stream and one setting"
    )


def _rotation(optics: Optics) -> np.ndarray:
    R = np.array(optics.rectification, float).reshape(3, 3)
    return R if R.any() else np.eye(3)


def _output_matrix(optics: Optics) -> np.ndarray:
    """P where there is one, as everything that rectifies in ROS has it, else K."""
    P, K = optics.P, optics.K
    usable = np.isfinite(P).all() and P[0, 0] > 0 and P[1, 1] > 0 and P[2, 2] == 1
    return P if usable else K


class FrameMaker:
    """Makes registered frames of one camera from colour, depth and what both cameras say of themselves.

    `T_colour_depth` (4, 4) carries points from the depth camera's optical frame to the colour camera's: with it
    depth that is not registered is carried over; without it such depth is refused.
    """

    def __init__(self, camera: str, T_colour_depth: np.ndarray | None = None) -> None:
        self._camera, self._T = camera, T_colour_depth
        self._undistortions: dict[tuple[Optics, bool], Undistortion] = {}
        self.remarks: dict[str, str] = {}
        """What the last image's headers and calibrations contradict or leave open without a refusal, by name."""
        self.reconsider()

    def reconsider(self) -> None:
        """Find out anew whether depth is registered to the raw image or to the rectified one."""
        self._depth_was_rectified: dict[Optics, bool] = {}
        self._votes: dict[Optics, list[int]] = {}
        self._blind = 0

    def make(
        self, stamp_ns: int, colour: Picture, depth: Picture, info: Optics, depth_info: Optics | None
    ) -> CameraFrame:
        """The frame at that stamp.

        Raises:
            FrameError: sizes, frames or calibrations contradict each other.
            OpticsError: a calibration cannot be used.
        """
        self.remarks = {}
        try:
            return self._make(stamp_ns, colour, depth, info, depth_info)
        except (cv2.error, np.linalg.LinAlgError) as error:  # degenerate numbers are not the process's fault
            raise FrameError(
                f"{self._camera}: the image cannot be rectified as camera_info says: {error}"
            ) from error

    def _make(
        self, stamp_ns: int, colour: Picture, depth: Picture, info: Optics, depth_info: Optics | None
    ) -> CameraFrame:
        info.check()
        _check_size(colour.pixels, info)
        if colour.frame_id and info.frame_id and colour.frame_id != info.frame_id:
            self.remarks["camera_info_frame"] = (
                f"images on {colour.topic} are of frame {colour.frame_id!r}, {info.source} of {info.frame_id!r}: "
                "is that this camera's calibration? remap camera_info to it"
            )
        if depth_info is not None and (foreign := _not_of(depth, depth_info, info)):
            self.remarks["depth_info_ignored"] = foreign
            depth_info = None
        lens = self._undistortion(info, colour.rectified)
        rgb = lens.colour(colour.pixels)
        other = self._other_camera(colour, depth, info, depth_info, lens)
        if other:
            if self._T is None or depth_info is None:
                raise FrameError(self._not_registered(depth, other, depth_info))
            depth_info.check()
            _check_size(depth.pixels, depth_info)
            own = self._undistortion(depth_info, depth.rectified)
            metres = carry_over(own.depth(depth.pixels), own.K, self._T, lens.K, lens.size)
        else:
            metres = self._registered(rgb, depth, info, depth_info, lens, colour.rectified)
        return CameraFrame(stamp_ns, self._camera, rgb, metres, lens.K)

    def _undistortion(self, optics: Optics, rectified: bool) -> Undistortion:
        key = (optics, rectified)
        if key not in self._undistortions:
            if len(self._undistortions) >= 8:  # a driver that changes its calibration all the time
                self._undistortions.clear()
                self.reconsider()
            self._undistortions[key] = Undistortion(optics, rectified)
        return self._undistortions[key]

    def _other_camera(
        self, colour: Picture, depth: Picture, info: Optics, depth_info: Optics | None, lens: Undistortion
    ) -> str:
        """Why depth is another camera's than colour, or nothing."""
        colour_frame = colour.frame_id or info.frame_id
        depth_frame = depth.frame_id or (depth_info.frame_id if depth_info else "")
        if colour_frame and depth_frame and colour_frame != depth_frame:
            return f"its frame is {depth_frame!r}, that of the colour image {colour_frame!r}"
        if depth_info is None:
            return ""
        depth_info.check()
        if (depth_info.width, depth_info.height) != (info.width, info.height):
            return f"{depth_info.source} says {depth_info.width}x{depth_info.height}, {info.source} {info.width}x{info.height}"
        theirs = (depth_info.K, depth_info.P)
        near = min(float(np.abs(a - b)[:2].max()) for a in theirs for b in (info.K, lens.K))
        if near > _SAME_K * info.K[0, 0]:
            return f"{depth_info.source} and {info.source} differ in K by {near:.1f} pixels"
        return ""

    def _not_registered(self, depth: Picture, why: str, depth_info: Optics | None) -> str:
        ignored = self.remarks.get("depth_info_ignored", "its camera_info has not come")
        missing = "" if depth_info else f" and {ignored}"
        return (
            f"the depth on {depth.topic} is not registered to the colour image: {why}{missing}; publish registered depth "
            "(aligned_depth_to_color, depth_registered), or give the parameter depth_extrinsics"
        )

    def _registered(
        self,
        rgb: np.ndarray,
        depth: Picture,
        info: Optics,
        depth_info: Optics | None,
        lens: Undistortion,
        colour_rectified: bool,
    ) -> np.ndarray:
        """Depth pixel by pixel as colour: as the lens sees it, or already rectified."""
        size = (depth.pixels.shape[1], depth.pixels.shape[0])
        if size not in (info.image_size, lens.size):
            raise FrameError(
                f"the depth on {depth.topic} is {size[0]}x{size[1]}, the colour image {info.image_size[0]}x{info.image_size[1]}: "
                "depth must be registered to it, pixel by pixel"
            )
        if size != info.image_size or (lens.is_identity and depth_info is None):
            return depth.pixels
        own = depth_info is not None and depth_info.image_size == size
        source = self._undistortion(depth_info, False) if own and depth_info is not None else lens
        if info.is_distorted and not source.optics.is_distorted:
            source = lens
        bent = source.depth(depth.pixels)
        if source.bent_px < _BENT_PX or size != lens.size:
            return bent
        # Two conventions: registered to the raw image, or to the rectified one. The picture's own edges tell.
        if info not in self._depth_was_rectified:
            rectified = self._reads_rectified(rgb, bent, depth.pixels, info)
            if rectified is None and not (colour_rectified and depth.rectified):  # by name, too
                self.remarks["depth_reading_unknown"] = (
                    f"the depth on {depth.topic} has too few edges to tell whether it is registered to the raw image or to the "
                    "rectified one; it is read as raw. Publish both rectified, on topics named image_rect…, or keep depth at edges"
                )
                return bent
            return depth.pixels if rectified is not False else bent
        return depth.pixels if self._depth_was_rectified[info] else bent

    def _reads_rectified(
        self, rgb: np.ndarray, bent: np.ndarray, straight: np.ndarray, info: Optics
    ) -> bool | None:
        """Which reading of depth has its edges on colour's; settled once it is clear or some images agree."""
        if self._blind >= _BLIND[0] and self._blind % _BLIND[1]:
            self._blind += 1
            return None
        scores = alignment(rgb, bent), alignment(rgb, straight)
        if scores[0] is None or scores[1] is None:
            self._blind += 1
            return None
        self._blind = 0
        better = scores[1].score > scores[0].score
        votes = self._votes.setdefault(info, [0, 0])
        votes[better] += 1
        if abs(scores[1].score - scores[0].score) >= _CLEARLY or votes[better] >= _AGREEING:
            self._depth_was_rectified[info] = better
        return better


def _not_of(depth: Picture, depth_info: Optics, info: Optics) -> str:
    """Why `depth_info` is not what belongs to this depth, or nothing: drivers publish that of the sensor's own depth."""
    size = (depth.pixels.shape[1], depth.pixels.shape[0])
    if depth.frame_id and depth_info.frame_id and depth.frame_id != depth_info.frame_id:
        differs = f"is of frame {depth_info.frame_id!r}, the depth on {depth.topic} of {depth.frame_id!r}"
    elif size != depth_info.image_size and size == info.image_size:
        theirs = f"{depth_info.image_size[0]}x{depth_info.image_size[1]}"
        differs = f"says {theirs}, the depth on {depth.topic} is {size[0]}x{size[1]} as colour is"
    else:
        return ""
    return f"{depth_info.source} {differs}: it is not used; remap depth/camera_info along with the depth"


def parse_extrinsics(text: str) -> np.ndarray | None:
    """T_colour_depth (4, 4) from "x y z qx qy qz qw", metres, as static_transform_publisher takes them; None for "".

    Raises:
        FrameError: it is something else.
    """
    if not text.strip():
        return None
    try:
        x, y, z, qx, qy, qz, qw = (float(word) for word in text.replace(",", " ").split())
    except ValueError:
        raise FrameError(f"depth_extrinsics must be seven numbers, x y z qx qy qz qw, got {text!r}") from None
    q = np.array([qw, qx, qy, qz])
    if not (np.isfinite([x, y, z]).all() and abs(np.linalg.norm(q) - 1) < 1e-2):
        raise FrameError(
            f"depth_extrinsics: the quaternion must be of length 1 and all be finite, got {text!r}"
        )
    w, a, b, c = q / np.linalg.norm(q)
    T = np.eye(4)
    T[:3, :3] = [
        [1 - 2 * (b * b + c * c), 2 * (a * b - w * c), 2 * (a * c + w * b)],
        [2 * (a * b + w * c), 1 - 2 * (a * a + c * c), 2 * (b * c - w * a)],
        [2 * (a * c - w * b), 2 * (b * c + w * a), 1 - 2 * (a * a + b * b)],
    ]
    T[:3, 3] = x, y, z
    return T


def carry_over(
    depth_m: np.ndarray, K_depth: np.ndarray, T: np.ndarray, K: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Depth as another camera sees it: points carried by T (4, 4), the nearest of those that meet in a pixel.

    `size` is width and height of the result [m]; gaps of one pixel between neighbours on a surface are closed.
    """
    v, u = np.nonzero(np.isfinite(depth_m) & (depth_m > 0))
    z = depth_m[v, u].astype(float)
    points = np.stack([(u - K_depth[0, 2]) / K_depth[0, 0] * z, (v - K_depth[1, 2]) / K_depth[1, 1] * z, z])
    x, y, z = T[:3, :3] @ points + T[:3, 3:]
    ahead = z > 0.01
    x, y, z = x[ahead], y[ahead], z[ahead]
    column, row = (
        np.rint(K[0, 0] * x / z + K[0, 2]).astype(int),
        np.rint(K[1, 1] * y / z + K[1, 2]).astype(int),
    )
    width, height = size
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    flat = np.full(width * height, np.inf, np.float32)
    np.minimum.at(flat, row[inside] * width + column[inside], z[inside].astype(np.float32))
    result: np.ndarray = flat.reshape(height, width)
    empty = ~np.isfinite(result)
    closed = cv2.erode(result, np.ones((3, 3), np.uint8))  # the nearest of the neighbours
    closed[~np.isfinite(closed)] = 0
    result[empty] = 0
    far = cv2.dilate(result, np.ones((3, 3), np.uint8))
    gap = empty & (closed > 0) & (far - closed < _DEPTH_JUMP * closed)
    deeper = ~empty & (result - closed > _DEPTH_JUMP * closed)
    behind = deeper & _between(~empty & ~deeper)
    return np.where(gap | behind, closed, result).astype(np.float32)


def _between(near: np.ndarray) -> np.ndarray:
    """Pixels with near ones on two opposite sides: there a foreground that is sampled too coarsely shows through."""
    left, right, up, down = (np.zeros_like(near) for _ in range(4))
    left[:, 1:], right[:, :-1] = near[:, :-1], near[:, 1:]
    up[1:], down[:-1] = near[:-1], near[1:]
    return (left & right) | (up & down)
