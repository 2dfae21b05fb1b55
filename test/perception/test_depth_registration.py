"""Depth that does not lie on its image, or is no depth: noticed, and named."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from pictured_cell import CURVED, SIZE, Cell, bend, edges_unknown

from physai_base.embodiment import Embodiment
from physai_base.optics import Optics
from physai_base.task import Task
from physai_lab.evaluation import cell as simulated
from physai_perception.errors import FrameError
from physai_perception.rectification import FrameMaker, carry_over, parse_extrinsics
from physai_perception.registration import alignment
from physai_sim.scene import RANDOMIZABLE


def roll(right: int, down: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda depth: np.roll(depth, (down, right), axis=(0, 1))


def zoom(scale: float) -> Callable[[np.ndarray], np.ndarray]:
    A = np.array([[scale, 0, 320 * (1 - scale)], [0, scale, 240 * (1 - scale)]])
    return lambda depth: cv2.warpAffine(depth, A, SIZE, flags=cv2.INTER_NEAREST)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (roll(25, 0), "25 pixels to the right"),
        (roll(-6, 0), "not registered.* 6 pixels to the left"),
        (roll(0, 14), "not registered|does not lie on the table|lie elsewhere"),
        (lambda depth: bend(depth, CURVED, nearest=True), "not registered"),
        (zoom(0.9), "not registered|does not lie on the table|lie elsewhere"),
        (lambda depth: depth[:, ::-1].copy(), "not registered|lie elsewhere"),
        (lambda depth: depth[::-1].copy(), "not registered|does not lie on the table|times what"),
    ],
)
def test_depth_that_is_not_registered_is_refused(cell: Cell, spoil: Callable, reason: str) -> None:
    cell.refuses(cell.frame(cell.rgb, spoil(cell.depth)), reason)


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize(("right", "down"), [(0, 0), (6, 0), (-12, 0), (0, -8), (30, 0)])
def test_unknown_depth_at_edges_hides_no_shift(cell: Cell, size: int, right: int, down: int) -> None:
    frame = cell.frame(cell.rgb, roll(right, down)(edges_unknown(cell.depth, size)))
    if right or down:
        cell.refuses(frame, "not registered|do not lie|lie elsewhere")
    else:
        cell.check(frame)
        assert cell.perception.remarks == {}


def test_depth_without_edges_cannot_be_compared_and_that_is_said(cell: Cell) -> None:
    flat = edges_unknown(cell.depth, 31)
    cell.begin(min_markers=2)
    watch = cell.perception._registration
    watch.check(cell.frame(cell.rgb, flat))
    assert "too few edges to compare with colour" in watch.remarks["registration_unknown"]
    watch.reset()
    watch.check(cell.frame(cell.rgb, cell.depth))
    assert watch.remarks == {}


def grow(pixels: int) -> Callable[[np.ndarray], np.ndarray]:
    """Near things larger by so many pixels on all sides, or smaller."""
    square = np.ones((2 * abs(pixels) + 1,) * 2, np.uint8)

    def change(depth: np.ndarray) -> np.ndarray:
        far = np.where(depth > 0, depth, 9).astype(np.float32)
        grown = cv2.erode(far, square) if pixels > 0 else cv2.dilate(far, square)
        return np.where(grown > 8, 0, grown)

    return change


@pytest.mark.parametrize("pixels", [-4, -3, -2, 2, 3, 4])
def test_near_things_that_stereo_lets_grow_are_no_shift(cell: Cell, pixels: int) -> None:
    grown = grow(pixels)(cell.depth)
    rng = np.random.default_rng(3)
    noise = 0.0015 * rng.normal(size=grown.shape) * grown**2
    for depth in (grown, np.where(rng.random(grown.shape) > 0.02, grown + noise, 0).astype(np.float32)):
        cell.begin()
        cell.observe(cell.frame(cell.rgb, depth))
        assert "they are seen millimetres off" in cell.perception.remarks["depth_grown"]


@pytest.mark.parametrize("pixels", [-3, 0, 3])
@pytest.mark.parametrize("shift", [(6, 0), (-6, 0), (0, 6), (0, -6), (9, 0), (0, 12), (5, -5), (25, 0)])
def test_a_shift_is_noticed_whether_or_not_things_have_grown(
    cell: Cell, pixels: int, shift: tuple[int, int]
) -> None:
    found = alignment(cell.rgb, roll(*shift)(grow(pixels)(cell.depth)))
    assert found is not None and found.fault


@pytest.mark.parametrize("shift", [(7, 0), (-7, 0), (0, 7), (0, -7)])
def test_much_shrunk_things_hide_no_shift(cell: Cell, shift: tuple[int, int]) -> None:
    cell.refuses(cell.frame(cell.rgb, roll(*shift)(grow(-5)(cell.depth))), "not registered")


def test_the_comparison_with_colour_can_be_switched_off_and_that_is_said(cell: Cell) -> None:
    cell.begin(registration_period_s=-1.0)
    cell.observe(cell.frame(cell.rgb, roll(6, 0)(cell.depth)))
    assert "depth is not compared with colour" in cell.perception.remarks["registration_unchecked"]


UNKNOWN = {
    "at edges": lambda cell: edges_unknown(cell.depth, 5) == 0,
    "here and there": lambda cell: np.random.default_rng(0).random(cell.depth.shape) < 0.15,
    "on dark surfaces": lambda cell: (
        (cell.rgb.sum(axis=2) < 150) & (np.random.default_rng(0).random(cell.depth.shape) < 0.8)
    ),
}


@pytest.mark.parametrize("where", UNKNOWN)
@pytest.mark.parametrize("value", [65.535, 10.0, 1e30, 0.001, 0.05])
def test_what_no_such_camera_measures_is_no_depth(cell: Cell, where: str, value: float) -> None:
    unknown = UNKNOWN[where](cell)
    assert unknown.mean() > 0.001
    cell.check(cell.frame(cell.rgb, np.where(unknown, np.float32(value), cell.depth)))
    assert cell.perception.remarks == {}


def test_depth_of_another_camera_is_refused_or_carried_over(cell: Cell) -> None:
    T = parse_extrinsics("-0.05 0.004 0.01 0 0.0174524 0 0.9998477")
    assert T is not None
    K = np.array([[430.0, 0, 318], [0, 430, 236], [0, 0, 1]])
    theirs = carry_over(cell.depth, cell.K, np.linalg.inv(T), K, SIZE)  # as the depth camera sees the cell
    info = Optics.ideal(K, *SIZE, source="depth/camera_info")
    for frames, known in ((("colour", "depth"), None), (("", ""), info)):
        with pytest.raises(
            FrameError, match=r"not registered to the colour image: .* parameter depth_extrinsics"
        ):
            cell.frame(cell.rgb, theirs, depth_info=known, frames=frames)
    cell.frames = FrameMaker("overview", T)
    off = cell.off_mm(cell.observe(cell.frame(cell.rgb, theirs, depth_info=info, frames=("colour", "depth"))))
    assert set(off) == set(cell.truth) and max(off.values()) < 8, off  # carried over twice, pixel by pixel
    for text in ("1 2 3", "0 0 0 0 0 0 2", "nan 0 0 0 0 0 1"):
        with pytest.raises(FrameError, match="depth_extrinsics"):
            parse_extrinsics(text)


def test_depth_of_another_size_is_refused(cell: Cell) -> None:
    with pytest.raises(FrameError, match="is 320x240, the colour image 640x480"):
        cell.frame(cell.rgb, cell.depth[::2, ::2].copy())


@pytest.mark.parametrize("factor", [1000.0, 100.0, 10.0, 0.1, 0.001])
def test_wrong_units_of_depth_are_named(cell: Cell, factor: float) -> None:
    cell.refuses(cell.frame(cell.rgb, cell.depth * np.float32(factor)), f"{factor:g} times .* wrong units")


def test_a_wrong_scale_and_missing_depth_are_named(cell: Cell) -> None:
    cell.refuses(cell.frame(cell.rgb, cell.depth * np.float32(1.08)), r"1\.08\d times what their size")
    holes = cell.depth.copy()
    holes[:, :] = np.where(cell.rgb.sum(axis=2) < 150, 0, holes)  # black surfaces give no echo
    cell.perception.reset()
    shiny = cell.depth.copy()
    shiny[100:, :] = np.where(np.ptp(cell.rgb[100:].astype(int), axis=2) < 12, 0, shiny[100:])
    cell.refuses(cell.frame(cell.rgb, shiny), "depth is missing at the table's markers|carry a depth")


@pytest.mark.parametrize("seed", [0, 1])
def test_holes_do_no_harm(cell: Cell, seed: int) -> None:
    depth = cell.depth.copy()
    depth[np.random.default_rng(seed).random(depth.shape) < 0.15] = 0
    cell.check(cell.frame(cell.rgb, depth))


@pytest.mark.parametrize("name", ["push", "cups"])
def test_a_dim_image_tells_of_its_depth_what_a_bright_one_does(name: str, embodiment: Embodiment) -> None:
    cell = simulated.Cell(embodiment, Task.load(name), beyond=("light",))
    for seed in range(5004, 5008):
        cell.randomize(seed, RANDOMIZABLE)
        frame = cell.photograph(cell.camera.name)
        assert np.percentile(frame.rgb, 99) < 90
        found, shifted = (alignment(frame.rgb, np.roll(frame.depth_m, by, axis=1)) for by in (0, 12))
        assert found is not None and not found.fault
        assert shifted is not None and "12 pixels to the right" in shifted.fault
    cell.close()
