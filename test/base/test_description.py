"""The URDF and the frames of a robot are those of its model: one mass matrix, one kinematics."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import mujoco
import numpy as np
import pytest
from paths import CASES

from physai_base import urdf
from physai_base.embodiment import Embodiment
from physai_base.embodiment_parts import Gripper
from physai_base.errors import EmbodimentError
from physai_base.models.description import Description, describe

AWKWARD = (CASES / "models" / "awkward.xml").read_text()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(12)


@pytest.fixture
def awkward(embodiment: Embodiment, tmp_path: Path) -> Embodiment:
    path = tmp_path / "awkward.xml"
    path.write_text(AWKWARD)
    names = ("pan", "tilt", "slide")
    joints = tuple(replace(embodiment.joints[0], name=name) for name in names)
    return replace(
        embodiment, name="awkward", path=tmp_path / "awkward.yaml", model_path=path, base_frame="base",
        joints=joints, cameras=(),
        end_effectors=(replace(embodiment.end_effectors[0], frame="tip", gripper=Gripper()),),
    )  # fmt: skip


def compiled(description: Description) -> mujoco.MjModel:
    """The URDF in MuJoCo, which is to keep every link, and to move links that have no mass."""
    options = 'fusestatic="false" discardvisual="false" boundmass="1e-9" boundinertia="1e-12"'
    text = description.urdf.replace("<link", f"<mujoco><compiler {options}/></mujoco><link", 1)
    return mujoco.MjModel.from_xml_string(text)


def mass_matrix(model: mujoco.MjModel, data: mujoco.MjData, joints: tuple[str, ...]) -> np.ndarray:
    """(n, n) of the links alone: a URDF has no word for the rotors' inertia, MuJoCo's armature."""
    full = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, full, data.qM)
    full -= np.diag(model.dof_armature)
    dofs = [model.joint(name).dofadr[0] for name in joints]
    return full[np.ix_(dofs, dofs)]


def assert_equal_to_its_model(robot: Embodiment, rng: np.random.Generator) -> None:
    description = describe(robot)
    ours, theirs = compiled(description), mujoco.MjModel.from_xml_path(str(robot.model_path))
    names = (*robot.joint_names, *robot.gripper.joints)
    assert {ours.joint(i).name for i in range(ours.njnt)} == set(names)
    links = {ours.body(i).name for i in range(1, ours.nbody)}
    for name in names:
        low, high = ours.joint(name).range
        limit = (
            next(joint for joint in robot.joints if joint.name == name) if name in robot.joint_names else None
        )
        expected = (limit.position_min, limit.position_max) if limit else theirs.joint(name).range
        np.testing.assert_allclose((low, high), expected, atol=1e-12)
    for _ in range(20):
        a, b = mujoco.MjData(ours), mujoco.MjData(theirs)
        values = {name: float(rng.uniform(*ours.joint(name).range)) for name in names}
        for name, value in values.items():
            a.joint(name).qpos[0] = b.joint(name).qpos[0] = value
        mujoco.mj_forward(ours, a)
        mujoco.mj_forward(theirs, b)
        np.testing.assert_allclose(mass_matrix(ours, a, names), mass_matrix(theirs, b, names), atol=1e-6)
        base = b.body(robot.base_frame)
        from_world = np.linalg.inv(urdf.matrix(base.xpos, base.xquat))
        poses = description.poses(values)
        compared = 0
        for i in range(1, theirs.nbody):
            body = b.body(i)
            expected = from_world @ urdf.matrix(body.xpos, body.xquat)
            np.testing.assert_allclose(poses[body.name], expected, atol=1e-6)
            if body.name in links:
                found = a.body(body.name)
                np.testing.assert_allclose(urdf.matrix(found.xpos, found.xquat), expected, atol=1e-6)
                compared += 1
        assert compared >= len(names)
        tool = b.site(robot.tool_frame)
        expected = np.eye(4)
        expected[:3, :3], expected[:3, 3] = tool.xmat.reshape(3, 3), tool.xpos
        np.testing.assert_allclose(poses[robot.tool_frame], from_world @ expected, atol=1e-6)


@pytest.mark.parametrize("name", ["fr3", "fr3_topic"])
def test_mass_matrix_and_kinematics_of_the_urdf_are_those_of_the_model(
    name: str, rng: np.random.Generator
) -> None:
    assert_equal_to_its_model(Embodiment.load(name), rng)


def test_what_a_urdf_says_in_another_way_is_equal_as_well(
    awkward: Embodiment, rng: np.random.Generator
) -> None:
    assert_equal_to_its_model(awkward, rng)


def test_mass_of_what_does_not_move_is_there_as_well(awkward: Embodiment) -> None:
    document = ElementTree.fromstring(describe(awkward).urdf)
    masses = {e.get("name"): float(m.get("value", 0)) for e in document.iter("link") for m in e.iter("mass")}
    assert masses == {"stand": 4, "base": 2, "shoulder": 1.5, "forearm": 0.8, "wheel": 0.2}


def test_limits_are_those_that_the_controller_keeps(embodiment: Embodiment) -> None:
    document = ElementTree.fromstring(describe(embodiment).urdf)
    found = {joint.get("name"): joint.find("limit") for joint in document.iter("joint")}
    for joint in embodiment.joints:
        limit = found[joint.name]
        assert limit is not None
        keys = ("lower", "upper", "velocity", "effort")
        expected = (joint.position_min, joint.position_max, joint.velocity, joint.torque)
        assert tuple(float(limit.get(key, "nan")) for key in keys) == expected


def test_cameras_stand_where_the_embodiment_says(embodiment: Embodiment) -> None:
    poses = describe(embodiment).poses(dict(zip(embodiment.joint_names, embodiment.home, strict=True)))
    overview, wrist = embodiment.camera("overview"), embodiment.camera("wrist")
    np.testing.assert_allclose(poses[overview.frame], overview.nominal_pose())
    np.testing.assert_allclose(poses[wrist.frame], poses["tool0"] @ wrist.nominal_pose())
    # Optical frames look along z (REP 103).
    looks = overview.look_at - overview.position
    np.testing.assert_allclose(poses[overview.frame][:3, 2], looks / np.linalg.norm(looks))


def test_a_robot_with_a_urdf_is_described_by_that_file(awkward: Embodiment, rng: np.random.Generator) -> None:
    first = describe(awkward)
    path = awkward.model_path.with_suffix(".urdf")
    mimic = '<link name="finger"/><joint name="follow" type="prismatic"><parent link="forearm"/><child link="finger"/>'
    mimic += '<axis xyz="0 2 0"/><mimic joint="slide" multiplier="-2" offset="0.01"/></joint>'
    text = first.urdf.replace("</robot>", f"{mimic}</robot>")
    path.write_text(text)
    second = describe(replace(awkward, model_path=path))
    assert second.urdf == text
    values = {name: float(rng.uniform(-0.1, 0.3)) for name in awkward.joint_names}
    ours, theirs = first.poses(values), second.poses(values)
    for name in ours:
        np.testing.assert_allclose(theirs[name], ours[name], atol=1e-12)
    moved = np.linalg.inv(theirs["forearm"]) @ theirs["finger"]
    np.testing.assert_allclose(moved[:3, 3], [0, -2 * values["slide"] + 0.01, 0], atol=1e-12)


def test_shapes_are_where_the_model_has_them(embodiment: Embodiment) -> None:
    description = describe(embodiment)
    ours, theirs = compiled(description), mujoco.MjModel.from_xml_path(str(embodiment.model_path))
    a, b = mujoco.MjData(ours), mujoco.MjData(theirs)
    mujoco.mj_kinematics(ours, a)
    mujoco.mj_kinematics(theirs, b)
    boxes = [i for i in range(theirs.ngeom) if theirs.geom_type[i] == mujoco.mjtGeom.mjGEOM_BOX]
    found = [i for i in range(ours.ngeom) if ours.geom_type[i] == mujoco.mjtGeom.mjGEOM_BOX]
    assert len(boxes) == 3
    for i in boxes:
        assert any(
            np.allclose(a.geom_xpos[k], b.geom_xpos[i], atol=1e-9)
            and np.allclose(ours.geom_size[k], theirs.geom_size[i])
            for k in found
        )


def test_rotations_survive_roll_pitch_yaw_also_at_ninety_degrees(rng: np.random.Generator) -> None:
    quaternions = [
        *rng.normal(size=(200, 4)),
        *np.eye(4),
        [1, 0, 1, 0],
        [1, 0, -1, 0],
        [1, 1, 1, 1],
        [1, 1e-9, 1, 0],
    ]
    for quaternion in quaternions:
        rotation = urdf.matrix(np.zeros(3), np.asarray(quaternion, float))
        np.testing.assert_allclose(
            urdf.from_roll_pitch_yaw(*urdf.roll_pitch_yaw(rotation[:3, :3])), rotation, atol=1e-8
        )
        again = urdf.matrix(np.zeros(3), urdf.quaternion_of(rotation[:3, :3]))
        np.testing.assert_allclose(again, rotation, atol=1e-12)


def test_a_frame_that_the_model_lacks_is_named(awkward: Embodiment) -> None:
    with pytest.raises(EmbodimentError, match=r"'basis' is not a body .* stand, base"):
        describe(replace(awkward, base_frame="basis"))
    with pytest.raises(EmbodimentError, match="'tool9' is no site, body or link"):
        describe(replace(awkward, end_effectors=(replace(awkward.end_effectors[0], frame="tool9"),)))


def test_a_mesh_is_where_the_model_has_it_although_mujoco_moves_it_to_its_centre(
    awkward: Embodiment, tmp_path: Path
) -> None:
    corners = np.array([[0.2, 0.1, 0.0], [1.2, 0.1, 0.1], [0.2, 0.9, 0.2], [0.3, 0.2, 1.5]])
    faces = ("1 3 2", "1 2 4", "1 4 3", "2 3 4")
    text = [f"v {x} {y} {z}" for x, y, z in corners] + [f"f {face}" for face in faces]
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "wedge.obj").write_text("\n".join(text))
    model = awkward.model_path.read_text()
    model = model.replace("<compiler ", '<compiler meshdir="parts" ')
    model = model.replace(
        "<worldbody>", '<asset><mesh name="w" file="wedge.obj" scale="0.1 0.2 -0.1"/></asset><worldbody>'
    )
    geom = '<geom name="wedge" type="mesh" mesh="w" pos="0.1 0.2 0.3" euler="0.4 0.5 0.6"/>'
    awkward.model_path.write_text(model.replace('<site name="tip"', f'{geom}<site name="tip"'))
    (link,) = (
        e for e in ElementTree.fromstring(describe(awkward).urdf).iter("link") if e.get("name") == "wheel"
    )
    (visual,) = (e for e in link.findall("visual") if e.find("geometry/mesh") is not None)
    mesh = visual.find("geometry/mesh")
    assert mesh is not None and mesh.get("filename") == (tmp_path / "parts" / "wedge.obj").as_uri()
    scaled = corners * urdf.numbers(mesh.get("scale", ""), 3)
    pose = urdf.origin_of(visual)
    ours = scaled @ pose[:3, :3].T + pose[:3, 3]
    compiled_model = mujoco.MjModel.from_xml_path(str(awkward.model_path))
    geom_id = compiled_model.geom("wedge").id
    pose = urdf.matrix(compiled_model.geom_pos[geom_id], compiled_model.geom_quat[geom_id])
    theirs = compiled_model.mesh_vert @ pose[:3, :3].T + pose[:3, 3]
    for corner in ours:
        assert np.linalg.norm(theirs - corner, axis=1).min() < 1e-6
