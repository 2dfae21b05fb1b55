"""The policy's node in process, beside somebody who speaks as the controller and asks for tasks."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.action import ActionClient

from physai.action import ExecuteTask
from physai.msg import ControlStatus
from physai_policy.node import PolicyNode
from physai_ros.executor import CachingExecutor

_domains = itertools.count(101 + os.getpid() % 40)


class Bench:
    """The node, active, beside somebody who speaks as the controller and asks for tasks."""

    def __init__(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=next(_domains))
        self.node = PolicyNode(context=self.context)
        self.other = rclpy.create_node("other", context=self.context)
        self.control = self.other.create_publisher(ControlStatus, "control/status", 10)
        self.diagnostics: list[DiagnosticArray] = []
        self.other.create_subscription(DiagnosticArray, "/diagnostics", self.diagnostics.append, 10)
        self.execute: Any = ActionClient(self.other, ExecuteTask, "execute_task")
        self.executor = CachingExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.executor.add_node(self.other)
        self.thread = threading.Thread(target=self._spin, daemon=True)
        self.thread.start()
        self.node.trigger_configure()
        self.node.trigger_activate()

    def _spin(self) -> None:
        try:
            self.executor.spin()
        except Exception:
            if self.context.ok():  # else it was shut down under a waiting executor
                raise

    def until(self, condition: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, what
            time.sleep(0.02)

    def ask(self, text: str) -> str:
        """What the one who asked is told."""
        assert self.execute.wait_for_server(timeout_sec=20)
        sending = self.execute.send_goal_async(ExecuteTask.Goal(instruction=text))
        self.until(sending.done, "an answer to the goal")
        if not sending.result().accepted:
            return "rejected"
        result = sending.result().get_result_async()
        self.until(result.done, "a result")
        return result.result().result.message

    def close(self) -> None:
        self.execute.destroy()
        self.node.trigger_deactivate()
        self.node.trigger_cleanup()
        self.context.try_shutdown()
        self.thread.join(5.0)
