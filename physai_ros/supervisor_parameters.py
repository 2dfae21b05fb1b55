"""The supervisor's parameters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from physai_ros.budget import WINDOW_S


def _seconds(default: float, description: str) -> Any:
    return field(default=default, metadata={"unit": "s", "range": (0.05, 600.0), "description": description})


@dataclass(frozen=True)
class SupervisorParameters:
    """Parameters of the node; LIVE ones may be set while it runs."""

    nodes: tuple[str, ...] = field(default=("",), metadata={"description": "managed nodes in order"})
    idle_on_loss: tuple[str, ...] = field(
        default=("",), metadata={"description": "nodes to deactivate when any other is lost"}
    )
    latched_on_loss: tuple[str, ...] = field(
        default=("",), metadata={"description": "nodes that start latched when their process was lost"}
    )
    renewed_with: tuple[str, ...] = field(
        default=("",), metadata={"description": "a:b: set a up anew when b was lost"}
    )
    heartbeat_timeout_s: float = _seconds(2.0, "no heartbeat for this long: the node is lost")
    appear_timeout_s: float = _seconds(30.0, "for a process to start")
    configure_timeout_s: float = _seconds(60.0, "for a node to configure")
    transition_timeout_s: float = _seconds(10.0, "for every other transition")
    max_restarts: int = field(
        default=3, metadata={"range": (0, 100), "description": "of one node within restart_window_s"}
    )
    restart_window_s: float = field(
        default=WINDOW_S,
        metadata={"unit": "s", "range": (1.0, 86400.0), "description": "in which restarts are counted"},
    )
    robot: str = field(default="", metadata={"description": "embodiment, for the hardware_id on diagnostics"})
    note: str = field(
        default="", metadata={"description": "what a person should know although all nodes are active"}
    )


LIVE = (
    "heartbeat_timeout_s",
    "appear_timeout_s",
    "configure_timeout_s",
    "transition_timeout_s",
    "max_restarts",
    "restart_window_s",
)
