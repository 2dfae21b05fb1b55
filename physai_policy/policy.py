"""The one contract of every policy: an observation in, samples of action chunks out.

What differs between policies (the kind of head, the runtime, a server far away) stands behind `Policy`; what is
added to one (real-time chunking, ensembling) wraps it and is a `Policy` again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Protocol, TypeGuard

import numpy as np

from physai_base.bundle import Bundle, TensorSpec
from physai_base.embodiment import Embodiment
from physai_base.errors import BundleError
from physai_base.kinematics import ArmKinematics
from physai_base.task import Task
from physai_policy.observation import Goal, feature_names
from physai_policy.runtimes import Runtime, RuntimeOptions, load_runtime

SAMPLES = 8  # chunks computed at once: the one that is carried out and those that say how sure it is


class ActionSpace(str, Enum):
    """What the columns of an action are; the last is always the gripper's width in m. All absolute, base frame."""

    TOOL_POSITION = "tool_position"  # x, y, z in m, the tool pointing down
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


def example_observation(embodiment: Embodiment, task: Task, kinematics: ArmKinematics) -> Observation:
    """What a robot at home might see, black images and no distances: to run a policy before it matters."""
    return Observation(
        stamp_ns=0,
        features=np.zeros(len(feature_names(task)), np.float32),
        tool_m=kinematics.tool_pose(embodiment.home).position,
        joint_rad=embodiment.home,
        gripper_width_m=embodiment.gripper.width_max,
        goal=Goal(task.cups.labels[0], task.shelf.labels[0]),
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
class Chunk:
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


class Policy(Protocol):
    """What produces chunks."""

    name: str
    horizon: int
    dt_s: float

    def infer(self, observation: Observation, prefix: Prefix | None = None) -> Chunk:
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


def takes_features(policy: Policy) -> bool:
    """Whether a policy needs what `physai_policy.observation` makes of a scene; its attribute of that name says if not."""
    return bool(getattr(policy, "takes_features", True))


def _normalized(bundle: Bundle, spec: TensorSpec) -> TensorSpec:
    """The tensor, if its normalization does something: our networks are trained on normalized values alone."""
    if spec.mean is None or spec.std is None or (not any(spec.mean) and set(spec.std) == {1.0}):
        raise BundleError(
            f"{bundle.path}: {spec.name} is not normalized, but the network was trained on normalized values; export it again"
        )
    return spec


# How a flow policy's graph continues a running chunk; see chunking.py.
GRAPHS = ("trained", "guided", "guided_identity")


def guidance_weights(horizon: int, frozen: int, valid: int) -> np.ndarray:
    """(H,) how firmly each step is held to the running chunk: 1 while it is carried out anyway, then fading to 0.

    Equation 5 of Black et al., arXiv 2506.07339, with `valid` for their H - s.
    """
    steps = np.arange(horizon)
    c = (valid - steps) / (valid - frozen + 1)
    fading = np.where(steps < valid, c * np.expm1(np.clip(c, 0, 1)) / np.expm1(1.0), 0.0)
    return np.where(steps < frozen, 1.0, fading)


class FlowPolicy:
    """A flow-matching chunk policy (Lipman et al. 2023; Black et al. 2024), on ONNX Runtime unless another is given.

    The graph integrates the learned velocity field from noise to a chunk by a few Euler steps. Row 0 of
    the batch starts from zero noise, the mode for a unimodal field, and is executed; the others are drawn
    at random and only tell how sure the policy is.
    """

    _looks = False  # whether the graph begins with images

    def __init__(
        self,
        bundle: Bundle,
        task: Task,
        runtime: str = "onnx",
        options: RuntimeOptions | None = None,
        samples: int = SAMPLES,
    ) -> None:
        config = bundle.config
        if "features" not in config or ("images" in config) != self._looks:
            raise BundleError(
                f"{bundle.path}: is no flow policy of physai's own on {'images' if self._looks else 'features'}; "
                "what was asked is for those"
            )
        bundle.check_task(task)
        if tuple(config["features"]) != self._feature_names(task):
            raise BundleError(
                f"{bundle.path}: the policy was trained on other features than this task gives; train it again"
            )
        self._prepare(bundle, task)
        self.name, self.digest = bundle.name, bundle.identity
        self.horizon = int(config["horizon"])
        self.dt_s = float(config["dt_s"])
        self._output = _normalized(bundle, bundle.output("chunk"))
        self._graph = config.get("chunking", "trained")
        if self._graph not in GRAPHS:
            raise BundleError(
                f"{bundle.path}: config.chunking must be one of {', '.join(GRAPHS)}, got {self._graph!r}"
            )
        batch = bundle.input("noise").shape[0]
        samples = batch if isinstance(batch, int) else samples
        self.runtime: Runtime = load_runtime(
            runtime, bundle, replace(options or RuntimeOptions(), sizes={"batch": samples})
        )
        self._noise = np.random.default_rng(0).standard_normal((samples, self.horizon, 4)).astype(np.float32)
        self._noise[0] = 0.0
        self._nothing = np.zeros_like(self._noise), np.zeros((samples, self.horizon), np.float32)

    def infer(self, observation: Observation, prefix: Prefix | None = None) -> Chunk:
        """A chunk for one observation."""
        rows, given = self._nothing if prefix is None else self._given(prefix, observation.tool_m)
        inputs = {**self._seen(observation), "noise": self._noise, "prefix": rows, "given": given}
        samples = self.runtime.run(inputs)["chunk"]
        actions = self._output.denormalize(samples).astype(float)  # offsets from the tool, width
        actions[..., :3] += observation.tool_m
        return Chunk(actions, ActionSpace.TOOL_POSITION, self.dt_s)

    def _feature_names(self, task: Task) -> tuple[str, ...]:
        return feature_names(task)

    def _prepare(self, bundle: Bundle, task: Task) -> None:
        """What `_seen` needs of the bundle."""
        self._clip = float(bundle.config["feature_clip"])
        self._input = _normalized(bundle, bundle.input("observation"))

    def _seen(self, observation: Observation) -> dict[str, np.ndarray]:
        """The graph's inputs that tell of the observation, one for each sample."""
        normalized = np.clip(self._input.normalize(observation.features), -self._clip, self._clip)
        return {"observation": np.repeat(normalized[None], len(self._noise), axis=0)}

    def _given(self, prefix: Prefix, tool_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The steps that are carried out anyway as the network sees them, for each sample."""
        relative = prefix.actions - np.append(tool_m, 0.0)
        rows = np.repeat(self._output.normalize(relative)[None], len(self._noise), axis=0)
        if self._graph == "trained":
            weights = np.arange(self.horizon) < prefix.frozen
        else:
            weights = guidance_weights(self.horizon, prefix.frozen, prefix.valid)
        return rows, np.repeat(weights[None].astype(np.float32), len(self._noise), axis=0)
