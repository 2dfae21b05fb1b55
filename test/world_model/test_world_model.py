"""The shipped world model and its judge: what may run, and what may not and why."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scenes import CUPS_M, make_scene

from physai_base.bundle import Bundle
from physai_base.embodiment import Embodiment
from physai_base.errors import BundleError
from physai_base.kinematics import ArmKinematics
from physai_base.task import Task
from physai_base.values import ActionChunk, SceneState, VerdictReason
from physai_policy.decoding import ChunkDecoder
from physai_policy.policy import ActionSpace, Proposal
from physai_world_model.judge import Judge, JudgeSettings
from physai_world_model.model import Imagination, WorldModel, disturbance, touchable

STEPS, DT_S = 16, 0.05


@pytest.fixture(scope="module")
def model(task: Task) -> WorldModel:
    """The shipped ensemble."""
    return WorldModel(Bundle.open("cups/world_model", kind="world_model", robot="fr3"), task)


@pytest.fixture(scope="module")
def judge(embodiment: Embodiment, task: Task, model: WorldModel) -> Judge:
    """The judge with its defaults."""
    return Judge(embodiment, task, model)


def chunk_to(
    embodiment: Embodiment, kinematics: ArmKinematics, scene: SceneState, end: tuple[float, float, float]
) -> ActionChunk:
    """A straight move of the tool to `end` within the chunk."""
    share = np.minimum(1.0, np.arange(STEPS) / (STEPS - 2))[:, None]
    positions = scene.tool.position_m + share * (np.array(end) - scene.tool.position_m)
    path = np.column_stack([positions, np.full(STEPS, scene.tool.opening)])
    plan = Proposal(path[None], ActionSpace.TOOL_POSITION, DT_S)
    return ChunkDecoder(embodiment, kinematics).decode(plan, scene, 7, "test").chunk


@pytest.fixture
def moved(embodiment: Embodiment, kinematics: ArmKinematics, task: Task, judge: Judge):
    """Judges a straight move from one tool position to another."""

    def go(start: tuple[float, float, float], end: tuple[float, float, float], **scene_options: object):
        scene = make_scene(embodiment, task, start, **scene_options)  # type: ignore[arg-type]
        chunk = chunk_to(embodiment, kinematics, scene, end)
        return judge.judge(chunk, scene, "red_cup", scene.stamp_ns)

    return go


def test_a_move_in_free_space_may_run_and_is_predicted(moved) -> None:
    verdict, prediction = moved((0.40, -0.15, 0.35), (0.48, -0.08, 0.35))
    assert verdict.allow, verdict
    assert verdict.sequence == 7
    assert verdict.reason is VerdictReason.OK
    assert prediction.tcp_position_m.shape == (STEPS, 3)
    assert prediction.object_position_m.shape == (STEPS, 3, 3)
    np.testing.assert_allclose(prediction.tcp_position_m[-1], [0.48, -0.08, 0.35], atol=0.02)
    for label, path in zip(
        prediction.object_labels, prediction.object_position_m.swapaxes(0, 1), strict=True
    ):
        np.testing.assert_allclose(path[-1, :2], CUPS_M[label], atol=0.01)


def test_reaching_for_the_target_may_run(moved) -> None:
    verdict, _ = moved((0.40, -0.30, 0.20), (0.40, -0.30, 0.10))
    assert verdict.allow, verdict


def test_a_move_into_the_table_is_vetoed(moved) -> None:
    verdict, _ = moved((0.45, -0.18, 0.10), (0.45, -0.18, 0.012))
    assert not verdict.allow
    assert verdict.reason is VerdictReason.TABLE


def test_a_sweep_through_another_cup_is_vetoed(moved) -> None:
    verdict, prediction = moved((0.55, -0.32, 0.06), (0.55, -0.08, 0.06))
    assert not verdict.allow
    assert verdict.reason is VerdictReason.KNOCK, verdict
    assert "green cup" in verdict.detail
    pushed = prediction.object_position_m[-1, prediction.object_labels.index("green_cup")]
    assert pushed[1] - CUPS_M["green_cup"][1] > 0.008  # along the sweep


def test_leaving_the_workspace_is_vetoed(
    embodiment: Embodiment, kinematics: ArmKinematics, task: Task, judge: Judge, model: WorldModel
) -> None:
    small = replace(task, workcell=replace(task.workcell, workspace_max=np.array([0.5, 0.55, 0.7])))
    scene = make_scene(embodiment, task, (0.45, -0.1, 0.35))
    chunk = chunk_to(embodiment, kinematics, scene, (0.56, -0.1, 0.35))
    verdict, _ = Judge(embodiment, small, model).judge(chunk, scene, "red_cup", scene.stamp_ns)
    assert not verdict.allow
    assert verdict.reason is VerdictReason.WORKSPACE


def test_what_the_model_never_saw_is_vetoed(
    embodiment: Embodiment, kinematics: ArmKinematics, task: Task, judge: Judge
) -> None:
    scene = make_scene(embodiment, task, (0.45, -0.1, 0.35))
    chunk = chunk_to(embodiment, kinematics, scene, (0.46, -0.1, 0.35))
    fast = replace(scene, joint_velocity=np.full(7, 2.0))
    verdict, _ = judge.judge(chunk, fast, "red_cup", scene.stamp_ns)
    assert not verdict.allow
    assert verdict.reason is VerdictReason.OUT_OF_DISTRIBUTION
    assert verdict.ood_score > verdict.ood_threshold


@pytest.mark.parametrize("late_s", [0.6, 10.0, -5.0])
def test_an_old_scene_is_no_ground_for_a_verdict(
    embodiment: Embodiment, kinematics: ArmKinematics, task: Task, judge: Judge, late_s: float
) -> None:
    scene = make_scene(embodiment, task)
    chunk = chunk_to(embodiment, kinematics, scene, (0.45, -0.1, 0.35))
    verdict, prediction = judge.judge(chunk, scene, None, scene.stamp_ns + round(late_s * 1e9))
    assert not verdict.allow
    assert verdict.reason is VerdictReason.STALE_SCENE
    assert prediction is None


def test_without_a_scene_or_with_a_cup_missing_nothing_may_run(
    embodiment: Embodiment, kinematics: ArmKinematics, task: Task, judge: Judge
) -> None:
    scene = make_scene(embodiment, task)
    chunk = chunk_to(embodiment, kinematics, scene, (0.45, -0.1, 0.35))
    partial = make_scene(embodiment, task, without=("blue_cup",))
    for known in (None, partial):
        verdict, _ = judge.judge(chunk, known, None, scene.stamp_ns)
        assert not verdict.allow
        assert verdict.reason is VerdictReason.STALE_SCENE
    assert "blue_cup" in verdict.detail


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_chunk_with_bad_numbers_is_vetoed(
    embodiment: Embodiment, kinematics: ArmKinematics, task: Task, judge: Judge, bad: float
) -> None:
    scene = make_scene(embodiment, task)
    chunk = chunk_to(embodiment, kinematics, scene, (0.45, -0.1, 0.35))
    values = chunk.values.copy()
    values[3, 2] = bad
    verdict, _ = judge.judge(replace(chunk, values=values), scene, None, scene.stamp_ns)
    assert not verdict.allow
    assert verdict.reason is VerdictReason.INVALID


@pytest.mark.parametrize("change", [{"dt_ns": 80_000_000}, {"start_ns": 1_400_000_000}])
def test_a_chunk_that_reaches_beyond_what_is_imagined_is_vetoed(
    embodiment: Embodiment, kinematics: ArmKinematics, task: Task, judge: Judge, change: dict[str, int]
) -> None:
    scene = make_scene(embodiment, task, (0.45, -0.1, 0.35))
    chunk = chunk_to(embodiment, kinematics, scene, (0.46, -0.1, 0.35))
    assert judge.judge(chunk, scene, None, scene.stamp_ns)[0].allow
    verdict, _ = judge.judge(replace(chunk, **change), scene, None, scene.stamp_ns)
    assert not verdict.allow
    assert verdict.reason is VerdictReason.INVALID


class _Broken:
    """The shipped model after its weights went to NaN."""

    def __init__(self, model: WorldModel) -> None:
        self.model = model

    def __getattr__(self, name: str) -> object:
        return getattr(self.model, name)

    def imagine(self, *arguments: object) -> Imagination:
        good = self.model.imagine(*arguments)  # type: ignore[arg-type]
        return replace(good, objects_m=good.objects_m * np.nan, upright=good.upright * np.nan)


def test_a_model_that_gives_no_numbers_allows_nothing(
    embodiment: Embodiment, kinematics: ArmKinematics, task: Task, model: WorldModel
) -> None:
    scene = make_scene(embodiment, task, (0.45, -0.1, 0.35))
    chunk = chunk_to(embodiment, kinematics, scene, (0.46, -0.1, 0.35))
    judge = Judge(embodiment, task, _Broken(model))  # type: ignore[arg-type]
    verdict, prediction = judge.judge(chunk, scene, None, scene.stamp_ns)
    assert not verdict.allow
    assert verdict.reason is VerdictReason.INVALID
    assert prediction is None


def test_a_cup_that_perception_no_longer_believes_in_counts_as_missing(
    embodiment: Embodiment, kinematics: ArmKinematics, task: Task, judge: Judge
) -> None:
    scene = make_scene(embodiment, task, (0.45, -0.1, 0.35))
    chunk = chunk_to(embodiment, kinematics, scene, (0.46, -0.1, 0.35))
    gone = tuple(replace(o, confidence=0.01) if o.label == "green_cup" else o for o in scene.objects)
    verdict, _ = judge.judge(chunk, replace(scene, objects=gone), None, scene.stamp_ns)
    assert not verdict.allow
    assert "green_cup" in verdict.detail


def test_more_caution_vetoes_sooner(
    embodiment: Embodiment, kinematics: ArmKinematics, task: Task, model: WorldModel
) -> None:
    scene = make_scene(embodiment, task, (0.55, -0.32, 0.06))
    chunk = chunk_to(embodiment, kinematics, scene, (0.55, -0.08, 0.06))
    risk = [
        Judge(embodiment, task, model, JudgeSettings(caution=caution))
        .judge(chunk, scene, "red_cup", scene.stamp_ns)[0]
        .risk
        for caution in (0.1, 10.0)
    ]
    assert risk[0] < risk[1]


def test_a_model_for_other_objects_is_refused(task: Task, tmp_path: Path) -> None:
    bundle = Bundle.open("cups/world_model", kind="world_model")
    other = replace(task, cups=replace(task.cups, labels=("a", "b", "c")))
    with pytest.raises(BundleError, match=r"cups\.labels \[red_cup, green_cup, blue_cup\], here \[a, b, c\]"):
        WorldModel(bundle, other)
    copy = shutil.copytree(bundle.path, tmp_path / "copy")
    (copy / "model.onnx").write_bytes((copy / "model.onnx").read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match=r"model\.onnx"):
        Bundle.open(copy, kind="world_model")


def test_disturbance_and_reach_work_on_one_chunk_and_on_many() -> None:
    rng = np.random.default_rng(0)
    paths, upright = rng.normal(size=(5, 9, STEPS, 3, 3)), rng.random((5, 9, STEPS, 3))
    cups, setpoints = rng.normal(size=(9, 3, 3)), rng.normal(size=(9, STEPS, 4)) * 0.2
    moved, fallen = disturbance(paths, upright, cups)
    reach = touchable(setpoints, cups, 0.15)
    assert moved.shape == fallen.shape == reach.shape == (9, 3)
    for i in range(9):
        one = disturbance(paths[:, i], upright[:, i], cups[i])
        np.testing.assert_allclose(moved[i], one[0])
        np.testing.assert_allclose(fallen[i], one[1])
        assert (reach[i] == touchable(setpoints[i], cups[i], 0.15)).all()
