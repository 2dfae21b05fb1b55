"""What every layer shares: stamped values, the embodiment and task files, kinematics and model bundles.

Nothing here imports ROS or any sibling package.
"""

from physai_base import offline as offline  # first of all: libraries read its switches when they are loaded
