"""A stream that shows the same picture with fresh noise is noticed; a live one never is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import mujoco
import numpy as np
import pytest

from physai_base.embodiment import Embodiment
from physai_base.kinematics import TOOL_DOWN, Pose
from physai_base.task import Task
from physai_base.values import CameraFrame, JointState
from physai_lab.evaluation.cell import Cell
from physai_perception.errors import FrameError
from physai_perception.perception import ScenePerception

STEPS = 12
SIGMA, DEPTH_SIGMA_M = 6.0, 0.003


@pytest.fixture(scope="module")
def views(embodiment: Embodiment, task: Task) -> Iterator[list[tuple[CameraFrame, JointState]]]:
    """What the overview camera shows while the hand goes over the table, 3 cm from picture to picture."""
    cell = Cell(embodiment, task)
    joints, found = embodiment.home, []
    for k in range(STEPS):
        pose = Pose(np.array([0.45, -0.2 + 0.03 * k, 0.25]), TOOL_DOWN)
        joints = cell.kinematics.inverse(pose, joints, embodiment.home)
        cell.scene.set_arm(joints)
        cell.scene.data.time += 0.05
        mujoco.mj_forward(cell.scene.model, cell.scene.data)
        found.append((cell.photograph("overview"), cell.joint_state()))
    yield found
    cell.close()


def noisy(frame: CameraFrame, rng: np.random.Generator, brighter: float = 0.0) -> CameraFrame:
    rgb = frame.rgb + rng.normal(brighter, SIGMA, frame.rgb.shape)
    depth = frame.depth_m + rng.normal(0, DEPTH_SIGMA_M, frame.depth_m.shape) * (frame.depth_m > 0)
    return replace(
        frame, rgb=np.clip(rgb, 0, 255).astype(np.uint8), depth_m=np.maximum(depth, 0).astype(np.float32)
    )


def test_a_frozen_picture_with_noise_is_refused(
    embodiment: Embodiment, task: Task, views: list[tuple[CameraFrame, JointState]]
) -> None:
    rng, perception = np.random.default_rng(0), ScenePerception(embodiment, task)
    first = views[0][0]
    with pytest.raises(FrameError, match=r"frozen.*but for noise"):
        for frame, joints in views:
            again = replace(first, stamp_ns=frame.stamp_ns)
            perception.observe(noisy(again, rng, brighter=rng.uniform(-8, 8)), joints)
    # It is taken again once it moves.
    perception.observe(noisy(replace(views[-1][0], stamp_ns=views[-1][0].stamp_ns + 1), rng), views[-1][1])


def test_a_live_picture_is_taken(
    embodiment: Embodiment, task: Task, views: list[tuple[CameraFrame, JointState]]
) -> None:
    for noise in (False, True):
        rng, perception = np.random.default_rng(0), ScenePerception(embodiment, task)
        for frame, joints in views:
            perception.observe(noisy(frame, rng) if noise else frame, joints)


def test_a_still_picture_of_an_arm_at_rest_is_taken(
    embodiment: Embodiment, task: Task, views: list[tuple[CameraFrame, JointState]]
) -> None:
    rng, perception = np.random.default_rng(0), ScenePerception(embodiment, task)
    frame, joints = views[0]
    for k in range(STEPS):
        stamp_ns = frame.stamp_ns + k * 50_000_000
        perception.observe(noisy(replace(frame, stamp_ns=stamp_ns), rng), replace(joints, stamp_ns=stamp_ns))
