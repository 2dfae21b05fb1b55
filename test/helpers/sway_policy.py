"""A policy as a process of its own, for tests that kill it: told to on `sway`, it goes home and sways the arm there."""

from __future__ import annotations

import json
import sys

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool

from physai.msg import ActionChunk as ActionChunkMessage
from physai_base.values import ActionChunk, ChunkMode
from physai_ros import conversions, qos

PERIOD_S = 0.2  # between chunks
DT_NS, STEPS = 50_000_000, 16
HORIZON_S = STEPS * DT_NS / 1e9 + 0.1  # from a chunk to its expiry
REACH_RAD, SWAY_S = 0.2, 2.0
HOMING_S = 1.0
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class SwayPolicy(Node):
    """Publishes a chunk every PERIOD_S while it shall sway and joint states come."""

    def __init__(self, names: list[str], home: list[float]) -> None:
        super().__init__("sway_policy")
        self._names, self._home = names, np.array(home)
        self._swaying = False
        self._away: np.ndarray | None = None  # where the arm was found, from home
        self._start_ns = self._next_ns = 0
        self._chunks = self.create_publisher(ActionChunkMessage, "action_chunk", qos.COMMAND)
        self.create_subscription(Bool, "sway", self._on_sway, LATCHED)
        self.create_subscription(JointState, "joint_states", self._on_state, qos.JOINTS)

    def _on_sway(self, message: Bool) -> None:
        self._swaying, self._away = message.data, None

    def _on_state(self, message: JointState) -> None:
        if not self._swaying:
            return
        now_ns = conversions.time_from_msg(message.header.stamp)
        if self._away is None:
            place = [list(message.name).index(name) for name in self._names]
            self._away, self._start_ns = np.array(message.position)[place] - self._home, now_ns
        if now_ns < self._next_ns or not self._chunks.get_subscription_count():
            return
        self._next_ns = now_ns + round(PERIOD_S * 1e9)
        times_s = (now_ns - self._start_ns + DT_NS * np.arange(STEPS)) / 1e9
        sway = REACH_RAD * (1 - np.cos(2 * np.pi * times_s / SWAY_S)) / 2
        home = np.clip(times_s / HOMING_S, 0, 1)
        away = 1 - home**2 * (3 - 2 * home)
        values = self._home + sway[:, None] + away[:, None] * self._away
        chunk = ActionChunk(
            sequence=now_ns, policy="sway", observation_ns=now_ns, start_ns=now_ns, dt_ns=DT_NS,
            mode=ChunkMode.JOINT_POSITION, joint_names=tuple(self._names), values=values,
            openings=np.full((STEPS, 1), 0.04), uncertainty=0.0, expiry_ns=now_ns + round(HORIZON_S * 1e9),
        )  # fmt: skip
        self._chunks.publish(conversions.chunk_to_msg(chunk, now_ns, "base_link"))


def main() -> None:
    rclpy.init()
    rclpy.spin(SwayPolicy(**json.loads(sys.argv[1])))


if __name__ == "__main__":
    main()
