"""Quality of service by name; docs/architecture.md says which topic has which."""

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy


def _profile(reliability: ReliabilityPolicy, depth: int, durability: DurabilityPolicy) -> QoSProfile:
    # No deadline and no lifespan: an offer looser than what a peer asks for makes no connection at all, and
    # some middleware implements neither. Watchdogs are timers of ours.
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=reliability, durability=durability
    )


SENSOR = _profile(ReliabilityPolicy.BEST_EFFORT, 1, DurabilityPolicy.VOLATILE)
"""Images, scenes, wrenches: only the newest matters."""

JOINTS = _profile(ReliabilityPolicy.BEST_EFFORT, 10, DurabilityPolicy.VOLATILE)
"""Joint states for a reader that interpolates between them."""

COMMAND = _profile(ReliabilityPolicy.RELIABLE, 1, DurabilityPolicy.VOLATILE)
"""Chunks, verdicts, predictions: each must arrive, and a newer one replaces it."""

ESTOP = _profile(ReliabilityPolicy.RELIABLE, 1, DurabilityPolicy.TRANSIENT_LOCAL)
"""The emergency stop button: whoever comes late learns that it is pressed."""

STATUS = _profile(ReliabilityPolicy.RELIABLE, 10, DurabilityPolicy.VOLATILE)
"""Status of control and policy, diagnostics."""

CLOCK = _profile(ReliabilityPolicy.BEST_EFFORT, 1, DurabilityPolicy.VOLATILE)
"""Simulated time, as rclpy and rclcpp subscribe to it."""
