"""The network that looks, in torch: images to where things are, and on from there as the state policy goes.

Nothing here imports torch before it is used. A camera that stands fixed says where things are in the base frame, one on
the hand says it from the tool; each also says how sure it is, and the surer one counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from physai_base.bundle import Bundle
from physai_base.errors import BundleError
from physai_base.features import FINE_SCALE_M, FINE_WIDTH_M
from physai_policy.networks import sampler, velocity_field

CELL = 4  # pixels of an image, each way, become one cell of a heat map
STEEP = 0.1  # rays sink at least so much
FAR_M = 1.5  # nothing is farther from the tool
HEIGHTS_M = (-0.2, 0.6)  # of an object's foot above the table
UNSEEN_WEIGHT = 0.02  # of a guess at where a thing is, against 1 for each of its key points in view
LARGEST_FIX_M = 0.1  # what rays through a nominal camera are corrected by


@dataclass(frozen=True)
class Eye:
    """One camera of the network."""

    camera: str
    on_tool: bool
    points: int  # that its heat maps look for


def camera_encoder(eye: Eye, objects: int, places: int, channels: int, width: int) -> Any:
    """Image to key points by spatial softmax (Levine et al. 2016, "End-to-end training of deep visuomotor policies"), and
    from those and the tool's position to where objects and boards are.

    Key points: the foot of each object, its rim, the boards, and whatever else helps.
    """
    import torch
    from torch import nn

    things = objects + places
    own = objects + things  # key points that belong to a thing

    class CameraEncoder(nn.Module):
        """Three dilated convolutions see 17 cells around each cell, 68 pixels.

        A thing lies where the ray through its key point comes to the thing's height. The height is learnt, and so is
        what is left: the camera may be tilted or moved, and not everything is in view.
        """

        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, channels, CELL, stride=CELL)
            self.blocks = nn.ModuleList(
                nn.Conv2d(channels + (2 if d == 1 else 0), channels, 3, padding=d, dilation=d)
                for d in (1, 2, 4)
            )
            self.heat = nn.Conv2d(channels, eye.points, 1)
            self.lift = nn.Sequential(
                nn.Linear(3 * eye.points + 6 * own + objects + 4, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
                nn.Linear(width, 9 * things),
            )  # fmt: skip
            # Nominal: `lens` (x, y, 1) of a key point to a ray in the base frame's axes, `centre` and `rise` (of each own
            # key point above its thing) in m, centre from the tool if the camera is on it.
            for name, size in (
                ("mean", (things, 3)), ("std", (things, 3)), ("tool_mean", (4,)), ("tool_std", (4,)),
                ("lens", (3, 3)), ("centre", (3,)), ("rise", (own,)), ("grasp", (1,)),
            ):  # fmt: skip
                self.register_buffer(name, torch.ones(size))

        def look(self, image: Any) -> tuple[Any, Any]:
            """Key points (B, P, 2), x and y from -1 to 1, and whether each is in view (B, P), as a logit, in an image (B, h, w, 3) of 0..255."""
            pixels = image.to(self.heat.weight.dtype).permute(0, 3, 1, 2) / 127.5 - 1.0
            cells = torch.relu(self.stem(pixels))
            rows, columns = cells.shape[2:]
            y = ((torch.arange(rows, device=cells.device) + 0.5) * (2 / rows) - 1).to(cells.dtype)
            x = ((torch.arange(columns, device=cells.device) + 0.5) * (2 / columns) - 1).to(cells.dtype)
            where = torch.stack([x[None].expand(rows, -1), y[:, None].expand(-1, columns)])
            for block in self.blocks:
                given = cells
                if block.in_channels > channels:
                    given = torch.cat([cells, where[None].expand(cells.shape[0], -1, -1, -1)], dim=1)
                cells = torch.relu(cells + block(given))
            heat = self.heat(cells).flatten(2)
            return torch.softmax(heat, dim=2) @ where.flatten(1).T, heat.amax(2)

        def rays(self, points: Any, tool: Any) -> tuple[Any, Any]:
            """Where the things of key points would lie if they stood on the table, horizontally and from the tool, and how
            far they shift with every metre of height: both (B, own, 2), by the nominal camera."""
            ray = torch.cat([points, torch.ones_like(points[:, :, :1])], dim=2) @ self.lens.T
            shift = ray[:, :, :2] / ray[:, :, 2:].clamp(max=-STEEP)
            centre = self.centre + tool[:, :3] * float(eye.on_tool)
            table = (centre - tool[:, :3])[:, None, :2] + shift * (self.rise[:, None] - centre[:, None, 2:])
            return table.clamp(-FAR_M, FAR_M), shift

        def place(self, points: Any, visible: Any, tool: Any) -> tuple[Any, Any]:
            """Offsets (B, things, 3) from the tool in m and the logarithms of their scales, from key points (B, P, 2) that
            are `visible` (B, P), 0..1, and `tool` (B, 4): its position in the base frame and the gripper's width."""
            table, shift = self.rays(points[:, :own], tool)
            held = table + shift * (tool[:, None, 2:3] - self.grasp)
            sight = visible[:, :own, None]
            foot, rim = slice(0, objects), slice(objects, 2 * objects)
            both = sight[:, foot] * sight[:, rim]
            # The height at which the rays through foot and rim lie above each other.
            apart = shift[:, foot] - shift[:, rim]
            meet = ((table[:, rim] - table[:, foot]) * apart).sum(2, keepdim=True)
            meet = (meet / (apart.square().sum(2, keepdim=True) + 1e-4)).clamp(*HEIGHTS_M)

            rays = torch.cat([shift, table, held.clamp(-FAR_M, FAR_M)], dim=2) * sight
            seen = [points * visible[:, :, None], visible, rays, meet * both]
            state = (tool - self.tool_mean) / self.tool_std
            found = self.lift(torch.cat([*(part.flatten(1) for part in seen), state], dim=1))
            guess, fix, spread, trust = found.reshape(-1, things, 9).split([3, 2, 3, 1], dim=2)
            guess = guess * self.std + self.mean
            if not eye.on_tool:
                guess = guess - tool[:, None, :3]

            height = guess[:, :, 2:] + tool[:, None, 2:3]
            trust = torch.sigmoid(trust[:, foot]) * both
            height = torch.cat([(1 - trust) * height[:, foot] + trust * meet, height[:, objects:]], dim=1)
            there = (table + shift * torch.cat([height[:, foot], height], dim=1)) * sight
            # Of an object the mean of foot and rim, as far as they are in view; the guess where nothing is.
            total, weight = (
                torch.cat([part[:, foot] + part[:, rim], part[:, 2 * objects :]], dim=1)
                for part in (there, sight)
            )
            level = (total + UNSEEN_WEIGHT * guess[:, :, :2]) / (weight + UNSEEN_WEIGHT)
            place = torch.cat([level + LARGEST_FIX_M * torch.tanh(fix), height - tool[:, None, 2:3]], dim=2)
            return place, 4.0 * torch.tanh(spread / 4.0) - 4.0

        def forward(self, image: Any, tool: Any) -> tuple[Any, Any, Any, Any]:
            """What `place` makes of the key points in an image, the key points, and the logits of their being in view."""
            points, logits = self.look(image)
            return *self.place(points, torch.sigmoid(logits), tool), points, logits

    return CameraEncoder()


def vision_encoder(
    eyes: Sequence[Eye], objects: int, places: int, channels: int, width: int, grasped_m: float
) -> Any:
    """Images, state and goal to the features that the velocity field takes; see `VisionEncoder.forward`."""
    import torch
    from torch import nn

    class VisionEncoder(nn.Module):
        """One encoder for each camera; their answers are joined by how sure they are, as independent measurements are."""

        def __init__(self) -> None:
            super().__init__()
            self.cameras = nn.ModuleDict(
                {eye.camera: camera_encoder(eye, objects, places, channels, width) for eye in eyes}
            )

        def locate(self, images: Sequence[Any], state: Any) -> tuple[Any, list[tuple[Any, ...]]]:
            """Offsets (B, objects + places, 3) from the tool in m, and what each camera said."""
            tool = torch.cat([state[:, :3], state[:, 6:]], dim=1)
            said = [
                encoder(image, tool) for encoder, image in zip(self.cameras.values(), images, strict=True)
            ]
            weights = torch.softmax(torch.stack([-2.0 * spread for _, spread, *_ in said]), dim=0)
            return (weights * torch.stack([place for place, *_ in said])).sum(0), said

        def forward(self, images: Sequence[Any], state: Any, goal: Any) -> Any:
            """Features (B, F) as in `physai_policy.vision.seen_feature_names`, from state (B, 7), see its `STATE`, and goal (B, objects + places)."""
            return seen_features(self.locate(images, state)[0], state, goal, objects, grasped_m)

    return VisionEncoder()


def seen_features(offsets: Any, state: Any, goal: Any, objects: int, grasped_m: float) -> Any:
    """`physai_policy.observation.features` once more, in torch and without the target's velocity; a test compares the two.

    `goal` is 1 for the object to fetch and for the level to put it on.
    """
    import torch

    chosen = goal[:, :, None] * offsets
    target, place = chosen[:, :objects].sum(1), chosen[:, objects:].sum(1)
    parts = []
    for offset in (target, place, place - target):
        parts += [offset, torch.tanh(offset / FINE_SCALE_M)]
    width = state[:, 6:]
    parts += [state[:, :6], width, torch.tanh((width - grasped_m) / FINE_WIDTH_M)]
    far = (
        offsets[:, :objects].square().sum(2) + 1e6 * goal[:, :objects]
    )  # the target comes last, and is left out
    order = torch.topk(far, objects - 1, dim=1, largest=False).indices
    others = torch.gather(offsets[:, :objects], 1, order[:, :, None].expand(-1, -1, 3))
    return torch.cat([*parts, others.flatten(1)], dim=1)


def vision_policy(encoder: Any, field: Any, flow_steps: int, clip: float) -> Any:
    """The whole graph: images, state, goal, noise, prefix, given to chunks. One observation, as many chunks as there is noise."""
    from torch import nn

    class VisionPolicyNetwork(nn.Module):
        """Looks once, then samples."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.sampler = encoder, sampler(field, flow_steps)

        def forward(self, *inputs: Any) -> Any:
            """Chunks (K, H, 4) from images (1, h, w, 3), state (1, 7), goal (1, objects + places) and what the sampler takes."""
            *images, state, goal, noise, prefix, given = inputs
            known = self.sampler.network.anticipation
            seen = ((self.encoder(images, state, goal) - known.mean) / known.std).clamp(-clip, clip)
            return self.sampler(seen.expand(noise.shape[0], -1), noise, prefix, given)

    return VisionPolicyNetwork()


def vision_from_bundle(bundle: Bundle) -> Any:
    """The module that a bundle's graph was made of, as `physai_policy.architectures.from_bundle`.

    Raises:
        BundleError: the weights are not those of a network here.
    """
    import torch

    weights, config = bundle.weights(), bundle.config
    try:
        eyes = [Eye(str(e["camera"]), bool(e["on_tool"]), int(e["points"])) for e in config["eyes"]]
        first = f"encoder.cameras.{eyes[0].camera}"
        objects = sum(name.startswith("other") for name in config["features"]) // 3 + 1
        encoder = vision_encoder(
            eyes, objects, len(config["goal"]) - objects, len(weights[f"{first}.stem.bias"]),
            len(weights[f"{first}.lift.0.bias"]), float(config["grasped_m"]),
        )  # fmt: skip
        prefix = "sampler.network."
        names = [name.removeprefix(prefix) for name in weights if name.startswith(prefix)]
        blocks = len({name.split(".")[1] for name in names if name.startswith("blocks.")})
        field = velocity_field(
            config["features"],
            int(config["horizon"]),
            float(config["dt_s"]),
            len(weights[f"{prefix}first.bias"]),
            blocks,
        )
        module = vision_policy(encoder, field, int(config["flow_steps"]), float(config["feature_clip"]))
        module.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in weights.items()})
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        raise BundleError(
            f"{bundle.path}: its weights are not those of a network that physai has in torch ({error}); "
            "use the runtime onnx, which needs the graph alone"
        ) from error
    return module.eval()
