"""The one way from a robot's file to its MuJoCo model: as its maker publishes it, made ready for control and cell.

A maker's model holds more than the robot and less than we need. Actuators, sensors, keyframes, tendons, lights, cameras
and whatever else stands in its world go; joints that nobody drives are locked; frames that the robot's file names become
sites; grippers that are mounted are attached; and all of it stands in the base frame.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np

from physai_base import urdf
from physai_base.models.published import (
    UNNEEDED,
    ModelError,
    Published,
    Source,
    Survey,
    compiled,
    orientation,
    read_published,
    written,
)
from physai_base.models.self_contacts import always_touching, beside_the_base, carriers, self_contacts

if TYPE_CHECKING:
    from physai_base.embodiment import Embodiment

LONGEST_STEP_S = 0.001  # of the physics: what controls more slowly is stepped several times for a cycle
FINGER_ARMATURE = {
    "slide": 0.1,
    "hinge": 1e-3,
}  # kg, kg m2, of fingers whose model has none: a geared drive's


@dataclass(frozen=True)
class RobotModel:
    """A robot alone, in its base frame."""

    source: Source
    model: mujoco.MjModel  # shared: whoever changes it takes a copy
    notes: tuple[str, ...]
    survey: Survey
    locked: dict[str, float]  # joints of the model that it no longer has, and where they stand
    as_published: bool  # nothing had to be done to the file
    _spec: mujoco.MjSpec = field(repr=False)

    @property
    def positions(self) -> list[int]:
        """Where the arm's joints are in MuJoCo's positions, in command order."""
        return [int(self.model.joint(name).qposadr[0]) for name in self.source.joints]

    @property
    def dofs(self) -> list[int]:
        """Where they are in its velocities and forces."""
        return [int(self.model.joint(name).dofadr[0]) for name in self.source.joints]

    def put(self, data: mujoco.MjData, joints: np.ndarray, fingers: np.ndarray) -> None:
        """Arm joints (n,) and finger joints, in the embodiment's order, to where they shall be in `data` of this model."""
        data.qpos[self.positions] = joints
        data.qpos[[int(self.model.joint(name).qposadr[0]) for name in self.source.fingers]] = fingers

    @property
    def mesh_folder(self) -> Path:
        """What paths of meshes are relative to."""
        return self.source.path.parent / self._spec.meshdir

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


def place_of(model: mujoco.MjModel, data: mujoco.MjData, name: str) -> np.ndarray:
    """Where a site, or the body of that name if there is no such site, is now: (3,) m, a view of `data`."""
    site = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, name)
    return data.site_xpos[site] if site >= 0 else data.xpos[model.body(name).id]  # type: ignore[no-any-return]


def prepare(source: Source) -> RobotModel:
    """The model made ready.

    Raises:
        ModelError: it cannot be read, or lacks what the source names.
    """
    return _prepared(source, written(source.path, source.changes.mounts))


def load_robot(embodiment: Embodiment) -> RobotModel:
    """The model of a robot, made ready.

    Raises:
        ModelError: it cannot be read, or lacks what the robot's file names.
    """
    return prepare(
        Source(
            path=embodiment.model_path,
            base_frame=embodiment.base_frame,
            joints=embodiment.joint_names,
            fingers=embodiment.finger_joints,
            frames=tuple(effector.frame for effector in embodiment.end_effectors),
            rate_hz=embodiment.control.rate_hz,
            changes=embodiment.model_changes,
        )
    )


@functools.lru_cache(maxsize=8)
def _prepared(source: Source, _times: Any) -> RobotModel:
    raw = read_published(source.path, source.changes)
    builder = _Builder(source, raw)
    return builder.build()


# Making it ready ----------------------------------------------------------------------------------------------


class _Builder:
    def __init__(self, source: Source, raw: Published) -> None:
        self._source, self._raw = source, raw
        self._spec = raw.spec.copy()
        self._notes = list(raw.survey.notes)
        self._touched = raw.survey.is_urdf or bool(source.changes.mounts or source.changes.frames)
        self._locked: dict[str, float] = {}

    def build(self) -> RobotModel:
        self._check_names()
        for key in UNNEEDED:
            for element in list(getattr(self._spec, key)):
                self._delete(element)
        passive = self._passive()
        self._keep_the_robot_alone()
        self._lock(passive)
        self._add_frames()
        self._set_joints()
        self._couple()
        self._exclude()
        self._set_options()
        self._put_into_base_frame()
        model = self._compile()
        for frame in self._source.frames:
            if model.body_weldid[model.site(frame).bodyid[0]] == 0:
                raise ModelError(
                    "tool_frame", f"{frame!r} is moved by none of the joints that the file names"
                )
        return RobotModel(
            self._source,
            model,
            tuple(self._notes),
            self._raw.survey,
            self._locked,
            not self._touched,
            self._spec,
        )

    def _delete(self, element: Any) -> None:
        self._spec.delete(element)
        self._touched = True

    def _compile(self) -> mujoco.MjModel:
        return compiled(self._spec, self._source.path)

    def _check_names(self) -> None:
        source, found = self._source, self._raw.survey
        for entry, names in (("joints", source.joints), ("gripper", source.fingers)):
            missing = [name for name in names if name not in found.limits]
            if missing:
                raise ModelError(
                    entry,
                    f"{source.path.name} has no joint {', '.join(missing)}; it has: {', '.join(found.limits)}",
                )
        for name, _ in source.changes.locked:
            if name not in found.limits:
                raise ModelError(
                    "locked", f"{source.path.name} has no joint {name!r}; it has: {', '.join(found.limits)}"
                )
        own = [frame.name for frame in source.changes.frames]
        if source.base_frame not in (*found.bodies, *own):
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
        at = dict(source.changes.locked)
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
                self._locked[joint.name] = value
            for equality in list(self._spec.equalities):
                if equality.type == mujoco.mjtEq.mjEQ_JOINT and joint.name in (
                    equality.name1,
                    equality.name2,
                ):
                    self._delete(equality)
            self._delete(joint)
        if self._locked:
            still = ", ".join(f"{name} at {value:g}" for name, value in self._locked.items())
            self._notes.append(f"locked, since the file does not drive them: {still}")

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
        pose = urdf.matrix(np.array(body.pos), orientation(self._spec, body)) @ motion
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
        given, friction = dict(source.changes.armature), dict(source.changes.friction)
        weak = []
        for name in (*source.joints, *source.fingers):
            joint = self._spec.joint(name)
            kind = "slide" if name in self._raw.survey.slides else "hinge"
            if name in friction:
                joint.frictionloss = friction[name]
                self._touched = True
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

    def _couple(self) -> None:
        """Hold fingers of a URDF to what they follow, as their linkage does: else each gives way by itself in a grasp."""
        if not self._raw.survey.is_urdf and not self._source.changes.mounts:
            return  # an MJCF has its own
        equalities = [e for e in self._spec.equalities if e.type == mujoco.mjtEq.mjEQ_JOINT]
        coupled = {equality.name1 for equality in equalities}
        for name in self._source.fingers:
            mimic = self._raw.survey.mimics.get(name)
            if mimic is not None and mimic.master in self._source.fingers and name not in coupled:
                equality = self._spec.add_equality(
                    type=mujoco.mjtEq.mjEQ_JOINT, name1=name, name2=mimic.master, solref=[0.005, 1]
                )
                equality.data[:5] = [mimic.offset, mimic.multiplier, 0, 0, 0]

    def _exclude(self) -> None:
        """Leave out contacts that nobody could mean, where the maker's model does not do so itself."""
        pairs = []
        if self._raw.survey.is_urdf or self._source.changes.mounts:
            pairs = self_contacts(self._compile(), self._source.fingers)
        else:
            pairs = always_touching(self._compile())
            if self._locked:
                pairs += beside_the_base(self._compile())
        known = {frozenset((exclude.bodyname1, exclude.bodyname2)) for exclude in self._spec.excludes}
        for a, b in pairs:
            if frozenset((a, b)) not in known:
                self._spec.add_exclude(bodyname1=a, bodyname2=b)

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
        name = self._source.base_frame
        own = name in (frame.name for frame in self._source.changes.frames)
        base = int(model.site(name).bodyid[0]) if own else model.body(name).id
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
        if own:
            pose = pose @ urdf.matrix(model.site(name).pos, model.site(name).quat)
            self._spec.delete(self._spec.site(name))
        compiler = self._spec.compiler
        usual = not compiler.degree and list(compiler.inertiagrouprange) == [0, 5]
        if np.array_equal(pose, np.eye(4)) and usual and not self._touched:
            return
        self._touched |= not np.array_equal(pose, np.eye(4)) or own
        # Into a specification of our own, so that how the maker's is compiled is not how the cell is.
        robot, around, back = self._spec, mujoco.MjSpec(), np.linalg.inv(pose)
        around.modelname, around.compiler.degree = robot.modelname, False
        around.meshdir, around.texturedir = robot.meshdir, robot.texturedir
        around.modelfiledir = robot.modelfiledir
        frame = around.worldbody.add_frame(pos=back[:3, 3], quat=urdf.quaternion_of(back[:3, :3]))
        around.attach(robot, frame=frame, prefix="")
        if own:
            around.worldbody.add_body(name=name)
        for key in ("timestep", "integrator", "cone", "impratio"):
            setattr(around.option, key, getattr(robot.option, key))
        around.option.gravity = back[:3, :3] @ np.array(robot.option.gravity)
        around.memory = robot.memory
        self._spec = around


def _same_place(model: mujoco.MjModel, name: str) -> bool:
    """Whether the site and the body of a name are one frame."""
    site, body = model.site(name), model.body(name)
    turned = np.abs(site.quat @ np.array([1.0, 0, 0, 0])) < 1 - 1e-9
    return site.bodyid[0] == body.id and not site.pos.any() and not turned
