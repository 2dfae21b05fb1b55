"""What a fault of the campaign is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from physai_lab.faults.trial import SenselessTrial, Trial, TrialResult, World

# Builds its scenario on a trial; what it returns judges the fault's own conditions after the run.
Check = Callable[[], None]
Scenario = Callable[[Trial], Check | None]


@dataclass(frozen=True)
class Fault:
    """One row of the table: how it is produced, what passes and what runs one trial of it."""

    id: str
    title: str
    how: str
    passes: str
    run: Callable[[World, int], TrialResult]
    breaks_without_guards: bool = True
    missing: str = ""  # the guard that the core lacks; such a fault never counts as passed
    real_time: bool = False  # with processes of its own: its trials wait more than they compute
    most: int = 10**6  # trials that are worth while
    impossible: Callable[[], str] = lambda: ""  # why it cannot be produced here; empty: it can

    @property
    def number(self) -> int:
        """For sorting."""
        return int(self.id[1:])


FAULTS: dict[str, Fault] = {}


def simulated(id: str, title: str, passes: str, **fields: object) -> Callable[[Scenario], Scenario]:
    """Register a scenario as the fault `id`; its docstring says how it is produced."""

    def register(scenario: Scenario) -> Scenario:
        def run(world: World, seed: int) -> TrialResult:
            return run_scenario(world, seed, id, scenario)

        FAULTS[id] = Fault(id, title, " ".join((scenario.__doc__ or "").split()), passes, run, **fields)  # type: ignore[arg-type]
        return scenario

    return register


def run_scenario(world: World, seed: int, id: str, scenario: Scenario) -> TrialResult:
    """One trial of a simulated fault."""
    trial = Trial(world, seed)
    try:
        check = scenario(trial)
    except SenselessTrial as why:
        return TrialResult(id, seed, {}, (), False, "not run", "", float("nan"), str(why))
    try:
        trial.run()
        if check and not trial.diverged:
            check()
        begins_s = trial.onset_s if trial.acts_from_s is None else trial.acts_from_s
        refused = [p for p in trial.posts if p.honest and not p.accepted and p.time_s < begins_s]
        trial.expect(not refused, f"a clean chunk was refused: {refused[0].reason if refused else ''}")
        return trial.judge(id)
    finally:
        trial.close()
