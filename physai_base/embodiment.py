"""The embodiment file: everything that is particular to one robot, checked when it is read.

An embodiment is refused, with the reason, when a number is not finite, a limit is inverted, a gain is
negative, or its joints disagree with its robot model in name, order or range.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from physai_base.errors import EmbodimentError, shown
from physai_base.resources import share_directory

FORMAT_VERSION = 1
MAX_BYTES, MAX_ENTRIES, MAX_DEPTH = 1 << 20, 20_000, 50  # of an embodiment file


@dataclass(frozen=True)
class Joint:
    """Limits and gains of one joint."""

    name: str
    position_min: float  # rad
    position_max: float
    velocity: float  # rad/s
    acceleration: float  # rad/s^2
    jerk: float  # rad/s^3
    torque: float  # Nm
    torque_rate: float  # Nm/s
    stop_torque_rate: float  # Nm/s, while stopping and in a fault
    contact_torque: float  # Nm from outside that latches a fault; 0 for none
    stiffness: float  # Nm/rad
    damping_ratio: float
    clip: float  # rad: an error beyond it does not raise the torque further
    braking_decel_2a: float  # rad/s^2: twice the deceleration available towards the stop
    braking_offset: float  # rad/s


@dataclass(frozen=True)
class Gripper:
    """A parallel gripper; each named finger joint opens by half the width."""

    joints: tuple[str, ...]
    width_min: float  # m
    width_max: float
    speed: float  # m/s
    force: float  # N


@dataclass(frozen=True)
class ControlSettings:
    """Settings of the control core that stay as they are."""

    rate_hz: float
    blend_s: float
    gain_ramp_s: float
    stop_acceleration: float  # rad/s^2
    state_timeout_s: float
    velocity_trip: float  # times the velocity limit
    tracking_trip_rad: float
    pose_trip: tuple[float, float]  # m, rad: the same for the tool under the Cartesian law
    contact_force: float  # N from outside on the tool that latches a fault; 0 for none
    contact_moment: float  # Nm
    reduced_speed: float  # reduced mode: share of the joint velocity limits
    reduced_tool_speed: float  # m/s
    reduced_force: float  # share of the clips and contact thresholds


@dataclass(frozen=True)
class ToolLimits:
    """What a chunk of tool poses may ask for, on each axis: translation (m) and rotation (rad)."""

    velocity: tuple[float, float]
    acceleration: tuple[float, float]
    jerk: tuple[float, float]


LAWS = ("joint", "cartesian")


@dataclass(frozen=True)
class Impedance:
    """The control law and its gains; may change while the arm moves."""

    law: str  # one of LAWS
    stiffness: tuple[float, ...]  # Nm/rad, for each joint
    damping_ratio: tuple[float, ...]
    clip: tuple[float, ...]  # rad
    cartesian_stiffness: tuple[float, ...]  # (6) N/m along and Nm/rad about the axes of the base frame
    cartesian_damping_ratio: tuple[float, float]  # of translation and rotation
    cartesian_clip: tuple[float, float]  # m, rad: the force is at most stiffness times clip
    nullspace_stiffness: float  # Nm/rad
    nullspace_damping_ratio: float
    friction_compensation: float  # share of the friction that is fed forward, 0 to 1
    target_wrench: tuple[float, ...] = (0.0,) * 6  # N, Nm that the tool shall exert, base frame
    tank_energy: float = 0.0  # J that the law may put into the arm; 0: no energy tank
    tank_power: float = 0.0  # W by which the tank fills
    reduced: bool = False  # reduced mode: speed and force scaled
    use_residual: bool = True  # the calibration's learned residual, if there is one


FENCE_KINDS = ("inside", "outside", "plane")
FENCE_POINTS = ("tool", "elbow")


@dataclass(frozen=True)
class Fence:
    """Where the tool or the elbow must be: inside a box, outside of one, or above a plane; base frame, m."""

    kind: str  # one of FENCE_KINDS
    points: tuple[str, ...]  # of FENCE_POINTS
    low: np.ndarray = field(default_factory=lambda: np.zeros(3))  # (3,) of a box
    high: np.ndarray = field(default_factory=lambda: np.zeros(3))
    normal: np.ndarray = field(
        default_factory=lambda: np.zeros(3)
    )  # (3,) unit, of a plane: normal . p >= offset
    offset: float = 0.0


@dataclass(frozen=True)
class Camera:
    """A camera, where it is meant to be and how it is named."""

    name: str
    frame: str
    parent: str  # base frame or tool frame
    position: np.ndarray  # (3,) m in the parent frame
    look_at: np.ndarray  # (3,) m in the parent frame
    width: int
    height: int
    fovy_deg: float
    rate_hz: float

    def intrinsics(self) -> np.ndarray:
        """Pinhole matrix K (3, 3), square pixels, principal point in the middle."""
        focal = 0.5 * self.height / math.tan(math.radians(self.fovy_deg) / 2)
        return np.array([[focal, 0, (self.width - 1) / 2], [0, focal, (self.height - 1) / 2], [0, 0, 1]])

    def nominal_pose(self) -> np.ndarray:
        """T_parent_optical (4, 4): z looks at the target, x to the right, y down (REP 103)."""
        z = self.look_at - self.position
        z = z / np.linalg.norm(z)
        up = np.array([0.0, 0.0, 1.0]) if abs(z[2]) < 0.95 else np.array([1.0, 0.0, 0.0])
        x = np.cross(z, up)
        x = x / np.linalg.norm(x)
        pose = np.eye(4)
        pose[:3, :3] = np.column_stack([x, np.cross(z, x), z])
        pose[:3, 3] = self.position
        return pose


@dataclass(frozen=True)
class Hardware:
    """Which backend drives the robot and who adds gravity."""

    backend: str
    gravity: str  # "controller" | "robot"
    command: str  # "effort" | "position" | "velocity": what the robot takes
    options: dict[str, str]


@dataclass(frozen=True)
class Friction:
    """Friction of one joint that moves at dq: coulomb (tanh(slope/2 (dq + shift)) - tanh(slope/2 shift)) + viscous dq.

    The sigmoid of Gaz et al., "Dynamic identification of the Franka Emika Panda robot" (RA-L 2019), whose
    fp1 is twice `coulomb`, plus a viscous term.
    """

    coulomb: float = 0.0  # Nm
    slope: float = 100.0  # s/rad
    shift: float = 0.0  # rad/s
    viscous: float = 0.0  # Nm s/rad


@dataclass(frozen=True)
class Calibration:
    """What was identified on this very robot; `physai calibrate` writes it."""

    friction: tuple[Friction, ...]  # one for each joint; without a calibration that of the model
    encoder_offset: np.ndarray  # (n,) rad, subtracted from what the encoders say
    payload_mass: float = 0.0  # kg, beyond the model's hand
    payload_com: np.ndarray = field(default_factory=lambda: np.zeros(3))  # (3,) m in the tool frame
    command_delay_s: float = 0.0  # from a command to its torque
    residual: Path | None = None  # bundle of the learned residual


@dataclass(frozen=True)
class Embodiment:
    """One robot; read it with `Embodiment.load`."""

    name: str
    description: str
    path: Path
    model_path: Path
    base_frame: str
    tool_frame: str
    joints: tuple[Joint, ...]
    home: np.ndarray  # (n,) rad
    gripper: Gripper
    control: ControlSettings
    impedance: Impedance  # at the start
    tool_limits: ToolLimits
    geofence_min: np.ndarray  # (3,) m, the box for the tool
    geofence_max: np.ndarray
    fences: tuple[Fence, ...]  # that box first
    elbow_frame: str  # body of the model that fences may hold for; empty: none
    cameras: tuple[Camera, ...]
    hardware: Hardware
    calibration: Calibration
    state_features: tuple[str, ...]
    action_features: tuple[str, ...]

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Joint names in command order."""
        return tuple(joint.name for joint in self.joints)

    def limits(self, field: str) -> np.ndarray:
        """One number per joint, e.g. `limits("velocity")`."""
        return np.array([getattr(joint, field) for joint in self.joints])

    def with_hardware_option(self, key: str, value: str) -> Embodiment:
        """The same robot with an option for its hardware backend, unless its file gives that option."""
        hardware = replace(self.hardware, options={key: value, **self.hardware.options})
        return replace(self, hardware=hardware)

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
            EmbodimentError: the file is missing or wrong; the message names the entry.
        """
        path = find_embodiment(robot)
        embodiment = _parse(_Reader(path, _read(path)))
        _check_against_model(embodiment)
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


def _read(path: Path, extended_by: tuple[Path, ...] = ()) -> Any:
    """The YAML document; one that `extends` another file has that one's entries under its own."""
    document = _yaml(path)
    if not isinstance(document, dict) or "extends" not in document:
        return document
    file = _Reader(path, document)
    base_path = path.parent / file.text("extends")
    if base_path in (path, *extended_by):
        raise file.fail("extends", f"{base_path} extends itself")
    if not os.path.isfile(base_path):
        raise file.fail("extends", f"no such file: {base_path}")
    base = _read(base_path, (path, *extended_by))
    if not isinstance(base, dict):
        raise file.fail("extends", f"{base_path} must be a mapping")
    if isinstance(base.get("model"), str):
        base["model"] = str(base_path.parent / base["model"])
    del document["extends"]
    return _overlay(base, document)


def _overlay(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """`own` over `base`, as RFC 7396 merges: mappings entry by entry, null removes, everything else replaces."""
    merged = dict(base)
    for key, value in own.items():
        if isinstance(value, dict):
            under = base.get(key)
            merged[key] = _overlay(under if isinstance(under, dict) else {}, value)
        elif value is None:
            merged.pop(key, None)
        else:
            merged[key] = value
    return merged


def _yaml(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise EmbodimentError(f"{path}: is larger than {MAX_BYTES} bytes; an embodiment file is not")
        document = yaml.safe_load(data.decode())
    except (OSError, yaml.YAMLError, RecursionError, ValueError, ArithmeticError, LookupError, AttributeError, TypeError) as error:  # fmt: skip
        # PyYAML lets most of them out of its constructors: `!!int x`, `!!bool x`, `!!timestamp x`, 2026-99-99.
        raise EmbodimentError(f"{path}: cannot be read as YAML: {error}") from error
    _check_size(path, document)
    return document


def _check_size(path: Path, document: Any) -> None:
    """Aliases make a short file stand for a document without end, and YAML's integers have no bound either."""
    entries, left = 0, [(document, 0)]
    while left:
        value, depth = left.pop()
        entries += 1
        if entries > MAX_ENTRIES or depth > MAX_DEPTH:
            raise EmbodimentError(
                f"{path}: has more than {MAX_ENTRIES} entries, or more than {MAX_DEPTH} within each other, "
                "with those that aliases (*name) stand for; write out what is meant"
            )
        if isinstance(value, int) and value.bit_length() > 1023:
            raise EmbodimentError(f"{path}: holds an integer that no floating-point number can be")
        if isinstance(value, dict):
            left += [(item, depth + 1) for pair in value.items() for item in pair]
        elif isinstance(value, list | tuple | set):
            left += [(item, depth + 1) for item in value]


class _Reader:
    """Takes typed entries out of a YAML mapping and remembers where it is, for error messages."""

    def __init__(self, path: Path, document: Any, where: str = "") -> None:
        self.path = path
        self.where = where
        if not isinstance(document, dict):
            raise EmbodimentError(f"{path}: {where or 'the file'} must be a mapping")
        self.document = document

    def fail(self, key: str, message: str) -> EmbodimentError:
        name = f"{self.where}.{key}" if self.where else key
        return EmbodimentError(f"{self.path}: {name}: {message}")

    def take(self, key: str) -> Any:
        if key not in self.document:
            raise self.fail(key, "is missing")
        return self.document[key]

    def text(self, key: str) -> str:
        value = self.take(key)
        if not isinstance(value, str) or not value:
            raise self.fail(key, f"must be text, got {shown(value)}")
        return value

    def number(self, key: str, low: float = -math.inf, high: float = math.inf) -> float:
        return self._finite(key, self.take(key), low, high)

    def _finite(self, key: str, value: Any, low: float, high: float) -> float:
        # bool is an int in Python, and YAML reads "yes" as one.
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.fail(key, f"must be a number, got {shown(value)}")
        if not math.isfinite(value):
            raise self.fail(key, f"must be finite, got {shown(value)}")
        if not low <= value <= high:
            raise self.fail(key, f"must be within [{low:g}, {high:g}], got {shown(value)}")
        return float(value)

    def vector(self, key: str, length: int) -> np.ndarray:
        value = self.take(key)
        if not isinstance(value, list) or len(value) != length:
            raise self.fail(key, f"must be a list of {length} numbers, got {shown(value)}")
        return np.array([self._finite(key, item, -math.inf, math.inf) for item in value])

    def bounds(self, key: str) -> tuple[float, float]:
        low, high = self.vector(key, 2)
        if not low < high:
            raise self.fail(key, f"the lower bound {low:g} must be below the upper bound {high:g}")
        return low, high

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.take(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.fail(key, f"must be a list of names, got {shown(value)}")
        if len(set(value)) != len(value):
            raise self.fail(key, f"names must differ, got {shown(value)}")
        return tuple(value)

    def numbers(self, key: str, default: tuple[float, ...], low: float, high: float) -> tuple[float, ...]:
        """As many numbers as the default has, which stands when the entry is missing."""
        if key not in self.document:
            return default
        value = self.take(key)
        if not isinstance(value, list) or len(value) != len(default):
            raise self.fail(key, f"must be a list of {len(default)} numbers, got {shown(value)}")
        return tuple(self._finite(key, item, low, high) for item in value)

    def default(self, key: str, default: float, low: float, high: float) -> float:
        return self.number(key, low, high) if key in self.document else default

    def pair(self, key: str, default: tuple[float, float], low: float, high: float) -> tuple[float, float]:
        first, second = self.numbers(key, default, low, high)
        return first, second

    def choice(self, key: str, allowed: tuple[str, ...], default: str) -> str:
        value = self.text(key) if key in self.document else default
        if value not in allowed:
            raise self.fail(key, f"must be one of {', '.join(allowed)}, got {shown(value)}")
        return value

    def optional_section(self, key: str) -> _Reader:
        return self.section(key) if key in self.document else _Reader(self.path, {}, f"{self.where}.{key}")

    def optional_sections(self, key: str) -> list[_Reader]:
        return self.sections(key) if key in self.document else []

    def section(self, key: str) -> _Reader:
        return _Reader(self.path, self.take(key), f"{self.where}.{key}" if self.where else key)

    def sections(self, key: str) -> list[_Reader]:
        value = self.take(key)
        if not isinstance(value, list) or not value:
            raise self.fail(key, "must be a list with at least one entry")
        return [_Reader(self.path, item, f"{key}[{i}]") for i, item in enumerate(value)]


def _parse(file: _Reader) -> Embodiment:
    version = file.take("format_version")
    if version != FORMAT_VERSION:
        raise file.fail("format_version", f"must be {FORMAT_VERSION}, got {shown(version)}")
    joints = tuple(_joint(entry) for entry in file.sections("joints"))
    if len({joint.name for joint in joints}) != len(joints):
        raise file.fail("joints", "names must differ")
    model_path = file.path.parent / file.text("model")
    if not os.path.isfile(model_path):  # False also for a name that no file can have
        raise file.fail("model", f"no such file: {model_path}")
    home = file.vector("home", len(joints))
    gripper = file.section("gripper")
    width = gripper.bounds("width")
    control = file.section("control")
    geofence = file.section("geofence")
    geofence_min, geofence_max = geofence.vector("min", 3), geofence.vector("max", 3)
    if not (geofence_min < geofence_max).all():
        raise file.fail("geofence", "min must be below max on every axis")
    elbow_frame = geofence.text("elbow_frame") if "elbow_frame" in geofence.document else ""
    box = Fence("inside", ("tool",), geofence_min, geofence_max)
    fences = (box, *(_fence(entry, elbow_frame) for entry in geofence.optional_sections("fences")))
    base_frame, tool_frame = file.text("base_frame"), file.text("tool_frame")
    hardware = file.section("hardware")
    gravity = hardware.text("gravity")
    if gravity not in ("controller", "robot"):
        raise hardware.fail("gravity", f"must be controller or robot, got {shown(gravity)}")
    command = hardware.choice("command", ("effort", "position", "velocity"), "effort")
    backend = hardware.text("backend")
    options = {key: str(value) for key, value in hardware.section("options").document.items()}
    if backend == "topic" and options.setdefault("command", command) != command:
        raise hardware.fail("options.command", f"must be as hardware.command, {command}, or not be given")
    features = file.section("features")
    return Embodiment(
        name=file.text("name"),
        description=file.text("description"),
        path=file.path,
        model_path=model_path,
        base_frame=base_frame,
        tool_frame=tool_frame,
        joints=joints,
        home=home,
        gripper=Gripper(
            joints=gripper.texts("joints"),
            width_min=width[0],
            width_max=width[1],
            speed=gripper.number("speed", 0.001, 10),
            force=gripper.number("force", 0.1, 1000),
        ),
        control=_control(control),
        impedance=_impedance(control, joints),
        tool_limits=_tool_limits(control),
        geofence_min=geofence_min,
        geofence_max=geofence_max,
        fences=fences,
        elbow_frame=elbow_frame,
        cameras=tuple(_camera(entry, base_frame, tool_frame) for entry in file.sections("cameras")),
        hardware=Hardware(
            backend=backend,
            gravity=gravity,
            command=command,
            options=options,
        ),
        calibration=_calibration(file, joints, model_path),
        state_features=features.texts("state"),
        action_features=features.texts("action"),
    )


def _joint(entry: _Reader) -> Joint:
    low, high = entry.bounds("position")
    braking = entry.section("braking")
    return Joint(
        name=entry.text("name"),
        position_min=low,
        position_max=high,
        velocity=entry.number("velocity", 1e-3, 100),
        acceleration=entry.number("acceleration", 1e-3, 1e4),
        jerk=entry.number("jerk", 1e-3, 1e6),
        torque=entry.number("torque", 1e-3, 1e4),
        torque_rate=entry.number("torque_rate", 1e-3, 1e6),
        stop_torque_rate=entry.default("stop_torque_rate", entry.number("torque_rate"), 1e-3, 1e6),
        contact_torque=entry.default("contact_torque", 0.0, 0, 1e4),
        stiffness=entry.number("stiffness", 0, 14250),
        damping_ratio=entry.number("damping_ratio", 0, 5),
        clip=entry.default("clip", 0.5, 1e-4, 7),
        braking_decel_2a=braking.number("decel_2a", 1e-3, 1e3),
        braking_offset=braking.number("offset", 0, 10),
    )


def _control(control: _Reader) -> ControlSettings:
    contact, reduced = control.optional_section("contact"), control.optional_section("reduced")
    return ControlSettings(
        rate_hz=control.number("rate_hz", 100, 10_000),
        blend_s=control.number("blend_s", 0.005, 2),
        gain_ramp_s=control.number("gain_ramp_s", 0, 10),
        stop_acceleration=control.number("stop_acceleration", 0.1, 100),
        state_timeout_s=control.number("state_timeout_s", 0.001, 1),
        velocity_trip=control.number("velocity_trip", 1, 2),
        tracking_trip_rad=control.number("tracking_trip_rad", 0.001, 3.2),
        pose_trip=control.pair("pose_trip", (0.15, 0.8), 1e-4, 10),
        contact_force=contact.default("force", 0.0, 0, 1e4),
        contact_moment=contact.default("moment", 0.0, 0, 1e4),
        reduced_speed=reduced.default("speed", 0.25, 0.01, 1),
        reduced_tool_speed=reduced.default("tool_speed", 0.25, 0.001, 10),
        reduced_force=reduced.default("force", 0.5, 0.01, 1),
    )


def _impedance(control: _Reader, joints: tuple[Joint, ...]) -> Impedance:
    cartesian, nullspace = control.optional_section("cartesian"), control.optional_section("nullspace")
    tank = control.optional_section("tank")
    return Impedance(
        law=control.choice("law", LAWS, "joint"),
        stiffness=tuple(joint.stiffness for joint in joints),
        damping_ratio=tuple(joint.damping_ratio for joint in joints),
        clip=tuple(joint.clip for joint in joints),
        cartesian_stiffness=cartesian.numbers("stiffness", (600.0,) * 3 + (30.0,) * 3, 0, 5000),
        cartesian_damping_ratio=cartesian.pair("damping_ratio", (1.0, 1.0), 0, 5),
        cartesian_clip=cartesian.pair("clip", (0.05, 0.4), 1e-4, 3.1),
        nullspace_stiffness=nullspace.default("stiffness", 10.0, 0, 500),
        nullspace_damping_ratio=nullspace.default("damping_ratio", 1.0, 0, 5),
        friction_compensation=control.default("friction_compensation", 0.0, 0, 1),
        tank_energy=tank.default("energy", 0.0, 0, 1e4),
        tank_power=tank.default("power", 0.0, 0, 1e4),
    )


def _tool_limits(control: _Reader) -> ToolLimits:
    limits = control.optional_section("tool_limits")
    return ToolLimits(
        velocity=limits.pair("velocity", (1.0, 2.5), 1e-3, 100),
        acceleration=limits.pair("acceleration", (9.0, 17.0), 1e-3, 1e4),
        jerk=limits.pair("jerk", (4500.0, 8500.0), 1e-3, 1e6),
    )


def _fence(entry: _Reader, elbow_frame: str) -> Fence:
    points = entry.texts("points") if "points" in entry.document else ("tool",)
    if not points or not set(points) <= set(FENCE_POINTS):
        raise entry.fail("points", f"must name some of {', '.join(FENCE_POINTS)}, got {', '.join(points)}")
    if "elbow" in points and not elbow_frame:
        raise entry.fail(
            "points", "names the elbow, but geofence.elbow_frame does not say which body that is"
        )
    if entry.choice("kind", FENCE_KINDS, "") == "plane":
        normal = entry.vector("normal", 3)
        length = float(np.linalg.norm(normal))
        if length < 1e-6:
            raise entry.fail("normal", "must not be zero")
        return Fence("plane", points, normal=normal / length, offset=entry.number("offset", -100, 100))
    low, high = entry.vector("min", 3), entry.vector("max", 3)
    if not (low < high).all():
        raise entry.fail("max", "must be above min on every axis")
    return Fence(entry.text("kind"), points, low, high)


def _calibration(file: _Reader, joints: tuple[Joint, ...], model_path: Path) -> Calibration:
    n = len(joints)
    if "calibration" not in file.document:
        return Calibration(_model_friction(model_path, joints), np.zeros(n))
    section = file.section("calibration")
    friction = _model_friction(model_path, joints)
    if "friction" in section.document:
        entries = section.sections("friction")
        if len(entries) != n:
            raise section.fail(
                "friction", f"must have one entry for each of the {n} joints, got {len(entries)}"
            )
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
    if "payload" in section.document:
        payload = section.section("payload")
        mass, com = payload.number("mass", 0, 1e3), payload.vector("com", 3)
    residual = None
    if section.document.get("residual"):
        residual = file.path.parent / section.text("residual")
        if not os.path.isdir(residual):
            raise section.fail("residual", f"no such bundle: {residual}")
    return Calibration(
        friction=friction,
        encoder_offset=section.vector("encoder_offset", n)
        if "encoder_offset" in section.document
        else np.zeros(n),
        payload_mass=mass,
        payload_com=com,
        command_delay_s=section.number("command_delay", 0, 0.1)
        if "command_delay" in section.document
        else 0.0,
        residual=residual,
    )


def _model_friction(model_path: Path, joints: tuple[Joint, ...]) -> tuple[Friction, ...]:
    """Friction of the robot model: MuJoCo's frictionloss and damping."""
    model = _read_model(model_path)
    names = {model.joint(i).name for i in range(model.njnt)}
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


def _camera(entry: _Reader, base_frame: str, tool_frame: str) -> Camera:
    parent = entry.text("parent")
    if parent not in (base_frame, tool_frame):
        raise entry.fail("parent", f"must be {base_frame} or {tool_frame}, got {parent!r}")
    position, look_at = entry.vector("position", 3), entry.vector("look_at", 3)
    if np.linalg.norm(look_at - position) < 1e-6:
        raise entry.fail("look_at", "must differ from position")
    return Camera(
        name=entry.text("name"),
        frame=entry.text("frame"),
        parent=parent,
        position=position,
        look_at=look_at,
        width=int(entry.number("width", 16, 8192)),
        height=int(entry.number("height", 16, 8192)),
        fovy_deg=entry.number("fovy_deg", 5, 150),
        rate_hz=entry.number("rate_hz", 0.1, 240),
    )


def _read_model(path: Path) -> Any:
    import mujoco

    try:
        return mujoco.MjModel.from_xml_path(str(path))
    except ValueError as error:
        raise EmbodimentError(f"{path}: MuJoCo refuses the model: {error}") from error


def _check_against_model(embodiment: Embodiment) -> None:
    """Joints of the file and of the robot model must agree in name, order and range."""
    path, model = embodiment.path, _read_model(embodiment.model_path)
    names = tuple(model.joint(i).name for i in range(model.njnt))
    expected = embodiment.joint_names + embodiment.gripper.joints
    if names != expected:
        raise EmbodimentError(
            f"{path}: joints and gripper.joints must name the joints of {embodiment.model_path.name} in its order: "
            f"got {', '.join(expected)}; the model has {', '.join(names)}"
        )
    for i, joint in enumerate(embodiment.joints):
        low, high = model.jnt_range[i]
        if joint.position_min < low - 1e-6 or joint.position_max > high + 1e-6:
            raise EmbodimentError(
                f"{path}: {joint.name}: position [{joint.position_min:g}, {joint.position_max:g}] "
                f"exceeds the model's range [{low:g}, {high:g}]"
            )
    sites = {model.site(i).name for i in range(model.nsite)}
    if embodiment.tool_frame not in sites:
        raise EmbodimentError(
            f"{path}: tool_frame: {embodiment.tool_frame!r} is not a site of the model; it has: {', '.join(sorted(sites))}"
        )
    for joint, angle in zip(embodiment.joints, embodiment.home, strict=True):
        if not joint.position_min < angle < joint.position_max:
            raise EmbodimentError(f"{path}: home: {joint.name} at {angle:g} rad is outside its limits")
