"""Compute time and allocations of one cycle of the control core while the arm follows chunks in physics.

python test/bench/bench_control.py [--seconds 20]

Times are taken inside the C core. Allocations are counted by replacing libc's allocator.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mujoco
import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.values import ActionChunk, ChunkMode
from physai_control.core import ControlCore
from physai_lab.report import host
from physai_sim.plant import Plant

CHUNK_S, DT_NS, STEPS = 0.2, 50_000_000, 16


def trap_allocations() -> None:
    """Start this program again with libc's allocator replaced by one that counts, where a compiler is at hand."""
    if os.environ.get("LD_PRELOAD") or not shutil.which("cc"):
        return
    core = Path(__file__).resolve().parents[2] / "physai_control" / "core"
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "malloc_trap.so"
        sources = ["-I", str(core / "include"), str(core / "test" / "malloc_trap.c")]
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(library), *sources], check=True)
        command = [sys.executable, *sys.argv]
        sys.exit(
            subprocess.run(command, env={**os.environ, "LD_PRELOAD": str(library)}, check=False).returncode
        )


def allocations(plant: Plant, steps: int) -> int:
    """Calls of malloc and free by this thread in so many steps, each one cycle of the core."""
    count = ctypes.CDLL(None).physai_malloc_count
    count.restype = ctypes.c_long
    plant.run(1)
    before = count()
    plant.run(1)
    overhead = count() - before  # of Python around the call
    before = count()
    plant.run(steps)
    return int(count() - before - overhead)


def main() -> None:
    """Run the arm and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="simulated time")
    seconds = parser.parse_args().seconds
    trap_allocations()
    embodiment = Embodiment.load("fr3")
    model = mujoco.MjModel.from_xml_path(str(embodiment.model_path))
    data = mujoco.MjData(model)
    data.qpos[: len(embodiment.home)] = embodiment.home
    core = ControlCore(embodiment)
    plant = Plant(model, data, embodiment, core=core)
    plant.run(10)
    core.activate()
    plant.run(1000)
    core.clear_latency()

    worst = np.zeros(len(embodiment.home))
    validation_us = []
    started_ns = core.status().stamp_ns
    begin = time.monotonic()
    for sequence in range(1, round(seconds / CHUNK_S) + 1):
        now_ns = core.status().stamp_ns
        times = (now_ns - started_ns + np.arange(STEPS) * DT_NS) / 1e9
        swing = np.outer(0.5 * (1 - np.cos(1.2 * times)) / 2, [1, 0.1, 0, 0.3, 0.5, 0.3, 1])
        chunk = ActionChunk(
            sequence, "bench", now_ns, now_ns, DT_NS, ChunkMode.JOINT_POSITION, embodiment.joint_names,
            embodiment.home + swing, np.full(STEPS, 0.04), 0.0, now_ns + STEPS * DT_NS,
        )  # fmt: skip
        before = time.perf_counter()
        core.post(chunk)
        validation_us.append((time.perf_counter() - before) * 1e6)
        for _ in range(20):
            plant.run(round(CHUNK_S * 1000 / 20))
            worst = np.maximum(worst, np.abs(core.status().tracking_error_rad))
    wall_s = time.monotonic() - begin

    status = core.status()
    figures = status.latency_us
    print(f"host        {host()}")
    print(
        f"cycles      {status.cycles}, {status.overruns} overruns of 1 ms, {wall_s:.1f} s for {seconds:g} s simulated"
    )
    print(
        f"compute     mean {core.mean_compute_us:.2f} us, p50 {figures['p50']:.1f}, p99 {figures['p99']:.1f}, "
        f"p99.9 {figures['p99_9']:.1f}, max {figures['max']:.0f} us"
    )
    if os.environ.get("LD_PRELOAD"):
        print(f"allocations {allocations(plant, 10_000)} in 10000 cycles, physics included")
    print(
        f"post        p50 {np.median(validation_us):.0f} us, max {max(validation_us):.0f} us from Python, {STEPS} steps"
    )
    print("tracking    worst error " + " ".join(f"{1e3 * error:.2f}" for error in worst) + " mrad")
    plant.close()
    core.close()


if __name__ == "__main__":
    main()
