"""From a checkpoint of LeRobot to a bundle: network rebuilt in torch, exported, compared, written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from physai_base.bundle import write_bundle
from physai_base.embodiment import Embodiment
from physai_base.golden import GoldenError
from physai_base.offline import import_onnxruntime
from physai_base.task import Task
from physai_base.tensor import TensorSpec
from physai_lab.importing.lerobot.checkpoint import (
    ACTION,
    STATE,
    ActSettings,
    DiffusionSettings,
    Feature,
    LeRobotCheckpoint,
    LeRobotError,
    Normalization,
)
from physai_lab.importing.plausible import doubts
from physai_lab.progress import Progress
from physai_lab.runtimes.golden import golden_cases, graph_answer
from physai_policy.loading import interface_of
from physai_policy.mapped import ModelMapping
from physai_policy.policy import example_observation

PARITY = 1e-4  # largest difference between torch and ONNX Runtime that is let pass, normalized units


@dataclass(frozen=True)
class ImportOptions:
    """What a checkpoint does not say of itself."""

    mapping: Mapping[str, Any]  # observation, actions, gripper: docs/howto/import.md
    scheduler: str | None = None  # DDPM or DDIM instead of the checkpoint's
    steps: int | None = None  # denoising steps instead of the checkpoint's
    samples: int = 1  # chunks that a diffusion policy computes at once


@dataclass(frozen=True)
class Imported:
    """What came of it."""

    difference: float  # largest between torch and ONNX Runtime, normalized units
    unnormalized: tuple[str, ...]  # features that go in as they are, because the checkpoint says so
    parameters: int
    doubts: tuple[str, ...] = ()  # numbers that cannot be this robot's, by the checkpoint's statistics


def convert(
    path: Path,
    out: Path,
    embodiment: Embodiment,
    task: Task,
    options: ImportOptions,
    progress: Progress = lambda done, total, note: None,
) -> Imported:
    """Read the checkpoint at `path` and write a bundle to `out`; on any error nothing is written.

    Raises:
        LeRobotError: the checkpoint cannot be imported, the mapping does not suit it or the robot, or ONNX Runtime
            computes something else than torch.
    """
    stages = (
        "reading the checkpoint",
        "building the network",
        "exporting",
        "comparing",
        "writing the bundle",
    )

    def stage(number: int) -> None:
        progress(number, len(stages), stages[number] if number < len(stages) else "")

    stage(0)
    checkpoint = with_options(LeRobotCheckpoint.read(path), options)
    inputs, noise, output = _specs(checkpoint)
    history = checkpoint.settings.n_obs_steps if checkpoint.kind == "diffusion" else 0
    document = complete_mapping(checkpoint, options.mapping)
    try:
        mapping = ModelMapping.parse(document, embodiment)
        mapping.check(inputs, output, history, example_observation(embodiment, task, mapping.kinematics))
    except ValueError as error:
        raise LeRobotError(f"--map: {error}") from error
    stage(1)
    network = _network(checkpoint)
    rng = np.random.default_rng(0)
    specs = [*inputs, *noise]
    example = {spec.name: _drawn(spec, rng) for spec in specs}
    stage(2)
    module, model = _exported(network, checkpoint, example)
    stage(3)
    difference = _difference(module, model, example)
    if not difference <= PARITY:
        raise LeRobotError(
            f"{path}: ONNX Runtime differs from torch by {difference:.2g} (normalized units), allowed {PARITY:.0e}; "
            "nothing was written"
        )
    stage(4)
    parameters = sum(value.size for value in checkpoint.weights.values())
    config = {
        "mapping": document, "history": history, "noise": [spec.name for spec in noise],
        "samples": options.samples if noise else 1, "horizon": document["actions"]["horizon"],
        "dt_s": document["actions"]["dt_s"], "images": _image_normalization(checkpoint.inputs),
        "source": {"format": "lerobot", "type": checkpoint.kind, **_plain(checkpoint.settings)},
    }  # fmt: skip
    try:
        cases = golden_cases("policy", config, specs, graph_answer(model, [output]), embodiment, task)
    except GoldenError as error:
        raise LeRobotError(f"{path}: {error}; nothing was written") from error
    write_bundle(
        out, kind="policy", name=out.name, robot=embodiment.name, model=model, inputs=specs, outputs=[output],
        config=config, cases=cases, interface=interface_of("policy", config, embodiment, task),
        training_data=f"LeRobot checkpoint, model.safetensors sha256 {checkpoint.digest}",
        metrics={"parameters": parameters, "onnx_against_torch": difference},
        licence=checkpoint.licence,
    )  # fmt: skip
    stage(5)
    features = (*checkpoint.inputs, checkpoint.action)
    unnormalized = tuple(f.name for f in features if f.normalization is None)
    return Imported(difference, unnormalized, parameters, tuple(doubts(mapping, inputs, output, embodiment)))


def with_options(checkpoint: LeRobotCheckpoint, options: ImportOptions) -> LeRobotCheckpoint:
    """The checkpoint with another sampler, which LeRobot allows on its command line, too.

    Raises:
        LeRobotError: it has none, or cannot do that many steps.
    """
    settings = checkpoint.settings
    if options.samples < 1:
        raise LeRobotError(f"--samples must be at least 1, got {options.samples}")
    if isinstance(settings, ActSettings):
        if options.scheduler or options.steps or options.samples != 1:
            raise LeRobotError(
                "--scheduler, --steps and --samples are for diffusion policies, this is one of ACT"
            )
        return checkpoint
    steps = options.steps or settings.steps
    if not 1 <= steps <= settings.num_train_timesteps:
        raise LeRobotError(
            f"--steps must be from 1 to {settings.num_train_timesteps} (num_train_timesteps), got {steps}"
        )
    scheduler = options.scheduler or settings.noise_scheduler_type
    return replace(
        checkpoint, settings=replace(settings, num_inference_steps=steps, noise_scheduler_type=scheduler)
    )


def complete_mapping(checkpoint: LeRobotCheckpoint, mapping: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping with what the checkpoint knows: rows of a chunk, and the size that it wants of images."""
    if not isinstance(mapping, Mapping) or not all(
        isinstance(mapping.get(key), Mapping) for key in ("observation", "actions")
    ):
        raise LeRobotError(
            "--map: must have the mappings observation and actions; docs/howto/import.md shows one"
        )
    settings = checkpoint.settings
    rows = settings.chunk_size if isinstance(settings, ActSettings) else settings.n_action_steps
    taken = [key for key in ("horizon", "keys", "samples") if key in mapping["actions"]]
    if taken:
        raise LeRobotError(f"--map: actions may not have {', '.join(taken)}: the checkpoint says that")
    observation = dict(mapping["observation"])
    for feature in checkpoint.inputs:
        entry = observation.get(feature.name)
        if feature.kind == "VISUAL" and isinstance(entry, Mapping) and "size" not in entry:
            observation[feature.name] = {**entry, "size": list(feature.shape[1:])}
    return {**mapping, "observation": observation, "actions": {**mapping["actions"], "horizon": rows}}


def proposed_mapping(checkpoint: LeRobotCheckpoint, embodiment: Embodiment) -> str:
    """A mapping (YAML) for a person to check and to complete: what the sizes suggest, and questions where they do not."""
    joints, lines = len(embodiment.joints), ["observation:"]
    cameras = [camera.name for camera in embodiment.cameras]
    for feature in checkpoint.inputs:
        if feature.kind == "VISUAL":
            camera = feature.name.rpartition(".")[2]
            known = camera if camera in cameras else "CAMERA"
            lines.append(f"  {feature.name}: {{image: {known}}}  # {' × '.join(map(str, feature.shape[1:]))}")
        elif feature.name == STATE and feature.shape[0] in (joints, joints + 1):
            gripper = ", gripper_width" if feature.shape[0] > joints else ""
            lines.append(
                f"  {feature.name}: {{values: [joints{gripper}]}}  # rad, m: as in the training data?"
            )
        else:
            lines.append(f"  {feature.name}: {{values: [VALUES]}}  # {feature.shape[0]} numbers")
    space = "joint_position" if checkpoint.action.shape[0] == joints + 1 else "SPACE"
    lines += [
        "actions:",
        f"  space: {space}  # {checkpoint.action.shape[0]} columns, the gripper's last",
        "  dt_s: SECONDS  # 1 / fps of the training data",
    ]
    return "\n".join(lines)


def _specs(checkpoint: LeRobotCheckpoint) -> tuple[list[TensorSpec], list[TensorSpec], TensorSpec]:
    """Observations, noise, and the action."""
    settings, action = checkpoint.settings, checkpoint.action
    moments = (settings.n_obs_steps,) if isinstance(settings, DiffusionSettings) else ()
    units = "as in the training data, see config.mapping"
    inputs = [
        TensorSpec(
            feature.name, ("batch", *moments, *feature.shape[1:], 3), "1/255 of full scale, RGB", "uint8"
        )
        if feature.kind == "VISUAL"
        else TensorSpec(
            feature.name, ("batch", *moments, *feature.shape), units, **_numbers(feature.normalization)
        )
        for feature in checkpoint.inputs
    ]
    noise = []
    if isinstance(settings, DiffusionSettings):
        noise.append(TensorSpec("noise", ("batch", settings.horizon, *action.shape), "1"))
        if settings.noise_scheduler_type == "DDPM":
            noise.append(
                TensorSpec("step_noise", ("batch", settings.steps, settings.horizon, *action.shape), "1")
            )
        rows = settings.n_action_steps
    else:
        rows = settings.chunk_size
    output = TensorSpec(ACTION, ("batch", rows, *action.shape), units, **_numbers(action.normalization))
    return inputs, noise, output


def _numbers(normalization: Normalization | None) -> dict[str, Any]:
    if normalization is None:
        return {}
    return {"mean": tuple(normalization.mean.tolist()), "std": tuple(normalization.std.tolist())}


def _image_normalization(inputs: tuple[Feature, ...]) -> dict[str, Any]:
    """Of images in 0…1, for a reader: it is part of the graph."""
    return {feature.name: _numbers(feature.normalization) for feature in inputs if feature.kind == "VISUAL"}


def _plain(settings: ActSettings | DiffusionSettings) -> dict[str, Any]:
    values = {name: getattr(settings, name) for name in settings.__dataclass_fields__}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _network(checkpoint: LeRobotCheckpoint) -> Any:
    """The network with the checkpoint's weights; each must be there, and none may be left over."""
    import torch

    from physai_lab.importing.lerobot.network_act import ActNetwork
    from physai_lab.importing.lerobot.network_diffusion import DiffusionNetwork

    settings, actions = checkpoint.settings, checkpoint.action.shape[0]
    try:
        network: Any = (
            ActNetwork(settings, checkpoint.inputs, actions)
            if isinstance(settings, ActSettings)
            else DiffusionNetwork(settings, checkpoint.inputs, actions)
        )
        weights = {name: torch.from_numpy(value) for name, value in checkpoint.weights.items()}
        network.load_state_dict(weights, strict=True)
    except (RuntimeError, ValueError) as error:
        lines = str(error).strip().splitlines()
        text = "; ".join(line.strip() for line in lines[:6])
        raise LeRobotError(
            f"{checkpoint.path}: model.safetensors does not fit the network of config.json: {text[:1500]}"
        ) from error
    return network.eval()


def _exported(
    network: Any, checkpoint: LeRobotCheckpoint, example: Mapping[str, np.ndarray]
) -> tuple[Any, bytes]:
    """The module to compare with, and the graph."""
    import torch

    from physai_lab.importing.lerobot.network_diffusion import Conditioning, NoiseSampler, Step, looped
    from physai_lab.training.export import to_onnx

    settings = checkpoint.settings
    with torch.no_grad():
        if isinstance(settings, ActSettings):
            return network, to_onnx(network, dict(example), [ACTION])
        condition, step = Conditioning(network, checkpoint.inputs).eval(), Step(network, settings).eval()
        sampler = NoiseSampler(condition, step).eval()
        names = [feature.name for feature in checkpoint.inputs]
        first = to_onnx(condition, {name: example[name] for name in names}, ["condition"])
        one_step = {
            "sample": example["noise"],
            "condition": np.zeros((len(example["noise"]), network.condition_size), np.float32),
            "encoding": sampler.encodings[:1].numpy(),
            "numbers_now": sampler.numbers[:1].numpy(),
        }
        if "step_noise" in example:
            one_step["step_noise_now"] = example["step_noise"][:, :1]
        return sampler, looped(first, to_onnx(step, one_step, ["less_noisy"]), sampler)


def _difference(module: Any, model: bytes, example: Mapping[str, np.ndarray]) -> float:
    import torch

    onnxruntime = import_onnxruntime()
    with torch.no_grad():
        expected = module(*(torch.from_numpy(value) for value in example.values())).numpy()
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    actual = session.run([ACTION], dict(example))[0]
    if actual.shape != expected.shape:
        return float("inf")
    return float(np.abs(actual - expected).max())


def _drawn(spec: TensorSpec, rng: np.random.Generator) -> np.ndarray:
    """Two random rows of an input."""
    shape = tuple(2 if isinstance(size, str) else size for size in spec.shape)
    if spec.dtype == "uint8":
        return rng.integers(0, 256, shape, np.uint8)
    return rng.standard_normal(shape).astype(np.float32)
