"""The control core on the robot's own model, without anything around it."""

from __future__ import annotations

from dataclasses import replace

import mujoco
import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.values import ActionChunk, ChunkMode, ControlState
from physai_control.core import ControlCore
from physai_sim.plant import Plant

DT_NS = 50_000_000


class Arm:
    """The robot's own model under the core, without anything around it."""

    def __init__(self, embodiment: Embodiment) -> None:
        self.embodiment = embodiment
        self.model = mujoco.MjModel.from_xml_path(str(embodiment.model_path))
        self.data = mujoco.MjData(self.model)
        self.data.qpos[: len(embodiment.home)] = embodiment.home
        self.core = ControlCore(embodiment)
        self.plant = Plant(self.model, self.data, embodiment, core=self.core)
        self.sequence = 0

    def close(self) -> None:
        self.plant.close()
        self.core.close()

    def run(self, seconds: float) -> None:
        self.plant.run(round(seconds * 1000))

    def activate(self) -> None:
        self.run(0.01)
        self.core.activate()
        self.run(0.6)
        assert self.core.status().state is ControlState.HOLD

    def chunk(self, reach: np.ndarray | float, steps: int = 16, **changes: object) -> ActionChunk:
        """A smooth motion by `reach` from the present reference."""
        status = self.core.status()
        phase = (1 - np.cos(np.pi * np.arange(steps) / (steps - 1))) / 2
        self.sequence += 1
        fields = {
            "sequence": self.sequence,
            "policy": "test",
            "observation_ns": status.stamp_ns,
            "start_ns": status.stamp_ns,
            "dt_ns": DT_NS,
            "mode": ChunkMode.JOINT_POSITION,
            "joint_names": self.embodiment.joint_names,
            "values": status.reference + np.outer(phase, np.ones(len(status.reference)) * reach),
            "openings": np.full((steps, 1), 0.04),
            "uncertainty": 0.0,
            "expiry_ns": status.stamp_ns + steps * DT_NS,
        }
        return ActionChunk(**{**fields, **changes})  # type: ignore[arg-type]


def turned(orientation: np.ndarray, angle: float) -> np.ndarray:
    """(4,) `orientation` (w, x, y, z) turned by `angle` about the base's z."""
    product = np.zeros(4)
    mujoco.mju_mulQuat(product, np.array([np.cos(angle / 2), 0, 0, np.sin(angle / 2)]), orientation)
    return product


def pose_chunk(
    arm: Arm, by: tuple[float, float, float], turn: float = 0.0, steps: int = 20, **changes: object
) -> object:
    """A smooth motion of the tool by `by` m and `turn` rad about z."""
    start = arm.core.status().tool.pose
    phase = (1 - np.cos(np.pi * np.arange(steps) / (steps - 1))) / 2
    values = np.tile(start, (steps, 1))
    values[:, :3] += phase[:, None] * by
    values[:, 3:] = [turned(start[3:], turn * share) for share in phase]
    now = arm.core.status().stamp_ns
    # The expiry leaves time to come to rest, so that all steps are followed.
    fields = {
        "mode": ChunkMode.TCP_POSE,
        "values": values,
        "expiry_ns": now + steps * 50_000_000 + 500_000_000,
    }
    return arm.chunk(0.0, steps, **{**fields, **changes})


def cartesian(arm: Arm, **changes: object) -> None:
    arm.core.configure(replace(arm.embodiment.impedance, law="cartesian", **changes))  # type: ignore[arg-type]


def wall(arm: Arm, x: float, stiffness: float = 1e4) -> None:
    """A spring in front of the tool from x on, N/m; call before each step."""
    depth = arm.data.site_xpos[arm.model.site(arm.embodiment.tool_frame).id, 0] - x
    body = arm.model.site(arm.embodiment.tool_frame).bodyid[0]
    force = np.array([-stiffness * max(depth, 0.0), 0, 0])
    wrench = np.zeros(6)
    wrench[:3] = force
    arm_m = arm.data.site_xpos[arm.model.site(arm.embodiment.tool_frame).id] - arm.data.xipos[body]
    wrench[3:] = np.cross(arm_m, force)
    arm.data.xfrc_applied[body] = wrench
