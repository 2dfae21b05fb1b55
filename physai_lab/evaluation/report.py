"""What came of an evaluation, for people and for programs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from physai_base.embodiment import Embodiment
from physai_base.task import Task
from physai_lab.evaluation.cell import EpisodeResult
from physai_lab.evaluation.evaluate import CLIPS, SEEDS, Evaluation
from physai_lab.evaluation.touch import forces, said
from physai_lab.report import Report, animation, histogram
from physai_lab.statistics import quantiles, wilson_interval
from physai_sim.camera import RenderingError
from physai_sim.show import Film, clips

SEEDS_NAMED = 8  # of each cause
CLIPS_AT_LEAST, EPISODES_A_CLIP = 2, 8  # and one more for so many episodes
FASTER = 2.0  # than it was
NOT_IN_JSON = ("film", "pose_error_mm", "goal", "motion", "touch")


def summary_line(results: list[EpisodeResult]) -> str:
    """Success with its 95 % Wilson interval, and how often the target was at least picked."""

    def share(good: int) -> str:
        low, high = wilson_interval(good, len(results))
        return f"{good / len(results):.1%} (95 % Wilson interval {low:.1%} to {high:.1%})"

    good, picked = sum(result.success for result in results), sum(result.picked for result in results)
    return f"{good}/{len(results)} succeeded, {share(good)}; {picked} picked the target, {share(picked)}"


def cause_of(result: EpisodeResult) -> str:
    """Without what the policy said of it; empty on success."""
    return "" if result.success else result.failure.split(" (")[0]


def causes(results: list[EpisodeResult]) -> list[tuple[str, int, float, list[int]]]:
    """The most frequent first: cause, episodes, their share of all, and the numbers of the episodes."""
    found = Counter(cause_of(result) for result in results if not result.success)
    return [
        (cause, count, count / len(results), [r.seed % SEEDS for r in results if cause_of(r) == cause])
        for cause, count in found.most_common()
    ]


def lines(results: list[EpisodeResult], embodiment: Embodiment, task: Task) -> list[str]:
    """What is printed besides `summary_line`."""
    found = [
        f"{count:6d} {share:6.1%}  {cause}  (again with {_only(numbers)})"
        for cause, count, share, numbers in causes(results)
    ]
    stops = Counter(result.stop for result in results if result.stop)
    refused, taken = sum(sum(r.rejections.values()) for r in results), sum(r.motion.taken for r in results)
    said_of_stops = ", ".join(f"{cause} {count}" for cause, count in stops.most_common()) or "none"
    return [
        *found,
        f"  {said(forces([result.touch for result in results], embodiment, task))}",
        f"  stops by the controller: {said_of_stops}; chunks that it refused: {refused} of {refused + taken}",
    ]


def write_report(
    results: list[EpisodeResult], what: Evaluation, folder: Path, embodiment: Embodiment, task: Task
) -> Path:
    """report.json and report.html of an evaluation."""
    found = causes(results)
    vetoes: Counter[str] = Counter()
    rejections: Counter[str] = Counter()
    for result in results:
        vetoes.update(result.vetoes)
        rejections.update(result.rejections)
    errors = [error for result in results for error in result.pose_error_mm]
    durations = [result.duration_s for result in results if result.success]
    touched = forces([result.touch for result in results], embodiment, task)
    stops = Counter(result.stop for result in results if result.stop)
    report = Report(f"physai eval: {task.name}, {what.policy}", summary_line(results))
    report.data = {
        "settings": vars(what),
        "robot": embodiment.name,
        "task": task.name,
        "successes": sum(r.success for r in results),
        "picked": sum(r.picked for r in results),
        "episodes": len(results),
        "wilson_95": wilson_interval(sum(r.success for r in results), len(results)),
        "failure_causes": {cause: count for cause, count, _, _ in found},
        "failure_shares": {cause: share for cause, _, share, _ in found},
        "vetoes": dict(vetoes),
        "rejected_chunks": dict(rejections),
        "stops": dict(stops),
        "force_n": touched,
        "duration_s": quantiles(durations),
        "target_pose_error_mm": quantiles(errors),
        "results": [_plain(result) for result in results],
    }
    report.heading("Failure causes")
    report.table(
        [
            {"cause": cause, "episodes": count, "share": f"{share:.1%}", "again with": _only(numbers)}
            for cause, count, share, numbers in found
        ]
        or [{"cause": "none", "episodes": 0}]
    )
    report.heading("Forces on the arm, N")
    report.text(
        "True: the simulator's contacts, every 10 ms, with the weight of what is held. Felt: the controller's observer. "
        "Means are of the time in which something touches."
    )
    report.table(_force_rows(touched))
    report.heading("Stops, vetoes and refused chunks")
    report.table(
        [{"what": f"stopped: {name}", "times": count} for name, count in stops.most_common()]
        + [{"what": name, "times": count} for name, count in (vetoes + rejections).most_common()]
        or [{"what": "none", "times": 0}]
    )
    report.heading("Distributions")
    series = {
        "time to success, s": durations,
        "pose error of the target, mm": errors,
        "most force on the arm, N": [result.touch.most_n for result in results],
    }
    report.figure(
        histogram(series, ""),
        "Successful episodes; perception against the simulator's truth; by the simulator's contacts",
    )
    report.heading("Episodes")
    _show(report, results, what, embodiment, task)
    report.table(
        [
            {
                "number": r.seed % SEEDS, "instruction": r.instruction, "success": r.success, "picked": r.picked,
                "failure": r.failure, "s": round(r.duration_s, 1), "chunks": r.chunks,
                "vetoes": sum(r.vetoes.values()), "N, most": round(r.touch.most_n, 1),
                "N, mean": round(r.touch.mean_n, 1), "stop": r.stop,
            }
            for r in results
        ]
    )  # fmt: skip
    return report.write(folder)


def _show(
    report: Report, results: list[EpisodeResult], what: Evaluation, embodiment: Embodiment, task: Task
) -> None:
    """Clips of a few episodes, the failed ones first."""
    count = min(CLIPS, CLIPS_AT_LEAST + len(results) // EPISODES_A_CLIP)
    filmed = [(r, r.film.shortened()) for r in results if r.film is not None and r.film.shots]
    picked = sorted(filmed, key=lambda one: one[0].success)[:count]
    if not picked:
        return
    try:
        drawn = clips(embodiment, task, what.beyond, [film for _, film in picked])
    except RenderingError as error:
        report.text(f"No clips: {error}")
        return
    report.clips(
        [
            (
                animation(pictures, _spacing_ms(film)),
                f"{r.seed % SEEDS}, {r.instruction}: {r.failure or 'done'}",
            )
            for (r, film), pictures in zip(picked, drawn, strict=True)
        ]
    )
    report.text(
        f"{FASTER:g} times as fast as it was. The room is made for this page; in the corner what the robot's camera saw."
    )


def _spacing_ms(film: Film) -> int:
    return round(1e3 * film.shots[-1].time_s / max(1, len(film.shots) - 1) / FASTER) or 100


def _only(numbers: list[int]) -> str:
    return f"--only {','.join(map(str, numbers[:SEEDS_NAMED]))}{' …' if len(numbers) > SEEDS_NAMED else ''}"


def _plain(result: EpisodeResult) -> dict[str, Any]:
    force = {"most": result.touch.most_n, "mean": result.touch.mean_n}
    return {**{k: v for k, v in vars(result).items() if k not in NOT_IN_JSON}, "force_n": force}


def _force_rows(touched: dict[str, Any]) -> list[dict[str, Any]]:
    rows = [
        {"": "true", "most": touched["peak"], "mean": touched["mean"]},
        {"": "felt", "most": touched["felt_peak"], "mean": touched["felt_mean"]},
        {"": "the robot stops at", "most": touched["limit_of_robot"] or "never", "mean": ""},
    ]
    if "wanted" in touched:
        low, high = touched["wanted"]
        rows.append(
            {
                "": f"wanted {low:g} to {high:g}, share of the time",
                "most": "",
                "mean": touched["share_wanted"],
            }
        )
    return rows
