"""Networks of our own in torch: trained by `physai train`, run by the runtime `torch`. None of it imports torch before it is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from physai_base.bundle import Bundle
from physai_base.errors import BundleError
from physai_base.features import FINE_SCALE_M, FINE_WIDTH_M
from physai_policy.policy import longest_prefix


def without_tf32() -> None:
    """A GPU's matrix products and convolutions in fp32 proper, as they are on the CPU: torch rounds those of cuDNN by default."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def anticipation(names: Sequence[str], dt_s: float, columns: int = 4) -> Any:
    """What the scene will look like from where the given steps end, out of features with these `names`.

    It is `physai_policy.observation.features` once more, since a graph cannot call it; a test compares the two. Its
    buffers say how observations and actions are normalized and how wide the gripper stands around what it holds.
    """
    import torch
    from torch import nn

    def indices(quantity: str) -> list[int]:
        return [names.index(f"{quantity}.{axis}") for axis in "xyz"]

    # Where millimetres decide; there is a task without places.
    ends = [end for end in ("target_from_tcp", "place_from_tcp") if f"{end}.x" in names]
    near = [index for end in ends for index in indices(end)]
    others = [i for i, name in enumerate(names) if "_from_tcp." in name and name[-2:] in (".x", ".y", ".z")]
    offsets = near + [i for i in others if i not in near]
    tool, velocity, width = indices("tcp"), indices("tcp_velocity"), names.index("gripper.width")
    turns = [i for i, name in enumerate(names) if name.endswith("_from_tcp.yaw")]
    order = [*offsets, *tool, *velocity, width, *turns]

    class Anticipation(nn.Module):
        """Offsets from the tool and the gripper's width, where the arm will be; what does not move is left out."""

        size = len(order) + len(near) + 1

        def __init__(self) -> None:
            super().__init__()
            for name, size in (
                ("mean", len(names)),
                ("std", len(names)),
                ("action_mean", columns),
                ("action_std", columns),
            ):
                self.register_buffer(name, torch.ones(size))
            self.register_buffer("grasped_m", torch.ones(1))

        def forward(self, observation: Any, last: Any, before: Any, given: Any) -> Any:
            """(B, size) from observations (B, F), the last given step and the one before it (B, D); `given` (B, 1) is 1 or 0."""
            raw = observation * self.std + self.mean
            step = (last * self.action_std + self.action_mean) * given
            speed = (last - before)[:, :3] * self.action_std[:3] / dt_s
            speed = given * speed + (1 - given) * raw[:, velocity]
            seen = raw[:, offsets] - step[:, :3].repeat(1, len(offsets) // 3)
            opening = given * step[:, -1:] + (1 - given) * raw[:, width : width + 1]
            turned = raw[:, turns] - step[:, 3:4] if turns else raw[:, :0]
            values = torch.cat([seen, raw[:, tool] + step[:, :3], speed, opening, turned], dim=1)
            fine = torch.tanh(seen[:, : len(near)] / FINE_SCALE_M)
            tight = torch.tanh((opening - self.grasped_m) / FINE_WIDTH_M)
            return torch.cat([(values - self.mean[order]) / self.std[order], fine, tight], dim=1)

    return Anticipation()


def velocity_field(
    names: Sequence[str], horizon: int, dt_s: float, width: int, blocks: int, columns: int = 4
) -> Any:
    """The velocity field v(steps to come, time | observation, steps given): a residual MLP.

    The steps to come are relative to the last one that is given, so that going on from a running chunk is for the
    network the same task as beginning from where the tool is.
    """
    import torch
    from torch import nn

    longest = longest_prefix(horizon)
    anticipated = anticipation(names, dt_s, columns)

    class VelocityField(nn.Module):
        """Residual MLP with context and time concatenated to the flattened steps to come."""

        def __init__(self) -> None:
            super().__init__()
            flat = horizon * columns
            self.anticipation = anticipated
            self.first = nn.Linear(len(names) + anticipated.size + flat + (columns + 1) * longest + 17, width)
            self.blocks = nn.ModuleList(
                nn.Sequential(
                    nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
                )
                for _ in range(blocks)
            )
            self.last = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, flat))
            self.register_buffer("frequencies", 2.0 ** torch.arange(8) * torch.pi / 2)

        def context(self, observation: Any, prefix: Any, given: Any) -> Any:
            """(B, C) what does not change on the way from noise to chunk.

            `given` (B, H) is 1 for the first steps of `prefix` (B, H, D), relative to the tool, that are carried out anyway.
            """
            last = last_given(prefix, given)
            back = given.sum(1, keepdim=True) - 1 - torch.arange(longest, device=given.device)
            there = (back >= 0).to(prefix.dtype)
            index = back.clamp(0, horizon - 1).long()[:, :, None].expand(-1, -1, columns)
            history = (torch.gather(prefix, 1, index) - last[:, None]) * there[:, :, None]
            foreseen = self.anticipation(observation, last, last + history[:, 1], there[:, :1])
            return torch.cat([observation, foreseen, history.flatten(1), there], dim=1)

        def forward(self, context: Any, ahead: Any, time: Any) -> Any:
            """Velocity (B, H, D) at `ahead` (B, H, D), relative to the last given step, and flow time (B, 1)."""
            angles = time * self.frequencies
            hidden = self.first(
                torch.cat([ahead.flatten(1), context, time, torch.sin(angles), torch.cos(angles)], dim=1)
            )
            for block in self.blocks:
                hidden = hidden + block(hidden)
            return self.last(hidden).reshape(-1, horizon, columns)

    return VelocityField()


def last_given(prefix: Any, given: Any) -> Any:
    """(B, D) the last given step of each prefix (B, H, D), zeros where `given` (B, H) has none."""
    import torch

    count = given.sum(1)
    index = (count - 1).clamp(0, given.shape[1] - 1).long()[:, None, None].expand(-1, 1, prefix.shape[2])
    return torch.gather(prefix, 1, index)[:, 0] * (count > 0).to(prefix.dtype)[:, None]


def joined(prefix: Any, given: Any, ahead: Any) -> Any:
    """Chunks (B, H, D): the given steps, then those ahead, which but for the gripper are relative to the last given one."""
    import torch

    horizon = given.shape[1]
    index = (
        (torch.arange(horizon, device=given.device) - given.sum(1, keepdim=True)).clamp(0, horizon - 1).long()
    )
    columns = prefix.shape[2]
    moves = torch.tensor([1.0] * (columns - 1) + [0.0], device=given.device)
    shift = last_given(prefix, given) * moves
    ahead = torch.gather(ahead, 1, index[:, :, None].expand(-1, -1, columns)) + shift[:, None]
    fixed = given[:, :, None]
    return fixed * prefix + (1 - fixed) * ahead


def sampler(network: Any, flow_steps: int) -> Any:
    """The network's ONNX form: noise to chunk by `flow_steps` Euler steps."""
    import torch
    from torch import nn

    class Sampler(nn.Module):
        """Integrates the velocity field from t = 0 (noise) to 1 (steps ahead)."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, observation: Any, noise: Any, prefix: Any, given: Any) -> Any:
            """Chunks (B, H, D), normalized, with the rows of `prefix` where `given` (B, H) is 1."""
            context, ahead = self.network.context(observation, prefix, given), noise
            for step in range(flow_steps):
                time = torch.full_like(noise[:, :1, 0], step / flow_steps)
                ahead = ahead + self.network(context, ahead, time) / flow_steps
            return joined(prefix, given, ahead)

    return Sampler()


def guided_sampler(network: Any, flow_steps: int, *, identity: bool, limit: float = 5.0) -> Any:
    """A sampler that steers to the prefix at inference, for a network that need not know of it.

    Algorithm 1 of Black et al., arXiv 2506.07339, with their limit of the guidance weight (5) and 5 steps. With
    `identity`, the Jacobian of the denoised chunk is left out, as LeRobot does: half the cost, another algorithm.
    Its attribute `steer` is the part that holds derivatives.
    """
    import torch
    from torch import nn

    def steer(context: Any, noise: Any, prefix: Any, given: Any) -> Any:
        chunk, nothing = noise, torch.zeros_like(noise)
        for step in range(flow_steps):
            t = step / flow_steps
            time = torch.full_like(noise[:, :1, 0], t)

            def denoised(x: Any, t: float = t, time: Any = time) -> Any:
                velocity = network(context, x, time)
                return x + (1 - t) * velocity, velocity

            if identity:
                end, velocity = denoised(chunk)
                guidance = given[:, :, None] * (prefix - end)
            else:
                (end, velocity), pull_back = torch.func.vjp(denoised, chunk)
                (guidance,) = pull_back((given[:, :, None] * (prefix - end), nothing))
            weight = min(limit, (t**2 + (1 - t) ** 2) / (t * (1 - t))) if t else limit
            chunk = chunk + (velocity + weight * guidance) / flow_steps
        return chunk

    class GuidedSampler(nn.Module):
        """Integrates the velocity field, pulled towards `prefix` (B, H, D) as firmly as `given` (B, H) says."""

        def __init__(self) -> None:
            super().__init__()
            self.network, self.steer = network, steer

        def forward(self, observation: Any, noise: Any, prefix: Any, given: Any) -> Any:
            """Chunks (B, H, D), normalized."""
            context = self.network.context(observation, torch.zeros_like(prefix), torch.zeros_like(given))
            return self.steer(context, noise, prefix, given)

    return GuidedSampler()


def flow_from_bundle(bundle: Bundle) -> Any:
    """The module that the graph of a policy on features was made of; its arguments are the bundle's inputs in order.

    Raises:
        BundleError: the weights are not those of it.
    """
    import torch

    weights = bundle.weights()
    try:
        horizon = int(bundle.config["horizon"])
        blocks = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
        names, dt_s = bundle.config["features"], float(bundle.config["dt_s"])
        columns = len(weights["anticipation.action_mean"])
        network = velocity_field(names, horizon, dt_s, len(weights["first.bias"]), blocks, columns)
        network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in weights.items()})
        module = sampler(network, int(bundle.config["flow_steps"]))
    except (KeyError, ValueError, RuntimeError) as error:
        raise BundleError(
            f"{bundle.path}: its weights are not those of a network that physai has in torch ({error}); "
            "use the runtime onnx, which needs the graph alone"
        ) from error
    return module.eval()
