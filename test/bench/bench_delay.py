"""What delay does to a policy, by the way in which chunks are joined, with cups that move and cups that are pushed.

python test/bench/bench_delay.py [--episodes 50] [--delays 0,100,200,300,400] [--methods naive,trained] [--speeds 0.04,0.08]

Every method gets the same network and the same cells, and scenes from the simulator's state with perception's noise.
The delay is from an observation to the moment when its chunk takes over, and one inference runs at a time. Prints a
table; plots and figures go to report.html and report.json under runs/.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from physai_base.bundle import Bundle
from physai_base.embodiment import Embodiment
from physai_base.task import Task
from physai_lab.data.demos import goal_of
from physai_lab.evaluation.cell import Cell
from physai_lab.pool import work_on
from physai_lab.report import Report, host, new_figure, new_run_folder
from physai_lab.statistics import wilson_interval
from physai_lab.training.export import export_corrector, export_policy
from physai_policy.agent import AgentSettings
from physai_policy.correction import Corrector
from physai_policy.flow_policy import FlowPolicy

KINDS = ("moving", "pushed")
# Name here → how chunks are joined, and how the bundle continues a running one.
METHODS = {
    "synchronous": ("synchronous", "trained"), "naive": ("naive", "trained"), "ensemble": ("ensemble", "trained"),
    "guided": ("real_time", "guided"), "guided_identity": ("real_time", "guided_identity"),
    "trained": ("real_time", "trained"), "corrected": ("corrected", "trained"),
}  # fmt: skip
PLOTTED = {
    "success": "success", "seam_mrad": "seam, mrad", "jerk": "jerk RMS, rad/s³", "starved": "time without a chunk",
    "age_ms": "age of observation, ms",
}  # fmt: skip
FIRST_SEED = 500_000  # neither evaluation's nor the demonstrations'
SPEEDS_M_S = (0.04, 0.08)  # of the moving cups; at those of evaluation a late chunk is still good enough
TIMEOUT_S = 25.0


@dataclass(frozen=True)
class Trial:
    """One episode of the sweep."""

    method: str
    delay_ms: int
    kind: str
    index: int
    speeds_m_s: tuple[float, float] = SPEEDS_M_S


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    trial: Trial
    success: bool
    failure: str
    duration_s: float
    seam_mrad: float
    jerk: float
    starved: float  # share of the time
    age_ms: float


_cell: Cell | None = None
_policies: dict[str, FlowPolicy] = {}
_corrector: Corrector | None = None


def start(bundles: dict[str, Path | None], corrector: Path | None) -> None:
    """Of a worker."""
    global _cell, _corrector
    embodiment, task = Embodiment.load("fr3"), Task.load("cups")
    _cell = Cell(embodiment, task, sight="truth")
    for graph, folder in bundles.items():
        name: str | Path = "cups/policy" if folder is None else folder
        _policies[graph] = FlowPolicy(
            Bundle.open(name, kind="policy", robot=embodiment.name), task, samples=2
        )
    name = "cups/corrector" if corrector is None else corrector
    _corrector = Corrector(Bundle.open(name, kind="corrector", robot=embodiment.name), task)


def run(trial: Trial) -> Outcome:
    """Run one episode."""
    assert _cell is not None
    seed = FIRST_SEED + trial.index
    _cell.randomize(seed, ("poses", "masses", "friction"))
    goal = goal_of(trial.index, _cell.task, _cell.situation())
    _cell.disturb(goal.target, trial.kind, seed, trial.speeds_m_s)
    method, graph = METHODS[trial.method]
    period_s = 0.05 if trial.method == "ensemble" else 0.2
    settings = AgentSettings(method=method, timeout_s=TIMEOUT_S, replan_period_s=period_s)
    result = _cell.run(
        _policies[graph],
        goal,
        "",
        seed,
        settings=settings,
        latency_s=trial.delay_ms / 1e3,
        corrector=_corrector,
    )
    motion = result.motion
    return Outcome(
        trial, result.success, result.failure, result.duration_s,
        seam_mrad=1e3 * float(np.mean(motion.seams_rad or [0.0])),
        jerk=motion.jerk(),
        starved=motion.starved_s / max(result.duration_s, 1e-9),
        age_ms=1e3 * float(np.mean(motion.ages_s or [0.0])),
    )  # fmt: skip


def summarize(outcomes: list[Outcome]) -> dict[str, Any]:
    """One row of the table."""
    good = sum(o.success for o in outcomes)
    low, high = wilson_interval(good, len(outcomes))

    def mean(name: str) -> float:
        return float(np.mean([getattr(o, name) for o in outcomes]))

    return {
        "success": good / len(outcomes), "low": low, "high": high, "episodes": len(outcomes),
        "seam_mrad": mean("seam_mrad"), "jerk": mean("jerk"), "starved": mean("starved"), "age_ms": mean("age_ms"),
        "duration_s": float(np.median([o.duration_s for o in outcomes if o.success] or [np.nan])),
    }  # fmt: skip


def report(rows: list[dict[str, Any]], options: argparse.Namespace) -> Path:
    """Plots and numbers."""
    page = Report("Policy under delay", f"{options.episodes} episodes a point, {host()}")
    page.data = {"settings": {k: str(v) for k, v in vars(options).items()}, "rows": rows}
    for kind in options.kinds:
        figure, axes = new_figure(len(PLOTTED), 3.4)
        for axis, (name, title) in zip(axes, PLOTTED.items(), strict=True):
            for method in options.methods:
                mine = [r for r in rows if r["kind"] == kind and r["method"] == method]
                delays = [r["delay_ms"] for r in mine]
                axis.plot(delays, [r[name] for r in mine], marker="o", markersize=3, label=method)
                if name == "success":
                    axis.fill_between(delays, [r["low"] for r in mine], [r["high"] for r in mine], alpha=0.12)
            axis.set_xlabel("delay, ms")
            axis.set_title(title)
        axes[0].set_ylim(0, 1.02)
        figure.legend(
            *axes[0].get_legend_handles_labels(), loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=7
        )
        page.heading(
            f"Cups that are {kind}"
            + f" at {options.speeds[0]:g} to {options.speeds[1]:g} m/s" * (kind == "moving")
        )
        page.figure(figure, "Bands are 95 % Wilson intervals")
    page.table([{k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()} for row in rows])
    return page.write(new_run_folder(options.runs))


def main() -> None:
    """Sweep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument(
        "--delays", type=lambda t: [int(v) for v in t.split(",")], default=[0, 100, 200, 300, 400]
    )
    parser.add_argument(
        "--speeds", type=lambda t: tuple(float(v) for v in t.split(",")), default=SPEEDS_M_S, help="of moving cups, m/s"
    )  # fmt: skip
    parser.add_argument(
        "--methods", type=lambda t: t.split(","), default=None, help=f"of {', '.join(METHODS)}; the guided ones need --checkpoints"
    )  # fmt: skip
    parser.add_argument("--kinds", type=lambda t: t.split(","), default=list(KINDS))
    parser.add_argument(
        "--checkpoints", type=Path, default=None,
        help="of `physai train`: the bundles are exported from there; else the installed ones, without the guided methods",
    )  # fmt: skip
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options = parser.parse_args()
    if options.methods is None:
        options.methods = [
            m for m, (_, graph) in METHODS.items() if options.checkpoints or graph == "trained"
        ]
    unknown = set(options.methods) - set(METHODS)
    if unknown:
        parser.error(f"--methods: {', '.join(unknown)} is not among {', '.join(METHODS)}")
    bundles: dict[str, Path | None] = {"trained": None}
    corrector: Path | None = None
    scratch = tempfile.TemporaryDirectory()
    if options.checkpoints:
        print("exporting ...", flush=True)
        embodiment, task, folder = Embodiment.load("fr3"), Task.load("cups"), Path(scratch.name)
        for graph in {METHODS[method][1] for method in options.methods}:
            bundles[graph] = folder / graph
            export_policy(options.checkpoints / "policy", folder / graph, embodiment, task, graph)
        corrector = folder / "corrector"
        export_corrector(options.checkpoints / "corrector", corrector, embodiment, task)
    elif any(METHODS[method][1] != "trained" for method in options.methods):
        parser.error("the guided methods need --checkpoints")
    points = list(itertools.product(options.kinds, options.methods, options.delays))
    trials = [Trial(m, d, k, i, options.speeds) for k, m, d in points for i in range(options.episodes)]
    outcomes: list[Outcome] = []
    with Progress(transient=True) as progress:
        bar = progress.add_task("episodes", total=len(trials))
        for outcome in work_on(trials, run, options.workers, start, (bundles, corrector)):
            outcomes.append(outcome)
            progress.advance(bar)
    rows = []
    print(
        f"{'cups':8}{'method':17}{'delay':>6}  success (95 %)          seam    jerk  starved    age  duration"
    )
    for kind, method, delay in points:
        mine = [
            o for o in outcomes if (o.trial.kind, o.trial.method, o.trial.delay_ms) == (kind, method, delay)
        ]
        row = {"kind": kind, "method": method, "delay_ms": delay, **summarize(mine)}
        rows.append(row)
        print(
            f"{kind:8}{method:17}{delay:4d}ms  {row['success']:6.1%} ({row['low']:.1%}-{row['high']:.1%})".ljust(
                57
            )
            + f"{row['seam_mrad']:6.1f} {row['jerk']:7.1f} {row['starved']:7.1%} {row['age_ms']:5.0f}ms {row['duration_s']:6.1f}s"
        )
    print(f"report: {report(rows, options)}")


if __name__ == "__main__":
    main()
