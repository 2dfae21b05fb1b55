"""The policy: an observation in, action chunks out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from physai_base.bundle import Bundle
from physai_base.errors import BundleError
from physai_base.task import Task
from physai_policy.observation import feature_names


@dataclass(frozen=True)
class TcpChunk:
    """Setpoints of the tool position and the gripper width, `dt_s` apart, from the observation's stamp on."""

    position_m: np.ndarray  # (H, 3) base frame
    gripper_width_m: np.ndarray  # (H,)
    dt_s: float
    uncertainty: float  # mean standard deviation over samples, m


class Policy(Protocol):
    """What produces chunks."""

    name: str

    def infer(self, observation: np.ndarray, tcp_m: np.ndarray) -> TcpChunk:
        """A chunk for one observation (F,) with the tool at `tcp_m` (3,)."""
        ...


class FlowPolicy:
    """A flow-matching chunk policy (Lipman et al. 2023; Black et al. 2024) on ONNX Runtime.

    The graph integrates the learned velocity field from noise to a chunk by a few Euler steps. Row 0 of
    the batch starts from zero noise, the mode for a unimodal field, and is executed; the others are drawn
    at random and only tell how sure the policy is.
    """

    def __init__(self, bundle: Bundle, task: Task, samples: int = 8, threads: int = 1) -> None:
        config = bundle.config
        if tuple(config["features"]) != feature_names(task):
            raise BundleError(
                f"{bundle.path}: the policy was trained on other features than this task gives; train it again"
            )
        self.name = bundle.name
        self.horizon = int(config["horizon"])
        self.dt_s = float(config["dt_s"])
        self._clip = float(config["feature_clip"])
        self._input, self._output = bundle.input("observation"), bundle.output("chunk")
        self._session = bundle.session(threads=threads)
        self._noise = np.random.default_rng(0).standard_normal((samples, self.horizon, 4)).astype(np.float32)
        self._noise[0] = 0.0

    def infer(self, observation: np.ndarray, tcp_m: np.ndarray) -> TcpChunk:
        """A chunk for one observation (F,) with the tool at `tcp_m` (3,)."""
        normalized = np.clip(self._input.normalize(observation), -self._clip, self._clip)
        batch = np.repeat(normalized[None], len(self._noise), axis=0)
        (samples,) = self._session.run(["chunk"], {"observation": batch, "noise": self._noise})
        actions = self._output.denormalize(samples)  # (samples, H, 4): offsets from the tool, width
        return TcpChunk(
            position_m=tcp_m + actions[0, :, :3].astype(float),
            gripper_width_m=actions[0, :, 3].astype(float),
            dt_s=self.dt_s,
            uncertainty=float(actions[1:, :, :3].std(axis=0).mean()),
        )
