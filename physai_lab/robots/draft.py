"""`physai robot new`: a first file for a robot, from its maker's model; every guess in it is marked as one."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from physai_base.embodiment import Embodiment, find_embodiment
from physai_base.embodiment_parts import ModelChanges, Mount
from physai_base.errors import PhysaiError
from physai_base.models.files import expand_xacro, find_in_package
from physai_base.models.published import Source, Survey, published, survey
from physai_base.resources import share_directory
from physai_base.robot_model import RobotModel, prepare
from physai_base.urdf import Limit
from physai_lab.robots.anatomy import (
    LEAST_HEIGHT_M,
    TURNS,
    Anatomy,
    Arm,
    Rest,
    dissect,
    find_rest,
    finger_ends,
    massless,
)

GUESS = "# guess"
HAND, HAND_PREFIX = "config/robots/fr3/franka_hand.xml", "hand_"

# Cautious enough for an arm of which nothing else is known.
RATE_HZ = 1000.0
VELOCITY = 1.0  # rad/s or m/s where the model gives none
LEAST_TORQUE, MASSLESS_TORQUE = (
    1.0,
    20.0,
)  # Nm; the latter where no load tells, since the model's links weigh nothing
MOST_TORQUE = 2000.0  # Nm: above it a model means no limit
TORQUE_OVER_LOAD = 2.0  # times what gravity and getting up to speed ask for, where the model gives none
LEAST_OF_LOAD = 2.0  # a model's torque limit below gravity's share by more means no limit
MOST_FRICTION, FRICTION = 0.3, 0.03  # of the torque: above the one a simulation's crutch; the other instead
MOST_LAG_RAD = 0.02  # that friction may cost
ARMATURE_PER_TORQUE = 1e-3  # kg m2 per Nm, about that of a Franka's or UR's geared drives
BANDWIDTH_RAD_S = 20.0  # of the impedance: stiffness = inertia times its square
STIFFNESS_SHARE = 0.5  # of the torque that the stiffness may ask for at the clip
CLIP_RAD = 0.3
RISE_S, MOST_ACCELERATION = 0.3, 10.0  # s to full speed; rad/s2
TORQUE_RISE_S = 0.2  # to full torque
BRAKING_SHARE = 0.5  # of the acceleration that counts towards a stop
ROUND_FULL_TURNS = 2 * math.pi  # of a continuous joint, to either side
FINGER_SPEED, HINGE_SPEED, FINGER_FORCE = 0.1, 0.5, 20.0
MARGIN_M = 0.05


@dataclass(frozen=True)
class Asked:
    """What the caller of `physai robot new` knows; what is empty is found or guessed."""

    model: str  # a path, or PACKAGE:PATH
    name: str = ""
    base: str = ""
    tools: tuple[str, ...] = ()
    grippers: tuple[str, ...] | None = None  # joints; empty: none; None: find them
    mount: str = ""  # frame of the arm that carries the shipped hand
    xacro: tuple[tuple[str, str], ...] = ()  # arguments of the model, a xacro file of a package


@dataclass(frozen=True)
class Draft:
    """A robot's file and what is to be said of it."""

    text: str
    guesses: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _JointGuess:
    name: str
    numbers: dict[str, Any]
    guessed: tuple[str, ...]


def model_file(model: str) -> Path:
    """The file that a path or PACKAGE:PATH names.

    Raises:
        PhysaiError: there is none.
    """
    path = Path(model)
    if path.is_file():
        return path.resolve()
    package, colon, inside = model.partition(":")
    if colon and re.fullmatch(r"[A-Za-z_][\w.]*", package):
        return find_in_package(package, inside)
    what = f"{model} is a folder" if path.is_dir() else f"no such model: {model}"
    raise PhysaiError(f"{what}; give a file, or PACKAGE:PATH/IN/IT")


def draft(asked: Asked, out: Path | None) -> Draft:
    """The file, whose `model` is relative to where it will lie.

    Raises:
        PhysaiError: the model cannot be read, or has no arm.
    """
    path = model_file(asked.model)
    if asked.xacro and Path(asked.model).is_file():
        raise PhysaiError(
            "--xacro: a xacro file is taken from a package, as PACKAGE:PATH, so that it is found again"
        )
    if asked.xacro:
        path = expand_xacro(path, dict(asked.xacro))
    mounts: tuple[Mount, ...] = ()
    if asked.mount:
        mounts = (Mount(share_directory() / HAND, asked.mount, prefix=HAND_PREFIX),)
    changes = ModelChanges(mounts=mounts)
    found, model = survey(path, changes), published(path, changes)
    tools = asked.tools or (("hand_tool0",) if mounts else ())
    grippers = asked.grippers
    if mounts and not grippers:
        grippers = tuple(name for name in found.limits if name.startswith(mounts[0].prefix))
    anatomy = dissect(model, found, asked.base, tools, grippers)
    joints = tuple(dict.fromkeys(name for arm in anatomy.arms for name in arm.joints))
    fingers = tuple(name for arm in anatomy.arms for name in _with_followers(arm.fingers, found))
    frames = tuple(arm.tool for arm in anatomy.arms)
    source = Source(path, anatomy.base, joints, fingers, frames, RATE_HZ, ModelChanges(mounts=mounts))
    bare = prepare(source)
    low, high = _position_limits(joints, found)
    tried = find_rest(bare, [arm.joints for arm in anatomy.arms], low, high, TURNS if mounts else TURNS[:1])
    if tried.turn:  # how a hand is screwed on is a guess anyway: so that it points ahead where the arm does
        mounts = (replace(mounts[0], rpy=(0.0, 0.0, tried.turn)),)
        bare = prepare(replace(source, changes=ModelChanges(mounts=mounts)))
    loads = dict(zip(joints, tried.load, strict=True))
    limits = _torque_limits(found, loads)
    light = massless(bare)
    least = {name: MASSLESS_TORQUE if name in light else LEAST_TORQUE for name in joints}
    torque = {
        name: _torque(limits[name], tried.load[i], tried.inertia[i], least[name])
        for i, name in enumerate(joints)
    }
    armature = _armature(bare, joints, torque)
    changes = ModelChanges(armature=tuple(armature.items()), mounts=mounts)
    friction = _friction(bare, joints, torque)
    changes = replace(changes, friction=tuple(friction.items()))
    robot = prepare(replace(source, changes=changes))
    rest = find_rest(robot, [arm.joints for arm in anatomy.arms], low, high)
    guesses = [
        _joint(
            name,
            limits[name],
            torque[name],
            rest.inertia[i],
            robot,
            armature.get(name),
            friction.get(name),
        )
        for i, name in enumerate(joints)
    ]
    name = asked.name or dict(asked.xacro).get("name", "") or _name(path)
    writer = _Writer(name, _model_entry(asked, path, out), anatomy, found, robot, guesses, rest, mounts)
    lines = writer.lines()
    notes = list(robot.notes)
    if limits != found.limits:
        notes.append(
            "the model's torque limits cannot be meant: under them the arm would fall; guessed instead"
        )
    if anatomy.rest:
        notes.append(f"of no arm, and therefore locked: {', '.join(anatomy.rest)}")
    if rest.collides:
        notes.append(f"home: no position without contact was found; {rest.collides} touch")
    text = "\n".join(lines) + "\n"
    return Draft(text, text.count(GUESS) - 1, tuple(notes))  # one in the head says what it means


def _with_followers(fingers: Sequence[str], found: Survey) -> list[str]:
    return [*fingers, *(name for name, mimic in found.mimics.items() if mimic.master in fingers)]


def _name(path: Path) -> str:
    stem = path.stem if path.stem not in ("robot", "scene", "model") else path.parent.name
    return re.sub(r"\W+", "_", stem).strip("_").lower() or "robot"


def _model_entry(asked: Asked, path: Path, out: Path | None) -> str:
    package, colon, inside = asked.model.partition(":")
    if colon and not Path(asked.model).is_file():
        values = ", ".join(f"{_text(name)}: {_text(value)}" for name, value in asked.xacro)
        xacro = f", xacro: {{{values}}}" if values else ""
        return f"{{package: {package}, path: {_text(inside)}{xacro}}}"
    if out is not None:
        try:
            return _text(str(path.relative_to(out.resolve().parent)))
        except ValueError:
            pass
    return _text(str(path))


def _position_limits(joints: Sequence[str], found: Survey) -> tuple[np.ndarray, np.ndarray]:
    limits = [found.limits[name] for name in joints]
    low = np.array([limit.lower if np.isfinite(limit.lower) else -ROUND_FULL_TURNS for limit in limits])
    high = np.array([limit.upper if np.isfinite(limit.upper) else ROUND_FULL_TURNS for limit in limits])
    return low, high


def _torque_limits(found: Survey, loads: dict[str, float]) -> dict[str, Limit]:
    """The model's limits; without any of torque where one of them is far below what gravity asks for (loads, Nm)."""
    meant = all(not 0 < LEAST_OF_LOAD * found.limits[n].effort < load for n, load in loads.items())
    if meant:
        return found.limits
    return {name: replace(limit, effort=math.nan) for name, limit in found.limits.items()}


def _is_known(effort: float) -> bool:
    """Whether a model's limit of torque is meant as one."""
    return 0 < effort <= MOST_TORQUE


def _velocity(limit: Limit) -> float:
    return limit.velocity if limit.velocity > 0 else VELOCITY


def _acceleration(limit: Limit) -> float:
    return _two_digits(min(_velocity(limit) / RISE_S, MOST_ACCELERATION))


def _torque(limit: Limit, load: float, inertia: float, least: float) -> float:
    needed = load + inertia * _acceleration(limit)
    return (
        float(limit.effort) if _is_known(limit.effort) else max(least, _two_digits(TORQUE_OVER_LOAD * needed))
    )


def _armature(robot: RobotModel, joints: Sequence[str], torque: dict[str, float]) -> dict[str, float]:
    """For joints whose model has no rotor inertia."""
    model = robot.model
    bare = [name for name in joints if model.dof_armature[model.joint(name).dofadr[0]] == 0]
    return {name: max(_two_digits(ARMATURE_PER_TORQUE * torque[name]), 1e-3) for name in bare}


def _friction(robot: RobotModel, joints: Sequence[str], torque: dict[str, float]) -> dict[str, float]:
    """For joints whose model has more dry friction than a drive could have."""
    model = robot.model
    loss = {name: float(model.dof_frictionloss[model.joint(name).dofadr[0]]) for name in joints}
    return {n: _two_digits(FRICTION * torque[n]) for n in joints if loss[n] > MOST_FRICTION * torque[n]}


def _joint(
    name: str,
    limit: Limit,
    torque: float,
    inertia: float,
    robot: RobotModel,
    armature: float | None,
    friction: float | None,
) -> _JointGuess:
    guessed = ["acceleration", "jerk", "torque_rate", "stiffness", "damping_ratio", "braking"]
    if not np.isfinite(limit.upper):
        guessed.insert(0, "position (the joint turns without end)")
    guessed += [] if limit.velocity > 0 else ["velocity"]
    guessed += [] if _is_known(limit.effort) else ["torque"]
    acceleration = _acceleration(limit)
    dry = float(robot.model.dof_frictionloss[robot.model.joint(name).dofadr[0]])
    stiffness = max(
        min(inertia * BANDWIDTH_RAD_S**2, STIFFNESS_SHARE * torque / CLIP_RAD), dry / MOST_LAG_RAD
    )
    numbers: dict[str, Any] = {
        "position": [
            _down(limit.lower) if np.isfinite(limit.lower) else -6.28,
            -_down(-limit.upper) if np.isfinite(limit.upper) else 6.28,
        ],
        "velocity": _floor(_velocity(limit)),
        "acceleration": acceleration,
        "jerk": _two_digits(100 * acceleration),
        "torque": _floor(torque),
        "torque_rate": _two_digits(torque / TORQUE_RISE_S),
        "stiffness": max(_two_digits(stiffness), 0.1),
        "damping_ratio": 1.0,
        "clip": CLIP_RAD,
        "braking": {"decel_2a": _two_digits(2 * BRAKING_SHARE * acceleration), "offset": 0.1},
    }
    if armature is not None:
        numbers["armature"] = armature
        guessed.append("armature")
    if friction is not None:
        numbers["friction"] = friction
        guessed.append("friction (the model's is a simulation's crutch)")
    return _JointGuess(name, numbers, tuple(guessed))


@dataclass(frozen=True)
class _Writer:
    name: str
    model: str
    anatomy: Anatomy
    found: Survey
    robot: RobotModel
    joints: list[_JointGuess]
    rest: Rest
    mounts: tuple[Mount, ...]

    def lines(self) -> list[str]:
        """The whole file."""
        several = len(self.anatomy.arms) > 1
        result = [
            f"# {self.name}: drafted by `physai robot new` from its maker's model. Numbers without a mark are the model's;",
            f"# those marked `{GUESS}` are cautious ones of ours: each says where the true one is found.",
            "# docs/reference/robot_file.md has every entry; `physai robot check` says what is missing or implausible.",
            "format_version: 1",
            f"name: {_text(self.name)}",
            f"description: {_text(f'{self.name}, {len(self.joints)} joints, as its maker models it')}",
            "",
            f"model: {self.model}",
            f"base_frame: {_text(self.anatomy.base)}",
        ]
        if not several:
            result += self._tool(self.anatomy.arms[0], "tool_frame")
        result += [
            "",
            "# Position, velocity and torque are the model's where it has them. Acceleration, jerk and torque_rate: the data",
            "# sheet or the maker's own planner limits (joint_limits.yaml of its MoveIt configuration). stiffness [Nm/rad]: as",
            f"# soft as {BANDWIDTH_RAD_S:g} rad/s of the inertia at home; raise it while you watch the arm. braking: how hard the arm",
            "# can brake before its stop. armature [kg m2]: rotor inertia times the gear ratio squared.",
            "joints:",
            *(self._joint(joint) for joint in self.joints),
            "",
            f"home: [{', '.join(f'{value:g}' for value in self.rest.home)}]   {GUESS}: no part touches another there; choose "
            "where work begins",
        ]
        if several:
            result += ["", "end_effectors:"]
            for index, arm in enumerate(self.anatomy.arms):
                result.append(f"  - name: {_text(_arm_name(arm, index))}")
                result += [f"    {line}" for line in self._tool(arm, "frame")]
                result += [f"    {line}" for line in self._gripper(arm)]
        else:
            result += (
                ["", *self._gripper(self.anatomy.arms[0])] if self._gripper(self.anatomy.arms[0]) else []
            )
        if self.anatomy.rest:
            values = ", ".join(f"{_text(name)}: {self._at_rest(name):g}" for name in self.anatomy.rest)
            result += ["", f"locked: {{{values}}}   {GUESS}: where these stand"]
        return [*result, *self._rest_of_file()]

    def _tool(self, arm: Arm, key: str) -> list[str]:
        mark = (
            f"   {GUESS}: the frame between the gripper's pads, z along the approach"
            if arm.tool_is_a_guess
            else ""
        )
        return [f"{key}: {_text(arm.tool)}{mark}"]

    def _joint(self, joint: _JointGuess) -> str:
        numbers = ", ".join(f"{key}: {_plain(value)}" for key, value in joint.numbers.items())
        return f"  - {{name: {_text(joint.name)}, {numbers}}}   {GUESS}: {', '.join(joint.guessed)}"

    def _gripper(self, arm: Arm) -> list[str]:
        if not arm.fingers:
            return []
        if self.mounts:
            return _shipped_hand(self.mounts[0])
        model = published(self.robot.source.path)
        ends = finger_ends(model, self.found, arm.fingers)
        slides = all(name in self.found.slides for name in arm.fingers)
        travels = {name: abs(b - a) for name, (a, b) in ends.items()}
        for name in _with_followers(arm.fingers, self.found)[len(arm.fingers) :]:
            mimic = self.found.mimics[name]
            travels[name] = abs(mimic.multiplier) * travels.get(mimic.master, 0.0)
        travel = sum(travels.values()) if slides else max(abs(b - a) for a, b in ends.values())
        limits = [self.found.limits[name] for name in arm.fingers]
        speed = min((limit.velocity for limit in limits if limit.velocity > 0), default=0.0)
        force = min((limit.effort for limit in limits if limit.effort > 0), default=0.0)
        unit = "m between the pads" if slides else "rad"
        lines = [
            "gripper:",
            f"  kind: {'parallel' if slides else 'hinge'}",
            f"  range: [0, {_floor(travel):g}]   {GUESS}: {unit}, from closed to open; measure it"
            + ("" if slides else ". kind: parallel, in m, where the pads stay parallel"),
            f"  speed: {_floor(speed) if speed else FINGER_SPEED if slides else HINGE_SPEED:g}"
            + ("" if speed else f"   {GUESS}: the data sheet"),
            f"  force: {_floor(min(force, 50.0)) if force else FINGER_FORCE:g}   {GUESS}: what it may press with, not what "
            "the drive can",
            "  fingers:" + f"   {GUESS}: which end is closed",
        ]
        model = self.robot.model
        for name, (closed, opened) in ends.items():
            more = ""
            if model.dof_frictionloss[model.joint(name).dofadr[0]] > MOST_FRICTION * (force or FINGER_FORCE):
                more = f", friction: {_two_digits(FRICTION * (force or FINGER_FORCE)):g}"
            lines.append(f"    - {{joint: {_text(name)}, closed: {closed:g}, open: {opened:g}{more}}}")
        return lines

    def _at_rest(self, name: str) -> float:
        limit = self.found.limits[name]
        return float(np.clip(0.0, limit.lower, limit.upper))

    def _rest_of_file(self) -> list[str]:
        low, high = self.rest.low - MARGIN_M, self.rest.high + MARGIN_M
        low[2] = max(low[2], 0.0) if self.rest.high[2] > LEAST_HEIGHT_M else low[2]
        box = f"min: [{', '.join(f'{v:.2f}' for v in low)}], max: [{', '.join(f'{v:.2f}' for v in high)}]"
        return [
            "",
            "control:",
            f"  rate_hz: {RATE_HZ:g}   {GUESS}: what the robot's interface takes, in Hz",
            "  blend_s: 0.15",
            "  gain_ramp_s: 0.5",
            f"  stop_acceleration: {min(j.numbers['acceleration'] for j in self.joints):g}   {GUESS}: rad/s2 when a chunk ends early",
            "  state_timeout_s: 0.02",
            "  velocity_trip: 1.1",
            "  tracking_trip_rad: 0.35",
            "",
            f"geofence: {{{box}}}   {GUESS}: all that the tools reach above the base; take the room that is free",
            "",
            "hardware:",
            "  backend: shm   # the embedded cell; `topic` for a robot behind ROS 2 topics: docs/howto/hardware.md",
            "  gravity: controller",
            f"  options: {{name: physai_{self.name}}}",
        ]


def _shipped_hand(mount: Mount) -> list[str]:
    """Of the Franka Hand everything is known but where it is screwed on."""
    arm = Embodiment.load(find_embodiment("fr3"))
    gripper, hand = arm.gripper, arm.end_effectors[0].hand
    fingers = [
        f"    - {{joint: {mount.prefix}{f.joint}, closed: {f.closed:g}, open: {f.open:g}}}"
        for f in gripper.fingers
    ]
    return [
        f"hand: {{tip: {hand.tip:g}, length: {hand.length:g}, reach: {hand.reach:g}}}",
        "",
        "gripper:",
        f"  model: {{package: physai, path: {HAND}}}",
        f"  mount: {{frame: {_text(mount.frame)}, position: [0, 0, 0], rpy: [0, 0, {mount.rpy[2]:.6g}], prefix: {mount.prefix}}}"
        f"   {GUESS}: where the flange carries it",
        f"  kind: {gripper.kind}",
        f"  range: [{gripper.opening_min:g}, {gripper.opening_max:g}]",
        f"  speed: {gripper.speed:g}",
        f"  force: {gripper.force:g}",
        "  fingers:",
        *fingers,
    ]


def _arm_name(arm: Arm, index: int) -> str:
    for side in ("left", "right"):
        if any(side in name.lower() for name in (*arm.joints, arm.tool)):
            return side
    return f"arm{index + 1}"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_plain(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_plain(v) for v in value) + "]"
    return f"{value:.6g}"


def _text(value: str) -> str:
    """A text as YAML takes it, in quotation marks where it needs them."""
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")


def _floor(value: float) -> float:
    """Four digits, never above the value."""
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 3) if value else 1.0
    return float(f"{math.floor(value / step + 1e-9) * step:.4g}")


def _down(value: float) -> float:
    """A lower limit in four digits after the point, never below it; negated, an upper one."""
    return math.ceil(value * 1e4 - 1e-6) / 1e4
