"""Diffusion policy (Chi et al., arXiv 2303.04137) at inference, with the weights' names of LeRobot's.

Three parts: `Conditioning` turns observations into one vector, `Step` takes one denoising step, `looped` ties their exported
graphs together by an ONNX `Loop`, so that a hundred steps are as small a graph as one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from physai_lab.importing.lerobot.checkpoint import DiffusionSettings, Feature
from physai_lab.importing.lerobot.network_act import pixels_of
from physai_lab.importing.lerobot.network_resnet import resnet


class SpatialSoftmax(nn.Module):
    """Where in the image each keypoint is (Finn et al., arXiv 1509.06113): the mean place under a softmax."""

    def __init__(self, channels: int, height: int, width: int, keypoints: int) -> None:
        super().__init__()
        self.nets = nn.Conv2d(channels, keypoints, 1)
        self.register_buffer("pos_grid", torch.zeros(height * width, 2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) → (B, 2 · keypoints): x and y in -1…1."""
        return (self.nets(x).flatten(2).softmax(-1) @ self.pos_grid).flatten(1)


class Resize(nn.Module):
    """Bilinear with antialiasing, as two products with constant matrices: it is linear in rows and in columns."""

    def __init__(self, before: Sequence[int], after: Sequence[int]) -> None:
        super().__init__()
        for name, source, target in zip(("rows", "columns"), before, after, strict=True):
            size = (source, target)  # each row of the unit matrix is one unit vector to be resized
            matrix = functional.interpolate(
                torch.eye(source)[None, None], size, mode="bilinear", antialias=True
            )
            self.register_buffer(name, matrix[0, 0], persistent=False)  # (source, target)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) → (B, C, h', w')."""
        return self.rows.t() @ (x @ self.columns)


class ImageEncoder(nn.Module):
    """One camera's image to a vector."""

    def __init__(self, settings: DiffusionSettings, shape: Sequence[int]) -> None:
        super().__init__()
        keypoints = settings.spatial_softmax_num_keypoints
        height, width = shape
        self.resize: nn.Module = nn.Identity()
        if settings.resize_shape:
            self.resize = Resize(shape, settings.resize_shape)
            height, width = settings.resize_shape
        crop = settings.crop or (height, width)
        self.top, self.left = round((height - crop[0]) / 2), round((width - crop[1]) / 2)
        self.crop = crop
        norm = (lambda n: nn.GroupNorm(n // 16, n)) if settings.use_group_norm else nn.BatchNorm2d
        layers, channels = resnet(settings.vision_backbone, norm)
        self.backbone = nn.Sequential(*layers.values())
        self.backbone.eval()
        with torch.no_grad():
            rows, columns = self.backbone(torch.zeros(1, 3, *crop)).shape[2:]
        self.pool = SpatialSoftmax(channels, rows, columns, keypoints)
        self.out = nn.Linear(2 * keypoints, 2 * keypoints)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, h, w) → (B, 2 · keypoints)."""
        x = self.resize(x)[:, :, self.top : self.top + self.crop[0], self.left : self.left + self.crop[1]]
        return torch.relu(self.out(self.pool(self.backbone(x))))


class Convolution(nn.Module):
    """Along time, normalized in groups."""

    def __init__(self, inputs: int, outputs: int, size: int, groups: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv1d(inputs, outputs, size, padding=size // 2), nn.GroupNorm(groups, outputs), nn.Mish()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) → (B, C', T)."""
        return self.block(x)


class Residual(nn.Module):
    """Two convolutions beside a way past them; between them the condition shifts, and may scale, each channel."""

    def __init__(self, settings: DiffusionSettings, inputs: int, outputs: int, condition: int) -> None:
        super().__init__()
        size, groups = settings.kernel_size, settings.n_groups
        self.scales, self.outputs = settings.use_film_scale_modulation, outputs
        self.conv1 = Convolution(inputs, outputs, size, groups)
        self.cond_encoder = nn.Sequential(
            nn.Mish(), nn.Linear(condition, outputs * (2 if self.scales else 1))
        )
        self.conv2 = Convolution(outputs, outputs, size, groups)
        self.residual_conv = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, C, T) → (B, C', T)."""
        modulation = self.cond_encoder(condition)[..., None]
        y = self.conv1(x)
        if self.scales:
            y = modulation[:, : self.outputs] * y + modulation[:, self.outputs :]
        else:
            y = y + modulation
        return self.conv2(y) + self.residual_conv(x)


class UNet(nn.Module):
    """The denoising network: halves time and doubles channels, and back, with what was before halving beside."""

    def __init__(self, settings: DiffusionSettings, actions: int, condition: int) -> None:
        super().__init__()
        widths, embedding = settings.down_dims, settings.diffusion_step_embed_dim
        self.diffusion_step_encoder = nn.Sequential(
            nn.Identity(),  # the sines and cosines of `step_encoding`
            nn.Linear(embedding, embedding * 4), nn.Mish(), nn.Linear(embedding * 4, embedding),
        )  # fmt: skip

        def level(inputs: int, outputs: int, between: nn.Module) -> nn.ModuleList:
            total = embedding + condition
            return nn.ModuleList(
                [
                    Residual(settings, inputs, outputs, total),
                    Residual(settings, outputs, outputs, total),
                    between,
                ]
            )

        pairs, last = list(zip((actions, *widths), widths, strict=False)), len(widths) - 1
        self.down_modules = nn.ModuleList(
            level(before, after, nn.Conv1d(after, after, 3, 2, 1) if index < last else nn.Identity())
            for index, (before, after) in enumerate(pairs)
        )
        self.mid_modules = nn.ModuleList(level(widths[-1], widths[-1], nn.Identity())[:2])
        # One level fewer than on the way down, so the last of these still doubles time.
        self.up_modules = nn.ModuleList(
            level(2 * after, before, nn.ConvTranspose1d(before, before, 4, 2, 1))
            for before, after in pairs[:0:-1]
        )
        self.final_conv = nn.Sequential(
            Convolution(widths[0], widths[0], settings.kernel_size, groups=8),  # whatever n_groups says
            nn.Conv1d(widths[0], actions, 1),
        )

    def forward(self, sample: Tensor, encoding: Tensor, condition: Tensor) -> Tensor:
        """(B, T, actions) at a step's encoding (1, E) → the same."""
        step = self.diffusion_step_encoder(encoding).expand(sample.shape[0], -1)
        condition = torch.cat((step, condition), dim=1)
        x, skipped = sample.transpose(1, 2), []
        for first, second, down in self.down_modules:
            x = second(first(x, condition), condition)
            skipped.append(x)
            x = down(x)
        for module in self.mid_modules:
            x = module(x, condition)
        for first, second, up in self.up_modules:
            x = up(second(first(torch.cat((x, skipped.pop()), dim=1), condition), condition))
        return self.final_conv(x).transpose(1, 2)


class DiffusionNetwork(nn.Module):
    """All that has weights."""

    def __init__(self, settings: DiffusionSettings, inputs: Sequence[Feature], actions: int) -> None:
        super().__init__()
        cameras = [feature for feature in inputs if feature.kind == "VISUAL"]
        size = sum(feature.shape[0] for feature in inputs if feature.kind != "VISUAL")
        if cameras:
            size += 2 * settings.spatial_softmax_num_keypoints * len(cameras)
            shape = cameras[0].shape[1:]
            if settings.use_separate_rgb_encoder_per_camera:
                self.rgb_encoder: nn.Module = nn.ModuleList(ImageEncoder(settings, shape) for _ in cameras)
            else:
                self.rgb_encoder = ImageEncoder(settings, shape)
        self.condition_size = size * settings.n_obs_steps
        self.unet = UNet(settings, actions, self.condition_size)


class Conditioning(nn.Module):
    """Observations, in the order of `inputs`, each with `n_obs_steps` moments, to one vector."""

    def __init__(self, network: DiffusionNetwork, inputs: Sequence[Feature]) -> None:
        super().__init__()
        self.network, self.kinds = network, [feature.kind for feature in inputs]
        self.pixels = nn.ModuleList(pixels_of(feature) for feature in inputs if feature.kind == "VISUAL")

    def forward(self, *inputs: Tensor) -> Tensor:
        """(B, moments, D) numbers and (B, moments, h, w, 3) images → (B, condition_size)."""
        of = {kind: value for kind, value in zip(self.kinds, inputs, strict=True) if kind != "VISUAL"}
        parts = [of["STATE"]]
        images = [value for kind, value in zip(self.kinds, inputs, strict=True) if kind == "VISUAL"]
        for index, image in enumerate(images):
            encoder = self.network.rgb_encoder
            encoder = encoder[index] if isinstance(encoder, nn.ModuleList) else encoder
            features = encoder(self.pixels[index](image.flatten(0, 1)))
            parts.append(features.unflatten(0, (-1, image.shape[1])))
        if "ENV" in of:
            parts.append(of["ENV"])
        return torch.cat(parts, dim=-1).flatten(1)


class Step(nn.Module):
    """One denoising step; what changes from step to step comes in as numbers."""

    def __init__(self, network: DiffusionNetwork, settings: DiffusionSettings) -> None:
        super().__init__()
        self.unet, self.settings = network.unet, settings

    def forward(
        self,
        sample: Tensor,
        condition: Tensor,
        encoding: Tensor,
        numbers: Tensor,
        noise: Tensor | None = None,
    ) -> Tensor:
        """(B, T, actions) → the same, less noisy. `numbers` (1, 6) is a row of `schedule`; `noise` (B, 1, T, actions)."""
        signal, spread, of_clean, of_sample, of_noise, of_new = numbers.split(1, dim=1)
        output = self.unet(sample, encoding, condition)
        if self.settings.prediction_type == "epsilon":
            clean, found = (sample - spread * output) / signal, output
        else:
            clean, found = output, (sample - signal * output) / spread
        if self.settings.clip_sample:
            reach = self.settings.clip_sample_range
            clean = clean.clamp(-reach, reach)
        result = of_clean * clean + of_sample * sample
        if noise is None:
            return result + of_noise * found
        return result + of_new * noise[:, 0]


def schedule(settings: DiffusionSettings) -> tuple[np.ndarray, np.ndarray]:
    """Timesteps (N,) and their numbers (N, 6), as diffusers' DDPM and DDIM schedulers with LeRobot's settings have them.

    A row: square roots of the cumulative α and of 1 - α; then what the clean sample, the noisy one, the noise found and
    new noise count for in the next. float32 in the same order as there, where the first steps divide by very small α.
    """
    count, kind = settings.num_train_timesteps, settings.beta_schedule
    if kind == "squaredcos_cap_v2":
        level = [math.cos((t / count + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(count + 1)]
        beta = torch.tensor([min(1 - b / a, 0.999) for a, b in itertools.pairwise(level)])
    elif kind == "linear":
        beta = torch.linspace(settings.beta_start, settings.beta_end, count)
    else:
        beta = torch.linspace(settings.beta_start**0.5, settings.beta_end**0.5, count) ** 2
    alphas = torch.cumprod(1.0 - beta, dim=0)
    stride, one = count // settings.steps, torch.tensor(1.0)
    times = (np.arange(settings.steps) * stride)[::-1].copy()
    rows = []
    for t in times:
        alpha, before = alphas[t], alphas[t - stride] if t >= stride else one
        if settings.noise_scheduler_type == "DDIM":
            row = [before**0.5, torch.tensor(0.0), (1 - before) ** 0.5, torch.tensor(0.0)]
        else:
            kept = alpha / before
            variance = torch.clamp((1 - before) / (1 - alpha) * (1 - kept), min=1e-20)
            row = [
                before**0.5 * (1 - kept) / (1 - alpha), kept**0.5 * (1 - before) / (1 - alpha), torch.tensor(0.0),
                variance**0.5 if t > 0 else torch.tensor(0.0),
            ]  # fmt: skip
        rows.append(torch.stack([alpha**0.5, (1 - alpha) ** 0.5, *row]))
    return times, torch.stack(rows).numpy()


def step_encoding(times: np.ndarray, size: int) -> np.ndarray:
    """(N, size) float32: sines and cosines of each timestep."""
    half = size // 2
    frequency = torch.exp(torch.arange(half) * -(math.log(10000) / (half - 1)))
    angle = torch.from_numpy(times)[:, None] * frequency[None]
    return torch.cat((angle.sin(), angle.cos()), dim=-1).numpy()


class NoiseSampler(nn.Module):
    """The whole policy in torch, to check the exported graph with."""

    def __init__(self, condition: Conditioning, step: Step) -> None:
        super().__init__()
        settings = step.settings
        self.condition, self.step = condition, step
        times, numbers = schedule(settings)
        self.register_buffer("numbers", torch.from_numpy(numbers), persistent=False)
        encoding = step_encoding(times, settings.diffusion_step_embed_dim)
        self.register_buffer("encodings", torch.from_numpy(encoding), persistent=False)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Observations, then noise (B, T, actions), then for DDPM the steps' noise (B, N, T, actions) → the chunk."""
        settings = self.step.settings
        observations = inputs[: len(self.condition.kinds)]
        sample, *more = inputs[len(observations) :]
        condition = self.condition(*observations)
        for k in range(settings.steps):
            noise = [value[:, k : k + 1] for value in more]
            sample = self.step(sample, condition, self.encodings[k : k + 1], self.numbers[k : k + 1], *noise)
        first = settings.n_obs_steps - 1
        return sample[:, first : first + settings.n_action_steps]


def looped(condition: bytes, step: bytes, sampler: NoiseSampler) -> bytes:
    """One graph out of those of `Conditioning` and `Step`: the first, then the second in a loop, then the steps to act on."""
    import onnx
    from onnx import TensorProto, compose, helper, numpy_helper

    settings = sampler.step.settings
    whole = onnx.load_from_string(condition)
    body = compose.add_prefix(
        onnx.load_from_string(step), "step/", rename_inputs=False, rename_outputs=False
    ).graph
    sample = next(value for value in body.input if value.name == "sample")
    fresh = [value for value in body.input if value.name == "step_noise_now"]

    def row(source: str, target: str, axis: int) -> Any:
        return helper.make_node("Gather", [source, "step/row"], [target], axis=axis)

    nodes = [
        helper.make_node("Reshape", ["step/number", "one"], ["step/row"]),
        row("encodings", "encoding", 0),
        row("numbers", "numbers_now", 0),
        *(row("step_noise", value.name, 1) for value in fresh),
        *body.node,
        helper.make_node("Identity", ["step/going_on"], ["step/go_on"]),
    ]
    loop_body = helper.make_graph(
        nodes, "denoise",
        [
            helper.make_tensor_value_info("step/number", TensorProto.INT64, []),
            helper.make_tensor_value_info("step/going_on", TensorProto.BOOL, []),
            sample,
        ],
        [helper.make_tensor_value_info("step/go_on", TensorProto.BOOL, []), body.output[0]],
    )  # fmt: skip
    first = settings.n_obs_steps - 1
    constants = {
        "one": np.array([1], np.int64), "steps": np.array(settings.steps, np.int64), "always": np.array(True),
        "encodings": sampler.encodings.numpy(), "numbers": sampler.numbers.numpy(),
        "first": np.array([first], np.int64), "end": np.array([first + settings.n_action_steps], np.int64),
    }  # fmt: skip
    graph = whole.graph
    graph.initializer.extend(body.initializer)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    size = [value.dim_value for value in sample.type.tensor_type.shape.dim][1:]
    float32 = TensorProto.FLOAT
    graph.input.append(helper.make_tensor_value_info("noise", float32, ["batch", *size]))
    if fresh:
        graph.input.append(
            helper.make_tensor_value_info("step_noise", float32, ["batch", settings.steps, *size])
        )
    graph.node.extend(
        [
            helper.make_node("Loop", ["steps", "always", "noise"], ["trajectory"], body=loop_body),
            helper.make_node("Slice", ["trajectory", "first", "end", "one"], ["action"]),
        ]
    )
    del graph.output[:]
    graph.output.append(
        helper.make_tensor_value_info("action", float32, ["batch", settings.n_action_steps, size[1]])
    )
    onnx.checker.check_model(whole)
    return bytes(whole.SerializeToString())
