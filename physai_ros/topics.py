"""Every topic of the stack with its type and its quality of service: the one place where they are declared.

A node publishes with `advertise` and listens with `hear`, by the topic's relative name. docs/reference/architecture.md shows the
table; `test/ros/test_topics.py` compares it with the graph of a running stack.

Who may send what decides how it is heard. A reader connects to a writer only if it asks for no more than that offers,
and no one reader asks for little enough to hear everybody and for enough to miss nothing:

- the best-effort, volatile reader hears every writer, but a lost message is lost;
- the reliable one has lost messages sent again, by writers that do so;
- the reliable, transient-local one gets what was latched before it came, by writers that latch.

So what others may say to us has several readers, and each message is handed on once.
"""

from __future__ import annotations

import importlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import QoSProfile

from physai_ros import qos

RECENT = 64  # messages of one publisher that are known again where late ones count
MAX_PUBLISHERS = 64  # of one topic, of which it is remembered what came last

NEWEST = (qos.SENSOR,)
"""Where only the newest matters: every publisher is heard, and what is lost is followed by the next."""

ALL = (qos.JOINTS,)
"""Streams of which each message is of use."""

EACH = (qos.STATUS, qos.JOINTS)
"""Where each message counts. What was latched before we came is not heard: an old instruction must not move anything."""

KEPT = (qos.KEPT, qos.JOINTS)
EACH_AND_KEPT = (qos.KEPT, qos.STATUS, qos.JOINTS)
"""Where also what was said before we came is true still: who comes late learns that the emergency stop is pressed."""


@dataclass(frozen=True)
class Topic:
    """One topic, by its name below the namespace."""

    name: str  # a part that is `*` stands for any one, such as a camera's name
    type: str  # "sensor_msgs/msg/JointState"
    publishers: str
    listeners: str
    offers: QoSProfile | None = None  # as we publish it; None: others do
    hears: tuple[QoSProfile, ...] = ()  # as we listen to it; empty: others do
    in_c: bool = False  # of the topic backend and the bridge; the robot file may name it differently
    late: bool = False  # what a newer message of the same publisher has overtaken is handed on, too

    def matches(self, name: str) -> bool:
        """Whether `name`, relative or with any namespaces before it, is this topic."""
        own, given = self.name.split("/"), name.strip("/").split("/")
        tail = given[-len(own) :]
        return len(tail) == len(own) and all(o in ("*", g) for o, g in zip(own, tail, strict=True))

    def message(self) -> Any:
        """The message's class."""
        package, _, kind = self.type.split("/")
        return getattr(importlib.import_module(f"{package}.msg"), kind)


_IMAGE, _INFO, _JOINTS, _BOOL, _TF = (
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/CameraInfo",
    "sensor_msgs/msg/JointState",
    "std_msgs/msg/Bool",
    "tf2_msgs/msg/TFMessage",
)
TOPICS = (
    Topic("camera/*/image_raw", _IMAGE, "sim, camera", "perception, policy", qos.SENSOR, NEWEST),
    Topic("camera/*/depth/image_rect_raw", _IMAGE, "sim, camera", "perception", qos.SENSOR, NEWEST),
    Topic("camera/*/camera_info", _INFO, "sim, camera", "perception", qos.STATUS, KEPT),
    Topic("camera/*/depth/camera_info", _INFO, "sim, camera", "perception", qos.STATUS, KEPT),
    Topic("joint_states", _JOINTS, "control", "perception", qos.STATUS, ALL),
    Topic("wrench", "geometry_msgs/msg/WrenchStamped", "control", "", qos.STATUS),
    Topic("wrench/*", "geometry_msgs/msg/WrenchStamped", "control", "", qos.STATUS),
    Topic("robot_description", "std_msgs/msg/String", "control", "", qos.LATCHED),
    Topic("tf", _TF, "control, perception", "", qos.TF),
    Topic("tf_static", _TF, "control", "", qos.LATCHED),
    Topic("scene", "physai/msg/SceneState", "perception", "policy, world_model, sim", qos.STATUS, NEWEST),
    Topic("instruction", "physai/msg/Instruction", "operator", "policy", None, EACH),
    Topic("task", "std_msgs/msg/String", "policy", "perception, sim", qos.LATCHED, KEPT),
    Topic("action_chunk", "physai/msg/ActionChunk", "policy", "control, world_model", qos.COMMAND, EACH),
    Topic("chunk_verdict", "physai/msg/ChunkVerdict", "world_model", "control, policy", qos.COMMAND, EACH),
    Topic("prediction", "physai/msg/WorldPrediction", "world_model", "", qos.STATUS),
    Topic("estop", _BOOL, "operator", "control", None, EACH_AND_KEPT, late=True),
    Topic("control/status", "physai/msg/ControlStatus", "control", "policy", qos.STATUS, EACH),
    Topic("policy/status", "physai/msg/PolicyStatus", "policy", "world_model", qos.STATUS, EACH),
    Topic("supervisor/status", "physai/msg/SupervisorStatus", "supervisor", "policy", qos.LATCHED, KEPT),
    Topic("diagnostics", "diagnostic_msgs/msg/DiagnosticArray", "all", "supervisor", qos.STATUS, (qos.HEARTBEATS,)),
    Topic("clock", "rosgraph_msgs/msg/Clock", "sim", "all", qos.STATUS, NEWEST),
    Topic("sim/ground_truth", "physai/msg/GroundTruth", "sim", "", qos.STATUS),
    Topic("sim/joint_truth", _JOINTS, "sim", "", qos.STATUS),
    Topic("bridge/inject", "std_msgs/msg/String", "operator", "bridge", None, EACH),
    Topic("hardware/joint_states", _JOINTS, "robot, bridge", "control", qos.COMMAND, ALL, in_c=True),
    Topic("hardware/joint_command", _JOINTS, "control", "robot, bridge", qos.COMMAND, ALL, in_c=True),
    Topic("hardware/gripper_command", _JOINTS, "control", "robot, bridge", qos.COMMAND, ALL, in_c=True),
    Topic("hardware/enable", _BOOL, "control", "robot, bridge", qos.LATCHED, KEPT, in_c=True),
    Topic("hardware/stopped", _BOOL, "robot, bridge", "control", qos.LATCHED, KEPT, in_c=True),
)  # fmt: skip
"""Names of ROS's own (parameters, lifecycle, actions, logs) are not listed."""


def topic(name: str) -> Topic:
    """The declaration of a topic, given relative or with namespaces.

    Raises:
        KeyError: it is not declared in TOPICS.
    """
    found = [entry for entry in TOPICS if entry.matches(name)]
    if not found:
        raise KeyError(f"topic {name!r} is not declared in physai_ros/topics.py")
    return max(found, key=lambda entry: len(entry.name))


class Once:
    """Hands on each message of each publisher once, whatever number of readers brought it.

    One that a newer message has overtaken is not handed on, unless `late`: the reliable reader may bring what the
    best-effort one has lost, and a pressed stop counts even if it is released since.
    """

    def __init__(self, late: bool = False) -> None:
        self._late = late
        self._last: dict[Any, deque[Any]] = {}  # by publisher: numbers that came last, the newest at the end

    def is_new(self, info: Any) -> bool:
        """By a message's `MessageInfo`; a middleware that says too little has every message handed on."""
        publisher: Any = publisher_of(info)
        number = info.get("publication_sequence_number")
        if not publisher or not number:
            # Without a count of each publisher there is only the time of sending, which a clock may set back.
            sent_ns = info.get("source_timestamp")
            if not sent_ns:
                return True
            publisher, number = (sent_ns, number), 1
        came = self._last.pop(publisher, None) or deque(maxlen=RECENT if self._late else 1)
        self._last[publisher] = came
        if len(self._last) > MAX_PUBLISHERS:
            del self._last[next(iter(self._last))]
        if number in came or (not self._late and came and number < came[-1]):
            return False
        came.append(number)
        return True


def publisher_of(info: Any) -> bytes:
    """Which publisher a message came from, as the graph names it (`endpoint_gid`); empty where that is not told."""
    gid = info.get("publisher_gid")
    return bytes(gid["data"]) if gid else b""


def publishers(node: Any, name: str) -> dict[bytes, str]:
    """The publishers of a topic that are there, as `publisher_of` tells them, with the names of their nodes."""
    return {
        bytes(info.endpoint_gid): f"{info.node_namespace.rstrip('/')}/{info.node_name}"
        for info in node.get_publishers_info_by_topic(name)
    }


def advertise(node: Any, name: str) -> Any:
    """A publisher of a declared topic.

    Raises:
        KeyError: it is not declared, or as published by others alone.
    """
    entry = topic(_resolved(node, name))
    if entry.offers is None:
        raise KeyError(f"topic {name!r} is declared as published by others alone")
    return node.create_publisher(entry.message(), name, entry.offers)


def hear(
    node: Any,
    name: str,
    callback: Callable[..., None],
    raw: bool = False,
    info: bool = False,
    depth: int | None = None,
    entry: Topic | None = None,
) -> None:
    """Listen to a declared topic; `callback` gets each message once, as bytes if `raw`.

    `entry`: its declaration, where another package brings one that is not in TOPICS.

    `depth`: room for so many messages, where the entry's is too little. With `info` the callback gets rclpy's MessageInfo, too.

    Raises:
        KeyError: it is not declared.
    """
    entry = entry or topic(_resolved(node, name))
    readers = entry.hears or ALL
    once = Once(entry.late)

    def hand_on(message: Any, about: Any) -> None:
        if len(readers) > 1 and not once.is_new(about):
            return
        if info:
            callback(message, about)
        else:
            callback(message)

    for reader in readers if depth is None else map(partial(_with_depth, depth), readers):
        # That one of several readers does not fit a publisher is meant, and no warning to anybody.
        quiet = SubscriptionEventCallbacks(use_default_callbacks=len(readers) == 1)
        node.create_subscription(entry.message(), name, hand_on, reader, raw=raw, event_callbacks=quiet)


def _with_depth(depth: int, profile: QoSProfile) -> QoSProfile:
    return QoSProfile(
        history=profile.history, depth=depth, reliability=profile.reliability, durability=profile.durability
    )


def _resolved(node: Any, name: str) -> str:
    return name.replace("~", node.get_name(), 1) if name.startswith("~/") else name
