"""The options of `physai faults`; apart, so that the command line starts without loading a simulator."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from physai_base.resources import defaults
from physai_lab.numbers import count, positive, seed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "--robot", default=defaults()["robot"], help="embodiment: an installed name or a file"
    )
    parser.add_argument("--ids", default=None, help="faults by commas, e.g. F5,F9 (default: all)")
    parser.add_argument("--trials", type=count, default=200, help="seeded trials of each fault")
    parser.add_argument("--seed", type=seed, default=0, help="picks the trials")
    parser.add_argument(
        "--list", action="store_true", help="say how each fault is produced and what passes, run nothing"
    )
    parser.add_argument(
        "--clean", action="store_true", help="instead of faults: the real policy at work; every stop is a false one"
    )  # fmt: skip
    parser.add_argument("--hours", type=positive, default=1.0, help="simulated hours of --clean")
    parser.add_argument(
        "--sight", choices=("camera", "truth"), default="camera",
        help="of --clean; truth: noisy scenes from the simulator's state instead of perception's, faster",
    )  # fmt: skip
    parser.add_argument(
        "--task", default=defaults()["task"], help="task of --clean: an installed name or a file"
    )
    parser.add_argument(
        "--controls", action=argparse.BooleanOptionalAction, default=True,
        help="guards off must fail, mutants of each guard must be caught; needs a source checkout",
    )  # fmt: skip
    parser.add_argument("--workers", type=count, default=os.cpu_count() or 1, help="processes")
    parser.add_argument(
        "--sources", type=Path, default=None, help="checkout with the C sources (default: searched for)"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where reports go")
