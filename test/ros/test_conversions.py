"""Values become messages and the same values again; messages that contradict themselves are refused."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from physai_base import values
from physai_base.embodiment import Camera, Embodiment

pytest.importorskip("rclpy")
pytestmark = pytest.mark.ros

from rclpy.serialization import deserialize_message, serialize_message  # noqa: E402

from physai_ros import conversions  # noqa: E402
from physai_ros.conversions import MessageError  # noqa: E402

FRAME = "base_link"


def over_the_wire(message: Any) -> Any:
    """What a subscriber gets."""
    return deserialize_message(serialize_message(message), type(message))


def assert_same(left: Any, right: Any) -> None:
    """Equal, field by field."""
    if dataclasses.is_dataclass(left):
        assert type(left) is type(right)
        for field in dataclasses.fields(left):
            assert_same(getattr(left, field.name), getattr(right, field.name))
    elif isinstance(left, tuple):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_same(one, other)
    elif isinstance(left, np.ndarray):
        np.testing.assert_array_equal(left, right)
    else:
        assert left == right


def unit(rng: np.random.Generator) -> np.ndarray:
    quaternion = rng.normal(size=4)
    return quaternion / np.linalg.norm(quaternion)


def a_scene(rng: np.random.Generator) -> values.SceneState:
    things = tuple(
        values.SceneObject(
            id=i, label=label, position_m=rng.normal(size=3), orientation=unit(rng), covariance=rng.normal(size=(6, 6)),
            velocity_m_s=rng.normal(size=3), size_m=rng.uniform(0.1, 1, 3), confidence=0.5, last_seen_ns=2**40 + i, upright=bool(i),
        )
        for i, label in enumerate(["red_cup", "top_shelf"])
    )  # fmt: skip
    return values.SceneState(
        1_700_000_000_123_456_789,
        things,
        rng.normal(size=7),
        rng.normal(size=7),
        tuple(
            values.EndEffectorState(
                name, rng.normal(size=3), unit(rng), rng.normal(size=3), rng.normal(size=3), 0.04
            )
            for name in ("left", "right")
        ),
    )


def a_chunk(
    rng: np.random.Generator, mode: values.ChunkMode = values.ChunkMode.JOINT_POSITION
) -> values.ActionChunk:
    names = tuple(f"fr3_joint{i}" for i in range(1, 8))
    steps = rng.normal(size=(5, 7))
    if mode is values.ChunkMode.TCP_POSE:
        steps = np.array([[*rng.normal(size=3), *unit(rng), *rng.normal(size=3), *unit(rng)] for _ in steps])
    return values.ActionChunk(
        2**63 + 5,
        "flow",
        10,
        20,
        50_000_000,
        mode,
        names,
        steps,
        rng.uniform(0, 0.08, (5, 2)),
        0.25,
        3_000_000_000,
        lease=2**64 - 1,
        end_effectors=("left", "right"),
    )


def a_status(rng: np.random.Generator) -> values.ControlStatus:
    times = {"p50": 1.0, "p99": 2.0, "p99_9": 3.0, "max": 4.0}
    return values.ControlStatus(
        5, values.ControlState.TRACK, "", 1000, 2, 3, times, times, 7, 0.1, 8, 9, "stale", rng.normal(size=7),
        tuple(
            values.EndEffectorStatus(
                name, np.append(rng.normal(size=3), unit(rng)), rng.normal(size=6), rng.normal(size=6), 0.04
            )
            for name in ("left", "right")
        ),
        rng.normal(size=7), 0.05, cause_code=values.ControlCause.CONTACT, active_lease=2**64 - 1,
        rejected_lease=2**64 - 2, rejected_sequence=11,
    )  # fmt: skip


def a_prediction(rng: np.random.Generator) -> values.WorldPrediction:
    return values.WorldPrediction(
        6,
        7,
        50_000_000,
        rng.normal(size=(4, 3)),
        ("red_cup", "blue_cup"),
        rng.normal(size=(4, 2, 3)),
        rng.uniform(size=4),
    )


def a_verdict() -> values.ChunkVerdict:
    return values.ChunkVerdict(
        4, 9, False, values.VerdictReason.KNOCK, "blue_cup at 0.4 s", 1.0, 0.2, 3.0, 2.5, lease=2**64 - 1
    )


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_round_trips_are_identities(rng: np.random.Generator, embodiment: Embodiment) -> None:
    scene, chunk, status = a_scene(rng), a_chunk(rng), a_status(rng)
    pose_chunk, prediction, verdict = a_chunk(rng, values.ChunkMode.TCP_POSE), a_prediction(rng), a_verdict()
    state = values.JointState(8, rng.normal(size=7), rng.normal(size=7), rng.normal(size=7), np.array([0.06]))
    back = conversions
    assert_same(scene, back.scene_from_msg(over_the_wire(back.scene_to_msg(scene, embodiment))))
    for one in (chunk, pose_chunk):
        assert_same(one, back.chunk_from_msg(over_the_wire(back.chunk_to_msg(one, 1, FRAME))))
    assert_same(status, back.status_from_msg(over_the_wire(back.status_to_msg(status, embodiment))))
    assert_same(
        prediction, back.prediction_from_msg(over_the_wire(back.prediction_to_msg(prediction, FRAME)))
    )
    assert_same(verdict, back.verdict_from_msg(over_the_wire(back.verdict_to_msg(verdict, FRAME))))
    assert_same(
        state,
        back.joint_state_from_msg(over_the_wire(back.joint_state_to_msg(state, embodiment)), embodiment),
    )
    for time_ns in (0, 999_999_999, 1_700_000_000_000_000_001):
        assert back.time_from_msg(back.time_to_msg(time_ns)) == time_ns


A_CAMERA = Camera(
    name="overview", frame="optical", parent="base_link", position=np.zeros(3), look_at=np.ones(3), width=64, height=48,
    fovy_deg=50.0, rate_hz=20.0,
)  # fmt: skip


def a_frame(rng: np.random.Generator) -> values.CameraFrame:
    rgb = rng.integers(0, 256, (48, 64, 3), np.uint8)
    depth = rng.uniform(0.1, 2, (48, 64)).astype(np.float32)
    return values.CameraFrame(3, "overview", rgb, depth, A_CAMERA.intrinsics())


def image_messages(frame: values.CameraFrame) -> tuple[Any, Any, Any]:
    messages = (
        conversions.rgb_to_msg(frame, A_CAMERA.frame),
        conversions.depth_to_msg(frame, A_CAMERA.frame),
        conversions.camera_info_to_msg(frame, A_CAMERA.frame),
    )
    rgb, depth, info = map(over_the_wire, messages)
    return rgb, depth, info


def test_images_round_trip(rng: np.random.Generator) -> None:
    frame = a_frame(rng)
    rgb, depth, info = image_messages(frame)
    np.testing.assert_array_equal(conversions.rgb_from_msg(rgb), frame.rgb)
    np.testing.assert_array_equal(conversions.depth_from_msg(depth), frame.depth_m)
    optics = conversions.optics_from_msg(info, "camera_info")
    optics.check()
    assert over_the_wire(conversions.promised_camera_info(A_CAMERA, frame.stamp_ns)) == info
    np.testing.assert_array_equal(optics.K, frame.intrinsics)
    assert optics.image_size == (64, 48) and not optics.is_distorted


def test_foreign_encodings(rng: np.random.Generator) -> None:
    frame = a_frame(rng)
    rgb, depth, _ = image_messages(frame)
    rgb.encoding, rgb.data = "bgr8", frame.rgb[:, :, ::-1].tobytes()
    np.testing.assert_array_equal(conversions.rgb_from_msg(rgb), frame.rgb)
    millimetres = np.round(frame.depth_m * 1000).astype(">u2")
    padded = np.zeros((48, 140), np.uint8)
    padded[:, :128] = millimetres.view(np.uint8)
    depth.encoding, depth.step, depth.is_bigendian, depth.data = "16UC1", 140, 1, padded.tobytes()
    np.testing.assert_allclose(conversions.depth_from_msg(depth), frame.depth_m, atol=6e-4)


def test_unknown_depth_is_zero(rng: np.random.Generator) -> None:
    frame = a_frame(rng)
    frame.depth_m[0, :3] = [np.nan, np.inf, -1]
    depth = conversions.depth_from_msg(conversions.depth_to_msg(frame, "optical"))
    assert (depth[0, :3] == 0).all()
    assert np.isfinite(depth).all()


def test_filling_an_image_does_not_look_at_each_byte() -> None:
    frame = values.CameraFrame(
        0, "c", np.zeros((1080, 1920, 3), np.uint8), np.zeros((1080, 1920), np.float32), np.eye(3)
    )
    began = time.perf_counter()
    conversions.rgb_to_msg(frame, "optical")
    assert time.perf_counter() - began < 0.2  # 1.5 s when every byte is checked


def test_joint_states_are_found_by_name(rng: np.random.Generator, embodiment: Embodiment) -> None:
    state = values.JointState(8, rng.normal(size=7), rng.normal(size=7), rng.normal(size=7), np.array([0.06]))
    message = conversions.joint_state_to_msg(state, embodiment)
    order = rng.permutation(len(message.name))
    message.name = [message.name[i] for i in order]
    for field in ("position", "velocity", "effort"):
        numbers = getattr(message, field)
        setattr(message, field, [numbers[i] for i in order])
    assert_same(state, conversions.joint_state_from_msg(message, embodiment))
    message.effort = []
    assert (conversions.joint_state_from_msg(message, embodiment).effort == 0).all()
    message.name[0] = "elbow"
    with pytest.raises(MessageError, match="it has elbow"):
        conversions.joint_state_from_msg(message, embodiment)


def set_horizon(message: Any) -> None:
    message.horizon = 4_000_000_000


def drop_opening(message: Any) -> None:
    message.opening = message.opening[:-1]


def drop_values(message: Any) -> None:
    message.values = message.values[:-1]


def put(field: str, value: Any) -> Callable[[Any], None]:
    def change(message: Any) -> None:
        if isinstance(getattr(message, field), int | float | str):
            setattr(message, field, value)
        else:
            getattr(message, field)[2] = value

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (set_horizon, "horizon 4000000000"),
        (drop_opening, "does not fit"),
        (drop_values, "does not fit"),
        (put("values", math.nan), "finite"),
        (put("opening", math.inf), "finite"),
        (put("uncertainty", math.nan), "uncertainty"),
        (put("uncertainty", -1.0), "uncertainty"),
        (put("mode", 7), "unknown mode 7"),
        (put("sequence", 0), "count from 1"),
        (put("lease", 0), "lease is 0"),
        (put("joint_names", "fr3_joint1"), "differ"),
    ],
)
def test_contradictory_chunks_are_refused(
    rng: np.random.Generator, change: Callable[[Any], None], reason: str
) -> None:
    message = conversions.chunk_to_msg(a_chunk(rng), 1, FRAME)
    change(message)
    with pytest.raises(MessageError, match=reason):
        conversions.chunk_from_msg(message)


def test_chunk_without_steps_or_time_is_refused(rng: np.random.Generator) -> None:
    message = conversions.chunk_to_msg(a_chunk(rng), 1, FRAME)
    message.dt.sec, message.dt.nanosec = -1, 0
    with pytest.raises(MessageError, match="dt must be positive"):
        conversions.chunk_from_msg(message)
    empty = dataclasses.replace(a_chunk(rng), values=np.zeros((0, 7)), openings=np.zeros((0, 2)))
    with pytest.raises(MessageError, match="does not fit"):
        conversions.chunk_from_msg(conversions.chunk_to_msg(empty, 1, FRAME))


def test_quaternions_must_be_unit(rng: np.random.Generator, embodiment: Embodiment) -> None:
    chunk = a_chunk(rng, values.ChunkMode.TCP_POSE)
    chunk.values[2, 3:] = 0
    with pytest.raises(MessageError, match="unit quaternion"):
        conversions.chunk_from_msg(conversions.chunk_to_msg(chunk, 1, FRAME))
    message = conversions.scene_to_msg(a_scene(rng), embodiment)
    message.objects[0].pose.pose.orientation.x += 1.0
    with pytest.raises(MessageError, match="red_cup: orientation"):
        conversions.scene_from_msg(message)


def test_quaternion_order(embodiment: Embodiment) -> None:
    pose = conversions.pose_to_msg(np.zeros(3), np.array([1.0, 0, 0, 0]))
    assert (pose.orientation.w, pose.orientation.x) == (1.0, 0.0)


def test_scene_labels_must_differ(rng: np.random.Generator, embodiment: Embodiment) -> None:
    message = conversions.scene_to_msg(a_scene(rng), embodiment)
    message.objects[1].label = "red_cup"
    with pytest.raises(MessageError, match="labels must differ"):
        conversions.scene_from_msg(message)


def test_a_verdict_may_not_allow_with_a_hazard() -> None:
    message = conversions.verdict_to_msg(a_verdict(), FRAME)
    message.allow = True
    with pytest.raises(MessageError, match="knocks_over"):
        conversions.verdict_from_msg(message)


def test_images_of_the_wrong_size_are_refused(rng: np.random.Generator) -> None:
    rgb, depth, _ = image_messages(a_frame(rng))
    rgb.height += 1
    with pytest.raises(MessageError, match="needs 49 rows"):
        conversions.rgb_from_msg(rgb)
    depth.height -= 1
    with pytest.raises(MessageError, match="needs 47 rows"):
        conversions.depth_from_msg(depth)


def test_joints_that_are_not_ours_may_hold_anything(rng: np.random.Generator, embodiment: Embodiment) -> None:
    state = values.JointState(8, rng.normal(size=7), rng.normal(size=7), rng.normal(size=7), np.array([0.06]))
    message = conversions.joint_state_to_msg(state, embodiment)
    message.name = [*message.name, "wheel", "wheel"]
    for field in ("position", "velocity", "effort"):
        setattr(message, field, [*getattr(message, field), float("nan"), float("inf")])
    assert_same(state, conversions.joint_state_from_msg(message, embodiment, need_effort=True))
    message.effort[2] = float("nan")
    assert conversions.joint_state_from_msg(message, embodiment).effort[2] == 0
    with pytest.raises(MessageError, match="no finite effort of fr3_joint3"):
        conversions.joint_state_from_msg(message, embodiment, need_effort=True)
    message.position[1] = float("nan")
    with pytest.raises(MessageError, match="position of fr3_joint2 is nan"):
        conversions.joint_state_from_msg(message, embodiment)


@pytest.mark.parametrize(
    ("encoding", "why"),
    [
        ("8UC3", "does not say which channel is red"),
        ("mono8", "no colour"),
        ("bayer_rggb8", "not debayered"),
        ("yuv422_yuy2", "not converted"),
        ("32FC1", "this is a depth image"),
        ("rgb16", "allowed: rgb8"),
    ],
)
def test_encodings_that_leave_the_colour_open_are_refused(
    rng: np.random.Generator, encoding: str, why: str
) -> None:
    rgb, _, _ = image_messages(a_frame(rng))
    rgb.encoding = encoding
    with pytest.raises(MessageError, match=why):
        conversions.rgb_from_msg(rgb)


def test_depth_of_65535_millimetres_is_unknown(rng: np.random.Generator) -> None:
    frame = a_frame(rng)
    _, depth, _ = image_messages(frame)
    millimetres = np.round(frame.depth_m * 1000).astype("<u2")
    millimetres[3, :5] = 65535
    depth.encoding, depth.step, depth.data = "16UC1", 128, millimetres.tobytes()
    assert (conversions.depth_from_msg(depth)[3, :5] == 0).all()
