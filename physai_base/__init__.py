"""What every layer shares: stamped values, the embodiment and task files, kinematics and model bundles.

Nothing here imports ROS or any sibling package.
"""
