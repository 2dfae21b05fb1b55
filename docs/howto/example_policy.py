"""A torch module becomes a policy bundle (docs/explanation/policy.md). This one brings the hand above the cup."""

import sys
from pathlib import Path

import torch

from physai_lab.training.export import export_module

H, DT_S = 16, 0.05  # row k of a chunk is for the observation's stamp + k dt


class AboveTheCup(torch.nn.Module):
    """Your network in its place."""

    def forward(self, features, tool, width):
        """(1, 35), (1, 3), (1, 1), in physical units, to a chunk (1, 16, 4)."""
        way = features[:, 0:3] + torch.tensor([0.0, 0.0, 0.15])  # the first three: from tool to cup
        share = (torch.arange(H) * DT_S * 0.15 / way.norm().clamp(min=0.05)).clamp(max=1.0)  # at 0.15 m/s
        position = tool[:, None] + share[:, None] * way[:, None]
        return torch.cat([position, width[:, None].expand(-1, H, -1)], dim=2)


mapping = {
    "observation": {"features": {"values": ["features"]}, "tool": {"values": ["tool"]}, "width": {"values": ["gripper_width"]}},
    "actions": {"space": "tool_position", "dt_s": DT_S, "horizon": H},
    "gripper": {"closed": 0.0, "open": 0.08, "width_m": 0.08}}  # fmt: skip
about = {"robot": "fr3", "licence": "Apache-2.0", "training_data": "none"}
shapes = {"features": (35,), "tool": (3,), "width": (1,)}
export_module(AboveTheCup(), Path(sys.argv[1]), shapes, mapping, **about)
