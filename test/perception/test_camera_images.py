"""Images as cameras in the field send them: used as camera_info says, or refused with the true reason.

test/cases/images holds one rendered image of the cell, its depth and where things stand; the tests bend, shift, scale
and exchange it as drivers do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from pictured_cell import CURVED, NEAR_MM, SIZE, Cell, bend, edges_unknown

from physai_base.errors import PhysaiError
from physai_base.optics import Optics, OpticsError
from physai_perception.errors import ExtrinsicsError, FrameError
from physai_perception.perception import ScenePerception
from physai_perception.rectification import Picture
from physai_perception.registration import alignment

LENSES = {
    "barrel": ("plumb_bob", (-0.1, 0.0, 0.0, 0.0, 0.0)),
    "strong barrel": ("plumb_bob", (-0.28, 0.07, 0.0, 0.0, 0.0)),
    "pincushion, decentred": ("plumb_bob", (0.12, -0.05, 0.004, -0.003, 0.0)),
    "rational": ("rational_polynomial", (0.3, -0.15, 0.0005, -0.0004, 0.01, 0.55, -0.12, 0.02)),
    "fisheye": ("equidistant", (-0.02, 0.01, -0.004, 0.0005)),
}


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("depth_is", ["as the lens sees it", "rectified already"])
def test_a_lens_is_taken_out_of_colour_and_depth(cell: Cell, lens: str, depth_is: str) -> None:
    model, distortion = LENSES[lens]
    optics = replace(cell.optics, model=model, distortion=distortion)
    depth = bend(cell.depth, optics, nearest=True) if depth_is == "as the lens sees it" else cell.depth
    cell.check(cell.frame(bend(cell.rgb, optics), depth, optics))


def test_maps_are_computed_once_and_an_ideal_lens_costs_nothing(cell: Cell) -> None:
    frame = cell.frame(cell.rgb, cell.depth)
    assert frame.rgb is cell.rgb and frame.depth_m is cell.depth
    optics = replace(cell.optics, distortion=LENSES["barrel"][1])
    for _ in range(3):
        cell.frame(cell.rgb, cell.depth, replace(optics, distortion=tuple(optics.distortion)))
    assert len(cell.frames._undistortions) == 2


def test_depth_is_not_mixed_across_edges(cell: Cell) -> None:
    optics = replace(cell.optics, distortion=LENSES["strong barrel"][1])
    bent = bend(cell.depth, optics, nearest=True)
    frame = cell.frame(bend(cell.rgb, optics), bent, optics)
    assert set(np.unique(frame.depth_m)) <= set(np.unique(bent))


def test_a_rectified_topic_is_used_with_p_and_a_raw_one_with_k(cell: Cell) -> None:
    K = np.array(cell.K)
    K[0, 0], K[0, 2], K[1, 2] = 480.0, 300.0, 250.0  # of a lens that is not in the rectified image any more
    optics = replace(cell.optics, camera_matrix=tuple(K.ravel()), distortion=LENSES["barrel"][1])
    cell.check(cell.frame(cell.rgb, cell.depth, optics, rectified=True))
    cell.begin()
    raw = bend(cell.rgb, optics), bend(cell.depth, optics, nearest=True)
    cell.check(cell.frame(*raw, optics))


def test_binning_and_region_of_interest_are_used(cell: Cell) -> None:
    binned = replace(cell.optics, binning=(2, 2))
    cell.check(cell.frame(cell.rgb[::2, ::2], cell.depth[::2, ::2].copy(), binned))
    cell.begin()
    region = replace(cell.optics, roi=(40, 30, 560, 420))
    part = np.s_[30:450, 40:600]
    cell.check(cell.frame(cell.rgb[part].copy(), cell.depth[part].copy(), region))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"model": "omnidirectional", "distortion": (0.1,) * 5},
            "'omnidirectional' is not known here; known: plumb_bob",
        ),
        ({"model": "equidistant", "distortion": (0.1,) * 5}, "has 4 coefficients, d has 5"),
        ({"model": "plumb_bob", "distortion": (0.1,) * 3}, "has 4 or 5 coefficients"),
        ({"model": "", "distortion": (0.1,) * 5}, "does not say what it means"),
        ({"distortion": (float("nan"),) * 5}, "not finite"),
        ({"distortion": (-2.5, 0.0, 0.0, 0.0, 0.0)}, "folds the picture"),
        ({"camera_matrix": (0.0,) * 9}, "not calibrated"),
        ({"camera_matrix": (500.0, 0, 900.0, 0, 500.0, 240.0, 0, 0, 1.0)}, "another size"),
        ({"rectification": (float("nan"),) * 9}, "R is not finite"),
        ({"rectification": (2.0, 0, 0, 0, 2.0, 0, 0, 0, 2.0)}, "R is no rotation"),
        ({"rectification": (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0)}, "R turns the picture by 180 degrees"),
        ({"rectification": (0, -1.0, 0, 1.0, 0, 0, 0, 0, 1.0)}, "R turns the picture by 90 degrees"),
        ({"distortion": (1e30, 0.0, 0.0, 0.0, 0.0)}, "seen 0% of the rectified picture"),
        ({"distortion": (0.0, 0.0, 0.0, 0.0, 1e8)}, "seen [0-9]% of the rectified picture"),
        ({"projection": (float("inf"),) * 12}, "P is not finite"),
        ({"projection": (500.0, 0, 900.0, 0, 0, 500.0, 240.0, 0, 0, 0, 1.0, 0)}, "P's principal point"),
        ({"projection": (500.0, 40.0, 320.0, 0, 0, 500.0, 240.0, 0, 0, 0, 1.0, 0)}, "P has more than focal"),
        ({"width": 600_000, "height": 400_000, "distortion": (0.1,) * 5}, "image is 640x480"),
        ({"width": 0, "height": 0}, "names no size"),
        ({"width": 1280, "height": 960}, "image is 640x480, but camera_info says 1280x960"),
        ({"binning": (2, 2)}, "binned by 2x2, of which 320x240 are sent"),
        ({"roi": (600, 0, 320, 240)}, "does not lie in 640x480"),
    ],
)
def test_calibration_that_cannot_be_used_is_refused_by_name(cell: Cell, change: dict, reason: str) -> None:
    with pytest.raises((OpticsError, FrameError), match=reason):
        cell.frame(cell.rgb, cell.depth, replace(cell.optics, **change))


@pytest.mark.parametrize("turn_deg", [-3.0, 2.0])
def test_depth_of_a_raw_image_is_turned_with_it(cell: Cell, turn_deg: float) -> None:
    R = cv2.Rodrigues(np.radians([0.5, turn_deg, 0.3]))[0]
    back = cell.K @ R.T @ np.linalg.inv(cell.K)  # from the rectified picture to the raw one
    v, u = np.indices(cell.depth.shape)
    rays = np.stack(
        [(u - cell.K[0, 2]) / cell.K[0, 0], (v - cell.K[1, 2]) / cell.K[1, 1], np.ones(u.shape)], -1
    )
    along_raw = (cell.depth * (rays @ R[:, 2])).astype(np.float32)
    rgb = cv2.warpPerspective(cell.rgb, back, SIZE, flags=cv2.INTER_LINEAR)
    depth = cv2.warpPerspective(along_raw, back, SIZE, flags=cv2.INTER_NEAREST)
    cell.check(cell.frame(rgb, depth, replace(cell.optics, rectification=tuple(R.ravel().tolist()))))


@pytest.mark.parametrize("k1", [-0.1, -0.2, 0.15])
def test_a_lens_that_is_not_told_of_is_noticed(cell: Cell, k1: float) -> None:
    optics = replace(cell.optics, distortion=(k1, 0.0, 0.0, 0.0, 0.0))
    frame = cell.frame(bend(cell.rgb, optics), bend(cell.depth, optics, nearest=True))
    cell.refuses(frame, "through the lens that camera_info describes")


@pytest.mark.parametrize(
    ("model", "d"), [("plumb_bob", (-0.2, 0, 0, 0, 0)), ("equidistant", (-0.3, 0.1, 0.01, 0))]
)
def test_a_lens_that_is_told_of_and_not_there_is_noticed(
    cell: Cell, model: str, d: tuple[float, ...]
) -> None:
    frame = cell.frame(cell.rgb, cell.depth, replace(cell.optics, model=model, distortion=d))
    cell.refuses(frame, "do not fit through the lens that camera_info describes")


@pytest.mark.parametrize("factor", [0.98, 0.99, 1.01, 1.02])
def test_a_scale_that_is_a_little_wrong_is_said(cell: Cell, factor: float) -> None:
    cell.observe(cell.frame(cell.rgb, cell.depth * np.float32(factor)))
    assert "times what their size and place say" in cell.perception.remarks["depth_scale"]


@pytest.mark.parametrize(("right", "down", "name"), [(15, 0, "marker_left_out"), (-15, 0, "marker_left_out"), (8, 0, "markers_uneven"), (0, 15, "markers_uneven"), (0, -15, "markers_uneven")])  # fmt: skip
def test_a_principal_point_that_is_wrong_is_said(cell: Cell, right: int, down: int, name: str) -> None:
    K = np.array(cell.K)
    K[:2, 2] += right, down
    cell.observe(cell.frame(cell.rgb, cell.depth, Optics.ideal(K, *SIZE)))
    assert name in cell.perception.remarks


@pytest.mark.parametrize("k1", [-0.05, 0.05])
def test_a_mild_lens_that_is_not_told_of_is_said(cell: Cell, k1: float) -> None:
    bent = replace(cell.optics, distortion=(k1, 0.0, 0.0, 0.0, 0.0))
    cell.observe(cell.frame(bend(cell.rgb, bent), bend(cell.depth, bent, nearest=True)))
    assert "things are seen" in cell.perception.remarks["depth_scale"]


def with_markers(cell: Cell, **change: object) -> None:
    workcell = cell.task.workcell
    markers = replace(workcell.markers, **change)
    task = replace(cell.task, workcell=replace(workcell, markers=markers))
    cell.perception = ScenePerception(cell.robot, task)


@pytest.mark.parametrize("off_m", [0.02, 0.04])
def test_a_marker_that_is_not_used_is_named(cell: Cell, off_m: float) -> None:
    centers = dict(cell.task.workcell.markers.centers)
    with_markers(cell, centers={**centers, 1: (centers[1][0] + off_m, centers[1][1])})
    cell.check(cell.frame(cell.rgb, cell.depth))
    assert "say: marker 1 by" in cell.perception.remarks["marker_left_out"]


def test_markers_of_other_numbers_are_named(cell: Cell) -> None:
    with_markers(cell, centers={i + 10: place for i, place in cell.task.workcell.markers.centers.items()})
    cell.refuses(
        cell.frame(cell.rgb, cell.depth), r"\[10, 11, 12, 13\] .*; markers \[0, 1, 2, 3\] are seen: print"
    )
    with_markers(cell, dictionary="DICT_5X5_50")
    cell.refuses(cell.frame(cell.rgb, cell.depth), r"\(DICT_5X5_50\) must be visible")


def test_a_copy_of_a_marker_is_named(cell: Cell) -> None:
    markers = cv2.aruco.ArucoDetector(cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_50))
    corners, ids, _ = markers.detectMarkers(cv2.cvtColor(cell.rgb, cv2.COLOR_RGB2GRAY))
    where = {int(i): quad[0] for i, quad in zip(ids.ravel(), corners, strict=True)}
    rgb = cell.rgb.copy()
    for k, i in enumerate(sorted(where)):  # a second sheet lies in view, on the left
        picture = cv2.aruco.generateImageMarker(markers.getDictionary(), i, 48)
        rgb[20 + 90 * k : 92 + 90 * k, 4:76] = 255
        rgb[32 + 90 * k : 80 + 90 * k, 16:64] = picture[:, :, None]
    cell.refuses(
        cell.frame(rgb, cell.depth), r"markers \[0, 1, 2, 3\] are seen more than once: take the copies away"
    )


@pytest.mark.parametrize("fault", ["coarse", "without", "noisy"])
def test_a_cup_that_is_seen_and_not_found_is_said(cell: Cell, fault: str) -> None:
    red = (cell.rgb[:, :, 0] > 100) & (cell.rgb[:, :, 1:].max(axis=2) < 80)
    red = cv2.dilate(red.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    depth = {
        "coarse": lambda: cv2.resize(cell.depth[::4, ::4], SIZE, interpolation=cv2.INTER_NEAREST),
        "without": lambda: np.where(red, np.float32(0), cell.depth),
        "noisy": lambda: np.where(red, cell.depth + np.random.default_rng(1).normal(0, 0.02, red.shape), cell.depth).astype(np.float32),
    }[fault]()  # fmt: skip
    cell.observe(cell.frame(cell.rgb, cell.depth))
    assert cell.perception.remarks == {}
    cell.perception.reset()
    scene = cell.observe(cell.frame(cell.rgb, depth))
    assert scene.find("red_cup") is None
    assert "red_cup: " in cell.perception.remarks["object_unfit"]


@pytest.mark.parametrize("brightness", [0.15, 0.08])
def test_a_dark_picture_is_no_wrong_registration(cell: Cell, brightness: float) -> None:
    cell.refuses(cell.frame((cell.rgb * brightness).astype(np.uint8), cell.depth), "the image is too dark")


def test_headers_that_contradict_the_calibration_are_said(cell: Cell) -> None:
    for of_image, of_info, wrong in (("a", "b", True), ("a", "a", False), ("", "b", False), ("a", "", False)):
        cell.begin()
        info = replace(cell.optics, frame_id=of_info)
        cell.check(cell.frame(cell.rgb, cell.depth, info, frames=(of_image, of_image)))
        assert ("camera_info_frame" in cell.frames.remarks) is wrong


@pytest.mark.parametrize("frame_id", ["depth_optical_frame", ""])
def test_the_calibration_of_the_sensors_own_depth_is_not_that_of_registered_depth(
    cell: Cell, frame_id: str
) -> None:
    native = Optics.ideal(
        np.array([[430.0, 0, 424], [0, 430, 240], [0, 0, 1]]), 848, 480, "depth/camera_info"
    )
    info = replace(native, frame_id=frame_id)
    cell.check(cell.frame(cell.rgb, cell.depth, depth_info=info, frames=("colour", "colour")))
    assert "remap depth/camera_info along" in cell.frames.remarks["depth_info_ignored"]
    with pytest.raises(FrameError, match="not registered to the colour image"):
        cell.frame(cell.rgb, cell.depth, depth_info=replace(info, frame_id="d"), frames=("colour", "depth"))


def test_names_say_how_depth_is_rectified_where_it_has_no_edges(cell: Cell) -> None:
    bent = replace(cell.optics, distortion=LENSES["barrel"][1])
    flat = edges_unknown(cell.depth, 31)
    colour = Picture(cell.rgb, "image_rect_color", "", True)
    depth = Picture(flat, "depth/image_rect", "", True)
    made = cell.frames.make(1, colour, depth, bent, bent)
    assert made.depth_m is flat and not cell.frames.remarks
    made = cell.frames.make(2, replace(colour, rectified=False), depth, bent, None)
    assert made.depth_m is not flat
    assert "too few edges to tell" in cell.frames.remarks["depth_reading_unknown"]


@pytest.mark.parametrize("rectified", [True, False])
def test_a_mild_lens_is_settled_after_some_images_and_looked_at_anew_on_demand(
    cell: Cell, rectified: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    def counted(rgb: np.ndarray, depth: np.ndarray) -> object:
        nonlocal looks
        looks += 1
        return alignment(rgb, depth)

    monkeypatch.setattr("physai_perception.rectification.alignment", counted)
    optics = replace(cell.optics, distortion=(-0.03, 0.0, 0.0, 0.0, 0.0))
    rgb = bend(cell.rgb, optics)
    depth = cell.depth if rectified else bend(cell.depth, optics, nearest=True)
    for _ in range(9):
        frame = cell.frame(rgb, depth, optics)
    assert looks == 10 and (frame.depth_m is depth) is rectified
    cell.frames.reconsider()
    cell.frame(rgb, depth, optics)
    assert looks == 12


def flipped(axis: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pixels: np.ascontiguousarray(np.flip(pixels, axis))


PICTURES = {
    "mirrored": (flipped(1), flipped(1), "the picture is mirrored"),
    "upside down in a mirror": (flipped(0), flipped(0), "the picture is mirrored"),
    "turned": (lambda p: np.ascontiguousarray(p[::-1, ::-1]),) * 2 + ("picture is turned by 180 degrees",),
    "negative": (lambda p: 255 - p, lambda p: p, "the picture is a negative"),
    "red and blue exchanged": (lambda p: p[:, :, ::-1].copy(), lambda p: p, "red and blue are exchanged"),
    "grey": (lambda p: np.repeat(p[:, :, 1:2], 3, axis=2), lambda p: p, "the image is grey"),
}  # fmt: skip


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("before", [0, 15])
def test_a_picture_that_is_not_what_it_seems_is_refused_at_once(cell: Cell, kind: str, before: int) -> None:
    of_colour, of_depth, reason = PICTURES[kind]
    for _ in range(before):  # also of a stream that was well, in its very next image
        cell.observe(cell.frame(cell.rgb, cell.depth))
    for _ in range(3):
        cell.refuses(cell.frame(of_colour(cell.rgb), of_depth(cell.depth)), reason)


def test_boards_of_another_colour_are_allowed(cell: Cell) -> None:
    swapped = cell.rgb[:, :, ::-1].copy()
    cell.begin(board_hue_deg=-1.0)
    scene = cell.observe(cell.frame(swapped, cell.depth))  # nothing is left that could tell
    assert np.allclose(scene.find("red_cup").position_m[:2], cell.truth["blue_cup"][:2], atol=0.003)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda c, d: (c, d * np.float32(1000)), "1000 times"),
        (lambda c, d: (c, np.roll(d, 25, axis=1)), "not registered"),
        (lambda c, d: (bend(c, CURVED), bend(d, CURVED, nearest=True)), "through the lens that camera_info"),
    ],
)
def test_a_stream_that_goes_wrong_is_noticed_soon(cell: Cell, spoil: Callable, reason: str) -> None:
    for _ in range(20):
        cell.observe(cell.frame(cell.rgb, cell.depth))
    with pytest.raises(PhysaiError, match=reason):
        for _ in range(20):
            cell.observe(cell.frame(*spoil(cell.rgb, cell.depth)))


def test_a_stream_that_loses_its_noise_is_frozen(cell: Cell) -> None:
    rng = np.random.default_rng(4)

    def grainy() -> np.ndarray:
        return np.clip(cell.rgb + rng.integers(-2, 3, cell.rgb.shape), 0, 255).astype(np.uint8)

    for _ in range(8):
        cell.observe(cell.frame(grainy(), cell.depth))
    last = grainy()
    with pytest.raises(FrameError, match="the image is frozen: not a pixel has changed"):
        for _ in range(12):
            cell.observe(cell.frame(last, cell.depth))
    cell.observe(cell.frame(grainy(), cell.depth))


def test_a_still_stream_without_noise_is_a_simulator(cell: Cell) -> None:
    for _ in range(40):
        cell.observe(cell.frame(cell.rgb, cell.depth))


def test_one_of_two_streams_may_freeze(cell: Cell) -> None:
    rng = np.random.default_rng(5)
    home = np.array(cell.robot.home)
    with pytest.raises(FrameError, match="the depth image is frozen: the tool moved"):
        for k in range(12):
            arm = home + 0.02 * k * np.array([1, 0, 0, 0, 0, 0, 0])
            rgb = np.clip(cell.rgb + rng.integers(-2, 3, cell.rgb.shape), 0, 255).astype(np.uint8)
            cell.observe(cell.frame(rgb, cell.depth), arm)


def test_a_moved_marker_is_left_out_as_before(cell: Cell) -> None:
    markers = cell.task.workcell.markers
    moved = replace(markers, centers={**markers.centers, 1: (0.80, -0.42)})
    task = replace(cell.task, workcell=replace(cell.task.workcell, markers=moved))
    cell.perception = ScenePerception(cell.robot, task)
    try:
        off = cell.off_mm(cell.observe(cell.frame(cell.rgb, cell.depth)))
    except ExtrinsicsError as error:  # where only three are in view nobody can tell which
        assert "or markers are not where the task file" in str(error)
    else:
        assert max(off.values()) < NEAR_MM
