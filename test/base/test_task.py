"""A task's definition may be ours or somebody else's, and its file says which."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from scenes import make_scene

from physai_base.errors import TaskError
from physai_base.expert import Goal
from physai_base.outcome import Situation
from physai_base.task import Task, load_tasks
from physai_tasks.cups import CupTask

CUPS = Task.load("cups").path.read_text()
THEIRS = """
from dataclasses import dataclass, fields
from physai_tasks.cups import CupTask, read as read_cups

@dataclass(frozen=True)
class Blocks(CupTask):
    wax: float

def read(file):
    cups = read_cups(file)
    return Blocks(**{f.name: getattr(cups, f.name) for f in fields(cups)}, wax=file.number("wax_share", 0, 1))
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "task.yaml"
    path.write_text(text)
    return path


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody else's distribution with a task."""
    (tmp_path / "their_blocks.py").write_text(THEIRS)
    metadata = tmp_path / "their_blocks-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-blocks\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[physai.tasks]\nblocks = their_blocks:read\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "their_blocks", raising=False)
    return tmp_path


def test_nobody_named_is_the_default() -> None:
    assert isinstance(Task.load(), CupTask)
    assert Task.load().path == Task.load("cups").path


@pytest.mark.parametrize(
    "change", [("name: cups", "name: tall"), ("name: cups", "name: tall\ntask: cups"), ("", "")]
)
def test_the_file_says_what_reads_it(tmp_path: Path, change: tuple[str, str]) -> None:
    assert isinstance(Task.load(written(tmp_path, CUPS.replace(*change, 1))), CupTask)


def test_a_definition_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    path = written(tmp_path, CUPS.replace("name: cups", "name: tall\ntask: cupz"))
    with pytest.raises(TaskError, match=r"task\.yaml:\d+: task: must be one of cups.*did you mean cups"):
        Task.load(path)


def test_somebody_elses_task_is_read_by_its_own_definition(installed: Path) -> None:
    path = written(installed, CUPS.replace("name: cups", "name: mine\ntask: blocks\nwax_share: 0.5"))
    task = Task.load(path)
    assert (type(task).__name__, task.wax) == ("Blocks", 0.5)  # type: ignore[attr-defined]
    with pytest.raises(TaskError, match=r"wax_shar: unknown entry; did you mean wax_share"):
        Task.load(written(installed, path.read_text().replace("wax_share", "wax_shar")))


def test_a_task_of_the_name_of_a_shipped_one_is_refused_with_both_named(installed: Path) -> None:
    entry_points = installed / "their_blocks-1.0.dist-info" / "entry_points.txt"
    entry_points.write_text("[physai.tasks]\ncups = their_blocks:read\n")
    with pytest.raises(
        TaskError,
        match=r"'cups' .*both physai_tasks\.cups, which is shipped, and their_blocks:read of their-blocks 1\.0; rename",
    ):
        Task.load("cups")


def test_two_distributions_with_a_task_of_one_name_are_refused(installed: Path) -> None:
    metadata = installed / "other-2.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 2.0\n")
    (metadata / "entry_points.txt").write_text("[physai.tasks]\nblocks = elsewhere:read\n")
    with pytest.raises(TaskError, match=r"'blocks' .*both (?=.*their-blocks 1\.0)(?=.*other 2\.0)"):
        Task.load("cups")


def test_whoever_leaves_something_out_is_told_so() -> None:
    class Nothing(Task):
        pass

    with pytest.raises(TypeError, match=r"abstract methods.*outcome"):
        Nothing(*[None] * 7)  # type: ignore[abstract, arg-type, call-arg]


def test_instructions_are_about_what_is_there(tmp_path: Path) -> None:
    task = Task.load(written(tmp_path, CUPS.replace("red_cup, green_cup", "white_cup, green_cup")))
    goals = [goal for _, goal in task.instructions]
    assert goals and all(goal.target in task.objects and goal.destination in task.places for goal in goals)
    none = CUPS.replace("[red_cup, green_cup, blue_cup]", "[white_cup]")
    task = Task.load(written(tmp_path, none))
    assert task.instructions[0] == (
        "put the white cup on the bottom shelf",
        Goal("white_cup", "bottom_shelf"),
    )


def test_a_goal_of_things_that_are_none_of_the_tasks_is_said(task: Task, embodiment: object) -> None:
    now = Situation.perceived(make_scene(embodiment, task))  # type: ignore[arg-type]
    for goal in (Goal("sofa", "top_shelf"), Goal("red_cup", "moon"), Goal("top_shelf", "red_cup")):
        found = task.outcome(goal, now)
        assert not found.success and found.cause == "unknown_target_or_destination"


def test_several_tasks_are_loaded_by_commas_and_each_once(tmp_path: Path) -> None:
    assert [task.name for task in load_tasks("push, cups")] == ["push", "cups"]
    assert [task.name for task in load_tasks("")] == ["cups"]
    with pytest.raises(TaskError, match="cups is there twice"):
        load_tasks(f"cups,push,{Task.load('cups').path}")
    with pytest.raises(TaskError, match="there is no task 'juggle'"):
        load_tasks("cups,juggle")
