"""Who publishes what the controller listens to: from the running graph and from every message, for tests of shadow mode."""

from __future__ import annotations

import importlib
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import MessageInfo

# Receives from every kind of publisher.
ANY = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=500,
    reliability=ReliabilityPolicy.BEST_EFFORT,
    durability=DurabilityPolicy.VOLATILE,
)
GID_BYTES = 16
NOT_YET_KNOWN = "_NODE_NAME_UNKNOWN_"  # rmw's word for it
UNKNOWN = "unknown"


def message_class(name: str) -> Any:
    package, _, kind = name.split("/")
    return getattr(importlib.import_module(f"{package}.msg"), kind)


class ControllerWatch:
    """Listens on every topic that the nodes `listeners` (of `namespace`) subscribe to, and remembers who published."""

    def __init__(self, node: Node, listeners: tuple[str, ...] = ("control",), namespace: str = "/") -> None:
        self.node, self.listeners, self.namespace = node, listeners, namespace
        self._watched: dict[str, Any] = {}
        self._messages: Counter[tuple[str, bytes]] = Counter()  # by topic and the publisher's id
        # A publisher can be discovered before its node's name is.
        self._names: dict[tuple[str, bytes], str] = {}

    def look(self) -> set[str]:
        """Look at the graph anew; returns the topics that the controller listens to."""
        for listener in self.listeners:
            for topic, kinds in self.node.get_subscriber_names_and_types_by_node(listener, self.namespace):
                if topic not in self._watched:
                    self._watched[topic] = self.node.create_subscription(
                        message_class(kinds[0]), topic, self._counter(topic), ANY, raw=True
                    )
        for topic in self._watched:
            for info in self.node.get_publishers_info_by_topic(topic):
                key = (topic, bytes(info.endpoint_gid[:GID_BYTES]))
                if info.node_name == NOT_YET_KNOWN:
                    self._names.setdefault(key, UNKNOWN)
                else:
                    self._names[key] = f"{info.node_namespace.rstrip('/')}/{info.node_name}"
        return set(self._watched)

    def knows_all(self) -> bool:
        """Whether every publisher's name has been discovered."""
        self.look()
        return UNKNOWN not in self._names.values()

    @property
    def offered(self) -> set[tuple[str, str]]:
        """Topics and who ever had a publisher on them."""
        return {(topic, name) for (topic, _), name in self._names.items()}

    @property
    def counts(self) -> Counter[tuple[str, str]]:
        """Messages by topic and publisher."""
        counts: Counter[tuple[str, str]] = Counter()
        for key, count in self._messages.items():
            counts[key[0], self._names.get(key, UNKNOWN)] += count
        return counts

    def _counter(self, topic: str) -> Callable[[bytes, MessageInfo], None]:
        def count(_: bytes, info: MessageInfo) -> None:
            gid = info["publisher_gid"]
            assert gid is not None
            key = (topic, bytes(gid["data"][:GID_BYTES]))
            if key not in self._names:
                self.look()
            self._messages[key] += 1

        return count

    def services(self) -> set[str]:
        """Services by which the controller can be told something."""
        return {
            name
            for listener in self.listeners
            for name, _ in self.node.get_service_names_and_types_by_node(listener, self.namespace)
        }

    def clients(self, namespace: str) -> set[str]:
        """Services that nodes of a namespace could call."""
        found: set[str] = set()
        for name, place in self.node.get_node_names_and_namespaces():
            if place == namespace:
                found |= {service for service, _ in self.node.get_client_names_and_types_by_node(name, place)}
        return found

    def reaching(self, namespace: str) -> dict[tuple[str, str], int]:
        """What nodes below `namespace`, or nobody known, offered or published on the controller's topics."""
        self.look()
        offers = dict.fromkeys(self.offered, 0) | self.counts
        return {
            key: count
            for key, count in offers.items()
            if key[1] == UNKNOWN or key[1].startswith(f"{namespace}/")
        }


def spin_until(
    executor: SingleThreadedExecutor, condition: Callable[[], bool], timeout_s: float, what: str
) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"timed out: {what}"
        executor.spin_once(timeout_sec=0.02)
