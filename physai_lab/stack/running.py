"""`physai doctor --graph`: which nodes and topics there are, and what the nodes say of themselves now."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

LISTEN_S = 3.0  # a heartbeat comes five times a second, and two seconds without one is a loss


def print_graph(namespace: str = "", listen_s: float = LISTEN_S) -> int:
    """List nodes and topics of the running stacks, or of that in `namespace`; 1 when none runs, or a layer is silent."""
    from physai_lab.stack.bringup import join_stack

    join_stack()
    import rclpy

    from physai_ros import topics

    rclpy.init(args=[])
    node = rclpy.create_node("physai_doctor")
    said: dict[str, tuple[float, str]] = {}

    def hear(message: Any) -> None:
        for status in message.status:
            level = int.from_bytes(status.level, "little")
            mark = ("", "warning: ", "error: ", "stale: ")[min(level, 3)]
            said[status.name] = (time.monotonic(), mark + status.message)

    topics.hear(node, "/diagnostics", hear)
    deadline = time.monotonic() + listen_s
    while time.monotonic() < deadline:
        rclpy.spin_once(node, timeout_sec=0.1)
    within = f"/{namespace.strip('/')}/".replace("//", "/")
    everywhere = [
        f"{place.rstrip('/')}/{name}"
        for name, place in node.get_node_names_and_namespaces()
        if name != "physai_doctor"
    ]
    names = [name for name in everywhere if name.startswith(within)]
    services = [name for name, _ in node.get_service_names_and_types() if name.startswith(within)]
    now_s = time.monotonic()
    fresh = {
        name: text
        for name, (when_s, text) in said.items()
        if now_s - when_s < listen_s - 1.0 and name.startswith(within)
    }
    lines, silent = node_lines(names, services, fresh)
    print(f"{len(names)} nodes")
    for line in lines:
        print(f"  {line}")
    print("topics")
    for name, types in sorted(node.get_topic_names_and_types()):
        if not name.startswith(within):
            continue
        publishers, subscribers = node.count_publishers(name), node.count_subscribers(name)
        print(f"  {name}  {', '.join(types)}  ({publishers} publishers, {subscribers} subscribers)")
    node.destroy_node()
    rclpy.try_shutdown()
    if not names:
        places = sorted({name.rpartition("/")[0] or "/" for name in everywhere})
        where = f"in namespace {within}; there are nodes in {', '.join(places)}" if places else "here"
        print(f"physai doctor: no node is running {where}; start the stack with `physai up`", file=sys.stderr)
        return 1
    if silent:
        print(
            f"physai doctor: no heartbeat of {', '.join(silent)}: hung, stopped or ended, and what it last said of the robot "
            "need not be so any more; see what the supervisor says",
            file=sys.stderr,
        )
        return 1
    return 0


def node_lines(names: list[str], services: list[str], said: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """A line for each node with what it says of itself, and the lifecycle nodes that say nothing.

    `services` tells lifecycle nodes, `said` is what came on `/diagnostics` lately by the nodes' full names.
    """
    managed = {name.removesuffix("/change_state") for name in services if name.endswith("/change_state")}
    lines, silent = [], []
    for name in sorted({*names, *managed, *(name for name in said if name.startswith("/"))}):
        if name in said:
            lines.append(f"{name}  {said[name]}")
        elif name in managed:
            silent.append(name)
            lines.append(f"{name}  SILENT")
        else:
            lines.append(name)
    if managed and not any(name.endswith("/supervisor") for name in said):
        lines.append(
            "no supervisor is heard: nobody watches these nodes, sets them up again or takes them down"
        )
    return lines, silent
