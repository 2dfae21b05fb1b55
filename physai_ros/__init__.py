"""What knows ROS and is shared: conversions, lifecycle nodes, quality of service, parameters, the graph, the supervisor."""
