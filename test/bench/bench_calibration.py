"""What a calibration recovers of simulated arms whose parameters it is not told, seed by seed.

python test/bench/bench_calibration.py [--seeds 5]

Four kinds of arm: wrong parameters alone; the same with 8 s of motion for the payload only; links that weigh other than
the model says (2 % standard deviation); and a cable, for which there is no parameter, without and with a residual.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from physai_base.embodiment import Calibration, Embodiment
from physai_lab.calibration.calibrate import CalibrationOutcome, calibrate
from physai_lab.calibration.cell import CellArm, Hidden
from physai_lab.calibration.identification import GROUPS, friction_torque
from physai_lab.report import host

SPEEDS = np.array([0.1, 0.3, 1.0])  # rad/s at which friction is compared
MASS_KG, COM_M, FRICTION, DELAY_S, TIMES = 0.050, 0.005, 0.10, 1e-3, 3.0  # what is wanted


def errors(found: Calibration, hidden: Hidden) -> dict[str, float]:
    """Of mass (kg), centre (m, worst axis), friction (worst share), delay (s) and visible offsets (rad)."""
    friction = max(
        float(np.abs(friction_torque(f, SPEEDS) / (hidden.coulomb[i] + hidden.viscous[i] * SPEEDS) - 1).max())
        for i, f in enumerate(found.friction)
    )
    seen = found.encoder_offset != 0
    return {
        "mass": abs(found.payloads[0].mass - hidden.payloads[0].mass),
        "com": float(np.abs(found.payloads[0].com - hidden.payloads[0].com).max()),
        "friction": friction,
        "delay": abs(found.command_delay_s - 1e-3 * hidden.command_delay_steps),
        "offsets": float(np.abs(found.encoder_offset - hidden.encoder_offset)[seen].max())
        if seen.any()
        else np.nan,
    }


def tracking(outcome: CalibrationOutcome) -> tuple[float, float]:
    """mrad over all joints of the test motion, before and after."""
    before, after = (1e3 * float(np.linalg.norm(r.rms_error())) for r in (outcome.before, outcome.after))
    return before, after


def line(outcome: CalibrationOutcome, hidden: Hidden, seed: int, began: float) -> dict[str, float]:
    """Print one arm and return its errors."""
    e, (before, after) = errors(outcome.calibrated.calibration, hidden), tracking(outcome)
    unexplained = 100 * float((outcome.fit.rms_after / outcome.embodiment.limits("torque")).max())
    print(
        f"  {seed}: payload {1e3 * e['mass']:5.1f} g {1e3 * e['com']:5.2f} mm   friction {100 * e['friction']:5.1f} %   "
        f"delay {1e3 * e['delay']:.2f} ms   offsets {1e3 * e['offsets']:5.2f} mrad   tracking {before:.1f} -> {after:.2f} mrad "
        f"({before / after:.1f}x)   unexplained {unexplained:.2f} % of the limit   {time.monotonic() - began:.0f} s",
        flush=True,
    )
    return e | {"times": before / after}


def run(embodiment: Embodiment, hidden: Hidden, seed: int, **options: object) -> CalibrationOutcome:
    """One calibration in the cell."""
    return calibrate(embodiment, lambda believed: closing(CellArm(believed, hidden, seed)), **options)  # type: ignore[arg-type]


def main() -> None:
    """Run the arms and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="arms of each kind")
    seeds = range(1, parser.parse_args().seeds + 1)
    embodiment = Embodiment.load("fr3")
    print(f"host  {host()}")

    print("hidden payload, friction, offsets, delay; 18 s of motion. Errors:")
    found = [line(run(embodiment, h, s), h, s, t) for s, h, t in arms(embodiment, seeds)]
    good = sum(
        f["mass"] <= MASS_KG and f["com"] <= COM_M and f["friction"] <= FRICTION and f["delay"] <= DELAY_S and f["times"] >= TIMES
        for f in found
    )  # fmt: skip
    print(f"  within 50 g, 5 mm, 10 %, 1 ms and tracking at least {TIMES:g}x better: {good} of {len(found)}")

    print("the same arms, payload alone from 8 s of motion:")
    quick = []
    for s, h, _ in arms(embodiment, seeds):
        e = errors(run(embodiment, h, s, what=("payload",), seconds=8.0).calibrated.calibration, h)
        quick.append(e["mass"] <= MASS_KG and e["com"] <= COM_M)
        print(f"  {s}: {1e3 * e['mass']:.1f} g {1e3 * e['com']:.2f} mm", flush=True)
    print(f"  within 50 g and 5 mm: {sum(quick)} of {len(quick)}")

    print("links 2 % off the model as well:")
    for s, h, t in arms(embodiment, seeds, link_error=0.02):
        line(run(embodiment, h, s), h, s, t)

    print("a cable along the arm as well:")
    better = 0
    for s, h, t in arms(embodiment, seeds, cable=True):
        with tempfile.TemporaryDirectory() as folder:
            plain = run(embodiment, h, s)
            line(plain, h, s, t)
            learned = run(embodiment, h, s, residual_folder=Path(folder) / "residual")
        (before, parameters), (_, after) = tracking(plain), tracking(learned)
        better += after < parameters
        print(f"     with a residual: {before:.1f} -> {parameters:.2f} -> {after:.2f} mrad", flush=True)
    print(f"  the residual improves it further: {better} of {len(seeds)}")
    print(f"fitted and taken over: {', '.join(GROUPS)}")


def arms(embodiment: Embodiment, seeds: range, **options: object) -> Iterator[tuple[int, Hidden, float]]:
    """Seed, arm and when it was made."""
    for s in seeds:
        yield s, Hidden.draw(embodiment, s, **options), time.monotonic()  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
