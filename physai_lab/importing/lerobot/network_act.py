"""Action chunking transformer (Zhao et al., arXiv 2304.13705) at inference, with the weights' names of LeRobot's.

Batch first, and the attention written out: the exported graph is then matrix products and softmax alone. What training
alone needs, the variational encoder and dropout, is left out; the latent is zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from physai_lab.importing.lerobot.checkpoint import ActSettings, Feature
from physai_lab.importing.lerobot.network_resnet import FrozenBatchNorm, Pixels, resnet


class Attention(nn.Module):
    """Scaled dot products over several heads, by the names of torch's MultiheadAttention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        self.heads, self.head = heads, width // heads

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(B, Q, D), (B, K, D), (B, K, D) → (B, Q, D)."""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (
            functional.linear(x, w, b).unflatten(-1, (self.heads, self.head)).transpose(1, 2)
            for x, w, b in zip((query, key, value), weights, biases, strict=True)
        )  # (B, heads, tokens, head)
        scores = (q / math.sqrt(self.head)) @ k.transpose(2, 3)
        return self.out_proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """What encoder and decoder layers share; a normalization stands before or after each part."""

    def __init__(self, settings: ActSettings, norms: int) -> None:
        super().__init__()
        width = settings.dim_model
        self.self_attn = Attention(width, settings.n_heads)
        self.linear1 = nn.Linear(width, settings.dim_feedforward)
        self.linear2 = nn.Linear(settings.dim_feedforward, width)
        for number in range(1, norms + 1):
            self.add_module(f"norm{number}", nn.LayerNorm(width))
        self.pre_norm = settings.pre_norm
        self.activation = torch.relu if settings.feedforward_activation == "relu" else functional.gelu

    def attend(self, x: Tensor, position: Tensor) -> Tensor:
        """Attention of the tokens to each other."""
        return self.self_attn(x + position, x + position, x)

    def feed_forward(self, x: Tensor) -> Tensor:
        """Each token by itself."""
        return self.linear2(self.activation(self.linear1(x)))


class EncoderLayer(Layer):
    """Attention among the observation's tokens."""

    def __init__(self, settings: ActSettings) -> None:
        super().__init__(settings, norms=2)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """(B, tokens, D) → the same."""
        if self.pre_norm:
            x = x + self.attend(self.norm1(x), position)
            return x + self.feed_forward(self.norm2(x))
        x = self.norm1(x + self.attend(x, position))
        return self.norm2(x + self.feed_forward(x))


class DecoderLayer(Layer):
    """Attention among the chunk's steps, and from them to the observation."""

    def __init__(self, settings: ActSettings) -> None:
        super().__init__(settings, norms=3)
        self.multihead_attn = Attention(settings.dim_model, settings.n_heads)

    def forward(self, x: Tensor, memory: Tensor, position: Tensor, memory_position: Tensor) -> Tensor:
        """(B, H, D) → the same."""

        def look(y: Tensor) -> Tensor:
            return self.multihead_attn(y + position, memory + memory_position, memory)

        if self.pre_norm:
            x = x + self.attend(self.norm1(x), position)
            x = x + look(self.norm2(x))
            return x + self.feed_forward(self.norm3(x))
        x = self.norm1(x + self.attend(x, position))
        x = self.norm2(x + look(x))
        return self.norm3(x + self.feed_forward(x))


class Encoder(nn.Module):
    """The encoder's layers."""

    def __init__(self, settings: ActSettings) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(settings) for _ in range(settings.n_encoder_layers))
        self.norm = nn.LayerNorm(settings.dim_model) if settings.pre_norm else nn.Identity()

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """(B, tokens, D) → the same."""
        for layer in self.layers:
            x = layer(x, position)
        return self.norm(x)


class Decoder(nn.Module):
    """The decoder's layers."""

    def __init__(self, settings: ActSettings) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(settings) for _ in range(settings.n_decoder_layers))
        self.norm = nn.LayerNorm(settings.dim_model)

    def forward(self, x: Tensor, memory: Tensor, position: Tensor, memory_position: Tensor) -> Tensor:
        """(B, H, D) → the same."""
        for layer in self.layers:
            x = layer(x, memory, position, memory_position)
        return self.norm(x)


def image_positions(height: int, width: int, size: int) -> Tensor:
    """(1, height · width, size): sines and cosines of row and column, which count from 1/n to 1 of a full turn."""
    frequency = 10000 ** (2 * (torch.arange(size // 2, dtype=torch.float32) // 2) / (size // 2))

    def along(count: int) -> Tensor:
        place = torch.ones(count).cumsum(0, dtype=torch.float32)
        angle = (place / (place[-1] + 1e-6) * 2 * math.pi)[:, None] / frequency
        return torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), dim=-1).flatten(
            1
        )  # (count, size / 2)

    rows = along(height)[:, None].expand(height, width, -1)
    columns = along(width)[None].expand(height, width, -1)
    return torch.cat((rows, columns), dim=-1).reshape(1, height * width, size)


class ActNetwork(nn.Module):
    """Normalized numbers and bytes of cameras, in the order of `inputs`, to a normalized chunk."""

    def __init__(self, settings: ActSettings, inputs: Sequence[Feature], actions: int) -> None:
        super().__init__()
        width = settings.dim_model
        self.kinds = [feature.kind for feature in inputs]
        cameras = [feature for feature in inputs if feature.kind == "VISUAL"]
        for feature in inputs:
            if feature.kind != "VISUAL":
                name = "robot" if feature.kind == "STATE" else "env"
                self.add_module(f"encoder_{name}_state_input_proj", nn.Linear(feature.shape[0], width))
        self.encoder_latent_input_proj = nn.Linear(settings.latent_dim, width)
        self.encoder_1d_feature_pos_embed = nn.Embedding(1 + len(inputs) - len(cameras), width)
        self.encoder, self.decoder = Encoder(settings), Decoder(settings)
        self.decoder_pos_embed = nn.Embedding(settings.chunk_size, width)
        self.action_head = nn.Linear(width, actions)
        if cameras:
            layers, channels = resnet(
                settings.vision_backbone, FrozenBatchNorm, bool(settings.replace_final_stride_with_dilation)
            )
            self.backbone = nn.Sequential()
            for name, layer in layers.items():
                self.backbone.add_module(name, layer)
            self.encoder_img_feat_input_proj = nn.Conv2d(channels, width, 1)
        self.pixels = nn.ModuleList()
        for index, camera in enumerate(cameras):
            self.pixels.append(pixels_of(camera))
            with torch.no_grad():
                height, wide = self.backbone(torch.zeros(1, *camera.shape)).shape[2:]
            self.register_buffer(f"positions{index}", image_positions(height, wide, width), persistent=False)
        self.latent = settings.latent_dim

    def forward(self, *inputs: Tensor) -> Tensor:
        """(B, D) numbers and (B, h, w, 3) images → (B, chunk_size, actions)."""
        batch = inputs[0].shape[0]
        tokens = [
            self.encoder_latent_input_proj(inputs[0].new_zeros(batch, self.latent, dtype=torch.float32))[
                :, None
            ]
        ]
        positions = [self.encoder_1d_feature_pos_embed.weight[None]]
        camera = 0
        for kind, value in zip(self.kinds, inputs, strict=True):
            if kind == "STATE":
                tokens.append(self.encoder_robot_state_input_proj(value)[:, None])
            elif kind == "ENV":
                tokens.append(self.encoder_env_state_input_proj(value)[:, None])
            else:
                features = self.backbone(self.pixels[camera](value))
                tokens.append(self.encoder_img_feat_input_proj(features).flatten(2).transpose(1, 2))
                positions.append(getattr(self, f"positions{camera}"))
                camera += 1
        position = torch.cat(positions, dim=1)
        memory = self.encoder(torch.cat(tokens, dim=1), position)
        steps = self.decoder_pos_embed.weight[None]
        return self.action_head(
            self.decoder(torch.zeros_like(steps).expand(batch, -1, -1), memory, steps, position)
        )


def pixels_of(camera: Feature) -> Pixels:
    """The camera's normalization as a module."""
    if camera.normalization is None:
        return Pixels(torch.zeros(3), torch.ones(3))
    return Pixels(
        torch.from_numpy(camera.normalization.mean).float(),
        torch.from_numpy(camera.normalization.std).float(),
    )
