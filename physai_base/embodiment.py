"""The embodiment file: everything that is particular to one robot, checked when it is read.

An embodiment is refused, with the reason, when a number is not finite, a limit is inverted, a gain is
negative, an entry is unknown, or its joints disagree with its robot model in name or range.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from physai_base.effector_entries import (
    MAX_JOINTS,
    effector_places,
    read_changes,
    read_effectors,
    read_model_path,
    read_mounts,
)
from physai_base.embodiment_entries import (
    read_box,
    read_cameras,
    read_control,
    read_fence,
    read_hardware,
    read_impedance,
    read_joint,
    read_tool_limits,
)
from physai_base.embodiment_parts import (
    Calibration,
    Camera,
    ControlSettings,
    EndEffector,
    Fence,
    Friction,
    Gripper,
    Hardware,
    Impedance,
    Joint,
    ModelChanges,
    Payload,
    ToolLimits,
)
from physai_base.errors import EmbodimentError, shown
from physai_base.reader import Reader, open_yaml
from physai_base.resources import share_directory

if TYPE_CHECKING:
    from physai_base.models.published import Survey

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Embodiment:
    """One robot; read it with `Embodiment.load`."""

    name: str
    description: str
    path: Path
    model_path: Path
    base_frame: str
    joints: tuple[Joint, ...]
    home: np.ndarray  # (n,) rad
    end_effectors: tuple[EndEffector, ...]  # at least one
    control: ControlSettings
    impedance: Impedance  # at the start
    tool_limits: ToolLimits
    geofence_min: np.ndarray  # (3,) m, the box for the tool
    geofence_max: np.ndarray
    fences: tuple[Fence, ...]  # that box first
    cameras: tuple[Camera, ...]
    hardware: Hardware
    calibration: Calibration
    state_features: tuple[str, ...]
    action_features: tuple[str, ...]
    model_changes: ModelChanges = field(default_factory=ModelChanges)

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Joint names in command order."""
        return tuple(joint.name for joint in self.joints)

    @property
    def tool_frame(self) -> str:
        """Frame of the first end effector."""
        return self.end_effectors[0].frame

    @property
    def gripper(self) -> Gripper:
        """Gripper of the first end effector."""
        return self.end_effectors[0].gripper

    @property
    def elbow_frame(self) -> str:
        """Elbow of the first end effector's arm; empty: none."""
        return self.end_effectors[0].elbow_frame

    @property
    def end_effector_names(self) -> tuple[str, ...]:
        """In the order of a chunk's columns."""
        return tuple(end.name for end in self.end_effectors)

    @property
    def finger_joints(self) -> tuple[str, ...]:
        """Joints of all grippers, in the end effectors' order."""
        return tuple(joint for end in self.end_effectors for joint in end.gripper.joints)

    def openings_at(self, share: float) -> np.ndarray:
        """(k,) openings at a share of each gripper's range, 1 for open."""
        grippers = [end.gripper for end in self.end_effectors]
        return np.array([g.opening_min + share * (g.opening_max - g.opening_min) for g in grippers])

    def openings(self, positions: Mapping[str, float]) -> np.ndarray:
        """(k,) opening of each end effector's gripper at the finger joints' positions."""
        return np.array([end.gripper.opening(positions) for end in self.end_effectors])

    def finger_positions(self, openings: np.ndarray) -> np.ndarray:
        """Positions of `finger_joints` at openings (k,)."""
        ends = zip(self.end_effectors, openings, strict=True)
        return np.concatenate([end.gripper.positions(opening) for end, opening in ends])

    def limits(self, field: str) -> np.ndarray:
        """One number per joint, e.g. `limits("velocity")`."""
        return np.array([getattr(joint, field) for joint in self.joints])

    def with_hardware_option(self, key: str, value: str) -> Embodiment:
        """The same robot with an option for its hardware backend, unless its file gives that option."""
        hardware = replace(self.hardware, options={key: value, **self.hardware.options})
        return replace(self, hardware=hardware)

    @property
    def scene_camera(self) -> Camera:
        """The first camera that is fixed to the base: what perception sees the scene with.

        Raises:
            EmbodimentError: there is none.
        """
        for camera in self.cameras:
            if camera.parent == self.base_frame:
                return camera
        raise EmbodimentError(
            f"{self.path}: no camera is fixed to {self.base_frame}; perception needs one that sees the scene"
        )

    @property
    def tool_cameras(self) -> tuple[Camera, ...]:
        """Those that move with a tool."""
        return tuple(camera for camera in self.cameras if camera.parent != self.base_frame)

    def camera(self, name: str) -> Camera:
        """The camera of that name."""
        for camera in self.cameras:
            if camera.name == name:
                return camera
        names = ", ".join(camera.name for camera in self.cameras)
        raise EmbodimentError(f"{self.path}: there is no camera {name!r}; it has: {names}")

    @staticmethod
    def load(robot: str | Path) -> Embodiment:
        """Read `robot`: a file's path, or the name of a file in the installed `config/robots`.

        Raises:
            EmbodimentError: the file is missing or wrong; the message names everything that is, each with its line.
        """
        file = open_yaml(find_embodiment(robot), EmbodimentError, extends=True)
        embodiment = _parse(file)
        file.finish()
        return embodiment


def find_embodiment(robot: str | Path) -> Path:
    """The file that `robot` names."""
    path = Path(robot)
    if path.suffix in (".yaml", ".yml"):
        if not os.path.isfile(path):
            raise EmbodimentError(f"{path}: no such embodiment file")
        return path
    folder = share_directory() / "config" / "robots"
    path = folder / f"{robot}.yaml"
    if not os.path.isfile(path):
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml"))) or "none"
        raise EmbodimentError(
            f"there is no robot {str(robot)!r}; known: {known}. Give one of them or a file ending in .yaml"
        )
    return path


def _parse(file: Reader) -> Embodiment:
    version = file.anything("format_version")
    if file.good("format_version") and version != FORMAT_VERSION:
        file.fail("format_version", f"must be {FORMAT_VERSION}, got {shown(version)}")
    entries = file.sections("joints")
    joints = tuple(read_joint(entry) for entry in entries)
    if len({joint.name for joint in joints}) != len(joints):
        file.fail("joints", "names must differ")
    if len(joints) > MAX_JOINTS:
        file.fail(
            "joints",
            f"at most {MAX_JOINTS} are possible, got {len(joints)}; the others can be left out, so that they are locked",
        )
    home = file.vector("home", len(joints) if file.good("joints") else None)
    control, geofence = file.section("control"), file.section("geofence")
    places = effector_places(file, geofence)
    model_path = read_model_path(file)
    mounts = read_mounts(places)
    changes = read_changes(file, entries, places, mounts or ())
    found = _survey(file, model_path, changes) if mounts is not None else None
    end_effectors = read_effectors(places, found)
    box = read_box(geofence)
    has_elbow = any(effector.elbow_frame for effector in end_effectors)
    fences = (box, *(read_fence(entry, has_elbow) for entry in geofence.sections("fences", optional=True)))
    base_frame = file.text("base_frame")
    tool_frames = tuple(effector.frame for effector in end_effectors)
    cameras = file.sections("cameras", optional=True)
    state_features, action_features = _features(file, joints, end_effectors)
    settings = read_control(control)
    embodiment = Embodiment(
        name=_name(file),
        description=file.text("description", ""),
        path=file.path,
        model_path=model_path or file.path,
        base_frame=base_frame,
        joints=joints,
        home=home,
        end_effectors=end_effectors,
        control=settings,
        impedance=read_impedance(control, joints, len(end_effectors)),
        tool_limits=read_tool_limits(control),
        geofence_min=box.low,
        geofence_max=box.high,
        fences=fences,
        cameras=read_cameras(file, cameras, base_frame, tool_frames, found),
        hardware=read_hardware(
            file.section("hardware"), settings.rate_hz if control.good("rate_hz") else None
        ),
        calibration=_calibration(
            file.section("calibration", optional=True), joints, len(end_effectors), model_path, found, changes
        ),
        state_features=state_features,
        action_features=action_features,
        model_changes=changes,
    )
    if found is not None and file.clean:
        _check_against_model(file, embodiment, found)
    return embodiment


def _name(file: Reader) -> str:
    """The robot's name, of which folders and files of recordings are made."""
    name = file.text("name")
    if "/" in name or not name.isprintable():
        file.fail("name", f"must have neither / nor control characters, got {shown(name)}")
    return name


def _features(
    file: Reader, joints: tuple[Joint, ...], end_effectors: tuple[EndEffector, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of state and action in recordings; where the file gives none: every joint, and every gripper that there is."""
    section = file.section("features", optional=True)
    grippers = [effector.name for effector in end_effectors if effector.gripper.kind != "none"]
    default = (*(f"{joint.name}.pos" for joint in joints), *(f"{name}.opening" for name in grippers))
    state = section.texts("state", default)
    if file.good("joints") and section.good("state") and len(state) != len(default):
        section.fail(
            "state", f"must name each joint and each gripper, {len(default)} in all, got {len(state)} names"
        )
    return state, section.texts("action", default)


def _survey(file: Reader, path: Path | None, changes: ModelChanges) -> Survey | None:
    """What the model has; None where it cannot be read, which is noted."""
    if path is None:
        return None
    from physai_base.models.published import ModelError, survey

    try:
        return survey(path, changes)
    except ModelError as error:
        file.fail(error.entry if file.has(error.entry) else "end_effectors", str(error))
        return None


def _calibration(
    section: Reader,
    joints: tuple[Joint, ...],
    n_tools: int,
    path: Path | None,
    found: Survey | None,
    changes: ModelChanges,
) -> Calibration:
    n = len(joints)
    friction = _model_friction(path, found, joints, changes)
    if section.has("friction"):
        entries = section.sections("friction")
        if section.good("friction") and len(entries) != n:
            section.fail("friction", f"must have one entry for each of the {n} joints, got {len(entries)}")
        friction = tuple(
            Friction(
                coulomb=entry.number("coulomb", 0, 1e3),
                slope=entry.number("slope", 0.1, 1e4),
                shift=entry.number("shift", -10, 10),
                viscous=entry.number("viscous", 0, 1e3),
            )
            for entry in entries
        )
    residual = section.file("residual", None)
    if residual is not None and section.good("residual") and not os.path.isdir(residual):
        section.fail("residual", f"no such bundle: {residual}")
    return Calibration(
        friction=friction,
        encoder_offset=section.vector("encoder_offset", n, default=np.zeros(n).tolist()),
        payloads=_payloads(section, n_tools),
        command_delay_s=section.number("command_delay", 0, 0.1, 0.0),
        residual=residual,
    )


def _payloads(section: Reader, n_tools: int) -> tuple[Payload, ...]:
    """What each hand carries: a mapping of one arm, a list of several in the order of `end_effectors`."""
    if not section.has("payload"):
        return (Payload(),) * n_tools
    entries = section.sections("payload") if n_tools > 1 else [section.section("payload")]
    if section.good("payload") and len(entries) != n_tools:
        section.fail(
            "payload", f"must have one entry for each of the {n_tools} end effectors, got {len(entries)}"
        )
    return tuple(Payload(entry.number("mass", 0, 1e3), entry.vector("com", 3)) for entry in entries)


def _model_friction(
    path: Path | None, found: Survey | None, joints: tuple[Joint, ...], changes: ModelChanges
) -> tuple[Friction, ...]:
    """Friction of the robot model: MuJoCo's frictionloss and damping."""
    if path is None or found is None:
        return tuple(Friction() for _ in joints)
    from physai_base.models.published import published

    model, given, result = published(path, changes), dict(changes.friction), []
    for joint in joints:
        if joint.name not in found.limits:
            result.append(Friction())  # `_check_against_model` says so
            continue
        dof = model.joint(joint.name).dofadr[0]
        result.append(
            Friction(
                coulomb=given.get(joint.name, float(model.dof_frictionloss[dof])),
                viscous=float(model.dof_damping[dof]),
            )
        )
    return tuple(result)


def _check_against_model(file: Reader, embodiment: Embodiment, found: Survey) -> None:
    """What the file names must be in the model, and within what it allows."""
    from physai_base.models.published import ModelError
    from physai_base.robot_model import load_robot

    for joint in embodiment.joints:
        if joint.name in embodiment.finger_joints:
            file.fail("joints", f"{joint.name} is also a finger of a gripper")
        limit = found.limits.get(joint.name)
        if limit is None:
            file.fail(
                "joints",
                f"{embodiment.model_path.name} has no joint {joint.name!r}; it has: {', '.join(found.limits)}",
            )
        elif joint.position_min < limit.lower - 1e-6 or joint.position_max > limit.upper + 1e-6:
            file.fail(
                "joints",
                f"{joint.name}: position [{joint.position_min:g}, {joint.position_max:g}] "
                f"exceeds the model's range [{limit.lower:g}, {limit.upper:g}]",
            )
    for end in embodiment.end_effectors:
        if end.elbow_frame and end.elbow_frame not in (*found.bodies, *found.sites):
            file.fail(
                "end_effectors" if file.has("end_effectors") else "geofence",
                f"elbow_frame: {embodiment.model_path.name} has no site, body or link {end.elbow_frame!r}",
            )
    for joint, angle in zip(embodiment.joints, embodiment.home, strict=True):
        if not joint.position_min < angle < joint.position_max:
            limits = f"[{joint.position_min:g}, {joint.position_max:g}]"
            file.fail("home", f"{joint.name} at {angle:g} rad is outside its limits {limits}")
    if not file.clean:
        return
    try:
        load_robot(embodiment)
    except ModelError as error:
        file.fail(error.entry if file.has(error.entry) else "end_effectors", str(error))
