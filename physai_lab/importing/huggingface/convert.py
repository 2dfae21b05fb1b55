"""From a checkpoint of transformers to a bundle: mapping checked, weights loaded strictly, one chunk computed, written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from physai_base.bundle import NETWORK, WEIGHTS, write_bundle
from physai_base.embodiment import Embodiment
from physai_base.errors import shown
from physai_base.golden import Answer, GoldenError
from physai_base.task import Task
from physai_base.tensor import TensorSpec
from physai_lab.importing.huggingface.checkpoint import HuggingFaceError, PretrainedCheckpoint
from physai_lab.importing.plausible import doubts
from physai_lab.progress import Progress
from physai_lab.runtimes.golden import golden_cases
from physai_policy.loading import interface_of
from physai_policy.mapped import ACTION, ModelMapping
from physai_policy.policy import example_observation
from physai_policy.prompt import TOKENIZER, Prompt

STATE, PROMPT, NOISE = "state", "prompt", "noise"


@dataclass(frozen=True)
class PretrainedImportOptions:
    """What a checkpoint does not say of itself."""

    mapping: Mapping[str, Any]  # observation, actions, gripper: docs/howto/import.md
    steps: int | None = None  # denoising steps instead of the checkpoint's
    samples: int = 1  # chunks that are computed at once


@dataclass(frozen=True)
class ImportedPretrained:
    """What came of it."""

    parameters: int
    doubts: tuple[str, ...]  # numbers that cannot be this robot's, by the checkpoint's statistics


def convert(
    checkpoint: PretrainedCheckpoint,
    out: Path,
    embodiment: Embodiment,
    task: Task,
    options: PretrainedImportOptions,
    progress: Progress = lambda done, total, note: None,
) -> ImportedPretrained:
    """Write a bundle to `out` and return the number of parameters; on any error nothing is written.

    Raises:
        HuggingFaceError: the mapping does not suit the checkpoint or the robot, or the weights are damaged or another
            architecture's.
    """
    stages = ("reading the weights", "computing a chunk", "writing the bundle")

    def stage(number: int) -> None:
        progress(number, len(stages), stages[number] if number < len(stages) else "")

    stage(0)
    document, cameras = complete_mapping(checkpoint, options.mapping, embodiment)
    prompt = {**checkpoint.prompt, "image_tokens": len(cameras) * checkpoint.image_tokens}
    tokenizer = Prompt(checkpoint.tokenizer, prompt)
    inputs, noise, output = _specs(checkpoint, cameras, tokenizer.length)
    try:
        mapping = ModelMapping.parse(document, embodiment, tokenizer)
        example = example_observation(embodiment, task, mapping.kinematics)
        mapping.check(inputs, output, 0, example)
    except ValueError as error:
        raise HuggingFaceError(f"--map: {error}") from error
    config = checkpoint.config
    if options.steps:
        config = {**config, "num_inference_steps": options.steps}
    network = {
        "model_type": checkpoint.model_type, "config": config, "images": checkpoint.images,
        "columns": len(checkpoint.action.mean),
    }  # fmt: skip
    weights, digest = checkpoint.weights()
    parameters = sum(value.numel() for value in weights.values())
    stage(1)
    values = mapping.values(example)
    seen = [spec.normalize(values[spec.name])[None] for spec in inputs]
    answer = _answer(
        checkpoint, network, weights, [*seen, np.zeros((1, *noise.shape[1:]), np.float32)], output
    )
    specs = [*inputs, noise]
    config = {
        "mapping": document, "history": 0, "noise": [NOISE], "samples": options.samples, "prompt": prompt,
        "horizon": checkpoint.rows, "dt_s": document["actions"]["dt_s"], NETWORK: network,
    }  # fmt: skip
    try:
        cases = golden_cases("policy", config, specs, answer, embodiment, task, tokenizer)
    except GoldenError as error:
        raise HuggingFaceError(f"{checkpoint.path}: {error}; nothing was written") from error
    stage(2)
    from safetensors.torch import save

    write_bundle(
        out, kind="policy", name=out.name, robot=embodiment.name, model=None, inputs=specs, outputs=[output],
        config=config, cases=cases, interface=interface_of("policy", config, embodiment, task),
        training_data=f"transformers checkpoint, SHA-256 of its weights' SHA-256 {digest}",
        metrics={"parameters": parameters},
        licence="not stated by the checkpoint",
        files={WEIGHTS: save(weights), TOKENIZER: checkpoint.tokenizer},
    )  # fmt: skip
    stage(3)
    return ImportedPretrained(parameters, tuple(doubts(mapping, inputs, output, embodiment)))


def complete_mapping(
    checkpoint: PretrainedCheckpoint, mapping: Mapping[str, Any], embodiment: Embodiment
) -> tuple[dict[str, Any], dict[str, tuple[int, int]]]:
    """The mapping with what is known besides, and the cameras' names in it, in order, with their height and width.

    Raises:
        HuggingFaceError: something is missing, or says what the checkpoint says.
    """
    if not isinstance(mapping, Mapping) or not all(
        isinstance(mapping.get(key), Mapping) for key in ("observation", "actions")
    ):
        raise HuggingFaceError(
            "--map: must have the mappings observation and actions; docs/howto/import.md shows one"
        )
    taken = [key for key in ("horizon", "keys", "samples") if key in mapping["actions"]]
    if taken:
        raise HuggingFaceError(f"--map: actions may not have {', '.join(taken)}: the checkpoint says that")
    observation = dict(mapping["observation"])
    known = {camera.name: (camera.height, camera.width) for camera in embodiment.cameras}
    cameras: dict[str, tuple[int, int]] = {}
    for name, entry in observation.items():
        if isinstance(entry, Mapping) and "image" in entry:
            if "size" not in entry and entry["image"] not in known:
                raise HuggingFaceError(
                    f"--map: observation.{name}: the robot has no camera {entry['image']!r}; it has: {', '.join(known)}"
                )
            size = entry.get("size", known.get(entry["image"]))
            if (
                not isinstance(size, list | tuple)
                or not len(size) == 2
                or not all(type(n) is int for n in size)
            ):
                raise HuggingFaceError(
                    f"--map: observation.{name}.size must be [height, width], got {shown(size)}"
                )
            cameras[name] = size[0], size[1]
            observation[name] = {**entry, "size": list(size)}
    wanted = {STATE, PROMPT, *cameras}
    if not cameras or set(observation) != wanted or {NOISE, ACTION} & wanted:
        raise HuggingFaceError(
            f"--map: observation must map {STATE}, {PROMPT} and at least one image, by any names but {NOISE} and {ACTION}; "
            f"it maps {', '.join(map(str, observation))}"
        )
    actions = {**mapping["actions"], "horizon": checkpoint.rows}
    return {**mapping, "observation": observation, "actions": actions}, cameras


def proposed_mapping(checkpoint: PretrainedCheckpoint, embodiment: Embodiment) -> str:
    """A mapping (YAML) for a person to check and to complete: what the sizes suggest, and questions where they do not."""
    joints, numbers, columns = len(embodiment.joints), len(checkpoint.state.mean), len(checkpoint.action.mean)
    values = {joints: "joints", joints + 1: "joints, gripper_width"}.get(numbers, "VALUES")
    return "\n".join(
        [
            "observation:",
            f"  {STATE}: {{values: [{values}]}}  # {numbers} numbers; rad, m: as in the training data?",
            f"  {PROMPT}: {{text: instruction}}",
            *(f"  {camera.name}: {{image: {camera.name}}}" for camera in embodiment.cameras),
            "  # the cameras, as many and in the order of the training data; their names here are free",
            "actions:",
            f"  space: {'joint_position' if columns == joints + 1 else 'SPACE'}  # {columns} columns, the gripper's last",
            "  relative: RELATIVE  # no, or start: whether actions are offsets from where the arm is, as π0's often are",
            "  dt_s: SECONDS  # 1 / fps of the training data",
        ]
    )


def _specs(
    checkpoint: PretrainedCheckpoint, cameras: Mapping[str, tuple[int, int]], length: int
) -> tuple[list[TensorSpec], TensorSpec, TensorSpec]:
    """Observations in the order in which the network takes them, noise, and the action."""
    units, state, action = "as in the training data, see config.mapping", checkpoint.state, checkpoint.action
    inputs = [
        TensorSpec(STATE, ("batch", len(state.mean)), units, mean=state.mean, std=state.std),
        TensorSpec(PROMPT, ("batch", length), "1", "int64"),
        *(
            TensorSpec(name, ("batch", *size, 3), "1/255 of full scale, RGB", "uint8")
            for name, size in cameras.items()
        ),
    ]
    noise = TensorSpec(NOISE, ("batch", checkpoint.rows, checkpoint.noise_columns), "1")
    shape = ("batch", checkpoint.rows, len(action.mean))
    return inputs, noise, TensorSpec(ACTION, shape, units, mean=action.mean, std=action.std)


def _answer(
    checkpoint: PretrainedCheckpoint,
    network: dict[str, Any],
    weights: dict[str, Any],
    inputs: list[np.ndarray],
    output: TensorSpec,
) -> Answer:
    """The network as what answers; it has computed one chunk, so that what cannot be computed is found now."""
    import torch

    from physai_policy.pretrained import NetworkError, pretrained

    try:
        module = pretrained(network, weights)
        with torch.inference_mode():
            actions = module(*(torch.from_numpy(value) for value in inputs)).numpy()
    except NetworkError as error:
        raise HuggingFaceError(f"{checkpoint.path}: {error}") from error
    except (RuntimeError, IndexError, ValueError) as error:
        raise HuggingFaceError(f"{checkpoint.path}: the network does not compute a chunk: {error}") from error
    if actions.shape[1:] != output.shape[1:] or not np.isfinite(actions).all():
        raise HuggingFaceError(
            f"{checkpoint.path}: the network gives {list(actions.shape[1:])} numbers, some perhaps not finite, instead of "
            f"{list(output.shape[1:])} finite ones"
        )

    def answer(asked: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            return {ACTION: module(*(torch.from_numpy(value) for value in asked.values())).numpy()}

    return answer
