"""A robot as ROS tools know it: links, the joints between them, and the URDF that says so.

The links of a robot whose model is MJCF, or that carries a gripper with a model of its own, are its bodies, with equal
inertias, joint axes and frames; where a URDF cannot say it in one link (several joints on a body, a joint beside its
origin) there is a link for each joint. A robot whose model is a URDF is described by that very file, with the paths of
its meshes resolved. Joints that the embodiment does not drive are fixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

import numpy as np

from physai_base import urdf
from physai_base.embodiment import Embodiment
from physai_base.embodiment_parts import OwnFrame
from physai_base.errors import EmbodimentError
from physai_base.models.files import find_mesh
from physai_base.robot_model import RobotModel, load_robot
from physai_base.urdf import CONTINUOUS, FIXED, PRISMATIC, REVOLUTE, Limit, Link


@dataclass(frozen=True)
class Description:
    """The whole robot; `links` are sorted so that parents come first, the root is in none of them."""

    root: str
    links: tuple[Link, ...]
    cameras: tuple[Link, ...]  # where the embodiment says that they are; not in the URDF
    urdf: str

    def poses(self, joints: Mapping[str, float]) -> dict[str, np.ndarray]:
        """T_root_link (4, 4) of every link and camera; joints that are not given stand at 0."""
        poses = {self.root: np.eye(4)}
        for link in (*self.links, *self.cameras):
            poses[link.name] = poses[link.parent] @ link.pose(joints.get(link.joint, 0.0))
        return poses


def describe(embodiment: Embodiment) -> Description:
    """The description of a robot.

    Raises:
        EmbodimentError: the model cannot be read, or lacks the base or the tool frame.
    """
    robot = load_robot(embodiment)
    path = embodiment.model_path
    if robot.survey.is_urdf and not robot.source.changes.mounts:
        document = ElementTree.parse(path).getroot()
        try:
            root, links = _links_of_urdf(embodiment, robot, document)
        except ValueError as error:
            raise EmbodimentError(f"{path}: {error}") from error
        links += [_own_frame(frame) for frame in robot.source.changes.frames]
        text = _with_frames(_with_meshes(document, path), robot.source.changes.frames)
    else:
        root, links, text = _links_of_model(embodiment, robot)
    names = {root, *(link.name for link in links)}
    missing = [name for name in (embodiment.base_frame, embodiment.tool_frame) if name not in names]
    if missing:
        raise EmbodimentError(
            f"{embodiment.path}: {path.name} has no link {', '.join(missing)}; it has: {', '.join(sorted(names))}"
        )
    cameras = tuple(
        Link(camera.frame, camera.parent, camera.nominal_pose())
        for camera in embodiment.cameras
        if camera.frame not in names
    )
    return Description(root, tuple(links), cameras, text)


# URDF --------------------------------------------------------------------------------------------------------


def _with_meshes(document: ElementTree.Element, path: Path) -> str:
    """The file's text, with paths of meshes that everybody finds."""
    text = path.read_text()
    for name in {mesh.get("filename", "") for mesh in document.iter("mesh")}:
        found = find_mesh(name, path)
        if found is not None:
            for quote in "\"'":
                text = text.replace(f"{quote}{name}{quote}", f"{quote}{found.resolve().as_uri()}{quote}")
    return text


def _own_frame(frame: OwnFrame) -> Link:
    pose = urdf.from_roll_pitch_yaw(*frame.rpy)
    pose[:3, 3] = frame.position
    return Link(frame.name, frame.parent, pose)


def _with_frames(text: str, frames: tuple[OwnFrame, ...]) -> str:
    """The document with links for frames of the robot's file."""
    added = "".join(
        f'<link name={quoteattr(frame.name)}/><joint name={quoteattr(frame.name + "_joint")} type="fixed">'
        f"<parent link={quoteattr(frame.parent)}/><child link={quoteattr(frame.name)}/>"
        f'<origin xyz="{" ".join(map(repr, frame.position))}" rpy="{" ".join(map(repr, frame.rpy))}"/></joint>\n'
        for frame in frames
    )
    before, end, after = text.rpartition("</robot>")
    return before + added + end + after


def _links_of_urdf(
    embodiment: Embodiment, robot: RobotModel, document: ElementTree.Element
) -> tuple[str, list[Link]]:
    driven = {*embodiment.joint_names, *embodiment.finger_joints}
    by_parent: dict[str, list[Link]] = {}
    children = set()
    for joint in document.findall("joint"):
        child = _attribute(embodiment, joint, "child", "link")
        parent = _attribute(embodiment, joint, "parent", "link")
        mimic, axis = joint.find("mimic"), np.array([1.0, 0.0, 0.0])
        if (given := joint.find("axis")) is not None:
            axis = urdf.numbers(given.get("xyz", "1 0 0"), 3)
        name = joint.get("name", "") if mimic is None else mimic.get("joint", "")
        kind = joint.get("type", FIXED)
        moves = kind in (REVOLUTE, CONTINUOUS, PRISMATIC)
        link = Link(
            child, parent, urdf.origin_of(joint), kind if moves else FIXED, name if moves else "",
            axis / max(float(np.linalg.norm(axis)), 1e-12),
            multiplier=float(mimic.get("multiplier", "1")) if mimic is not None and moves else 1.0,
            offset=float(mimic.get("offset", "0")) if mimic is not None and moves else 0.0,
        )  # fmt: skip
        if moves and name not in driven:
            link = Link(child, parent, link.pose(robot.locked.get(name, 0.0)))
        by_parent.setdefault(parent, []).append(link)
        children.add(child)
    roots = [link.get("name", "") for link in document.findall("link") if link.get("name") not in children]
    if len(roots) != 1:
        raise EmbodimentError(
            f"{embodiment.model_path}: a URDF has one root link; got: {', '.join(roots) or 'none'}"
        )
    links: list[Link] = []
    waiting = [roots[0]]
    while waiting:
        for link in by_parent.pop(waiting.pop(0), []):
            links.append(link)
            waiting.append(link.name)
    return roots[0], links


def _attribute(embodiment: Embodiment, joint: ElementTree.Element, child: str, name: str) -> str:
    element = joint.find(child)
    value = element.get(name) if element is not None else None
    if not value:
        raise EmbodimentError(f"{embodiment.model_path}: joint {joint.get('name')!r} names no {child} {name}")
    return value


# Model -------------------------------------------------------------------------------------------------------


def _links_of_model(embodiment: Embodiment, robot: RobotModel) -> tuple[str, list[Link], str]:
    import mujoco

    model = robot.model
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    names = [model.body(i).name or f"body_{i}" for i in range(model.nbody)]
    base = names.index(embodiment.base_frame)
    from_world = np.linalg.inv(urdf.matrix(data.xpos[base], data.xquat[base]))
    above, under = {0}, base  # what the base stands on, which does not move: it hangs on the base
    while under:
        above.add(under)
        under = int(model.body_parentid[under])
    limits = _limits(embodiment, model)
    meshes = robot.mesh_folder
    writer = urdf.Writer(embodiment.name, embodiment.base_frame)
    writer.add_body(model, base, embodiment.base_frame, meshes)
    links: list[Link] = []

    def add(link: Link, body: int | None = None) -> None:
        links.append(link)
        writer.add_link(link.name)
        if body is not None:
            writer.add_body(model, body, link.name, meshes)
        writer.add_joint(link)

    for body in range(1, model.nbody):
        if body == base:
            continue
        parent = int(model.body_parentid[body])
        if body in above:
            add(
                Link(
                    names[body],
                    embodiment.base_frame,
                    from_world @ urdf.matrix(data.xpos[body], data.xquat[body]),
                ),
                body,
            )
            continue
        hung, origin = names[parent], urdf.matrix(model.body_pos[body], model.body_quat[body])
        if parent in above and parent != base:
            hung = embodiment.base_frame
            origin = from_world @ urdf.matrix(data.xpos[parent], data.xquat[parent]) @ origin
        first = int(model.body_jntadr[body])
        joints = [
            j for j in range(first, first + int(model.body_jntnum[body])) if model.joint(j).name in limits
        ]
        named = False
        for joint in joints:
            name = model.joint(joint).name
            axis, place = model.jnt_axis[joint].copy(), urdf.translation(model.jnt_pos[joint])
            at_rest = -float(model.qpos0[model.jnt_qposadr[joint]])  # the model is drawn with the joint there
            slides = model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_SLIDE
            back = urdf.translation(axis * at_rest) if slides else urdf.rotation_about(axis, at_rest)
            limit = limits[name]
            kind = PRISMATIC if slides else (REVOLUTE if np.isfinite(limit.upper) else CONTINUOUS)
            named = joint == joints[-1] and not model.jnt_pos[joint].any()
            link = Link(
                names[body] if named else f"{names[body]}_{name}",
                hung,
                origin @ place @ back,
                kind,
                name,
                axis,
                limit,
            )
            add(link, body if named else None)
            hung, origin = link.name, np.linalg.inv(place)
        if not named:
            add(Link(names[body], hung, origin), body)
    taken = {embodiment.base_frame, *(link.name for link in links)}
    for site in range(model.nsite):
        name, body = model.site(site).name, int(model.site_bodyid[site])
        if not name or name in taken or (body in above and body != base):
            continue
        add(Link(name, names[body], urdf.matrix(model.site_pos[site], model.site_quat[site])))
        taken.add(name)
    return embodiment.base_frame, links, writer.text()


def _limits(embodiment: Embodiment, model: Any) -> dict[str, Limit]:
    """Of every driven joint: the embodiment's for the arm, the model's range for fingers."""
    limits = {
        joint.name: Limit(joint.position_min, joint.position_max, joint.velocity, joint.torque)
        for joint in embodiment.joints
    }
    gripper = embodiment.gripper
    for name in gripper.joints:
        joint = model.joint(name)
        low, high = joint.range if model.jnt_limited[joint.id] else (-np.inf, np.inf)
        limits[name] = Limit(float(low), float(high), gripper.speed / 2, gripper.force)
    return limits
