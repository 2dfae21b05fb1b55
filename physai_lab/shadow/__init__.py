"""A new policy beside what moves the robot, and what the two would have done."""
