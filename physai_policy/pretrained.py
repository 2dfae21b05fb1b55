"""Networks that transformers' own classes compute, for policies whose weights are too large for one ONNX file.

`NETWORKS` has one entry per architecture, by transformers' `model_type`: a function from `config.network` of a bundle and
its weights to a torch module whose arguments are the bundle's inputs in order. What transformers' processor does to images
stands here as well, since that class needs torchvision. How a checkpoint becomes such a bundle: physai_lab/importing/huggingface.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from physai_base.bundle import NETWORK, WEIGHTS, Bundle
from physai_base.errors import BundleError, PhysaiError, RuntimeUnavailableError
from physai_base.offline import HUB_OFFLINE
from physai_policy.networks import without_tf32
from physai_policy.prompt import PADDING


class NetworkError(PhysaiError):
    """Weights and configuration that make no network."""


def pretrained_from_bundle(bundle: Bundle) -> Any:
    """The module of a bundle with `config.network`, on the GPU where torch has one, else on the CPU.

    Raises:
        BundleError: the architecture is not known, or the weights are not those of it.
        RuntimeUnavailableError: transformers is not installed.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return pretrained(bundle.config[NETWORK], load(bundle.file(WEIGHTS)))
    except (NetworkError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{bundle.path}: config.network: {error}; import the model again") from error


def pretrained(network: Mapping[str, Any], weights: dict[str, Any]) -> Any:
    """The module for `network` (`model_type`, `config` and what the architecture needs besides) with those tensors.

    Raises:
        NetworkError: the architecture is not known, or the weights are not those of it.
        RuntimeUnavailableError: transformers is not installed.
    """
    import torch

    without_tf32()
    if network["model_type"] not in NETWORKS:
        raise NetworkError(f"model_type {network['model_type']!r} is not known; {', '.join(NETWORKS)} is")
    module = NETWORKS[network["model_type"]](network, weights).eval()
    module.device = "cuda" if torch.cuda.is_available() else "cpu"
    return module.to(module.device)


def _pi0(network: Mapping[str, Any], weights: dict[str, Any]) -> Any:
    """π0: a PaliGemma for images and instruction, a Gemma for state and actions, flow matching between them."""
    import torch
    from torch import nn

    transformers = _transformers()
    model = _loaded(
        transformers.PI0ForConditionalGeneration, transformers.PI0Config, network["config"], weights
    )
    columns = int(network["columns"])
    kinds = {"size": int, "padded": int, "mean": float, "std": float}
    images = {key: [kind(value) for value in network["images"][key]] for key, kind in kinds.items()}

    class Pi0(nn.Module):
        """transformers' processor and model in one."""

        device = "cpu"

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, state: Any, prompt: Any, *rest: Any) -> Any:
            """Actions (B, H, columns), normalized; `rest` is an image (B, h, w, 3) uint8 of each camera, and the noise."""
            *cameras, noise = rest
            there = prompt != PADDING
            missing = model.config.max_state_dim - state.shape[1]
            inputs = {
                "state": nn.functional.pad(state, (0, missing)).to(model.dtype),
                "input_ids": prompt.clamp(min=0),
                "attention_mask": there.long(),
                # Small once it is resized, so that is done before it goes to the device.
                "pixel_values": torch.stack([processed(image, images) for image in cameras], 1).to(
                    model.dtype
                ),
                "pixel_attention_mask": torch.ones(len(state), len(cameras), dtype=torch.bool),
                "noise": noise.to(model.dtype),
            }
            actions = model.sample_actions(**{key: value.to(self.device) for key, value in inputs.items()})
            return actions[..., :columns].float().cpu()

    return Pi0()


NETWORKS = {"pi0": _pi0}


def processed(image: Any, how: Mapping[str, Any]) -> Any:
    """(B, 3, H, W) float32 of (B, h, w, 3) uint8, as transformers' image processors with torchvision make it.

    It is resized to fit into `how["size"]` (height, width in pixels) keeping its shape, normalized by `mean` and `std` of
    values in 0…1, and filled up to `padded` (height, width) with zeros, which are grey by then, to the right and below.
    """
    import torch
    from torch.nn import functional

    pixels = image.permute(0, 3, 1, 2)
    (height, width), (most_high, most_wide) = pixels.shape[-2:], how["size"]
    scale = min(most_high / height, most_wide / width)
    size = int(height * scale), int(width * scale)
    if size != (height, width):  # in uint8, as torchvision does it on the CPU
        pixels = functional.interpolate(pixels, size, mode="bicubic", align_corners=False, antialias=True)
    mean, std = (255.0 * torch.tensor(how[key]).reshape(3, 1, 1) for key in ("mean", "std"))
    padding = (0, how["padded"][1] - size[1], 0, how["padded"][0] - size[0])
    return functional.pad((pixels.float() - mean) / std, padding)


def _transformers() -> Any:
    os.environ.update(HUB_OFFLINE)  # read when it is imported
    try:
        import transformers
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"transformers: not installed ({error}), and this network is computed by it; make train-deps, or "
            "pip install -c constraints.txt transformers"
        ) from error
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def _loaded(model_class: Any, config_class: Any, config: Mapping[str, Any], weights: dict[str, Any]) -> Any:
    """The model with those weights: each must be there, and none may be left over."""
    try:
        model, found = model_class.from_pretrained(
            None,
            config=config_class.from_dict(dict(config)),
            state_dict=weights,
            attn_implementation="sdpa",  # no other: a configuration may name a kernel that would be downloaded
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # transformers raises exceptions of many libraries
        reason = f"does not take this configuration and these weights: {error}"
        raise NetworkError(f"{model_class.__name__} {reason[:1500]}") from error
    wrong = {
        key: sorted(map(str, found[key])) for key in ("missing_keys", "unexpected_keys", "mismatched_keys")
    }
    if any(wrong.values()):
        text = "; ".join(
            f"{key.replace('_keys', '')}: {', '.join(names[:5])}" for key, names in wrong.items() if names
        )
        raise NetworkError(f"{model_class.__name__} does not have these weights: {text}")
    return model
