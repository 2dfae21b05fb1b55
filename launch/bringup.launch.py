"""The whole stack under `ros2 launch`: `ros2 launch physai bringup.launch.py --show-args` lists the arguments.

Nodes, parameters and arguments come from physai_ros.graph, as for `physai up`.
"""

from collections.abc import Callable

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable, Shutdown
from launch.events.process import ProcessExited
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node

from physai_base.resources import share_directory
from physai_ros.graph import ARGUMENTS, RESPAWN_DELAY_S, bringup_graph, middleware_environment


def ended(name: str) -> Callable[[ProcessExited, LaunchContext], list[LaunchDescriptionEntity]]:
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
            raise RuntimeError(
                f"the bring-up failed: {name} ended with code {event.returncode}; the last line of its log says why"
            )
        return [Shutdown(reason="the supervisor ended")] if name == "supervisor" else []

    return on_exit


def start_graph(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    graph = bringup_graph(
        **{argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ARGUMENTS}
    )
    return [
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
            on_exit=ended(spec.name),
        )
        for spec in graph.nodes
    ]


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
