"""Images and what is said of the camera that took them."""

from __future__ import annotations

import array
import sys
from typing import Any

import numpy as np
from sensor_msgs.msg import CameraInfo, Image

from physai_base.embodiment import Camera
from physai_base.optics import Optics
from physai_base.values import CameraFrame
from physai_ros.conversions.basic import MessageError, header

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
