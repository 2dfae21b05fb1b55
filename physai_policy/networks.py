"""Networks of our own in torch: trained by `physai train`, run by the runtime `torch`. None of it imports torch before it is used."""

from __future__ import annotations

from typing import Any

from physai_base.bundle import Bundle
from physai_base.errors import BundleError


def velocity_field(inputs: int, horizon: int, width: int, blocks: int) -> Any:
    """The velocity field v(chunk, time | observation): a residual MLP."""
    import torch
    from torch import nn

    class VelocityField(nn.Module):
        """Residual MLP with observation and time concatenated to the flattened chunk."""

        def __init__(self) -> None:
            super().__init__()
            flat = horizon * 4
            self.first = nn.Linear(inputs + flat + 17, width)
            self.blocks = nn.ModuleList(
                nn.Sequential(
                    nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
                )
                for _ in range(blocks)
            )
            self.last = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, flat))
            self.register_buffer("frequencies", 2.0 ** torch.arange(8) * torch.pi / 2)

        def forward(self, observation: Any, chunk: Any, time: Any) -> Any:
            """Velocity (B, H, 4) at `chunk` (B, H, 4) and flow time (B, 1)."""
            angles = time * self.frequencies
            hidden = self.first(
                torch.cat([observation, chunk.flatten(1), time, torch.sin(angles), torch.cos(angles)], dim=1)
            )
            for block in self.blocks:
                hidden = hidden + block(hidden)
            return self.last(hidden).reshape(-1, horizon, 4)

    return VelocityField()


def sampler(network: Any, flow_steps: int) -> Any:
    """The network's ONNX form: noise to chunk by `flow_steps` Euler steps."""
    import torch
    from torch import nn

    class Sampler(nn.Module):
        """Integrates the velocity field from t = 0 (noise) to 1 (chunk)."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, observation: Any, noise: Any) -> Any:
            """Chunks (B, H, 4), normalized."""
            chunk = noise
            for step in range(flow_steps):
                time = torch.full_like(noise[:, :1, 0], step / flow_steps)
                chunk = chunk + self.network(observation, chunk, time) / flow_steps
            return chunk

    return Sampler()


def from_bundle(bundle: Bundle) -> Any:
    """The module that a bundle's graph was made of, from its safetensors; its arguments are the bundle's inputs in order.

    Raises:
        BundleError: the weights are not those of a network here.
    """
    import torch

    weights = bundle.weights()
    try:
        features, horizon = int(bundle.inputs[0].shape[-1]), int(bundle.config["horizon"])
        blocks = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
        network = velocity_field(features, horizon, len(weights["first.bias"]), blocks)
        network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in weights.items()})
        module = sampler(network, int(bundle.config["flow_steps"]))
    except (KeyError, ValueError, RuntimeError) as error:
        raise BundleError(
            f"{bundle.path}: its weights are not those of a network that physai has in torch ({error}); "
            "use the runtime onnx, which needs the graph alone"
        ) from error
    return module.eval()
