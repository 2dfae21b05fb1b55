"""Look at a robot that `physai up --policy none` runs, and send it one chunk: every joint a little way and back."""

import sys
from time import monotonic

import physai_ros.wheels  # noqa: F401  before anything of ROS, where that comes from wheels

import numpy as np  # isort: skip
import rclpy
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from physai.msg import ActionChunk as ActionChunkMsg
from physai.msg import ControlStatus
from physai_base.values import ActionChunk, ChunkMode
from physai_ros.conversions.chunks import chunk_to_msg

AMPLITUDE, STEPS, DT_NS = 0.05, 60, 50_000_000  # rad or m, 60 steps of 50 ms

rclpy.init()
node = rclpy.create_node("first_chunk")
latest: dict[str, object] = {}
latched = QoSProfile(depth=10, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
for topic, kind, quality in (
    ("robot_description", String, latched), ("tf_static", TFMessage, latched), ("tf", TFMessage, 10), ("joint_states", JointState, 10),
    ("control/status", ControlStatus, 10), ("clock", Clock, 10),
):  # fmt: skip
    node.create_subscription(
        kind, topic, lambda message, topic=topic: latest.__setitem__(topic, message), quality
    )
chunks = node.create_publisher(ActionChunkMsg, "action_chunk", 1)


def listen(seconds: float, *topics: str) -> None:
    """Until all of these have come, or for so long where none is named."""
    end = monotonic() + seconds
    while monotonic() < end and not (topics and all(topic in latest for topic in topics)):
        rclpy.spin_once(node, timeout_sec=0.05)


listen(20, "robot_description", "tf_static", "tf", "joint_states", "control/status", "clock")
missing = [
    t for t in ("robot_description", "tf", "joint_states", "control/status", "clock") if t not in latest
]
if missing:
    sys.exit(f"nothing came on {', '.join(missing)} in 20 s: is `physai up` running, in this namespace?")
status = latest["control/status"]
print(f"robot_description: {len(latest['robot_description'].data)} characters")
moving = ", ".join(sorted({f"{t.header.frame_id} → {t.child_frame_id}" for t in latest["tf"].transforms})[:3])
print(f"tf: {len(latest['tf'].transforms)} moving ({moving}, …), {len(latest['tf_static'].transforms)} fixed")
print(f"joint_states: {', '.join(latest['joint_states'].name)}")
place = status.end_effectors[0].pose.position
print(
    f"control: state {status.state} ({status.cause}), tool at ({place.x:.3f}, {place.y:.3f}, {place.z:.3f}) m"
)

now = latest["clock"].clock.sec * 1_000_000_000 + latest["clock"].clock.nanosec
start = np.array(status.reference)
away = AMPLITUDE * np.sin(np.pi * np.arange(STEPS) / (STEPS - 1)) ** 2
ends = tuple(end.name for end in status.end_effectors)
chunk = ActionChunk(
    sequence=1, lease=int(monotonic() * 1e6), policy="first_chunk", observation_ns=now, start_ns=now, dt_ns=DT_NS,
    mode=ChunkMode.JOINT_POSITION, joint_names=tuple(status.joint_names), values=start + away[:, None], uncertainty=0.0,
    openings=np.full((STEPS, len(ends)), [end.opening for end in status.end_effectors]), end_effectors=ends,
    expiry_ns=now + (STEPS + 20) * DT_NS,
)  # fmt: skip
chunks.publish(chunk_to_msg(chunk, now, sys.argv[1]))
for _ in range(4):
    listen(1.2)
    status = latest["control/status"]
    gone = np.array(latest["joint_states"].position[: len(start)]) - start
    print(
        f"state {status.state}, chunk {status.active_sequence}, {status.joint_names[0]} moved by {gone[0]:+.3f}; {status.cause}"
    )
print(f"accepted {status.chunks_accepted}, refused {status.chunks_rejected} {status.last_rejection}")
