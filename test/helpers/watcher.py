"""An operator of a running stack, for tests."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.kinematics import TOOL_DOWN, ArmKinematics, Pose
from physai_base.values import ActionChunk, ChunkMode
from physai_ros import conversions
from physai_ros.ending import leave_graph

MOVING_RAD_S = 0.10
AT_REST_RAD_S = 0.02


class Watcher:
    """An operator's node that records what the cell and the layers say."""

    def __init__(self) -> None:
        import rclpy
        from rclpy.action import ActionClient
        from sensor_msgs.msg import JointState

        from physai.action import ExecuteTask
        from physai.msg import ActionChunk as ActionChunkMessage
        from physai.msg import ControlStatus, PolicyStatus
        from physai.srv import Randomize, Score
        from physai_ros import qos

        self.node = rclpy.create_node("watcher")
        self.motion: list[tuple[float, float]] = []  # simulated s, largest |dq|
        self.chunks: list[Any] = []
        self.control: Any = None
        self.policy: Any = None
        self.node.create_subscription(JointState, "sim/joint_truth", self._on_joints, qos.JOINTS)
        self.node.create_subscription(ActionChunkMessage, "action_chunk", self.chunks.append, qos.COMMAND)
        self.node.create_subscription(
            ControlStatus, "control/status", lambda m: setattr(self, "control", m), qos.STATUS
        )
        self.node.create_subscription(
            PolicyStatus, "policy/status", lambda m: setattr(self, "policy", m), qos.STATUS
        )
        self.dive = self.node.create_publisher(ActionChunkMessage, "action_chunk", qos.COMMAND)
        self.execute = ActionClient(self.node, ExecuteTask, "execute_task")
        self.randomize = self.node.create_client(Randomize, "sim/randomize")
        self.score = self.node.create_client(Score, "sim/score")
        self.executor = rclpy.executors.SingleThreadedExecutor()
        self.executor.add_node(self.node)

    def _on_joints(self, message: Any) -> None:
        seconds = message.header.stamp.sec + message.header.stamp.nanosec * 1e-9
        self.motion.append((seconds, float(np.abs(message.velocity).max())))

    def nodes(self) -> set[str]:
        return {name for name, _ in self.node.get_node_names_and_namespaces()}

    @property
    def now_s(self) -> float:
        return self.motion[-1][0] if self.motion else 0.0

    def until(self, condition: Any, timeout_s: float, what: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"timed out: {what}"
            self.executor.spin_once(timeout_sec=0.02)

    def simulate(self, seconds: float) -> None:
        end = self.now_s + seconds
        self.until(lambda: self.now_s >= end, 60.0, "simulated time passes")

    def call(self, client: Any, request: Any, timeout_s: float = 30.0) -> Any:
        assert client.wait_for_service(timeout_sec=20.0)
        future = client.call_async(request)
        self.until(future.done, timeout_s, client.srv_name)
        return future.result()

    def send(self, instruction: str) -> Any:
        from physai.action import ExecuteTask

        assert self.execute.wait_for_server(timeout_sec=20.0)
        future = self.execute.send_goal_async(ExecuteTask.Goal(instruction=instruction, timeout=40.0))
        self.until(future.done, 30.0, "goal response")
        return future.result()

    def start_moving(self, seed: int) -> None:
        from physai.srv import Randomize

        assert self.call(self.randomize, Randomize.Request(seed=seed, parts=["poses"])).success
        self.simulate(1.0)
        self.until(lambda: self.control and self.policy, 30.0, "the layers say their states")
        assert self.send("put the green cup on the top shelf").accepted
        self.until(lambda: self.motion and self.motion[-1][1] > MOVING_RAD_S, 30.0, "the arm moves")
        self.simulate(0.4)

    def check_that_doubts_are_asked_back(self) -> None:
        """A misspelt word moves nothing, by action and by topic; a yes is for what was understood alone."""
        from physai.action import ExecuteTask
        from physai.msg import Instruction, PolicyStatus

        text = "put the red cpu on the bottom shelf"
        instructions = self.node.create_publisher(Instruction, "instruction", 1)
        sent = len(self.chunks)
        goal = ExecuteTask.Goal(instruction=text)
        asked = self.outcome(goal)
        assert (asked.success, asked.target, asked.destination) == (False, "red_cup", "bottom_shelf")
        assert asked.question.startswith("I will put the red cup on the bottom shelf: yes?")
        goal.target, goal.destination = "blue_cup", "bottom_shelf"
        assert "confirmed is blue_cup" in self.outcome(goal).message
        self.until(lambda: instructions.get_subscription_count() >= 1, 30.0, "the policy listens")
        instructions.publish(Instruction(text=text, id="by topic"))
        self.until(lambda: self.policy.instruction_id == "by topic", 30.0, "the policy answers the topic")
        assert self.policy.state == PolicyStatus.REFUSED
        assert asked.question in self.policy.message
        assert len(self.chunks) == sent

    def outcome(self, goal: Any) -> Any:
        future = self.execute.send_goal_async(goal)
        self.until(future.done, 30.0, "goal response")
        assert future.result().accepted
        ending = future.result().get_result_async()
        self.until(ending.done, 30.0, "the goal ends")
        return ending.result().result

    def publish_dive(self) -> None:
        """A chunk that takes the tool from home straight down onto the table."""
        robot = Embodiment.load("fr3")
        kinematics = ArmKinematics(robot)
        top = kinematics.tool_pose(robot.home).position
        joints = [robot.home]
        for height in np.linspace(top[2], 0.012, 16):
            pose = Pose(np.array([top[0], top[1], height]), TOOL_DOWN)
            joints.append(kinematics.inverse(pose, joints[-1], robot.home))
        now_ns, dt_ns = round(self.now_s * 1e9), 50_000_000
        chunk = ActionChunk(
            sequence=now_ns, policy="test", observation_ns=now_ns, start_ns=now_ns, dt_ns=dt_ns,
            mode=ChunkMode.JOINT_POSITION, joint_names=robot.joint_names, values=np.array(joints[1:]),
            openings=np.full((16, 1), 0.08), uncertainty=0.0, expiry_ns=now_ns + 17 * dt_ns,
        )  # fmt: skip
        self.until(lambda: self.dive.get_subscription_count() >= 5, 30.0, "control and world model listen")
        self.dive.publish(conversions.chunk_to_msg(chunk, now_ns, robot.base_frame))

    def close(self) -> None:
        self.execute.destroy()
        self.executor.shutdown()
        leave_graph(self.node)
