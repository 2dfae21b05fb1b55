"""Messages to values and back: the only package that does it.

A message comes from outside: `*_from_msg` checks lengths, ranges and that every number is finite, and
raises MessageError with the reason. Quaternions are (x, y, z, w) in geometry_msgs and (w, x, y, z) in values.
Array fields are filled from `array.array`, which the generated setters take without looking at each element.
"""

from physai_ros.conversions.basic import (
    MessageError,
    duration_from_msg,
    duration_to_msg,
    header,
    point_to_msg,
    pose_from_msg,
    pose_to_msg,
    set_transform,
    time_from_msg,
    time_to_msg,
    vector_from_msg,
    vector_to_msg,
    wrench_from_msg,
    wrench_to_msg,
)
from physai_ros.conversions.chunks import (
    chunk_from_msg,
    chunk_to_msg,
    end_to_msg,
    is_end,
    prediction_from_msg,
    prediction_to_msg,
    verdict_from_msg,
    verdict_to_msg,
)
from physai_ros.conversions.control import (
    impedance_from_msg,
    impedance_to_msg,
    status_from_msg,
    status_to_msg,
    tool_wrench_to_msg,
)
from physai_ros.conversions.images import (
    camera_info_to_msg,
    depth_from_msg,
    depth_to_msg,
    optics_from_msg,
    promised_camera_info,
    rgb_from_msg,
    rgb_to_msg,
)
from physai_ros.conversions.joints import (
    joint_samples_from_msg,
    joint_state_from_msg,
    joint_state_to_msg,
    joints_to_msg,
)
from physai_ros.conversions.scene import scene_from_msg, scene_to_msg

__all__ = [
    "MessageError",
    "camera_info_to_msg",
    "chunk_from_msg",
    "chunk_to_msg",
    "depth_from_msg",
    "depth_to_msg",
    "duration_from_msg",
    "duration_to_msg",
    "end_to_msg",
    "header",
    "impedance_from_msg",
    "impedance_to_msg",
    "is_end",
    "joint_samples_from_msg",
    "joint_state_from_msg",
    "joint_state_to_msg",
    "joints_to_msg",
    "optics_from_msg",
    "point_to_msg",
    "pose_from_msg",
    "pose_to_msg",
    "prediction_from_msg",
    "prediction_to_msg",
    "promised_camera_info",
    "rgb_from_msg",
    "rgb_to_msg",
    "scene_from_msg",
    "scene_to_msg",
    "set_transform",
    "status_from_msg",
    "status_to_msg",
    "time_from_msg",
    "time_to_msg",
    "tool_wrench_to_msg",
    "vector_from_msg",
    "vector_to_msg",
    "verdict_from_msg",
    "verdict_to_msg",
    "wrench_from_msg",
    "wrench_to_msg",
]
