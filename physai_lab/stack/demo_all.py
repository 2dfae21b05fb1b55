"""`physai demo-all`: the demo of each task that has a policy, one real stack after another, and one page about them all."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from physai_base.bundle import find_bundle
from physai_base.errors import BundleError, PhysaiError
from physai_base.task import Task, definitions
from physai_lab.report import Report, new_run_folder
from physai_lab.statistics import fewest_successes, wilson_interval

INTERRUPTED = 130


@dataclass(frozen=True)
class TaskDemo:
    """What came of one task's demo."""

    task: str
    world_model: str  # "veto", or "off" where the task has none
    episodes: int
    good: int
    needed: int  # so many a policy that reaches what the task says misses once in twenty
    said: str  # why it ended, where there is no report
    page: Path | None

    @property
    def reached(self) -> bool:
        """Whether it is good enough."""
        return self.page is not None and self.good >= self.needed

    @property
    def line(self) -> str:
        """For the terminal."""
        if self.page is None:
            return f"{self.task}: FAILED: {self.said}"
        verdict = "" if self.reached else f", BELOW the {self.needed} that it should reach"
        without = "" if self.world_model == "veto" else " (it has no world model)"
        return f"{self.task}: {self.good}/{self.episodes} succeeded{verdict}{without} — {self.page}"


def demo_all(options: argparse.Namespace) -> int:
    """Run them; 0 when each task has reached what it should.

    Raises:
        PhysaiError: a task is not there or has no policy, or none has one.
    """
    tasks = [Task.load(name) for name in _names(options.tasks)]
    folder = new_run_folder(options.runs)
    found = []
    for task in tasks:
        print(f"demo-all: {task.name}", flush=True)
        found.append(_demo(task, options, folder))
    page = _write_report(found, folder)
    for one in found:
        print(f"demo-all: {one.line}")
    reached = sum(one.reached for one in found)
    print(f"demo-all: {reached} of {len(found)} tasks reached what they should — {page}")
    return 0 if reached == len(found) else 1


def _names(asked: str) -> list[str]:
    """Of the tasks, in order; all that have a policy where none is asked for."""
    if asked:
        return [name.strip() for name in asked.split(",")]
    having = [name for name in definitions() if _has(name, "policy")]
    if not having:
        raise PhysaiError(f"none of the tasks {', '.join(definitions())} has a policy")
    return having


def _has(task: str, bundle: str) -> bool:
    try:
        find_bundle(bundle, task)
    except BundleError:
        return False
    return True


def _demo(task: Task, options: argparse.Namespace, folder: Path) -> TaskDemo:
    """A stack of its own, started and stopped by a process of its own."""
    world_model = "veto" if _has(task.definition, "world_model") else "off"
    runs = folder / task.name
    command = [sys.executable, "-m", "physai_lab.cli", "demo", "--task", str(task.path)]
    for name in ("robot", "episodes", "seed", "real_time_factor"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    command += ["--world-model", world_model, "--runs", str(runs)]
    code = _run(command)
    pages = sorted(runs.glob("*/report.html"))
    if not pages:
        said = f"physai demo ended with code {code} and without a report"
        return TaskDemo(task.name, world_model, options.episodes, 0, options.episodes, said, None)
    episodes: list[dict[str, Any]] = json.loads(pages[-1].with_suffix(".json").read_text())["episodes"]
    good = sum(bool(episode["success"]) for episode in episodes)
    needed = fewest_successes(len(episodes), task.reaches)
    return TaskDemo(task.name, world_model, len(episodes), good, needed, "", pages[-1])


def _run(command: list[str]) -> int:
    """Its exit code; it is waited for also when this process is interrupted, since a stack is to be taken down."""
    child = subprocess.Popen(command, env={**os.environ, "PYTHONSAFEPATH": "1"})
    try:
        code = child.wait()
    except BaseException:
        child.send_signal(signal.SIGINT)
        child.wait()
        raise
    if code == INTERRUPTED:  # by Ctrl-C, which all processes of a terminal are sent
        raise KeyboardInterrupt
    return code


def _write_report(found: list[TaskDemo], folder: Path) -> Path:
    reached = sum(one.reached for one in found)
    report = Report("physai demo-all", f"{reached} of {len(found)} tasks reached what they should")
    rows = []
    for one in found:
        low, high = wilson_interval(one.good, one.episodes)
        rows.append(
            {
                "task": one.task, "episodes": one.episodes, "succeeded": one.good,
                "95 % Wilson interval": f"{low:.0%} to {high:.0%}", "at least": one.needed, "reached": one.reached,
                "world model": one.world_model, "said": one.said,
            }
        )  # fmt: skip
    report.data = {"tasks": rows}
    report.table(rows)
    report.links(
        [(str(one.page.relative_to(folder)), f"{one.task}: its episodes") for one in found if one.page]
    )
    return report.write(folder)
