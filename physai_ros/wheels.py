"""Import this before anything of ROS in a program that has output to lose.

Where ROS comes from PyPI wheels, the first import of rclpy starts Python again with a library path; what
the program has buffered or captured until then would be gone. Elsewhere this does nothing.
"""

import contextlib

with contextlib.suppress(ImportError):
    import ros_wheels_bootstrapper  # noqa: F401
