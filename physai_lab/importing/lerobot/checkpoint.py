"""A checkpoint directory of LeRobot as values: what the policy sees, its settings, normalization and weights.

Two layouts are read. Since LeRobot 0.4 normalization stands in `policy_preprocessor.json` and
`policy_postprocessor.json` with their safetensors; before, in buffers inside `model.safetensors`. LeRobot passes on
data unchanged where a statistic is missing; here that is an error, because it shows on the robot alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from physai_base.errors import PhysaiError, shown
from physai_lab.importing.foreign_files import PICKLED, pickle_advice, read_json

CONFIG, MODEL = "config.json", "model.safetensors"
PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"
STATE, ENVIRONMENT, ACTION = "observation.state", "observation.environment_state", "action"
TYPES = ("act", "diffusion")

EPSILON = 1e-8  # LeRobot's, added to a standard deviation and put for a range of zero
RANGES = {"MIN_MAX": ("min", "max"), "QUANTILES": ("q01", "q99"), "QUANTILE10": ("q10", "q90")}
"""Normalization to -1…1: mode → statistics at the ends."""
MODES = ("IDENTITY", "MEAN_STD", *RANGES)

_STATE_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\.safetensors")
# Fields of LeRobot's base class and of training, which change nothing about what the trained network computes.
_IGNORED = {
    "type", "device", "use_amp", "push_to_hub", "repo_id", "private", "tags", "license", "pretrained_path",
    "pretrained_revision", "input_features", "output_features", "normalization_mapping", "use_peft",
    "pretrained_backbone_weights", "dropout", "kl_weight", "temporal_ensemble_coeff", "n_vae_encoder_layers", "use_vae",
    "optimizer_lr", "optimizer_weight_decay", "optimizer_lr_backbone", "optimizer_betas", "optimizer_eps",
    "scheduler_name", "scheduler_warmup_steps", "do_mask_loss_for_padding", "drop_n_last_frames", "crop_is_random",
    "compile_model", "compile_mode", "gradient_checkpointing",
}  # fmt: skip


class LeRobotError(PhysaiError):
    """A checkpoint that cannot be imported; the message says what was found, what is needed and what to do."""


@dataclass(frozen=True)
class Normalization:
    """(value - mean) / std, along the last axis of numbers and over the channels of an image."""

    mean: np.ndarray  # (D,) float64, or (3,) for images in 0…1
    std: np.ndarray


@dataclass(frozen=True)
class Feature:
    """One thing that the policy is given or gives."""

    name: str
    kind: str  # LeRobot's: STATE, ENV, VISUAL or ACTION
    shape: tuple[int, ...]  # (D,), or (3, h, w)
    normalization: Normalization | None  # None: the checkpoint says that it goes in as it is


@dataclass(frozen=True)
class ActSettings:
    """ACT's network (LeRobot's ACTConfig)."""

    chunk_size: int
    vision_backbone: str
    replace_final_stride_with_dilation: bool
    pre_norm: bool
    dim_model: int
    n_heads: int
    dim_feedforward: int
    feedforward_activation: str
    n_encoder_layers: int
    n_decoder_layers: int
    latent_dim: int
    n_action_steps: int
    n_obs_steps: int = 1


@dataclass(frozen=True)
class DiffusionSettings:
    """The diffusion policy's network and sampler (LeRobot's DiffusionConfig)."""

    n_obs_steps: int
    horizon: int
    n_action_steps: int
    vision_backbone: str
    use_group_norm: bool
    spatial_softmax_num_keypoints: int
    use_separate_rgb_encoder_per_camera: bool
    down_dims: tuple[int, ...]
    kernel_size: int
    n_groups: int
    diffusion_step_embed_dim: int
    use_film_scale_modulation: bool
    noise_scheduler_type: str
    num_train_timesteps: int
    beta_schedule: str
    beta_start: float
    beta_end: float
    prediction_type: str
    clip_sample: bool
    clip_sample_range: float
    num_inference_steps: int | None
    crop_shape: tuple[int, int] | None = None
    resize_shape: tuple[int, int] | None = None
    crop_ratio: float = 1.0

    @property
    def steps(self) -> int:
        """Denoising steps of one inference."""
        return self.num_inference_steps or self.num_train_timesteps

    @property
    def crop(self) -> tuple[int, int] | None:
        """Height and width that the networks see of a (resized) image; None: all of it."""
        if self.resize_shape is None:
            return self.crop_shape
        if self.crop_ratio == 1.0:
            return None
        height, width = self.resize_shape
        return int(height * self.crop_ratio), int(width * self.crop_ratio)


@dataclass(frozen=True)
class LeRobotCheckpoint:
    """What a checkpoint directory says, checked; the weights are those of the network alone."""

    path: Path
    kind: str  # act, diffusion
    settings: ActSettings | DiffusionSettings
    inputs: tuple[Feature, ...]  # in the order in which the network takes them: state, environment, cameras
    action: Feature
    weights: dict[str, np.ndarray]
    licence: str
    digest: str  # SHA-256 of model.safetensors

    @staticmethod
    def read(path: Path) -> LeRobotCheckpoint:
        """Read and check a directory.

        Raises:
            LeRobotError: it is none, or holds something that would be computed differently here.
        """
        _check_directory(path)
        document = _json(path / CONFIG)
        kind = document.get("type")
        if kind not in TYPES:
            raise LeRobotError(
                f"{path / CONFIG}: type is {shown(kind)}; {' and '.join(TYPES)} can be imported"
                + (
                    ""
                    if kind
                    else ". Checkpoints of 2024 have no type: load and save them with a newer LeRobot"
                )
            )
        if document.get("use_peft"):
            raise LeRobotError(
                f"{path}: holds an adapter (use_peft); merge it into the model with LeRobot first"
            )
        settings = _settings(path, ActSettings if kind == "act" else DiffusionSettings, document)
        features = {
            **_features(path, document, "input_features"),
            **_features(path, document, "output_features"),
        }
        tensors, digest = _weights(path / MODEL)
        buffers = {name for name in tensors if name.startswith(("normalize_", "unnormalize_"))}
        found = _Normalizers(path, document, features, {name: tensors.pop(name) for name in buffers})
        prefix = "model." if kind == "act" else "diffusion."
        checkpoint = LeRobotCheckpoint(
            path=path,
            kind=kind,
            settings=settings,
            inputs=tuple(
                Feature(name, what, shape, found.input(name))
                for name, (what, shape) in sorted(features.items(), key=lambda item: _ORDER[item[1][0]])
                if what != "ACTION"
            ),
            action=Feature(ACTION, "ACTION", features[ACTION][1], found.output(ACTION)),
            weights=_network_weights(path, tensors, prefix),
            licence=str(document.get("license") or "not stated by the checkpoint"),
            digest=digest,
        )
        _check_settings(checkpoint)
        return checkpoint


_ORDER = {
    "STATE": 0,
    "ENV": 1,
    "VISUAL": 2,
    "ACTION": 3,
}  # sorted() keeps the cameras in the order of the file


def _check_directory(path: Path) -> None:
    if path.suffix in PICKLED:
        raise LeRobotError(f"{path}: {_pickle_advice([path.name])}")
    if not path.is_dir():
        raise LeRobotError(
            f"{path}: no such directory; give the one that holds {CONFIG} and {MODEL}. For a repository of the hub, "
            "download it first"
        )
    if (path / "pretrained_model" / CONFIG).is_file():
        raise LeRobotError(f"{path}: the checkpoint is the folder inside; give {path / 'pretrained_model'}")
    missing = [name for name in (CONFIG, MODEL) if not (path / name).is_file()]
    pickled = sorted(entry.name for entry in path.iterdir() if entry.suffix in PICKLED)
    if MODEL in missing and pickled:
        raise LeRobotError(f"{path}: has no {MODEL}, but {_pickle_advice(pickled)}")
    if missing:
        raise LeRobotError(f"{path}: has no {' and no '.join(missing)}; it is no checkpoint of LeRobot")


def _pickle_advice(names: list[str]) -> str:
    return pickle_advice(names, MODEL, "the LeRobot that made it")


def _json(path: Path) -> dict[str, Any]:
    return read_json(path, LeRobotError)


def _safetensors(path: Path) -> tuple[dict[str, np.ndarray], bytes]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        data = path.read_bytes()
    except OSError as error:
        raise LeRobotError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        return load(data), data
    except (SafetensorError, KeyError, ValueError) as error:  # KeyError: a type that numpy has not
        if data[:2] == b"PK" or data[:1] == b"\x80":
            raise LeRobotError(
                f"{path}: is no safetensors file in spite of its name. {_pickle_advice([path.name])}"
            ) from error
        raise LeRobotError(
            f"{path}: is not a safetensors file of numbers that numpy knows (not bfloat16): {error}"
        ) from error


def _weights(path: Path) -> tuple[dict[str, np.ndarray], str]:
    tensors, data = _safetensors(path)
    return tensors, hashlib.sha256(data).hexdigest()


def _network_weights(path: Path, tensors: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Those of the network, by their names in it; `torch.compile` leaves its mark in names."""
    foreign = [name for name in tensors if not name.startswith(prefix)]
    if foreign:
        raise LeRobotError(f"{path / MODEL}: has weights that are not the network's: {_listed(foreign)}")
    weights = {name.removeprefix(prefix).replace("._orig_mod", ""): value for name, value in tensors.items()}
    broken = [name for name, value in weights.items() if not np.isfinite(value).all()]
    if broken:
        raise LeRobotError(f"{path / MODEL}: holds numbers that are not finite: {_listed(broken)}")
    # The variational encoder is for training; at inference the latent is zero.
    return {
        name: value.astype(np.float32) if value.dtype.kind == "f" else value
        for name, value in weights.items()
        if not name.startswith("vae_encoder")
    }


def _settings(path: Path, kind: Any, document: Mapping[str, Any]) -> Any:
    fields = kind.__dataclass_fields__
    unknown = sorted(document.keys() - fields.keys() - _IGNORED)
    if unknown:
        raise LeRobotError(
            f"{path / CONFIG}: {', '.join(unknown)}: fields of a LeRobot that this physai does not know. They may change "
            "what the network computes; if you know that they do not, take them out of a copy of the file"
        )
    values = {}
    for name, field in fields.items():
        if name not in document:
            if field.default is field.default_factory:  # both missing: it has no default
                raise LeRobotError(f"{path / CONFIG}: has no {name}, which {kind.__name__} needs")
            continue
        value = tuple(document[name]) if isinstance(document[name], list) else document[name]
        if not _fits(value, str(field.type)):
            raise LeRobotError(f"{path / CONFIG}: {name} must be {field.type}, got {shown(document[name])}")
        values[name] = value
    return kind(**values)


def _fits(value: Any, kind: str) -> bool:
    if kind.endswith(" | None"):
        return value is None or _fits(value, kind.removesuffix(" | None"))
    if kind.startswith("tuple["):
        size = 2 if kind == "tuple[int, int]" else None
        return (
            isinstance(value, tuple)
            and all(_fits(entry, "int") for entry in value)
            and len(value) == (size or max(1, len(value)))
        )
    if kind == "bool":
        return isinstance(value, bool) or value in (0, 1)  # LeRobot saves one of them as an int
    if kind == "int":
        return type(value) is int and value > 0
    if kind == "float":
        return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))
    return isinstance(value, str)


def _features(path: Path, document: Mapping[str, Any], key: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name → kind and shape, of those that the networks here take."""
    try:
        found = {
            str(name): (str(entry["type"]), tuple(int(size) for size in entry["shape"]))
            for name, entry in document[key].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LeRobotError(
            f"{path / CONFIG}: {key} must map names to a type and a shape: {shown(error)}"
        ) from error
    allowed = {ACTION: "ACTION"} if key == "output_features" else {STATE: "STATE", ENVIRONMENT: "ENV"}
    for name, (kind, shape) in found.items():
        is_camera = key == "input_features" and kind == "VISUAL" and name.startswith("observation.image")
        if not is_camera and allowed.get(name) != kind:
            raise LeRobotError(
                f"{path / CONFIG}: {key}: {name} of type {kind} is not known; "
                f"{', '.join(allowed)}{'' if key == 'output_features' else ' and cameras named observation.image…'} are"
            )
        if (len(shape) != 3 or shape[0] != 3) if is_camera else len(shape) != 1:
            raise LeRobotError(
                f"{path / CONFIG}: {name}: a shape is [n], of a camera [3, height, width], got {list(shape)}"
            )
        if not all(1 <= size <= 8192 for size in shape):
            raise LeRobotError(f"{path / CONFIG}: {name}: sizes must be from 1 to 8192, got {list(shape)}")
    if key == "output_features" and ACTION not in found:
        raise LeRobotError(f"{path / CONFIG}: output_features has no {ACTION}")
    if key == "input_features" and not any(kind in ("ENV", "VISUAL") for kind, _ in found.values()):
        raise LeRobotError(f"{path / CONFIG}: has neither a camera nor {ENVIRONMENT} among input_features")
    return found


class _Normalizers:
    """Where a checkpoint keeps its normalization, and what that is for each feature."""

    def __init__(
        self,
        path: Path,
        document: Mapping[str, Any],
        features: Mapping[str, tuple[str, tuple[int, ...]]],
        buffers: dict[str, np.ndarray],
    ) -> None:
        self._path, self._features = path, features
        self._modes = self._checked_modes(document.get("normalization_mapping"), path / CONFIG)
        processors = [name for name in (PREPROCESSOR, POSTPROCESSOR) if (path / name).is_file()]
        if buffers and processors:
            raise LeRobotError(
                f"{path}: has normalization both in {MODEL} and in {processors[0]}, and only one was trained with; "
                "remove what LeRobot's migrate_policy_normalization.py left over"
            )
        if len(processors) == 1:
            lacks = POSTPROCESSOR if processors[0] == PREPROCESSOR else PREPROCESSOR
            raise LeRobotError(f"{path}: has {processors[0]} but no {lacks}; copy the whole checkpoint")
        if processors:
            self._inputs = self._from_processor(PREPROCESSOR, "normalizer_processor")
            self._outputs = self._from_processor(POSTPROCESSOR, "unnormalizer_processor")
        elif buffers:
            self._inputs = self._from_buffers(buffers, "normalize_inputs.buffer_")
            self._outputs = self._from_buffers(buffers, "unnormalize_outputs.buffer_")
        else:
            raise LeRobotError(
                f"{path}: the normalizer is missing: there is neither {PREPROCESSOR} nor buffers in {MODEL}. Without it "
                "the network would see numbers that it was not trained on; copy the whole checkpoint"
            )

    def input(self, name: str) -> Normalization | None:
        """What an observation goes through."""
        return self._of(name, self._inputs, inverse=False)

    def output(self, name: str) -> Normalization | None:
        """What undoes the action's normalization."""
        return self._of(name, self._outputs, inverse=True)

    def _checked_modes(self, found: Any, where: Path) -> dict[str, str]:
        if not isinstance(found, dict):
            raise LeRobotError(f"{where}: the normalization modes are missing or no mapping")
        for kind, mode in found.items():
            if mode not in MODES:
                raise LeRobotError(
                    f"{where}: normalization mode {shown(mode)} of {kind} is not known; there are: {', '.join(MODES)}"
                )
        needed = {kind for kind, _ in self._features.values()} - {"ENV"}  # LeRobot's default has none for ENV
        missing = sorted(needed - found.keys())
        if missing:
            raise LeRobotError(
                f"{where}: no normalization mode for {', '.join(missing)}: LeRobot would pass it on unchanged without a "
                "word. If it was trained so, say IDENTITY there"
            )
        return found

    def _from_processor(self, name: str, wanted: str) -> dict[str, np.ndarray]:
        """The statistics beside a processor's file, after checking that its steps are those that are mirrored here."""
        path, pre = self._path / name, name == PREPROCESSOR
        harmless = {"device_processor", "to_batch_processor", "rename_observations_processor"}
        steps = _json(path).get("steps")
        if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
            raise LeRobotError(f"{path}: has no list of steps")
        found: dict[str, Any] = {}
        for step in steps:
            kind, config = step.get("registry_name"), step.get("config", {})
            if kind == wanted and not found:
                found = step
            elif kind not in harmless:
                raise LeRobotError(
                    f"{path}: step {shown(kind or step.get('class'))} is not known or stands there twice; "
                    f"{wanted} and {', '.join(sorted(harmless))} are"
                )
            elif config.get("rename_map") or config.get("float_dtype") not in (None, "float32", "float"):
                raise LeRobotError(
                    f"{path}: step {kind} renames observations or changes their type ({shown(config)}), which is not "
                    "imported; say in --map which quantity is which, and take it out of a copy of the file"
                )
        if not found:
            raise LeRobotError(f"{path}: the normalizer is missing: no step {wanted}")
        config = found.get("config", {})
        self._check_step(path, config, pre)
        state = found.get("state_file")
        if state is None:
            return {}
        if not isinstance(state, str) or not _STATE_FILE.fullmatch(state):
            raise LeRobotError(
                f"{path}: state_file {shown(state)} must be the plain name of a .safetensors file"
            )
        return _safetensors(self._path / state)[0]

    def _check_step(self, path: Path, config: Mapping[str, Any], pre: bool) -> None:
        """The processor's own list of features and modes, which LeRobot goes by, must be the network's."""
        modes = self._checked_modes(config.get("norm_map"), path) if pre else config.get("norm_map", {})
        for name, (kind, shape) in self._features.items():
            if (kind == "ACTION") == pre:
                continue
            entry, chosen = config.get("features", {}).get(name), config.get("normalize_observation_keys")
            if entry is None or (chosen is not None and name not in chosen):
                raise LeRobotError(f"{path}: the normalizer is inert for {name}: it does not list it")
            if tuple(entry.get("shape", ())) != shape or entry.get("type") != kind:
                raise LeRobotError(
                    f"{path}: {name} is {shown(entry)} there, and {kind} {list(shape)} in {CONFIG}; these files are not "
                    "of the same checkpoint"
                )
            if modes.get(kind) != self._modes.get(kind):
                raise LeRobotError(
                    f"{path}: normalizes {kind} by {modes.get(kind)}, {CONFIG} says {self._modes.get(kind)}; these files "
                    "are not of the same checkpoint"
                )
        if config.get("eps", EPSILON) != EPSILON:
            raise LeRobotError(f"{path}: eps is {shown(config['eps'])}, {EPSILON:g} is known")

    def _from_buffers(self, buffers: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
        return {
            f"{name}.{statistic}": buffers[key]
            for name in self._features
            for statistic in ("mean", "std", "min", "max")
            if (key := f"{prefix}{name.replace('.', '_')}.{statistic}") in buffers
        }

    def _of(self, name: str, statistics: Mapping[str, np.ndarray], inverse: bool) -> Normalization | None:
        kind, shape = self._features[name]
        mode = self._modes.get(kind, "IDENTITY")
        if mode == "IDENTITY":
            return None
        names = ("mean", "std") if mode == "MEAN_STD" else RANGES[mode]
        first, second = (self._statistic(name, statistic, statistics, mode, shape[0]) for statistic in names)
        if mode == "MEAN_STD":
            if (second < 0).any() or not second.any() or (not first.any() and (second == 1).all()):
                raise LeRobotError(
                    f"{self._path}: the normalizer of {name} is inert: mean {shown(first[:4].tolist())}, std "
                    f"{shown(second[:4].tolist())} are no statistics of data. If it was trained without, say IDENTITY"
                )
            return Normalization(first, np.maximum(second, 1e-15) if inverse else second + EPSILON)
        width = second - first
        if (width < 0).any() or not width.any():
            raise LeRobotError(
                f"{self._path}: the normalizer of {name} is inert: {names[0]} is not below {names[1]}"
            )
        half = np.where(width == 0, EPSILON, width) / 2
        return Normalization(first + half, half)

    def _statistic(
        self, name: str, statistic: str, found: Mapping[str, np.ndarray], mode: str, size: int
    ) -> np.ndarray:
        key = f"{name}.{statistic}"
        if key not in found:
            raise LeRobotError(
                f"{self._path}: the normalizer of {name} is inert: its mode is {mode} and {key} is missing. LeRobot would "
                "pass it on unchanged; train or save the checkpoint again with the dataset's statistics"
            )
        value = found[key].astype(np.float64).reshape(-1)
        if value.size != size:
            raise LeRobotError(f"{self._path}: {key} has {value.size} numbers, {name} needs {size}")
        if not np.isfinite(value).all():
            raise LeRobotError(
                f"{self._path}: the normalizer of {name} is inert: {key} holds numbers that are not finite, which LeRobot "
                "starts from before statistics are put in"
            )
        return value


def _check_settings(checkpoint: LeRobotCheckpoint) -> None:
    """What LeRobot refuses, too, and what its code has a name for but cannot run."""
    where, settings = checkpoint.path / CONFIG, checkpoint.settings
    images = [feature for feature in checkpoint.inputs if feature.kind == "VISUAL"]
    backbones = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
    if settings.vision_backbone not in backbones:
        raise LeRobotError(
            f"{where}: vision_backbone must be one of {', '.join(backbones)}, got {settings.vision_backbone}"
        )

    def require(good: bool, text: str) -> None:
        if not good:
            raise LeRobotError(f"{where}: {text}")

    if isinstance(settings, ActSettings):
        require(settings.n_obs_steps == 1, f"n_obs_steps must be 1 for ACT, got {settings.n_obs_steps}")
        require(
            settings.feedforward_activation in ("relu", "gelu"),
            f"feedforward_activation must be relu or gelu, got {settings.feedforward_activation}",
        )
        require(
            settings.dim_model % settings.n_heads == 0 and settings.dim_model % 4 == 0,
            f"dim_model {settings.dim_model} must be a multiple of n_heads {settings.n_heads} and of 4",
        )
        require(
            not settings.replace_final_stride_with_dilation
            or settings.vision_backbone not in ("resnet18", "resnet34"),
            "replace_final_stride_with_dilation needs resnet50 or larger",
        )
        return
    require(
        any(feature.name == STATE for feature in checkpoint.inputs),
        f"a diffusion policy needs {STATE} as input",
    )
    require(
        len({feature.shape for feature in images}) <= 1,
        "the cameras of a diffusion policy must have one shape",
    )
    require(
        settings.horizon % 2 ** len(settings.down_dims) == 0,
        f"horizon {settings.horizon} must be a multiple of {2 ** len(settings.down_dims)} (2 ** len(down_dims))",
    )
    require(
        settings.n_action_steps <= settings.horizon - settings.n_obs_steps + 1,
        f"n_action_steps {settings.n_action_steps} must be at most horizon - n_obs_steps + 1 = "
        f"{settings.horizon - settings.n_obs_steps + 1}",
    )
    require(
        settings.steps <= settings.num_train_timesteps,
        f"num_inference_steps {settings.steps} must be at most num_train_timesteps {settings.num_train_timesteps}",
    )
    for name, value, allowed in (
        ("noise_scheduler_type", settings.noise_scheduler_type, ("DDPM", "DDIM")),
        ("prediction_type", settings.prediction_type, ("epsilon", "sample")),
        ("beta_schedule", settings.beta_schedule, ("squaredcos_cap_v2", "linear", "scaled_linear")),
    ):
        require(value in allowed, f"{name} must be one of {', '.join(allowed)}, got {value}")
    if images and settings.crop:
        height, width = settings.resize_shape or images[0].shape[1:]
        require(
            0 < settings.crop[0] <= height and 0 < settings.crop[1] <= width,
            f"the crop {list(settings.crop)} must fit into the images, {height} × {width}",
        )


def _listed(names: list[str]) -> str:
    return ", ".join(sorted(names)[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
