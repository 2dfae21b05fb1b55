"""The one contract of every policy: an observation in, samples of action chunks out.

What differs between policies (the kind of head, the runtime, a server far away) stands behind `Policy`; what is
added to one (real-time chunking, ensembling) wraps it and is a `Policy` again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Protocol, TypeGuard

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.expert import Goal
from physai_base.kinematics import ArmKinematics
from physai_base.task import Task


class ActionSpace(str, Enum):
    """What the columns of an action are; the last is always the gripper's width in m. All absolute, base frame."""

    TOOL_POSITION = "tool_position"  # x, y, z in m, the tool pointing down
    TOOL_POSITION_YAW = "tool_position_yaw"  # x, y, z in m and rad about the vertical, the tool pointing down
    TOOL_POSE = "tool_pose"  # x, y, z in m and a quaternion w, x, y, z
    JOINT_POSITION = "joint_position"  # one angle in rad for each joint of the arm


@dataclass(frozen=True)
class Observation:
    """What a policy is asked about, at one instant and in physical units; normalization is the policy's own."""

    stamp_ns: int
    features: np.ndarray  # (F,) float32, named by the bundle's `config.features`
    tool_m: np.ndarray  # (3,) base frame
    joint_rad: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (n,)
    gripper_width_m: float = 0.0
    images: Mapping[str, np.ndarray] = field(default_factory=dict)  # camera → (h, w, 3) uint8 RGB
    instruction: str = ""
    tool_velocity_m_s: np.ndarray = field(default_factory=lambda: np.zeros(3))  # (3,) base frame
    goal: Goal | None = None  # what the instruction asks for
    tool_yaw: float = 0.0  # rad, see `physai_base.outcome.Tool`

    def tool_row(self, space: ActionSpace) -> np.ndarray:
        """(D,) the tool where a setpoint of that space would have it, and 0 for the gripper: what chunks are relative to."""
        turn = [self.tool_yaw] if space is ActionSpace.TOOL_POSITION_YAW else []
        return np.array([*self.tool_m, *turn, 0.0])


def example_observation(embodiment: Embodiment, task: Task, kinematics: ArmKinematics) -> Observation:
    """What a robot at home might see, black images and no distances: to run a policy before it matters."""
    return Observation(
        stamp_ns=0,
        features=np.zeros(len(task.feature_names()), np.float32),
        tool_m=kinematics.tool_pose(embodiment.home).position,
        joint_rad=embodiment.home,
        gripper_width_m=embodiment.gripper.opening_max,
        goal=task.instructions[0][1],
        images={
            camera.name: np.zeros((camera.height, camera.width, 3), np.uint8) for camera in embodiment.cameras
        },
        instruction="stay where you are",
    )


@dataclass(frozen=True)
class Prefix:
    """What the arm is going to do meanwhile: the chunk that runs, as seen from a new observation.

    The names are those of real-time chunking (Black et al., arXiv 2506.07339).
    """

    actions: np.ndarray  # (H, D) absolute; row k is for the observation's stamp + k dt
    frozen: int  # d: so many rows will have been carried out before a new chunk can take over
    valid: int  # so many rows the running chunk covers; those after repeat its last


def longest_prefix(horizon: int) -> int:
    """Rows of a chunk that may be frozen: half of it is left to the policy."""
    return horizon // 2


@dataclass(frozen=True)
class Proposal:
    """Samples of what to do from the observation's stamp on."""

    actions: np.ndarray  # (K, H, D) absolute; sample 0 is to be carried out, the others say how sure that is
    space: ActionSpace
    dt_s: float
    given: int = 0  # so many first rows are what the arm was told before: the policy had no choice there

    @property
    def chosen(self) -> np.ndarray:
        """(H, D): what is to be carried out."""
        return self.actions[0]

    @property
    def disagreement(self) -> float:
        """Mean standard deviation over the other samples, the gripper apart: m, or rad in joint space."""
        others = self.actions[1:, :, :-1]
        return float(others.std(axis=0).mean()) if len(others) else 0.0

    def slowed(self, factor: float) -> Proposal:
        """The same way in `factor` times the time, as far as it then comes; what was given stays."""
        actions = self.actions.copy()
        if self.space is ActionSpace.TOOL_POSE:  # neighbours of one sign, so that there is a way between them
            cosine = np.einsum("khi,khi->kh", actions[:, 1:, 3:7], actions[:, :-1, 3:7])
            actions[:, 1:, 3:7] *= np.cumprod(np.where(cosine < 0, -1.0, 1.0), axis=1)[..., None]
        actions = np.array([slowed(sample, factor, self.given) for sample in actions])
        if self.space is ActionSpace.TOOL_POSE:
            actions[..., 3:7] /= np.linalg.norm(actions[..., 3:7], axis=-1, keepdims=True)
        return replace(self, actions=actions)


def slowed(rows: np.ndarray, factor: float, given: int = 0) -> np.ndarray:
    """Rows (H, D) at the places where `factor` times the time passes between them, from the last given one on."""
    steps = np.arange(len(rows), dtype=float)
    last = max(0, given - 1)
    at = np.where(steps <= last, steps, last + (steps - last) / factor)
    return np.column_stack([np.interp(at, steps, column) for column in rows.T])


class Policy(Protocol):
    """What produces chunks."""

    name: str
    horizon: int
    dt_s: float

    def infer(self, observation: Observation, prefix: Prefix | None = None) -> Proposal:
        """A chunk for one observation; a policy that cannot continue a running chunk ignores `prefix`.

        Raises:
            PolicyError: it has no answer; the arm holds when what it was given before has run out.
        """
        ...


def cameras_of(policy: Policy) -> tuple[str, ...]:
    """The cameras whose images a policy needs; one that needs any names them in its attribute `cameras`."""
    return tuple(getattr(policy, "cameras", ()))


class RememberingPolicy(Policy, Protocol):
    """A policy whose input has a past, which must also know what was seen between two inferences."""

    history: int  # moments that the input holds

    def remember(self, observation: Observation) -> None:
        """Keep an observation; from any thread.

        Raises:
            PolicyError: it lacks what an input is made of.
        """
        ...


def has_past(policy: Policy) -> TypeGuard[RememberingPolicy]:
    """Whether a policy's input holds more than the present."""
    return getattr(policy, "history", 0) > 1


def space_of_actions(action: Sequence[str]) -> ActionSpace:
    """The space of a task's actions, by their columns."""
    return ActionSpace.TOOL_POSITION_YAW if "yaw" in action else ActionSpace.TOOL_POSITION


def space_of(policy: Policy) -> ActionSpace:
    """In what a policy acts; one that acts in another than TOOL_POSITION says so by its attribute `space`."""
    return getattr(policy, "space", ActionSpace.TOOL_POSITION)


def takes_features(policy: Policy) -> bool:
    """Whether a policy needs what `physai_policy.observation` makes of a scene; its attribute of that name says if not."""
    return bool(getattr(policy, "takes_features", True))
