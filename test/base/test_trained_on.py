"""A bundle that was trained on other sizes, counts, words or robots than are used is refused, with every value that differs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import paths
import pytest

from physai_base.bundle import Bundle, rewrite_bundle
from physai_base.embodiment import Embodiment
from physai_base.task import Task
from physai_base.trained_on import MismatchError, as_json, differences, values_of
from physai_lab.cli import main
from physai_lab.data.dataset import DatasetError, DatasetWriter, made_with
from physai_policy.correction import Corrector
from physai_policy.doubt import Surprise
from physai_policy.flow_policy import FlowPolicy
from physai_policy.vision import VisionPolicy
from physai_world_model.model import WorldModel

pytestmark = pytest.mark.slow

LOADERS: dict[str, Callable[[Bundle, Task], Any]] = {
    "policy": FlowPolicy,
    "vision_policy": VisionPolicy,
    "corrector": Corrector,
    "doubt": Surprise,
    "world_model": WorldModel,
}
CASES = paths.CASES / "task_of_other_sizes"


@pytest.fixture(scope="module")
def bundles() -> dict[str, Bundle]:
    return {name: Bundle.open(f"cups/{name}") for name in LOADERS}


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("file", sorted(path.name for path in CASES.glob("*.yaml")))
def test_files_that_once_went_through(name: str, file: str, bundles: dict[str, Bundle]) -> None:
    wrong = {
        "tall.yaml": r"cups\.height_m 0\.1, here 0\.15",
        "wide.yaml": r"cups\.radius_m 0\.03, here 0\.035",
    }
    with pytest.raises(MismatchError, match=wrong[file]) as caught:
        LOADERS[name](bundles[name], Task.load(CASES / file))
    assert "\n" not in str(caught.value) and file in str(caught.value)


CHANGES: dict[str, tuple[Callable[[Task], Task], tuple[str, ...]]] = {
    "fewer cups": (
        lambda task: replace(task, cups=replace(task.cups, labels=task.objects[:2])),
        ("cups.labels [red_cup, green_cup, blue_cup], here [red_cup, green_cup]",),
    ),
    "another board, a wider region": (
        lambda task: replace(
            task,
            cups=replace(task.cups, region=replace(task.cups.region, x=(0.3, 0.6))),
            boards=replace(task.boards, heights_m=(0.08, 0.3)),
        ),
        (
            "cups.region.x within [0.36, 0.6], here [0.3, 0.6]",
            "shelf.heights_m [0.08, 0.2], here [0.08, 0.3]",
        ),
    ),
    "cups closer together": (
        lambda task: replace(task, cups=replace(task.cups, min_distance_m=0.1)),
        ("cups.min_distance_m at least 0.125, here 0.1",),
    ),
    "a board that slopes away": (
        lambda task: replace(task, boards=replace(task.boards, region_yaw=(-0.5, 0.5))),
        ("shelf.region.yaw within [-0.15, 0.15], here [-0.5, 0.5]",),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_value_that_differs_is_named(change: str, bundles: dict[str, Bundle], task: Task) -> None:
    changed, said = CHANGES[change]
    for bundle in bundles.values():
        with pytest.raises(MismatchError) as caught:
            bundle.check_task(changed(task))
        assert all(text in str(caught.value) for text in said)
        assert str(caught.value).count(", here ") == len(said)


def test_what_lies_within_is_fine(bundles: dict[str, Bundle], task: Task) -> None:
    cups, shelf = task.cups, task.boards
    within = replace(
        task,
        cups=replace(
            cups,
            region=replace(cups.region, x=(0.4, 0.5)),
            min_distance_m=0.2,
            radius_m=cups.radius_m + 0.0005,
        ),
        boards=replace(shelf, region_yaw=(-0.1, 0.1)),
        workcell=replace(task.workcell, workspace_min=task.workcell.workspace_min + 0.02),
        still_speed_m_s=0.01,
    )
    for bundle in bundles.values():
        bundle.check_task(within)


def test_only_what_looks_minds_the_markers(bundles: dict[str, Bundle], task: Task) -> None:
    moved = replace(
        task, workcell=replace(task.workcell, markers=replace(task.workcell.markers, size_m=0.05))
    )
    bundles["policy"].check_task(moved)
    with pytest.raises(MismatchError, match=r"markers\.size_m 0\.07, here 0\.05"):
        bundles["vision_policy"].check_task(moved)


@pytest.mark.parametrize("name", LOADERS)
def test_a_bundle_that_does_not_say_is_refused_with_what_to_run(
    name: str, bundles: dict[str, Bundle], task: Task, tmp_path: Path
) -> None:
    silent = rewrite_bundle(bundles[name], tmp_path / "silent", trained_on=None)
    with pytest.raises(MismatchError, match=r"physai golden .* --trained-on --task TASK"):
        LOADERS[name](silent, task)


def test_it_can_be_said_once(
    bundles: dict[str, Bundle], task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silent = rewrite_bundle(bundles["doubt"], tmp_path / "doubt", trained_on=None)
    arguments = ["golden", str(silent.path), "--trained-on", "--task"]
    assert main([*arguments, str(CASES / "tall.yaml")]) == 0
    with pytest.raises(MismatchError, match=r"cups\.height_m 0\.15, here 0\.1"):
        Surprise(Bundle.open(silent.path), task)
    assert main([*arguments, "cups"]) == 1
    assert "says itself" in capsys.readouterr().err


def test_a_value_that_is_missing_or_of_another_kind_differs(task: Task, embodiment: Embodiment) -> None:
    used = values_of(task, embodiment)
    values = as_json(used)
    assert differences(values, used) == []
    for name in used:
        without = {key: value for key, value in values.items() if key != name}
        (said,) = differences(without, used)
        assert said.startswith(f"{name} is not stated")
        for odd in (None, "x", [], {}, [None, None], 10**9, [1e9, 2e9]):
            assert len(differences({**values, name: odd}, used)) == 1, (name, odd)


def test_eval_says_so_before_it_begins(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["eval", "--episodes", "1", "--task", str(CASES / "tall.yaml"), "--runs", str(tmp_path)]
    assert main(arguments) == 78
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "cups.height_m 0.1, here 0.15" in said


def test_data_made_with_another_task_trains_nothing(
    task: Task, embodiment: Embodiment, tmp_path: Path
) -> None:
    """What is exported was trained on what its demonstrations show, whatever task file is given later."""
    import numpy as np

    from physai_lab.data.dataset import Episode, feature_shapes

    tall = Task.load(CASES / "tall.yaml")
    writer = DatasetWriter(tmp_path / "data", embodiment, tall, 20)
    columns = {name: np.zeros((3, *shape)) for name, shape in feature_shapes(embodiment, tall).items()}
    writer.add(Episode("x", True, "expert", {**columns, "observation.stamp_ns": np.arange(3)}))
    writer.close()
    assert made_with(tmp_path / "data", tall, embodiment)["cups.height_m"] == 0.15
    with pytest.raises(DatasetError, match=r"cups\.height_m 0\.15, here 0\.1"):
        made_with(tmp_path / "data", task, embodiment)
    arguments = [
        "train",
        "policy",
        "--data",
        str(tmp_path / "data"),
        "--out",
        str(tmp_path / "out"),
        "--steps",
        "1",
    ]
    assert main(arguments) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("file", ["tall.yaml", "wide.yaml"])
def test_demonstrations_of_other_sizes_can_be_made(file: str, embodiment: Embodiment) -> None:
    """What a person is told to do, to train anew, works: the expert's heights and widths are the task's."""
    from physai_lab.data.demos import make_episode
    from physai_lab.evaluation.cell import Cell

    cell = Cell(embodiment, Task.load(CASES / file), sight="truth")
    try:
        episode = make_episode(cell, 0, 1_000_000)
    finally:
        cell.close()
    assert episode is not None and episode.success
