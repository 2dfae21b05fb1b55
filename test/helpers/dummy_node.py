"""A small lifecycle node in a process of its own: `python dummy_node.py --ros-args -r __node:=a -p fail:=...`."""

from __future__ import annotations

import ctypes
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from physai_base.errors import PhysaiError
from physai_ros.lifecycle_node import PhysaiNode, run_node


@dataclass(frozen=True)
class DummyParameters:
    """Parameters of the node."""

    fail: str = field(
        default="",
        metadata={"choices": ("", "setup", "start", "hang_on_stop", "lock_on_stop", "bug", "never_latched")},
    )
    waits: str = field(
        default="",
        metadata={"choices": ("", "constructing", "configuring", "activating", "deactivating", "deaf")},
    )
    latched: str = ""
    rate_hz: float = field(
        default=10.0, metadata={"unit": "Hz", "range": (1.0, 60.0), "description": "of nothing"}
    )


class DummyNode(PhysaiNode[DummyParameters]):
    """Does what its parameter `fail` says."""

    name = "dummy"
    parameters_type = DummyParameters

    torn_down = False

    def __init__(self) -> None:
        super().__init__()
        if self.get_parameter("waits").value == "constructing":
            print("constructing", flush=True)
            time.sleep(1.0)
        self.add_on_set_parameters_callback(self.refuse)

    def refuse(self, changed: list[Parameter[Any]]) -> SetParametersResult:
        refused = self.get_parameter("fail").value == "never_latched"
        return SetParametersResult(successful=not refused, reason="it has no latch" if refused else "")

    def linger(self, stage: str) -> None:
        """Stay in a stage, using what teardown() releases."""
        if self.parameters.waits == stage:
            print(stage, flush=True)
            self.wait_until(self.use, 60.0)

    def use(self) -> bool:
        if self.torn_down:
            print("used after its end", flush=True)
        return False

    def setup(self) -> None:
        self.linger("configuring")
        if self.parameters.waits == "deaf":
            print("deaf", flush=True)
            time.sleep(60)
        if self.parameters.fail == "setup":
            raise PhysaiError("there is no camera 'left'; there are: overview, wrist")
        if self.parameters.fail == "bug":
            raise KeyError("left")
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.stopping.wait, daemon=True)
        self.thread.start()
        self.create_service(Trigger, "~/stop", self.answer)
        self.create_timer(0.05, self.tick, clock=self.steady_clock)
        self.get_logger().info("set up")

    def start(self) -> None:
        if self.parameters.fail == "start":
            raise PhysaiError("no power")
        self.linger("activating")
        self.get_logger().info(f"started {self.parameters.latched}")

    def stop(self) -> None:
        if self.parameters.waits == "deactivating":
            print("deactivating", flush=True)
            time.sleep(0.5)
            self.use()
        self.get_logger().info("stopped")
        if self.parameters.fail == "hang_on_stop":
            time.sleep(60)
        if self.parameters.fail == "lock_on_stop":
            ctypes.PyDLL(None).sleep(60)  # with Python's lock

    def teardown(self) -> None:
        self.torn_down = True
        self.stopping.set()
        self.thread.join()
        self.get_logger().info("torn down")

    def tick(self) -> None:
        assert not self.stopping.is_set(), "a callback after teardown"
        self.report_ok()  # as control's state does, and must not take back why it could not be activated

    def answer(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = True, f"{self.get_name()} stopped"
        return response


if __name__ == "__main__":
    run_node(DummyNode)
