"""The cell takes any robot's file: other names, another base, several tools; FR3's is in test_scene.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from maker_models import MJCF, six_axes

from physai_base.embodiment import Embodiment
from physai_base.errors import EmbodimentError
from physai_base.kinematics import ArmKinematics
from physai_base.task import Task
from physai_lab.cli import main
from physai_sim.scene import Scene


@pytest.fixture
def six(tmp_path: Path) -> Path:
    """A drafted file of an arm with a gripper."""
    (tmp_path / "six.urdf").write_text(six_axes())
    assert main(["robot", "new", str(tmp_path / "six.urdf"), "--out", str(tmp_path / "six.yaml")]) == 0
    return tmp_path / "six.yaml"


def changed(path: Path, **entries: Any) -> Embodiment:
    document = {**yaml.safe_load(path.read_text()), **entries}
    document = {key: value for key, value in document.items() if value is not None}
    path.write_text(yaml.safe_dump(document))
    return Embodiment.load(path)


def tool_in_cell(scene: Scene, frame: str) -> np.ndarray:
    site, pose = scene.data.site(frame), np.eye(4)
    pose[:3, :3], pose[:3, 3] = site.xmat.reshape(3, 3), site.xpos
    return pose


def test_a_drafted_robot_stands_in_the_cell_where_its_kinematics_say(six: Path, task: Task) -> None:
    robot = Embodiment.load(six)
    scene = Scene.build(robot, task)
    there = ArmKinematics(robot).tool_pose(robot.home).matrix()
    np.testing.assert_allclose(tool_in_cell(scene, robot.tool_frame), there, atol=1e-9)
    assert scene.model.opt.timestep == pytest.approx(0.001)
    fingers = {name: scene.data.joint(name).qpos[0] for name in robot.finger_joints}
    assert robot.gripper.opening(fingers) == pytest.approx(robot.gripper.opening_max)
    assert scene.model.ncam == 0  # the file has none
    assert all(np.isfinite(scene.data.qpos))


def test_names_of_the_model_that_the_cell_has_too_are_changed(six: Path, task: Task) -> None:
    model = six.with_suffix(".urdf")
    label = next(iter(task.objects))
    model.write_text(model.read_text().replace('"link2"', f'"{label}"'))
    scene = Scene.build(Embodiment.load(six), task)
    names = [scene.model.body(i).name for i in range(scene.model.nbody)]
    assert f"robot/{label}" in names and names.count(label) == 1
    assert scene.model.body(label).id != scene.model.body(f"robot/{label}").id


def test_a_name_that_the_robots_file_needs_cannot_be_changed(six: Path, task: Task) -> None:
    model, label = six.with_suffix(".urdf"), next(iter(task.objects))
    model.write_text(model.read_text().replace('"tcp"', f'"{label}"'))
    six.write_text(six.read_text().replace("tool_frame: tcp", f"tool_frame: {label}"))
    with pytest.raises(
        EmbodimentError, match=rf"'{label}' of the robot's model is also the name of something in the cell"
    ):
        Scene.build(Embodiment.load(six), task)


def test_a_base_beside_the_models_origin_stands_at_the_cells(tmp_path: Path, six: Path, task: Task) -> None:
    """The maker's world has a floor, a table, a lamp and a box, and is compiled in degrees: none of it comes along."""
    (tmp_path / "arm.xml").write_text(
        MJCF.replace('<compiler angle="degree"', '<compiler angle="degree" inertiagrouprange="0 0"')
    )
    document = yaml.safe_load(six.read_text())
    joints = [{**document["joints"][0], "name": name, "position": [-1, 1]} for name in ("pan", "tilt")]
    robot = changed(
        six, model="arm.xml", base_frame="foot", tool_frame="tip", joints=joints, home=[0.2, 0.3], gripper=None,
        cameras=[dict(zip(("name", "frame", "parent", "position", "look_at", "width", "height", "fovy_deg", "rate_hz"),
                          ("wrist", "wrist_frame", "tip", [0.1, 0, 0], [0.2, 0, 0], 64, 48, 60, 10), strict=True))],
    )  # fmt: skip
    scene = Scene.build(robot, task)
    np.testing.assert_allclose(scene.data.body("foot").xpos, 0, atol=1e-12)
    there = ArmKinematics(robot).tool_pose(robot.home).matrix()
    np.testing.assert_allclose(tool_in_cell(scene, "tip"), there, atol=1e-9)
    np.testing.assert_allclose(scene.data.cam("wrist").xpos, (there @ [0.1, 0, 0, 1])[:3], atol=1e-9)
    assert all(scene.model.body(label).mass[0] > 0 for label in task.objects)
    scene.randomize(3, ("all",))
    np.testing.assert_allclose(scene.data.body("foot").xpos, 0, atol=1e-12)


def test_a_base_that_is_tilted_is_refused(tmp_path: Path, six: Path, task: Task) -> None:
    (tmp_path / "arm.xml").write_text(MJCF.replace('euler="0 0 90"', 'euler="30 0 0"'))
    document = yaml.safe_load(six.read_text())
    joints = [{**document["joints"][0], "name": name, "position": [-1, 1]} for name in ("pan", "tilt")]
    robot = changed(
        six,
        model="arm.xml",
        base_frame="foot",
        tool_frame="tip",
        joints=joints,
        home=[0.2, 0.3],
        gripper=None,
    )
    with pytest.raises(EmbodimentError, match="is tilted by 30 degrees"):
        Scene.build(robot, task)
