"""An arm behind ROS: a control node of its own, commanded and observed through its topics as a policy would."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from physai_base.embodiment import Embodiment
from physai_base.values import ActionChunk, ControlStatus, JointState
from physai_lab.calibration.file import write_calibration
from physai_lab.calibration.motion import CalibrationError
from physai_lab.stack.bringup import Stack
from physai_ros.graph import Graph, NodeSpec, with_supervisor

STATE_RATE_HZ = 250.0
PATIENCE = 5.0  # times the time that should pass, plus PATIENCE_S
PATIENCE_S = 5.0


@contextlib.contextmanager
def robot_arm(embodiment: Embodiment, namespace: str = "") -> Iterator[RobotArm]:
    """Start a control node on the embodiment's hardware, alone, and end it afterwards.

    `join_stack` must have been called. Nothing else may drive the robot meanwhile.

    Raises:
        PhysaiError: the control node or its hardware does not come up; the message says why.
    """
    import rclpy

    from physai_ros.executor import spun

    with tempfile.TemporaryDirectory(prefix="physai_calibrate_") as folder:
        # The node reads its calibration from a file; the robot's own stays as it is.
        path = Path(folder) / f"{embodiment.name}.yaml"
        write_calibration(embodiment, embodiment.calibration, path, "for a calibration")
        parameters = {"robot": str(path), "state_rate_hz": STATE_RATE_HZ, "world_model": "off"}
        graph = with_supervisor(Graph((NodeSpec("control", "control", parameters, respawn=0),), namespace))
        with Stack(graph) as stack:
            stack.wait_ready()
            if not rclpy.ok():
                rclpy.init(args=[])
            node = rclpy.create_node("physai_calibrate", namespace=namespace)
            arm = RobotArm(node, embodiment)
            with spun(node):
                arm.wait(1.0)  # gains rise, the arm settles
                yield arm


class RobotArm:
    """One arm behind `action_chunk`, `joint_states` and `control/status`."""

    def __init__(self, node: Any, embodiment: Embodiment) -> None:
        from physai_ros import conversions, topics

        self.embodiment = embodiment
        self._conversions = conversions
        self._lock = threading.Lock()
        self._samples: list[JointState] = []
        self._newest: JointState | None = None
        self._status: ControlStatus | None = None
        self._sequence = 0
        self._chunks = topics.advertise(node, "action_chunk")
        topics.hear(node, "joint_states", self._on_joints, depth=round(STATE_RATE_HZ))
        topics.hear(node, "control/status", self._on_status)

    def _on_joints(self, message: Any) -> None:
        state = self._conversions.joint_state_from_msg(message, self.embodiment, need_effort=True)
        with self._lock:
            self._samples.append(state)
            self._newest = state

    def _on_status(self, message: Any) -> None:
        self._status = self._conversions.status_from_msg(message)

    def now_ns(self) -> int:
        """Stamp of the newest state."""
        if self._newest is None:
            raise CalibrationError("no joint_states came from the control node")
        return self._newest.stamp_ns

    def post(self, chunk: ActionChunk) -> None:
        """Publish a chunk; `status` tells when it was refused."""
        self._sequence = chunk.sequence
        message = self._conversions.chunk_to_msg(chunk, self.now_ns(), self.embodiment.base_frame)
        self._chunks.publish(message)

    def wait(self, duration_s: float) -> list[JointState]:
        """Until so much of the robot's time has passed; the states that came since the last call."""
        begin_ns: int | None = None
        deadline = time.monotonic() + PATIENCE * duration_s + PATIENCE_S
        while begin_ns is None or self.now_ns() < begin_ns + round(duration_s * 1e9):
            if begin_ns is None and self._newest is not None and self._status is not None:
                begin_ns = self._newest.stamp_ns
            if time.monotonic() > deadline:
                raise CalibrationError(f"the control node is silent: its states end at {self._newest}")
            time.sleep(0.002)
        with self._lock:
            samples, self._samples = self._samples, []
        return samples

    def status(self) -> ControlStatus:
        """The newest one.

        Raises:
            CalibrationError: a chunk was refused.
        """
        if self._status is None:
            raise CalibrationError("no control/status came from the control node")
        if self._status.chunks_rejected:
            raise CalibrationError(f"the controller refused a chunk: {self._status.last_rejection}")
        return self._status

    def next_sequence(self) -> int:
        """One more than the last chunk's."""
        return self._sequence + 1
