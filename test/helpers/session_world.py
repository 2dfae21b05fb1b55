"""A session's outlet, controller and clock, for tests of sessions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scenes import make_scene

from physai_base.embodiment import Embodiment
from physai_base.task import Task
from physai_base.values import ActionChunk, ControlState
from physai_policy.agent import Agent, AgentSettings
from physai_policy.language import InstructionGrounder
from physai_policy.policy import ActionSpace, Observation, Prefix, Proposal
from physai_policy.session import ControlWord, Ended, Session, Standing

TASK = "put the red cup on the top shelf"


class Upwards:
    """A policy that lifts the tool."""

    name, horizon, dt_s = "upwards", 16, 0.05

    def infer(self, observation: Observation, prefix: Prefix | None = None) -> Proposal:
        path = observation.tool_m + np.outer(np.linspace(0, 1, 16), [0, 0, 0.01])
        return Proposal(
            np.column_stack([path, np.full(16, 0.08)])[None], ActionSpace.TOOL_POSITION, self.dt_s
        )


class World:
    """A session's outlet, its controller and its clock."""

    def __init__(self, embodiment: Embodiment, task: Task, drives: bool = True) -> None:
        self.embodiment, self.task = embodiment, task
        self.now_s = 100.0
        self.chunks: list[ActionChunk] = []
        self.ends = 0
        self.standings: list[Standing] = []
        self.fed: list[Standing] = []
        self.results: list[Ended] = []
        self.log: list[str] = []
        self.named: list[str] = []
        self._noise = np.random.default_rng(0)  # nothing measured is the same twice
        settings = AgentSettings() if drives else AgentSettings(method="naive")
        agent = Agent(embodiment, task, Upwards(), settings, drives=drives)
        self.session = Session(
            {task.name: agent},
            InstructionGrounder(task),
            self,
            self.now_ns,
            drives,
            steady_s=lambda: self.now_s,
        )

    def now_ns(self) -> int:
        return round(self.now_s * 1e9)

    # The outlet.

    def chunk(self, chunk: ActionChunk, now_ns: int) -> None:
        self.chunks.append(chunk)

    def end_chunk(self, now_ns: int) -> None:
        self.ends += 1

    def standing(self, standing: Standing) -> None:
        self.standings.append(standing)

    def feedback(self, standing: Standing) -> None:
        self.fed.append(standing)

    def result(self, ended: Ended) -> None:
        self.results.append(ended)

    def warn(self, text: str) -> None:
        self.log.append(text)

    info = warn

    def name_task(self, name: str) -> None:
        self.named.append(name)

    # What happens.

    def control(self, state: ControlState = ControlState.HOLD, moved: float = 0.0, **other: object) -> None:
        word = ControlWord(
            self.now_ns(), state, "test", False, self.embodiment.home + moved, (0, 0), 0.0, (0, 0), ""
        )
        self.session.hear_control(replace(word, **other))  # type: ignore[arg-type]

    def look_around(self) -> None:
        """A scene, and the step that it leads to."""
        scene = make_scene(self.embodiment, self.task, stamp_ns=self.now_ns())
        scene = replace(scene, joint_position=scene.joint_position + self._noise.normal(0, 1e-6, 7))
        self.session.hear_scene(scene)
        self.session.stepped = scene
        self.session.step(scene)

    def wait(self, seconds: float, **control: object) -> None:
        """Time in which everybody speaks."""
        for _ in range(round(seconds / 0.1)):
            self.now_s += 0.1
            self.control(**control)  # type: ignore[arg-type]
            self.look_around()
            self.session.look()
