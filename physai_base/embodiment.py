"""The embodiment file: everything that is particular to one robot, checked when it is read.

An embodiment is refused, with the reason, when a number is not finite, a limit is inverted, a gain is
negative, an entry is unknown, or its joints disagree with its robot model in name, order or range.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from physai_base.embodiment_parts import (
    COMMANDS,
    FENCE_KINDS,
    FENCE_POINTS,
    GATES,
    LAWS,
    Calibration,
    Camera,
    ControlSettings,
    EndEffector,
    Fence,
    Finger,
    Friction,
    Gripper,
    Hand,
    Hardware,
    Impedance,
    Joint,
    ToolLimits,
)
from physai_base.errors import EmbodimentError, shown
from physai_base.reader import Reader, open_yaml
from physai_base.resources import share_directory

FORMAT_VERSION = 1
MIN_EFFORT_RATE_HZ = 300  # torques over topics run away below: docs/hardware.md
MAX_GATE_MS = 200


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
    joints = tuple(_joint(entry) for entry in file.sections("joints"))
    if len({joint.name for joint in joints}) != len(joints):
        file.fail("joints", "names must differ")
    model_path = file.file("model") or file.path
    model = _read_model(file, model_path)
    home = file.vector("home", len(joints) if file.good("joints") else None)
    control, geofence = file.section("control"), file.section("geofence")
    box = _box(geofence)
    elbow_frame = geofence.text("elbow_frame", "")
    fences = (box, *(_fence(entry, elbow_frame) for entry in geofence.sections("fences", optional=True)))
    base_frame, tool_frame = file.text("base_frame"), file.text("tool_frame")
    gripper = _gripper(file.section("gripper"))
    features = file.section("features")
    settings = _control(control)
    embodiment = Embodiment(
        name=file.text("name"),
        description=file.text("description"),
        path=file.path,
        model_path=model_path,
        base_frame=base_frame,
        joints=joints,
        home=home,
        end_effectors=(EndEffector("tool", tool_frame, gripper, _hand(file), elbow_frame),),
        control=settings,
        impedance=_impedance(control, joints),
        tool_limits=_tool_limits(control),
        geofence_min=box.low,
        geofence_max=box.high,
        fences=fences,
        cameras=tuple(_camera(entry, base_frame, tool_frame) for entry in file.sections("cameras")),
        hardware=_hardware(file.section("hardware"), settings.rate_hz if control.good("rate_hz") else None),
        calibration=_calibration(file.section("calibration", optional=True), joints, model),
        state_features=features.texts("state"),
        action_features=features.texts("action"),
    )
    if model is not None and file.good("joints", "home", "tool_frame", "gripper"):
        _check_against_model(file, embodiment, model)
    return embodiment


def _joint(entry: Reader) -> Joint:
    low, high = entry.bounds("position")
    braking = entry.section("braking")
    torque_rate = entry.number("torque_rate", 1e-3, 1e6)
    return Joint(
        name=entry.text("name"),
        position_min=low,
        position_max=high,
        velocity=entry.number("velocity", 1e-3, 100),
        acceleration=entry.number("acceleration", 1e-3, 1e4),
        jerk=entry.number("jerk", 1e-3, 1e6),
        torque=entry.number("torque", 1e-3, 1e4),
        torque_rate=torque_rate,
        stop_torque_rate=entry.number("stop_torque_rate", 1e-3, 1e6, torque_rate),
        contact_torque=entry.number("contact_torque", 0, 1e4, 0.0),
        stiffness=entry.number("stiffness", 0, 14250),
        damping_ratio=entry.number("damping_ratio", 0, 5),
        clip=entry.number("clip", 1e-4, 7, 0.5),
        braking_decel_2a=braking.number("decel_2a", 1e-3, 1e3),
        braking_offset=braking.number("offset", 0, 10),
    )


def _gripper(gripper: Reader) -> Gripper:
    low, high = gripper.bounds("width")
    joints = gripper.texts("joints")
    share = high / max(1, len(joints))  # each finger opens by its share of the width
    return Gripper(
        kind="parallel",
        fingers=tuple(Finger(joint, low / max(1, len(joints)), share) for joint in joints),
        opening_min=low,
        opening_max=high,
        speed=gripper.number("speed", 0.001, 10),
        force=gripper.number("force", 0.1, 1000),
    )


def _hand(file: Reader) -> Hand:
    hand = file.section("hand", optional=True)
    return Hand(
        tip=hand.number("tip", 0, 1, 0.0),
        length=hand.number("length", 0, 2, 0.0),
        reach=hand.number("reach", 0, 2, 0.0),
    )


def _control(control: Reader) -> ControlSettings:
    contact, reduced = control.section("contact", optional=True), control.section("reduced", optional=True)
    return ControlSettings(
        rate_hz=control.number("rate_hz", 100, 10_000),
        blend_s=control.number("blend_s", 0.005, 2),
        gain_ramp_s=control.number("gain_ramp_s", 0, 10),
        stop_acceleration=control.number("stop_acceleration", 0.1, 100),
        state_timeout_s=control.number("state_timeout_s", 0.001, 1),
        velocity_trip=control.number("velocity_trip", 1, 2),
        tracking_trip_rad=control.number("tracking_trip_rad", 0.001, 3.2),
        pose_trip=_pair(control, "pose_trip", (0.15, 0.8), 1e-4, 10),
        contact_force=contact.number("force", 0, 1e4, 0.0),
        contact_moment=contact.number("moment", 0, 1e4, 0.0),
        reduced_speed=reduced.number("speed", 0.01, 1, 0.25),
        reduced_tool_speed=reduced.number("tool_speed", 0.001, 10, 0.25),
        reduced_force=reduced.number("force", 0.01, 1, 0.5),
    )


def _impedance(control: Reader, joints: tuple[Joint, ...]) -> Impedance:
    cartesian = control.section("cartesian", optional=True)
    nullspace, tank = control.section("nullspace", optional=True), control.section("tank", optional=True)
    stiffness = cartesian.vector("stiffness", 6, 0, 5000, (600.0,) * 3 + (30.0,) * 3)
    return Impedance(
        law=control.choice("law", LAWS, "joint"),
        stiffness=tuple(joint.stiffness for joint in joints),
        damping_ratio=tuple(joint.damping_ratio for joint in joints),
        clip=tuple(joint.clip for joint in joints),
        cartesian_stiffness=tuple(stiffness.tolist()),
        cartesian_damping_ratio=_pair(cartesian, "damping_ratio", (1.0, 1.0), 0, 5),
        cartesian_clip=_pair(cartesian, "clip", (0.05, 0.4), 1e-4, 3.1),
        nullspace_stiffness=nullspace.number("stiffness", 0, 500, 10.0),
        nullspace_damping_ratio=nullspace.number("damping_ratio", 0, 5, 1.0),
        friction_compensation=control.number("friction_compensation", 0, 1, 0.0),
        tank_energy=tank.number("energy", 0, 1e4, 0.0),
        tank_power=tank.number("power", 0, 1e4, 0.0),
    )


def _tool_limits(control: Reader) -> ToolLimits:
    limits = control.section("tool_limits", optional=True)
    return ToolLimits(
        velocity=_pair(limits, "velocity", (1.0, 2.5), 1e-3, 100),
        acceleration=_pair(limits, "acceleration", (9.0, 17.0), 1e-3, 1e4),
        jerk=_pair(limits, "jerk", (4500.0, 8500.0), 1e-3, 1e6),
    )


def _pair(
    entry: Reader, key: str, default: tuple[float, float], low: float, high: float
) -> tuple[float, float]:
    first, second = entry.vector(key, 2, low, high, default).tolist()
    return first, second


def _box(geofence: Reader) -> Fence:
    low, high = geofence.vector("min", 3), geofence.vector("max", 3)
    if geofence.good("min", "max") and not (low < high).all():
        geofence.fail("min", "must be below max on every axis")
    return Fence("inside", ("tool",), low, high)


def _fence(entry: Reader, elbow_frame: str) -> Fence:
    points = entry.texts("points", ("tool",))
    if entry.good("points") and not (points and set(points) <= set(FENCE_POINTS)):
        entry.fail("points", f"must name some of {', '.join(FENCE_POINTS)}, got {', '.join(points)}")
    if "elbow" in points and not elbow_frame:
        entry.fail("points", "names the elbow, but geofence.elbow_frame does not say which body that is")
    kind = entry.choice("kind", FENCE_KINDS)
    if kind == "plane":
        normal = entry.vector("normal", 3)
        length = float(np.linalg.norm(normal))
        if entry.good("normal") and length < 1e-6:
            entry.fail("normal", "must not be zero")
        return Fence(
            "plane", points, normal=normal / max(length, 1e-6), offset=entry.number("offset", -100, 100)
        )
    low, high = entry.vector("min", 3), entry.vector("max", 3)
    if entry.good("min", "max") and not (low < high).all():
        entry.fail("max", "must be above min on every axis")
    return Fence(kind, points, low, high)


def _camera(entry: Reader, base_frame: str, tool_frame: str) -> Camera:
    parent = entry.text("parent")
    if entry.good("parent") and parent not in (base_frame, tool_frame):
        entry.fail("parent", f"must be {base_frame} or {tool_frame}, got {parent!r}")
    position, look_at = entry.vector("position", 3), entry.vector("look_at", 3)
    if entry.good("position", "look_at") and np.linalg.norm(look_at - position) < 1e-6:
        entry.fail("look_at", "must differ from position")
    return Camera(
        name=entry.text("name"),
        frame=entry.text("frame"),
        parent=parent,
        position=position,
        look_at=look_at,
        width=entry.whole("width", 16, 8192),
        height=entry.whole("height", 16, 8192),
        fovy_deg=entry.number("fovy_deg", 5, 150),
        rate_hz=entry.number("rate_hz", 0.1, 240),
    )


def _hardware(hardware: Reader, rate_hz: float | None) -> Hardware:
    backend = hardware.text("backend")
    gravity = hardware.choice("gravity", ("controller", "robot"))
    command = hardware.choice("command", COMMANDS, "effort")
    has_gate = hardware.has("gate")
    gate = hardware.section("gate", optional=True)
    action = gate.choice("action", GATES) if has_gate else ""
    if has_gate:
        gate.number("within_ms", 1, MAX_GATE_MS)
    # Names of options are the backend's own, which refuses those that it does not know.
    options = {str(key): str(node.plain()) for key, node in hardware.section("options").items()}
    if backend == "topic":
        if options.setdefault("command", command) != command:
            hardware.fail("options", f"command must be as hardware.command, {command}, or not be given")
        if options.setdefault("gate", action or "none") != (action or "none"):
            hardware.fail("options", "gate is hardware.gate.action; give that alone")
        if command == "effort":
            _check_effort_over_topics(hardware, has_gate, rate_hz)
    return Hardware(backend=backend, gravity=gravity, command=command, options=options, gate=action)


def _check_effort_over_topics(hardware: Reader, has_gate: bool, rate_hz: float | None) -> None:
    if rate_hz is not None and rate_hz < MIN_EFFORT_RATE_HZ:
        hardware.fail(
            "command",
            f"effort over topics needs control.rate_hz of at least {MIN_EFFORT_RATE_HZ} Hz, got {rate_hz:g} Hz, where "
            "the loop runs away; take command: position, or the robot's states faster",
        )
    if not has_gate:
        hardware.fail(
            "gate",
            "is missing: effort over topics needs something on the robot's side that stops the arm when commands end, "
            f"declared as gate: {{action: {' | '.join(GATES)}, within_ms: 20}}; a forward controller has none and keeps "
            "the last torque for ever: take command: position there (docs/hardware.md)",
        )


def _calibration(section: Reader, joints: tuple[Joint, ...], model: Any) -> Calibration:
    n = len(joints)
    friction = _model_friction(model, joints)
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
    mass, com = 0.0, np.zeros(3)
    if section.has("payload"):
        payload = section.section("payload")
        mass, com = payload.number("mass", 0, 1e3), payload.vector("com", 3)
    residual = section.file("residual", None)
    if residual is not None and section.good("residual") and not os.path.isdir(residual):
        section.fail("residual", f"no such bundle: {residual}")
    return Calibration(
        friction=friction,
        encoder_offset=section.vector("encoder_offset", n, default=np.zeros(n).tolist()),
        payload_mass=mass,
        payload_com=com,
        command_delay_s=section.number("command_delay", 0, 0.1, 0.0),
        residual=residual,
    )


def _model_friction(model: Any, joints: tuple[Joint, ...]) -> tuple[Friction, ...]:
    """Friction of the robot model: MuJoCo's frictionloss and damping."""
    names = {model.joint(i).name for i in range(model.njnt)} if model is not None else set()
    found = []
    for joint in joints:
        if joint.name not in names:
            found.append(Friction())  # `_check_against_model` says so
            continue
        dof = model.joint(joint.name).dofadr[0]
        found.append(
            Friction(coulomb=float(model.dof_frictionloss[dof]), viscous=float(model.dof_damping[dof]))
        )
    return tuple(found)


def _read_model(file: Reader, path: Path) -> Any:
    """MuJoCo's model; None where there is none, which is noted."""
    if not file.good("model"):
        return None
    if not os.path.isfile(path):  # False also for a name that no file can have
        file.fail("model", f"no such file: {path}")
        return None
    import mujoco

    try:
        return mujoco.MjModel.from_xml_path(str(path))
    except ValueError as error:
        file.fail("model", f"{path}: MuJoCo refuses it: {error}")
        return None


def _check_against_model(file: Reader, embodiment: Embodiment, model: Any) -> None:
    """Joints of the file and of the robot model must agree in name, order and range."""
    names = tuple(model.joint(i).name for i in range(model.njnt))
    expected = embodiment.joint_names + embodiment.finger_joints
    if names != expected:
        file.fail(
            "joints",
            f"joints and gripper.joints must name the joints of {embodiment.model_path.name} in its order: "
            f"got {', '.join(expected)}; the model has {', '.join(names)}",
        )
        return
    for i, joint in enumerate(embodiment.joints):
        low, high = model.jnt_range[i]
        if joint.position_min < low - 1e-6 or joint.position_max > high + 1e-6:
            file.fail(
                "joints",
                f"{joint.name}: position [{joint.position_min:g}, {joint.position_max:g}] "
                f"exceeds the model's range [{low:g}, {high:g}]",
            )
    sites = {model.site(i).name for i in range(model.nsite)}
    if embodiment.tool_frame not in sites:
        file.fail(
            "tool_frame",
            f"{embodiment.tool_frame!r} is not a site of the model; it has: {', '.join(sorted(sites))}",
        )
    for joint, angle in zip(embodiment.joints, embodiment.home, strict=True):
        if not joint.position_min < angle < joint.position_max:
            file.fail("home", f"{joint.name} at {angle:g} rad is outside its limits")
