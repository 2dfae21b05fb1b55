"""Whether depth lies on the colour image: edges of depth must be edges of colour."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from physai_base.values import CameraFrame
from physai_perception.errors import FrameError, RegistrationError

_JUMP_M = 0.04  # between two neighbouring pixels: one thing in front of another
_POINTS = 800
_LEAST_POINTS = 50
_CANNY = (30, 80)  # of 255, per colour channel
_SIGMA_PX = 2.0
_REACH_PX = 45  # shifts up to this are tried
_STEP_PX = 3
_SHIFTED_PX = 3.0  # a shift of this much is more than what sensors do at edges
_GAIN = 0.08  # by which a shifted depth must fit better
_PARTS = (3, 2)  # across and down, of which each must fit for itself
_PART_REACH_PX = 10
_PART_SHIFTED_PX = 3.0
_PART_GAIN = 0.15
_UNLIKE = 0.5  # of the edges; registered depth has 0.87 and more of them on colour's
_GAP_PX = 8  # unknown pixels that sensors leave along an edge
_LEAST_SIDE = 15  # edges on one side of things, from which on that side has a say
_SIDE_SHARE = 0.7  # of how well all fit, that each side must reach where depth is shifted
_SIDE_LOSS = 0.03  # by which a side may fit worse then
_GROWTH_PX = 6  # by which stereo lets near things grow, or shrink, at most
_GROWN_FIT = 0.68  # of the edges of each side that must be those of colour once growth is taken back
_GROWN_GAIN = 0.03
_DARK = 60  # of 255: brightest pixels of a picture that shows too few edges for its depth
_TOO_DARK = 45  # and of one whose colours nobody tells apart
_DIM, _BRIGHT, _LARGEST_GAIN = (
    120,
    200,
    4.0,
)  # of 255: a picture whose brightest pixels are below is made brighter
_DOUBTFUL = 0.75  # growth is looked for below this


@dataclass(frozen=True)
class Alignment:
    """How well the edges of depth lie on those of colour."""

    score: float  # 0..1 as they are
    shift_px: tuple[int, int]  # (right, down) by which depth would have to be moved to fit best
    best: float  # 0..1 then
    parts: tuple[
        tuple[int, int], ...
    ] = ()  # the same of parts of the image that lie elsewhere for themselves
    growth_px: int = 0  # by which near things are larger in depth than in colour, on all sides
    coherent: bool = True  # all sides of things fit better there: a shift, and no growth

    @property
    def fault(self) -> str:
        """What is wrong, or nothing."""
        right, down = self.shift_px
        shifted = self.coherent and np.hypot(right, down) >= _SHIFTED_PX
        if shifted and self.best > self.score + _GAIN and self.best > _UNLIKE:
            return (
                f"its edges lie {abs(right)} pixels to the {'left' if right > 0 else 'right'} and {abs(down)} pixels "
                f"{'above' if down > 0 else 'below'} those of the colour image"
            )
        if len(self.parts) >= 2:  # one alone may be what the depth camera cannot see beside a near thing
            right, down = max(self.parts, key=lambda shift: np.hypot(*shift))
            return f"in a part of the image its edges lie {np.hypot(right, down):.0f} pixels off, as through another lens or scale"
        if self.score < _UNLIKE:
            return (
                f"only {self.score:.0%} of its edges are edges of the colour image, and no shift mends that"
            )
        return ""


def alignment(rgb: np.ndarray, depth_m: np.ndarray) -> Alignment | None:
    """Compares (h, w, 3) uint8 with (h, w) metres; None where depth shows too few edges to tell.

    Stereo lets near things grow by some pixels. That moves opposite edges apart, a shift moves them alike.
    """
    height, width = depth_m.shape
    points, outward = _depth_edges(depth_m)
    inner = (points > _REACH_PX + _GROWTH_PX).all(axis=1)
    inner &= (points < np.array([width, height]) - _REACH_PX - _GROWTH_PX - 1).all(axis=1)
    points, outward = points[inner], outward[inner]
    if len(points) < _LEAST_POINTS:
        return None
    likeness = _likeness(rgb).ravel()
    found = _aligned(likeness, points, outward, width, height)
    if found.fault or found.score < _DOUBTFUL:
        growth = _growth(likeness, points, outward, width)
        for grown in (growth,) if growth else (-4, -2, 2, 4):  # perhaps grown and shifted
            other = _aligned(likeness, points - grown * outward, outward, width, height)
            if growth or (other.fault and other.best > found.best + _GROWN_GAIN):
                found = replace(other, growth_px=grown)
    return found


def _aligned(
    likeness: np.ndarray, points: np.ndarray, outward: np.ndarray, width: int, height: int
) -> Alignment:
    index = points @ (1, width)
    score = float(likeness[index].mean())
    if score >= 1 - _GAIN:  # nowhere can they fit better by enough
        return Alignment(score, (0, 0), score, _parts(likeness, points, outward, width, height))
    coarse = np.arange(-_REACH_PX, _REACH_PX + 1, _STEP_PX)
    right, down, _ = _best(likeness, index, width, coarse, coarse)
    near = np.arange(-_STEP_PX, _STEP_PX + 1)
    right, down, best = _best(
        likeness,
        index,
        width,
        np.clip(near + right, -_REACH_PX, _REACH_PX),
        np.clip(near + down, -_REACH_PX, _REACH_PX),
    )
    return Alignment(
        score,
        (right, down),
        best,
        _parts(likeness, points, outward, width, height),
        coherent=_two_sides(outward, right, down) and _coherent(likeness, index, outward, width, right, down),
    )


def _sides(outward: np.ndarray, across: bool, down: bool) -> list[np.ndarray]:
    """Which points lie on the left, right, upper and lower side of near things; of sides with enough of them."""
    masks = [outward[:, axis] == sign for axis, on in ((0, across), (1, down)) if on for sign in (-1, 1)]
    return [mask for mask in masks if np.count_nonzero(mask) >= _LEAST_SIDE]


def _moved_across(outward: np.ndarray, right: int, down: int) -> list[np.ndarray]:
    """The sides that a shift moves across, of those with enough points."""
    larger = max(abs(right), abs(down))
    return _sides(outward, 2 * abs(right) > larger, 2 * abs(down) > larger)


def _two_sides(outward: np.ndarray, right: int, down: int) -> bool:
    """Whether more than one side of things shows the shift: one edge of colour alone may be that of a shadow, or of another face."""
    return len(_moved_across(outward, right, down)) != 1


def _coherent(
    likeness: np.ndarray, index: np.ndarray, outward: np.ndarray, width: int, right: int, down: int
) -> bool:
    """Whether all sides of things that this shift moves across fit with it, and none worse than before."""
    before, after = likeness[index], likeness[index + right + down * width]
    sides = _moved_across(outward, right, down)
    least = _SIDE_SHARE * after.mean()
    return all(after[side].mean() > max(before[side].mean() - _SIDE_LOSS, least) for side in sides)


def _growth(likeness: np.ndarray, points: np.ndarray, outward: np.ndarray, width: int) -> int:
    """By how many pixels near things have grown on all sides; 0 where that does not explain what is seen."""
    sides = _sides(outward, True, True)
    best, growth = 0.0, 0
    for grown in range(-_GROWTH_PX, _GROWTH_PX + 1):
        fits = likeness[(points - grown * outward) @ (1, width)]
        worst = min((float(fits[side].mean()) for side in sides), default=0.0)
        if worst > max(best, _GROWN_FIT):
            best, growth = worst, grown
    return growth


def _parts(
    likeness: np.ndarray, points: np.ndarray, outward: np.ndarray, width: int, height: int
) -> tuple[tuple[int, int], ...]:
    """Shifts (right, down) of the parts of the image in which depth clearly fits better elsewhere."""
    part = points[:, 0] * _PARTS[0] // width + _PARTS[0] * (points[:, 1] * _PARTS[1] // height)
    near = np.arange(-_PART_REACH_PX, _PART_REACH_PX + 1)
    found = []
    for number in np.unique(part):
        index = points[part == number] @ (1, width)
        if len(index) < _LEAST_POINTS or likeness[index].mean() >= 1 - _PART_GAIN:
            continue
        right, down, best = _best(likeness, index, width, near, near)
        clear = np.hypot(right, down) >= _PART_SHIFTED_PX and best > likeness[index].mean() + _PART_GAIN
        if clear and _coherent(likeness, index, outward[part == number], width, right, down):
            found.append((right, down))
    return tuple(found)


def _best(
    likeness: np.ndarray, index: np.ndarray, width: int, right: np.ndarray, down: np.ndarray
) -> tuple[int, int, float]:
    offsets = (down[:, None] * width + right[None, :]).ravel()
    scores = likeness[index[None, :] + offsets[:, None]].mean(axis=1)
    best = int(np.argmax(scores))
    return int(right[best % len(right)]), int(down[best // len(right)]), float(scores[best])


def _depth_edges(depth_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (n, 2) as (u, v) at a jump of depth, amid the unknown ones of a short gap, and which way (n, 2) leads
    away from the near thing."""
    found, ways = [], []
    for across in (True, False):
        depth = np.ascontiguousarray(depth_m if across else depth_m.T)
        number = np.arange(depth.size, dtype=np.int32).reshape(depth.shape)
        known = np.maximum.accumulate(
            np.where(depth > 0, number, -1).ravel()
        )  # the last one up to each pixel
        last, flat = known[:-1], depth.ravel()
        step = flat[1:] - flat[last]
        here = number.ravel()[1:]
        jump = (np.abs(step) > _JUMP_M) & (flat[1:] > 0) & (last >= 0) & (here - last <= _GAP_PX + 1)
        at = np.flatnonzero(jump)
        before, after = last[at], here[at]
        one_row = before // depth.shape[1] == after // depth.shape[1]
        before, after, sign = before[one_row], after[one_row], np.sign(step[at[one_row]]).astype(int)
        line, middle = np.divmod((before + after) // 2, depth.shape[1])
        none = np.zeros_like(sign)
        found.append(np.stack([middle, line] if across else [line, middle], axis=1))
        ways.append(np.stack([sign, none] if across else [none, sign], axis=1))
    points, outward = np.concatenate(found).astype(int), np.concatenate(ways)
    every = max(1, len(points) // _POINTS)
    return points[::every], outward[::every]


def _likeness(rgb: np.ndarray) -> np.ndarray:
    """(h, w) float32: 1 on an edge of colour, falling off beside it."""
    bright = max(1.0, float(np.percentile(rgb[::8, ::8], 99)))
    if bright < _DIM:  # faint edges are edges
        rgb = cv2.convertScaleAbs(rgb, alpha=min(_LARGEST_GAIN, _BRIGHT / bright))
    smooth = cv2.GaussianBlur(rgb, (3, 3), 0)
    edges = np.zeros(rgb.shape[:2], np.uint8)
    for channel in cv2.split(smooth):
        edges |= cv2.Canny(channel, *_CANNY)
    distance = cv2.distanceTransform(255 - edges, cv2.DIST_L2, 3)
    near = np.minimum(distance, 10 * _SIGMA_PX)  # without any edge it has no end
    return np.exp(-0.5 * np.square(near / _SIGMA_PX), dtype=np.float32)


class RegistrationWatch:
    """Looks now and then whether depth still lies on colour; never where `period_s` is negative."""

    def __init__(self, period_s: float) -> None:
        self._period_ns = round(period_s * 1e9)
        self.reset()

    def reset(self) -> None:
        """Look again at the next image."""
        self._next_ns: int | None = None
        self._passed = False
        self._failed = 0
        self._remarks: dict[str, str] = {}  # of the last look

    @property
    def remarks(self) -> dict[str, str]:
        """What lasts and is no reason to refuse images, by name."""
        if self._period_ns < 0:
            return {"registration_unchecked": _UNCHECKED}
        return self._remarks

    def check(self, frame: CameraFrame) -> None:
        """Raise when the edges of depth lie elsewhere than those of colour.

        Raises:
            RegistrationError: by how much, or that they are unlike.
            FrameError: the image is too dark to tell.
        """
        if self._period_ns < 0:
            return
        if self._next_ns is not None and 0 < self._next_ns - frame.stamp_ns <= self._period_ns:
            return
        found = alignment(frame.rgb, frame.depth_m)
        bright = int(np.percentile(frame.rgb[::8, ::8], 99))
        fault = found.fault if found else ""
        if found is not None and bright < _TOO_DARK:
            fault = fault or "nothing of it can be told apart"
        self._remarks = {}
        if found is None:
            self._remarks = {"registration_unknown": _UNKNOWN}
        elif abs(found.growth_px) > 1:
            larger = "larger" if found.growth_px > 0 else "smaller"
            grown = f"near things are {abs(found.growth_px)} pixels {larger} in depth than in colour, on all sides: {_GROWN}"
            self._remarks = {"depth_grown": grown}
        if not fault:
            self._passed, self._failed = self._passed or found is not None, 0
            self._next_ns = frame.stamp_ns + self._period_ns
            return
        self._next_ns = None
        if bright < _DARK:
            raise FrameError(
                f"{frame.camera}: the image is too dark: its brightest pixels are {bright} of 255 and its edges are too faint to compare "
                "depth with; more light, or a longer exposure"
            )
        self._failed += 1
        if self._failed > int(self._passed):  # one odd image of a stream that was well is let pass
            raise RegistrationError(
                f"{frame.camera}: the depth is not registered to the colour image: {fault}; publish registered depth "
                "(aligned_depth_to_color, depth_registered), and check for a flip or turn of one of the two"
            )


_UNKNOWN = (
    "depth has too few edges to compare with colour: nobody tells whether it is registered; have the driver keep depth at the "
    "edges of things (confidence threshold, edge and decimation filters)"
)
_GROWN = "they are seen millimetres off (4 pixels: 14 mm); look at the driver's filters and block size"
_UNCHECKED = (
    "registration_period_s is negative: depth is not compared with colour, and depth that is not registered puts things beside "
    "where they are"
)
