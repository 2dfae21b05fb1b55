"""Inverse kinematics of a chunk: in C, and the same algorithm in numpy, in turn on the same chunks.

    .venv/bin/python test/bench/bench_inverse.py [CHUNKS]

For each side the median time of a chunk of 16 poses, and their ratio.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ("base", "helpers")]

from plain_inverse import inverse_chunk  # noqa: E402
from test_kinematics import paths  # noqa: E402

from physai_base.embodiment import Embodiment  # noqa: E402
from physai_base.errors import KinematicsError  # noqa: E402
from physai_base.kinematics import ArmKinematics  # noqa: E402


def main(count: int = 200) -> None:
    """Print the table."""
    embodiment = Embodiment.load("fr3")
    kinematics = ArmKinematics(embodiment)
    kinematics.inverse(
        kinematics.tool_pose(embodiment.home), embodiment.home
    )  # made when it is asked for first
    times: dict[str, list[float]] = {"C": [], "numpy": []}
    farthest = 0.0
    for seed, poses in paths(kinematics, count):
        begin = time.perf_counter()
        try:
            ours = kinematics.inverse_chunk(poses, seed, embodiment.home)
        except KinematicsError:  # it leads out of reach
            continue
        middle = time.perf_counter()
        plain = inverse_chunk(kinematics, poses, seed, embodiment.home)
        times["C"].append(middle - begin)
        times["numpy"].append(time.perf_counter() - middle)
        farthest = max(farthest, float(np.abs(ours - plain).max()))
    middle_us = {side: 1e6 * float(np.median(values)) for side, values in times.items()}
    for side, value in middle_us.items():
        print(f"{side:6} {value:8.0f} us a chunk")
    print(
        f"ratio {middle_us['numpy'] / middle_us['C']:.0f}; the farthest that both are apart {farthest:.1e} rad"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
