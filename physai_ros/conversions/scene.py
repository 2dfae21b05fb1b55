"""Scenes."""

from __future__ import annotations

import numpy as np

from physai.msg import EndEffectorState as EndEffectorStateMsg
from physai.msg import SceneObject as SceneObjectMsg
from physai.msg import SceneState as SceneStateMsg
from physai_base.embodiment import Embodiment
from physai_base.values import EndEffectorState, SceneObject, SceneState
from physai_ros.conversions.basic import (
    MessageError,
    doubles,
    header,
    number,
    numbers,
    pose_from_msg,
    pose_to_msg,
    time_from_msg,
    time_to_msg,
    vector_from_msg,
    vector_to_msg,
)


def scene_to_msg(scene: SceneState, embodiment: Embodiment) -> SceneStateMsg:
    """A scene, in the base frame."""
    message = SceneStateMsg(header=header(scene.stamp_ns, embodiment.base_frame), task=scene.task)
    message.objects = [_object_to_msg(thing) for thing in scene.objects]
    message.joint_names = list(embodiment.joint_names)
    message.joint_position = doubles(scene.joint_position)
    message.joint_velocity = doubles(scene.joint_velocity)
    message.end_effectors = [_end_effector_to_msg(end) for end in scene.end_effectors]
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
    ends = [end.name for end in message.end_effectors]
    if not ends or len(set(ends)) != len(ends):
        raise MessageError(f"scene: end effectors must be given and differ, got {', '.join(ends) or 'none'}")
    return SceneState(
        stamp_ns=time_from_msg(message.header.stamp),
        objects=objects,
        joint_position=numbers(message.joint_position, joints, "scene: joint_position"),
        joint_velocity=numbers(message.joint_velocity, joints, "scene: joint_velocity"),
        end_effectors=tuple(_end_effector_from_msg(end) for end in message.end_effectors),
        task=message.task,
    )


def _end_effector_to_msg(end: EndEffectorState) -> EndEffectorStateMsg:
    message = EndEffectorStateMsg(name=end.name, opening=float(end.opening))
    message.pose = pose_to_msg(end.position_m, end.orientation)
    message.twist.linear = vector_to_msg(end.linear_velocity_m_s)
    message.twist.angular = vector_to_msg(end.angular_velocity_rad_s)
    return message


def _end_effector_from_msg(message: EndEffectorStateMsg) -> EndEffectorState:
    what = f"scene: {message.name or 'end effector'}"
    position, orientation = pose_from_msg(message.pose, what)
    return EndEffectorState(
        name=message.name,
        position_m=position,
        orientation=orientation,
        linear_velocity_m_s=vector_from_msg(message.twist.linear, f"{what}: twist"),
        angular_velocity_rad_s=vector_from_msg(message.twist.angular, f"{what}: twist"),
        opening=number(message.opening, f"{what}: opening"),
    )


def _object_to_msg(thing: SceneObject) -> SceneObjectMsg:
    message = SceneObjectMsg(
        id=thing.id,
        label=thing.label,
        kind=thing.kind,
        confidence=float(thing.confidence),
        upright=bool(thing.upright),
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
        covariance=numbers(message.pose.covariance, 36, f"{what}: covariance").reshape(6, 6),
        velocity_m_s=vector_from_msg(message.velocity, f"{what}: velocity"),
        size_m=vector_from_msg(message.size, f"{what}: size"),
        confidence=number(message.confidence, f"{what}: confidence", 0.0, 1.0),
        last_seen_ns=time_from_msg(message.last_seen),
        upright=bool(message.upright),
        kind=message.kind,
    )
