"""`physai demo-all`: which tasks it takes, what it makes of their reports, and how it ends."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from physai_base.errors import BundleError
from physai_lab import cli
from physai_lab.stack import demo_all
from physai_lab.statistics import fewest_successes


def demo_of(results: dict[str, list[bool]], ran: list[list[str]]):
    """In the place of the process: it leaves the report of a demo with those episodes, or none."""

    def run(command: list[str]) -> int:
        ran.append(command)
        said = dict(zip(command[4::2], command[5::2], strict=True))
        name = Path(said["--task"]).parent.name
        if name not in results:
            return 1
        folder = Path(said["--runs"]) / "20260101-000000"
        folder.mkdir(parents=True)
        episodes = [{"success": success} for success in results[name]]
        (folder / "report.json").write_text(json.dumps({"episodes": episodes}))
        (folder / "report.html").write_text("")
        return 0

    return run


def test_a_task_below_what_it_should_reach_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[list[str]] = []
    good = {"cups": [True] * 9 + [False], "push": [True] * 7 + [False] * 3}
    monkeypatch.setattr(demo_all, "_run", demo_of(good, ran))
    monkeypatch.setattr(demo_all, "_has", lambda task, bundle: bundle == "policy" or task == "cups")
    assert cli.main(["demo-all", "--tasks", "cups,push,drawer", "--runs", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "cups: 9/10 succeeded — " in said
    assert "push: 7/10 succeeded, BELOW the 8 that it should reach (it has no world model)" in said
    assert "drawer: FAILED: physai demo ended with code 1 and without a report" in said
    (page,) = tmp_path.glob("*/report.html")
    assert 'href="cups/20260101-000000/report.html"' in page.read_text()
    modes = [command[command.index("--world-model") + 1] for command in ran]
    assert modes == ["veto", "off", "off"]  # none goes without silently: the line says so


def test_it_ends_well_when_all_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo_all, "_run", demo_of({"cups": [True, True]}, []))
    assert cli.main(["demo-all", "--tasks", "cups", "--runs", str(tmp_path)]) == 0


def test_without_names_it_takes_those_that_have_a_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(bundle: str, task: str) -> None:
        if task != "cups":
            raise BundleError("there is none")

    monkeypatch.setattr(demo_all, "find_bundle", find)
    assert demo_all._names("") == ["cups"]
    assert demo_all._names("push, wipe") == ["push", "wipe"]


def test_a_task_that_is_not_there_is_refused_before_any_stack(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(demo_all, "_run", demo_of({}, ran))
    assert cli.main(["demo-all", "--tasks", "cups,juggle", "--runs", str(tmp_path)]) == 1
    assert "there is no task 'juggle'" in capsys.readouterr().err and not ran


def test_an_interrupted_demo_interrupts() -> None:
    with pytest.raises(KeyboardInterrupt):
        demo_all._run([sys.executable, "-c", "raise SystemExit(130)"])
    assert demo_all._run([sys.executable, "-c", "raise SystemExit(3)"]) == 3


def test_so_few_that_a_good_policy_seldom_falls_below() -> None:
    # P(X <= 8) of ten at 0.97 is 3.4 %, at 0.95 8.6 %, P(X <= 7) at 0.95 1.2 %, at 0.9 7.0 %, P(X <= 6) there 1.3 %.
    assert [fewest_successes(10, share) for share in (0.97, 0.95, 0.9)] == [9, 8, 7]
    assert fewest_successes(1, 0.97) == 1 and fewest_successes(1, 0.9) == 0
    assert fewest_successes(10, 1.0) == 10
