"""`physai rt-check`: how late this machine wakes the control loop, next to a bare timer loop in the same process.

Three threads run on one core at a time with the same scheduling class, priority and locked memory: the real
control loop (thread, cycle and a loopback robot that it drives along a trajectory) and two bare loops, each a third
of a period after the other. So whatever holds the core up, holds all three up, and the two bare loops, compared
with each other, show what the comparison can resolve.

- The rate is 0.3 % below the robot's: the deadlines drift through every phase of the kernel's tick.
- Every block of two seconds the three move to the next core.
- Intervals are percentile bootstraps over the blocks (Efron 1979), the three loops' counts drawn together.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_control.bare_loop import bucket_edges_ns
from physai_lab.progress import Progress
from physai_lab.realtime.loops import (
    BLOCK_S,
    FEWEST_BLOCKS,
    SCENARIOS,
    SHARES,
    LoopResult,
    measure,
    quantile_us,
    verdict,
)
from physai_lab.realtime.machine import Loop, Machine, advise, describe
from physai_lab.report import Report, new_figure, new_run_folder


@dataclass(frozen=True)
class Check:
    """What was measured; `interrupted` when Ctrl-C ended it early."""

    results: list[LoopResult]
    summary: str
    page: Path
    interrupted: bool


def rt_check(
    embodiment: Embodiment, minutes: float, load: bool, runs: Path, progress: Progress | None = None
) -> Check:
    """Measure for `minutes` in all, shared evenly by the scenarios, print what was found and write a report.

    Ctrl-C ends the measurement; what there is by then is reported.

    Raises:
        PhysaiError: nothing was measured, or the loop does not run; the message says why.
    """
    names = [name for name in SCENARIOS if load or name != "load"]
    seconds = 60 * minutes / len(names)
    blocks = len(names) * max(1, round(seconds / BLOCK_S))
    folder = new_run_folder(runs)
    results: dict[str, LoopResult] = {}
    done, interrupted = 0, False
    try:
        for name in names:
            for result in measure(embodiment, name, seconds, folder):
                results[name] = result
                done += 1
                if progress:
                    figures = result.figures()
                    progress(
                        done, blocks, f"{name}: p99.9 {figures['loop']['p99_9']:.0f} us, bare {figures['bare']['p99_9']:.0f} us"
                    )  # fmt: skip
    except KeyboardInterrupt:
        interrupted = True
    finally:
        if not results:
            folder.rmdir()
    if not results:
        raise PhysaiError(
            "interrupted before the first two seconds were measured; there is nothing to report"
        )
    measured = list(results.values())
    return Check(measured, summary_line(measured), write_report(embodiment, measured, folder), interrupted)


def found(results: list[LoopResult]) -> Loop:
    """What the advice is about, over all scenarios."""
    cycles = sum(result.cycles for result in results)
    uses = [result.uses[0] for result in results]
    return Loop(
        scheduling=results[0].scheduling[0],
        locked=all(result.locked for result in results),
        faults=sum(use.faults for use in uses),
        rt_use=sum(use.cpu_s for use in uses) * results[0].rate_hz / max(cycles, 1),
        overruns=sum(result.overruns for result in results),
        cycles=cycles,
        steal=max(result.steal for result in results),
    )


def summary_line(results: list[LoopResult]) -> str:
    """Ratio of p99.9 per scenario, overruns and page faults."""
    loop = found(results)
    ratios = []
    for result in results:
        ratio, low, high = result.ratio()
        ratios.append(f"{result.name} {ratio:.2f}" + (f" ({low:.2f} to {high:.2f})" if high == high else ""))
    return (
        f"p99.9 of the loop's wake-up over the bare loop's: {', '.join(ratios)}; "
        f"{loop.overruns or 'no'} overruns in {loop.cycles} cycles, {loop.faults or 'no'} page faults, {loop.scheduling}"
    )


def wake_rows(result: LoopResult) -> list[dict[str, object]]:
    """A table's rows: the loops and the compute time of one scenario."""
    names = {
        "loop": "control loop",
        "bare": "bare loops together",
        "bare_1": "bare loop 1",
        "bare_2": "bare loop 2",
        "compute": "compute time of a cycle",
    }
    return [
        {"us": names[key], **{name: round(value, 1) for name, value in figures.items() if name != "cycles"}, "cycles": figures["cycles"]}
        for key, figures in result.figures().items()
    ]  # fmt: skip


def ratio_rows(result: LoopResult) -> list[dict[str, object]]:
    """A table's rows: the ratio of p99.9, and the same of a bare loop over itself."""
    rows = []
    for name, (ratio, low, high) in (
        ("control loop / bare loops", result.ratio()),
        ("bare loop 1 / bare loop 2", result.control_ratio()),
    ):
        interval = f"{low:.2f} to {high:.2f}" if high == high else f"needs {FEWEST_BLOCKS} blocks"
        rows.append(
            {
                "p99.9": name,
                "ratio": round(ratio, 3),
                "95 % interval": interval,
                "so": verdict(ratio, low, high),
            }
        )
    return rows


def machine_rows(result: LoopResult) -> list[dict[str, object]]:
    """A table's rows: what the threads and the cores did during one scenario."""
    loop, bare = result.uses
    rows: list[dict[str, object]] = [
        {"": label, "control loop": getattr(loop, key), "a bare loop": getattr(bare, key)}
        for label, key in (
            ("page faults, minor", "minor_faults"),
            ("page faults, major", "major_faults"),
            ("waited by itself", "waits"),
            ("preempted", "preemptions"),
            ("on a core, s", "cpu_s"),
            ("ready but without a core, s", "runnable_s"),
        )
    ]
    rows.append(
        {"": "scheduling class", "control loop": result.scheduling[0], "a bare loop": result.scheduling[1]}
    )
    rows.append({"": "cycles that overran", "control loop": result.overruns, "a bare loop": ""})
    rows.append({"": "deadlines skipped", "control loop": result.skipped, "a bare loop": ""})
    return rows


def histogram_figure(results: list[LoopResult]) -> Any:
    """Wake-up latencies of the loops, one plot for each scenario."""
    figure, axes = new_figure(len(results), height=3.4)
    edges_us = bucket_edges_ns() / 1e3
    edges_us[0] = 0.02
    for axis, result in zip(axes, results, strict=True):
        wake = result.wake().sum(0)
        for counts, label, colour in (
            ((wake[1] + wake[2]) / 2, "bare loop", "#b0b7c3"),
            (wake[0], "control loop", "#2f6db3"),
        ):
            # Four buckets to a bar: a tail of single counts is read more easily.
            bars = counts.reshape(-1, 4).sum(1)
            axis.stairs(
                bars, edges_us[::4], label=label, color=colour, fill=colour == "#b0b7c3", baseline=0.3
            )
            axis.axvline(quantile_us(counts, 0.999), color=colour, linestyle=":", linewidth=1.2)
        used = np.flatnonzero(wake.sum(0))
        axis.set(
            xscale="log", yscale="log", title=result.name, xlabel="wake-up latency, us",
            xlim=(edges_us[used[0]] / 1.5, edges_us[used[-1] + 1] * 1.5), ylim=(0.3, None),
        )  # fmt: skip
    axes[0].set_ylabel("cycles")
    axes[0].legend(fontsize=8, frameon=False)
    return figure


def write_report(embodiment: Embodiment, results: list[LoopResult], folder: Path) -> Path:
    """report.json and report.html."""
    machine, loop = Machine.read(), found(results)
    advice = advise(machine, loop)
    report = Report(f"physai rt-check: {embodiment.name}", summary_line(results))
    report.data = {
        "robot": embodiment.name,
        "machine": vars(machine),
        "loop": vars(loop),
        "scenarios": {
            result.name: {
                "rate_hz": result.rate_hz,
                "blocks": len(result.blocks),
                "block_s": BLOCK_S,
                "figures_us": result.figures(),
                "ratio_p99_9": result.ratio(),
                "ratio_p99_9_bare": result.control_ratio(),
                "overruns": result.overruns,
                "skipped": result.skipped,
                "cycles": result.cycles,
                "loop_thread": vars(result.uses[0]),
                "bare_thread": vars(result.uses[1]),
                "busy": result.busy,
                "steal": result.steal,
                "state": result.state,
                "stops": result.stops,
                "wake_counts": result.wake().sum(0),
            }
            for result in results
        },
        "bucket_edges_ns": bucket_edges_ns(),
        "advice": [vars(entry) for entry in advice],
    }
    report.heading("Wake-up latency")
    report.text(
        "How long after its deadline a loop runs. The control loop and two bare timer loops share one core at a time, a "
        "third of a period apart, with the same scheduling class, priority and locked memory. Dotted: p99.9."
    )
    report.figure(histogram_figure(results), "Cycles per bar; the bare loops are averaged")
    for result in results:
        report.heading(f"{result.name}: {SCENARIOS[result.name]}")
        report.text(
            f"{len(result.blocks)} blocks of {BLOCK_S:g} s at {result.rate_hz:g} Hz; the cores were {result.busy:.0%} busy, "
            f"{result.steal:.1%} taken by a hypervisor. The core stopped the arm {result.stops} times; at the end it was in {result.state}."
        )
        report.table(wake_rows(result))
        report.table(ratio_rows(result))
        report.table(machine_rows(result))
    report.heading("Advice")
    report.table(
        [{"found": entry.found, "do": entry.remedy} for entry in advice] or [{"found": "nothing to change"}]
    )
    report.heading("Machine")
    report.table([{"": name, "found": text} for name, text in describe(machine)])
    return report.write(folder)


def print_check(check: Check) -> None:
    """What was found, for a terminal."""
    machine = Machine.read()
    for name, text in describe(machine):
        print(f"  {name:18} {text}")
    for result in check.results:
        loop = result.uses[0]
        print(
            f"\n  {result.name}: {SCENARIOS[result.name]}; {result.busy:.0%} busy, {result.steal:.1%} steal"
        )
        print(f"    {'us':24}{'p50':>9}{'p99':>9}{'p99.9':>9}{'max':>9}")
        for row in wake_rows(result):
            print(f"    {row['us']:24}" + "".join(f"{row[key]:9.1f}" for key in (*SHARES, "max")))
        for row in ratio_rows(result):
            print(f"    {row['p99.9']}: p99.9 {row['ratio']:.2f} ({row['95 % interval']}): {row['so']}")
        print(
            f"    {result.scheduling[0]}, {result.overruns} overruns in {result.cycles} cycles ({result.skipped} deadlines skipped), {result.stops} stops, "
            f"{loop.minor_faults} minor and {loop.major_faults} major page faults, {loop.preemptions} preemptions"
        )
    print()
    for entry in advise(machine, found(check.results)):
        print(f"  - {entry.found}\n    {entry.remedy}")
