"""What belongs to one stack alone: its place is a namespace in a ROS domain, and two places do not meet.

Topics, services and actions are relative names anyway. Simulated time and shared memory are not by themselves:
rclpy listens to `/clock` wherever a node is, and a robot file names its memory once.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rclpy.time_source import CLOCK_TOPIC

CLOCK = "clock"
MEMORY_NAME_SIZE = 63  # PHYSAI_NAME_SIZE less its end


def shared_memory_name(name: str, domain: int, namespace: str) -> str:
    """The name under /dev/shm of the memory that a robot file calls `name`, for a stack in that place.

    In domain 0 without a namespace it is `name` itself, else name.d5 or name.d0.arm1: a namespace always follows a
    domain, so that the namespace `d5` is not the domain 5. What would be too long ends with a digest instead.
    """
    place = namespace.strip("/").replace("/", ".")
    if not domain and not place:
        return name
    full = ".".join(part for part in (name, f"d{domain}", place) if part)
    if len(full) <= MEMORY_NAME_SIZE:
        return full
    digest = hashlib.sha256(f"{name}/{domain}/{place}".encode()).hexdigest()[:16]
    return f"{name[: MEMORY_NAME_SIZE - 1 - len(digest)]}.{digest}"


def shared_memory_file(name: str) -> Path:
    """Where the memory of that name lies; as in the core (shm.c), what lacks the prefix `physai_` gets it."""
    return Path("/dev/shm", name if name.startswith("physai_") else f"physai_{name}")


def shared_memory_of(node: Node, name: str) -> str:
    """`shared_memory_name` in the place of that node."""
    return shared_memory_name(name, node.context.get_domain_id(), node.get_namespace())


def in_place(topic: str) -> str:
    """The topic, or for rclpy's `/clock` the one of the stack; a remapping of `clock` still leads elsewhere."""
    return CLOCK if topic == CLOCK_TOPIC else topic


class StackNode(Node):
    """A node whose simulated time is that of the stack in its namespace."""

    def create_subscription(self, msg_type: Any, topic: str, *rest: Any, **named: Any) -> Any:
        """As in rclpy, which also makes the one of the clock by it."""
        return super().create_subscription(msg_type, in_place(topic), *rest, **named)
