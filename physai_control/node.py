"""Control as a ROS node: hosts the C core, validates and posts chunks, publishes what the core reports."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from geometry_msgs.msg import WrenchStamped
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from physai.msg import ActionChunk, ChunkVerdict, ControlStatus
from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.values import ActionChunk as Chunk
from physai_base.values import ControlState
from physai_control.core import ChunkRejected, ControlCore
from physai_control.gate import ChunkGate
from physai_ros import conversions, qos
from physai_ros.lifecycle_node import PhysaiNode, run_node

MODES = ("off", "monitor", "veto")


@dataclass(frozen=True)
class ControlParameters:
    """Parameters of the node."""

    robot: str = field(default="fr3", metadata={"description": "embodiment: an installed name or a file"})
    world_model: str = field(
        default="veto", metadata={"choices": MODES, "description": "veto: a chunk needs an allowing verdict"}
    )
    verdict_timeout_s: float = field(
        default=0.1,
        metadata={
            "unit": "s",
            "range": (0.01, 2.0),
            "description": "no verdict for this long counts as a veto",
        },
    )
    state_rate_hz: float = field(
        default=60.0, metadata={"unit": "Hz", "range": (10.0, 250.0), "description": "of joint_states"}
    )
    status_rate_hz: float = field(
        default=20.0, metadata={"unit": "Hz", "range": (1.0, 100.0), "description": "of control/status"}
    )


class ControlNode(PhysaiNode[ControlParameters]):
    """The Python side of the controller; nothing here is in the 1 kHz path."""

    name = "control"
    parameters_type = ControlParameters

    def setup(self) -> None:
        """Load the embodiment, attach to the hardware and start the real-time thread, inactive."""
        parameters = self.parameters
        self._embodiment = Embodiment.load(parameters.robot)
        self._core = ControlCore(self._embodiment)
        self._gate = ChunkGate(parameters.verdict_timeout_s)
        self._last_state: tuple[ControlState, str] | None = None
        self._stamp_ns = -1
        self._dropped = ""
        self._states = self.create_publisher(JointState, "joint_states", qos.JOINTS)
        self._wrench = self.create_publisher(WrenchStamped, "wrench", qos.SENSOR)
        self._status = self.create_publisher(ControlStatus, "control/status", qos.STATUS)
        self.create_subscription(ActionChunk, "action_chunk", self._on_chunk, qos.COMMAND)
        self.create_subscription(ChunkVerdict, "chunk_verdict", self._on_verdict, qos.COMMAND)
        for period_s, work in (
            (0.05, self._expire),
            (1 / parameters.state_rate_hz, self._publish_state),
            (1 / parameters.status_rate_hz, self._publish_status),
        ):
            self.create_timer(period_s, work, clock=self.steady_clock)
        for name, request in (
            ("stop", self._core.stop_motion),
            ("reset", self._core.reset),
            ("resume", self._core.resume),
        ):
            self.create_service(Trigger, f"~/{name}", self._trigger(name, request))
        self._core.start()

    def start(self) -> None:
        """Hold at the measured pose and accept chunks."""
        self._core.activate()

    def stop(self) -> None:
        """Stop and go inactive: the robot's brakes hold it."""
        self._core.deactivate()

    def teardown(self) -> None:
        """End the real-time thread and detach."""
        self._core.close()

    def _on_chunk(self, message: ActionChunk) -> None:
        try:
            chunk = conversions.chunk_from_msg(message)
        except PhysaiError as error:
            self._drop(f"chunk {message.sequence} refused: {error}")
            return
        if self.parameters.world_model == "veto":
            self._pass_on(*self._gate.offer(chunk, time.monotonic()))
        else:
            self._pass_on(chunk, "")

    def _on_verdict(self, message: ChunkVerdict) -> None:
        if self.parameters.world_model == "veto":
            why = f"{message.reason}: {message.detail}"
            self._pass_on(*self._gate.decide(message.sequence, message.allow, why, time.monotonic()))

    def _expire(self) -> None:
        self._drop(self._gate.expire(time.monotonic()))

    def _pass_on(self, chunk: Chunk | None, dropped: str) -> None:
        self._drop(dropped)
        if chunk is None:
            return
        try:
            self._core.post(chunk)
        except ChunkRejected as rejection:
            self._drop(f"chunk {chunk.sequence} refused: {rejection}")

    def _drop(self, why: str) -> None:
        if why:
            self._dropped = why
            self.warn_throttled(why)

    def _trigger(
        self, name: str, request: Callable[[], None]
    ) -> Callable[[Trigger.Request, Trigger.Response], Trigger.Response]:
        def handle(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            try:
                request()
                response.success = True
                response.message = f"{name} requested; control is {self._core.status().state.name.lower()}"
            except PhysaiError as error:
                response.success, response.message = False, str(error)
            return response

        return handle

    def _publish_state(self) -> None:
        sample = self._core.joint_state()
        if sample is None or sample.stamp_ns == self._stamp_ns:
            return
        self._stamp_ns = sample.stamp_ns
        self._states.publish(conversions.joint_state_to_msg(sample, self._embodiment))

    def _publish_status(self) -> None:
        status = self._core.status()
        message = conversions.status_to_msg(status, self._embodiment, self._dropped)
        self._status.publish(message)
        wrench = WrenchStamped()
        wrench.header = message.header
        wrench.wrench = message.external_wrench
        self._wrench.publish(wrench)
        state = (status.state, status.cause)
        if state != self._last_state:
            severe = status.state in (ControlState.FAULT, ControlState.ESTOP)
            text = (
                f"{status.state.name.lower()}: {status.cause}" if status.cause else status.state.name.lower()
            )
            (self.get_logger().error if severe else self.get_logger().info)(text)
            self._last_state = state
        if status.state in (ControlState.FAULT, ControlState.ESTOP):
            self.report_error(f"{status.state.name.lower()}: {status.cause}")
        else:
            self.report_ok()


def main() -> None:
    """Entry point of the executable `control`."""
    run_node(ControlNode)


if __name__ == "__main__":
    main()
