"""Quality of service by name; physai_ros/topics.py says which topic has which."""

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy


def _profile(reliability: ReliabilityPolicy, depth: int, durability: DurabilityPolicy) -> QoSProfile:
    # No deadline and no lifespan: an offer looser than what a peer asks for makes no connection at all, and
    # some middleware implements neither. Watchdogs are timers of ours.
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=reliability, durability=durability
    )


SENSOR = _profile(ReliabilityPolicy.BEST_EFFORT, 1, DurabilityPolicy.VOLATILE)
"""To offer images: sending an old one again would delay the next. To hear what only the newest of matters."""

JOINTS = _profile(ReliabilityPolicy.BEST_EFFORT, 10, DurabilityPolicy.VOLATILE)
"""To hear any publisher, with room for what several of them send at once."""

STATUS = _profile(ReliabilityPolicy.RELIABLE, 10, DurabilityPolicy.VOLATILE)
"""To offer state: readers match whether they ask for reliability or not. To hear, beside JOINTS, each message."""

COMMAND = _profile(ReliabilityPolicy.RELIABLE, 1, DurabilityPolicy.VOLATILE)
"""To offer chunks, verdicts and commands to a robot: a newer one replaces what has not arrived yet."""

LATCHED = _profile(ReliabilityPolicy.RELIABLE, 1, DurabilityPolicy.TRANSIENT_LOCAL)
"""To offer what stays true until it is said otherwise: whoever comes late is told."""

ESTOP = LATCHED
"""As a button of the emergency stop should publish; others are heard as well."""

TF = _profile(ReliabilityPolicy.RELIABLE, 100, DurabilityPolicy.VOLATILE)
"""To offer moving frames, as tf2's own broadcaster does."""

KEPT = _profile(ReliabilityPolicy.RELIABLE, 10, DurabilityPolicy.TRANSIENT_LOCAL)
"""To hear what was latched before, of several publishers."""

HEARTBEATS = _profile(ReliabilityPolicy.BEST_EFFORT, 50, DurabilityPolicy.VOLATILE)
"""JOINTS with room for every node's diagnostics."""
