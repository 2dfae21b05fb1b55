"""The robot's side of the topics in the test's own process, and a core that holds it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from topic_cell import write_robot

from physai_base.embodiment import Embodiment
from physai_base.values import ControlState
from physai_control.core import ControlCore

PERIOD_NS = 2_500_000  # between stamps of our own states, which come at half that pace
PATIENT_S = 0.5  # for those, since a Python program sends them


class Robot:
    """The robot's side of the topics in this process: an arm that stands at home."""

    def __init__(self, robot: Embodiment) -> None:
        import rclpy
        from sensor_msgs.msg import JointState
        from std_msgs.msg import Bool

        from physai_ros import qos

        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=int(os.environ["ROS_DOMAIN_ID"]))
        self.node = rclpy.create_node("robot", context=self.context)
        self.commands: list[Any] = []
        self.enabled: list[bool] = []
        self.names = [*robot.joint_names, *robot.gripper.joints]
        self.position = [*robot.home, 0.01, 0.02]
        self.stamp_ns = time.time_ns()
        self._message = JointState
        self._bool = Bool
        self.states = self.node.create_publisher(JointState, "hardware/joint_states", qos.STATUS)
        self.stopped = self.node.create_publisher(Bool, "hardware/stopped", qos.STATUS)
        self.node.create_subscription(JointState, "hardware/joint_command", self.commands.append, qos.STATUS)
        latched = rclpy.qos.QoSProfile(depth=1, durability=rclpy.qos.DurabilityPolicy.TRANSIENT_LOCAL)
        self.node.create_subscription(Bool, "hardware/enable", lambda m: self.enabled.append(m.data), latched)
        self.executor = rclpy.executors.SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def message(self, period_ns: int = PERIOD_NS, **changes: Any) -> Any:
        self.stamp_ns += period_ns
        message = self._message()
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(self.stamp_ns, 10**9)
        message.name, message.position = list(self.names), [float(q) for q in self.position]
        message.velocity = message.effort = [0.0] * len(self.names)
        for name, value in changes.items():
            setattr(message, name, value)
        return message

    def run(self, seconds: float, make: Any = None) -> None:
        """Publish states at 200 Hz."""
        for _ in range(round(seconds * 200)):
            self.states.publish(make() if make else self.message())
            self.spin(0.005)

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.executor.spin_once(timeout_sec=left)

    def say_stopped(self, stopped: bool) -> None:
        self.stopped.publish(self._bool(data=stopped))

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()


@contextlib.contextmanager
def held(folder: Path, robot: type[Robot] = Robot, **changes: Any) -> Iterator[tuple[Robot, ControlCore]]:
    """A robot in this process that an active core holds; the loop is as slow as effort may be."""
    changes.setdefault("control", {}).setdefault("rate_hz", 300)
    embodiment = Embodiment.load(write_robot(folder, PATIENT_S, **changes))
    core, arm = ControlCore(embodiment), robot(embodiment)
    core.start()
    try:
        for _ in range(100):
            arm.run(0.05)
            if core.joint_state() is not None and arm.stopped.get_subscription_count():
                break
        for _ in range(20):  # the commands' reader may be found later than the states' writer
            core.activate()
            arm.run(0.3)
            if core.status().state is ControlState.HOLD:
                break
        assert core.status().state is ControlState.HOLD, core.status().cause
        assert arm.commands and arm.enabled[-1]
        yield arm, core
    finally:
        core.close()
        arm.close()
