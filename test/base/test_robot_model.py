"""Models as makers publish them come out as the robot alone, in its base frame."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
from maker_models import INERTIAL, MJCF, URDF

from physai_base.embodiment import Embodiment
from physai_base.embodiment_parts import ModelChanges, Mount
from physai_base.errors import EmbodimentError
from physai_base.models.files import find_in_package
from physai_base.models.published import ModelError, Source, survey
from physai_base.robot_model import RobotModel, prepare


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A ROS package with the URDF, and a mesh of a tetrahedron."""
    folder = tmp_path / "maker_description"
    (folder / "meshes").mkdir(parents=True)
    (folder / "urdf").mkdir()
    (folder / "package.xml").write_text("<package><name>maker_description</name></package>")
    corners = np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0], [0, 0, 0.1]])
    facets = [corners[[0, 2, 1]], corners[[0, 1, 3]], corners[[0, 3, 2]], corners[[1, 2, 3]]]
    body = b"".join(struct.pack("<12fH", 0, 0, 0, *facet.ravel(), 0) for facet in facets)
    (folder / "meshes" / "base.stl").write_bytes(bytes(80) + struct.pack("<I", len(facets)) + body)
    (folder / "meshes" / "upper.dae").write_text("<COLLADA/>")
    (folder / "urdf" / "arm.urdf").write_text(URDF)
    return folder


@pytest.fixture
def urdf(package: Path) -> Source:
    return Source(
        package / "urdf" / "arm.urdf", "base", ("pan", "tilt"), ("thumb_joint", "finger_joint"), ("flange",)
    )


@pytest.fixture
def mjcf(tmp_path: Path) -> Source:
    path = tmp_path / "arm.xml"
    path.write_text(MJCF)
    return Source(path, "foot", ("pan", "tilt"), ("left", "right"), ("tip",))


def tool(robot: RobotModel, **joints: float) -> np.ndarray:
    """T_world_tool (4, 4) at joint values."""
    data = mujoco.MjData(robot.model)
    for name, value in joints.items():
        data.joint(name).qpos[0] = value
    mujoco.mj_forward(robot.model, data)
    site, pose = data.site(robot.source.frames[0]), np.eye(4)
    pose[:3, :3], pose[:3, 3] = site.xmat.reshape(3, 3), site.xpos
    return pose


def test_a_urdf_stands_as_it_is_written(urdf: Source) -> None:
    robot = prepare(urdf)
    pan, tilt = 0.7, -0.4
    c, s = np.cos(tilt), np.sin(tilt)
    reach = 0.5 * s
    expected = [reach * np.cos(pan), reach * np.sin(pan), 0.4 + 0.5 * c]
    np.testing.assert_allclose(tool(robot, pan=pan, tilt=tilt)[:3, 3], expected, atol=1e-12)
    assert {robot.model.body(i).name for i in range(1, robot.model.nbody)} == {
        "base", "upper", "lower", "flange", "thumb", "finger",
    }  # fmt: skip
    assert robot.model.joint("tilt").damping[0] == 0.4
    assert robot.model.dof_frictionloss[robot.model.joint("tilt").dofadr[0]] == 0.2
    assert not robot.model.jnt_limited[robot.model.joint("pan").id]
    assert robot.model.nmesh == 1


def test_what_cannot_be_read_is_left_out_and_said(urdf: Source) -> None:
    notes = "\n".join(prepare(urdf).notes)
    assert "gone.stl" in notes and "no such file" in notes
    assert "upper.dae" in notes and ".stl, .obj, .msh" in notes
    assert "moving links without mass" in notes and "thumb" in notes
    assert "drawn as lines, through which everything passes: upper" in notes
    bone = prepare(urdf).model.body("upper").geomadr[0]
    assert prepare(urdf).model.geom_contype[bone] == 0 and prepare(urdf).model.geom_size[
        bone, 1
    ] == pytest.approx(0.05)


def test_limits_and_mimics_are_known_before_anything_is_built(urdf: Source, mjcf: Source) -> None:
    found = survey(urdf.path)
    assert list(found.limits) == ["pan", "tilt", "thumb_joint", "finger_joint"]
    assert found.limits["pan"].upper == np.inf and found.limits["pan"].effort == 40
    assert (found.limits["tilt"].lower, found.limits["tilt"].velocity) == (-2, 1.5)
    assert found.mimics["finger_joint"].multiplier == -0.5 and found.mimics["finger_joint"].offset == 0.1
    theirs = survey(mjcf.path)
    assert theirs.mimics["right"].multiplier == -1
    assert theirs.limits["pan"].effort == 12
    assert theirs.limits["pan"].upper == pytest.approx(np.radians(170))


def test_the_same_package_is_found_where_the_environment_says(
    urdf: Source, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = tmp_path / "elsewhere" / "arm.urdf"
    alone.parent.mkdir()
    alone.write_text(URDF)
    (tmp_path / "prefix" / "share").mkdir(parents=True)
    package.rename(tmp_path / "prefix" / "share" / package.name)
    assert prepare(replace(urdf, path=alone)).model.nmesh == 0
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "prefix"))
    alone.write_text(URDF + "<!-- as a changed file is read again -->")
    assert prepare(replace(urdf, path=alone)).model.nmesh == 1


def test_only_the_robot_is_left_of_a_makers_mjcf(mjcf: Source) -> None:
    robot = prepare(mjcf)
    model = robot.model
    assert (model.nu, model.nsensor, model.nkey, model.ntendon, model.nlight, model.ncam) == (0,) * 6
    assert {model.joint(i).name for i in range(model.njnt)} == {"pan", "tilt", "left", "right"}
    assert [model.body(i).name for i in range(1, model.nbody)] == [
        "foot",
        "lifted",
        "upper",
        "lower",
        "left",
        "right",
    ]
    assert model.opt.timestep == 0.001
    assert not model.body_gravcomp.any()
    assert model.neq == 1  # right follows left, and both are driven
    notes = "\n".join(robot.notes)
    assert "table" in notes and "box" in notes and "lift at 0.1" in notes


def test_everything_is_in_the_base_frame(mjcf: Source) -> None:
    """The base stands at (0.2, 0.5), turned by 90 degrees: seen from there it is at 0."""
    robot = prepare(mjcf)
    data = mujoco.MjData(robot.model)
    mujoco.mj_forward(robot.model, data)
    np.testing.assert_allclose(data.body("foot").xpos, 0, atol=1e-12)
    np.testing.assert_allclose(data.body("foot").xmat.reshape(3, 3), np.eye(3), atol=1e-12)
    turned = np.radians(30)
    expected = [0.6 * np.cos(turned), 0.6 * np.sin(turned), 0.2 + 0.1 + 0.1]
    np.testing.assert_allclose(tool(robot)[:3, 3], expected, atol=1e-12)
    np.testing.assert_allclose(robot.model.opt.gravity, [0, 0, -9.81], atol=1e-12)


def test_gravity_turns_with_a_base_that_hangs(mjcf: Source) -> None:
    mjcf.path.write_text(MJCF.replace('euler="0 0 90"', 'euler="180 0 0"'))
    np.testing.assert_allclose(prepare(mjcf).model.opt.gravity, [0, 0, 9.81], atol=1e-12)


@pytest.mark.parametrize("angle", (0.0, 0.5))
def test_a_locked_joint_stands_where_the_file_says(mjcf: Source, angle: float) -> None:
    free = prepare(mjcf)
    locked = prepare(replace(mjcf, joints=("pan",), changes=ModelChanges((("tilt", angle), ("lift", 0.3)))))
    for pan in (-1.0, 0.4):
        expected = tool(free, pan=pan, tilt=angle)
        expected[2, 3] += 0.3 - 0.1
        np.testing.assert_allclose(tool(locked, pan=pan), expected, atol=1e-12)


def test_the_order_of_joints_is_the_robot_files(mjcf: Source) -> None:
    np.testing.assert_array_equal(
        tool(prepare(replace(mjcf, joints=("tilt", "pan"))), pan=0.3, tilt=0.2),
        tool(prepare(mjcf), pan=0.3, tilt=0.2),
    )


def test_a_ring_that_a_constraint_closes_stays_free(mjcf: Source) -> None:
    ring = '<equality><connect body1="left" body2="right" anchor="0 0 0"/>'
    mjcf.path.write_text(MJCF.replace("<equality>", ring))
    robot = prepare(replace(mjcf, fingers=("left",)))
    assert {robot.model.joint(i).name for i in range(robot.model.njnt)} == {"pan", "tilt", "left", "right"}
    assert any("moved by rings" in note for note in robot.notes)


@pytest.mark.parametrize(
    ("change", "entry", "words"),
    (
        ({"base_frame": "feet"}, "base_frame", "'feet' is not a body or link of arm.xml; it has: world, table, box, foot"),
        ({"base_frame": "upper"}, "base_frame", "'upper' is moved by joint pan"),
        ({"joints": ("pan", "tlit")}, "joints", "arm.xml has no joint tlit; it has: lift, pan, tilt"),
        ({"fingers": ("hand",)}, "gripper", "no joint hand"),
        ({"frames": ("top",)}, "tool_frame", "'top' is no site, body or link"),
        ({"changes": ModelChanges((("pan", 0.0),))}, "locked", "pan is driven"),
        ({"changes": ModelChanges((("lift", 2.0),))}, "locked", r"lift at 2 is outside of the model's range \[0.1, 0.4\]"),
        ({"changes": ModelChanges((("left_", 2.0),))}, "locked", "no joint 'left_'"),
        ({"path": Path("/no/such.urdf")}, "model", "no such file: /no/such.urdf"),
    ),
)  # fmt: skip
def test_what_does_not_fit_is_said_with_its_entry(mjcf: Source, change: dict, entry: str, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        prepare(replace(mjcf, **change))
    assert caught.value.entry == entry


@pytest.mark.parametrize(
    ("text", "words"),
    (
        ("<robot", "cannot be read as XML"),
        ("<sdf/>", "an SDF, neither a URDF"),
        ('<robot xmlns:xacro="http://www.ros.org/wiki/xacro"><xacro:macro name="a"/></robot>', "is a xacro file: expand it"),
        ("<mujoco><worldbody><geom/></worldbody></mujoco>", "MuJoCo refuses it"),
        ('<robot><link name="a"/><link name="b"/></robot>', "one root link; got: a, b"),
        (URDF.replace('<parent link="lower"/>', '<parent link="lowr"/>'), "joint 'wrist' names link 'lowr', which is not there"),
        (URDF.replace('mass value="1"', 'mass value="one"', 1), "link 'base': value of <mass>: could not convert"),
        (URDF.replace('upper="2"', 'upper="nan"'), "joint 'tilt': upper of <limit> must be finite"),
        (URDF.replace('type="continuous"', 'type="ball"'), "joint 'pan' is of an unknown type 'ball'"),
    ),
)  # fmt: skip
def test_a_damaged_model_is_one_error(urdf: Source, text: str, words: str) -> None:
    urdf.path.write_text(text)
    with pytest.raises(ModelError, match=words):
        prepare(urdf)


def test_inertia_that_no_body_has_is_made_possible(urdf: Source) -> None:
    urdf.path.write_text(URDF.replace('ixx="0.01"', 'ixx="5"', 1))
    robot = prepare(urdf)
    assert any("no body has the moments of inertia" in note for note in robot.notes)
    np.testing.assert_allclose(np.sort(robot.model.body("base").inertia), [0.01, 0.01, 0.02])


def test_a_gripper_is_mounted(mjcf: Source, embodiment: Embodiment) -> None:
    hand = embodiment.model_path.parent / "franka_hand.xml"
    mount = Mount(hand, "tip", (0.1, 0.0, 0.0), (0.0, np.pi / 2, 0.0), "hand_")
    fingers = ("hand_fr3_finger_joint1", "hand_fr3_finger_joint2")
    robot = prepare(
        replace(mjcf, fingers=fingers, frames=("hand_tool0",), changes=ModelChanges(mounts=(mount,)))
    )
    reach, turned = 0.6 + 0.1 + 0.1034, np.radians(30)
    pose = tool(robot)
    np.testing.assert_allclose(pose[:3, 3], [reach * np.cos(turned), reach * np.sin(turned), 0.4], atol=1e-9)
    np.testing.assert_allclose(pose[:3, 2], [np.cos(turned), np.sin(turned), 0], atol=1e-9)
    assert {robot.model.joint(i).name for i in range(robot.model.njnt)} == {"pan", "tilt", *fingers}


def test_the_hand_alone_is_that_of_the_arm(embodiment: Embodiment) -> None:
    alone = mujoco.MjModel.from_xml_path(str(embodiment.model_path.parent / "franka_hand.xml"))
    ours = mujoco.MjModel.from_xml_path(str(embodiment.model_path))
    for name in ("fr3_hand", "fr3_leftfinger", "fr3_rightfinger"):
        assert alone.body(name).mass == ours.body(name).mass
        np.testing.assert_array_equal(alone.body(name).inertia, ours.body(name).inertia)


def test_a_frame_of_two_meanings_is_refused(mjcf: Source, embodiment: Embodiment) -> None:
    mjcf.path.write_text(MJCF.replace('name="left" pos', 'name="tool0" pos'))
    mount = Mount(embodiment.model_path.parent / "franka_hand.xml", "tip")
    with pytest.raises(ModelError, match="is a site and also a body"):
        prepare(replace(mjcf, frames=("tool0",), changes=ModelChanges(mounts=(mount,))))


def test_a_model_that_needs_nothing_is_handed_on_as_it_is(embodiment: Embodiment) -> None:
    source = Source(
        embodiment.model_path, embodiment.base_frame, embodiment.joint_names, embodiment.gripper.joints, (embodiment.tool_frame,)
    )  # fmt: skip
    robot = prepare(source)
    with robot.core_file() as path:
        assert robot.as_published and path == embodiment.model_path
    assert saved(robot.model) == saved(mujoco.MjModel.from_xml_path(str(embodiment.model_path)))


def test_the_core_gets_the_prepared_model_as_a_file(mjcf: Source) -> None:
    robot = prepare(mjcf)
    with robot.core_file() as path:
        assert path.suffix == ".mjb"
        assert saved(mujoco.MjModel.from_binary_path(str(path))) == saved(robot.model)
    assert not path.exists()


def saved(model: mujoco.MjModel) -> bytes:
    buffer = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    return buffer.tobytes()


def test_a_file_of_a_package(tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_PACKAGE_PATH", str(tmp_path))
    assert find_in_package("maker_description", "urdf/arm.urdf") == package / "urdf" / "arm.urdf"
    python = tmp_path / "site" / "maker_models"
    python.mkdir(parents=True)
    (python / "__init__.py").write_text("raise RuntimeError('imported')")
    (python / "arm.xml").write_text(MJCF)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert find_in_package("maker_models", "arm.xml") == python / "arm.xml"
    with pytest.raises(EmbodimentError, match=r"package 'maker_models' has no file 'leg.xml'"):
        find_in_package("maker_models", "leg.xml")
    with pytest.raises(EmbodimentError, match=r"neither a Python package 'no_such' .* nor a ROS package"):
        find_in_package("no_such", "arm.xml")


def test_a_finger_that_follows_is_held_to_its_master(urdf: Source) -> None:
    model = prepare(urdf).model
    data = mujoco.MjData(model)
    data.joint("finger_joint").qpos[0] = 0.1
    data.joint("thumb_joint").qfrc_applied[0] = 1.0
    for _ in range(500):
        mujoco.mj_step(model, data)
    thumb, finger = (float(data.joint(name).qpos[0]) for name in ("thumb_joint", "finger_joint"))
    assert thumb > 0.3 and finger == pytest.approx(0.1 - 0.5 * thumb, abs=0.02)


@pytest.mark.parametrize(
    ("mimics", "resolved", "words"),
    (
        ({"b": ("a", 2.0, 0.1), "c": ("b", -1.0, 0.5)}, {"b": ("a", 2.0, 0.1), "c": ("a", -2.0, 0.4)}, ""),
        (
            {"b": ("c", 1.0, 0.0), "c": ("b", 1.0, 0.0)},
            {"c": None, "b": None},
            "leads back to itself (b → c → b)",
        ),
        ({"a": ("a", 1.0, 0.0)}, {"a": None}, "leads back to itself (a → a)"),
        (
            {"a": ("nobody", 1.0, 0.0)},
            {"a": None},
            "names joint 'nobody', which does not move or is not there",
        ),
    ),
)
def test_a_mimic_of_a_mimic_follows_its_end_and_one_without_an_end_is_left_out(
    tmp_path: Path, mimics: dict[str, tuple[str, float, float]], resolved: dict[str, Any], words: str
) -> None:
    links = "".join(f'<link name="{name}">{INERTIAL}</link>' for name in ("root", "la", "lb", "lc"))
    joints = ""
    for name in "abc":
        follows = ""
        if name in mimics:
            master, multiplier, offset = mimics[name]
            follows = f'<mimic joint="{master}" multiplier="{multiplier}" offset="{offset}"/>'
        joints += (
            f'<joint name="{name}" type="revolute"><parent link="root"/><child link="l{name}"/>'
            f'<limit lower="-1" upper="1"/>{follows}</joint>'
        )
    path = tmp_path / "hand.urdf"
    path.write_text(f'<robot name="hand">{links}{joints}</robot>')
    found = survey(path)
    for name, wanted in resolved.items():
        got = found.mimics.get(name)
        if wanted is None:
            assert got is None
        else:
            assert got is not None and (got.master, got.multiplier, got.offset) == pytest.approx(wanted)
    assert all(
        mimic.master in found.limits and mimic.master not in found.mimics for mimic in found.mimics.values()
    )
    assert words in " ".join(found.notes)
