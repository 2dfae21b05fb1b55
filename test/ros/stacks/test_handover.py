"""The stack with real processes hands a task over: the cup is suddenly where the arm cannot go.

The test is the eyes of the stack: it publishes the cell's truth, and the cup elsewhere when it says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from physai_base.embodiment import Embodiment
from physai_base.kinematics import ArmKinematics
from physai_base.values import ControlState, EndEffectorState, JointState, SceneObject, SceneState
from physai_lab.stack.bringup import Stack, join_stack
from physai_ros import conversions, qos
from physai_ros.ending import leave_graph
from physai_ros.graph import bringup_graph

pytestmark = [pytest.mark.ros, pytest.mark.slow]
AT_REST_RAD_S = 0.02
OUT_OF_REACH_M = np.array([0.98, 0.52, 0.0])


class Eyes:
    """Publishes the scene, and sees what the stack does about it."""

    def __init__(self) -> None:
        import rclpy
        from rclpy.action import ActionClient
        from sensor_msgs.msg import JointState as JointStateMessage
        from std_srvs.srv import Trigger

        from physai.action import ExecuteTask
        from physai.msg import ActionChunk, ControlStatus, GroundTruth, PolicyStatus
        from physai.msg import SceneState as SceneMessage

        self.robot = Embodiment.load("fr3")
        self._kinematics = ArmKinematics(self.robot)
        self.node = rclpy.create_node("eyes")
        self.elsewhere: dict[str, np.ndarray] = {}
        self.shown = 0  # scenes that somebody listened to
        self.joints: JointState | None = None
        self.speed = 0.0
        self.control: Any = None
        self.said: list[Any] = []  # policy/status
        self.felt: list[int] = []  # states in the action's feedback
        self.chunks: list[Any] = []
        create = self.node.create_subscription
        create(JointStateMessage, "joint_states", self._on_joints, qos.JOINTS)
        create(JointStateMessage, "sim/joint_truth", self._on_truth_of_joints, qos.JOINTS)
        create(GroundTruth, "sim/ground_truth", self._on_truth, qos.SENSOR)
        create(ControlStatus, "control/status", lambda m: setattr(self, "control", m), qos.STATUS)
        create(PolicyStatus, "policy/status", self.said.append, qos.STATUS)
        create(ActionChunk, "action_chunk", self.chunks.append, qos.COMMAND)
        self._scene = self.node.create_publisher(SceneMessage, "scene", qos.SENSOR)
        self.execute = ActionClient(self.node, ExecuteTask, "execute_task")
        self._resume = self.node.create_client(Trigger, "policy/resume")
        self.executor = rclpy.executors.SingleThreadedExecutor()
        self.executor.add_node(self.node)

    def _on_joints(self, message: Any) -> None:
        self.joints = conversions.joint_state_from_msg(message, self.robot)

    def _on_truth_of_joints(self, message: Any) -> None:
        self.speed = float(np.abs(message.velocity).max())

    def _on_truth(self, message: Any) -> None:
        if self.joints is None:
            return
        stamp_ns = conversions.time_from_msg(message.header.stamp)
        things = []
        for i, (label, pose) in enumerate(zip(message.labels, message.poses, strict=True)):
            at = np.array([pose.position.x, pose.position.y, pose.position.z])
            things.append(
                SceneObject(
                    id=i, label=label, position_m=self.elsewhere.get(label, at), orientation=np.array([1.0, 0, 0, 0]),
                    covariance=np.eye(6) * 1e-6, velocity_m_s=np.zeros(3), size_m=np.array([0.06, 0.06, 0.1]),
                    confidence=1.0, last_seen_ns=stamp_ns,
                )
            )  # fmt: skip
        tool = self._kinematics.tool_pose(self.joints.position)
        scene = SceneState(
            stamp_ns=stamp_ns, objects=tuple(things), joint_position=self.joints.position,
            joint_velocity=self.joints.velocity, end_effectors=(EndEffectorState.at_rest(
                tool.position, np.array([0.0, 1.0, 0.0, 0.0]), float(self.joints.openings[0])
            ),),
        )  # fmt: skip
        self._scene.publish(conversions.scene_to_msg(scene, self.robot))
        self.shown += self._scene.get_subscription_count() >= 2  # the cell, for its pace, and the policy

    def until(self, condition: Callable[[], Any], what: str, timeout_s: float = 90.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"timed out: {what}; {self.said[-1:]}"
            self.executor.spin_once(timeout_sec=0.02)

    def send(self, instruction: str) -> Any:
        from physai.action import ExecuteTask

        assert self.execute.wait_for_server(timeout_sec=20.0)
        future = self.execute.send_goal_async(
            ExecuteTask.Goal(instruction=instruction, timeout=40.0),
            feedback_callback=lambda message: self.felt.append(message.feedback.state),
        )
        self.until(future.done, "the goal is answered")
        return future.result()

    def resume(self) -> Any:
        from std_srvs.srv import Trigger

        future = self._resume.call_async(Trigger.Request())
        self.until(future.done, "policy/resume answers")
        return future.result()

    def close(self) -> None:
        self.execute.destroy()
        self.executor.shutdown()
        leave_graph(self.node)


@pytest.fixture
def eyes() -> Iterator[Eyes]:
    """In a stack without perception."""
    import rclpy

    graph = bringup_graph(perception="none", world_model="off")
    nodes = [
        replace(spec, parameters={**spec.parameters, "handover": "on"}) if spec.name == "policy" else spec
        for spec in graph.nodes
    ]
    graph = replace(graph, nodes=tuple(nodes))
    join_stack()
    with Stack(graph, lambda name, line: print(f"[{name}] {line}")) as stack:
        stack.wait_ready()
        rclpy.init(args=[])
        watching = Eyes()
        yield watching
        watching.close()


def test_in_doubt_the_arm_rests_until_a_person_says_to_go_on(eyes: Eyes) -> None:
    from physai.msg import PolicyStatus

    eyes.until(lambda: eyes.shown >= 10 and eyes.control is not None, "the stack runs and sees")
    assert not eyes.resume().success  # nothing was handed over
    result = eyes.send("put the red cup on the top shelf").get_result_async()
    eyes.until(lambda: len(eyes.chunks) >= 5, "the policy acts")
    assert not any(status.state == PolicyStatus.HANDOVER for status in eyes.said)

    eyes.elsewhere["red_cup"] = OUT_OF_REACH_M
    eyes.until(lambda: eyes.said[-1].state == PolicyStatus.HANDOVER, "the task is handed over")
    status, sent = eyes.said[-1], len(eyes.chunks)
    assert status.message.startswith("asks for a person: ")
    assert status.doubt > 1.0
    eyes.until(
        lambda: eyes.control.state == ControlState.HOLD and eyes.speed < AT_REST_RAD_S, "the arm rests"
    )
    eyes.until(lambda: eyes.felt and eyes.felt[-1] == PolicyStatus.HANDOVER, "the client is told")
    assert len(eyes.chunks) <= sent + 1  # one may have been on its way
    assert not result.done()

    eyes.elsewhere.clear()  # a person puts it back
    sent = len(eyes.chunks)
    assert eyes.resume().success
    eyes.until(lambda: len(eyes.chunks) > sent + 3, "the policy goes on")

    def ended() -> bool:
        if (
            eyes.said[-1].state == PolicyStatus.HANDOVER
        ):  # it may ask again, on a machine slower than it was calibrated on
            eyes.resume()
        return bool(result.done())

    eyes.until(ended, "and ends the task", timeout_s=180.0)
    assert result.result().result.success, result.result().result.message
