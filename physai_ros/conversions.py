"""Messages to values and back: the only module that does it.

A message comes from outside: `*_from_msg` checks lengths, ranges and that every number is finite, and
raises MessageError with the reason. Quaternions are (x, y, z, w) in geometry_msgs and (w, x, y, z) in values.
Array fields are filled from `array.array`, which the generated setters take without looking at each element.
"""

from __future__ import annotations

import array
import dataclasses
import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import Point, Pose, Transform, Vector3, Wrench, WrenchStamped
from sensor_msgs.msg import CameraInfo, Image
from sensor_msgs.msg import JointState as JointStateMsg
from std_msgs.msg import Header

from physai.msg import ActionChunk as ActionChunkMsg
from physai.msg import ChunkVerdict as ChunkVerdictMsg
from physai.msg import ControlStatus as ControlStatusMsg
from physai.msg import Impedance as ImpedanceMsg
from physai.msg import SceneObject as SceneObjectMsg
from physai.msg import SceneState as SceneStateMsg
from physai.msg import WorldPrediction as WorldPredictionMsg
from physai_base.embodiment import LAWS, Camera, Embodiment, Impedance
from physai_base.errors import PhysaiError
from physai_base.optics import Optics
from physai_base.urdf import matrix, quaternion_of
from physai_base.values import (
    ActionChunk,
    CameraFrame,
    ChunkMode,
    ChunkVerdict,
    ControlCause,
    ControlState,
    ControlStatus,
    JointSample,
    JointState,
    SceneObject,
    SceneState,
    VerdictReason,
    WorldPrediction,
)

QUATERNION_TOLERANCE = 1e-3
_SECOND_NS = 1_000_000_000
_PERCENTILES = ("p50", "p99", "p99_9", "max")


class MessageError(PhysaiError):
    """A message whose content contradicts itself or is not finite."""


# Time --------------------------------------------------------------------------------------------------------


def time_to_msg(stamp_ns: int) -> Time:
    """Nanoseconds of ROS time as a message."""
    return Time(sec=stamp_ns // _SECOND_NS, nanosec=stamp_ns % _SECOND_NS)


def time_from_msg(message: Time) -> int:
    """Nanoseconds of ROS time."""
    return int(message.sec) * _SECOND_NS + int(message.nanosec)


def duration_to_msg(duration_ns: int) -> Duration:
    """Nanoseconds as a message."""
    return Duration(sec=duration_ns // _SECOND_NS, nanosec=duration_ns % _SECOND_NS)


def duration_from_msg(message: Duration) -> int:
    """Nanoseconds."""
    return int(message.sec) * _SECOND_NS + int(message.nanosec)


def header(stamp_ns: int, frame_id: str) -> Header:
    """A header of that stamp and frame."""
    return Header(stamp=time_to_msg(stamp_ns), frame_id=frame_id)


# Geometry ----------------------------------------------------------------------------------------------------


def pose_to_msg(position_m: np.ndarray, orientation: np.ndarray) -> Pose:
    """A pose from a position (3,) and a quaternion (4,) w x y z."""
    message = Pose(position=point_to_msg(position_m))
    w, x, y, z = (float(value) for value in orientation)
    message.orientation.w, message.orientation.x, message.orientation.y, message.orientation.z = w, x, y, z
    return message


def pose_from_msg(message: Pose, what: str = "pose") -> tuple[np.ndarray, np.ndarray]:
    """Position (3,) and quaternion (4,) w x y z."""
    q = message.orientation
    orientation = _finite(np.array([q.w, q.x, q.y, q.z]), f"{what}: orientation")
    _check_unit(orientation, f"{what}: orientation")
    return vector_from_msg(message.position, f"{what}: position"), orientation


def point_to_msg(position_m: np.ndarray) -> Point:
    """A point from (3,)."""
    x, y, z = (float(value) for value in position_m)
    return Point(x=x, y=y, z=z)


def vector_to_msg(vector: np.ndarray) -> Vector3:
    """A vector from (3,)."""
    x, y, z = (float(value) for value in vector)
    return Vector3(x=x, y=y, z=z)


def vector_from_msg(message: Point | Vector3, what: str = "vector") -> np.ndarray:
    """(3,) of a point or a vector."""
    return _finite(np.array([message.x, message.y, message.z]), what)


def set_transform(message: Transform, pose: np.ndarray) -> None:
    """Fill in a homogeneous matrix (4, 4)."""
    shift, turn = message.translation, message.rotation
    shift.x, shift.y, shift.z = pose[:3, 3].tolist()
    turn.w, turn.x, turn.y, turn.z = quaternion_of(pose[:3, :3]).tolist()


def wrench_to_msg(wrench: np.ndarray) -> Wrench:
    """A wrench from (6,): force [N], then torque [Nm]."""
    return Wrench(force=vector_to_msg(wrench[:3]), torque=vector_to_msg(wrench[3:]))


def wrench_from_msg(message: Wrench) -> np.ndarray:
    """(6,): force, then torque."""
    return np.concatenate(
        [vector_from_msg(message.force, "force"), vector_from_msg(message.torque, "torque")]
    )


def tool_wrench_to_msg(status: ControlStatus, tool_frame: str) -> WrenchStamped:
    """The estimated wrench on the tool, in the axes of the tool frame and about its origin.

    What reads a WrenchStamped takes it to be expressed in the frame that its header names, as force-torque sensors
    have it; ControlStatus has the same wrench along the axes of the base frame.
    """
    turn = matrix(np.zeros(3), status.tool_pose[3:])[:3, :3]
    force, torque = turn.T @ status.external_wrench[:3], turn.T @ status.external_wrench[3:]
    message = WrenchStamped(header=header(status.stamp_ns, tool_frame))
    message.wrench = wrench_to_msg(np.concatenate([force, torque]))
    return message


# Joints ------------------------------------------------------------------------------------------------------


def joint_state_to_msg(state: JointState, embodiment: Embodiment) -> JointStateMsg:
    """Arm joints, then finger joints, each of which opens by half the gripper's width."""
    fingers = len(embodiment.gripper.joints)
    return joints_to_msg(
        header(state.stamp_ns, embodiment.base_frame),
        [*embodiment.joint_names, *embodiment.gripper.joints],
        np.append(state.position, [state.gripper_width_m / 2] * fingers),
        np.append(state.velocity, [0.0] * fingers),
        np.append(state.effort, [0.0] * fingers),
    )


def joints_to_msg(
    where: Header,
    names: Sequence[str],
    position: np.ndarray,
    velocity: np.ndarray,
    effort: np.ndarray | Sequence[float] = (),
) -> JointStateMsg:
    """Any joints' state, rad, rad/s and Nm, (n,) each; an empty `effort`: none."""
    message = JointStateMsg(header=where, name=list(names))
    message.position, message.velocity = _doubles(position), _doubles(velocity)
    message.effort = _doubles(np.asarray(effort, float))
    return message


def joint_samples_from_msg(message: JointStateMsg, names: Sequence[str]) -> dict[str, JointSample]:
    """What the message says of those of `names` that it holds; other joints are not looked at.

    Velocity and effort are NaN where the message has none: joint_state_broadcaster writes NaN for what the hardware does not measure.
    """
    count = len(message.name)
    if len(message.position) != count:
        raise MessageError(f"joint state: {count} names but {len(message.position)} positions")
    for what, values in (("velocity", message.velocity), ("effort", message.effort)):
        if len(values) not in (0, count):
            raise MessageError(f"joint state: {what} must have {count} numbers or none, it has {len(values)}")
    samples: dict[str, JointSample] = {}
    wanted = set(names)
    for i, name in enumerate(message.name):
        if name not in wanted:
            continue
        if name in samples:
            raise MessageError(f"joint state: names must differ, {name} is there twice")
        position = message.position[i]
        velocity = message.velocity[i] if len(message.velocity) else math.nan
        if not math.isfinite(position):
            raise MessageError(f"joint state: position of {name} is {position}")
        if math.isinf(velocity):
            raise MessageError(f"joint state: velocity of {name} is {velocity}")
        samples[name] = JointSample(
            position, velocity, message.effort[i] if len(message.effort) else math.nan
        )
    return samples


def joint_state_from_msg(
    message: JointStateMsg, embodiment: Embodiment, need_effort: bool = False
) -> JointState:
    """The robot's joints in the embodiment's order, found by name; others are ignored, whatever they hold.

    Efforts may be absent, as ROS allows, or not finite: they are then zero, unless they are needed.
    """
    arm, fingers = embodiment.joint_names, embodiment.gripper.joints
    samples = joint_samples_from_msg(message, (*arm, *fingers))
    missing = [name for name in (*arm, *fingers) if name not in samples]
    if missing:
        raise MessageError(
            f"joint state: no {', '.join(missing)}; it has {', '.join(message.name) or 'no joint'}"
        )
    unmeasured = [name for name in arm if math.isnan(samples[name].velocity)]
    if unmeasured:
        raise MessageError(f"joint state: it carries no velocity of {', '.join(unmeasured)}")
    effort = np.array([samples[name].effort for name in arm])
    if need_effort and not np.isfinite(effort).all():
        bad = ", ".join(name for name in arm if not math.isfinite(samples[name].effort))
        raise MessageError(f"joint state: no finite effort of {bad}")
    width = 2 * float(np.mean([samples[name].position for name in fingers])) if fingers else 0.0
    return JointState(
        stamp_ns=time_from_msg(message.header.stamp),
        position=np.array([samples[name].position for name in arm]),
        velocity=np.array([samples[name].velocity for name in arm]),
        effort=np.where(np.isfinite(effort), effort, 0.0),
        gripper_width_m=width,
    )


# Images ------------------------------------------------------------------------------------------------------


def rgb_to_msg(frame: CameraFrame, frame_id: str) -> Image:
    """The colour image of a frame, rgb8."""
    return _image_to_msg(frame.rgb, "rgb8", frame.stamp_ns, frame_id)


def depth_to_msg(frame: CameraFrame, frame_id: str) -> Image:
    """The depth image of a frame, 32FC1 [m]."""
    return _image_to_msg(np.asarray(frame.depth_m, np.float32), "32FC1", frame.stamp_ns, frame_id)


def camera_info_to_msg(frame: CameraFrame, frame_id: str) -> CameraInfo:
    """Intrinsics of a frame: a pinhole without distortion."""
    return _pinhole_info(frame.stamp_ns, frame_id, frame.depth_m.shape, frame.intrinsics)


def promised_camera_info(camera: Camera, stamp_ns: int) -> CameraInfo:
    """Intrinsics of a camera as the embodiment file has it: a pinhole without distortion."""
    return _pinhole_info(stamp_ns, camera.frame, (camera.height, camera.width), camera.intrinsics())


def _pinhole_info(stamp_ns: int, frame_id: str, shape: tuple[int, ...], K: np.ndarray) -> CameraInfo:
    message = CameraInfo(header=header(stamp_ns, frame_id), height=shape[0], width=shape[1])
    message.distortion_model = "plumb_bob"
    message.d = array.array("d", [0.0] * 5)
    intrinsics = np.asarray(K, np.float64)
    message.k = intrinsics.reshape(9)
    message.r = np.eye(3).reshape(9)
    message.p = np.hstack([intrinsics, np.zeros((3, 1))]).reshape(12)
    return message


def optics_from_msg(message: CameraInfo, source: str) -> Optics:
    """Calibration as it came, unchecked; `source` is its topic, for messages."""
    return Optics(
        source=source,
        frame_id=message.header.frame_id,
        width=message.width,
        height=message.height,
        model=message.distortion_model,
        distortion=tuple(message.d),
        camera_matrix=tuple(message.k.tolist()),
        rectification=tuple(message.r.tolist()),
        projection=tuple(message.p.tolist()),
        binning=(message.binning_x, message.binning_y),
        roi=(message.roi.x_offset, message.roi.y_offset, message.roi.width, message.roi.height),
    )


def rgb_from_msg(message: Image) -> np.ndarray:
    """(h, w, 3) uint8 from rgb8, bgr8, rgba8 or bgra8; a view of the message's data where it can be."""
    channels = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4}.get(message.encoding)
    if channels is None:
        why = _WHY_NOT.get(message.encoding) or next(
            (why for start, why in _WHY_NOT.items() if message.encoding.startswith(start)), ""
        )
        raise MessageError(
            f"image: encoding {message.encoding!r}{': ' + why if why else ''}; allowed: rgb8, bgr8, rgba8, bgra8"
        )
    pixels = _pixels(message, np.dtype(np.uint8), channels)
    return pixels[:, :, 2::-1] if message.encoding.startswith("bgr") else pixels[:, :, :3]


_WHY_NOT = {
    "8UC": "it does not say which channel is red; have the driver name the order",
    "mono": "it carries no colour",
    "bayer": "it is not debayered yet; run image_proc's debayer node, or have the driver do it",
    "yuv": "it is not converted yet; have the driver publish rgb8",
    "yuyv": "it is not converted yet; have the driver publish rgb8",
    "uyvy": "it is not converted yet; have the driver publish rgb8",
    "nv": "it is not converted yet; have the driver publish rgb8",
    "16UC1": "this is a depth image",
    "32FC1": "this is a depth image",
}


def depth_from_msg(message: Image) -> np.ndarray:
    """(h, w) float32 [m] from 32FC1 [m] or 16UC1 [mm]; 0 where it is unknown."""
    if message.encoding == "32FC1":
        depth = _pixels(message, np.dtype(np.float32), 1)[:, :, 0].astype(np.float32)
        # An unknown distance is NaN, infinite or zero, depending on the driver.
        depth[~(np.isfinite(depth) & (depth > 0))] = 0
        return depth
    if message.encoding == "16UC1":
        raw = _pixels(message, np.dtype(np.uint16), 1)[:, :, 0]
        depth = raw.astype(np.float32) * np.float32(0.001)
        depth[raw == np.iinfo(np.uint16).max] = 0  # as some drivers mark what they do not know
        return depth
    raise MessageError(f"depth image: encoding {message.encoding!r}; allowed: 32FC1 [m], 16UC1 [mm]")


def _image_to_msg(pixels: np.ndarray, encoding: str, stamp_ns: int, frame_id: str) -> Image:
    pixels = np.ascontiguousarray(pixels)
    message = Image(header=header(stamp_ns, frame_id), encoding=encoding)
    message.height, message.width = pixels.shape[:2]
    message.step = pixels.strides[0]
    message.is_bigendian = int(sys.byteorder == "big")
    # array.array is taken as it is: 1 ms for a full-HD image; bytes would be checked one by one, 1.5 s.
    data = array.array("B")
    data.frombytes(pixels.reshape(-1).view(np.uint8).data)
    message.data = data
    return message


def _pixels(message: Image, dtype: np.dtype[Any], channels: int) -> np.ndarray:
    """(h, w, channels) of `dtype` in this machine's byte order, without padding at the end of rows."""
    row = message.width * channels * dtype.itemsize
    if not (message.width and message.height):
        raise MessageError("image: it is empty")
    if message.step < row or len(message.data) != message.step * message.height:
        raise MessageError(
            f"image: {message.width}x{message.height} {message.encoding} needs {message.height} rows of at least {row} bytes; "
            f"step is {message.step}, there are {len(message.data)} bytes"
        )
    data = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)[:, :row]
    order = dtype.newbyteorder(">" if message.is_bigendian else "<")
    values = np.ascontiguousarray(data).view(order).reshape(message.height, message.width, channels)
    return values.astype(dtype, copy=False)


# Scene -------------------------------------------------------------------------------------------------------


def scene_to_msg(scene: SceneState, embodiment: Embodiment) -> SceneStateMsg:
    """A scene, in the base frame."""
    message = SceneStateMsg(header=header(scene.stamp_ns, embodiment.base_frame))
    message.objects = [_object_to_msg(thing) for thing in scene.objects]
    message.joint_names = list(embodiment.joint_names)
    message.joint_position = _doubles(scene.joint_position)
    message.joint_velocity = _doubles(scene.joint_velocity)
    message.tcp = pose_to_msg(scene.tcp_position_m, scene.tcp_orientation)
    message.gripper_width = float(scene.gripper_width_m)
    return message


def scene_from_msg(message: SceneStateMsg) -> SceneState:
    """A scene whose labels differ and whose joint arrays fit its joint names."""
    joints = len(message.joint_names)
    if not joints:
        raise MessageError("scene: it names no joint")
    objects = tuple(_object_from_msg(thing) for thing in message.objects)
    labels = [thing.label for thing in objects]
    if len(set(labels)) != len(labels):
        raise MessageError(f"scene: labels must differ, got {', '.join(labels)}")
    tcp_position, tcp_orientation = pose_from_msg(message.tcp, "scene: tcp")
    return SceneState(
        stamp_ns=time_from_msg(message.header.stamp),
        objects=objects,
        joint_position=_numbers(message.joint_position, joints, "scene: joint_position"),
        joint_velocity=_numbers(message.joint_velocity, joints, "scene: joint_velocity"),
        tcp_position_m=tcp_position,
        tcp_orientation=tcp_orientation,
        gripper_width_m=_number(message.gripper_width, "scene: gripper_width"),
    )


def _object_to_msg(thing: SceneObject) -> SceneObjectMsg:
    message = SceneObjectMsg(
        id=thing.id, label=thing.label, confidence=float(thing.confidence), upright=bool(thing.upright)
    )
    message.pose.pose = pose_to_msg(thing.position_m, thing.orientation)
    message.pose.covariance = np.asarray(thing.covariance, np.float64).reshape(36)
    message.velocity = vector_to_msg(thing.velocity_m_s)
    message.size = vector_to_msg(thing.size_m)
    message.last_seen = time_to_msg(thing.last_seen_ns)
    return message


def _object_from_msg(message: SceneObjectMsg) -> SceneObject:
    if not message.label:
        raise MessageError(f"scene: object {message.id} has no label")
    what = f"scene: {message.label}"
    position, orientation = pose_from_msg(message.pose.pose, what)
    return SceneObject(
        id=int(message.id),
        label=message.label,
        position_m=position,
        orientation=orientation,
        covariance=_numbers(message.pose.covariance, 36, f"{what}: covariance").reshape(6, 6),
        velocity_m_s=vector_from_msg(message.velocity, f"{what}: velocity"),
        size_m=vector_from_msg(message.size, f"{what}: size"),
        confidence=_number(message.confidence, f"{what}: confidence", 0.0, 1.0),
        last_seen_ns=time_from_msg(message.last_seen),
        upright=bool(message.upright),
    )


# Chunks and verdicts -----------------------------------------------------------------------------------------


def chunk_to_msg(chunk: ActionChunk, stamp_ns: int, frame_id: str) -> ActionChunkMsg:
    """A chunk, published at `stamp_ns`."""
    message = ActionChunkMsg(header=header(stamp_ns, frame_id), sequence=chunk.sequence, policy=chunk.policy)
    message.lease = chunk.lease
    message.observation_stamp = time_to_msg(chunk.observation_ns)
    message.start_stamp = time_to_msg(chunk.start_ns)
    message.dt = duration_to_msg(chunk.dt_ns)
    message.mode = int(chunk.mode)
    message.joint_names = list(chunk.joint_names)
    message.horizon = chunk.horizon
    message.values = _doubles(chunk.values)
    message.gripper_width = _doubles(chunk.gripper_width_m)
    message.uncertainty = float(chunk.uncertainty)
    message.expiry = time_to_msg(chunk.expiry_ns)
    return message


def chunk_from_msg(message: ActionChunkMsg) -> ActionChunk:
    """A chunk whose arrays agree; its horizon is what they hold, and the field that says so must agree as well."""
    try:
        mode = ChunkMode(message.mode)
    except ValueError:
        raise MessageError(
            f"chunk: unknown mode {message.mode}; allowed: 0 (joint position), 1 (tool pose)"
        ) from None
    columns = len(message.joint_names) if mode is ChunkMode.JOINT_POSITION else 7
    if not columns or len(set(message.joint_names)) != len(message.joint_names):
        raise MessageError(f"chunk: joint names must be given and differ, got {list(message.joint_names)}")
    steps = len(message.gripper_width)
    if not steps or len(message.values) != steps * columns or message.horizon != steps:
        raise MessageError(
            f"chunk: horizon {message.horizon} with {columns} columns does not fit {len(message.values)} values "
            f"and {steps} gripper widths"
        )
    values = _numbers(message.values, steps * columns, "chunk: values").reshape(steps, columns)
    if mode is ChunkMode.TCP_POSE:
        for quaternion in values[:, 3:]:
            _check_unit(quaternion, "chunk: orientation")
    dt_ns = duration_from_msg(message.dt)
    if dt_ns <= 0:
        raise MessageError(f"chunk: dt must be positive, got {dt_ns} ns")
    if message.sequence < 1:
        raise MessageError("chunk: sequence numbers count from 1")
    if message.lease < 1:
        raise MessageError("chunk: lease is 0; a policy draws a random number other than 0 when it starts")
    return ActionChunk(
        sequence=int(message.sequence),
        policy=message.policy,
        observation_ns=time_from_msg(message.observation_stamp),
        start_ns=time_from_msg(message.start_stamp),
        dt_ns=dt_ns,
        mode=mode,
        joint_names=tuple(message.joint_names),
        values=values,
        gripper_width_m=_numbers(message.gripper_width, steps, "chunk: gripper_width"),
        uncertainty=_number(message.uncertainty, "chunk: uncertainty", 0.0),
        expiry_ns=time_from_msg(message.expiry),
        lease=int(message.lease),
    )


def end_to_msg(lease: int, stamp_ns: int, frame_id: str) -> ActionChunkMsg:
    """That the chunk of that lease, if one is followed, shall end now."""
    return ActionChunkMsg(header=header(stamp_ns, frame_id), lease=lease)


def is_end(message: ActionChunkMsg) -> bool:
    """Whether a message is no chunk but the end of one."""
    return message.horizon == 0 and not message.values and not message.gripper_width and message.lease != 0


def verdict_to_msg(verdict: ChunkVerdict, frame_id: str) -> ChunkVerdictMsg:
    """A verdict."""
    return ChunkVerdictMsg(
        header=header(verdict.stamp_ns, frame_id),
        sequence=verdict.sequence,
        lease=verdict.lease,
        allow=bool(verdict.allow),
        reason=verdict.reason.value,
        detail=verdict.detail,
        risk=float(verdict.risk),
        uncertainty=float(verdict.uncertainty),
        ood_score=float(verdict.ood_score),
        ood_threshold=float(verdict.ood_threshold),
    )


def verdict_from_msg(message: ChunkVerdictMsg) -> ChunkVerdict:
    """A verdict; one that allows must give `ok` as its reason."""
    try:
        reason = VerdictReason(message.reason)
    except ValueError:
        allowed = ", ".join(r.value for r in VerdictReason)
        raise MessageError(f"verdict: unknown reason {message.reason!r}; allowed: {allowed}") from None
    if message.allow != (reason is VerdictReason.OK):
        raise MessageError(f"verdict: allow is {message.allow} but the reason is {reason.value}")
    if message.lease < 1:
        raise MessageError("verdict: lease is 0; it repeats the chunk's lease")
    return ChunkVerdict(
        stamp_ns=time_from_msg(message.header.stamp),
        sequence=int(message.sequence),
        allow=bool(message.allow),
        reason=reason,
        detail=message.detail,
        risk=_number(message.risk, "verdict: risk", 0.0, 1.0),
        uncertainty=_number(message.uncertainty, "verdict: uncertainty", 0.0),
        ood_score=_number(message.ood_score, "verdict: ood_score"),
        ood_threshold=_number(message.ood_threshold, "verdict: ood_threshold"),
        lease=int(message.lease),
    )


def prediction_to_msg(prediction: WorldPrediction, frame_id: str) -> WorldPredictionMsg:
    """A prediction."""
    message = WorldPredictionMsg(header=header(prediction.stamp_ns, frame_id), sequence=prediction.sequence)
    message.dt = duration_to_msg(prediction.dt_ns)
    message.tcp = [point_to_msg(p) for p in prediction.tcp_position_m]
    message.object_labels = list(prediction.object_labels)
    message.object_positions = [point_to_msg(p) for p in prediction.object_position_m.reshape(-1, 3)]
    message.uncertainty = _doubles(prediction.uncertainty)
    return message


def prediction_from_msg(message: WorldPredictionMsg) -> WorldPrediction:
    """A prediction whose arrays have one row for each step."""
    steps, things = len(message.tcp), len(message.object_labels)
    if len(message.object_positions) != steps * things:
        raise MessageError(
            f"prediction: {steps} steps of {things} objects do not fit {len(message.object_positions)} positions"
        )
    tcp = [vector_from_msg(p, "prediction: tcp") for p in message.tcp]
    positions = [vector_from_msg(p, "prediction: object position") for p in message.object_positions]
    return WorldPrediction(
        stamp_ns=time_from_msg(message.header.stamp),
        sequence=int(message.sequence),
        dt_ns=duration_from_msg(message.dt),
        tcp_position_m=np.array(tcp).reshape(steps, 3),
        object_labels=tuple(message.object_labels),
        object_position_m=np.array(positions).reshape(steps, things, 3),
        uncertainty=_numbers(message.uncertainty, steps, "prediction: uncertainty"),
    )


# Control status ----------------------------------------------------------------------------------------------


def status_to_msg(status: ControlStatus, embodiment: Embodiment) -> ControlStatusMsg:
    """A snapshot of the core."""
    message = ControlStatusMsg(header=header(status.stamp_ns, embodiment.base_frame))
    message.state = int(status.state)
    message.cause_code, message.cause = int(status.cause_code), status.cause
    message.cycles, message.overruns, message.missed_states = (
        status.cycles,
        status.overruns,
        status.missed_states,
    )
    message.latency_us = np.array([status.latency_us.get(name, 0.0) for name in _PERCENTILES])
    message.wake_us = np.array([status.wake_us.get(name, 0.0) for name in _PERCENTILES])
    message.active_sequence, message.active_lease = status.active_sequence, status.active_lease
    message.chunk_age = float(status.chunk_age_s)
    message.activation_latency = float(status.activation_latency_s)
    message.chunks_accepted, message.chunks_rejected = status.chunks_accepted, status.chunks_rejected
    message.last_rejection = status.last_rejection
    message.rejected_sequence, message.rejected_lease = status.rejected_sequence, status.rejected_lease
    message.joint_names = list(embodiment.joint_names)
    message.reference = _doubles(status.reference)
    message.tracking_error = _doubles(status.tracking_error_rad)
    message.external_wrench = wrench_to_msg(status.external_wrench)
    message.law = LAWS.index(status.law) + 1  # after LAW_KEEP
    message.reduced, message.residual_active = status.reduced, status.residual_active
    message.skipped_states = status.skipped_states
    message.tool = pose_to_msg(status.tool_pose[:3], status.tool_pose[3:])
    message.pose_error = np.asarray(status.pose_error, float)
    message.tank_energy = float(status.tank_energy_j)
    return message


def status_from_msg(message: ControlStatusMsg) -> ControlStatus:
    """A snapshot of the core."""
    try:
        state = ControlState(message.state)
    except ValueError:
        raise MessageError(f"control status: unknown state {message.state}") from None
    try:
        cause_code = ControlCause(message.cause_code)
    except ValueError:
        raise MessageError(f"control status: unknown cause {message.cause_code}") from None
    return ControlStatus(
        stamp_ns=time_from_msg(message.header.stamp),
        state=state,
        cause=message.cause,
        cycles=int(message.cycles),
        overruns=int(message.overruns),
        missed_states=int(message.missed_states),
        latency_us=dict(zip(_PERCENTILES, map(float, message.latency_us), strict=True)),
        wake_us=dict(zip(_PERCENTILES, map(float, message.wake_us), strict=True)),
        active_sequence=int(message.active_sequence),
        chunk_age_s=float(message.chunk_age),
        activation_latency_s=float(message.activation_latency),
        chunks_accepted=int(message.chunks_accepted),
        chunks_rejected=int(message.chunks_rejected),
        last_rejection=message.last_rejection,
        tracking_error_rad=_numbers(
            message.tracking_error, len(message.tracking_error), "control status: tracking_error"
        ),
        external_wrench=wrench_from_msg(message.external_wrench),
        reference=_numbers(message.reference, len(message.reference), "control status: reference"),
        law=_law(message.law, "control status"),
        reduced=bool(message.reduced),
        residual_active=bool(message.residual_active),
        skipped_states=int(message.skipped_states),
        tool_pose=np.concatenate(pose_from_msg(message.tool, "control status: tool")),
        pose_error=_numbers(message.pose_error, 6, "control status: pose_error"),
        tank_energy_j=float(message.tank_energy),
        cause_code=cause_code,
        active_lease=int(message.active_lease),
        rejected_lease=int(message.rejected_lease),
        rejected_sequence=int(message.rejected_sequence),
    )


def _law(number: int, what: str) -> str:
    if not 1 <= number <= len(LAWS):
        raise MessageError(f"{what}: unknown law {number}")
    return LAWS[number - 1]


def impedance_to_msg(impedance: Impedance) -> ImpedanceMsg:
    """A law and all of its gains."""
    message = ImpedanceMsg(law=LAWS.index(impedance.law) + 1)
    for name in (
        "stiffness", "damping_ratio", "clip", "cartesian_stiffness", "cartesian_damping_ratio", "cartesian_clip",
        "target_wrench",
    ):  # fmt: skip
        setattr(message, name, list(getattr(impedance, name)))
    message.nullspace = [impedance.nullspace_stiffness, impedance.nullspace_damping_ratio]
    message.friction_compensation = [impedance.friction_compensation]
    message.energy_tank = [impedance.tank_energy, impedance.tank_power]
    message.reduced, message.use_residual = [impedance.reduced], [impedance.use_residual]
    return message


def impedance_from_msg(message: ImpedanceMsg, present: Impedance) -> Impedance:
    """`present` with what the message names; ranges are for the control core to check.

    Raises:
        MessageError: an array has another length than what it stands for, or a number is not finite.
    """
    changes: dict[str, Any] = {}
    if message.law != ImpedanceMsg.LAW_KEEP:
        changes["law"] = _law(message.law, "impedance")
    for name in (
        "stiffness", "damping_ratio", "clip", "cartesian_stiffness", "cartesian_damping_ratio", "cartesian_clip",
        "target_wrench",
    ):  # fmt: skip
        given = getattr(message, name)
        if len(given):
            length = len(getattr(present, name))
            changes[name] = tuple(_numbers(given, length, f"impedance: {name}").tolist())
    for names, given in (
        (("nullspace_stiffness", "nullspace_damping_ratio"), message.nullspace),
        (("friction_compensation",), message.friction_compensation),
        (("tank_energy", "tank_power"), message.energy_tank),
    ):
        if len(given):
            changes.update(
                zip(names, _numbers(given, len(names), f"impedance: {names[0]}").tolist(), strict=True)
            )
    for name in ("reduced", "use_residual"):
        if len(getattr(message, name)):
            changes[name] = bool(getattr(message, name)[0])
    return dataclasses.replace(present, **changes)


# Numbers -----------------------------------------------------------------------------------------------------


def _doubles(values: np.ndarray) -> array.array[float]:
    return array.array("d", np.ascontiguousarray(values, np.float64).tobytes())


def _numbers(values: Sequence[float] | array.array[float] | np.ndarray, count: int, what: str) -> np.ndarray:
    if len(values) != count:
        raise MessageError(f"{what}: needs {count} numbers, got {len(values)}")
    return _finite(np.array(values, dtype=np.float64), what)


def _finite(values: np.ndarray, what: str) -> np.ndarray:
    if not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values.ravel()))[0])
        raise MessageError(
            f"{what}: must be finite, but number {bad} of {values.size} is {values.ravel()[bad]}"
        )
    return values


def _number(value: float, what: str, low: float = -math.inf, high: float = math.inf) -> float:
    if not (math.isfinite(value) and low <= value <= high):
        raise MessageError(f"{what}: must be finite and within [{low:g}, {high:g}], got {value}")
    return float(value)


def _check_unit(quaternion: np.ndarray, what: str) -> None:
    if not abs(np.linalg.norm(quaternion) - 1) <= QUATERNION_TOLERANCE:
        raise MessageError(f"{what}: must be a unit quaternion, got {quaternion.tolist()}")
