"""A tiny π0 with random weights, saved by transformers itself, and what transformers' own classes answer."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

os.environ["HF_HUB_OFFLINE"] = "1"

JOINTS, SIZE, STATE_COLUMNS, NOISE_COLUMNS, ROWS = 7, 28, 12, 10, 6
TOKENS_PER_IMAGE = (SIZE // 14) ** 2
LETTERS = ["<pad>", "<eos>", "<bos>", "<unk>", *map(chr, range(33, 127)), "\n", "▁"]
STATISTICS = {
    "state_mean": [0.1 * k - 0.3 for k in range(JOINTS)] + [0.04],
    "state_std": [0.5 + 0.1 * k for k in range(JOINTS)] + [0.03],
    "actions_mean": [0.3 - 0.1 * k for k in range(JOINTS)] + [0.2],
    "actions_std": [0.4 + 0.1 * k for k in range(JOINTS)] + [0.5],
}
MAP: dict[str, Any] = {
    "observation": {
        "state": {"values": ["joints", "gripper_width"]},
        "prompt": {"text": "instruction"},
        "wrist_view": {"image": "wrist"},
        "base_view": {"image": "overview"},
    },
    "actions": {"space": "joint_position", "dt_s": 0.05},
    "gripper": {"closed": -20.0, "open": 20.0, "width_m": 0.08},
}
IMAGES = {  # as PI0ImageProcessor is saved; that class itself needs torchvision
    "image_processor_type": "PI0ImageProcessor",
    "size": {"max_height": SIZE, "max_width": SIZE},
    "pad_size": {"height": SIZE, "width": SIZE},
    "image_seq_length": TOKENS_PER_IMAGE,
    "image_mean": [0.5, 0.4, 0.6],
    "image_std": [0.5, 0.25, 0.3],
    "do_center_crop": None,
    "resample": 3,
}


def model(dtype: str = "float32") -> Any:
    """Weights of the size that keeps a signal's, so that every input shows in the answer."""
    import torch
    from transformers import PI0Config, PI0ForConditionalGeneration

    gemma = {
        "model_type": "gemma", "num_hidden_layers": 2, "intermediate_size": 32, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 16, "vocab_size": len(LETTERS),
    }  # fmt: skip
    vision = {
        "model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 16, "patch_size": 14,
        "image_size": SIZE, "num_hidden_layers": 1, "num_attention_heads": 2, "vision_use_head": False,
    }  # fmt: skip
    config = PI0Config(
        vlm_config={
            "model_type": "paligemma", "text_config": {**gemma, "hidden_size": 32}, "vision_config": vision,
            "projection_dim": 32, "image_token_id": len(LETTERS),
        },
        dit_config={**gemma, "hidden_size": 16},
        chunk_size=ROWS, max_state_dim=STATE_COLUMNS, max_action_dim=NOISE_COLUMNS, num_inference_steps=3,
    )  # fmt: skip
    network = PI0ForConditionalGeneration(config).eval()
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in network.parameters():
            value.copy_(torch.randn(value.shape, generator=draw) / max(1.0, value[0].numel()) ** 0.5)
    return network.to(getattr(torch, dtype))


def processor() -> Any:
    """transformers' own, but for images, which `expected` makes."""
    import torch
    from tokenizers import Tokenizer, models, normalizers
    from transformers import PreTrainedTokenizerFast
    from transformers.image_processing_utils import BaseImageProcessor
    from transformers.models.pi0.processing_pi0 import PI0Processor

    class Images(BaseImageProcessor):
        image_seq_length = TOKENS_PER_IMAGE
        size: ClassVar = {"height": SIZE, "width": SIZE}

        def __call__(self, images: Any, return_tensors: str = "pt", **rest: Any) -> Any:
            return {"pixel_values": torch.stack(list(images))}

    tokenizer = Tokenizer(
        models.BPE({text: i for i, text in enumerate(LETTERS)}, merges=[], unk_token="<unk>")
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    special = {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return PI0Processor(
        image_processor=Images(), tokenizer=PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special),
        max_state_dim=STATE_COLUMNS, chunk_size=ROWS, **STATISTICS,
    )  # fmt: skip


def write_checkpoint(folder: Path, dtype: str = "float32", max_shard_size: str = "1GB") -> Path:
    """The directory that `save_pretrained` of model and processor write."""
    model(dtype).save_pretrained(folder, max_shard_size=max_shard_size)
    processor().save_pretrained(folder)
    change(folder / "processor_config.json", image_processor=IMAGES, **STATISTICS)
    return folder


def change(path: Path, **values: Any) -> None:
    """Set keys of a JSON file; None takes one out."""
    document = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({key: value for key, value in document.items() if value is not None}))


def expected(
    folder: Path,
    state: np.ndarray,
    images: list[np.ndarray],
    instruction: str,
    noise: np.ndarray,
    **options: Any,
) -> np.ndarray:
    """The actions (ROWS, 8) that transformers gives, in units of the training data: its own but for the images."""
    import torch
    from transformers import PI0ForConditionalGeneration

    network = PI0ForConditionalGeneration.from_pretrained(folder)
    inputs = processor()(
        images=[[_image(image) for image in images]], text=instruction, state=torch.tensor(state)[None].float(),
        max_length=len(images) * TOKENS_PER_IMAGE + 48,  # as much padding as here: bfloat16 would round otherwise
    )  # fmt: skip
    inputs = {key: v.to(network.dtype) if v.is_floating_point() else v for key, v in inputs.items()}
    found = network.sample_actions(**inputs, noise=torch.from_numpy(noise).to(network.dtype), **options)
    mean, std = np.array(STATISTICS["actions_mean"]), np.array(STATISTICS["actions_std"])
    return found[0, :, : JOINTS + 1].float().numpy() * std + mean


def _image(image: np.ndarray) -> Any:
    """(3, SIZE, SIZE): resized, normalized, and only then padded, as TorchvisionBackend._preprocess does it."""
    import torch

    height, width = image.shape[:2]
    inner = (SIZE * height // max(height, width), SIZE * width // max(height, width))
    small = torch.nn.functional.interpolate(
        torch.from_numpy(image).permute(2, 0, 1)[None], inner, mode="bicubic", antialias=True
    )[0]
    mean, std = (torch.tensor(IMAGES[key]).reshape(3, 1, 1) for key in ("image_mean", "image_std"))
    result = torch.zeros(3, SIZE, SIZE)
    result[:, : inner[0], : inner[1]] = (small / 255 - mean) / std
    return result
