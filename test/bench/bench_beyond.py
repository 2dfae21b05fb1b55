"""How often a policy does its task in cells that leave what training saw, one way at a time, next to the nominal ones.

    python test/bench/bench_beyond.py --task cups --episodes 20
    python test/bench/bench_beyond.py --task push,stack --policy '/tmp/{task}/policy' --world-model off --episodes 20

`{task}` in a bundle's name is the task's. All rows are of the same seeds, everything is randomized besides, from images.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from physai_base.embodiment import Embodiment
from physai_base.task import Task
from physai_lab.evaluation.evaluate import Evaluation, evaluate
from physai_lab.evaluation.report import causes
from physai_lab.report import host
from physai_lab.statistics import wilson_interval
from physai_sim.beyond import BEYOND, parse_beyond
from physai_sim.scene import RANDOMIZABLE


def main() -> None:
    """Prints the table as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--robot", default="fr3")
    parser.add_argument("--task", default="cups", help="by commas")
    parser.add_argument("--ways", default=",".join(("nominal", *BEYOND)), help="by commas")
    parser.add_argument("--policy", default="policy")
    parser.add_argument("--world-model", choices=("off", "veto"), default="veto")
    parser.add_argument("--world-model-bundle", default="world_model")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    print(f"{host()}\n\n| task | cells | succeeded | causes |\n|---|---|---|---|", flush=True)
    ways = [parse_beyond([way] if way != "nominal" else []) for way in options.ways.split(",")]
    for name in options.task.split(","):
        for way in ways:
            print(row(options, name, way), flush=True)


def row(options: argparse.Namespace, name: str, way: tuple[str, ...]) -> str:
    """One line of the table."""
    what = Evaluation(
        options.episodes, RANDOMIZABLE, options.policy.format(task=name), options.world_model,
        options.world_model_bundle.format(task=name), options.seed, beyond=way,
    )  # fmt: skip
    with TemporaryDirectory() as runs:
        results, _ = evaluate(
            Embodiment.load(options.robot), Task.load(name), what, options.workers, Path(runs)
        )
    good = sum(result.success for result in results)
    low, high = wilson_interval(good, len(results))
    failed = ", ".join(f"{cause} {count}" for cause, count, _, _ in causes(results)) or "none"
    return f"| `{name}` | {way[0] if way else 'nominal'} | {good} of {len(results)} ({low:.0%} to {high:.0%}) | {failed} |"


if __name__ == "__main__":
    main()
