"""Whether the policy's doubts foresee its failures: the cup is put elsewhere under its hand, and in clean runs it is not.

python test/bench/bench_handover.py [--doubts models/cups/doubt,...] [--clean 120] [--teleported 40] [--keep episodes.pickle]

At policy steps 25 and 45 the target cup is put up to 6 cm aside (`near`), up to 20 cm aside and on its side (`tipped`), or
anywhere on the table (`away`); see `physai_sim.disturbance.Teleport`. Nobody takes over here: the doubts are noted and the
policy goes on, so that it shows what would have come of it. A run fails at the first moment at which a cup falls over,
another cup is moved by 3 cm, the controller stops or the task is given up; a cup that was laid on its side has not fallen.

Scores count up to that moment, or to the end of a successful run. AUROC asks whether the highest of a run tells failures from
all successes, clean or teleported. Scenes are from the simulator's state with perception's noise.

Beside the doubts stand the cheapest alternatives, in the same runs: a clock that asks when a task takes longer than any clean
one that succeeded, and a rule that asks when the target lies or is out of the arm's reach.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from physai_base.bundle import Bundle
from physai_base.embodiment import Embodiment
from physai_base.expert import Goal
from physai_base.task import Task
from physai_lab.data.demos import goal_of
from physai_lab.evaluation.cell import LATENCY_S, Cell, Disturbs
from physai_lab.progress import progress_bar
from physai_lab.report import Report, host, new_figure, new_run_folder
from physai_lab.statistics import wilson_interval
from physai_lab.training import calibrate_doubt
from physai_policy.agent import AgentSettings
from physai_policy.conformal import Band, Run, calibrate
from physai_policy.doubt import SCORES, Doubt, Monitor, Surprise
from physai_policy.flow_policy import FlowPolicy
from physai_policy.policy import Observation, Proposal
from physai_sim.disturbance import TELEPORTS, Disturbance, Teleport
from physai_tasks.cups.outcome import Cause

FIRST_SEED = {
    "calibration": calibrate_doubt.FIRST_SEED, "clean": 700_000, "near": 710_000, "tipped": 720_000, "away": 730_000,
    "moving": 740_000, "pushed": 750_000,
}  # fmt: skip
PARTS = ("poses", "masses", "friction")
TIMEOUT_S = 20.0


class Noting(Monitor):
    """A monitor that keeps what it saw, for densities that come later."""

    def begin(self) -> None:
        """A new task."""
        super().begin()
        self.features: list[np.ndarray] = []

    def look(self, observation: Observation, chunk: Proposal, progress: float) -> Doubt:
        """Of one inference."""
        self.features.append(observation.features)
        return super().look(observation, chunk, progress)


class Watch:
    """Applies a disturbance and notes when the run was lost, by the simulator's truth."""

    def __init__(self, cell: Cell, goal: Goal, disturbance: Disturbs | None, lying: bool) -> None:
        self._scene, self._goal, self._disturbance, self._lying = cell.scene, goal, disturbance, lying
        self._began_s = cell.scene.data.time
        self._start = cell.scene.stances()
        self.lost_s: float | None = None  # since the beginning
        self.hopeless_s: float | None = None  # the target lies or is out of reach
        self._workspace = cell.task.workcell.workspace_min[:2], cell.task.workcell.workspace_max[:2]

    def apply(self) -> None:
        """Every 10 ms."""
        if self._disturbance is not None:
            self._disturbance.apply()
        if self.lost_s is None and self._is_lost():
            self.lost_s = self._scene.data.time - self._began_s
        if self.hopeless_s is None and self._is_hopeless():
            self.hopeless_s = self._scene.data.time - self._began_s

    def _is_hopeless(self) -> bool:
        low, high = self._workspace
        place = self._scene.position(self._goal.target)[:2]
        lies = self._scene.upright(self._goal.target) < self._scene.task.upright_cosine
        return bool(lies or (place < low).any() or (place > high).any())

    def _is_lost(self) -> bool:
        scene, goal = self._scene, self._goal
        found = scene.task.outcome(goal, scene.situation(), self._start)
        return bool(found.harm) or (found.lack == Cause.FELL and not self._lying)


@dataclass(frozen=True)
class Episode:
    """What was seen in one run."""

    kind: str
    seed: int
    success: bool
    failure: str
    end_s: float  # of a failure, since the beginning, or of the run
    moved_s: tuple[float, ...]
    hopeless_s: float | None  # at which the target lay or was out of reach
    run: Run
    features: np.ndarray  # (T, F)


def record(cell: Cell, policy: FlowPolicy, surprise: Surprise, kind: str, index: int) -> Episode:
    """One run."""
    seed = FIRST_SEED[kind] + index
    cell.randomize(seed, PARTS)
    goal = goal_of(index, cell.task, cell.situation())
    disturbance: Teleport | Disturbance | None = None
    if kind in TELEPORTS:
        disturbance = Teleport(cell.scene, goal.target, kind, seed)
    elif kind != "clean":
        cups = calibrate_doubt.disturbance_of(index) if kind == "calibration" else kind
        disturbance = Disturbance(cell.scene, goal.target, cups, seed)
    watch = Watch(cell, goal, disturbance, lying=kind == "tipped")
    cell.disturbance = watch
    monitor, began_s = Noting(surprise, None), cell.scene.data.time
    result = cell.run(
        policy, goal, "", seed, settings=AgentSettings(timeout_s=TIMEOUT_S), monitor=monitor,
        latency_s=calibrate_doubt.latency_of(seed) if kind == "calibration" else LATENCY_S,
    )  # fmt: skip
    end_s = result.duration_s if result.success or watch.lost_s is None else watch.lost_s
    moved = tuple(at - began_s for at in disturbance.moved_s) if isinstance(disturbance, Teleport) else ()
    return Episode(
        kind,
        seed,
        result.success,
        result.failure,
        end_s,
        moved,
        watch.hopeless_s,
        monitor.run,
        np.array(monitor.features),
    )


def record_all(
    options: argparse.Namespace, embodiment: Embodiment, task: Task, surprise: Surprise
) -> list[Episode]:
    """All runs."""
    policy = FlowPolicy(Bundle.open(options.policy, kind="policy", robot=embodiment.name), task)
    counts = {
        "calibration": options.calibration,
        "clean": options.clean,
        "moving": options.others,
        "pushed": options.others,
    }
    counts |= dict.fromkeys(TELEPORTS, options.teleported)
    jobs = [(kind, index) for kind, count in counts.items() for index in range(count)]
    cell, episodes = Cell(embodiment, task, sight="truth"), []
    with progress_bar("runs") as progress:
        for done, (kind, index) in enumerate(jobs, start=1):
            episodes.append(record(cell, policy, surprise, kind, index))
            progress(done, len(jobs), kind)
    cell.close()
    return episodes


def as_json(episode: Episode) -> dict[str, Any]:
    """For `--keep`."""
    run = {"elapsed_s": episode.run.elapsed_s.tolist(), "scores": episode.run.scores.tolist()}
    return {**asdict(episode), "run": run, "features": np.round(episode.features, 5).tolist()}


def from_json(document: dict[str, Any]) -> Episode:
    """What `as_json` gave."""
    run = Run(np.array(document["run"]["elapsed_s"]), np.array(document["run"]["scores"], float))
    features = np.array(document["features"], np.float32)
    return Episode(**{**document, "run": run, "features": features, "moved_s": tuple(document["moved_s"])})


def rescored(episode: Episode, surprise: Surprise) -> Episode:
    """The same run with the surprise of another density."""
    scores = episode.run.scores.copy()
    scores[:, list(SCORES).index("surprise")] = [surprise(features) for features in episode.features]
    return replace(episode, run=Run(episode.run.elapsed_s, scores))


def levels(band: Band, episode: Episode) -> tuple[np.ndarray, np.ndarray]:
    """Times (T,) up to its end and how far above what is usual each score is (T, S), 1 at the threshold."""
    run = episode.run
    before = run.elapsed_s <= episode.end_s
    times = run.elapsed_s[before]
    return times, np.array([band.excess(t, s) for t, s in zip(times, run.scores[before], strict=True)])


def auroc(failed: np.ndarray, succeeded: np.ndarray) -> float:
    """The chance that a failure has a higher level than a success."""
    apart = failed[:, None] - succeeded[None]
    return float((apart > 0).mean() + 0.5 * (apart == 0).mean())


def bootstrap(failed: np.ndarray, succeeded: np.ndarray, resamples: int = 2000) -> tuple[float, float]:
    """95 % interval of the AUROC."""
    rng = np.random.default_rng(0)
    values = [
        auroc(rng.choice(failed, len(failed)), rng.choice(succeeded, len(succeeded)))
        for _ in range(resamples)
    ]
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def rate(band: Band, episodes: list[Episode], columns: list[int]) -> dict[str, float]:
    """Figures for the highest of those scores."""
    seen = []
    for episode in episodes:
        times, excess = levels(band, episode)
        level = excess[:, columns].max(axis=1)
        above = np.flatnonzero(level > 1)
        seen.append((float(level.max()), float(times[above[0]]) if len(above) else np.inf))
    return figures_of(episodes, seen)


def by_clock(episodes: list[Episode]) -> dict[str, float]:
    """Figures of a clock that asks once a task takes longer than any clean one that succeeded."""
    limit_s = max((e.end_s for e in episodes if e.success and e.kind == "clean"), default=TIMEOUT_S)
    return figures_of(
        episodes, [(e.end_s / limit_s, limit_s if e.end_s > limit_s else np.inf) for e in episodes]
    )


def by_rule(episodes: list[Episode]) -> dict[str, float]:
    """Figures of a rule that asks when the target lies or is out of reach."""
    found = [
        e.hopeless_s if e.hopeless_s is not None and e.hopeless_s < e.end_s else np.inf for e in episodes
    ]
    return figures_of(episodes, [(2.0 if np.isfinite(at_s) else 0.0, at_s) for at_s in found])


def figures_of(episodes: list[Episode], seen: list[tuple[float, float]]) -> dict[str, float]:
    """Figures for the highest level of each run, above 1 an alarm, and the time of its first alarm, infinite for none."""
    level, at_s = np.array(seen).T
    good = np.array([e.success for e in episodes])
    failed, succeeded = level[~good], level[good]
    lead = np.array([e.end_s for e in episodes])[~good] - at_s[~good]
    low, high = bootstrap(failed, succeeded)
    return {
        "auroc": auroc(failed, succeeded), "low": low, "high": high,
        "tpr_at_5": float((failed > np.quantile(succeeded, 0.95)).mean()),
        "detected": float((failed > 1).mean()), "median_lead_s": float(np.median(lead)),
        "in_time": float((lead >= 1.0).mean()), "asked_in_successes": float((succeeded > 1).mean()),
    }  # fmt: skip


def alarms(band: Band, episodes: list[Episode]) -> tuple[int, int]:
    """How many of the successful ones would have been handed over."""
    good = [e for e in episodes if e.success]
    return sum(bool((levels(band, e)[1] > 1).any()) for e in good), len(good)


def report(bundle: Bundle, episodes: list[Episode], options: argparse.Namespace) -> None:
    """Print what came of it for one density, and write plots and numbers."""
    if "thresholds" in bundle.config:
        band = Band.from_json(bundle.config["thresholds"])
    else:
        band = calibrate([e.run for e in episodes if e.kind == "calibration" and e.success], options.share)
    print(
        f"\n{bundle.path.name}: thresholds from {band.runs} runs after {band.runs} for their shape, alpha {band.alpha}"
    )
    counts, page = [], Report(f"Hand-over: {bundle.path.name}", str(host()))
    for kind in ("clean", "moving", "pushed", *TELEPORTS):
        mine = [e for e in episodes if e.kind == kind]
        if not mine:
            continue
        asked, good = alarms(band, mine)
        low, high = wilson_interval(asked, good)
        row = {
            "runs": kind, "number": len(mine), "succeeded": good, "of these asks in": asked,
            "share": f"{asked / max(good, 1):.1%}", "95 %": f"{low:.1%} to {high:.1%}",
            "failures": "; ".join(f"{n} {why}" for why, n in Counter(e.failure.split(" (")[0] for e in mine if not e.success).items()),
        }  # fmt: skip
        counts.append(row)
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    page.heading("Runs, and successful ones that would have been handed over")
    page.table(counts)
    rated = [e for e in episodes if e.kind in ("clean", *TELEPORTS)]
    if all(e.success for e in rated):
        print("nothing failed: there is nothing to rate")
        return
    everything = list(range(len(SCORES)))
    choices = {name: [i] for i, name in enumerate(SCORES)} | {"all four": everything}
    rows = []
    teleported = [e for e in rated if e.kind != "clean"]
    ratings = {name: rate(band, rated, columns) for name, columns in choices.items()}
    ratings |= {"clock alone": by_clock(rated), "target lies or is out of reach": by_rule(rated)}
    for name, figures in {**ratings, "all four, without clean": rate(band, teleported, everything)}.items():
        rows.append({"score": name, **{key: round(value, 3) for key, value in figures.items()}})
        print(
            f"{name:30} AUROC {figures['auroc']:.3f} ({figures['low']:.3f} to {figures['high']:.3f})  TPR at 5 % FPR "
            f"{figures['tpr_at_5']:.2f}  failures detected {figures['detected']:.2f}, 1 s before {figures['in_time']:.2f}, "
            f"median lead {figures['median_lead_s']:.1f} s, asked for in {figures['asked_in_successes']:.2f} of successes"
        )
    page.heading("Failures against all successes, clean and teleported")
    page.table(rows)
    page.figure(
        plot(band, rated, choices),
        "Levels: 1 is the threshold; a run's curve ends with it, or with its failure",
    )
    page.data = {"counts": counts, "rates": rows, "settings": {k: str(v) for k, v in vars(options).items()}}
    print(f"report: {page.write(new_run_folder(options.runs))}")


def plot(band: Band, episodes: list[Episode], choices: dict[str, list[int]]) -> Any:
    """ROC curves, and levels over time."""
    figure, (roc, over_time) = new_figure(2, 3.6)
    for name, columns in choices.items():
        highest = np.array([levels(band, e)[1][:, columns].max() for e in episodes])
        good = np.array([e.success for e in episodes])
        at = np.sort(highest)[::-1]
        false = [(highest[good] >= level).mean() for level in at]
        true = [(highest[~good] >= level).mean() for level in at]
        roc.plot([0, *false], [0, *true], label=name)
    roc.set_xlabel("successes above")
    roc.set_ylabel("failures above")
    roc.legend(fontsize=7)
    for episode in episodes:
        times, excess = levels(band, episode)
        colour = "tab:red" if not episode.success else "0.4" if episode.kind == "clean" else "tab:blue"
        over_time.plot(times, np.clip(excess.max(axis=1), 0.05, None), color=colour, lw=0.5, alpha=0.5)
    over_time.axhline(1.0, color="k", lw=0.8)
    over_time.set_yscale("log")
    over_time.set_xlabel("s since the task began")
    over_time.set_title("clean grey, recovered blue, failed red", fontsize=8)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--policy", default="cups/policy")
    parser.add_argument(
        "--doubts", type=lambda t: t.split(","), default=["cups/doubt"],
        help="bundles by commas; one without thresholds gets them from the --calibration runs",
    )  # fmt: skip
    parser.add_argument("--clean", type=int, default=120, help="runs in which nothing happens")
    parser.add_argument("--teleported", type=int, default=40, help="runs of each kind")
    parser.add_argument("--others", type=int, default=30, help="runs with moving, and with pushed cups")
    parser.add_argument(
        "--calibration", type=int, default=0, help="runs as `physai calibrate-doubt` makes them"
    )
    parser.add_argument("--share", type=float, default=0.02, help="as for `physai calibrate-doubt`")
    parser.add_argument("--keep", type=Path, default=None, help="write the runs there, or read them")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options = parser.parse_args()
    embodiment, task = Embodiment.load("fr3"), Task.load("cups")
    bundles = [Bundle.open(name, kind="doubt", robot=embodiment.name) for name in options.doubts]
    if options.keep is not None and options.keep.exists():
        episodes = [from_json(document) for document in json.loads(options.keep.read_text())]
    else:
        episodes = record_all(options, embodiment, task, Surprise(bundles[0], task))
        if options.keep is not None:
            options.keep.write_text(json.dumps([as_json(episode) for episode in episodes]))
    for bundle in bundles:
        surprise = Surprise(bundle, task)
        scored = [rescored(episode, surprise) for episode in episodes]
        report(bundle, scored, options)


if __name__ == "__main__":
    main()
