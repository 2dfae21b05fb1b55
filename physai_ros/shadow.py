"""The recorder of mode `shadow`: what the policy and the world model would have done beside what moved the robot.

It also brings the shadow policy to the task that whoever moves the robot is at: an instruction on `instruction`, or a
policy whose `policy/status` says what it runs. Everything that it listens to is outside of its namespace or in it;
what it says, it says to the policy in there alone.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rclpy.action import ActionClient

from physai.action import ExecuteTask
from physai.msg import Instruction, PolicyStatus
from physai_ros import conversions, topics
from physai_ros.lifecycle_node import PhysaiNode, run_node
from physai_ros.recording import Recorder

CHUNK_BYTES = 1 << 16  # about what comes in a second
SILENT_S = 2.0  # without a message on any of the topics
ANSWER_TIMEOUT_S = 10.0  # of the policy's process
ROBOT_TOPICS = ("joint_states", "scene", "action_chunk", "control/status", "policy/status", "instruction")
SHADOW_TOPICS = ("action_chunk", "chunk_verdict", "policy/status")


@dataclass(frozen=True)
class ShadowParameters:
    """Parameters of the node."""

    recordings: str = field(default="runs/shadow", metadata={"description": "folder for the MCAP files"})
    least_free_mb: float = field(
        default=500.0,
        metadata={
            "unit": "MB",
            "range": (0.0, 1e6),
            "description": "recording ends when the disk has less left",
        },
    )
    task_timeout_s: float = field(
        default=120.0,
        metadata={"unit": "s", "range": (1.0, 600.0), "description": "for which the policy is at one task"},
    )


class MoverTask:
    """Which task the robot is being moved for, from what is heard; `number` counts them, `text` "" is none."""

    def __init__(self) -> None:
        self.text = ""
        self.meant = ("", "")  # target and destination, where whoever moves the robot says so
        self.number = 0

    def instructed(self, text: str) -> None:
        """An instruction, to whoever moves the robot."""
        self._set(text)

    def status(self, running: bool, instruction: str, meant: tuple[str, str] = ("", "")) -> None:
        """What a policy that moves the robot says of itself."""
        if running and instruction != self.text:
            self._set(instruction, meant)
        elif not running and instruction == self.text:
            self._set("")

    def _set(self, text: str, meant: tuple[str, str] = ("", "")) -> None:
        if text or self.text:
            self.text, self.meant, self.number = text, meant, self.number + 1


class ShadowRecorder(PhysaiNode[ShadowParameters]):
    """Writes one file from its activation to its deactivation."""

    name = "recorder"
    parameters_type = ShadowParameters

    def setup(self) -> None:
        """Subscribe."""
        inside = self.get_namespace().rstrip("/")
        outside = inside.rpartition("/")[0]
        self._recorder: Recorder | None = None
        self._task = MoverTask()
        self._told = 0  # number of the task that the policy was told of
        self._goal: Any = None  # that the policy is at
        self._waiting_since_s = 0.0  # for the policy's answer; 0: for none
        self._written_s = 0.0  # when a message was last recorded
        for place, names in ((outside, ROBOT_TOPICS), (inside, SHADOW_TOPICS)):
            for name in names:
                self._record_topic(f"{place}/{name}")
        topics.hear(self, f"{outside}/instruction", self._on_instruction)
        topics.hear(self, f"{outside}/policy/status", self._on_mover)
        topics.hear(self, f"{inside}/policy/status", self._on_shadow)
        self._asking = {"mover": False, "shadow": False}  # for a person, by who asks
        self._execute: Any = ActionClient(self, ExecuteTask, "execute_task")
        self.create_timer(1.0, self._watch, clock=self.steady_clock)

    def start(self) -> None:
        """Begin a file."""
        folder = Path(self.parameters.recordings)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        self._recorder = Recorder(
            folder / f"shadow-{stamp}-{self.get_clock().now().nanoseconds}.mcap", CHUNK_BYTES
        )
        self.get_logger().info(f"recording to {self._recorder.path}.partial")

    def stop(self) -> None:
        """Finish the file."""
        recorder, self._recorder = self._recorder, None
        if recorder is None:
            return
        try:
            recorder.close()
            self.get_logger().info(f"{recorder.path} is complete; look at it with: physai shadow report")
        except OSError as error:
            self.get_logger().error(f"{recorder.abandon()} is left as it is: {error}")

    def teardown(self) -> None:
        """Let go of the policy's action."""
        self._execute.destroy()

    # What is recorded.

    def _record_topic(self, topic: str) -> None:
        kind = topics.topic(topic).message()

        def write(data: bytes) -> None:
            if self._recorder is None:
                return
            try:
                self._recorder.write_serialized(topic, kind, data, self.get_clock().now().nanoseconds)
                self._written_s = time.monotonic()
            except OSError as error:
                self._give_up(f"it cannot be written: {error}")

        topics.hear(self, topic, write, raw=True)

    def _watch(self) -> None:
        """Leave the disk to others before it is full, and the policy when it does not answer."""
        if self._recorder is not None:
            free_mb = shutil.disk_usage(self._recorder.path.parent).free / 1e6
            if free_mb < self.parameters.least_free_mb:
                self._give_up(
                    f"the disk has {free_mb:.0f} MB left (limit {self.parameters.least_free_mb:g} MB)"
                )
        self._name_waits()
        if self._waiting_since_s and time.monotonic() - self._waiting_since_s > ANSWER_TIMEOUT_S:
            self.get_logger().warning("the shadow policy does not answer; it is told of the task again")
            self._goal, self._waiting_since_s, self._told = None, 0.0, 0
        self._tell()

    def _name_waits(self) -> None:
        recording = self._recorder is not None
        silent = recording and time.monotonic() - self._written_s > SILENT_S
        text = "nothing comes to be recorded: is the robot's stack up, in this domain, and this namespace right below its own?"
        self.conditions.set("nothing_recorded", text if silent else "")
        told = not self._task.text or self._told == self._task.number
        text = f"{self._task.text!r} waits for the shadow policy's execute_task: is that policy active?"
        self.conditions.set("policy_absent", text if recording and not told else "")

    def _give_up(self, why: str) -> None:
        assert self._recorder is not None
        recorder, self._recorder = self._recorder, None
        self.report_error(f"recording ended early: {why}; {recorder.abandon()} can be read up to there")

    # Which task the policy is at.

    def _on_instruction(self, message: Instruction) -> None:
        self._task.instructed(message.text)
        self._tell()

    def _on_mover(self, message: PolicyStatus) -> None:
        handed_over = message.state == PolicyStatus.HANDOVER  # such a task has not ended
        self._mark("mover", handed_over, message)
        running = handed_over or message.state == PolicyStatus.RUNNING
        self._task.status(running, message.instruction, (message.target, message.destination))
        self._tell()

    def _on_shadow(self, message: PolicyStatus) -> None:
        self._mark("shadow", message.state == PolicyStatus.RUNNING and message.doubt > 1.0, message)

    def _mark(self, who: str, asks: bool, message: PolicyStatus) -> None:
        """Mark the moment at which a policy asks for a person, or would."""
        before, self._asking[who] = self._asking[who], asks
        if self._recorder is None or before or not asks:
            return
        stamp_ns = conversions.time_from_msg(message.header.stamp)
        try:
            self._recorder.mark(
                "handover", stamp_ns, policy=who, instruction=message.instruction, reason=message.message
            )
        except OSError as error:
            self._give_up(f"it cannot be written: {error}")

    def _tell(self) -> None:
        """Bring the policy to the present task: end the one before first; one request at a time."""
        if self._told == self._task.number or self._waiting_since_s:
            return
        if self._goal is not None:
            self._waiting_since_s = time.monotonic()
            self._goal.cancel_goal_async()  # its end is what is waited for
            return
        if self._task.text and not self._execute.server_is_ready():
            return  # tried again by and by
        self._told = self._task.number
        if not self._task.text:
            return
        self._waiting_since_s = time.monotonic()
        # What a person has confirmed to the policy that moves the robot needs no second yes.
        target, destination = self._task.meant
        goal = ExecuteTask.Goal(
            instruction=self._task.text,
            timeout=self.parameters.task_timeout_s,
            target=target,
            destination=destination,
        )
        self._execute.send_goal_async(goal).add_done_callback(self._on_answer)

    def _on_answer(self, future: Any) -> None:
        handle, self._waiting_since_s = future.result(), 0.0
        if handle is not None and handle.accepted:
            self._goal = handle
            handle.get_result_async().add_done_callback(lambda result: self._on_end(handle, result))
        else:
            self.get_logger().warning(f"the shadow policy does not take: {self._task.text}")
        self._tell()

    def _on_end(self, handle: Any, future: Any) -> None:
        if handle is not self._goal:
            return  # given up before
        self._goal, self._waiting_since_s = None, 0.0
        answer = future.result()
        if answer is not None:
            self.get_logger().info(f"the shadow policy's task ended: {answer.result.message}")
        self._tell()


def main() -> None:
    """Entry point of the executable `shadow`."""
    run_node(ShadowRecorder)


if __name__ == "__main__":
    main()
