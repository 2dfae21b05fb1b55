"""What the table's markers say about an image: whether lens, depth, units, mirror and turn are what they are said to be.

The markers' size and places are known, so their corners alone give the camera's pose. What contradicts it is named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from physai_base.values import CameraFrame
from physai_perception.errors import ExtrinsicsError
from physai_perception.frame_check import FARTHEST_M, NEAREST_M
from physai_perception.geometry import median, rays

_UNITS = (1000.0, 100.0, 10.0, 0.1, 0.01, 0.001)
_UNIT_SLACK = 0.1
_SCALE_SLACK = 0.03  # of the depth at the markers, relative
_SCALE_DOUBT = 0.007  # beyond this it is said, and images are taken
_UNEVEN = 0.006  # between markers, relative: calibrated cameras stay below 0.004, with noise
_LEAST_SAMPLES = 4  # pixels of a marker that must carry a depth
_TURNED_DEG = 40.0  # beyond this a pose is not a mount that was bumped
_OUTLIER = 3.0  # times that limit, of a single marker
_CELLS = 6  # across a marker of a 4x4 dictionary, with its border
_ALIKE = 0.6  # correlation of a marker's cells with what they were

# Weights (n, 4) of a marker's corners that spread points over it.
_GRID = np.array(
    [
        [(1 - a) * (1 - b), a * (1 - b), a * b, (1 - a) * b]
        for a in np.linspace(0, 1, 4)
        for b in np.linspace(0, 1, 4)
    ]
)
_CENTRES = (np.arange(_CELLS) + 0.5) / _CELLS
_CELL_GRID = np.array(
    [[(1 - a) * (1 - b), a * (1 - b), a * b, (1 - a) * b] for b in _CENTRES for a in _CENTRES]
)


@dataclass(frozen=True)
class MarkerView:
    """The camera's pose by the markers' corners alone."""

    T_camera_base: np.ndarray  # (4, 4)
    corners: dict[int, np.ndarray]  # (4, 2) pixels of the markers that agree
    rms_px: dict[int, float]  # of each of them
    left_out_px: dict[int, float] = field(default_factory=dict)  # how far off the others are


def view_of(
    found: Mapping[int, np.ndarray],
    places: Mapping[int, np.ndarray],
    K: np.ndarray,
    limit_px: float,
    least: int,
) -> MarkerView:
    """The pose that explains the corners; one marker that does not fit may be left out.

    Raises:
        ExtrinsicsError: they do not fit each other through this lens.
    """
    view = _solve(found, places, K)
    if view is not None and _fits(view, limit_px):
        return view
    if len(found) > max(
        3, least
    ):  # one may have been moved, or half hidden; through three a wrong lens cannot fit
        others = [_solve({j: found[j] for j in found if j != i}, places, K) for i in found]
        fitting = [other for other in others if other is not None and _fits(other, limit_px)]
        if fitting:
            best = min(fitting, key=lambda one: max(one.rms_px.values()))
            off_px = {
                i: _off_px(best.T_camera_base, places[i], found[i], K)
                for i in found.keys() - best.corners.keys()
            }
            return replace(best, left_out_px=off_px)
    off = (
        ""
        if view is None
        else f" (off by {', '.join(f'{i}: {e:.1f}' for i, e in sorted(view.rms_px.items()))} pixels)"
    )
    raise ExtrinsicsError(
        f"the table's markers {sorted(found)} do not fit through the lens that camera_info describes{off}; at most "
        f"{limit_px:g} pixels are believed: K or d are not this camera's at this size, or markers are not where the task file "
        "has them: calibrate the camera, measure the markers"
    )


def _fits(view: MarkerView, limit_px: float) -> bool:
    off = sorted(view.rms_px.values())
    return off[len(off) // 2] <= limit_px and off[-1] <= _OUTLIER * limit_px


def _solve(
    found: Mapping[int, np.ndarray], places: Mapping[int, np.ndarray], K: np.ndarray
) -> MarkerView | None:
    names = sorted(found)
    world, pixels = np.concatenate([places[i] for i in names]), np.concatenate([found[i] for i in names])
    try:
        _, turns, shifts, errors = cv2.solvePnPGeneric(world, pixels, K, None, flags=cv2.SOLVEPNP_IPPE)
        if not len(turns):
            return None
        best = int(np.argmin(np.ravel(errors)))
        turn, shift = cv2.solvePnPRefineLM(world, pixels, K, None, turns[best], shifts[best])
    except cv2.error:
        return None
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = cv2.Rodrigues(turn)[0], np.ravel(shift)
    if not np.isfinite(T).all() or not (world @ T[2, :3] + T[2, 3] > 0).all():
        return None
    return MarkerView(T, {i: found[i] for i in names}, {i: _off_px(T, places[i], found[i], K) for i in names})


def _off_px(T: np.ndarray, corners: np.ndarray, pixels: np.ndarray, K: np.ndarray) -> float:
    """RMS distance of a marker's corners (4, 3) m in the picture from `pixels` (4, 2), seen from T (4, 4)."""
    seen = (corners @ T[:3, :3].T + T[:3, 3]) @ K.T
    return float(np.sqrt(np.square(seen[:, :2] / seen[:, 2:] - pixels).sum(axis=1).mean()))


def check_depth(
    frame: CameraFrame, view: MarkerView, least: int
) -> tuple[dict[int, np.ndarray], dict[int, float]]:
    """Pixels (n, 2) of each marker that carry a depth, and the depth there over where the marker is.

    Raises:
        ExtrinsicsError: there is none, or it is of another unit, another scale or another place.
    """
    normal = view.T_camera_base[:3, 2]
    offset = float(normal @ view.T_camera_base[:3, 3])
    height, width = frame.depth_m.shape
    at: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # pixels and depth of each marker
    for i, quad in view.corners.items():
        middle = quad.mean(axis=0)
        samples = np.rint(middle + 0.7 * (_GRID @ (quad - middle))).astype(int)
        samples = samples[((samples >= 0) & (samples < (width, height))).all(axis=1)]
        at[i] = samples, frame.depth_m[samples[:, 1], samples[:, 0]].astype(float)
    likely = [np.count_nonzero((d > NEAREST_M) & (d < FARTHEST_M)) >= _LEAST_SAMPLES for _, d in at.values()]
    low, high = (NEAREST_M, FARTHEST_M) if sum(likely) >= least else (0.0, np.inf)  # perhaps in other units
    pixels, ratios = {}, {}
    for i, (samples, depth) in at.items():
        known = np.isfinite(depth) & (depth > low) & (depth < high)
        if np.count_nonzero(known) < _LEAST_SAMPLES:
            continue
        samples = samples[known]
        expected = offset / (
            rays(samples[:, 0].astype(float), samples[:, 1].astype(float), frame.intrinsics) @ normal
        )
        ratio = depth[known] / expected
        ratios[i] = float(median(ratio))
        pixels[i] = samples[np.abs(ratio / ratios[i] - 1) < _SCALE_SLACK]
    if len(ratios) < least:
        raise ExtrinsicsError(
            f"depth is missing at the table's markers {sorted(set(view.corners) - set(ratios))}, which the colour image shows: "
            "is the depth registered, and do the markers shine?"
        )
    _check_scale(ratios)
    return pixels, ratios


def scale_doubt(ratios: Mapping[int, float]) -> str:
    """That depth and the markers' size and places disagree by more than they do in a calibrated camera, or nothing."""
    ratio = float(np.median(list(ratios.values()))) if ratios else 1.0
    if abs(ratio - 1) <= _SCALE_DOUBT:
        return ""
    return (
        f"the depth at the markers is {ratio:.3f} times what their size and place say through camera_info's lens: things are seen "
        "millimetres off (2 % is up to 16 mm); check the depth's scale, K, the markers' size in the task file"
    )


def uneven_doubt(ratios: Mapping[int, float]) -> str:
    """That depth fits one marker and another one differently, as through a wrong principal point, or nothing."""
    here = {
        i: r for i, r in ratios.items() if abs(r - 1) <= _SCALE_SLACK
    }  # others are hidden in one of the images
    if len(here) < 2 or max(here.values()) - min(here.values()) <= _UNEVEN:
        return ""
    return (
        "the depth at the markers is not alike (over what their size and place say: "
        f"{', '.join(f'{i}: {r:.3f}' for i, r in sorted(here.items()))}): things are seen millimetres off (a principal point that is "
        "15 pixels off: up to 8 mm); check K and d, the depth's calibration, the markers' places in the task file"
    )


def left_out(off_px: Mapping[int, float]) -> str:
    """That markers are not used since they lie elsewhere than the others say, or nothing."""
    if not off_px:
        return ""
    each = ", ".join(f"marker {i} by {off:.1f} pixels" for i, off in sorted(off_px.items()))
    return (
        f"not used, since it lies elsewhere than the task file and the other markers say: {each}; it was moved or is half hidden, "
        "or K or d are not quite this camera's"
    )


def _check_scale(ratios: Mapping[int, float]) -> None:
    middle = float(np.median(list(ratios.values())))
    each = ", ".join(f"{i}: {r:.3f}" for i, r in sorted(ratios.items()))
    for unit in _UNITS:
        if abs(middle / unit - 1) < _UNIT_SLACK:
            raise ExtrinsicsError(
                f"the depth at the markers is {unit:g} times what their size and place say: wrong units; 32FC1 must hold metres, "
                "16UC1 millimetres"
            )
    wrong = {i for i, r in ratios.items() if abs(r - 1) > _SCALE_SLACK}
    if 2 * len(wrong) <= len(ratios) and len(ratios) - len(wrong) >= 2:
        return  # one marker is hidden in one of the two images; its residual tells
    if max(ratios.values()) - min(ratios.values()) < 2 * _SCALE_SLACK:
        raise ExtrinsicsError(
            f"the depth at the markers is {middle:.3f} times what their size and place say through the lens that camera_info "
            "describes: the depth's scale, K or d, or the task file's marker size is wrong"
        )
    raise ExtrinsicsError(
        f"the depth at the markers does not lie on the table (depth over what their size and place say: {each}): it is not "
        "registered to the colour image, or not of the same moment"
    )


def why_unseen(
    grey: np.ndarray, detect: Callable[[np.ndarray], Mapping[int, object]], seen: int, least: int
) -> str:
    """Why markers are not found, where the picture itself tells; else nothing."""
    if len(detect(cv2.flip(grey, 1))) >= max(least, seen + 1):
        return "the picture is mirrored: the table's markers are found in its mirror image; switch the driver's flip off"
    if len(detect(cv2.bitwise_not(grey))) >= max(least, seen + 1):
        return "the picture is a negative: the table's markers are found once dark and bright are exchanged"
    return ""


def turned(nominal: np.ndarray, measured: np.ndarray) -> str:
    """That the picture is turned about the optical axis, or nothing."""
    R = nominal[:3, :3].T @ measured[:3, :3]
    roll = np.degrees(np.arctan2(R[1, 0] - R[0, 1], R[0, 0] + R[1, 1]))
    tilt = np.degrees(np.arccos(np.clip(R[2, 2], -1, 1)))
    if abs(roll) < _TURNED_DEG or tilt > _TURNED_DEG:
        return ""
    return f"the picture is turned by {abs(roll):.0f} degrees against the robot file's camera"


@dataclass(frozen=True)
class Glimpse:
    """How the markers looked in the last measurement: enough to tell at once that something is different now."""

    samples: dict[int, np.ndarray]  # (n, 2) pixels of each marker's cells
    cells: dict[int, np.ndarray]  # (n,) brightness there
    depth_m: dict[int, np.ndarray]  # (n,)

    @staticmethod
    def of(frame: CameraFrame, view: MarkerView) -> Glimpse:
        """Of the markers that agree."""
        height, width = frame.depth_m.shape
        samples = {}
        for i, quad in view.corners.items():
            pixels = np.rint(_CELL_GRID @ quad).astype(int)
            samples[i] = np.clip(pixels, 0, (width - 1, height - 1))
        return Glimpse(
            samples,
            {i: _brightness(frame, pixels) for i, pixels in samples.items()},
            {i: frame.depth_m[pixels[:, 1], pixels[:, 0]] for i, pixels in samples.items()},
        )

    def matches(self, frame: CameraFrame, least: int) -> bool:
        """Whether at least so many markers look as they did, in colour and in depth."""
        alike = 0
        for i, pixels in self.samples.items():
            now, then = _brightness(frame, pixels), self.cells[i]
            now, then = now - now.mean(), then - then.mean()
            scale = float(np.sqrt((now @ now) * (then @ then)))
            if not (scale > 0 and now @ then > _ALIKE * scale):
                continue
            depth, before = frame.depth_m[pixels[:, 1], pixels[:, 0]], self.depth_m[i]
            known = (depth > 0) & (before > 0)
            if not known.any() or abs(float(median(depth[known] / before[known])) - 1) < _SCALE_SLACK:
                alike += 1
        return alike >= least


def _brightness(frame: CameraFrame, pixels: np.ndarray) -> np.ndarray:
    return frame.rgb[pixels[:, 1], pixels[:, 0]].sum(axis=1).astype(float)
