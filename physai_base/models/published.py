"""What a maker's model of a robot has, read as it is published: URDF or MJCF, with the grippers mounted on it."""

from __future__ import annotations

import contextlib
import functools
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import mujoco
import numpy as np

from physai_base import urdf
from physai_base.embodiment_parts import ModelChanges, Mount, OwnFrame
from physai_base.errors import EmbodimentError
from physai_base.models.urdf_reader import Mimic, read_urdf
from physai_base.urdf import Limit

UNNEEDED = (
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


UNCHANGED = ModelChanges()


class ModelError(EmbodimentError):
    """A model that does not fit its robot's file; `entry` is the file's entry that says so."""

    def __init__(self, entry: str, message: str) -> None:
        super().__init__(message)
        self.entry = entry


@dataclass(frozen=True)
class Source:
    """What a robot's file says about its model."""

    path: Path
    base_frame: str
    joints: tuple[str, ...]  # of the arm, in command order
    fingers: tuple[str, ...]
    frames: tuple[str, ...]  # tools
    rate_hz: float = 1000.0
    changes: ModelChanges = field(default_factory=ModelChanges)


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


def survey(path: Path, changes: ModelChanges = UNCHANGED) -> Survey:
    """What is in a robot's model, with the grippers mounted on it and the frames added to it.

    Raises:
        ModelError: the file cannot be read, or MuJoCo refuses it.
    """
    return read_published(path, changes).survey


def published(path: Path, changes: ModelChanges = UNCHANGED) -> mujoco.MjModel:
    """The model as its maker publishes it, with every joint free; shared, as `RobotModel.model` is.

    Raises:
        ModelError: the file cannot be read, or MuJoCo refuses it.
    """
    return read_published(path, changes).model


# Reading ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Published:
    """A model as it is published; whoever builds on the specification takes a copy."""

    spec: mujoco.MjSpec
    model: mujoco.MjModel
    survey: Survey


def written(path: Path, mounts: tuple[Mount, ...]) -> tuple[int, ...]:
    """When the files were last written, so that a changed one is read again."""
    times = []
    for file in (path, *(mount.path for mount in mounts)):
        with contextlib.suppress(OSError):
            times.append(file.stat().st_mtime_ns)
    return tuple(times)


def read_published(path: Path, changes: ModelChanges) -> Published:
    """The model at `path` with its grippers and frames.

    Raises:
        ModelError: the file cannot be read, or MuJoCo refuses it.
    """
    return _read(path, changes.mounts, changes.frames, written(path, changes.mounts))


@functools.lru_cache(maxsize=8)
def _read(path: Path, mounts: tuple[Mount, ...], frames: tuple[OwnFrame, ...], _times: Any) -> Published:
    spec, limits, mimics, notes, is_urdf = _specification(path)
    for frame in frames:
        if spec.site(frame.parent) is not None or spec.body(frame.parent) is not None:
            _add_frame(spec, frame)
    for mount in mounts:
        hand, its_limits, its_mimics, its_notes, _ = _specification(mount.path)
        _attach(spec, hand, mount)
        limits |= {mount.prefix + name: limit for name, limit in its_limits.items()}
        for name, mimic in its_mimics.items():
            mimics[mount.prefix + name] = Mimic(mount.prefix + mimic.master, mimic.multiplier, mimic.offset)
        notes += [f"{mount.path.name}: {note}" for note in its_notes]
    for frame in frames:
        if spec.site(frame.name) is None:  # of a gripper that was mounted
            _add_frame(spec, frame)
    model = compiled(spec, path)
    return Published(spec, model, _survey(model, limits, mimics, notes, is_urdf))


def _specification(
    path: Path,
) -> tuple[mujoco.MjSpec, dict[str, Limit], dict[str, Mimic], list[str], bool]:
    """(specification, limits and mimics that a URDF gives, notes, whether it is a URDF)."""
    if not path.is_file():
        raise ModelError("model", f"{path} is a folder" if path.is_dir() else f"no such file: {path}")
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
        raise ModelError("model", f"{path}: MuJoCo refuses it: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _attach(spec: mujoco.MjSpec, hand: mujoco.MjSpec, mount: Mount) -> None:
    body, pose = _place(spec, "gripper", mount.frame, mount.position, mount.rpy)
    for key in UNNEEDED:
        for element in list(getattr(hand, key)):
            hand.delete(element)
    frame = body.add_frame(pos=pose[:3, 3], quat=urdf.quaternion_of(pose[:3, :3]))
    spec.attach(hand, frame=frame, prefix=mount.prefix)


def _add_frame(spec: mujoco.MjSpec, frame: OwnFrame) -> None:
    if spec.site(frame.name) is not None or spec.body(frame.name) is not None:
        raise ModelError("frames", f"the model itself has a frame {frame.name!r}; give yours another name")
    body, pose = _place(spec, "frames", frame.parent, frame.position, frame.rpy)
    body.add_site(name=frame.name, pos=pose[:3, 3], quat=urdf.quaternion_of(pose[:3, :3]), group=4)


def _place(
    spec: mujoco.MjSpec, entry: str, parent: str, position: tuple[float, ...], rpy: tuple[float, ...]
) -> tuple[mujoco.MjsBody, np.ndarray]:
    """(body, T_body_place) of a place in a frame of the model."""
    pose = urdf.from_roll_pitch_yaw(*rpy)
    pose[:3, 3] = position
    site, body = spec.site(parent), spec.body(parent)
    if site is not None:
        return site.parent, urdf.matrix(np.array(site.pos), orientation(spec, site)) @ pose
    if body is None:
        raise ModelError(entry, f"the model has no site, body or link named {parent!r}")
    return body, pose


def orientation(spec: mujoco.MjSpec, element: Any) -> np.ndarray:
    """The quaternion (4,) of an element that may be given in another way."""
    if element.alt.type == mujoco.mjtOrientation.mjORIENTATION_QUAT:
        return np.array(element.quat)
    compiler = spec.compiler
    return np.array(
        spec.resolve_orientation(degree=compiler.degree, sequence=compiler.eulerseq, orientation=element.alt)
    )


def compiled(spec: mujoco.MjSpec, path: Path) -> mujoco.MjModel:
    """The model of a specification, which itself stays as it is: MuJoCo places frames once, when they are compiled."""
    try:
        return spec.copy().compile()
    except ValueError as error:
        raise ModelError("model", f"{path}: MuJoCo refuses it: {_one_line(error)}") from error


def _effort(model: mujoco.MjModel, actuator: int) -> float:
    """The largest torque or force of an actuator; nan where it has no limit."""
    gear = abs(float(model.actuator_gear[actuator, 0]))
    if model.actuator_forcelimited[actuator]:
        return gear * float(np.abs(model.actuator_forcerange[actuator]).max())
    motor = (
        model.actuator_gaintype[actuator] == mujoco.mjtGain.mjGAIN_FIXED
        and model.actuator_biastype[actuator] == mujoco.mjtBias.mjBIAS_NONE
    )
    if motor and model.actuator_ctrllimited[actuator]:
        gain = abs(float(model.actuator_gainprm[actuator, 0]))
        return gear * gain * float(np.abs(model.actuator_ctrlrange[actuator]).max())
    return math.nan


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
            if drives and not effort > 0:
                effort = _effort(model, a)
        limits[name] = given.get(name, Limit(float(low), float(high), np.nan, effort))
        dof = model.jnt_dofadr[i]
        for what in ("damping", "frictionloss"):
            if getattr(model, f"dof_{what}")[dof] < 0:
                raise ModelError(
                    "model", f"joint {name} has a negative {what}, {getattr(model, f'dof_{what}')[dof]:g}"
                )
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
