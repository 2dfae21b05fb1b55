"""A wrong embodiment file is refused with the entry's name; a right one agrees with its model."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from physai_base.embodiment import Embodiment, find_embodiment
from physai_base.errors import EmbodimentError


@pytest.fixture
def copy(tmp_path: Path, embodiment: Embodiment):
    """Writes a changed copy of the shipped file and returns its path."""
    shutil.copytree(embodiment.model_path.parent, tmp_path / embodiment.model_path.parent.name)

    def write(change) -> Path:
        document = yaml.safe_load(embodiment.path.read_text())
        change(document)
        path = tmp_path / "robot.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    return write


def test_unchanged_copy_loads(copy) -> None:
    assert Embodiment.load(copy(lambda document: None)).name == "fr3"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda d: d["joints"][2].update(stiffness=float("nan")), "stiffness"),
        (lambda d: d["joints"][0].update(torque=float("inf")), "torque"),
        (lambda d: d["joints"][0].update(position=[1.0, -1.0]), "position"),
        (lambda d: d["joints"][0].update(position=[-3.5, 2.7]), "exceeds"),
        (lambda d: d["joints"][1].update(name="fr3_joint1"), "differ"),
        (lambda d: d["gripper"].pop("joints"), "gripper"),
        (lambda d: d["joints"][0].update(name="fr3_joint0"), "has no joint 'fr3_joint0'"),
        (lambda d: d["joints"][0].update(name="fr3_finger_joint1"), "finger"),
        (lambda d: d.update(home=[0.0] * 6), "home"),
        (lambda d: d.update(home=[9.0] * 7), "home"),
        (lambda d: d.update(tool_frame="tool9", cameras=d["cameras"][:1]), "tool_frame"),
        (lambda d: d["hardware"].update(gravity="nobody"), "gravity"),
        (lambda d: d["geofence"].update(min=[1, 1, 1]), "geofence"),
        (lambda d: d["control"].update(blend_s=True), "blend_s"),
        (lambda d: d.update(format_version=2), "format_version"),
        (lambda d: d.update(model="nowhere.xml"), "model"),
        (lambda d: d["cameras"][0].update(parent="moon"), "parent"),
    ],
)
def test_wrong_entry_is_named(copy, change, word: str) -> None:
    with pytest.raises(EmbodimentError, match=word):
        Embodiment.load(copy(change))


def test_unknown_robot_lists_the_known() -> None:
    with pytest.raises(EmbodimentError, match="fr3"):
        find_embodiment("fr4")


def test_camera_pose_looks_at_its_target(embodiment: Embodiment) -> None:
    camera = embodiment.camera("overview")
    pose = camera.nominal_pose()
    seen = np.linalg.inv(pose) @ [*camera.look_at, 1.0]
    assert np.allclose(seen[:2], 0, atol=1e-9)
    assert seen[2] > 0
    assert np.isclose(np.linalg.det(pose[:3, :3]), 1.0)
    up_in_image = pose[:3, :3].T @ [0, 0, 1]
    assert up_in_image[1] < 0  # y points down
