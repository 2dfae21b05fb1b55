"""L1: from RGB-D images and joint states to the objects on the table, in the robot's base frame."""
