"""Our serving on ONNX Runtime against the eager torch loop that LeRobot's users run, side by side in one run.

    python test/bench/bench_policy.py [--rounds 2000] [--threads 1]

Two networks: the shipped flow policy, and one of the size of ACT with random weights (about 8 million parameters: a
small CNN on a 96-pixel image, 4 encoder and 4 decoder layers of width 256). Both sides have the same number of threads
and take turns in random order. Exits with 1 when p50 or p99 is not twice as fast for one of them.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch import nn

from physai_base.bundle import Bundle, write_bundle
from physai_base.golden import answers
from physai_base.task import Task
from physai_base.tensor import TensorSpec
from physai_lab.progress import progress_bar
from physai_lab.report import host
from physai_lab.runtimes.bench_policy import (
    EAGER,
    Contender,
    bundle_contenders,
    compare,
    print_table,
    table,
    take_turns,
)
from physai_lab.runtimes.golden import graph_answer
from physai_lab.training.export import to_onnx
from physai_policy.runtimes import RuntimeOptions, load_runtime

WIDTH, HEADS, LAYERS, FORWARD = 256, 8, 4, 1024
PIXELS, JOINTS, HORIZON, LATENT = 96, 7, 16, 32
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as LeRobot normalizes
REQUIRED = 2.0


class Encoder(nn.Module):
    """Attention of all tokens to each other, with positions added to queries and keys (Carion et al. 2020)."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS)
        self.forward_1, self.forward_2 = nn.Linear(WIDTH, FORWARD), nn.Linear(FORWARD, WIDTH)
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, x: Any, position: Any) -> Any:
        query = x + position
        x = self.norm_1(x + self.attention(query, query, x)[0])
        return self.norm_2(x + self.forward_2(torch.relu(self.forward_1(x))))


class Decoder(nn.Module):
    """The same, and attention to the encoder's tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.own, self.cross = nn.MultiheadAttention(WIDTH, HEADS), nn.MultiheadAttention(WIDTH, HEADS)
        self.forward_1, self.forward_2 = nn.Linear(WIDTH, FORWARD), nn.Linear(FORWARD, WIDTH)
        self.norm_1, self.norm_2, self.norm_3 = (nn.LayerNorm(WIDTH) for _ in range(3))

    def forward(self, x: Any, memory: Any, query: Any, position: Any) -> Any:
        asked = x + query
        x = self.norm_1(x + self.own(asked, asked, x)[0])
        x = self.norm_2(x + self.cross(x + query, memory + position, memory)[0])
        return self.norm_3(x + self.forward_2(torch.relu(self.forward_1(x))))


class ActSize(nn.Module):
    """Image and joints in, a chunk out: the parts of ACT (Zhao et al. 2023) at inference, its latent zero."""

    def __init__(self) -> None:
        super().__init__()
        widths = ((3, 32, 7, 2), (32, 64, 3, 2), (64, 64, 3, 1), (64, 128, 3, 2), (128, 128, 3, 1))
        layers: list[nn.Module] = []
        for inputs, outputs, kernel, stride in widths:
            layers += [
                nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
            ]
        self.image = nn.Sequential(*layers, nn.Conv2d(128, WIDTH, 3, 2, 1))
        tokens = (PIXELS // 16) ** 2 + 2
        self.joints, self.latent = nn.Linear(JOINTS, WIDTH), nn.Linear(LATENT, WIDTH)
        self.encoder = nn.ModuleList(Encoder() for _ in range(LAYERS))
        self.decoder = nn.ModuleList(Decoder() for _ in range(LAYERS))
        self.position = nn.Parameter(torch.randn(tokens, 1, WIDTH))
        self.query = nn.Parameter(torch.randn(HORIZON, 1, WIDTH))
        self.head = nn.Linear(WIDTH, JOINTS + 1)

    def forward(self, image: Any, joints: Any) -> Any:
        """A chunk (1, H, joints and gripper) for an image (1, 3, h, w) and joints (1, n), all normalized."""
        features = self.image(image).flatten(2).permute(2, 0, 1)
        latent = self.latent(torch.zeros(1, LATENT))
        memory = torch.cat([latent[None], self.joints(joints)[None], features])
        for layer in self.encoder:
            memory = layer(memory, self.position)
        chunk = torch.zeros(HORIZON, 1, WIDTH)
        for layer in self.decoder:
            chunk = layer(chunk, memory, self.query, self.position)
        return self.head(chunk.transpose(0, 1))


class FromPixels(nn.Module):
    """The network with its image normalization: what we export, so that ONNX Runtime does that, too."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.scale = nn.Parameter(1 / (255 * torch.tensor(STD)).view(3, 1, 1))
        self.offset = nn.Parameter((torch.tensor(MEAN) / torch.tensor(STD)).view(3, 1, 1))

    def forward(self, image: Any, joints: Any) -> Any:
        """A chunk for an image (1, h, w, 3) of bytes."""
        return self.network(image.permute(0, 3, 1, 2).float() * self.scale - self.offset, joints)


def act_contenders(threads: int, folder: Path) -> list[Contender]:
    """The network of ACT's size: served by us, and in the eager loop; both give the same chunk."""
    torch.manual_seed(0)
    network = ActSize().eval()
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (PIXELS, PIXELS, 3), dtype=np.uint8)
    joints = rng.standard_normal(JOINTS).astype(np.float32)
    mean, std = np.linspace(-1, 1, JOINTS).astype(np.float32), np.linspace(0.5, 2, JOINTS).astype(np.float32)
    normal = {"mean": tuple(map(float, mean)), "std": tuple(map(float, std))}
    offset, scale = rng.standard_normal(JOINTS + 1), rng.uniform(0.1, 1, JOINTS + 1)
    out = {"mean": tuple(map(float, offset)), "std": tuple(map(float, scale))}
    example = {"image": image[None], "joints": joints[None]}
    model = to_onnx(FromPixels(network).eval(), example, ["chunk"], free_batch=False)
    chunk_out = TensorSpec("chunk", (1, HORIZON, JOINTS + 1), "rad; gripper width in m", **out)
    other = {"image": 255 - image[None], "joints": -joints[None]}
    bundle = write_bundle(
        folder / "act_size",
        kind="policy",
        name="act_size",
        robot="any",
        model=model,
        cases=answers(graph_answer(model, [chunk_out]), [example, other]),
        inputs=[
            TensorSpec("image", (1, PIXELS, PIXELS, 3), "1", dtype="uint8"),
            TensorSpec("joints", (1, JOINTS), "rad", **normal),
        ],
        outputs=[chunk_out],
        config={},
        training_data="none: random weights",
        metrics={},
        licence="Apache-2.0",
    )  # fmt: skip
    runtime = load_runtime("onnx", bundle, RuntimeOptions(threads=threads))
    joints_spec, chunk_spec = bundle.input("joints"), bundle.output("chunk")
    last: dict[str, np.ndarray] = {}

    def served() -> tuple[float, float, float]:
        began = time.perf_counter()
        inputs = {"image": image[None], "joints": joints_spec.normalize(joints)[None]}
        prepared = time.perf_counter()
        chunk = runtime.run(inputs)["chunk"]
        computed = time.perf_counter()
        last["onnx"] = chunk_spec.denormalize(chunk)
        return prepared - began, computed - prepared, time.perf_counter() - computed

    image_mean, image_std = (torch.tensor(value).view(1, 3, 1, 1) for value in (MEAN, STD))
    joint_mean, joint_std = torch.from_numpy(mean), torch.from_numpy(std)
    chunk_mean, chunk_std = (torch.tensor(value) for value in (out["mean"], out["std"]))

    def eager() -> tuple[float, float, float]:
        began = time.perf_counter()
        with torch.inference_mode():
            picture = torch.from_numpy(image).float().div(255).permute(2, 0, 1).contiguous().unsqueeze(0)
            picture = (picture - image_mean) / image_std
            state = (torch.from_numpy(joints).unsqueeze(0) - joint_mean) / joint_std
            prepared = time.perf_counter()
            chunk = network(picture, state)
            computed = time.perf_counter()
            last["eager"] = (chunk * chunk_std + chunk_mean).numpy()
        return prepared - began, computed - prepared, time.perf_counter() - computed

    torch.set_num_threads(threads)
    served()
    eager()
    difference = float(np.abs(last["onnx"] - last["eager"]).max())
    parameters = sum(value.numel() for value in network.parameters()) / 1e6
    print(f"ACT size: {parameters:.1f} million parameters, both differ by at most {difference:.1e}")
    assert difference < 1e-3
    return [
        Contender("onnx", runtime.detail, served),
        Contender(EAGER, f"torch {torch.__version__}, {threads} threads", eager),
    ]


def main() -> int:
    """Run the benchmark; 1 when a ratio is below what is required."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    print(f"host: {host()}, load {os.getloadavg()[0]:.1f} when it began")
    worst = np.inf
    with tempfile.TemporaryDirectory() as folder:
        flow = bundle_contenders(
            Bundle.open("cups/policy"),
            Task.load("cups"),
            ("onnx", EAGER),
            RuntimeOptions(threads=arguments.threads),
        )
        for title, contenders in (
            ("shipped flow policy", flow), ("network of ACT's size", act_contenders(arguments.threads, Path(folder)))
        ):  # fmt: skip
            with progress_bar(title) as progress:
                seconds = take_turns(contenders, arguments.rounds, progress)
            print(f"{title}, {arguments.rounds} rounds, {arguments.threads} threads each")
            print_table(table(contenders, seconds))
            for ours, theirs, found in compare(seconds):
                same = ours.partition(",")[2] == theirs.partition(",")[2]
                print(
                    f"  {theirs} takes {found['p50']:.2f} times as long as {ours} at p50, {found['p99']:.2f} at p99"
                    + (" (the same work)" if same else "")
                )
                if same:
                    worst = min(worst, found["p50"], found["p99"])
    print(
        f"smallest ratio for the same work {worst:.2f}, required {REQUIRED:g}; load {os.getloadavg()[0]:.1f}"
    )
    return 0 if worst >= REQUIRED else 1


if __name__ == "__main__":
    sys.exit(main())
