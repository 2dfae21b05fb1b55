"""The flow-matching policy of our own: what it makes of its bundle's graph."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from physai_base.bundle import Bundle
from physai_base.errors import BundleError
from physai_base.task import ACTION, TURNING, Task
from physai_base.tensor import TensorSpec
from physai_policy.policy import ActionSpace, Observation, Prefix, Proposal, space_of_actions
from physai_policy.runtimes import Runtime, RuntimeOptions, load_runtime
from physai_policy.shared import Share, tasks_of

DRAWN = 0.3  # standard deviation of the noise from which the executed chunk starts; trained with 1
SAMPLES = 8  # chunks computed at once: the one that is carried out and those that say how sure it is


def _normalized(bundle: Bundle, spec: TensorSpec) -> TensorSpec:
    """The tensor, if its normalization does something: our networks are trained on normalized values alone."""
    if spec.mean is None or spec.std is None or (not any(spec.mean) and set(spec.std) == {1.0}):
        raise BundleError(
            f"{bundle.path}: {spec.name} is not normalized, but the network was trained on normalized values; export it again"
        )
    return spec


COLUMNS = {  # of a chunk in which our own networks act
    ActionSpace.TOOL_POSITION: ACTION,
    ActionSpace.TOOL_POSITION_YAW: TURNING,
}

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


def _drawn(seen: Iterable[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal noise of a shape, a function of what the graph is given besides."""
    seed = 0
    for part in seen:
        seed = zlib.crc32(np.ascontiguousarray(part).tobytes(), seed)
    return np.random.default_rng(seed).standard_normal(shape)


class FlowPolicy:
    """A flow-matching chunk policy (Lipman et al. 2023; Black et al. 2024), on ONNX Runtime unless another is given.

    The graph integrates the learned velocity field from noise to a chunk by a few Euler steps. Row 0 of the batch is executed,
    from noise that is small and another one for each observation: from none, the field leads to the middle of what was
    learned, and where that is two ways (to push on, to let go) the hand stays between them for good. The others start from
    noise of full size, the same each time, and only tell how sure the policy is. The same observation gives the same chunk.
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
        names, shared = tuple(config["features"]), bool(tasks_of(config))
        if not shared and names != self._feature_names(task):
            raise BundleError(
                f"{bundle.path}: the policy was trained on other features than this task gives; train it again"
            )
        self._prepare(bundle, task)
        self.name, self.digest = bundle.name, bundle.identity
        self.horizon = int(config["horizon"])
        self.dt_s = float(config["dt_s"])
        self._output = _normalized(bundle, bundle.output("chunk"))
        self._space = ActionSpace(config["action_space"])  # of the network; a task may steer less
        columns = int(bundle.output("chunk").shape[-1])
        if self._space not in COLUMNS or columns != len(COLUMNS[self._space]):
            raise BundleError(
                f"{bundle.path}: its chunks have {columns} columns, which is not {self._space.value}"
            )
        try:
            self._share = (
                Share.of(task, names, COLUMNS[self._space]) if shared else Share.whole(names, columns)
            )
        except BundleError as error:
            raise BundleError(f"{bundle.path}: {error}") from None
        self.space = space_of_actions(task.action) if shared else self._space
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
        self._noise = (
            np.random.default_rng(0).standard_normal((samples, self.horizon, columns)).astype(np.float32)
        )
        self._nothing = np.zeros_like(self._noise), np.zeros((samples, self.horizon), np.float32)

    def infer(self, observation: Observation, prefix: Prefix | None = None) -> Proposal:
        """A chunk for one observation."""
        here = observation.tool_row(self._space)
        rows, given = self._nothing if prefix is None else self._given(prefix, here)
        seen, noise = self._seen(observation), self._noise.copy()
        noise[0] = DRAWN * _drawn([*seen.values(), rows], noise[0].shape)
        inputs = {**seen, "noise": noise, "prefix": rows, "given": given}
        samples = self.runtime.run(inputs)["chunk"]
        actions = self._output.denormalize(samples).astype(float)  # offsets from the tool, width
        return Proposal((actions + here)[..., self._share.columns], self.space, self.dt_s)

    def _feature_names(self, task: Task) -> tuple[str, ...]:
        return task.feature_names()

    def _prepare(self, bundle: Bundle, task: Task) -> None:
        """What `_seen` needs of the bundle."""
        self._clip = float(bundle.config["feature_clip"])
        self._input = _normalized(bundle, bundle.input("observation"))
        self._unknown = np.array(self._input.mean, np.float32)

    def _seen(self, observation: Observation) -> dict[str, np.ndarray]:
        """The graph's inputs that tell of the observation, one for each sample."""
        features = self._share.widened(observation.features, self._unknown)
        normalized = np.clip(self._input.normalize(features), -self._clip, self._clip)
        return {"observation": np.repeat(normalized[None], len(self._noise), axis=0)}

    def _given(self, prefix: Prefix, here: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The steps that are carried out anyway as the network sees them, for each sample."""
        actions = np.repeat(here[None], self.horizon, axis=0)
        actions[:, self._share.columns] = prefix.actions
        rows = np.repeat(self._output.normalize(actions - here)[None], len(self._noise), axis=0)
        if self._graph == "trained":
            weights = np.arange(self.horizon) < prefix.frozen
        else:
            weights = guidance_weights(self.horizon, prefix.frozen, prefix.valid)
        return rows, np.repeat(weights[None].astype(np.float32), len(self._noise), axis=0)
