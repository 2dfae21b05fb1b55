"""`physai shadow report`: what a policy in shadow mode would have done, against what moved the robot, as a page."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from physai_base.embodiment import Embodiment
from physai_lab.report import Report, new_figure, new_run_folder
from physai_lab.shadow import compare as shadow
from physai_lab.shadow.compare import ShadowComparison, ShadowRecording, TaskSpan, Tolerance

OURS, THEIRS, NOTHING, BAD = "#3b6fb6", "#d08a1d", "#9aa3af", "#b3261e"


def shadow_command(options: argparse.Namespace) -> int:
    """Write the report and say in one line what is in it."""
    embodiment = Embodiment.load(options.robot)
    recording = shadow.read_shadow(options.recording, embodiment, options.namespace)
    report = make_report(
        recording,
        embodiment,
        Tolerance(options.joint_tolerance, options.tool_tolerance),
        options.recording.name,
    )
    page = report.write(new_run_folder(options.runs))
    print(f"shadow: {report.summary} — {page}")
    return 0


def make_report(
    recording: ShadowRecording, embodiment: Embodiment, tolerance: Tolerance, title: str = ""
) -> Report:
    """The whole comparison."""
    tasks = shadow.tasks_of(recording)
    ours = shadow.compare(recording.proposals, tasks, recording.track, embodiment)
    theirs = shadow.compare(recording.real, tasks, recording.track, embodiment)
    agreement, theirs_agree = shadow.agreement(ours, tolerance), shadow.agreement(theirs, tolerance)
    hand, latency = shadow.hand_agreement(ours), shadow.latencies(recording)
    vetoes, refusals = shadow.vetoes(recording), shadow.refusals(recording, embodiment)
    horizon, theirs_horizon = shadow.by_horizon(ours), shadow.by_horizon(theirs)
    low, high = agreement["interval"]
    floor = f"; of its own chunks {theirs_agree['share']:.1%} do" if theirs_agree["chunks"] else ""
    summary = (
        f"{_percent(agreement['share'])} of {agreement['chunks']} chunks agree with what moved the robot "
        f"(95 % interval {low:.0%} to {high:.0%}, {agreement['tasks']} tasks{floor}), "
        f"{vetoes['vetoed']} would have been vetoed, {refusals['refused']} refused"
    )
    over_time = [_moment(c, tolerance) for c in ours]
    report = Report(f"Shadow mode: {title}" if title else "Shadow mode", summary)
    report.data = {
        "tolerance": {"joint_rad": tolerance.joint_rad, "tool_m": tolerance.tool_m},
        "agreement": agreement, "agreement of what moved the robot": theirs_agree, "hand": hand, "latency_ms": latency,
        "by_horizon": horizon, "by_horizon of what moved the robot": theirs_horizon, "over_time": over_time,
        "vetoes": vetoes, "refusals": refusals, "tasks": [vars(task) for task in tasks],
        "messages": recording.messages, "unreadable": recording.unreadable, "notes": list(recording.notes),
    }  # fmt: skip

    report.heading("Agreement")
    report.text(
        f"A chunk agrees when each of its steps between its publication and the next chunk's is within "
        f"{tolerance.joint_rad:g} rad (the joint that is furthest off) and {tolerance.tool_m * 1e3:g} mm (the tool) of "
        "where the robot then was. The interval is Wilson's with a task as one trial: chunks of one task go together. "
        "The hand counts as closed below the middle of the widths that were seen."
    )
    report.table(_agreement_rows(agreement, theirs_agree, hand))
    report.heading("Divergence by horizon")
    report.text(
        "How far ahead of its observation a step is, and how far the robot was from it then. What moved the robot, "
        "judged in the same way, is the floor: an arm follows its setpoints with a lag and a new chunk replaces the rest "
        "of the old one. Where the robot itself went since the observation is what a policy that does nothing would be off by."
    )
    report.figure(_horizon_figure(horizon, theirs_horizon), "Half and 95 % of the steps are below the lines.")
    report.heading("Divergence over time")
    report.figure(
        _time_figure(over_time, tasks, vetoes, refusals),
        "The worst due step of each chunk; tasks are shaded.",
    )
    report.heading("What would have happened to the chunks")
    report.text(
        "Vetoes are the world model's. Refusals are the control core's own checks, each chunk by itself with the arm "
        "holding where it was measured when the chunk was published."
    )
    report.table(_gate_rows(recording, vetoes, refusals))
    report.heading("Latency")
    report.table([{"ms": name, **_rounded(figures)} for name, figures in latency.items() if figures])
    report.heading("Tasks")
    report.table([_task_row(k, task, ours, tolerance, recording) for k, task in enumerate(tasks)])
    report.heading("What was recorded")
    for note in recording.notes:
        report.text(note)
    report.table([_topic_row(name, recording) for name in sorted(recording.messages)])
    return report


def _topic_row(name: str, recording: ShadowRecording) -> dict[str, Any]:
    causes = recording.unreadable.get(name, Counter())
    return {
        "topic": name,
        "messages": recording.messages[name],
        "unreadable": sum(causes.values()),
        "most often because": causes.most_common(1)[0][0] if causes else "",
    }


def _moment(comparison: ShadowComparison, tolerance: Tolerance) -> dict[str, Any]:
    return {
        "published_s": comparison.proposal.published_ns / 1e9,
        "sequence": comparison.proposal.sequence,
        "task": comparison.task,
        "joint_rad": _worst(comparison.joint_rad[comparison.due]),
        "tool_m": _worst(comparison.tool_m[comparison.due]),
        "agrees": comparison.agrees(tolerance),
    }


def _worst(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.max()) if len(known) else None


def _percent(share: float) -> str:
    return "–" if np.isnan(share) else f"{share:.1%}"


def _agreement_rows(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], hand: Mapping[str, float]
) -> list[dict[str, Any]]:
    rows = []
    for name, figures in (("shadow", ours), ("what moved the robot", theirs)):
        if figures["chunks"]:
            low, high = figures["interval"]
            rows.append(
                {
                    "chunks of": name, "agree": _percent(figures["share"]), "95 % interval": f"{low:.1%} to {high:.1%}",
                    "chunks": figures["chunks"], "tasks": figures["tasks"], "not comparable": figures["not comparable"],
                    "hand as it was": _percent(hand["share"]) if name == "shadow" else "",
                }
            )  # fmt: skip
    return rows


def _gate_rows(
    recording: ShadowRecording, vetoes: Mapping[str, Any], refusals: Mapping[str, Any]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"what": "published", "chunks": len(recording.proposals), "share": "", "example": ""}
    ]

    def add(what: str, count: int, of: int, example: str = "") -> None:
        rows.append(
            {"what": what, "chunks": count, "share": f"{count / of:.1%}" if of else "", "example": example}
        )

    if vetoes["judged"]:
        add("vetoed by the world model", vetoes["vetoed"], vetoes["judged"])
        for name, found in vetoes["reasons"].items():
            add(f"· {name}", found["chunks"], vetoes["judged"], found["example"])
        add("without a verdict: dropped in mode veto", vetoes["without a verdict"], len(recording.proposals))
    add("refused by the control core", refusals["refused"], refusals["checked"])
    for name, found in sorted(refusals["reasons"].items(), key=lambda item: -item[1]["chunks"]):
        add(f"· {name}", found["chunks"], refusals["checked"], found["example"])
    add(
        "not checked: no joint state near",
        len(recording.proposals) - refusals["checked"],
        len(recording.proposals),
    )
    return rows


def _rounded(figures: Mapping[str, float]) -> dict[str, Any]:
    return {name: int(value) if name == "n" else round(value, 1) for name, value in figures.items()}


def _task_row(
    k: int, task: TaskSpan, ours: Sequence[ShadowComparison], tolerance: Tolerance, recording: ShadowRecording
) -> dict[str, Any]:
    mine = [c for c in ours if c.task == k]
    figures = shadow.agreement(mine, tolerance)
    tool = [c.tool_m[c.due] for c in mine]
    steps = np.concatenate(tool) if tool else np.zeros(0)
    steps = steps[~np.isnan(steps)]
    return {
        "instruction": task.instruction or "(not recorded)",
        "from s": round(task.began_ns / 1e9, 1),
        "for s": round((task.ended_ns - task.began_ns) / 1e9, 1),
        "chunks": len(mine),
        "agree": _percent(figures["share"]),
        "tool p95 mm": round(float(np.quantile(steps, 0.95)) * 1e3, 1) if len(steps) else "–",
        "the shadow policy's end": task.outcome or "–",
        "who moved the robot says": _their_end(task, recording),
    }


def _their_end(task: TaskSpan, recording: ShadowRecording) -> str:
    """The last word of the policy that moved the robot about the same instruction in that time, and shortly after."""
    last = ""
    for word in recording.real_words:
        if (
            task.began_ns <= word.stamp_ns <= task.ended_ns + 2_000_000_000
            and word.instruction == task.instruction
        ):
            last = f"{word.state}: {word.message}" if word.message else word.state
    return last or "–"


def _horizon_figure(ours: Sequence[Mapping[str, float]], theirs: Sequence[Mapping[str, float]]) -> Any:
    figure, axes = new_figure(2, 3.2)
    figure.set_size_inches(9.5, 3.4)
    for axis, name, scale, unit in (
        (axes[0], "tool_m", 1e3, "tool, mm"), (axes[1], "joint_rad", 1.0, "joint furthest off, rad"),
    ):  # fmt: skip
        curves = [("what moved the robot", theirs, name, THEIRS, 3.0), ("shadow", ours, name, OURS, 1.3)]
        if name == "tool_m":
            curves.insert(0, ("doing nothing", ours, "still_m", NOTHING, 1.3))
        for label, rows, column, colour, width in curves:
            if not rows:
                continue
            ahead = [row["ahead_s"] for row in rows]
            for q, style in ((50, "-"), (95, "--")):
                values = [row[f"{column}_p{q}"] * scale for row in rows]
                axis.plot(ahead, values, style, color=colour, linewidth=width, label=f"{label}, p{q}")
        axis.set_xlabel("ahead of the observation, s")
        axis.set_ylabel(unit)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.25)
    axes[0].legend(fontsize=7)
    figure.tight_layout()
    return figure


def _time_figure(
    moments: Sequence[Mapping[str, Any]], tasks: Sequence[TaskSpan], vetoes: Mapping[str, Any], refusals: Mapping[str, Any]
) -> Any:  # fmt: skip
    figure, axes = new_figure(1, 3.2)
    figure.set_size_inches(9.5, 3.2)
    (axis,) = axes
    for k, task in enumerate(tasks):
        axis.axvspan(
            task.began_ns / 1e9, task.ended_ns / 1e9, color="#eef2f8" if k % 2 else "#e2e9f3", zorder=0
        )
    known = [m for m in moments if m["tool_m"] is not None]
    for label, colour, chosen in (
        ("agrees", OURS, [m for m in known if m["agrees"]]),
        ("does not agree", THEIRS, [m for m in known if not m["agrees"]]),
    ):
        axis.plot(
            [m["published_s"] for m in chosen], [m["tool_m"] * 1e3 for m in chosen], ".", color=colour, markersize=4, label=label
        )  # fmt: skip
    top = max((m["tool_m"] * 1e3 for m in known), default=1.0)
    for label, sequences, mark, level in (
        ("would have been vetoed", vetoes["sequences"], "x", 1.06),
        ("would have been refused", refusals["sequences"], "+", 1.12),
    ):
        marked = set(sequences)
        at = [m["published_s"] for m in moments if m["sequence"] in marked]
        if at:
            axis.plot(
                at, [top * level] * len(at), mark, color=BAD, markersize=4, linestyle="none", label=label
            )
    axis.set_xlabel("ROS time, s")
    axis.set_ylabel("tool, mm")
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.25)
    axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
