"""The policy's node with the tasks' experts as policies: what perception believes in, they plan from. For tasks without bundles."""

from __future__ import annotations

from typing import Any

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.kinematics import ArmKinematics
from physai_base.outcome import Situation
from physai_base.task import Task
from physai_base.values import SceneState
from physai_lab.data.demos import going_on
from physai_policy import agent, node
from physai_policy.policy import Observation, Prefix, Proposal, space_of_actions

seen: list[Situation] = []  # the newest one


class ExpertPolicy:
    """Plans from what was seen last."""

    name, horizon, dt_s = "expert", 16, 0.05

    def __init__(self, embodiment: Embodiment, task: Task) -> None:
        self._expert, self._columns = task.expert(embodiment), len(task.action)
        self.space = space_of_actions(task.action)

    def infer(self, observation: Observation, prefix: Prefix | None = None) -> Proposal:
        if not seen or observation.goal is None:  # warming up
            return Proposal(np.full((1, self.horizon, self._columns), 0.05), self.space, self.dt_s)
        return Proposal(
            going_on(self._expert, self._expert.state(seen[-1], observation.goal), prefix)[None],
            self.space,
            self.dt_s,
        )


class Agent(agent.Agent):
    """Keeps what its expert looks at."""

    def _observe(self, scene: SceneState, kinematics: ArmKinematics) -> Observation:
        whole, _ = self._bystanders.complete(scene, self._task.needs(self.goal))
        twist = kinematics.jacobian(whole.joint_position) @ whole.joint_velocity
        seen[:] = [Situation.perceived(whole, twist, self.wrench)]
        return super()._observe(scene, kinematics)


def load_policy(name: str, embodiment: Embodiment, task: Task, **_: Any) -> ExpertPolicy:
    return ExpertPolicy(embodiment, task)


if __name__ == "__main__":
    node.load_policy, node.Agent = load_policy, Agent
    node.main()
