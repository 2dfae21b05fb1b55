"""A bundle fits a robot by what it needs of one, not by the robot's name; what does not fit is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from physai_base.bundle import MANIFEST, Bundle, rewrite_bundle
from physai_base.bundles.interface import Interface
from physai_base.bundles.manifest import manifest_digest
from physai_base.embodiment import Embodiment
from physai_base.embodiment_parts import Gripper
from physai_base.errors import BundleError
from physai_base.task import Task
from physai_base.trained_on import MismatchError
from physai_lab.cli import main
from physai_policy.loading import interface_of

SHIPPED = ("policy", "vision_policy", "corrector", "doubt", "world_model")


def with_gripper(embodiment: Embodiment, **changes: object) -> Embodiment:
    """The robot, of another name, with another gripper."""
    end = embodiment.end_effectors[0]
    gripper = replace(end.gripper, **changes)
    return replace(embodiment, name="other", end_effectors=(replace(end, gripper=gripper),))


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shipped_says_what_it_needs(name: str, embodiment: Embodiment, task: Task) -> None:
    bundle = Bundle.open(f"cups/{name}", robot=embodiment)
    assert bundle.interface == interface_of(bundle.kind, bundle.config, embodiment, task)
    assert bundle.interface.grippers == (("parallel", 0.03, 0.08),)
    assert sorted(bundle.interface.cameras) == (["overview", "wrist"] if name == "vision_policy" else [])


@pytest.mark.parametrize("name", SHIPPED)
def test_a_robot_of_another_name_and_a_wider_gripper_runs_it(name: str, embodiment: Embodiment) -> None:
    Bundle.open(f"cups/{name}", robot=with_gripper(embodiment, opening_min=0.002, opening_max=0.085))
    fewer = replace(embodiment, name="six", joints=embodiment.joints[:6])
    Bundle.open(f"cups/{name}", robot=fewer)  # it acts in tool space: the joints are the arm's own


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"opening_max": 0.05}, r"opens a gripper from 0\.03 to 0\.08 m, .* opens from 0 to 0\.05 m"),
        ({"opening_min": 0.04}, r"opens from 0\.04 to 0\.08 m"),
        ({"kind": "hinge"}, "a gripper of kind parallel, .* has kind hinge"),
    ],
)
def test_another_gripper_is_refused_with_the_difference(
    embodiment: Embodiment, changes: dict[str, object], said: str
) -> None:
    other = with_gripper(embodiment, **changes)
    for name in SHIPPED:
        with pytest.raises(
            MismatchError, match=rf"does not fit the robot .*{said}.*[Gg]ive a bundle for such"
        ):
            Bundle.open(f"cups/{name}", robot=other)


def test_a_robot_of_two_tools_is_another(embodiment: Embodiment) -> None:
    end = embodiment.end_effectors[0]
    pair = replace(embodiment, end_effectors=(end, replace(end, name="left", gripper=Gripper())))
    with pytest.raises(MismatchError, match="is for 1 end effector, here are 2"):
        Bundle.open("cups/policy", robot=pair)


def test_joints_count_by_name_or_by_range(embodiment: Embodiment) -> None:
    interface = Interface.of(embodiment, "joint_position")
    assert not interface.lacks(embodiment)
    first, *others = embodiment.joints
    renamed = replace(embodiment, joints=(replace(first, name="waist"), *others))
    assert not interface.lacks(renamed)
    narrow = replace(embodiment, joints=(replace(first, name="waist", position_max=1.0), *others))
    (said,) = interface.lacks(narrow)
    assert "waist goes from" in said and "to 1 rad" in said
    (said,) = interface.lacks(replace(embodiment, joints=tuple(others)))
    assert "it moves 7 joints" in said and "here are 6" in said


def test_a_camera_is_where_it_was(embodiment: Embodiment) -> None:
    first, *others = embodiment.cameras
    elsewhere = replace(embodiment, cameras=(replace(first, fovy_deg=70.0), *others))
    Bundle.open("cups/policy", robot=elsewhere)
    with pytest.raises(MismatchError, match=r"robot\.cameras\.overview .*fovy_deg: 50.*here .*fovy_deg: 70"):
        Bundle.open("cups/vision_policy", robot=elsewhere)
    with pytest.raises(BundleError, match="has no camera ceiling"):
        Interface.of(embodiment, "tool_position", ["ceiling"])


def test_an_old_manifest_goes_by_the_name_and_says_what_to_run(
    embodiment: Embodiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = rewrite_bundle(Bundle.open("cups/policy"), tmp_path / "old", interface=None)
    assert old.interface is None and old.identity == Bundle.open("cups/policy").identity
    Bundle.open(old.path, robot=embodiment)
    other = replace(embodiment, name="other")
    with pytest.raises(BundleError, match=r"this robot is 'other'.*physai golden --interface --robot fr3"):
        Bundle.open(old.path, robot=other)
    assert main(["golden", "--interface", "--robot", "fr3", str(old.path)]) == 0
    said = Bundle.open(old.path, robot=other)
    assert said.interface == Bundle.open("cups/policy").interface
    for file in ("model.onnx", "golden.safetensors"):
        assert said.file(file) == old.file(file)
    (tmp_path / "other.yaml").write_text(f"extends: {embodiment.path}\nname: other\n")
    assert main(["golden", "--interface", "--robot", str(tmp_path / "other.yaml"), str(old.path)]) == 1
    assert "was made with the robot fr3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"action_space": "everywhere"}, "action_space"),
        ({"grippers": [{"kind": "claw", "range": [0, 1]}]}, "kind"),
        ({"grippers": [{"kind": "parallel", "range": [0.08, 0.0]}]}, "must not be above"),
        ({"tools": 3}, "tools"),
    ],
)
def test_an_interface_that_is_none_is_refused(tmp_path: Path, change: dict[str, object], said: str) -> None:
    path = rewrite_bundle(Bundle.open("cups/policy"), tmp_path / "broken").path
    document = json.loads((path / MANIFEST).read_text())
    document["interface"] |= change
    document["digest"] = manifest_digest(document)
    (path / MANIFEST).write_text(json.dumps(document, indent=1))
    with pytest.raises(BundleError, match=said):
        Bundle.open(path)
