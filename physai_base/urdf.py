"""URDF: what its numbers mean, and a writer for links, joints, inertias and shapes of a MuJoCo model."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

FIXED, REVOLUTE, CONTINUOUS, PRISMATIC = "fixed", "revolute", "continuous", "prismatic"
_SHOWN_GROUPS = 3  # MuJoCo draws geometry of the groups below by default


def matrix(position: np.ndarray, quaternion: np.ndarray) -> np.ndarray:
    """The homogeneous matrix (4, 4) of a position (3,) and a unit quaternion (4,) w x y z."""
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    result = np.eye(4)
    result[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    result[:3, 3] = position
    return result


def translation(vector: np.ndarray) -> np.ndarray:
    """(4, 4) of a shift by (3,)."""
    result = np.eye(4)
    result[:3, 3] = vector
    return result


def rotation_about(axis: np.ndarray, angle: float) -> np.ndarray:
    """(4, 4) of a turn by `angle` about the unit vector `axis` (3,)."""
    half = 0.5 * angle
    return matrix(np.zeros(3), np.append(math.cos(half), math.sin(half) * np.asarray(axis)))


def quaternion_of(rotation: np.ndarray) -> np.ndarray:
    """The unit quaternion (4,) w x y z of a rotation (3, 3), by its largest component (Shepperd 1978)."""
    trace = np.trace(rotation)
    squares = np.append(1 + trace, 1 + 2 * np.diag(rotation) - trace)  # 4 w², 4 x², 4 y², 4 z²
    largest = int(np.argmax(squares))
    r = rotation
    twist = np.array([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]])
    if largest == 0:
        result = np.append(squares[0], twist)
    else:
        i = largest - 1
        result = np.append(twist[i], r[i] + r[:, i])
        result[largest] = squares[largest]
    return result / np.linalg.norm(result)


def roll_pitch_yaw(rotation: np.ndarray) -> tuple[float, float, float]:
    """The fixed-axis angles [rad] of a rotation (3, 3) = Rz(yaw) Ry(pitch) Rx(roll), also at a pitch of 90 degrees."""
    across = math.hypot(rotation[0, 0], rotation[1, 0])
    pitch = math.atan2(-rotation[2, 0], across)
    yaw = math.atan2(rotation[1, 0], rotation[0, 0]) if across > 1e-6 else 0.0
    # What is left once yaw is undone says how it rolls, whatever yaw was chosen.
    y = np.array([-math.sin(yaw), math.cos(yaw), 0.0])
    roll = math.atan2(-float(y @ rotation[:, 2]), float(y @ rotation[:, 1]))
    return roll, pitch, yaw


def from_roll_pitch_yaw(roll: float, pitch: float, yaw: float) -> np.ndarray:
    """(4, 4) of Rz(yaw) Ry(pitch) Rx(roll)."""
    x, y, z = np.eye(3)
    return rotation_about(z, yaw) @ rotation_about(y, pitch) @ rotation_about(x, roll)


def numbers(text: str, count: int) -> np.ndarray:
    """`count` numbers of an attribute.

    Raises:
        ValueError: they are fewer, more or none.
    """
    values = np.array([float(word) for word in text.split()])
    if len(values) != count:
        raise ValueError(f"{count} numbers are needed, got {text!r}")
    return values


def origin_of(element: ElementTree.Element) -> np.ndarray:
    """(4, 4) of an element's <origin>, the identity without one."""
    origin = element.find("origin")
    if origin is None:
        return np.eye(4)
    pose = from_roll_pitch_yaw(*numbers(origin.get("rpy", "0 0 0"), 3))
    pose[:3, 3] = numbers(origin.get("xyz", "0 0 0"), 3)
    return pose


@dataclass(frozen=True)
class Limit:
    """Of one joint: rad or m, rad/s or m/s, Nm or N."""

    lower: float
    upper: float
    velocity: float
    effort: float


@dataclass(frozen=True)
class Link:
    """One frame, and how it hangs on its parent: `origin`, then the joint's motion along or about `axis`."""

    name: str
    parent: str
    origin: np.ndarray  # (4, 4) T_parent_link with the joint at 0
    kind: str = FIXED
    joint: str = ""  # whose value moves it
    axis: np.ndarray = field(default_factory=lambda: np.array([0.0, 0.0, 1.0]))  # (3,) unit, in the link
    limit: Limit | None = None
    multiplier: float = 1.0  # of the joint's value, as a URDF's <mimic> has it
    offset: float = 0.0

    def pose(self, value: float) -> np.ndarray:
        """T_parent_link (4, 4) with the joint at `value`."""
        value = self.multiplier * value + self.offset
        if self.kind == FIXED:
            return self.origin
        if self.kind == PRISMATIC:
            return self.origin @ translation(self.axis * value)
        return self.origin @ rotation_about(self.axis, value)


class Writer:
    """Collects the elements of one robot."""

    def __init__(self, name: str, root: str) -> None:
        self._robot = ElementTree.Element("robot", name=name)
        self._links: dict[str, ElementTree.Element] = {}
        self.add_link(root)

    def text(self) -> str:
        """The document."""
        ElementTree.indent(self._robot)
        return '<?xml version="1.0"?>\n' + ElementTree.tostring(self._robot, encoding="unicode") + "\n"

    def add_link(self, name: str) -> None:
        """A link without mass or shape."""
        self._links[name] = ElementTree.SubElement(self._robot, "link", name=name)

    def add_joint(self, link: Link) -> None:
        """What a link hangs on."""
        name = link.joint or f"{link.parent}_to_{link.name}"
        joint = ElementTree.SubElement(self._robot, "joint", name=name, type=link.kind)
        ElementTree.SubElement(joint, "parent", link=link.parent)
        ElementTree.SubElement(joint, "child", link=link.name)
        _origin(joint, link.origin)
        if not link.joint:
            return
        ElementTree.SubElement(joint, "axis", xyz=_text(link.axis))
        if link.limit is not None:
            limit = {"velocity": _text([link.limit.velocity]), "effort": _text([link.limit.effort])}
            if link.kind != "continuous":
                limit |= {"lower": _text([link.limit.lower]), "upper": _text([link.limit.upper])}
            ElementTree.SubElement(joint, "limit", limit)

    def add_body(self, model: Any, body: int, name: str, meshes: Path) -> None:
        """A MuJoCo body's mass and shapes, for the link `name` whose frame is the body's."""
        element = self._links[name]
        if model.body_mass[body] > 0:
            inertial = ElementTree.SubElement(element, "inertial")
            # Along the link's axes: not every reader turns moments that are given along other ones.
            _origin(inertial, translation(model.body_ipos[body]))
            ElementTree.SubElement(inertial, "mass", value=_text([model.body_mass[body]]))
            turn = matrix(np.zeros(3), model.body_iquat[body])[:3, :3]
            inertia = turn @ np.diag(model.body_inertia[body]) @ turn.T
            moments = {
                f"i{'xyz'[i]}{'xyz'[k]}": _text([inertia[i, k]]) for i in range(3) for k in range(i, 3)
            }
            ElementTree.SubElement(inertial, "inertia", moments)
        first = int(model.body_geomadr[body])
        for geom in range(first, first + int(model.body_geomnum[body])):
            shapes = _shapes(model, geom, meshes)
            if model.geom_group[geom] < _SHOWN_GROUPS:
                for origin, shape in shapes:
                    visual = _shape(element, "visual", origin, shape)
                    material = int(model.geom_matid[geom])
                    colour = model.mat_rgba[material] if material >= 0 else model.geom_rgba[geom]
                    painted = ElementTree.SubElement(visual, "material", name=f"{name}_{geom}")
                    ElementTree.SubElement(painted, "color", rgba=_text(colour))
            if model.geom_contype[geom] or model.geom_conaffinity[geom]:
                for origin, shape in shapes:
                    _shape(element, "collision", origin, shape)


def _shapes(model: Any, geom: int, meshes: Path) -> list[tuple[np.ndarray, tuple[str, dict[str, str]]]]:
    """A geometry as shapes that a URDF has; an ellipsoid as the sphere around it, planes and height fields as none."""
    import mujoco

    kind, size = mujoco.mjtGeom(model.geom_type[geom]), model.geom_size[geom]
    pose = matrix(model.geom_pos[geom], model.geom_quat[geom])
    if kind == mujoco.mjtGeom.mjGEOM_BOX:
        return [(pose, ("box", {"size": _text(2 * size)}))]
    if kind in (mujoco.mjtGeom.mjGEOM_SPHERE, mujoco.mjtGeom.mjGEOM_ELLIPSOID):
        radius = size[0] if kind == mujoco.mjtGeom.mjGEOM_SPHERE else size.max()
        return [(pose, ("sphere", {"radius": _text([radius])}))]
    if kind in (mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_CAPSULE):
        radius = {"radius": _text(size[:1])}
        cylinder = [(pose, ("cylinder", {**radius, "length": _text(2 * size[1:2])}))]
        if kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
            return cylinder
        ends = [pose @ translation(np.array([0, 0, sign * size[1]])) for sign in (-1, 1)]
        return [*cylinder, *((end, ("sphere", radius)) for end in ends)]
    if kind == mujoco.mjtGeom.mjGEOM_MESH:
        mesh = int(model.geom_dataid[geom])
        begin = int(model.mesh_pathadr[mesh])
        if begin < 0:
            return []  # drawn in the MJCF itself
        file = (meshes / model.paths[begin : model.paths.index(b"\0", begin)].decode()).resolve()
        # MuJoCo has moved the mesh to its centre and principal axes; the file has it where it was.
        moved = matrix(model.mesh_pos[mesh], model.mesh_quat[mesh])
        shape = {"filename": file.as_uri(), "scale": _text(model.mesh_scale[mesh])}
        return [(pose @ np.linalg.inv(moved), ("mesh", shape))]
    return []


def _shape(
    link: ElementTree.Element, what: str, origin: np.ndarray, shape: tuple[str, dict[str, str]]
) -> ElementTree.Element:
    element = ElementTree.SubElement(link, what)
    _origin(element, origin)
    ElementTree.SubElement(ElementTree.SubElement(element, "geometry"), shape[0], shape[1])
    return element


def _origin(element: ElementTree.Element, pose: np.ndarray) -> None:
    angles = np.array(roll_pitch_yaw(pose[:3, :3]))
    ElementTree.SubElement(element, "origin", xyz=_text(pose[:3, 3]), rpy=_text(angles))


def _text(values: Any) -> str:
    """Numbers as an attribute, with all of their digits."""
    return " ".join(repr(float(value) + 0.0) for value in values)
