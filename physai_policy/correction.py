"""Corrects the chunk that runs with every new observation, while the policy is still busy with the next.

After A2C2 (arXiv 2509.23224): a small network sees the newest observation and what is left of the running chunk, which
was computed for an older one, and says what to add to each step. It never lengthens a chunk: when the policy falls
silent, the arm comes to rest as if nothing corrected it.
"""

from __future__ import annotations

import numpy as np

from physai_base.bundle import Bundle
from physai_base.errors import BundleError
from physai_base.task import Task
from physai_policy.chunking.timeline import Timeline
from physai_policy.policy import Observation, Proposal, space_of_actions

LEAST_STEPS = 3  # left of the running chunk: with less, it is left alone


class Corrector:
    """The correcting network on ONNX Runtime."""

    def __init__(self, bundle: Bundle, task: Task, threads: int = 1) -> None:
        config = bundle.config
        bundle.check_task(task)
        if tuple(config["features"]) != task.feature_names():
            raise BundleError(f"{bundle.path}: the corrector was trained on other features; train it again")
        self.horizon, self.dt_s = int(config["horizon"]), float(config["dt_s"])
        self._space = space_of_actions(task.action)
        self._clip, self._limit_m = float(config["feature_clip"]), float(config["largest_correction_m"])
        self._observation, self._plan = bundle.input("observation"), bundle.input("plan")
        self._correction = bundle.output("correction")
        self._session = bundle.session(threads=threads)

    def correct(self, observation: Observation, timeline: Timeline) -> Proposal | None:
        """What is left of the running chunk, corrected, from the observation's stamp on; None without one."""
        running = timeline.running
        rows, valid = timeline.rows(observation.stamp_ns, self.horizon, self.dt_s)
        if running is None or running.proposal.space is not self._space or valid < LEAST_STEPS:
            return None
        age_s = (observation.stamp_ns - running.start_ns) / 1e9
        features = np.clip(self._observation.normalize(observation.features), -self._clip, self._clip)
        inputs = {
            "observation": features[None],
            "plan": self._plan.normalize(rows - observation.tool_row(self._space))[None],
            "left": np.array([[valid / self.horizon]], np.float32),
            "age": np.array([[age_s]], np.float32),
        }
        (values,) = self._session.run(["correction"], inputs)
        correction = self._correction.denormalize(values)[0].astype(float)
        if not np.isfinite(correction).all():
            return None
        correction[:, :3] = np.clip(correction[:, :3], -self._limit_m, self._limit_m)
        return Proposal((rows + correction)[None, :valid], self._space, self.dt_s)
