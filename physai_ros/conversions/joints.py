"""Joint states."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from sensor_msgs.msg import JointState as JointStateMsg
from std_msgs.msg import Header

from physai_base.embodiment import Embodiment
from physai_base.values import JointSample, JointState
from physai_ros.conversions.basic import MessageError, doubles, header, time_from_msg


def joint_state_to_msg(state: JointState, embodiment: Embodiment) -> JointStateMsg:
    """Arm joints, then finger joints, which follow the openings of their grippers."""
    fingers = embodiment.finger_joints
    return joints_to_msg(
        header(state.stamp_ns, embodiment.base_frame),
        [*embodiment.joint_names, *fingers],
        np.append(state.position, embodiment.finger_positions(state.openings)),
        np.append(state.velocity, [0.0] * len(fingers)),
        np.append(state.effort, [0.0] * len(fingers)),
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
    message.position, message.velocity = doubles(position), doubles(velocity)
    message.effort = doubles(np.asarray(effort, float))
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
    arm, fingers = embodiment.joint_names, embodiment.finger_joints
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
    return JointState(
        stamp_ns=time_from_msg(message.header.stamp),
        position=np.array([samples[name].position for name in arm]),
        velocity=np.array([samples[name].velocity for name in arm]),
        effort=np.where(np.isfinite(effort), effort, 0.0),
        openings=embodiment.openings({name: samples[name].position for name in fingers}),
    )
