"""Imports the checkpoints of `lerobot_reference.py` with `physai import lerobot` and compares the bundles' chunks."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.task import Task
from physai_lab.cli import main as physai
from physai_policy.loading import load_policy
from physai_policy.mapped import MappedPolicy

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from lerobot_files import STATE, actions, observation

ALLOWED = {"act": 1e-5, "diffusion": 1e-4}  # physical units of the action, whose spread is about 1


def compare(folder: Path, embodiment: Embodiment, task: Task) -> bool:
    """Whether the bundle does what LeRobot did."""
    bundle = folder / "bundle"
    command = [
        "import",
        "lerobot",
        str(folder / "checkpoint"),
        "--map",
        str(folder / "map.yaml"),
        "--out",
        str(bundle),
    ]
    if physai(command) != 0:
        return False
    policy = load_policy(bundle, embodiment, task)
    assert isinstance(policy, MappedPolicy)
    with np.load(folder / "answers.npz") as file:
        found = {name: file[name] for name in file.files}
    step_ns, worst, first, spread = round(policy.dt_s * 1e9), 0.0, 0.0, float(found["chunks"].std())
    count, moments = found[STATE].shape[:2]
    for index in range(count):
        policy.noise = {name: found[name][index] for name in policy.noise}
        start_ns = 10_000_000_000 * (1 + 2 * index)  # long after the last: the history begins anew
        chosen = policy.infer(observation(found, index, moments - 1, start_ns)).chosen
        first = max(first, float(np.abs(actions(policy, chosen)[0] - found["selected"][index]).max()))
        for moment in range(moments):
            stamp_ns = start_ns + 5_000_000_000 + moment * step_ns
            if moment < moments - 1:
                policy.inputs(observation(found, index, moment, stamp_ns))  # seen, not asked about
            else:
                chosen = policy.infer(observation(found, index, moment, stamp_ns)).chosen
        worst = max(worst, float(np.abs(actions(policy, chosen) - found["chunks"][index]).max()))
    allowed = ALLOWED[folder.name.partition("-")[0]]
    good = worst <= allowed and first <= allowed
    print(
        f"{folder.name:22s} {count:4d} observations: max abs difference {worst:.2e} of the chunks, {first:.2e} of "
        f"select_action's first; spread {spread:.2f}, allowed {allowed:.0e}: {'good' if good else 'TOO MUCH'}",
        flush=True,
    )
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    embodiment, task = Embodiment.load("fr3"), Task.load("cups")
    folders = sorted(path.parent for path in options.folder.glob("*/answers.npz"))
    if not folders:
        print(f"{options.folder}: holds no answers of LeRobot", file=sys.stderr)
        return 1
    good = [compare(folder, embodiment, task) for folder in folders]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
