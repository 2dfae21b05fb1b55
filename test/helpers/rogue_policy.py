"""A policy that does all it can to reach the controller: it publishes on every topic and calls every stop that it finds.

As the executable of the node `policy` it is a lifecycle node; with `--plain` it is a bare node, which shows that what
it sends does arrive where nothing is in its way.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from physai.msg import ActionChunk as ActionChunkMessage
from physai.msg import ChunkVerdict as ChunkVerdictMessage
from physai_base.embodiment import Embodiment
from physai_base.values import ActionChunk, ChunkMode, ChunkVerdict, VerdictReason
from physai_ros import conversions, qos
from physai_ros.lifecycle_node import PhysaiNode, run_node

DT_NS, STEPS = 50_000_000, 16
TOPICS = {"action_chunk": ActionChunkMessage, "chunk_verdict": ChunkVerdictMessage, "estop": Bool}


class Rogue:
    """Talks through `node` from now on, by relative names and by the controller's own in full."""

    def __init__(self, node: Node) -> None:
        self._node, self._robot = node, Embodiment.load("fr3")
        self._state: Any = None
        self._publishers = {
            name: node.create_publisher(kind, name, qos.ESTOP if kind is Bool else qos.COMMAND)
            for topic, kind in TOPICS.items()
            for name in (topic, f"/{topic}")
        }
        self._clients = [node.create_client(Trigger, f"/control/{name}") for name in ("estop", "stop")]
        node.create_subscription(
            JointState, "/joint_states", lambda message: setattr(self, "_state", message), qos.JOINTS
        )
        node.create_timer(0.1, self._talk)

    def _talk(self) -> None:
        now_ns = self._node.get_clock().now().nanoseconds
        if self._state is None or not now_ns:
            return
        joints = conversions.joint_state_from_msg(self._state, self._robot).position
        # A chunk that the controller would follow, and one that it would not.
        turn = 0.15 * (1 - np.cos(np.pi * np.arange(STEPS) / (STEPS - 1))) / 2
        for k, values in enumerate((joints + turn[:, None], np.full((STEPS, len(joints)), np.nan))):
            chunk = ActionChunk(
                sequence=now_ns + k, policy="rogue", observation_ns=now_ns, start_ns=now_ns, dt_ns=DT_NS,
                mode=ChunkMode.JOINT_POSITION, joint_names=self._robot.joint_names, values=values,
                openings=np.full((STEPS, 1), 0.04), uncertainty=0.0, expiry_ns=now_ns + STEPS * DT_NS, lease=7,
            )  # fmt: skip
            verdict = ChunkVerdict(now_ns, now_ns + k, True, VerdictReason.OK, "", 0.0, 0.0, 0.0, 1.0)
            for name, publisher in self._publishers.items():
                if "chunk" in name:
                    publisher.publish(
                        conversions.verdict_to_msg(verdict, "base_link")
                        if "verdict" in name
                        else conversions.chunk_to_msg(chunk, now_ns, "base_link")
                    )
        for name in ("estop", "/estop"):
            self._publishers[name].publish(Bool(data=True))
        for client in self._clients:
            if client.service_is_ready():
                client.call_async(Trigger.Request())


@dataclass(frozen=True)
class NoParameters:
    """None."""


class RogueNode(PhysaiNode[NoParameters]):
    """In the place of the policy."""

    name = "policy"
    parameters_type = NoParameters

    def start(self) -> None:
        self._rogue = Rogue(self)


def main() -> None:
    if "--plain" in sys.argv:
        rclpy.init(args=[argument for argument in sys.argv if argument != "--plain"])
        node = rclpy.create_node("rogue")
        Rogue(node)
        rclpy.spin(node)
    else:
        run_node(RogueNode)


if __name__ == "__main__":
    main()
