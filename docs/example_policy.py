"""A policy of one's own: a torch module in, a bundle out (docs/policy.md). This one brings the hand above the cup."""

import io
import sys

import torch

from physai_base.bundle import TensorSpec, write_bundle

H, DT_S = 16, 0.05  # row k of a chunk is for the observation's stamp + k dt
ABOVE_M = torch.tensor([0.0, 0.0, 0.15])


class AboveTheCup(torch.nn.Module):
    """Your network in its place."""

    def forward(self, features, tool, width):
        """features (1, 35), tool (1, 3) and width (1, 1), in physical units, to a chunk (1, 16, 4)."""
        way = features[:, 0:3] + ABOVE_M  # the first three features: from the tool to the cup
        share = (torch.arange(H) * DT_S * 0.15 / way.norm().clamp(min=0.05)).clamp(max=1.0)  # at 0.15 m/s
        position = tool[:, None] + share[:, None] * way[:, None]
        return torch.cat([position, width[:, None].expand(-1, H, -1)], dim=2)


inputs = [
    TensorSpec("features", (1, 35), "1"),
    TensorSpec("tool", (1, 3), "m"),
    TensorSpec("width", (1, 1), "m"),
]
graph = io.BytesIO()
torch.onnx.export(
    AboveTheCup(), tuple(torch.ones(spec.shape) for spec in inputs), graph, dynamo=False, opset_version=17,
    input_names=[spec.name for spec in inputs], output_names=["action"],
)  # fmt: skip
mapping = {
    "observation": {"features": {"values": ["features"]}, "tool": {"values": ["tool"]}, "width": {"values": ["gripper_width"]}},
    "actions": {"space": "tool_position", "dt_s": DT_S, "horizon": H},
    "gripper": {"closed": 0.0, "open": 0.08, "width_m": 0.08},
}  # fmt: skip
write_bundle(
    sys.argv[1], kind="policy", name="above_the_cup", robot="fr3", model=graph.getvalue(), inputs=inputs,
    outputs=[TensorSpec("action", (1, H, 4), "m")], training_data="none", metrics={}, licence="Apache-2.0",
    config={"mapping": mapping, "history": 0, "noise": [], "samples": 1, "horizon": H, "dt_s": DT_S},
)  # fmt: skip
