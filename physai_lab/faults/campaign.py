"""`physai faults`: the trials, their controls, one table and a report."""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_lab.faults.catalogue import FAULTS, Fault
from physai_lab.faults.mutants import MutantBuilder, Mutation, source_root
from physai_lab.faults.mutations import BY_NAME, GUARDS_OFF, MUTATIONS
from physai_lab.faults.trial import TrialResult
from physai_lab.faults.workers import Job, Workers
from physai_lab.progress import Progress, progress_bar
from physai_lab.report import Report, new_run_folder
from physai_lab.statistics import wilson_interval

SEEDS = 1_000_000  # room between the seeds of two campaigns
OFF_TRIALS = 40  # of each fault with the guards off, of the same seeds: one that fails is enough
REAL_TIME_WORKERS = 3
MUTANT_TRIALS = 120  # of each fault that should catch it, until one does


@dataclass(frozen=True)
class What:
    """What to run."""

    faults: tuple[Fault, ...]
    trials: int
    seed: int = 0
    workers: int = 1
    controls: bool = True
    mutations: tuple[Mutation, ...] = MUTATIONS

    def seeds(self, fault: Fault) -> range:
        """The seeds of a fault's trials."""
        return range(self.seed * SEEDS, self.seed * SEEDS + min(self.trials, fault.most))


@dataclass
class Catch:
    """What became of a mutant."""

    mutation: Mutation
    trials: int = 0
    fault: str = ""  # that caught it; empty: it survived
    seed: int = 0
    how: str = ""


@dataclass
class CampaignOutcome:
    """Everything that a campaign showed, also when it was interrupted."""

    what: What
    on: dict[str, list[TrialResult]] = field(default_factory=lambda: defaultdict(list))
    off: dict[str, list[TrialResult]] = field(default_factory=lambda: defaultdict(list))
    all_off: dict[str, list[TrialResult]] = field(default_factory=lambda: defaultdict(list))
    rebuilt: dict[str, list[TrialResult]] = field(default_factory=lambda: defaultdict(list))
    catches: dict[str, Catch] = field(default_factory=dict)
    senseless: dict[str, list[TrialResult]] = field(default_factory=lambda: defaultdict(list))
    clean: dict[str, Any] = field(default_factory=dict)
    interrupted: bool = False

    def failures(self, fault: Fault) -> list[TrialResult]:
        """Trials with guards on that failed."""
        return [result for result in self.on[fault.id] if result.failures]

    def verdict(self, fault: Fault) -> str:
        """One word or two for the table."""
        if why := fault.impossible():
            return f"cannot be produced here: {why}"
        if not self.on[fault.id]:
            left_out = self.senseless[fault.id]
            return f"makes no sense here: {left_out[0].senseless}" if left_out else "not run"
        if fault.missing:
            return "not yet guarded"
        if self.failures(fault):
            return "FAILS"
        if self.what.controls and fault.breaks_without_guards and not self.shown(fault):
            return "proves nothing" if self.off[fault.id] else "control not run"
        return "passes"

    def shown(self, fault: Fault) -> bool:
        """Whether its trials fail without its guards, and leave the envelope without these or without all."""
        off = self.off[fault.id]
        left = any(r.broke_envelope for r in (*off, *self.all_off[fault.id]))
        return left and any(r.failures for r in off)

    def differing(self) -> list[tuple[str, int]]:
        """Trials in which the library rebuilt without a mutation behaved differently from the installed one."""
        installed = {(r.fault, r.seed): r for results in self.on.values() for r in results}
        return [
            (r.fault, r.seed)
            for results in self.rebuilt.values()
            for r in results
            if (r.fault, r.seed) in installed and r.terms != installed[r.fault, r.seed].terms
        ]

    def survivors(self) -> list[Catch]:
        """Mutants that nothing caught."""
        return [catch for catch in self.catches.values() if not catch.fault]

    def good(self) -> bool:
        """Everything that was run is as it should be."""
        sensible = (f for f in self.what.faults if self.on[f.id] or not self.senseless[f.id])
        verdicts = {self.verdict(f) for f in sensible if not f.impossible()}
        return (
            not self.interrupted
            and verdicts <= {"passes"}
            and not self.survivors()
            and not self.differing()
            and self.clean.get("stops", 0) == 0
        )


def choose(ids: str | None) -> tuple[Fault, ...]:
    """The faults that `ids` names, all for None.

    Raises:
        PhysaiError: a name that is not known.
    """
    if not ids:
        return tuple(FAULTS.values())
    names = [name.strip().upper() for name in ids.split(",")]
    if unknown := [name for name in names if name not in FAULTS]:
        raise PhysaiError(f"--ids: there is no fault {unknown[0]}; known: {', '.join(FAULTS)}")
    return tuple(FAULTS[name] for name in names)


def guards_of(fault: Fault) -> list[Mutation]:
    """What takes away the guards that this fault is for, and those that stand in front of them; where no removal names it, all."""
    own = [m for m in GUARDS_OFF if fault.id in m.caught_by]
    names = {m.name for m in own} | {name for m in own for name in m.behind}
    return [m for m in GUARDS_OFF if m.name in names] or list(GUARDS_OFF)


class Campaign:
    """Runs what was asked for; `outcome` holds what there is at any time."""

    def __init__(
        self, embodiment: Embodiment, what: What, progress: Progress, sources: Path | None = None
    ) -> None:
        """`sources` is a checkout with the C sources, searched for where it is None."""
        self._robot, self._what, self._progress = embodiment.path, what, progress
        self._sources = source_root(sources) if what.controls else None
        self.outcome = CampaignOutcome(what)
        self._possible = tuple(f for f in what.faults if not f.impossible())

    def run(self) -> CampaignOutcome:
        """All of it; an interruption ends it with what there is."""
        try:
            self._trials("trials", "", self._possible, self.outcome.on)
            if self._sources is not None:
                self._controls(self._sources)
        except KeyboardInterrupt:
            self.outcome.interrupted = True
        return self.outcome

    def _trials(
        self,
        title: str,
        libraries: str,
        faults: Iterable[Fault],
        into: dict[str, list[TrialResult]],
        most: int | None = None,
    ) -> None:
        for real_time, workers in ((False, self._what.workers), (True, REAL_TIME_WORKERS)):
            jobs = [
                Job(f.id, s) for f in faults if f.real_time is real_time for s in self._what.seeds(f)[:most]
            ]
            if not jobs:
                continue
            with Workers(self._robot, min(workers, len(jobs)), libraries) as pool:
                failed = 0
                for done, (job, result) in enumerate(pool.run(jobs), 1):
                    (self.outcome.senseless if result.senseless else into)[job.fault].append(result)
                    failed += bool(result.failures)
                    self._progress(done, len(jobs), f"{title}: {job.fault}, {failed} failed")
        for results in into.values():
            results.sort(key=lambda r: r.seed)

    # ---- the controls ----

    def _controls(self, sources: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="physai_mutants_") as folder:
            builder = MutantBuilder(sources, Path(folder))
            meant = [f for f in self._possible if f.breaks_without_guards]
            plain = builder.build("plain")
            self._rebuilt(str(plain))
            for fault in meant:
                off = builder.build(f"{fault.id}_guards_off", guards_of(fault))
                self._trials("guards off", str(off), [fault], self.outcome.off, OFF_TRIALS)
            kept = [f for f in meant if not any(r.broke_envelope for r in self.outcome.off[f.id])]
            if kept:
                bare = builder.build("all_guards_off", list(GUARDS_OFF))
                self._trials("all guards off", str(bare), kept, self.outcome.all_off, OFF_TRIALS)
            self._mutants(builder)

    def _rebuilt(self, libraries: str) -> None:
        """The sources give the installed library: else the controls would be about something else."""
        few = [Job(f.id, s) for f in self._possible if not f.real_time for s in self._what.seeds(f)[:2]]
        with Workers(self._robot, self._what.workers, libraries) as pool:
            for job, result in pool.run(few):
                self.outcome.rebuilt[job.fault].append(result)

    def _mutants(self, builder: MutantBuilder) -> None:
        chosen = {f.id for f in self._possible}
        mutations = [m for m in self._what.mutations if chosen & set(m.caught_by)]
        passed = {
            (r.fault, r.seed) for results in self.outcome.on.values() for r in results if not r.failures
        }
        for count, mutation in enumerate(mutations, 1):
            behind = [BY_NAME[name] for name in mutation.behind]
            libraries = builder.build(mutation.name, [*behind, mutation])
            base = builder.build(f"{mutation.name}_base", behind) if behind else None
            catch = self.outcome.catches[mutation.name] = Catch(mutation)
            with Workers(self._robot, self._what.workers, str(libraries)) as pool:
                jobs = self._mutant_jobs(mutation)
                for job, result in pool.run(jobs, enough=lambda job, catch=catch: bool(catch.fault)):  # type: ignore[misc]
                    catch.trials += 1
                    if catch.fault or not result.failures:
                        continue
                    # What stands in front is gone in both; only this guard differs.
                    sound = self._passes(job, base) if base else (job.fault, job.seed) in passed
                    if sound:
                        catch.fault, catch.seed, catch.how = job.fault, job.seed, result.failures[0]
            self._progress(count, len(mutations), f"mutants: {mutation.name}")

    def _passes(self, job: Job, libraries: Path) -> bool:
        with Workers(self._robot, 1, str(libraries)) as pool:
            ((_, result),) = list(pool.run([job]))
        return not result.failures

    def _mutant_jobs(self, mutation: Mutation) -> list[Job]:
        faults = [f for f in self._possible if f.id in mutation.caught_by]
        first = self._what.seed * SEEDS
        trials = min(MUTANT_TRIALS, self._what.trials)
        return [Job(f.id, first + k) for k in range(trials) for f in faults if k < f.most]


# ---- what people read ----


def fault_rows(outcome: CampaignOutcome) -> list[dict[str, Any]]:
    """One row for each fault."""
    rows = []
    for fault in outcome.what.faults:
        on, off, all_off = outcome.on[fault.id], outcome.off[fault.id], outcome.all_off[fault.id]
        failed = len(outcome.failures(fault))
        worst = max((t for r in on for t in r.terms.values()), key=lambda t: t.share, default=None)
        reaction = np.array([r.reaction_ms for r in on if r.reaction_ms >= 0])
        states = Counter(r.state for r in on).most_common(3)
        rows.append(
            {
                "fault": fault.id,
                "what": fault.title,
                "trials": len(on),
                "failed": failed,
                "at most (95 %)": f"{wilson_interval(failed, len(on))[1]:.2%}" if on else "",
                "worst term": f"{worst.name} {worst.share:.0%}" if worst else "",
                "ends in": ", ".join(f"{state} {count}" for state, count in states),
                "latched after, ms": f"{np.median(reaction):.0f} / {reaction.max():.0f}"
                if len(reaction)
                else "",
                "guards off fail": f"{sum(bool(r.failures) for r in off)}/{len(off)}" if off else "",
                "left the envelope": _broke_envelope(off),
                "all guards off, left the envelope": _broke_envelope(all_off),
                "verdict": outcome.verdict(fault),
            }
        )
    return rows


def _left_out(outcome: CampaignOutcome) -> list[str]:
    """Trials that were not run because the robot has not what they are about, by their reasons."""
    found = []
    for fault in outcome.what.faults:
        reasons = Counter({r.seed: r.senseless for r in outcome.senseless[fault.id]}.values())
        found += [f"{fault.id}: {count} trials left out: {why}" for why, count in reasons.items()]
    return found


def _broke_envelope(results: list[TrialResult]) -> str:
    return f"{sum(r.broke_envelope for r in results)}/{len(results)}" if results else ""


def summary(outcome: CampaignOutcome) -> str:
    """One line."""
    verdicts = Counter(outcome.verdict(f).split(":")[0] for f in outcome.what.faults)
    trials = sum(map(len, outcome.on.values()))
    failed = sum(len(outcome.failures(f)) for f in outcome.what.faults if not f.missing)
    parts = [f"{trials} trials, {failed} failed", ", ".join(f"{n} {v}" for v, n in verdicts.most_common())]
    if outcome.catches:
        caught = len(outcome.catches) - len(outcome.survivors())
        parts.append(f"{caught}/{len(outcome.catches)} mutants caught")
    if outcome.clean:
        clean = outcome.clean
        parts = [
            f"{clean['stops']} false stops, {clean['refused']} of {clean['chunks']} chunks refused in {clean['hours']:.2f} h of "
            f"clean operation; stops per hour at most {clean['stops per hour, at most (95 %)']} (95 %)"
        ]  # fmt: skip
    if outcome.interrupted:
        parts.append("interrupted")
    return "; ".join(parts)


def _failure_rows(outcome: CampaignOutcome) -> list[dict[str, Any]]:
    return [
        {
            "fault": r.fault,
            "seed": r.seed,
            "state": r.state,
            "cause": r.cause,
            "failed": "; ".join(r.failures),
        }
        for f in outcome.what.faults
        for r in outcome.failures(f)[:5]
    ]


def write_report(outcome: CampaignOutcome, folder: Path) -> Path:
    """report.json and report.html."""
    report = Report("physai faults", summary(outcome))
    rows = fault_rows(outcome)
    mutants = [
        {"mutant": c.mutation.name, "guard": c.mutation.guard, "caught": bool(c.fault), "by": f"{c.fault} seed {c.seed}" if c.fault else "",
         "how": c.how, "trials": c.trials, "file": c.mutation.file}
        for c in outcome.catches.values()
    ]  # fmt: skip
    report.data = {
        "trials": outcome.what.trials, "seed": outcome.what.seed, "faults": rows, "mutants": mutants, "clean": outcome.clean,
        "failures": [vars_of(r) for f in outcome.what.faults for r in outcome.failures(f)],
        "worst": {f.id: _worst(outcome.on[f.id]) for f in outcome.what.faults},
        "rebuilt_differs": outcome.differing(), "interrupted": outcome.interrupted,
    }  # fmt: skip
    report.heading("Faults")
    report.table(rows)
    report.text(
        "A trial fails when the plant's log leaves the envelope or a condition of its fault does not hold. "
        "'At most' is the upper end of the 95 % Wilson interval. 'Latched after' is p50 / maximum, simulated."
    )
    report.heading("How each is produced and what passes")
    report.table(
        [
            {"fault": f.id, "produced by": f.how, "passes": f.passes, "missing": f.missing or f.impossible()}
            for f in outcome.what.faults
        ]
    )
    if mutants:
        report.heading("Mutants of the guards")
        report.table(mutants)
    if outcome.clean:
        report.heading("Clean operation")
        report.table([{k: v for k, v in outcome.clean.items() if not isinstance(v, list | dict)}])
    for line in _left_out(outcome):
        report.text(line)
    failures = _failure_rows(outcome)
    if failures:
        report.heading("Failed trials (five of each fault)")
        report.table(failures)
    return report.write(folder)


def vars_of(result: TrialResult) -> dict[str, Any]:
    """A result for JSON."""
    return {**vars(result), "terms": {t.name: [t.value, t.bound] for t in result.terms.values()}}


def _worst(results: list[TrialResult]) -> dict[str, float]:
    worst: dict[str, float] = {}
    for result in results:
        for term in result.terms.values():
            worst[term.name] = max(worst.get(term.name, 0.0), term.share)
    return worst


def _console() -> Any:
    from rich.console import Console

    # A cell's text, an error with brackets in it among it, is no markup.
    console = Console(markup=False, emoji=False)
    return console if console.is_terminal else Console(width=160, markup=False, emoji=False)


def print_table(outcome: CampaignOutcome) -> None:
    """To the terminal."""
    from rich.table import Table

    columns = (
        "fault",
        "what",
        "trials",
        "failed",
        "at most (95 %)",
        "worst term",
        "latched after, ms",
        "guards off fail",
        "verdict",
    )
    table = Table(box=None, header_style="bold")
    for column in columns:
        table.add_column(column)
    for row in fault_rows(outcome):
        table.add_row(*(str(row[column]) for column in columns))
    console = _console()
    console.print(table)
    for row in _failure_rows(outcome):
        console.print(f"  {row['fault']} seed {row['seed']}: {row['failed']}", markup=False)
    for line in _left_out(outcome):
        console.print(f"  {line}")
    for catch in outcome.survivors():
        console.print(
            f"  mutant {catch.mutation.name} ({catch.mutation.guard}) survived {catch.trials} trials",
            markup=False,
        )
    for fault, seed in outcome.differing():
        console.print(
            f"  {fault} seed {seed}: the rebuilt library behaves differently from the installed one",
            markup=False,
        )


def print_list() -> None:
    """Each fault: how it is produced, what passes, whether that is possible here."""
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for column in ("fault", "what", "how it is produced", "what passes", "here"):
        table.add_column(column)
    for fault in FAULTS.values():
        here = "yes" if not fault.missing else f"not yet guarded: {fault.missing}"
        if why := fault.impossible():
            here = f"no: {why}"
        table.add_row(fault.id, fault.title, fault.how, fault.passes, here)
    _console().print(table)


def _clean(embodiment: Embodiment, options: argparse.Namespace) -> CampaignOutcome:
    from physai_base.task import Task
    from physai_lab.faults.clean import operate

    if not options.hours > 0:
        raise PhysaiError(f"--hours must be above 0, got {options.hours:g}")
    task = Task.load(options.task)
    with progress_bar("clean") as progress:
        clean = operate(
            embodiment, task, options.hours, options.seed, options.workers, progress, options.sight
        )
    what = What((), 0, options.seed, options.workers)
    return CampaignOutcome(what, clean=clean.row(), interrupted=clean.hours < options.hours)


def faults(options: argparse.Namespace) -> int:
    """The command; the exit code is 0 only when everything that was run is as it should be."""

    if options.list:
        print_list()
        return 0
    embodiment = Embodiment.load(options.robot)
    if options.clean:
        outcome = _clean(embodiment, options)
        print(f"faults: {summary(outcome)} — {write_report(outcome, new_run_folder(options.runs))}")
        return 0 if outcome.good() else 1
    what = What(choose(options.ids), options.trials, options.seed, options.workers, options.controls)
    with progress_bar("faults") as progress:
        outcome = Campaign(embodiment, what, progress, options.sources).run()
    page = write_report(outcome, new_run_folder(options.runs))
    print_table(outcome)
    print(f"faults: {summary(outcome)} — {page}")
    return 0 if outcome.good() else 1
