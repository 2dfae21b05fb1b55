"""What LeRobot itself computes: random checkpoints written by its own code, and its answers to random observations.

Run by `make parity` in an environment with LeRobot and without physai; `compare.py` does the other half. For each case
the folder gets `checkpoint/`, `map.yaml` and `answers.npz`. With `--recipes` it writes what test/lab/test_import.py uses.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))


def import_torchvision() -> None:
    """Also where its C++ operators do not load: PyPI's is for CUDA, and beside torch for the CPU two are asked for.

    No network here uses either.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        for name in ("nms", "qnms"):
            LIBRARIES.append(torch.library.Library("torchvision", "FRAGMENT"))
            LIBRARIES[-1].define(f"{name}(Tensor a) -> Tensor")
        importlib.import_module("torchvision")


LIBRARIES: list[Any] = []  # what they define ends with them
import_torchvision()

from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature  # noqa: E402
from lerobot.policies.act.configuration_act import ACTConfig  # noqa: E402
from lerobot.policies.act.modeling_act import ACTPolicy  # noqa: E402
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig  # noqa: E402
from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy  # noqa: E402
from lerobot.policies.factory import make_pre_post_processors  # noqa: E402
from lerobot.policies.utils import prepare_observation_for_inference  # noqa: E402
from lerobot_files import STATE, numbers  # noqa: E402
from lerobot_files import observations as observe  # noqa: E402

JOINTS = 7
ENVIRONMENT, ACTION, IMAGES = "observation.environment_state", "action", "observation.images"
DT_S = 0.05
TINY_ACT: dict[str, Any] = {
    "chunk_size": 12, "n_action_steps": 12, "dim_model": 64, "n_heads": 4, "dim_feedforward": 96, "n_encoder_layers": 2,
    "n_decoder_layers": 2, "latent_dim": 8, "n_vae_encoder_layers": 1,
}  # fmt: skip
TINY_DIFFUSION: dict[str, Any] = {
    "n_obs_steps": 2, "horizon": 8, "n_action_steps": 6, "down_dims": (32, 64), "diffusion_step_embed_dim": 16,
    "spatial_softmax_num_keypoints": 8, "n_groups": 4,
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One checkpoint."""

    name: str
    kind: str  # act, diffusion
    settings: dict[str, Any] = field(default_factory=dict)
    cameras: tuple[str, ...] = ()
    image: tuple[int, int] = (48, 64)  # height, width
    environment: int = 0
    modes: dict[str, str] = field(default_factory=dict)
    old_layout: bool = False  # normalization inside model.safetensors, as before LeRobot 0.4
    observations: int = 100


CASES = [
    Case("act-tiny", "act", TINY_ACT, cameras=("overview", "wrist")),
    Case("act-tiny-old-layout", "act", TINY_ACT, cameras=("overview",), old_layout=True),
    Case(
        "act-tiny-state", "act",
        {**TINY_ACT, "pre_norm": True, "feedforward_activation": "gelu", "use_vae": False},
        environment=32, modes={"STATE": "MIN_MAX", "ACTION": "MIN_MAX", "ENV": "QUANTILES"},
    ),
    Case(
        "act-tiny-resnet50", "act",
        {**TINY_ACT, "vision_backbone": "resnet50", "replace_final_stride_with_dilation": True}, cameras=("overview",),
        modes={"VISUAL": "MIN_MAX", "STATE": "IDENTITY"},
    ),
    Case("act-full", "act", cameras=("overview",), image=(480, 640)),
    Case("diffusion-tiny", "diffusion", {**TINY_DIFFUSION, "crop_shape": (40, 56)}, cameras=("overview",)),
    Case(
        "diffusion-tiny-ddim", "diffusion",
        {
            **TINY_DIFFUSION, "noise_scheduler_type": "DDIM", "num_inference_steps": 10, "prediction_type": "sample",
            "resize_shape": (33, 40), "crop_ratio": 0.9, "use_separate_rgb_encoder_per_camera": True,
            "use_group_norm": False, "use_film_scale_modulation": False, "beta_schedule": "linear",
        },
        cameras=("overview", "wrist"), modes={"STATE": "MEAN_STD", "ACTION": "QUANTILE10"},
    ),
    Case(
        "diffusion-tiny-state", "diffusion",
        {**TINY_DIFFUSION, "n_obs_steps": 3, "n_action_steps": 4, "down_dims": (32, 48, 64), "num_inference_steps": 20},
        environment=32,
    ),
    Case(
        "diffusion-full", "diffusion", {"noise_scheduler_type": "DDIM", "num_inference_steps": 10, "crop_shape": (84, 84)},
        cameras=("overview",), image=(96, 96), observations=20,
    ),
]  # fmt: skip

RECIPES = [
    Case("act", "act", TINY_ACT, cameras=("overview",), image=(32, 48), observations=2),
    Case("act_state", "act", {**TINY_ACT, "chunk_size": 5, "n_action_steps": 5}, environment=35, observations=2),
    Case(
        "diffusion", "diffusion", {**TINY_DIFFUSION, "crop_shape": (28, 40), "num_inference_steps": 5},
        cameras=("overview",), image=(32, 48), observations=2,
    ),
]  # fmt: skip


def features(case: Case) -> tuple[dict[str, PolicyFeature], dict[str, PolicyFeature]]:
    inputs = {STATE: PolicyFeature(FeatureType.STATE, (JOINTS + 1,))}
    if case.environment:
        inputs[ENVIRONMENT] = PolicyFeature(FeatureType.ENV, (case.environment,))
    for camera in case.cameras:
        inputs[f"{IMAGES}.{camera}"] = PolicyFeature(FeatureType.VISUAL, (3, *case.image))
    return inputs, {ACTION: PolicyFeature(FeatureType.ACTION, (JOINTS + 1,))}


def statistics(
    shapes: Mapping[str, PolicyFeature], rng: np.random.Generator
) -> dict[str, dict[str, torch.Tensor]]:
    """Such as a dataset has, all kinds of them."""
    result = {}
    for name, feature in shapes.items():
        shape = (3, 1, 1) if feature.type is FeatureType.VISUAL else feature.shape
        mean, std = rng.uniform(-0.5, 0.5, shape), rng.uniform(0.2, 0.9, shape)
        values = {
            "mean": mean, "std": std, "min": mean - 2.5 * std, "max": mean + 2.5 * std, "q01": mean - 2.2 * std,
            "q99": mean + 2.2 * std, "q10": mean - 1.2 * std, "q90": mean + 1.2 * std,
        }  # fmt: skip
        result[name] = {key: torch.from_numpy(value).float() for key, value in values.items()}
    return result


def fill(policy: torch.nn.Module) -> None:
    """Our numbers everywhere: fresh networks have ones and zeros in their normalization, which would hide a mistake."""
    for name, value in policy.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.from_numpy(numbers(name, tuple(value.shape))))


def make(case: Case, folder: Path) -> tuple[Any, Any, Any]:
    """Write the checkpoint with LeRobot's code and read it again with it: policy, preprocessor, postprocessor."""
    torch.manual_seed(0)
    inputs, outputs = features(case)
    config_class, policy_class = (
        (ACTConfig, ACTPolicy) if case.kind == "act" else (DiffusionConfig, DiffusionPolicy)
    )
    config = config_class(
        input_features=inputs, output_features=outputs, device="cpu", push_to_hub=False, license="apache-2.0",
        pretrained_backbone_weights=None, **case.settings,
    )  # fmt: skip
    for kind, mode in case.modes.items():
        config.normalization_mapping[kind] = NormalizationMode(mode)
    policy = policy_class(config)
    fill(policy)
    checkpoint = folder / "checkpoint"
    policy.save_pretrained(checkpoint)
    stats = statistics({**inputs, **outputs}, np.random.default_rng(1))
    for processor in make_pre_post_processors(config, dataset_stats=stats):
        processor.save_pretrained(checkpoint)
    loaded = policy_class.from_pretrained(checkpoint).eval()
    pre, post = make_pre_post_processors(
        loaded.config, pretrained_path=str(checkpoint),
        preprocessor_overrides={"device_processor": {"device": "cpu"}},
    )  # fmt: skip
    if case.old_layout:
        to_old_layout(checkpoint, stats)
    return loaded, pre, post


def to_old_layout(checkpoint: Path, stats: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
    """The files as LeRobot wrote them before 0.4, for MEAN_STD: the buffers of its Normalize and Unnormalize modules."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(checkpoint / "model.safetensors")
    for name, values in stats.items():
        modules = ("normalize_targets", "unnormalize_outputs") if name == ACTION else ("normalize_inputs",)
        for module in modules:
            for key in ("mean", "std"):
                tensors[f"{module}.buffer_{name.replace('.', '_')}.{key}"] = values[key].clone()
    save_file(tensors, checkpoint / "model.safetensors")
    for file in checkpoint.glob("policy_*processor*"):
        file.unlink()


@torch.no_grad()
def answer(
    case: Case, policy: Any, pre: Any, post: Any, observations: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """LeRobot's chunks, and what `select_action` gives first at the start of an episode."""
    chunks, selected, noises, step_noises = [], [], [], []
    for index in range(case.observations):
        frames = [
            {name: np.array(value[index, moment]) for name, value in observations.items()}
            for moment in range(len(observations[STATE][index]))
        ]
        batches = [pre(prepare_observation_for_inference(frame, torch.device("cpu"))) for frame in frames]
        policy.reset()
        if case.kind == "act":
            selected.append(post(policy.select_action(batches[-1])))
            chunks.append(post(policy.predict_action_chunk(batches[-1])))
            continue
        size = (1, policy.config.horizon, JOINTS + 1)
        torch.manual_seed(index)
        noise = torch.randn(size)
        state = torch.get_rng_state()  # the sampler draws on from here
        selected.append(post(policy.select_action(dict(batches[-1]), noise=noise)))
        policy.reset()
        for batch in (
            batches
        ):  # LeRobot's own queue of observations; a queue of actions keeps it from sampling each time
            policy._queues[ACTION].append(torch.zeros(1, JOINTS + 1))
            policy.select_action(dict(batch))
        batch = {name: value for name, value in batches[-1].items() if name != ACTION}
        if case.cameras:
            batch[IMAGES] = batch[
                f"{IMAGES}.{case.cameras[0]}"
            ]  # the name alone counts, the queue has the images
        torch.set_rng_state(state)
        chunks.append(post(policy.predict_action_chunk(batch, noise=noise)))
        torch.set_rng_state(state)
        steps = policy.diffusion.num_inference_steps
        noises.append(noise)
        step_noises.append(torch.stack([torch.randn(size) for _ in range(steps)], dim=1))
        if sys.stderr.isatty():
            print(f"\r  {index + 1}/{case.observations}", end="", file=sys.stderr)
    result = {"chunks": torch.cat(chunks).numpy(), "selected": torch.cat(selected).numpy()}
    if noises:
        result["noise"] = torch.stack(noises).numpy()
        if policy.config.noise_scheduler_type == "DDPM":
            result["step_noise"] = torch.stack(step_noises).numpy()
    return result


def mapping(case: Case) -> dict[str, Any]:
    observation: dict[str, Any] = {STATE: {"values": ["joints", "gripper_width"]}}
    if case.environment:
        observation[ENVIRONMENT] = {"values": ["features"]}
    for camera in case.cameras:
        observation[f"{IMAGES}.{camera}"] = {"image": camera}
    # The gripper's scale runs far beyond any width, so that random actions are compared and not clipped.
    gripper = {"closed": -500.0, "open": 500.0, "width_m": 1.0}
    return {
        "observation": observation,
        "actions": {"space": "joint_position", "dt_s": DT_S},
        "gripper": gripper,
    }


def described(case: Case, checkpoint: Path, moments: int) -> dict[str, Any]:
    """The checkpoint as a recipe for `lerobot_files.write_checkpoint`."""
    from safetensors.torch import load_file

    files: dict[str, Any] = {
        path.name: json.loads(path.read_text()) for path in sorted(checkpoint.glob("*.json"))
    }
    for path in sorted(checkpoint.glob("*.safetensors")):
        if path.name == "model.safetensors":
            tensors = {
                k: [str(v.dtype).removeprefix("torch."), list(v.shape)] for k, v in load_file(path).items()
            }
        else:
            files[path.name] = {key: value.tolist() for key, value in load_file(path).items()}
    return {
        "lerobot": version("lerobot"), "files": files, "tensors": tensors, "observations": case.observations,
        "moments": moments, "map": mapping(case),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--cases", default="", help="names by commas, or parts of names; default: all")
    parser.add_argument("--recipes", action="store_true", help="write the recipes for the tests instead")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for case in RECIPES if options.recipes else CASES:
        if not any(part in case.name for part in options.cases.split(",")):
            continue
        folder = options.out / case.name
        folder.mkdir(parents=True, exist_ok=True)
        policy, pre, post = make(case, folder)
        moments = policy.config.n_obs_steps
        document = described(case, folder / "checkpoint", moments)
        observations = observe(document)
        answers = answer(case, policy, pre, post, observations)
        if options.recipes:
            document["answers"] = {name: value.tolist() for name, value in answers.items()}
            (options.out / f"lerobot_{case.name}.json").write_text(json.dumps(document) + "\n")
            shutil.rmtree(folder)
        else:
            np.savez(folder / "answers.npz", **observations, **answers)
            (folder / "map.yaml").write_text(json.dumps(document["map"], indent=1))  # YAML reads JSON
        count = sum(value.numel() for value in policy.parameters())
        print(
            f"{case.name}: {count / 1e6:.1f} million parameters, {case.observations} observations", flush=True
        )


if __name__ == "__main__":
    main()
