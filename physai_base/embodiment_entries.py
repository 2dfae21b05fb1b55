"""The entries of an embodiment file that need nothing but themselves: joints, control, fences, cameras, hardware."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from physai_base.embodiment_parts import (
    COMMANDS,
    FENCE_KINDS,
    FENCE_POINTS,
    GATES,
    LAWS,
    Camera,
    ControlSettings,
    Fence,
    Hardware,
    Impedance,
    Joint,
    ToolLimits,
)
from physai_base.reader import Reader

if TYPE_CHECKING:
    from physai_base.models.published import Survey

MIN_TORQUE_RATE_HZ = 100  # as the control core
MIN_EFFORT_RATE_HZ = 300  # torques over topics run away below: docs/howto/hardware.md
MAX_GATE_MS = 200


def read_joint(entry: Reader) -> Joint:
    """One of `joints`."""
    low, high = entry.bounds("position")
    numbers = _numbers(entry, Joint)
    return Joint(
        name=entry.text("name"),
        position_min=low,
        position_max=high,
        stop_torque_rate=entry.number("stop_torque_rate", 1e-3, 1e6, numbers["torque_rate"]),
        **numbers,
    )


def read_control(control: Reader) -> ControlSettings:
    """`control`, without the law and its gains."""
    return ControlSettings(
        pose_trip=_pair(control, "pose_trip", (0.15, 0.8), 1e-4, 10), **_numbers(control, ControlSettings)
    )


def _numbers(entry: Reader, kind: type[Joint] | type[ControlSettings]) -> dict[str, float]:
    """Those fields of `kind` that say how they are read; a section is asked for where one of its entries has no default."""
    asked = [item for item in fields(kind) if "range" in item.metadata]
    needed = {item.metadata["section"] for item in asked if item.metadata["default"] is None}
    sections = {"": entry}
    for name in dict.fromkeys(item.metadata["section"] for item in asked):
        if name:
            sections[name] = entry.section(name, optional=name not in needed)
    numbers = {}
    for item in asked:
        part, default = item.metadata["section"], item.metadata["default"]
        numbers[item.name] = sections[part].number(
            item.name.removeprefix(f"{part}_"),
            *item.metadata["range"],
            **({} if default is None else {"default": default}),
        )
    return numbers


def read_impedance(control: Reader, joints: tuple[Joint, ...], n_tools: int) -> Impedance:
    """The law of `control` and its gains at the start."""
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
        target_wrench=(0.0,) * 6 * n_tools,
        tank_energy=tank.number("energy", 0, 1e4, 0.0),
        tank_power=tank.number("power", 0, 1e4, 0.0),
    )


def read_tool_limits(control: Reader) -> ToolLimits:
    """`control.tool_limits`."""
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


def read_box(geofence: Reader) -> Fence:
    """The box of `geofence` for the tools."""
    low, high = geofence.vector("min", 3), geofence.vector("max", 3)
    if geofence.good("min", "max") and not (low < high).all():
        geofence.fail("min", "must be below max on every axis")
    return Fence("inside", ("tool",), low, high)


def read_fence(entry: Reader, has_elbow: bool) -> Fence:
    """One of `geofence.fences`."""
    points = entry.texts("points", ("tool",))
    if entry.good("points") and not (points and set(points) <= set(FENCE_POINTS)):
        entry.fail("points", f"must name some of {', '.join(FENCE_POINTS)}, got {', '.join(points)}")
    if "elbow" in points and not has_elbow:
        entry.fail("points", "names the elbow, but no elbow_frame says which body that is")
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


def read_cameras(
    file: Reader, entries: list[Reader], base: str, tools: tuple[str, ...], found: Survey | None
) -> tuple[Camera, ...]:
    """`cameras`, which hang on the base frame or one of the tool frames."""
    known = found is None or {base, *tools} <= {*found.bodies, *found.sites}
    cameras = tuple(_read_camera(entry, base, tools, known) for entry in entries)
    for key in ("name", "frame"):
        if len({getattr(camera, key) for camera in cameras}) != len(cameras):
            file.fail("cameras", f"each needs a {key} of its own")
    return cameras


def _read_camera(entry: Reader, base: str, tools: tuple[str, ...], known: bool) -> Camera:
    parent = entry.text("parent")
    if known and entry.good("parent") and parent not in (base, *tools):  # else base or tool is what is wrong
        entry.fail("parent", f"must be base_frame, {base}, or a tool: {', '.join(tools)}; got {parent!r}")
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


def read_hardware(hardware: Reader, rate_hz: float | None) -> Hardware:
    """`hardware`; `rate_hz` None: not known, since it is wrong."""
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
    if backend == "shm" and "name" not in options:
        hardware.fail(
            "options", "lacks name, of the memory that cell and controller share: {name: physai_NAME}"
        )
    if backend == "topic":
        if options.setdefault("command", command) != command:
            hardware.fail("options", f"command must be as hardware.command, {command}, or not be given")
        if options.setdefault("gate", action or "none") != (action or "none"):
            hardware.fail("options", "gate is hardware.gate.action; give that alone")
        if command == "effort":
            _check_effort_over_topics(hardware, has_gate, rate_hz)
    elif command == "effort" and rate_hz is not None and rate_hz < MIN_TORQUE_RATE_HZ:
        hardware.fail(
            "command",
            f"effort needs control.rate_hz of at least {MIN_TORQUE_RATE_HZ} Hz, got {rate_hz:g} Hz; a robot that takes "
            "positions or velocities says so here",
        )
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
            "the last torque for ever: take command: position there (docs/howto/hardware.md)",
        )
