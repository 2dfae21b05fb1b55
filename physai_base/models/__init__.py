"""Robot models: as their makers publish them, found and read, and as ROS is told of them (`description`)."""
