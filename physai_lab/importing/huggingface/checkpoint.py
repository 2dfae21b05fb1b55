"""A directory that `save_pretrained` of transformers wrote, as values: settings, statistics, tokenizer and weights.

Nothing but JSON and safetensors is read, and neither transformers nor a network is needed for it. `ARCHITECTURES` has one
entry per `model_type`; the network of each is in physai_policy/pretrained.py.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from physai_base.errors import PhysaiError, shown
from physai_lab.importing.foreign_files import PICKLED, pickle_advice, read_json
from physai_policy.prompt import TOKENIZER, Prompt

CONFIG, MODEL, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PROCESSOR, IMAGE_PROCESSOR, TOKENIZER_CONFIG = (
    "processor_config.json",
    "preprocessor_config.json",
    "tokenizer_config.json",
)
EPSILON = 1e-8  # transformers', added to a standard deviation
TEXT_TOKENS = 48  # for the beginning, the instruction and a line's end: what π0 was trained with

_SHARD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors")
_REFUSED = {
    "auto_map": "code of its own, which is never run here",
    "quantization_config": "quantized weights, which are not read; save the model without quantization",
    "fusion_config": "layers replaced by others",
}
"""Key anywhere in a JSON file → what it would have transformers load."""
# PI0ImageProcessor's; a file may leave out what is as there.
_IMAGE_DEFAULTS: dict[str, Any] = {
    "size": {"max_height": 224, "max_width": 224}, "pad_size": {"height": 224, "width": 224}, "resample": 3,
    "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "image_seq_length": 256, "rescale_factor": 1 / 255,
    "do_resize": True, "do_rescale": True, "do_normalize": True, "do_pad": True, "do_center_crop": False,
}  # fmt: skip


class HuggingFaceError(PhysaiError):
    """A checkpoint that cannot be imported; the message says what was found, what is needed and what to do."""


@dataclass(frozen=True)
class Statistics:
    """(value - mean) / std is what the network sees."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class PretrainedCheckpoint:
    """What the files beside the weights say, checked."""

    path: Path
    model_type: str
    config: dict[str, Any]  # config.json
    state: Statistics
    action: Statistics
    rows: int  # of a chunk
    noise_columns: int
    images: dict[str, Any]  # what `physai_policy.pretrained.processed` is told
    image_tokens: int  # of one image
    prompt: dict[str, Any]  # what `Prompt` is told, but for the number of images
    tokenizer: bytes

    @staticmethod
    def read(path: Path) -> PretrainedCheckpoint:
        """Read and check a directory, its weights apart.

        Raises:
            HuggingFaceError: it is none, or holds something that would be computed differently here.
        """
        _check_directory(path)
        config = _json(path / CONFIG)
        kind = config.get("model_type")
        if not isinstance(kind, str) or kind not in ARCHITECTURES:
            raise HuggingFaceError(
                f"{path / CONFIG}: model_type is {shown(kind)}; {', '.join(ARCHITECTURES)} can be imported. Others run "
                "on a server of their own, and physai asks it: docs/howto/remote.md"
            )
        return ARCHITECTURES[kind](path, config)

    def weights(self) -> tuple[dict[str, Any], str]:
        """Every tensor (torch's) by its name, and the SHA-256 of the files that they are in.

        Raises:
            HuggingFaceError: a file is missing, damaged or not what the index says, or a number is not finite or of an odd type.
        """
        import torch

        weights: dict[str, Any] = {}
        digest = hashlib.sha256()
        for name, expected in sorted(_shards(self.path).items()):
            tensors, data = _safetensors(self.path / name)
            digest.update(hashlib.sha256(data).digest())
            if expected is not None and expected != tensors.keys():
                raise HuggingFaceError(f"{self.path / name}: does not hold what {INDEX} says; copy it again")
            weights.update(tensors)
        number_types = (torch.float32, torch.float16, torch.bfloat16)
        odd = [name for name, value in weights.items() if value.dtype not in number_types]
        if odd:
            raise HuggingFaceError(
                f"{self.path}: neither float32, float16 nor bfloat16: {', '.join(odd[:5])}"
            )
        broken = [name for name, value in weights.items() if not torch.isfinite(value).all()]
        if broken:
            raise HuggingFaceError(f"{self.path}: holds numbers that are not finite: {', '.join(broken[:5])}")
        return weights, digest.hexdigest()


def _check_directory(path: Path) -> None:
    def advice(names: list[str]) -> str:
        return pickle_advice(names, MODEL, "the transformers that made it (save_pretrained)")

    if path.suffix in PICKLED:
        raise HuggingFaceError(f"{path}: {advice([path.name])}")
    if not path.is_dir():
        raise HuggingFaceError(
            f"{path}: no such directory; give the one that holds {CONFIG} and {MODEL}. For a repository of the hub, "
            "download it first"
        )
    found = {entry.name for entry in path.iterdir()}
    pickled = sorted(name for name in found if Path(name).suffix in PICKLED)
    if not found & {MODEL, INDEX} and pickled:
        raise HuggingFaceError(f"{path}: has no {MODEL}, but {advice(pickled)}")
    missing = [name for name in (CONFIG, PROCESSOR, TOKENIZER, TOKENIZER_CONFIG) if name not in found]
    if not found & {MODEL, INDEX}:
        missing.append(f"{MODEL} and no {INDEX}")
    if missing:
        raise HuggingFaceError(
            f"{path}: has no {' and no '.join(missing)}; give what save_pretrained of the model and of its processor "
            "wrote into one directory"
        )


def _json(path: Path) -> dict[str, Any]:
    document = read_json(path, HuggingFaceError)
    for key in _keys(document):
        if key in _REFUSED:
            raise HuggingFaceError(f"{path}: {key}: the checkpoint asks for {_REFUSED[key]}")
    return document


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _keys(inner)


def _shards(path: Path) -> dict[str, set[str] | None]:
    """The files that hold the weights, by name, and the tensors in each where an index says so."""
    if (path / MODEL).is_file():
        return {MODEL: None}
    weight_map = _json(path / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise HuggingFaceError(f"{path / INDEX}: weight_map must map weights to files")
    shards: dict[str, set[str] | None] = {}
    for weight, name in weight_map.items():
        if not isinstance(name, str) or not _SHARD.fullmatch(name):
            raise HuggingFaceError(
                f"{path / INDEX}: {shown(name)} is not the plain name of a safetensors file in this directory"
            )
        names = shards.setdefault(name, set())
        assert names is not None
        names.add(weight)
    return shards


def _safetensors(path: Path) -> tuple[dict[str, Any], bytes]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        data = path.read_bytes()
        return load(data), data
    except OSError as error:
        raise HuggingFaceError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (SafetensorError, KeyError, ValueError) as error:
        raise HuggingFaceError(f"{path}: is not a whole safetensors file: {error}; copy it again") from error


# π0 --------------------------------------------------------------------------------------------------------


def _pi0(path: Path, config: dict[str, Any]) -> PretrainedCheckpoint:
    """PI0Config, PI0Processor and PI0ImageProcessor of transformers."""
    vlm, expert = _part(path, config, "vlm_config"), _part(path, config, "dit_config")
    for name, part, kind in (("vlm_config", vlm, "paligemma"), ("dit_config", expert, "gemma")):
        if part.get("model_type", kind) != kind:
            raise HuggingFaceError(
                f"{path / CONFIG}: {name}.model_type is {shown(part['model_type'])}; only {kind} is known"
            )
    vision, text = _part(path, vlm, "vision_config"), _part(path, vlm, "text_config")
    image_size, patch_size = _count(path, vision, "image_size", 224), _count(path, vision, "patch_size", 14)
    state_columns, noise_columns = (
        _count(path, config, key, 32) for key in ("max_state_dim", "max_action_dim")
    )
    rows = _count(path, config, "chunk_size", 50)
    _count(path, config, "num_inference_steps", 10)
    image_tokens = (image_size // patch_size) ** 2

    processor, where = _json(path / PROCESSOR), path / PROCESSOR
    if (
        _count(where, processor, "max_state_dim", state_columns) != state_columns
        or _count(where, processor, "chunk_size", rows) != rows
    ):
        raise HuggingFaceError(f"{where}: max_state_dim and chunk_size are others than in {CONFIG}")
    state = _statistics(where, processor, "state", state_columns)
    action = _statistics(where, processor, "actions", noise_columns)

    tokenizer, settings = (path / TOKENIZER).read_bytes(), _json(path / TOKENIZER_CONFIG)
    begin = settings.get("bos_token", "<bos>")
    prompt = {
        "image": "<image>",
        "begin": begin.get("content") if isinstance(begin, dict) else begin,
        "text_tokens": TEXT_TOKENS,
        "vocabulary": _count(path, text, "vocab_size", 257152),
    }
    try:
        known = Prompt(tokenizer, {**prompt, "image_tokens": image_tokens}).image_token
    except (ValueError, PhysaiError) as error:
        raise HuggingFaceError(f"{path}: {error}; save the processor with the model") from error
    wanted = vlm.get("image_token_id", vlm.get("image_token_index", 257152))
    if known != wanted:
        raise HuggingFaceError(f"{path / TOKENIZER}: <image> is token {known}, {CONFIG} says {shown(wanted)}")
    return PretrainedCheckpoint(
        path, "pi0", config, state, action, rows, noise_columns,
        _images(path, processor, image_size, image_tokens), image_tokens, prompt, tokenizer,
    )  # fmt: skip


def _images(path: Path, processor: Mapping[str, Any], image_size: int, image_tokens: int) -> dict[str, Any]:
    """What is done to images, which is a part of processor_config.json, or a file of its own in older checkpoints."""
    where = path / (PROCESSOR if "image_processor" in processor else IMAGE_PROCESSOR)
    found = processor.get("image_processor")
    if found is None:
        if not where.is_file():
            raise HuggingFaceError(f"{path}: has no {IMAGE_PROCESSOR}, and {PROCESSOR} no image_processor")
        found = _json(where)
    if not isinstance(found, dict):
        raise HuggingFaceError(f"{where}: image_processor must be a mapping, got {shown(found)}")
    given = {key: value for key, value in found.items() if key in _IMAGE_DEFAULTS and value is not None}
    settings = {**_IMAGE_DEFAULTS, **given}
    for key, value in {
        **{name: value for name, value in _IMAGE_DEFAULTS.items() if name.startswith("do_")},
        "resample": 3,
        "image_seq_length": image_tokens,
        "pad_size": {"height": image_size, "width": image_size},
    }.items():
        if settings[key] != value:
            raise HuggingFaceError(
                f"{where}: {key} is {shown(settings[key])}; only {value} is known for this model"
            )
    size = (
        [settings["size"].get(key) for key in ("max_height", "max_width")]
        if isinstance(settings["size"], dict)
        else []
    )
    if not size or not all(type(value) is int and 0 < value <= image_size for value in size):
        raise HuggingFaceError(
            f"{where}: size must be max_height and max_width of at most {image_size}, got {shown(settings['size'])}"
        )
    factor = settings["rescale_factor"]
    if not isinstance(factor, int | float) or abs(255 * factor - 1) > 1e-6:
        raise HuggingFaceError(f"{where}: rescale_factor is {shown(factor)}; only 1/255 is known")
    mean, std = (_numbers(where, settings, key) for key in ("image_mean", "image_std"))
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise HuggingFaceError(f"{where}: image_mean and image_std must be 3 numbers each, std above 0")
    return {"size": size, "padded": [image_size, image_size], "mean": list(mean), "std": list(std)}


ARCHITECTURES = {"pi0": _pi0}

# Values ----------------------------------------------------------------------------------------------------


def _part(path: Path, document: Mapping[str, Any], key: str) -> dict[str, Any]:
    part = document.get(key)
    if not isinstance(part, dict):
        raise HuggingFaceError(f"{path / CONFIG}: {key} is missing or no mapping")
    return part


def _count(where: Path, document: Mapping[str, Any], key: str, default: int) -> int:
    value = document.get(key, default)
    if type(value) is not int or not 0 < value <= 1_000_000:
        raise HuggingFaceError(f"{where}: {key} must be a whole number above 0, got {shown(value)}")
    return value


def _numbers(where: Path, document: Mapping[str, Any], key: str) -> tuple[float, ...]:
    values = document.get(key)
    if not isinstance(values, list) or not values:
        raise HuggingFaceError(
            f"{where}: {key} is missing: without it nobody knows what the network's numbers mean"
        )
    if any(
        isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value)
        for value in values
    ):
        raise HuggingFaceError(f"{where}: {key} must be finite numbers")
    return tuple(float(value) for value in values)


def _statistics(where: Path, processor: Mapping[str, Any], name: str, most: int) -> Statistics:
    mean, std = (_numbers(where, processor, f"{name}_{key}") for key in ("mean", "std"))
    if len(mean) != len(std) or len(mean) > most or min(std) < 0:
        raise HuggingFaceError(
            f"{where}: {name}_mean and {name}_std must be as many numbers, at most {most}, and std not below 0; "
            f"got {len(mean)} and {len(std)}"
        )
    if not any(mean) and set(std) == {1.0}:
        raise HuggingFaceError(
            f"{where}: normalization of {name} is inert: all means are 0 and all standard deviations 1. Save the "
            "processor with the statistics of the data that the model was trained on"
        )
    return Statistics(mean, tuple(value + EPSILON for value in std))
