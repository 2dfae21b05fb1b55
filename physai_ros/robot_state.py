"""`robot_description`, `tf` and `tf_static` of one robot, for rviz2, MoveIt and whoever else looks frames up.

The names are relative, as every other topic's, so that two robots whose frames have the same names do not mix: without
a namespace they are /tf and /tf_static, in one they are remapped by whoever looks (`-r /tf:=tf -r /tf_static:=tf_static`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from std_msgs.msg import String

from physai_base.embodiment import Embodiment
from physai_base.models.description import describe
from physai_base.urdf import FIXED, Link, matrix
from physai_base.values import SceneState
from physai_ros import conversions, topics

TF_PERIOD_NS = 20_000_000  # at least, between two messages on `tf`
FRAMES = ("all", "robot", "none")
"""all: links, tool and cameras; robot: without cameras, whose drivers publish theirs; none: others publish all of them."""


class RobotState:
    """Publishes the description and what stands still when it is made, and the moving links on `update`."""

    def __init__(self, node: Node, embodiment: Embodiment, frames: str = "all") -> None:
        """`frames` is one of FRAMES.

        Raises:
            EmbodimentError: the robot's model cannot be described.
        """
        description = describe(embodiment)
        self._description = topics.advertise(node, "robot_description")
        self._description.publish(String(data=description.urdf))
        self._moving: list[tuple[Link, TransformStamped]] = []
        self._stamp_ns: int | None = None
        self._tf: Any = None
        if frames == "none":
            return
        try:
            message = topics.topic("tf").message()
        except ImportError as error:
            node.get_logger().warning(
                f"no frames on tf, since tf2_msgs cannot be imported: {error}; install ros-<distro>-tf2-msgs, or physai again"
            )
            return
        links = (*description.links, *(description.cameras if frames == "all" else ()))
        now_ns = node.get_clock().now().nanoseconds
        self._moving = [(link, _transform(link, now_ns)) for link in links if link.kind != FIXED]
        self._message = message(transforms=[transform for _, transform in self._moving])
        self._tf = topics.advertise(node, "tf")
        self._static = topics.advertise(node, "tf_static")
        still = [_transform(link, now_ns) for link in links if link.kind == FIXED]
        self._static.publish(message(transforms=still))

    def update(self, joints: Mapping[str, float], stamp_ns: int) -> None:
        """Publish where the moving links are, while somebody looks and unless that was done a moment ago."""
        if self._tf is None or not self._moving or not self._tf.get_subscription_count():
            return
        if self._stamp_ns is not None and 0 <= stamp_ns - self._stamp_ns < TF_PERIOD_NS:
            return
        self._stamp_ns = stamp_ns
        stamp = conversions.time_to_msg(stamp_ns)
        for link, transform in self._moving:
            transform.header.stamp = stamp
            conversions.set_transform(transform.transform, link.pose(joints.get(link.joint, 0.0)))
        self._tf.publish(self._message)


class ObjectFrames:
    """What perception believes in as frames of `tf`, named by their labels, while somebody looks."""

    def __init__(self, node: Node, embodiment: Embodiment) -> None:
        self._base_frame = embodiment.base_frame
        self._tf: Any = None
        with contextlib.suppress(ImportError):  # RobotState says so
            self._message = topics.topic("tf").message()
            self._tf = topics.advertise(node, "tf")

    def publish(self, scene: SceneState) -> None:
        """One transform for each thing that is believed in."""
        if self._tf is None or not self._tf.get_subscription_count():
            return
        header = conversions.header(scene.stamp_ns, self._base_frame)
        transforms = []
        for thing in filter(lambda one: one.believed, scene.objects):
            transform = TransformStamped(header=header, child_frame_id=thing.label)
            conversions.set_transform(transform.transform, matrix(thing.position_m, thing.orientation))
            transforms.append(transform)
        if transforms:
            self._tf.publish(self._message(transforms=transforms))


def _transform(link: Link, stamp_ns: int) -> TransformStamped:
    message = TransformStamped(header=conversions.header(stamp_ns, link.parent), child_frame_id=link.name)
    conversions.set_transform(message.transform, link.pose(0.0))
    return message
