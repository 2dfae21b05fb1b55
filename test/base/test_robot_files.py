"""What a robot's file says of a maker's model: end effectors, grippers, mounts, locked joints; what is wrong has its line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from maker_models import MJCF, URDF

from physai_base.embodiment import Embodiment
from physai_base.errors import EmbodimentError
from physai_base.kinematics import ArmKinematics
from physai_base.models.description import describe
from physai_base.resources import share_directory
from physai_base.robot_model import load_robot
from physai_lab.robots.anatomy import contacts_at

Write = Callable[..., Path]
CAMERA = {
    "name": "top", "frame": "top_optical_frame", "parent": "foot", "position": [1, 0, 1], "look_at": [0, 0, 0], "width": 64, "height": 48,
    "fovy_deg": 50, "rate_hz": 20,
}  # fmt: skip


def joint(name: str, low: float, high: float, **more: Any) -> dict[str, Any]:
    numbers = {
        "velocity": 1,
        "acceleration": 5,
        "jerk": 500,
        "torque": 30,
        "torque_rate": 100,
        "stiffness": 50,
        "damping_ratio": 1,
    }
    return {
        "name": name,
        "position": [low, high],
        **numbers,
        "braking": {"decel_2a": 5, "offset": 0.1},
        **more,
    }


def robot(**changes: Any) -> dict[str, Any]:
    """A file for the MJCF; None takes an entry out."""
    document = {
        "format_version": 1, "name": "small", "model": "arm.xml", "base_frame": "foot", "tool_frame": "tip",
        "joints": [joint("pan", -2, 2), joint("tilt", -1, 1)], "home": [0.1, 0.2],
        "control": {"rate_hz": 500, "blend_s": 0.1, "gain_ramp_s": 0.1, "stop_acceleration": 5, "state_timeout_s": 0.02, "velocity_trip": 1.1,
                        "tracking_trip_rad": 0.3},
        "geofence": {"min": [-1, -1, -1], "max": [1, 1, 1]},
        "hardware": {"backend": "loopback", "gravity": "controller", "options": {}},
    }  # fmt: skip
    return {key: value for key, value in {**document, **changes}.items() if value is not None}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    (tmp_path / "arm.xml").write_text(MJCF)
    (tmp_path / "arm.urdf").write_text(URDF)

    def write(**changes: Any) -> Path:
        path = tmp_path / "small.yaml"
        path.write_text(yaml.safe_dump(robot(**changes), sort_keys=False))
        return path

    return write


URDF_ARM = {
    "model": "arm.urdf",
    "base_frame": "base",
    "tool_frame": "flange",
    "joints": [joint("pan", -3, 3), joint("tilt", -2, 2)],
}


def test_an_arm_alone_needs_little(write: Write) -> None:
    small = Embodiment.load(write())
    assert small.gripper.kind == "none" and small.finger_joints == ()
    assert small.cameras == () and small.description == ""
    assert small.state_features == small.action_features == ("pan.pos", "tilt.pos")
    assert load_robot(small).locked == {"lift": 0.1, "left": 0.0, "right": 0.0}


def test_joints_come_in_the_files_order(write: Write) -> None:
    there = ArmKinematics(Embodiment.load(write()))
    turned = write(joints=[joint("tilt", -1, 1), joint("pan", -2, 2)], home=[0.2, 0.1])
    back = ArmKinematics(Embodiment.load(turned))
    q = np.array([0.4, -0.3])
    np.testing.assert_array_equal(there.tool_pose(q).matrix(), back.tool_pose(q[::-1]).matrix())
    np.testing.assert_array_equal(there.jacobian(q), back.jacobian(q[::-1])[:, ::-1])


def test_kinematics_are_in_the_base_frame(write: Write) -> None:
    pose = ArmKinematics(Embodiment.load(write())).tool_pose(np.zeros(2))
    turned = np.radians(30)
    np.testing.assert_allclose(pose.position, [0.6 * np.cos(turned), 0.6 * np.sin(turned), 0.4], atol=1e-12)


def test_a_fingers_follower_comes_with_it(write: Write) -> None:
    finger = {"joint": "thumb_joint", "closed": 0.8, "open": 0.0}
    gripper = {"kind": "hinge", "range": [0, 0.8], "speed": 1, "force": 2, "fingers": [finger]}
    small = Embodiment.load(write(**URDF_ARM, gripper=gripper))
    assert small.finger_joints == ("thumb_joint", "finger_joint")
    np.testing.assert_allclose(small.gripper.positions(0.0), [0.8, -0.5 * 0.8 + 0.1])
    np.testing.assert_allclose(small.gripper.positions(0.8), [0.0, 0.1])
    assert small.gripper.opening({"thumb_joint": 0.4, "finger_joint": -0.1}) == pytest.approx(0.4)
    assert small.state_features[-1] == "tool.opening"


def test_the_short_form_of_a_hinge_goes_through_the_whole_width(write: Write) -> None:
    small = Embodiment.load(
        write(**URDF_ARM, gripper={"joints": ["thumb_joint"], "width": [0, 0.8], "speed": 1, "force": 2})
    )
    assert small.gripper.kind == "hinge"
    assert small.gripper.positions(0.8)[0] == 0.8


def test_signs_of_slides(write: Write) -> None:
    fingers = [{"joint": "left", "closed": 0, "open": 0.04}, {"joint": "right", "closed": 0, "open": -0.04}]
    small = Embodiment.load(
        write(gripper={"kind": "parallel", "range": [0, 0.08], "speed": 0.1, "force": 20, "fingers": fingers})
    )
    np.testing.assert_allclose(small.gripper.positions(0.04), [0.02, -0.02])


def test_suction_has_no_fingers(write: Write) -> None:
    gripper = Embodiment.load(write(gripper={"kind": "suction", "force": 20})).gripper
    assert (gripper.kind, gripper.opening_min, gripper.opening_max, gripper.fingers) == ("suction", 0, 1, ())


def test_several_end_effectors(write: Write) -> None:
    ends = [{"name": "left", "frame": "tip"}, {"name": "right", "frame": "lower", "elbow_frame": "upper"}]
    small = Embodiment.load(write(tool_frame=None, end_effectors=ends))
    assert [end.name for end in small.end_effectors] == ["left", "right"]
    assert small.tool_frame == "tip" and small.end_effectors[1].elbow_frame == "upper"
    assert {load_robot(small).model.site(i).name for i in range(2)} == {"tip", "lower"}


def test_a_hand_is_mounted_and_described(write: Write, embodiment: Embodiment) -> None:
    hand = str(embodiment.model_path.parent / "franka_hand.xml")
    fingers = [{"joint": f"hand_fr3_finger_joint{i}", "closed": 0, "open": 0.04} for i in (1, 2)]
    mount = {"frame": "flange", "position": [0, 0, 0.02], "prefix": "hand_"}
    gripper = {
        "model": hand,
        "mount": mount,
        "kind": "parallel",
        "range": [0, 0.08],
        "speed": 0.15,
        "force": 30,
        "fingers": fingers,
    }
    arm = {**URDF_ARM, "tool_frame": "hand_tool0"}
    small = Embodiment.load(write(**arm, gripper=gripper, locked={"thumb_joint": 0.3}))
    flange = ArmKinematics(Embodiment.load(write(**URDF_ARM))).tool_pose(small.home)
    tool = ArmKinematics(small).tool_pose(small.home)
    np.testing.assert_allclose(
        tool.position, flange.position + flange.rotation @ [0, 0, 0.02 + 0.1034], atol=1e-9
    )
    description = describe(small)
    assert "hand_fr3_finger_joint1" in description.urdf
    values = dict(zip(small.joint_names, small.home, strict=True))
    from_base = np.linalg.inv(description.poses(values)["base"]) @ description.poses(values)["hand_tool0"]
    np.testing.assert_allclose(from_base, tool.matrix(), atol=1e-9)


def test_a_urdf_is_described_as_it_is_with_locked_joints_where_they_stand(write: Write) -> None:
    arm = {**URDF_ARM, "joints": [joint("pan", -3, 3)], "home": [0.3], "locked": {"tilt": 0.4}}
    small = Embodiment.load(write(**arm))
    description = describe(small)
    assert description.urdf == small.model_path.read_text()
    pose = description.poses({"pan": 0.3})["flange"]
    np.testing.assert_allclose(pose, ArmKinematics(small).tool_pose(small.home).matrix(), atol=1e-12)


def test_rotor_inertia_may_be_given(write: Write) -> None:
    small = Embodiment.load(write(joints=[joint("pan", -2, 2, armature=0.25), joint("tilt", -1, 1)]))
    model = load_robot(small).model
    assert model.joint("pan").armature[0] == 0.25 and model.joint("tilt").armature[0] == 0.1


def test_a_model_of_a_package(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_PACKAGE_PATH", str(tmp_path))
    (tmp_path / "package.xml").write_text("<package><name>maker</name></package>")
    assert (
        Embodiment.load(write(model={"package": "maker", "path": "arm.xml"})).model_path
        == tmp_path / "arm.xml"
    )


GRIPPER = {"kind": "parallel", "range": [0, 0.04], "speed": 0.1, "force": 20}


@pytest.mark.parametrize(
    ("changes", "words"),
    (
        ({"model": {"package": "nobodys", "path": "arm.xml"}}, "model.package: there is neither a Python package 'nobodys'"),
        ({"model": {"package": "nobodys"}}, "model.path: is missing"),
        ({"model": "arm.urdf.xacro"}, "model: no such file"),
        ({"base_frame": "feet"}, "base_frame: 'feet' is not a body or link"),
        ({"tool_frame": "top"}, "tool_frame: 'top' is no site, body or link"),
        ({"end_effectors": [{"name": "a", "frame": "tip"}]}, "tool_frame: stands in each of the end_effectors"),
        ({"tool_frame": None, "end_effectors": [{"name": "a", "frame": "tip"}, {"name": "a", "frame": "tip"}]}, "another end effector 'a'"),
        ({"tool_frame": None, "end_effectors": [{"name": "a b", "frame": "tip"}]}, "must begin with a letter"),
        ({"tool_frame": None, "end_effectors": [{"name": f"e{i}", "frame": "tip"} for i in range(5)]}, "at most 4 are possible, got 5"),
        ({"tool_frame": "lifted"}, "tool_frame: 'lifted' is moved by none of the joints"),
        ({"geofence": {"min": [-1, -1, -1], "max": [1, 1, 1], "elbow_frame": "uper"}}, "no site, body or link 'uper'"),
        ({"locked": {"tilt": 0.0}}, "locked: tilt is driven"),
        ({"locked": {"lift": 9.0}}, "lift at 9 is outside"),
        ({"locked": {"lft": 0.2}}, "has no joint 'lft'"),
        ({"gripper": {**GRIPPER, "kind": "hinged", "fingers": [{"joint": "left", "closed": 0, "open": 0.04}]}}, "did you mean hinge"),
        ({"gripper": {**GRIPPER, "fingers": [{"joint": "lefty", "closed": 0, "open": 0.04}]}}, "the model has no joint 'lefty'"),
        ({"gripper": {**GRIPPER, "fingers": [{"joint": "left", "closed": 0, "open": 0.4}]}}, r"left at 0.4 is outside of the model's"),
        ({"gripper": {**GRIPPER, "fingers": [{"joint": "left", "closed": 0, "open": 0}]}}, "open: must differ from closed"),
        ({"gripper": {**GRIPPER, "fingers": []}}, "must be a list with at least one entry"),
        ({"gripper": {**GRIPPER, "joints": ["left"]}}, "joints: is the short form of kind, range and fingers"),
        ({"gripper": {"kind": "suction", "range": [0, 2], "force": 3}}, r"of suction is \[0, 1\]"),
        ({"gripper": {"model": "none.xml", "mount": {"frame": "tip"}, **GRIPPER}}, "gripper.model: no such file"),
        ({"frames": [{"name": "pads", "parent": "tp"}]}, "frames: the model has no site, body or link named .tp"),
        ({"frames": [{"name": "tip", "parent": "tip"}]}, "the model itself has a frame .tip"),
        ({"gripper": {"model": "arm.xml", "mount": {"frame": "tp"}, **GRIPPER}}, "no site, body or link named 'tp'"),
        ({"joints": [joint("pan", -2, 2), joint("tilt", -1, 1)] + [joint(f"j{i}", 0, 1) for i in range(31)], "home": [0.5] * 33}, "at most 32"),
        ({"joints": [joint("pan", -2, 2), joint("tilt", -4, 1)]}, "tilt: position .* exceeds the model's range"),
        ({"joints": [joint("pan", -2, 2), joint("tlt", -1, 1)]}, "arm.xml has no joint 'tlt'; it has: lift, pan, tilt"),
        ({"gripper": {**GRIPPER, "fingers": [{"joint": "tilt", "closed": 0, "open": 0.04}]}}, "tilt is also a finger"),
        ({"gripper": {**GRIPPER, "kind": "hinge", "fingers": [{"joint": "left", "closed": 0, "open": 0.04}]}}, "is hinge, in rad, and its fingers slide"),
        ({"gripper": {**GRIPPER, "range": [0, 80], "fingers": [{"joint": "left", "closed": 0, "open": 0.04}]}}, r"gripper.range: entry 1: must be within \[-2, 2\]"),
        ({"tool_frame": None, "end_effectors": [{"name": n, "frame": "tip", "gripper": {**GRIPPER, "fingers": [{"joint": "left", "closed": 0, "open": 0.04}]}} for n in "ab"]}, r"end_effectors.1..gripper.fingers: left is also a finger of a: each gripper has its own"),
        ({"name": "../elsewhere"}, "name: must have neither / nor control characters"),
        ({"home": [0.1, 90]}, r"home: tilt at 90 rad is outside its limits \[-1, 1\]"),
        ({"features": {"state": ["a", "b", "c"]}}, "features.state: must name each joint and each gripper, 2 in all, got 3"),
        ({"hardware": {"backend": "shm", "gravity": "controller", "options": {}}}, "hardware.options: lacks name, of the memory"),
        ({"cameras": [CAMERA, {**CAMERA, "frame": "other"}]}, "cameras: each needs a name of its own"),
        ({"cameras": [CAMERA, {**CAMERA, "name": "other"}]}, "cameras: each needs a frame of its own"),
        ({"cameras": [{**CAMERA, "parent": "feet"}]}, "cameras.0..parent: must be base_frame, foot, or a tool: tip; got 'feet'"),
    ),
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(write: Write, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(EmbodimentError, match=words) as caught:
        Embodiment.load(write(**changes))
    assert "small.yaml:" in str(caught.value)


def test_a_xacro_file_has_to_be_expanded(write: Write, tmp_path: Path) -> None:
    (tmp_path / "arm.urdf.xacro").write_text('<robot xmlns:xacro="http://www.ros.org/wiki/xacro"/>')
    with pytest.raises(EmbodimentError, match=r"is a xacro file: expand it first, `xacro arm.urdf.xacro"):
        Embodiment.load(write(model="arm.urdf.xacro"))


def test_a_frame_of_its_own(write: Write) -> None:
    frame = {"name": "pads", "parent": "flange", "position": [0, 0, 0.1], "rpy": [0, np.pi / 2, 0]}
    small = Embodiment.load(write(**{**URDF_ARM, "tool_frame": "pads"}, frames=[frame]))
    flange = ArmKinematics(Embodiment.load(write(**URDF_ARM))).tool_pose(small.home)
    pads = ArmKinematics(small).tool_pose(small.home)
    np.testing.assert_allclose(pads.position, flange.position + 0.1 * flange.rotation[:, 2], atol=1e-12)
    np.testing.assert_allclose(pads.rotation[:, 2], flange.rotation[:, 0], atol=1e-12)
    description = describe(small)
    pose = description.poses(dict(zip(small.joint_names, small.home, strict=True)))["pads"]
    np.testing.assert_allclose(pose, pads.matrix(), atol=1e-12)
    assert ElementTree.fromstring(description.urdf).find("link[@name='pads']") is not None


XACRO = """
import sys
class Document:
    def toprettyxml(self, indent): return open({urdf!r}).read() + self.text
def process_file(path, mappings):
    if "dof" not in mappings: raise ValueError("undefined substitution argument dof")
    document = Document()
    document.text = "<!-- " + mappings["dof"] + " -->"
    return document
"""


def test_a_packages_xacro_file_is_expanded_with_its_arguments(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own" / "maker").mkdir(parents=True)
    (tmp_path / "own" / "maker" / "arm.urdf.xacro").write_text("<robot/>")
    monkeypatch.setenv("PHYSAI_MODEL_PATH", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = {"package": "maker", "path": "arm.urdf.xacro", "xacro": {"dof": 2}}
    monkeypatch.setitem(sys.modules, "xacro", None)
    with pytest.raises(EmbodimentError, match=r"model.xacro: .* pip install xacro"):
        Embodiment.load(write(**{**URDF_ARM, "model": model}))
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "xacro.py").write_text(XACRO.format(urdf=str(tmp_path / "arm.urdf")))
    monkeypatch.delitem(sys.modules, "xacro")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    small = Embodiment.load(write(**{**URDF_ARM, "model": model}))
    assert small.model_path.read_text().endswith("<!-- 2 -->") and small.joint_names == ("pan", "tilt")
    written = small.model_path.stat().st_mtime_ns
    assert Embodiment.load(write(**{**URDF_ARM, "model": model})).model_path.stat().st_mtime_ns == written
    with pytest.raises(EmbodimentError, match="xacro refuses it: undefined substitution argument dof"):
        Embodiment.load(write(**{**URDF_ARM, "model": {**model, "xacro": {}}}))
    with pytest.raises(EmbodimentError, match="is a xacro file: expand it first"):
        Embodiment.load(write(**{**URDF_ARM, "model": {"package": "maker", "path": "arm.urdf.xacro"}}))


FINDING_XACRO = """
class Document:
    def __init__(self, text): self.text = text
    def toprettyxml(self, indent): return self.text
def process_file(path, mappings):
    from ament_index_python.packages import get_package_share_directory
    return Document(open(get_package_share_directory(mappings["from"]) + "/arm.urdf").read())
"""


@pytest.mark.parametrize("installed", (True, False))
def test_xacro_finds_a_clone_where_models_are_without_ros(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    maker = tmp_path / "own" / "maker_description"
    maker.mkdir(parents=True)
    (maker / "package.xml").write_text("<package><name>maker_description</name></package>")
    (maker / "arm.urdf.xacro").write_text("<robot/>")
    (maker / "arm.urdf").write_text(URDF)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "xacro.py").write_text(FINDING_XACRO)
    monkeypatch.delitem(sys.modules, "xacro", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("PHYSAI_MODEL_PATH", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    name = "ament_index_python.packages"
    ament = SimpleNamespace(get_package_share_directory=lambda package: "/nowhere") if installed else None
    monkeypatch.setitem(sys.modules, name, ament)
    if installed:
        monkeypatch.setitem(sys.modules, "ament_index_python", SimpleNamespace(packages=ament))
    model = {"package": "maker_description", "path": "arm.urdf.xacro", "xacro": {"from": "maker_description"}}
    assert Embodiment.load(write(**{**URDF_ARM, "model": model})).joint_names == ("pan", "tilt")
    assert sys.modules[name] is ament if installed else name not in sys.modules
    assert not installed or ament.get_package_share_directory("any") == "/nowhere"  # as it was
    with pytest.raises(EmbodimentError, match="there is no ROS package 'other': source ROS, or clone it"):
        Embodiment.load(write(**{**URDF_ARM, "model": {**model, "xacro": {"from": "other"}}}))


def test_the_base_may_be_a_frame_of_its_own(write: Write) -> None:
    """The arm hangs 0.2 m over and 0.5 m beside it."""
    frame = {"name": "bench", "parent": "world", "position": [0.2, 0, -0.2], "rpy": [0, 0, np.pi / 2]}
    small = Embodiment.load(write(base_frame="bench", frames=[frame]))
    there = ArmKinematics(Embodiment.load(write())).tool_pose(small.home)
    here = ArmKinematics(small).tool_pose(small.home)
    np.testing.assert_allclose(here.position, there.position + [0.5, 0, 0.2], atol=1e-9)
    assert describe(small).root == "bench"
    poses = describe(small).poses(dict(zip(small.joint_names, small.home, strict=True)))
    np.testing.assert_allclose(poses["tip"], here.matrix(), atol=1e-9)


@pytest.mark.parametrize(
    ("changes", "words"),
    (
        ({"base_frame": "feet", "cameras": [{**CAMERA, "parent": "foot"}]}, "base_frame: 'feet' is not a body or link"),
        ({"tool_frame": "tp", "cameras": [{**CAMERA, "parent": "tip"}]}, "tool_frame: 'tp' is no site, body or link"),
        ({"gripper": {"model": "arm.xml", "mount": {"frame": "tip", "rpy": [0, 0, 45]}, **GRIPPER}}, r"mount.rpy: entry 2: must be within"),
    ),
)  # fmt: skip
def test_what_follows_from_an_error_is_not_said_as_well(
    write: Write, changes: dict[str, Any], words: str
) -> None:
    if "gripper" in changes:
        changes["gripper"]["fingers"] = [{"joint": "of_the_hand", "closed": 0, "open": 0.04}]
    with pytest.raises(EmbodimentError, match=words) as caught:
        Embodiment.load(write(**changes))
    assert "things are wrong" not in str(caught.value)


def test_what_is_wrong_is_said_in_the_order_of_the_file(write: Write) -> None:
    with pytest.raises(EmbodimentError) as caught:
        Embodiment.load(write(home=[90, 80]))
    assert str(caught.value).index("pan at 90") < str(caught.value).index("tilt at 80")


@pytest.mark.parametrize("what", ("damping", "frictionloss"))
def test_a_model_with_negative_dynamics_is_refused_by_name(write: Write, tmp_path: Path, what: str) -> None:
    text = MJCF.replace('<joint name="tilt"', f'<joint name="tilt" {what}="-1"')
    (tmp_path / "arm.xml").write_text(text)
    path = write()
    with pytest.raises(EmbodimentError, match=rf"model: .*joint tilt has a negative {what}, -1"):
        Embodiment.load(path)


def test_parts_that_always_touch_are_left_alone_in_a_makers_mjcf_too(write: Write, tmp_path: Path) -> None:
    """A shape of the last link is so large that it reaches into the foot, as published."""
    large = MJCF.replace('<site name="tip"', '<geom size="0.6" pos="0 0 0.05"/><site name="tip"')
    assert large != MJCF
    (tmp_path / "arm.xml").write_text(large)
    small = Embodiment.load(write())
    assert contacts_at(load_robot(small), small.home) == []


SHIPPED = sorted(path.stem for path in (share_directory() / "config" / "robots").glob("*.yaml"))


def test_the_nine_robots_are_shipped() -> None:
    assert {"fr3", "ur5e", "ur10e", "gen3", "iiwa14", "xarm7", "so101", "openarm", "aloha"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_file_lacks_at_most_its_makers_model(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose model is not on this machine: the error names what to install, and nothing else is wrong."""
    for variable in ("AMENT_PREFIX_PATH", "ROS_PACKAGE_PATH", "PHYSAI_MODEL_PATH"):
        monkeypatch.delenv(variable, raising=False)
    try:
        assert Embodiment.load(name).name
    except EmbodimentError as error:
        message = str(error)
        wrong = message.splitlines()[1:] or [message]  # one line for each model, below the count
        assert not name.startswith("fr3") and all(
            "model.package: there is neither a Python package" in line or "model.xacro" in line
            for line in wrong
        )
