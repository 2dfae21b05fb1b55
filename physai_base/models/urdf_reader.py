"""A URDF as a MuJoCo specification: every link a body, whether a joint moves it or not.

MuJoCo's own reader wants files of meshes beside the model, takes one geometry for each name, makes the root link the
world and joins links that are fixed to each other. Here the tree stays as it is written, and what cannot be read is
left out with a note.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import mujoco
import numpy as np

from physai_base import urdf
from physai_base.errors import EmbodimentError
from physai_base.models.files import find_mesh, unreadable

XACRO = "is a xacro file: expand it first, `xacro {name} … > robot.urdf`, and give the result"
LEAST_MASS, LEAST_MOMENT = 1e-3, 1e-6  # kg, kg m2, of a moving link to which the file gives none
BONE_RADIUS_M = 0.03
VISUAL_GROUP, COLLISION_GROUP = 2, 3  # MuJoCo draws groups below 3


@dataclass(frozen=True)
class Mimic:
    """A joint that follows another: `multiplier` times its value plus `offset`."""

    master: str
    multiplier: float
    offset: float


@dataclass
class UrdfModel:
    """What a URDF says; the specification is not compiled yet."""

    spec: mujoco.MjSpec
    root: str
    limits: dict[str, urdf.Limit] = field(default_factory=dict)  # of each joint that moves; nan: not given
    mimics: dict[str, Mimic] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_urdf(path: Path, document: ElementTree.Element) -> UrdfModel:
    """The model of a parsed URDF that lies at `path`.

    Raises:
        EmbodimentError: it is no tree, or an attribute is missing or no number; the message names the element.
    """
    if path.suffix == ".xacro" or any("/xacro}" in str(element.tag) for element in document.iter()):
        raise EmbodimentError(f"{path} {XACRO.format(name=path.name)}")
    spec = mujoco.MjSpec()
    spec.modelname = document.get("name") or "robot"
    spec.compiler.degree = False
    spec.compiler.fusestatic = False
    for kind in ("link", "joint"):
        names = [_attribute(path, element, "name") for element in document.findall(kind)]
        again = sorted({name for name in names if names.count(name) > 1})
        if again:
            raise EmbodimentError(f"{path}: there are several {kind}s named {', '.join(again)}")
    links = {_attribute(path, link, "name"): link for link in document.findall("link")}
    by_parent: dict[str, list[ElementTree.Element]] = {}
    children = set()
    for joint in document.findall("joint"):
        ends = [_attribute(path, _child(path, joint, end), "link") for end in ("parent", "child")]
        for end in ends:
            if end not in links:
                raise EmbodimentError(
                    f"{path}: joint {joint.get('name')!r} names link {end!r}, which is not there"
                )
        if ends[1] in children:
            raise EmbodimentError(f"{path}: link {ends[1]!r} hangs on two joints")
        children.add(ends[1])
        by_parent.setdefault(ends[0], []).append(joint)
    roots = [name for name in links if name not in children]
    if len(roots) != 1:
        raise EmbodimentError(f"{path}: a URDF has one root link; got: {', '.join(roots) or 'none'}")
    model = UrdfModel(spec, roots[0])
    reader = _Reader(path, model, document)
    root = spec.worldbody if roots[0] == "world" else spec.worldbody.add_body(name=roots[0])
    waiting = [(roots[0], root)]
    placed = 0
    while waiting:
        name, body = waiting.pop()
        placed += 1
        reader.add_link(links[name], body)
        for joint in by_parent.get(name, ()):
            child = _attribute(path, _child(path, joint, "child"), "link")
            waiting.append((child, reader.add_joint(joint, body, child)))
    if placed != len(links):
        raise EmbodimentError(f"{path}: its joints make a ring: {len(links) - placed} links hang on no root")
    reader.finish()
    return model


class _Reader:
    """Puts elements of one document into the specification."""

    def __init__(self, path: Path, model: UrdfModel, document: ElementTree.Element) -> None:
        self._path, self._model = path, model
        self._meshes: dict[tuple[str, str], str | None] = {}
        self._left_out: dict[str, str] = {}
        self._colours = {
            material.get("name"): colour
            for material in document.findall("material")
            if (colour := self._colour(material)) is not None
        }
        self._massless: list[mujoco.MjsBody] = []
        self._unseen: list[mujoco.MjsBody] = []

    def finish(self) -> None:
        """Say what was left out, and give moving links without mass as little as MuJoCo needs."""
        notes = self._model.notes
        self._model.mimics = {
            name: found
            for name in self._model.mimics
            if (found := _at_its_end(name, self._model)) is not None
        }
        by_reason: dict[str, list[str]] = {}
        for name, reason in self._left_out.items():
            by_reason.setdefault(reason, []).append(Path(name).name)
        notes += [f"left out, since {reason}: {', '.join(names)}" for reason, names in by_reason.items()]
        drawn = [body.name for body in self._unseen if _draw_bone(body)]
        if drawn:
            notes.append(f"drawn as lines, through which everything passes: {', '.join(drawn)}")
        light = [body for body in self._massless if body.joints and not _welded_mass(body)]
        for body in light:
            body.mass, body.inertia, body.explicitinertial = LEAST_MASS, [LEAST_MOMENT] * 3, True
        if light:
            names = ", ".join(body.name for body in light)
            notes.append(f"moving links without mass got {LEAST_MASS * 1e3:g} g: {names}")

    def add_joint(self, joint: ElementTree.Element, parent: mujoco.MjsBody, child: str) -> mujoco.MjsBody:
        """The body of a joint's child link, and the joint that moves it, if one does."""
        name = _attribute(self._path, joint, "name")
        pose = self._origin(joint, f"joint {name!r}")
        body = parent.add_body(name=child, pos=pose[:3, 3], quat=urdf.quaternion_of(pose[:3, :3]))
        kind = _attribute(self._path, joint, "type")
        if kind in ("floating", "planar"):
            self._model.notes.append(f"joint {name} is {kind}: it stays where it is")
        elif kind in (urdf.REVOLUTE, urdf.CONTINUOUS, urdf.PRISMATIC):
            self._add_moving(joint, name, kind, body)
        elif kind != urdf.FIXED:
            raise EmbodimentError(f"{self._path}: joint {name!r} is of an unknown type {kind!r}")
        return body

    def _add_moving(self, joint: ElementTree.Element, name: str, kind: str, body: mujoco.MjsBody) -> None:
        where = f"joint {name!r}"
        given = joint.find("axis")
        axis = np.array([1.0, 0, 0]) if given is None else self._numbers(given, "xyz", 3, "1 0 0", where)
        if np.linalg.norm(axis) < 1e-6:
            raise EmbodimentError(f"{self._path}: {where} has an axis of no length")
        limit, dynamics, mimic = joint.find("limit"), joint.find("dynamics"), joint.find("mimic")
        low, high, velocity, effort = (
            math.nan
            if limit is None or limit.get(key) is None
            else float(self._numbers(limit, key, 1, "", where)[0])
            for key in ("lower", "upper", "velocity", "effort")
        )
        if kind == urdf.CONTINUOUS:
            low, high = -math.inf, math.inf
        else:  # both default to 0
            low, high = np.nan_to_num([low, high], nan=0.0)
        slides = kind == urdf.PRISMATIC
        made = body.add_joint(
            name=name, axis=axis / np.linalg.norm(axis), limited=0,
            type=mujoco.mjtJoint.mjJNT_SLIDE if slides else mujoco.mjtJoint.mjJNT_HINGE,
        )  # fmt: skip
        if low < high and math.isfinite(high - low):
            made.range, made.limited = [low, high], 1
        if dynamics is not None:
            made.damping = [float(self._numbers(dynamics, "damping", 1, "0", where)[0]), 0, 0]
            made.frictionloss = float(self._numbers(dynamics, "friction", 1, "0", where)[0])
        self._model.limits[name] = urdf.Limit(float(low), float(high), velocity, effort)
        if mimic is not None:
            self._model.mimics[name] = Mimic(
                _attribute(self._path, mimic, "joint"),
                float(self._numbers(mimic, "multiplier", 1, "1", where)[0]),
                float(self._numbers(mimic, "offset", 1, "0", where)[0]),
            )

    def add_link(self, link: ElementTree.Element, body: mujoco.MjsBody) -> None:
        """A link's inertia and shapes."""
        inertial = link.find("inertial")
        if body is self._model.spec.worldbody or body.name == "world":
            return  # a root link named world has neither
        if inertial is None or not self._add_inertia(inertial, link.get("name", ""), body):
            body.explicitinertial, body.mass, body.inertia = True, 0.0, [0.0] * 3
            self._massless.append(body)
        shown = sum(self._add_shape(element, body, collides=False) for element in link.findall("visual"))
        solid = sum(
            self._add_shape(element, body, collides=True, shown=not shown)
            for element in link.findall("collision")
        )
        if link.find("visual") is not None and not shown and not solid:
            self._unseen.append(body)

    def _add_inertia(self, inertial: ElementTree.Element, name: str, body: mujoco.MjsBody) -> bool:
        """Whether the link has a mass."""
        where = f"link {name!r}"
        mass = float(self._numbers(_child(self._path, inertial, "mass"), "value", 1, None, where)[0])
        moments = _child(self._path, inertial, "inertia")
        ixx, ixy, ixz, iyy, iyz, izz = (
            float(self._numbers(moments, key, 1, "0", where)[0])
            for key in ("ixx", "ixy", "ixz", "iyy", "iyz", "izz")
        )
        if mass < 0:
            raise EmbodimentError(f"{self._path}: {where} has a negative mass, {mass:g} kg")
        if mass == 0:
            return False
        pose = self._origin(inertial, where)
        values, axes = np.linalg.eigh([[ixx, ixy, ixz], [ixy, iyy, iyz], [ixz, iyz, izz]])
        possible = np.maximum(values, 1e-12)
        possible[2] = min(possible[2], possible[0] + possible[1])  # no body's moments are otherwise
        if not np.allclose(possible, values, rtol=1e-3, atol=1e-9):
            shown = ", ".join(f"{value:.3g}" for value in values)
            self._model.notes.append(
                f"{where}: no body has the moments of inertia {shown} kg m2; the nearest were taken"
            )
        if np.linalg.det(axes) < 0:
            axes[:, 0] *= -1
        body.mass, body.inertia, body.explicitinertial = mass, possible, True
        body.ipos, body.iquat = pose[:3, 3], urdf.quaternion_of(pose[:3, :3] @ axes)
        return True

    def _add_shape(
        self, element: ElementTree.Element, body: mujoco.MjsBody, *, collides: bool, shown: bool = False
    ) -> bool:
        """Whether the shape could be had."""
        where = f"a shape of link {body.name!r}"
        pose = self._origin(element, where)
        geometry = _child(self._path, element, "geometry")
        shape = next(iter(geometry), None)
        if shape is None:
            return False
        kinds, settings = mujoco.mjtGeom, {}
        if shape.tag == "box":
            settings = {"type": kinds.mjGEOM_BOX, "size": self._numbers(shape, "size", 3, None, where) / 2}
        elif shape.tag == "sphere":
            settings = {
                "type": kinds.mjGEOM_SPHERE,
                "size": [*self._numbers(shape, "radius", 1, None, where), 0, 0],
            }
        elif shape.tag in ("cylinder", "capsule"):
            radius = float(self._numbers(shape, "radius", 1, None, where)[0])
            length = float(self._numbers(shape, "length", 1, None, where)[0])
            kind = kinds.mjGEOM_CYLINDER if shape.tag == "cylinder" else kinds.mjGEOM_CAPSULE
            settings = {"type": kind, "size": [radius, length / 2, 0]}
        elif shape.tag == "mesh":
            mesh = self._mesh(shape, where)
            if mesh is None:
                return False
            settings = {"type": kinds.mjGEOM_MESH, "meshname": mesh}
        else:
            self._left_out[shape.tag] = "a URDF has no such shape"
            return False
        if (
            shape.tag in ("box", "sphere", "cylinder", "capsule")
            and min(s for s in settings["size"] if s != 0) <= 0
        ):
            raise EmbodimentError(f"{self._path}: {where} has no extent")
        material = element.find("material")
        colour = None
        if material is not None:
            colour = self._colour(material) or self._colours.get(material.get("name"))
        body.add_geom(
            pos=pose[:3, 3], quat=urdf.quaternion_of(pose[:3, :3]), mass=0, rgba=colour or [0.75, 0.75, 0.75, 1],
            group=COLLISION_GROUP if collides and not shown else VISUAL_GROUP,
            contype=int(collides), conaffinity=int(collides), **settings,
        )  # fmt: skip
        return True

    def _mesh(self, shape: ElementTree.Element, where: str) -> str | None:
        """The name of a mesh in the specification; None where it cannot be read."""
        name, scale = _attribute(self._path, shape, "filename"), shape.get("scale", "1 1 1")
        if (name, scale) not in self._meshes:
            file = find_mesh(name, self._path)
            reason = "there is no such file here" if file is None else unreadable(file)
            added = None
            if file is not None and not reason:
                added = f"{file.stem}_{len(self._meshes)}"
                size = self._numbers(shape, "scale", 3, "1 1 1", where)
                reason = _refused(file, size)
                if not reason:
                    self._model.spec.add_mesh(
                        name=added, file=str(file.resolve()), scale=size, inertia=_SHELL
                    )
            if reason:
                self._left_out[name] = reason
                added = None
            self._meshes[name, scale] = added
        return self._meshes[name, scale]

    def _colour(self, material: ElementTree.Element) -> list[float] | None:
        colour = material.find("color")
        if colour is None:
            return None
        return [float(v) for v in np.clip(self._numbers(colour, "rgba", 4, None, "a material"), 0, 1)]

    def _origin(self, element: ElementTree.Element, where: str) -> np.ndarray:
        try:
            pose = urdf.origin_of(element)
        except ValueError as error:
            raise EmbodimentError(f"{self._path}: origin of {where}: {error}") from error
        if not np.isfinite(pose).all():
            raise EmbodimentError(f"{self._path}: origin of {where} is not finite")
        return pose

    def _numbers(
        self, element: ElementTree.Element, key: str, count: int, default: str | None, where: str
    ) -> np.ndarray:
        text = element.get(key, default)
        if text is None:
            raise EmbodimentError(f"{self._path}: {where}: <{element.tag}> lacks {key}")
        try:
            values = urdf.numbers(text, count)
        except ValueError as error:
            raise EmbodimentError(f"{self._path}: {where}: {key} of <{element.tag}>: {error}") from error
        if not np.isfinite(values).all():
            raise EmbodimentError(
                f"{self._path}: {where}: {key} of <{element.tag}> must be finite, got {text!r}"
            )
        return values


_SHELL = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL  # needs no closed surface; inertia is the link's own


def _refused(file: Path, scale: np.ndarray) -> str:
    """Why MuJoCo refuses a mesh; empty where it takes it."""
    spec = mujoco.MjSpec()
    spec.add_mesh(name="mesh", file=str(file.resolve()), scale=scale, inertia=_SHELL)
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname="mesh")
    try:
        spec.compile()
    except ValueError as error:
        return f"MuJoCo refuses it ({str(error).splitlines()[0]})"
    return ""


def _at_its_end(name: str, model: UrdfModel) -> Mimic | None:
    """What the chain of `<mimic>` that begins at a joint makes it follow; None, with a note, where it ends nowhere."""
    multiplier, offset, master, passed = 1.0, 0.0, name, [name]
    while master in model.mimics:
        step = model.mimics[master]
        multiplier, offset = multiplier * step.multiplier, offset + multiplier * step.offset
        master = step.master
        if master in passed:
            ring = " → ".join([*passed, master])
            model.notes.append(f"joint {name}: its <mimic> leads back to itself ({ring}): left out")
            return None
        passed.append(master)
    if master not in model.limits:
        model.notes.append(
            f"joint {name}: its <mimic> names joint {master!r}, which does not move or is not there: left out"
        )
        return None
    return Mimic(master, multiplier, offset)


def _draw_bone(body: mujoco.MjsBody) -> bool:
    """A capsule from a link without a shape to the nearest link on it that is somewhere else; whether there is one."""
    for child in body.bodies:
        if np.linalg.norm(child.pos) > BONE_RADIUS_M:
            body.add_geom(
                type=mujoco.mjtGeom.mjGEOM_CAPSULE, fromto=[0, 0, 0, *child.pos], size=[BONE_RADIUS_M, 0, 0], mass=0,
                group=VISUAL_GROUP, contype=0, conaffinity=0, rgba=[0.75, 0.75, 0.75, 1],
            )  # fmt: skip
            return True
    return False


def _welded_mass(body: mujoco.MjsBody) -> float:
    """Of a body and what is fixed to it, kg."""
    return float(body.mass) + sum(_welded_mass(child) for child in body.bodies if not child.joints)


def _child(path: Path, element: ElementTree.Element, tag: str) -> ElementTree.Element:
    child = element.find(tag)
    if child is None:
        raise EmbodimentError(f"{path}: <{element.tag}> {element.get('name', '')!r} lacks <{tag}>")
    return child


def _attribute(path: Path, element: ElementTree.Element, key: str) -> str:
    value = element.get(key)
    if not value:
        raise EmbodimentError(f"{path}: <{element.tag}> {element.get('name', '')!r} lacks {key}")
    return value
