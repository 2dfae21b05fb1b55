"""The one way from a robot's file to its MuJoCo model: as its maker publishes it, made ready for control and cell.

A maker's model holds more than the robot and less than we need. Actuators, sensors, keyframes, tendons, lights, cameras
and whatever else stands in its world go; joints that nobody drives are locked; frames that the robot's file names become
sites; grippers that are mounted are attached; and all of it stands in the base frame.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import mujoco
import numpy as np

from physai_base import urdf
from physai_base.errors import EmbodimentError
from physai_base.self_contacts import carriers, self_contacts
from physai_base.urdf import Limit
from physai_base.urdf_model import Mimic, read_urdf

LONGEST_STEP_S = 0.002  # of the physics, however slow the robot's controller is
FINGER_ARMATURE = {
    "slide": 0.1,
    "hinge": 1e-3,
}  # kg, kg m2, of fingers whose model has none: a geared drive's
_UNNEEDED = (
    "actuators",
    "sensors",
    "keys",
    "tendons",
    "pairs",
    "cameras",
    "lights",
    "skins",
    "tuples",
    "numerics",
    "texts",
)


class ModelError(EmbodimentError):
    """A model that does not fit its robot's file; `entry` is the file's entry that says so."""

    def __init__(self, entry: str, message: str) -> None:
        super().__init__(message)
        self.entry = entry


@dataclass(frozen=True)
class Mount:
    """A gripper's own model, and where on the arm it sits."""

    path: Path
    frame: str  # site, body or link of the arm
    position: tuple[float, ...] = (0.0, 0.0, 0.0)  # m in that frame
    rpy: tuple[float, ...] = (0.0, 0.0, 0.0)  # rad
    prefix: str = ""  # before all of its names, where two of a kind are mounted


@dataclass(frozen=True)
class Source:
    """What a robot's file says about its model."""

    path: Path
    base_frame: str
    joints: tuple[str, ...]  # of the arm, in command order
    fingers: tuple[str, ...]
    frames: tuple[str, ...]  # tools
    rate_hz: float = 1000.0
    locked: tuple[tuple[str, float], ...] = ()
    armature: tuple[tuple[str, float], ...] = ()  # kg m2 or kg that replace the model's
    mounts: tuple[Mount, ...] = ()


@dataclass(frozen=True)
class Survey:
    """What a model has, before anything is done to it."""

    limits: dict[str, Limit]  # of every hinge and slide, in the model's order; infinite: none, nan: not given
    slides: frozenset[str]
    mimics: dict[str, Mimic]
    bodies: tuple[str, ...]
    sites: tuple[str, ...]
    root: str  # the first body: what stands on the floor
    is_urdf: bool
    notes: tuple[str, ...]


@dataclass(frozen=True)
class RobotModel:
    """A robot alone, in its base frame."""

    source: Source
    model: mujoco.MjModel  # shared: whoever changes it takes a copy
    notes: tuple[str, ...]
    as_published: bool  # nothing had to be done to the file
    _spec: mujoco.MjSpec = field(repr=False)

    def spec(self) -> mujoco.MjSpec:
        """A specification to build on."""
        return self._spec.copy()

    @contextlib.contextmanager
    def core_file(self) -> Iterator[Path]:
        """The model as a file for the control core, which reads it while it is made."""
        if self.as_published:
            yield self.source.path
            return
        with tempfile.TemporaryDirectory(prefix="physai_model_") as folder:
            path = Path(folder) / "robot.mjb"
            mujoco.mj_saveModel(self.model, str(path), None)
            yield path


def survey(path: Path, mounts: Iterable[Mount] = ()) -> Survey:
    """What is in a robot's model and the grippers mounted on it.

    Raises:
        ModelError: the file cannot be read, or MuJoCo refuses it.
    """
    return _raw(path, tuple(mounts)).survey


def published(path: Path, mounts: Iterable[Mount] = ()) -> mujoco.MjModel:
    """The model as its maker publishes it, with every joint free; shared, as `RobotModel.model` is.

    Raises:
        ModelError: the file cannot be read, or MuJoCo refuses it.
    """
    return _raw(path, tuple(mounts)).model


def prepare(source: Source) -> RobotModel:
    """The model made ready.

    Raises:
        ModelError: it cannot be read, or lacks what the source names.
    """
    return _prepared(source, _times(source.path, source.mounts))


@functools.lru_cache(maxsize=8)
def _prepared(source: Source, _times: Any) -> RobotModel:
    raw = _raw(source.path, source.mounts)
    builder = _Builder(source, raw)
    return builder.build()


# Reading ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Raw:
    spec: mujoco.MjSpec
    model: mujoco.MjModel
    survey: Survey


def _times(path: Path, mounts: tuple[Mount, ...]) -> tuple[int, ...]:
    """When the files were last written, so that a changed one is read again."""
    times = []
    for file in (path, *(mount.path for mount in mounts)):
        with contextlib.suppress(OSError):
            times.append(file.stat().st_mtime_ns)
    return tuple(times)


def _raw(path: Path, mounts: tuple[Mount, ...]) -> _Raw:
    return _read(path, mounts, _times(path, mounts))


@functools.lru_cache(maxsize=8)
def _read(path: Path, mounts: tuple[Mount, ...], _times: Any) -> _Raw:
    spec, limits, mimics, notes, is_urdf = _specification(path)
    for mount in mounts:
        hand, its_limits, its_mimics, its_notes, _ = _specification(mount.path)
        _attach(spec, hand, mount)
        limits |= {mount.prefix + name: limit for name, limit in its_limits.items()}
        for name, mimic in its_mimics.items():
            mimics[mount.prefix + name] = Mimic(mount.prefix + mimic.master, mimic.multiplier, mimic.offset)
        notes += [f"{mount.path.name}: {note}" for note in its_notes]
    model = _compile(spec, path)
    return _Raw(spec, model, _survey(model, limits, mimics, notes, is_urdf))


def _specification(
    path: Path,
) -> tuple[mujoco.MjSpec, dict[str, Limit], dict[str, Mimic], list[str], bool]:
    """(specification, limits and mimics that a URDF gives, notes, whether it is a URDF)."""
    if not path.is_file():
        raise ModelError("model", f"no such file: {path}")
    try:
        document = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise ModelError("model", f"{path}: cannot be read as XML: {error}") from error
    if document.tag == "robot":
        try:
            model = read_urdf(path, document)
        except EmbodimentError as error:
            raise ModelError("model", str(error)) from error
        return model.spec, model.limits, model.mimics, model.notes, True
    if document.tag not in ("mujoco", "mujocoinclude"):
        kind = "an SDF" if document.tag == "sdf" else f"<{document.tag}>"
        raise ModelError("model", f"{path} is {kind}, neither a URDF (<robot>) nor an MJCF (<mujoco>)")
    try:
        return mujoco.MjSpec.from_file(str(path)), {}, {}, [], False
    except ValueError as error:
        raise ModelError("model", f"{path}: MuJoCo refuses it: {error}") from error


def _attach(spec: mujoco.MjSpec, hand: mujoco.MjSpec, mount: Mount) -> None:
    pose = urdf.from_roll_pitch_yaw(*mount.rpy)
    pose[:3, 3] = mount.position
    site, body = spec.site(mount.frame), spec.body(mount.frame)
    if site is not None:
        body = site.parent
        at = urdf.matrix(np.array(site.pos), _orientation(spec, site))
        pose = at @ pose
    if body is None:
        raise ModelError("gripper", f"mount: the model has no site, body or link named {mount.frame!r}")
    for key in _UNNEEDED:
        for element in list(getattr(hand, key)):
            hand.delete(element)
    frame = body.add_frame(pos=pose[:3, 3], quat=urdf.quaternion_of(pose[:3, :3]))
    spec.attach(hand, frame=frame, prefix=mount.prefix)


def _orientation(spec: mujoco.MjSpec, element: Any) -> np.ndarray:
    """The quaternion (4,) of an element that may be given in another way."""
    if element.alt.type == mujoco.mjtOrientation.mjORIENTATION_QUAT:
        return np.array(element.quat)
    compiler = spec.compiler
    return np.array(
        spec.resolve_orientation(degree=compiler.degree, sequence=compiler.eulerseq, orientation=element.alt)
    )


def _compile(spec: mujoco.MjSpec, path: Path) -> mujoco.MjModel:
    """The model of a specification, which itself stays as it is: MuJoCo places frames once, when they are compiled."""
    try:
        return spec.copy().compile()
    except ValueError as error:
        raise ModelError("model", f"{path}: MuJoCo refuses it: {error}") from error


def _survey(
    model: mujoco.MjModel, given: dict[str, Limit], mimics: dict[str, Mimic], notes: list[str], is_urdf: bool
) -> Survey:
    limits, slides, mimics = {}, set[str](), dict(mimics)
    for i in range(model.njnt):
        kind = model.jnt_type[i]
        if kind not in (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE):
            continue
        name = model.joint(i).name
        if kind == mujoco.mjtJoint.mjJNT_SLIDE:
            slides.add(name)
        low, high = model.jnt_range[i] if model.jnt_limited[i] else (-np.inf, np.inf)
        effort = np.nan
        if model.jnt_actfrclimited[i]:
            effort = float(np.abs(model.jnt_actfrcrange[i]).max())
        for a in range(model.nu):
            drives = (
                model.actuator_trntype[a] == mujoco.mjtTrn.mjTRN_JOINT and model.actuator_trnid[a, 0] == i
            )
            if drives and model.actuator_forcelimited[a] and not effort > 0:
                effort = float(np.abs(model.actuator_forcerange[a] * model.actuator_gear[a, 0]).max())
        limits[name] = given.get(name, Limit(float(low), float(high), np.nan, effort))
    for e in range(model.neq):
        if model.eq_type[e] != mujoco.mjtEq.mjEQ_JOINT or model.eq_obj2id[e] < 0:
            continue
        # MuJoCo: y - y0 = a0 + a1 (x - x0) + …, with both at their reference in y0 and x0.
        slave, master = int(model.eq_obj1id[e]), int(model.eq_obj2id[e])
        polynomial = model.eq_data[e, :5]
        if polynomial[2:].any():
            notes = [
                *notes,
                f"{model.joint(slave).name} follows {model.joint(master).name} by a curve: taken as straight",
            ]
        y0, x0 = (float(model.qpos0[model.jnt_qposadr[j]]) for j in (slave, master))
        offset = y0 + float(polynomial[0]) - float(polynomial[1]) * x0
        mimics.setdefault(
            model.joint(slave).name, Mimic(model.joint(master).name, float(polynomial[1]), offset)
        )
    return Survey(
        limits=limits,
        slides=frozenset(slides),
        mimics=mimics,
        bodies=tuple(model.body(i).name for i in range(model.nbody)),
        sites=tuple(model.site(i).name for i in range(model.nsite)),
        root=model.body(1).name if model.nbody > 1 else "world",
        is_urdf=is_urdf,
        notes=tuple(notes),
    )


# Making it ready ----------------------------------------------------------------------------------------------


class _Builder:
    def __init__(self, source: Source, raw: _Raw) -> None:
        self._source, self._raw = source, raw
        self._spec = raw.spec.copy()
        self._notes = list(raw.survey.notes)
        self._touched = raw.survey.is_urdf or bool(source.mounts)

    def build(self) -> RobotModel:
        self._check_names()
        for key in _UNNEEDED:
            for element in list(getattr(self._spec, key)):
                self._delete(element)
        passive = self._passive()
        self._keep_the_robot_alone()
        self._lock(passive)
        self._add_frames()
        self._set_joints()
        if self._raw.survey.is_urdf or self._source.mounts:
            model = self._compile()
            known = {frozenset((exclude.bodyname1, exclude.bodyname2)) for exclude in self._spec.excludes}
            for pair in self_contacts(model, self._source.fingers):
                if frozenset(pair) not in known:
                    self._spec.add_exclude(bodyname1=pair[0], bodyname2=pair[1])
        self._set_options()
        self._put_into_base_frame()
        model = self._compile()
        return RobotModel(self._source, model, tuple(self._notes), not self._touched, self._spec)

    def _delete(self, element: Any) -> None:
        self._spec.delete(element)
        self._touched = True

    def _compile(self) -> mujoco.MjModel:
        return _compile(self._spec, self._source.path)

    def _check_names(self) -> None:
        source, found = self._source, self._raw.survey
        for entry, names in (("joints", source.joints), ("gripper", source.fingers)):
            missing = [name for name in names if name not in found.limits]
            if missing:
                raise ModelError(
                    entry,
                    f"{source.path.name} has no joint {', '.join(missing)}; it has: {', '.join(found.limits)}",
                )
        for name, _ in source.locked:
            if name not in found.limits:
                raise ModelError(
                    "locked", f"{source.path.name} has no joint {name!r}; it has: {', '.join(found.limits)}"
                )
        if source.base_frame not in found.bodies:
            raise ModelError(
                "base_frame",
                f"{source.base_frame!r} is not a body or link of {source.path.name}; it has: {', '.join(found.bodies)}",
            )
        for frame in source.frames:
            if frame not in (*found.sites, *found.bodies):
                known = ", ".join((*found.sites, *found.bodies[1:]))
                raise ModelError(
                    "tool_frame", f"{frame!r} is no site, body or link of {source.path.name}; it has: {known}"
                )
            if frame in found.sites and frame in found.bodies and not _same_place(self._raw.model, frame):
                raise ModelError(
                    "tool_frame",
                    f"{frame!r} is a site and also a body, elsewhere: give the mount a `prefix`, say hand_",
                )

    def _passive(self) -> set[str]:
        """Joints in rings that a `connect` or `weld` closes: they move with what is driven, so they stay free."""
        model, spec = self._raw.model, self._spec
        driven = {*self._source.joints, *self._source.fingers}
        free: set[str] = set()
        for equality in list(spec.equalities):
            kind = equality.type
            if kind == mujoco.mjtEq.mjEQ_JOINT:
                continue
            bodies = []
            if kind in (mujoco.mjtEq.mjEQ_CONNECT, mujoco.mjtEq.mjEQ_WELD):
                for name in (equality.name1, equality.name2 or "world"):
                    if equality.objtype == mujoco.mjtObj.mjOBJ_SITE:
                        bodies.append(int(model.site_bodyid[model.site(name).id]))
                    else:
                        bodies.append(model.body(name).id)
            if len(bodies) != 2 or 0 in bodies:
                self._delete(equality)
                continue
            chains = [carriers(model, body) for body in bodies]
            shared = set(chains[0]) & set(chains[1])
            for body in {*chains[0], *chains[1]} - shared:
                first = int(model.body_jntadr[body])
                free |= {model.joint(j).name for j in range(first, first + int(model.body_jntnum[body]))}
        free -= driven
        if free:
            self._notes.append(
                f"moved by rings that constraints close, not by a drive: {', '.join(sorted(free))}"
            )
        return free

    def _keep_the_robot_alone(self) -> None:
        """Other things of the model's world go: floors, tables, boxes."""
        source, world = self._source, self._spec.worldbody
        joints, frames = {*source.joints, *source.fingers}, {source.base_frame, *source.frames}
        gone = []
        for body in list(world.bodies):
            moved = {joint.name for joint in body.find_all("joint")} & joints
            named = {
                body.name,
                *(part.name for kind in ("body", "site") for part in body.find_all(kind)),
            } & frames
            if not moved and not named:
                gone.append(body.name or "a body")
                self._delete_references(body)
                self._delete(body)
        for geom in list(world.geoms):
            gone.append(geom.name or "a shape of the world")
            self._delete(geom)
        if gone:
            self._notes.append(f"not part of the robot, left out: {', '.join(gone)}")

    def _delete_references(self, body: Any) -> None:
        names = {body.name, *(child.name for child in body.find_all("body"))}
        joints = {joint.name for joint in body.find_all("joint")}
        sites = {site.name for site in body.find_all("site")}
        for exclude in list(self._spec.excludes):
            if {exclude.bodyname1, exclude.bodyname2} & names:
                self._delete(exclude)
        for equality in list(self._spec.equalities):
            if {equality.name1, equality.name2} & (names | joints | sites):
                self._delete(equality)

    def _lock(self, passive: set[str]) -> None:
        """Remove the joints that nobody drives, with what they move at the value at which they are locked."""
        source, model = self._source, self._raw.model
        driven = {*source.joints, *source.fingers, *passive}
        at = dict(source.locked)
        still: list[str] = []
        for name in at.keys() & driven:
            raise ModelError("locked", f"{name} is driven, so that it cannot be locked")
        for joint in list(self._spec.joints):
            if joint.name in driven:
                continue
            body = joint.parent
            if joint.type in (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE):
                index = model.joint(joint.name).id if joint.name else -1
                value = self._rest(joint.name, at)
                self._move(body, joint, index, value)
                still.append(f"{joint.name} at {value:g}")
            for equality in list(self._spec.equalities):
                if equality.type == mujoco.mjtEq.mjEQ_JOINT and joint.name in (
                    equality.name1,
                    equality.name2,
                ):
                    self._delete(equality)
            self._delete(joint)
        if still:
            self._notes.append(f"locked, since the file drives them not: {', '.join(still)}")

    def _rest(self, name: str, at: dict[str, float]) -> float:
        """Where a joint is locked: where the file says, with its master, or at 0 or the limit next to it."""
        limit, mimic = self._raw.survey.limits[name], self._raw.survey.mimics.get(name)
        if name in at:
            if not limit.lower - 1e-6 <= at[name] <= limit.upper + 1e-6:
                raise ModelError(
                    "locked",
                    f"{name} at {at[name]:g} is outside of the model's range [{limit.lower:g}, {limit.upper:g}]",
                )
            return at[name]
        if mimic is not None and mimic.master in at:
            return mimic.multiplier * at[mimic.master] + mimic.offset
        return float(np.clip(0.0, limit.lower, limit.upper))

    def _move(self, body: Any, joint: Any, index: int, value: float) -> None:
        """Put a body where a joint of it takes it."""
        model = self._raw.model
        away = value - float(model.qpos0[model.jnt_qposadr[index]])
        if away == 0:
            return
        axis, place = model.jnt_axis[index], model.jnt_pos[index]
        if joint.type == mujoco.mjtJoint.mjJNT_SLIDE:
            motion = urdf.translation(axis * away)
        else:
            motion = urdf.translation(place) @ urdf.rotation_about(axis, away) @ urdf.translation(-place)
        pose = urdf.matrix(np.array(body.pos), _orientation(self._spec, body)) @ motion
        body.pos, body.quat = pose[:3, 3], urdf.quaternion_of(pose[:3, :3])
        body.alt.type = mujoco.mjtOrientation.mjORIENTATION_QUAT

    def _add_frames(self) -> None:
        """A site for each frame that is a body or a link."""
        for name in self._source.frames:
            if name not in self._raw.survey.sites:
                self._spec.body(name).add_site(name=name, group=4)
                self._touched = True

    def _set_joints(self) -> None:
        """Armature, and what belongs to the makers' own controllers."""
        source, model = self._source, self._raw.model
        given = dict(source.armature)
        weak = []
        for name in (*source.joints, *source.fingers):
            joint = self._spec.joint(name)
            kind = "slide" if name in self._raw.survey.slides else "hinge"
            if name in given:
                joint.armature = given[name]
                self._touched = True
            elif name in source.fingers and model.dof_armature[model.joint(name).dofadr[0]] == 0:
                joint.armature = FINGER_ARMATURE[kind]
                self._touched = True
            elif model.dof_armature[model.joint(name).dofadr[0]] == 0:
                weak.append(name)
        if weak:
            self._notes.append(
                f"no rotor inertia is known of {', '.join(weak)}: `armature` of a joint gives it"
            )
        floated = [body for body in self._spec.bodies if body.gravcomp]
        for body in floated:
            body.gravcomp = 0.0
            self._touched = True
        if floated:
            self._notes.append(
                "the model's own compensation of gravity is off: the controller or the robot does that"
            )

    def _set_options(self) -> None:
        """The physics of all cells: the step goes into the controller's period a whole number of times."""
        option, period = self._spec.option, 1.0 / self._source.rate_hz
        step = period / max(1, round(np.ceil(period / LONGEST_STEP_S - 1e-9)))
        for key, value in (
            ("timestep", step), ("integrator", mujoco.mjtIntegrator.mjINT_IMPLICITFAST),
            ("cone", mujoco.mjtCone.mjCONE_ELLIPTIC), ("impratio", 10.0),
        ):  # fmt: skip
            if getattr(option, key) != value:
                setattr(option, key, value)

    def _put_into_base_frame(self) -> None:
        model = self._compile()
        data = mujoco.MjData(model)
        mujoco.mj_kinematics(model, data)
        base = model.body(self._source.base_frame).id
        if model.body_weldid[base] != 0:
            joint = next(
                model.joint(int(model.body_jntadr[body])).name
                for body in carriers(model, base)
                if model.body_jntnum[body]
            )
            raise ModelError(
                "base_frame",
                f"{self._source.base_frame!r} is moved by joint {joint}: take a frame that stands still",
            )
        pose = urdf.matrix(data.xpos[base], data.xquat[base])
        if np.array_equal(pose, np.eye(4)):
            return
        self._touched = True
        world, back = self._spec.worldbody, np.linalg.inv(pose)
        elements = [
            element for element in (*world.bodies, *world.sites, *world.frames) if element.frame is None
        ]
        frame = world.add_frame(pos=back[:3, 3], quat=urdf.quaternion_of(back[:3, :3]))
        for element in elements:
            element.set_frame(frame)
        self._spec.option.gravity = back[:3, :3] @ np.array(self._spec.option.gravity)


def _same_place(model: mujoco.MjModel, name: str) -> bool:
    """Whether the site and the body of a name are one frame."""
    site, body = model.site(name), model.body(name)
    turned = np.abs(site.quat @ np.array([1.0, 0, 0, 0])) < 1 - 1e-9
    return site.bodyid[0] == body.id and not site.pos.any() and not turned
