"""The whole stack under `ros2 launch`: `ros2 launch physai bringup.launch.py --show-args` lists the arguments.

Nodes, parameters and arguments come from physai_ros.graph, as for `physai up`.
"""

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable, Shutdown
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node

from physai_base.resources import share_directory
from physai_ros.graph import ARGUMENTS, RESPAWN_DELAY_S, bringup_graph, middleware_environment


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
            # Without its supervisor the graph is not usable; a failed bring-up ends this way too.
            on_exit=[Shutdown(reason="the supervisor ended")] if spec.name == "supervisor" else None,
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
