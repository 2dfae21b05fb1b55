"""Policies made elsewhere, whose manifest says which quantity of the robot each of their inputs and outputs is.

The mapping is that of remote policies (docs/howto/remote.md), kept in the bundle's `config.mapping`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from physai_base.bundle import Bundle
from physai_base.document import Node
from physai_base.embodiment import Embodiment
from physai_base.errors import BundleError, PhysaiError
from physai_base.kinematics import ArmKinematics
from physai_base.reader import Reader
from physai_base.task import Task
from physai_base.tensor import TensorSpec
from physai_policy.policy import ActionSpace, Observation, Prefix, Proposal, example_observation
from physai_policy.prompt import TOKENIZER, Prompt
from physai_policy.remote.config import parse_mapping
from physai_policy.remote.mapping import ActionMapping, Tree, ValuesEntry, cameras_in, fill
from physai_policy.runtimes import Runtime, RuntimeOptions, load_runtime

ACTION = "action"  # the output, (batch, H, D) normalized
KEPT_S = 1.0  # observations newer than that are remembered beyond the history: an inference may take so long


@dataclass(frozen=True)
class ModelMapping:
    """Between observations and chunks on one side, a model's inputs and outputs on the other."""

    observation: Tree  # input → what it is made of
    actions: ActionMapping
    kinematics: ArmKinematics
    joints: int
    prompt: Prompt | None = None  # for a model that is given the instruction

    @staticmethod
    def parse(
        document: Mapping[str, Any], embodiment: Embodiment, prompt: Prompt | None = None
    ) -> ModelMapping:
        """The mapping in a manifest.

        Raises:
            ValueError: it is not as docs/howto/import.md says.
        """
        file = Reader.over(Node.of(dict(document), Path("mapping")), ValueError)
        observation, actions = parse_mapping(file)
        file.finish()
        actions = replace(actions, keys=(ACTION,), samples="samples")  # as `chunk` has them
        return ModelMapping(observation, actions, ArmKinematics(embodiment), len(embodiment.joints), prompt)

    def values(self, observation: Observation) -> dict[str, np.ndarray]:
        """What each input is made of, in the units of the model's training: (D,), (h, w, 3) uint8, or tokens (L,) int64."""
        found = fill(self.observation, observation, self.actions.gripper, self.kinematics.tool_pose)
        if self.prompt is None:
            return found
        return {
            name: self.prompt.tokens(value) if isinstance(value, str) else value
            for name, value in found.items()
        }

    def chunk(self, actions: np.ndarray, observation: Observation) -> Proposal:
        """The chunk for the model's actions (K, H, D), in its units."""
        reply = {ACTION: actions[0], "samples": actions[1:].transpose(1, 0, 2)}
        return self.actions.chunk(reply, observation, self.joints, self.kinematics.tool_pose)

    def check(
        self, inputs: Sequence[TensorSpec], output: TensorSpec, history: int, example: Observation
    ) -> None:
        """Whether a model fits the robot, tried with an observation of it.

        Raises:
            ValueError: an input is not mapped, or has another size; the actions have other columns.
        """
        names = [spec.name for spec in inputs]
        if sorted(names) != sorted(self.observation):
            raise ValueError(
                f"observation must map {', '.join(names)}; it maps {', '.join(self.observation)}"
            )
        try:
            values = self.values(example)
        except PhysaiError as error:
            raise ValueError(str(error)) from error
        for spec in inputs:
            value, wanted = values[spec.name], spec.shape[2 if history else 1 :]
            if not isinstance(value, np.ndarray) or value.shape != wanted:
                raise ValueError(
                    f"observation: {spec.name} is mapped to shape {list(np.shape(value))}, the model takes {list(wanted)}"
                )
        width, columns = self.actions.width(self.joints), self.actions.columns
        given = int(output.shape[-1])
        if (columns and (len(columns) != width or max(columns) >= given)) or (not columns and given != width):
            raise ValueError(
                f"actions: {self.actions.space.value} of this robot has {width} columns with the gripper's, the model "
                f"gives {given}; name {width} of them in `columns`, or take another space or robot"
            )
        if self.actions.scale and len(self.actions.scale) != width - 1:
            raise ValueError(f"actions: scale must have {width - 1} numbers, got {len(self.actions.scale)}")


class MappedPolicy:
    """A bundle with a mapping as a `Policy`.

    `config.history`: 0, or the number of moments, `dt_s` apart, that the inputs hold on their second axis: those it was told
    to `remember`, or was asked about. For one that is missing the next newer one stands in, as in LeRobot's training at
    the start of an episode. A policy with a history answers one robot at a time.
    `config.noise`: inputs that are drawn once, so that the same observation gives the same chunk; with them `samples`
    chunks are computed, and the first is carried out.
    `config.prompt`: how the instruction becomes tokens, for a model that is given it.
    """

    def __init__(
        self,
        bundle: Bundle,
        embodiment: Embodiment,
        task: Task,
        runtime: str = "onnx",
        options: RuntimeOptions | None = None,
    ) -> None:
        """Load and check.

        Raises:
            BundleError: the manifest's mapping is wrong, or is not for this robot.
        """
        config = bundle.config
        if bundle.trained_on:  # mostly nobody knows
            bundle.check_task(task)
        try:
            prompt = Prompt(bundle.file(TOKENIZER), config["prompt"]) if "prompt" in config else None
            self.mapping = ModelMapping.parse(config["mapping"], embodiment, prompt)
            noise, samples = [str(name) for name in config["noise"]], int(config["samples"])
            self.history = int(config["history"])
            self._inputs = {spec.name: spec for spec in bundle.inputs if spec.name not in noise}
            self._output = bundle.output(ACTION)
            example = example_observation(embodiment, task, self.mapping.kinematics)
            self.mapping.check(tuple(self._inputs.values()), self._output, self.history, example)
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{bundle.path}: config: {error}; import the model again") from error
        self.name = bundle.name
        self.horizon, self.dt_s = self.mapping.actions.rows, self.mapping.actions.dt_s
        self._past: dict[int, dict[str, np.ndarray]] = {}  # what each input was, by its stamp in ns
        self._seeing = threading.Lock()
        self.runtime: Runtime = load_runtime(
            runtime, bundle, replace(options or RuntimeOptions(), sizes={"batch": samples})
        )
        rng = np.random.default_rng(0)
        self._samples = samples
        self.noise = {  # may be replaced, to compare with another implementation
            name: rng.standard_normal((samples, *bundle.input(name).shape[1:])).astype(np.float32)  # type: ignore[arg-type]
            for name in noise
        }

    @property
    def takes_features(self) -> bool:
        """Whether it needs what `physai_policy.observation` makes of a scene."""
        return any(
            isinstance(entry, ValuesEntry) and "features" in entry.names
            for entry in self.mapping.observation.values()
        )

    @property
    def cameras(self) -> tuple[str, ...]:
        """Whose images it needs."""
        return cameras_in(self.mapping.observation)

    @property
    def space(self) -> ActionSpace:
        """Of the chunks."""
        return self.mapping.actions.space

    def infer(self, observation: Observation, prefix: Prefix | None = None) -> Proposal:
        """A chunk for one observation; a running chunk is not continued.

        Raises:
            PolicyError: the observation lacks what an input is made of, or the network gave no finite number.
        """
        actions = self.runtime.run({**self.inputs(observation), **self.noise})[ACTION]
        return self.mapping.chunk(self._output.denormalize(actions), observation)

    def remember(self, observation: Observation) -> None:
        """Keep what a later chunk will need as its past; from any thread.

        Raises:
            PolicyError: the observation lacks what an input is made of.
        """
        with self._seeing:
            self._see(observation)

    def inputs(self, observation: Observation) -> dict[str, np.ndarray]:
        """What the graph gets, noise apart; with a history the observation is kept."""
        with self._seeing:
            now = self._see(observation)
            moments = self._moments(observation.stamp_ns) if self.history else []
        if self.history:
            now = {name: np.stack([moment[name] for moment in moments]) for name in now}
        return {
            name: np.ascontiguousarray(np.broadcast_to(value, (self._samples, *value.shape)))
            for name, value in now.items()
        }

    def _see(self, observation: Observation) -> dict[str, np.ndarray]:
        """What each input is of an observation; kept with those of about the same time."""
        values = self.mapping.values(observation)
        now = {name: spec.normalize(values[name]) for name, spec in self._inputs.items()}
        if self.history:
            stamp_ns, span_ns = observation.stamp_ns, round((self.history * self.dt_s + KEPT_S) * 1e9)
            self._past = {at: seen for at, seen in self._past.items() if abs(at - stamp_ns) <= span_ns}
            self._past[stamp_ns] = now
        return now

    def _moments(self, stamp_ns: int) -> list[dict[str, np.ndarray]]:
        """`history` moments, the oldest first; what lies within half a step of a moment stands for it."""
        step_ns, past = round(self.dt_s * 1e9), self._past
        moments = [past[stamp_ns]]
        for k in range(1, self.history):
            wanted = stamp_ns - k * step_ns
            nearest = min((at for at in past if at <= stamp_ns), key=lambda at: abs(at - wanted))
            moments.append(past[nearest] if 2 * abs(nearest - wanted) <= step_ns else moments[-1])
        return moments[::-1]
