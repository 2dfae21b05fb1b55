"""The entries of an embodiment file that speak of its model: the model itself, end effectors, grippers, what is locked."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from physai_base.embodiment_parts import EndEffector, Finger, Gripper, Hand, ModelChanges, Mount, OwnFrame
from physai_base.errors import EmbodimentError
from physai_base.models.files import expand_xacro, find_in_package
from physai_base.reader import Reader

if TYPE_CHECKING:
    from physai_base.models.published import Survey

KINDS = ("parallel", "hinge", "suction")
MAX_JOINTS, MAX_END_EFFECTORS, MAX_FINGERS = 32, 4, 8  # the control core's
WIDEST = {"parallel": 2.0, "hinge": 10.0}  # m, rad: no range of a gripper reaches beyond
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def read_model_path(entry: Reader) -> Path | None:
    """`model`: a path from the file in which it stands, or `{package, path}`; None where it names no file.

    Of a package it may be a xacro file: `xacro` has its arguments then.
    """
    value = entry.anything("model")
    if not entry.good("model"):
        return None
    if not isinstance(value, Mapping):
        path = entry.file("model")
        if path is not None and entry.good("model") and not path.is_file():
            entry.fail("model", f"no such file: {path}")
        return path if entry.good("model") else None
    section = entry.section("model")
    package, inside, _ = section.text("package"), section.text("path"), section.has("xacro")
    if not section.good("package", "path"):
        return None
    try:
        path = find_in_package(package, inside)
    except EmbodimentError as error:
        section.fail("package", str(error))
        return None
    return _expanded(section, path)


def _expanded(section: Reader, path: Path) -> Path | None:
    if not section.has("xacro"):
        return path
    arguments = section.section("xacro")
    values = {str(key): str(node.plain()) for key, node in arguments.items()}
    try:
        return expand_xacro(path, values)
    except EmbodimentError as error:
        section.fail("xacro", str(error))
        return None


@dataclass(frozen=True)
class _Place:
    """One end effector's entries, and how they are called where something is wrong with them."""

    entry: Reader
    gripper: Reader | None
    fingers: list[Reader]  # of the gripper
    frame_key: str
    geofence: Reader | None  # where the form for one alone has the elbow


def effector_places(file: Reader, geofence: Reader) -> list[_Place]:
    """Where the end effectors' entries are: at the file's top, or in a list."""

    def place(entry: Reader, frame_key: str, geofence: Reader | None) -> _Place:
        gripper = entry.section("gripper") if entry.has("gripper") else None
        has_fingers = gripper is not None and gripper.has("fingers")
        fingers = gripper.sections("fingers") if gripper is not None and has_fingers else []
        return _Place(entry, gripper, fingers, frame_key, geofence)

    if not file.has("end_effectors"):
        return [place(file, "tool_frame", geofence)]
    for key in ("tool_frame", "gripper", "hand"):
        if file.has(key):
            file.fail(key, "stands in each of the end_effectors, where there are such")
    if geofence.has("elbow_frame"):
        geofence.fail("elbow_frame", "stands in each of the end_effectors, where there are such")
    places = [place(entry, "frame", None) for entry in file.sections("end_effectors")]
    if len(places) > MAX_END_EFFECTORS:
        file.fail("end_effectors", f"at most {MAX_END_EFFECTORS} are possible, got {len(places)}")
    return places


def read_mounts(places: list[_Place]) -> tuple[Mount, ...] | None:
    """The models of grippers that have one of their own; None where something is wrong with one, which is noted."""
    mounts, clean = [], True
    for place in places:
        gripper = place.gripper
        if gripper is None or not gripper.has("model"):
            continue
        path = read_model_path(gripper)
        mount = gripper.section("mount")
        frame = mount.text("frame")
        position, rpy = _offset(mount)
        prefix = mount.text("prefix", "")
        if path is not None and mount.good("frame", "position", "rpy", "prefix"):
            mounts.append(Mount(path, frame, position, rpy, prefix))
        else:
            clean = False
    return tuple(mounts) if clean else None


def read_effectors(places: list[_Place], found: Survey | None) -> tuple[EndEffector, ...]:
    """The end effectors; fingers that follow a named one in the model come with it."""
    effectors: list[EndEffector] = []
    finger_of: dict[str, str] = {}
    for place in places:
        entry = place.entry
        name = "tool" if place.geofence is not None else entry.text("name")
        if entry.good("name") and not NAME.fullmatch(name) and place.geofence is None:
            entry.fail("name", f"must begin with a letter and have letters, digits and _ alone, got {name!r}")
        if name in {effector.name for effector in effectors}:
            entry.fail("name", f"there is another end effector {name!r}")
        elbow = (place.geofence or entry).text("elbow_frame", "")
        gripper = _gripper(place.gripper, place.fingers, found) if place.gripper is not None else Gripper()
        for joint in gripper.joints:
            if place.gripper is not None and finger_of.setdefault(joint, name) != name:
                key = "fingers" if place.gripper.has("fingers") else "joints"
                place.gripper.fail(
                    key, f"{joint} is also a finger of {finger_of[joint]}: each gripper has its own"
                )
        effectors.append(EndEffector(name, entry.text(place.frame_key), gripper, _hand(entry), elbow))
    return tuple(effectors)


def _hand(entry: Reader) -> Hand:
    hand = entry.section("hand", optional=True)
    return Hand(
        tip=hand.number("tip", 0, 1, 0.0),
        length=hand.number("length", 0, 2, 0.0),
        reach=hand.number("reach", 0, 2, 0.0),
    )


def _gripper(gripper: Reader, fingers: list[Reader], found: Survey | None) -> Gripper:
    for key in ("model", "mount"):
        gripper.has(key)  # `read_mounts` reads them
    old = [key for key in ("joints", "width") if gripper.has(key)]
    new = [key for key in ("kind", "range", "fingers") if gripper.has(key)]
    if old and new:
        gripper.fail(
            old[0], f"is the short form of kind, range and fingers; {', '.join(new)} cannot stand beside it"
        )
        return Gripper()
    made = _short_form(gripper, found) if old or not new else _long_form(gripper, fingers, found)
    if not gripper.good("joints", "fingers", "range", "width", "kind"):
        return made
    return _with_followers(gripper, made, found)


def _short_form(gripper: Reader, found: Survey | None) -> Gripper:
    """Slides that open from 0 by their share of the width each, or hinges that all go through the whole of it."""
    joints = gripper.texts("joints")
    low, high = gripper.bounds("width")
    speed, force = gripper.number("speed", 1e-3, 100), gripper.number("force", 1e-3, 1000)
    if not joints:
        return Gripper()
    hinges = [found is not None and joint in found.limits and joint not in found.slides for joint in joints]
    if any(hinges) and not all(hinges):
        gripper.fail("joints", "some slide and some turn: say kind, range and fingers")
    shares = 1 if all(hinges) else len(joints)
    return Gripper(
        kind="hinge" if all(hinges) else "parallel",
        fingers=tuple(Finger(joint, low / shares, high / shares) for joint in joints),
        opening_min=low,
        opening_max=high,
        speed=speed,
        force=force,
    )


def _long_form(gripper: Reader, entries: list[Reader], found: Survey | None) -> Gripper:
    kind = gripper.choice("kind", KINDS)
    suction = kind == "suction"
    most = WIDEST.get(kind, math.inf)
    low, high = (0.0, 1.0) if suction and not gripper.has("range") else gripper.bounds("range", -most, most)
    if suction and gripper.good("range") and (low, high) != (0.0, 1.0):
        gripper.fail("range", f"of suction is [0, 1]: 0 holds, 1 lets go; got [{low:g}, {high:g}]")
    if not suction and not gripper.has("fingers"):
        gripper.fail("fingers", "is missing", missing=True)
    fingers = []
    for entry in entries:
        finger = Finger(entry.text("joint"), entry.number("closed", -10, 10), entry.number("open", -10, 10))
        if entry.good("closed", "open") and finger.closed == finger.open:
            entry.fail("open", f"must differ from closed, {finger.closed:g}")
        fingers.append(finger)
    if suction and fingers:
        gripper.fail("fingers", "suction has none")
    if kind == "hinge" and found is not None and fingers and all(f.joint in found.slides for f in fingers):
        gripper.fail("kind", "is hinge, in rad, and its fingers slide: take parallel, in m between the pads")
    return Gripper(
        kind=kind,
        fingers=tuple(fingers),
        opening_min=low,
        opening_max=high,
        speed=gripper.number("speed", 1e-3, 100, 10.0) if suction else gripper.number("speed", 1e-3, 100),
        force=gripper.number("force", 1e-3, 1000),
    )


def _with_followers(gripper: Reader, made: Gripper, found: Survey | None) -> Gripper:
    """The gripper with the joints of the model that follow its fingers by a fixed ratio."""
    key = "joints" if gripper.has("joints") else "fingers"
    if found is None or not made.fingers:
        return made
    fingers = {finger.joint: finger for finger in made.fingers}
    if len(fingers) != len(made.fingers):
        gripper.fail(key, "joints must differ")
    follows = True
    while follows:
        follows = False
        for name, mimic in found.mimics.items():
            if name not in fingers and mimic.master in fingers:
                master, ratio = fingers[mimic.master], mimic.multiplier
                ends = ratio * master.closed + mimic.offset, ratio * master.open + mimic.offset
                if ends[0] != ends[1]:
                    fingers[name] = Finger(name, *ends)
                    follows = True
    for name in fingers:
        if name not in found.limits:
            gripper.fail(key, f"the model has no joint {name!r}; it has: {', '.join(found.limits)}")
            continue
        if name not in {finger.joint for finger in made.fingers}:
            continue  # where a joint that follows stops is the model's own matter
        limit, finger = found.limits[name], fingers[name]
        for value in (finger.closed, finger.open):
            if not limit.lower - 1e-3 <= value <= limit.upper + 1e-3:
                gripper.fail(
                    key,
                    f"{name} at {value:g} is outside of the model's range [{limit.lower:g}, {limit.upper:g}]",
                )
    if len(fingers) > MAX_FINGERS:
        gripper.fail(key, f"at most {MAX_FINGERS} joints can move one gripper, got {', '.join(fingers)}")
    return Gripper(
        made.kind, made.opening_min, made.opening_max, made.speed, made.force, tuple(fingers.values())
    )


def read_changes(
    file: Reader, joints: list[Reader], places: list[_Place], mounts: tuple[Mount, ...]
) -> ModelChanges:
    """What the file says of the model beyond its frames and joints."""
    locked = file.section("locked", optional=True)
    values = tuple((str(name), locked.number(name, -100, 100)) for name, _ in list(locked.items()))
    entries = [(entry.text("name"), entry) for entry in joints]
    entries += [(finger.text("joint"), finger) for place in places for finger in place.fingers]
    armature = tuple(
        (name, entry.number("armature", 0, 100)) for name, entry in entries if entry.has("armature")
    )
    friction = tuple(
        (name, entry.number("friction", 0, 1e3)) for name, entry in entries if entry.has("friction")
    )
    frames = []
    for entry in file.sections("frames", optional=True):
        name, parent = entry.text("name"), entry.text("parent")
        frames.append(OwnFrame(name, parent, *_offset(entry)))
    if len({frame.name for frame in frames}) != len(frames):
        file.fail("frames", "names must differ")
    return ModelChanges(values, armature, friction, mounts, tuple(frames))


def _offset(entry: Reader) -> tuple[tuple[float, ...], tuple[float, ...]]:
    position, rpy = (entry.vector(key, 3, -10, 10, (0.0,) * 3) for key in ("position", "rpy"))
    return tuple(position.tolist()), tuple(rpy.tolist())
