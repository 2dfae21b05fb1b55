"""The world model as a ROS node: scenes and chunks in, verdicts and predictions out."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from physai.msg import ActionChunk, PolicyStatus, SceneState
from physai_base.bundle import Bundle
from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.resources import defaults
from physai_base.task import Task, load_tasks, wrong_task
from physai_base.values import SceneState as Scene
from physai_ros import conversions, topics
from physai_ros.lifecycle_node import PhysaiNode, run_node
from physai_world_model.judge import Judge, JudgeSettings
from physai_world_model.model import WorldModel

WATCH_PERIOD_S = 0.2
SCENE_TIMEOUT_S = 0.5  # steady time without a scene; named once it lasts


@dataclass(frozen=True)
class WorldModelParameters(JudgeSettings):
    """Parameters of the node."""

    robot: str = field(
        default=defaults()["robot"], metadata={"description": "embodiment: an installed name or a file"}
    )
    task: str = field(
        default="",
        metadata={
            "description": "task: an installed name or a file; empty: the default one. By commas: each scene says which"
        },
    )
    bundle: str = field(
        default="world_model",
        metadata={"description": "a bundle: a name in models/<task>, TASK/NAME, or a directory"},
    )
    threads: int = field(default=1, metadata={"range": (1, 64), "description": "threads of ONNX Runtime"})


class WorldModelNode(PhysaiNode[WorldModelParameters]):
    """Judges every chunk by the newest scene."""

    name = "world_model"
    parameters_type = WorldModelParameters

    def setup(self) -> None:
        """Load the bundle of each task and subscribe."""
        self._embodiment = Embodiment.load(self.parameters.robot)
        self._judges = {task.name: self._judge_of(task) for task in load_tasks(self.parameters.task)}
        self._judge = next(iter(self._judges.values()))  # of the newest scene's task
        self._scene: Scene | None = None
        self._target: str | None = None
        self._running = False
        self._verdicts = topics.advertise(self, "chunk_verdict")
        self._predictions = topics.advertise(self, "prediction")
        topics.hear(self, "scene", self._on_scene)
        topics.hear(self, "policy/status", self._on_policy)
        topics.hear(self, "action_chunk", self._on_chunk)
        self._scene_s = 0.0  # steady time of the newest scene
        self.create_timer(WATCH_PERIOD_S, self._name_waits, clock=self.steady_clock)

    def _judge_of(self, task: Task) -> Judge:
        bundle = Bundle.open(self.parameters.bundle, kind="world_model", robot=self._embodiment, task=task)
        model = WorldModel(bundle, task, self.parameters.threads)
        judge = Judge(self._embodiment, task, model, self.parameters)
        judge.warm_up()
        return judge

    def start(self) -> None:
        """Begin to judge."""
        self._running = True

    def stop(self) -> None:
        """Judge no more: in mode veto the controller then drops every chunk."""
        self._running = False

    def _on_scene(self, message: SceneState) -> None:
        try:
            scene = conversions.scene_from_msg(message)
        except PhysaiError as error:
            self.warn_throttled(f"scene refused: {error}")
            return
        alone = len(self._judges) == 1 and not scene.task
        judge = self._judge if alone else self._judges.get(scene.task)
        if judge is None:  # then the last one grows old, and no chunk is allowed
            self.warn_throttled(f"scene refused: {wrong_task(scene.task, self._judges)}")
            return
        self._judge, self._scene = judge, scene
        self._scene_s = time.monotonic()

    def _name_waits(self) -> None:
        """Without scenes every chunk is vetoed: say why."""
        if not self._running:
            return
        silent = time.monotonic() - self._scene_s > SCENE_TIMEOUT_S
        topic = self.resolve_topic_name("scene")
        text = f"no scene on {topic} that can be used, so no chunk is allowed: is perception active? Its diagnostics say why not"
        self.conditions.set("scene_absent", text if silent else "")

    def _on_policy(self, message: PolicyStatus) -> None:
        self._target = message.target or None

    def _on_chunk(self, message: ActionChunk) -> None:
        if not self._running or conversions.is_end(message):
            return
        now_ns = self.get_clock().now().nanoseconds
        try:
            chunk = conversions.chunk_from_msg(message)
        except PhysaiError as error:
            # No verdict: the controller refuses the same chunk for the same reason.
            self.warn_throttled(f"chunk {message.sequence} refused: {error}")
            return
        verdict, prediction = self._judge.judge(chunk, self._scene, self._target, now_ns)
        self._verdicts.publish(conversions.verdict_to_msg(verdict, self._embodiment.base_frame))
        if prediction is not None:
            self._predictions.publish(conversions.prediction_to_msg(prediction, self._embodiment.base_frame))
        if not verdict.allow:
            self.warn_throttled(f"chunk {chunk.sequence} vetoed: {verdict.reason.value}: {verdict.detail}")


def main() -> None:
    """Entry point of the executable `world_model`."""
    run_node(WorldModelNode)


if __name__ == "__main__":
    main()
