"""`physai task new` writes a task that works; `physai task check` says what is wrong with one, and in which file."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import paths
import pytest

from physai_base.bundle import Bundle, find_bundle, installed_bundles
from physai_base.embodiment import Embodiment
from physai_base.errors import BundleError
from physai_base.features import offset_names
from physai_base.task import Task, definitions
from physai_lab.cli import main
from physai_lab.robots.remark import DOUBTFUL, WRONG
from physai_lab.tasks.check import findings


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user does first: a package, made and installed; its folder."""
    folder = tmp_path_factory.mktemp("user")
    assert main(["task", "new", "line_up", "--out", str(folder / "package")]) == 0
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", "--no-index", "--target", folder / "site",
         folder / "package"], check=True,
    )  # fmt: skip
    return folder


@pytest.fixture
def line_up(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    monkeypatch.syspath_prepend(installed / "site")
    return Task.load("line_up")


def test_a_package_is_found_by_its_entry_point_and_passes_its_own_tests(
    line_up: Task, installed: Path
) -> None:
    assert type(line_up).__name__ == "LineUpTask" and line_up.name == "line_up"
    assert line_up.path == installed / "site" / "physai_task_line_up" / "layout.yaml"
    spec = importlib.util.spec_from_file_location(
        "theirs", installed / "package" / "test" / "test_line_up.py"
    )
    assert spec and spec.loader
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    tests = [value for name, value in vars(theirs).items() if name.startswith("test_")]
    assert len(tests) >= 3
    for test in tests:
        test()


@pytest.mark.parametrize("name", ["qq", "a_rather_long_name_of_it"])
def test_in_a_checkout_it_is_a_folder_and_a_test_and_looks_like_ours(tmp_path: Path, name: str) -> None:
    (tmp_path / "physai_tasks").mkdir()
    for file in ("physai_tasks/__init__.py", "pyproject.toml"):
        (tmp_path / file).write_text((paths.ROOT / file).read_text())
    before = set(tmp_path.rglob("*"))
    assert main(["task", "new", name, "--checkout", str(tmp_path)]) == 0
    new = {str(path.relative_to(tmp_path)) for path in set(tmp_path.rglob("*")) - before if path.is_file()}
    ours = {path.name for path in (paths.ROOT / "physai_tasks" / "push").iterdir() if path.suffix}
    assert new == {f"physai_tasks/{name}/{file}" for file in ours} | {f"test/tasks/test_{name}.py"}
    assert not any("template" in (tmp_path / file).read_text().lower() for file in new)
    ruff = Path(sys.executable).with_name("ruff")
    for command in (["format", "--check"], ["check"]):
        done = subprocess.run(
            [ruff, *command, "--no-cache", "."], check=False, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("push", "there is a task 'push' already"), ("3d", "cannot be a task's name"), ("class", "cannot be a task's name"),
        ("Tip", "small letters"), ("a-b", "cannot be a task's name"), ("x" * 25, "at most 24"), ("../x", "cannot be a task's name"),
        ("template", "a name of its own"),
    ],
)  # fmt: skip
def test_a_name_that_is_taken_or_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    assert main(["task", "new", name, "--out", str(tmp_path / "out")]) == 1
    assert said in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_nothing_is_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "physai-task-qq").mkdir()
    assert main(["task", "new", "qq"]) == 1
    assert main(["task", "new", "qq", "--checkout", "."]) == 1
    (tmp_path / "physai_tasks").mkdir()
    for taken in ("__init__.py", "carrying.py"):
        (tmp_path / "physai_tasks" / taken).touch()
    assert main(["task", "new", "carrying", "--checkout", "."]) == 1
    said = capsys.readouterr().err
    assert all(why in said for why in ("qq is there already", "no checkout", "carrying.py is there already"))
    assert not list((tmp_path / "physai-task-qq").iterdir()) and not (tmp_path / "test").exists()


SPOILT = {
    "task.py: red_jar is named twice": ("task.py", "return (self.mark.label,)", "return self.jars.labels"),
    "layout.yaml: region of red_jar: x goes from 0.4 to 0.9": ("layout.yaml", "x: [0.40, 0.60]", "x: [0.40, 0.90]"),
    "layout.yaml: red_jar is 0.1 m wide": ("layout.yaml", "radius_m: 0.025", "radius_m: 0.05"),
    "cell.py:29: label 'shiny_jar' has no colour among its words; known: red": ("layout.yaml", "red_jar, blue_jar", "shiny_jar, blue_jar"),
    "cell.py: the same seed gives another cell": ("cell.py", "put(data, label, spot)", "put(data, label, spot + np.random.default_rng().random(3) / 99)"),
    "cell.py: red_jar goes": ("cell.py", "put(data, label, spot)", "put(data, label, spot + [0, 0, 0.1])"),
    "outcome.py:": ("outcome.py", 'now.things.get(goal.target), now', 'now.things[goal.target], now'),
    "must not be done": ("outcome.py", "return TemplateCause.NOT_SEEN", "return TemplateCause.NONE"),
    "`Outcome(NO_SUCH_GOAL)`": ("outcome.py", "Outcome(NO_SUCH_GOAL)", 'Outcome("what?")'),
    "features.py: 'gripper.width' is missing": ("features.py", '"gripper.width", "g', '"gripper.opening", "g'),
    "names (32,) of float32": ("features.py", "parts += [tcp, ", "parts += [tcp, tcp, "),
    "features.py: 'place_from_tcp.x' changes by": ("features.py", "offsets(jar.position_m - tcp, place - tcp", "offsets(jar.position_m - tcp, place"),
    "features.py: without red_jar it raises KeyError": ("features.py", "now.require(goal.target)", "now.things[goal.target]"),
    "expert.py: `openings` (0.025, 1)": ("expert.py", "self.load.closed_m, self.open_m", "self.load.closed_m, 1.0"),
    "expert.py: a plan begins 100 mm": ("expert.py", "            now.tool_m,", "            now.tool_m + [0, 0, 0.1],"),
    "words.py: 'bring the red jar": ("words.py", '"put the {target} on', '"bring the {target} under'),
    "words.py: ": ("words.py", "<place> with <target>", "<plaice> with <target>"),
    "cannot be written into a bundle": ("task.py", "TrainedValue(self.mark.label)", "TrainedValue(self)"),
    "cell.py: the camera finds red_jar in 0 of 4": ("cell.py", "JAR_MASS_KG)\n", "JAR_MASS_KG).geoms[0].rgba = [0.5, 0.5, 0.5, 1]\n"),
}  # fmt: skip


@pytest.mark.parametrize("said", SPOILT)
def test_what_is_wrong_is_said_with_its_file(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embodiment: Embodiment, said: str
) -> None:
    file, good, bad = SPOILT[said]
    package = tmp_path / "physai_task_line_up"
    for name in ("physai_task_line_up", "physai_task_line_up-0.1.0.dist-info"):
        (tmp_path / name).mkdir()
        for path in (installed / "site" / name).glob("*.*"):
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
    (tmp_path / "physai_task_line_up-0.1.0.dist-info/entry_points.txt").write_bytes(
        (installed / "site/physai_task_line_up-0.1.0.dist-info/entry_points.txt").read_bytes()
    )
    text, bad = (package / file).read_text(), bad.replace("Template", "LineUp")
    good = good.replace("Template", "LineUp")
    assert good in text
    (package / file).write_text(text.replace(good, bad))
    monkeypatch.syspath_prepend(tmp_path)
    forget()
    found = findings(Task.load("line_up"), embodiment, episodes=0)
    remarks = (str(remark) for remark in found if remark.level in (WRONG, DOUBTFUL))
    first = next(remarks, "nothing")
    assert said in first, first
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if name.startswith("physai_task_line_up")]:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.mark.parametrize("name", sorted({*definitions()} - {"none"}))
def test_the_shipped_tasks_hold_together(name: str, embodiment: Embodiment) -> None:
    found = findings(Task.load(name), embodiment, episodes=0)
    assert not [str(remark) for remark in found if remark.level == WRONG]


def test_a_task_may_bring_its_bundles(
    line_up: Task, installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BundleError, match=r"train policy .*--task line_up"):
        Bundle.open("policy", task=line_up)
    shipped, _ = find_bundle("cups/policy")
    theirs = installed / "site/physai_task_line_up/models/policy"
    shutil.copytree(shipped, theirs)
    assert Bundle.open("policy", task=line_up).path == Bundle.open("line_up/policy").path == theirs
    assert {"cups/policy", "line_up/policy"} <= set(installed_bundles())
    assert main(["eval", "--task", "line_up", "--world-model", "off"]) == 78  # it is another task's
    assert "was trained on something else than the task" in capsys.readouterr().err


def test_a_task_without_places_is_foreseen_too() -> None:
    from physai_policy.networks import anticipation

    names = [
        *offset_names("target_from_tcp"),
        *(f"{v}.{a}" for v in ("tcp", "tcp_velocity") for a in "xyz"),
        "gripper.width",
    ]
    assert anticipation(names, 0.05).size == 3 + 3 + 3 + 1 + 3 + 1


def test_they_are_listed(line_up: Task, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["task", "list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert {"cups", "push", "line_up"} <= set(lines) and str(line_up.path) in lines["line_up"]
