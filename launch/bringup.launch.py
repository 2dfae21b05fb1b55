"""The whole stack under `ros2 launch`: `ros2 launch physai bringup.launch.py --show-args` lists the arguments.

Nodes, parameters and arguments come from physai_ros.graph, as for `physai up`.
"""

import atexit
import sys
from collections.abc import Callable

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.event_handlers import OnProcessIO
from launch.events.process import ProcessExited, ProcessIO
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node

from physai_base.resources import share_directory
from physai_ros.graph import ARGUMENTS, RESPAWN_DELAY_S, bringup_graph, middleware_environment


class Failure:
    """Why the bring-up failed, as the last line of all: the ends of the other processes would bury it."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}  # by node: why it ends
        self._first = ""
        self._code = 0

    def hear(self, name: str) -> Callable[[ProcessIO], None]:
        """For a node's stderr, on which it says why it ends: "physai NAME: …"."""

        def on_stderr(event: ProcessIO) -> None:
            for line in event.text.decode(errors="replace").splitlines():
                if line.startswith(f"physai {name}: "):
                    self._said[name] = line.split(": ", 1)[1]

        return on_stderr

    def begin(self, name: str, code: int) -> None:
        """A node's end that ends the rest."""
        if not self._first:
            self._first, self._code = name, code
            atexit.register(self.tell)  # its last words may come after its end

    def tell(self) -> None:
        """Print it."""
        why = self._said.get(self._first, f"{self._first} ended with code {self._code}; its log says why")
        print(f"the bring-up failed: {why}", file=sys.stderr, flush=True)


def ended(
    name: str, failure: Failure
) -> Callable[[ProcessExited, LaunchContext], list[LaunchDescriptionEntity]]:
    """What follows from the end of a process. An exception is how `ros2 launch` comes to exit with 1."""
    ends = 0

    def on_exit(event: ProcessExited, context: LaunchContext) -> list[LaunchDescriptionEntity]:
        nonlocal ends
        ends += 1
        if context.is_shutdown:
            return []
        # Without its supervisor the graph is not usable; a failed bring-up ends this way, too. A node that refuses its
        # configuration right away refuses it again.
        if (name == "supervisor" and event.returncode) or (event.returncode == 78 and ends == 1):
            failure.begin(name, event.returncode)
            raise RuntimeError(
                f"the bring-up failed: {name} ended with code {event.returncode}; the last line says why"
            )
        return [Shutdown(reason="the supervisor ended")] if name == "supervisor" else []

    return on_exit


def start_graph(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    graph = bringup_graph(
        **{argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ARGUMENTS}
    )
    failure = Failure()
    nodes = [
        Node(
            package="physai",
            executable=spec.executable,
            name=spec.name,
            namespace=graph.namespace_of(spec),
            parameters=[dict(spec.parameters)],
            remappings=list(spec.remappings),
            arguments=["--ros-args", "--log-level", graph.log_level],
            output="screen",
            respawn=spec.respawn > 0,
            respawn_delay=RESPAWN_DELAY_S,
            respawn_max_retries=spec.respawn,
            on_exit=ended(spec.name, failure),
        )
        for spec in graph.nodes
    ]
    heard = [
        RegisterEventHandler(OnProcessIO(target_action=node, on_stderr=failure.hear(spec.name)))
        for node, spec in zip(nodes, graph.nodes, strict=True)
    ]
    return [*heard, *nodes]


def generate_launch_description() -> LaunchDescription:
    environment = middleware_environment(str(share_directory() / "config" / "fastdds.xml"))
    return LaunchDescription(
        [
            SetEnvironmentVariable(name, EnvironmentVariable(name, default_value=value))
            for name, value in environment.items()
        ]
        + [
            DeclareLaunchArgument(
                a.name, default_value=a.default, description=a.description, choices=a.choices or None
            )
            for a in ARGUMENTS
        ]
        + [OpaqueFunction(function=start_graph)]
    )
