"""Residual networks for images (He et al., arXiv 1512.03385), with torchvision's names of weights, without torchvision."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

# Blocks of each stage, and whether they are of three convolutions.
DEPTHS = {
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
    "resnet101": ((3, 4, 23, 3), True),
    "resnet152": ((3, 8, 36, 3), True),
}
WIDTHS = (64, 128, 256, 512)
Norm = Callable[[int], nn.Module]


class FrozenBatchNorm(nn.Module):
    """Batch normalization by four stored vectors, which training left as they were."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) → the same."""
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        return x * scale[:, None, None] + (self.bias - self.running_mean * scale)[:, None, None]


class Block(nn.Module):
    """Two convolutions of 3 × 3, or 1 × 1, 3 × 3, 1 × 1, beside a way past them."""

    def __init__(self, inputs: int, width: int, stride: int, dilation: int, deep: bool, norm: Norm) -> None:
        super().__init__()
        outputs = width * 4 if deep else width
        middle = {"kernel_size": 3, "padding": dilation, "dilation": dilation, "bias": False}
        if deep:
            self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), norm(width)
            self.conv2, self.bn2 = nn.Conv2d(width, width, stride=stride, **middle), norm(width)
            self.conv3, self.bn3 = nn.Conv2d(width, outputs, 1, bias=False), norm(outputs)
        else:
            self.conv1, self.bn1 = nn.Conv2d(inputs, width, stride=stride, **middle), norm(width)
            self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), norm(width)
        self.deep = deep
        self.downsample = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs))
            if stride != 1 or inputs != outputs
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) → (B, C', h', w')."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.deep:
            y = self.bn3(self.conv3(torch.relu(y)))
        return torch.relu(y + self.downsample(x))


def resnet(name: str, norm: Norm, dilate_last: bool = False) -> tuple[dict[str, nn.Module], int]:
    """The layers up to the last feature map, by torchvision's names and in order, and the channels of that map.

    `dilate_last`: the last stage keeps the resolution and spreads its convolutions instead.
    """
    depths, deep = DEPTHS[name]
    layers: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        "bn1": norm(64),
        "relu": nn.ReLU(),
        "maxpool": nn.MaxPool2d(3, 2, 1),
    }
    channels = 64
    for stage, (depth, width) in enumerate(zip(depths, WIDTHS, strict=True)):
        dilate = dilate_last and stage == 3
        blocks = []
        for index in range(depth):
            stride = 2 if index == 0 and stage > 0 and not dilate else 1
            blocks.append(Block(channels, width, stride, 2 if dilate and index > 0 else 1, deep, norm))
            channels = width * 4 if deep else width
        layers[f"layer{stage + 1}"] = nn.Sequential(*blocks)
    return layers, channels


class Pixels(nn.Module):
    """Bytes of a camera as the networks want them, LeRobot's way: to 0…1, channels first, normalized."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", std.reshape(3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """(B, h, w, 3) uint8 RGB → (B, 3, h, w) float32."""
        return (image.permute(0, 3, 1, 2).to(torch.float32) / 255.0 - self.mean) / self.std
