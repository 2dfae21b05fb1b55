"""What an embodiment consists of; `physai_base.embodiment` reads it from a file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


def _number(low: float, high: float, default: float | None = None, section: str = "") -> dict[str, Any]:
    """Of a field that a file's entry of the same name gives; of a section of its own it leaves out that one's name.

    Without a default the entry must be there. `physai_base.embodiment_entries` reads it.
    """
    return {"range": (low, high), "default": default, "section": section}


@dataclass(frozen=True)
class Joint:
    """Limits and gains of one joint."""

    name: str
    position_min: float  # rad
    position_max: float
    velocity: float = field(metadata=_number(1e-3, 100))  # rad/s
    acceleration: float = field(metadata=_number(1e-3, 1e4))  # rad/s^2
    jerk: float = field(metadata=_number(1e-3, 1e6))  # rad/s^3
    torque: float = field(metadata=_number(1e-3, 1e4))  # Nm
    torque_rate: float = field(metadata=_number(1e-3, 1e6))  # Nm/s
    stop_torque_rate: float  # Nm/s, while stopping and in a fault
    # Nm from outside that latches a fault; 0 for none
    contact_torque: float = field(metadata=_number(0, 1e4, 0.0))
    stiffness: float = field(metadata=_number(0, 14250))  # Nm/rad
    damping_ratio: float = field(metadata=_number(0, 5))
    # rad: an error beyond it does not raise the torque further
    clip: float = field(metadata=_number(1e-4, 7, 0.5))
    # rad/s^2: twice the deceleration available towards the stop
    braking_decel_2a: float = field(metadata=_number(1e-3, 1e3, section="braking"))
    braking_offset: float = field(metadata=_number(0, 10, section="braking"))  # rad/s


GRIPPER_KINDS = ("none", "parallel", "hinge", "suction")


@dataclass(frozen=True)
class Finger:
    """A joint of the model that a gripper moves, linearly with its opening."""

    joint: str
    closed: float  # rad or m, at the least opening
    open: float  # at the greatest


@dataclass(frozen=True)
class Gripper:
    """What an end effector holds things with. Its opening is in m between the pads of a parallel gripper, rad of a
    hinge, and from 0 (holds) to 1 (lets go) of suction."""

    kind: str = "none"  # one of GRIPPER_KINDS
    opening_min: float = 0.0
    opening_max: float = 0.0
    speed: float = 0.0  # of the opening, per second
    force: float = 0.0  # N between the pads, Nm of a hinge
    fingers: tuple[Finger, ...] = ()

    @property
    def joints(self) -> tuple[str, ...]:
        """Names of the finger joints."""
        return tuple(finger.joint for finger in self.fingers)

    def positions(self, opening: float) -> np.ndarray:
        """Joint positions (fingers,) at an opening."""
        share = (opening - self.opening_min) / max(self.opening_max - self.opening_min, 1e-12)
        return np.array([finger.closed + share * (finger.open - finger.closed) for finger in self.fingers])

    def opening_of(self, joint: str, position: float) -> float:
        """The opening that one finger's position amounts to."""
        finger = next(finger for finger in self.fingers if finger.joint == joint)
        share = (position - finger.closed) / (finger.open - finger.closed)
        return self.opening_min + share * (self.opening_max - self.opening_min)

    def opening(self, positions: Mapping[str, float]) -> float:
        """The mean opening that the fingers' positions, by name, amount to; 0 without fingers."""
        if not self.fingers:
            return 0.0
        return float(np.mean([self.opening_of(joint, positions[joint]) for joint in self.joints]))

    @property
    def unit(self) -> str:
        """Of the opening."""
        return {"parallel": "m", "hinge": "rad"}.get(self.kind, "")


@dataclass(frozen=True)
class Hand:
    """How much room a hand takes up, in its tool frame, whose z axis points away from the arm."""

    tip: float = 0.0  # m: its lowest point lies that far beyond the tool frame
    length: float = 0.0  # m: it reaches that far back towards the arm
    reach: float = 0.0  # m: what is farther from the tool than that, it does not touch


@dataclass(frozen=True)
class EndEffector:
    """The end of one arm."""

    name: str
    frame: str  # site, body or link of the model
    gripper: Gripper
    hand: Hand
    elbow_frame: str = ""  # body of the model that fences may hold for; empty: none


@dataclass(frozen=True)
class Mount:
    """A gripper's own model, and where on the arm it sits."""

    path: Path
    frame: str  # site, body or link of the arm
    position: tuple[float, ...] = (0.0, 0.0, 0.0)  # m in that frame
    rpy: tuple[float, ...] = (0.0, 0.0, 0.0)  # rad
    prefix: str = ""  # before all of its names, where two of a kind are mounted


@dataclass(frozen=True)
class OwnFrame:
    """A frame that the model has not: between the pads of a gripper, say."""

    name: str
    parent: str  # site, body or link of the model
    position: tuple[float, ...] = (0.0, 0.0, 0.0)  # m in the parent
    rpy: tuple[float, ...] = (0.0, 0.0, 0.0)  # rad


@dataclass(frozen=True)
class ModelChanges:
    """What is different from the model as its maker publishes it."""

    locked: tuple[tuple[str, float], ...] = ()  # joints that nobody drives, and where they stand
    armature: tuple[tuple[str, float], ...] = ()  # kg m2 or kg of joints, instead of the model's
    friction: tuple[tuple[str, float], ...] = ()  # Nm or N: dry friction of joints, instead of the model's
    mounts: tuple[Mount, ...] = ()
    frames: tuple[OwnFrame, ...] = ()


@dataclass(frozen=True)
class ControlSettings:
    """Settings of the control core that stay as they are."""

    rate_hz: float = field(metadata=_number(20, 10_000))
    blend_s: float = field(metadata=_number(0.005, 2))
    gain_ramp_s: float = field(metadata=_number(0, 10))
    stop_acceleration: float = field(metadata=_number(0.1, 100))  # rad/s^2
    state_timeout_s: float = field(metadata=_number(0.001, 1))
    velocity_trip: float = field(metadata=_number(1, 2))  # times the velocity limit
    tracking_trip_rad: float = field(metadata=_number(0.001, 3.2))
    pose_trip: tuple[float, float]  # m, rad: the same for the tool under the Cartesian law
    # N from outside on the tool that latches a fault; 0 for none
    contact_force: float = field(metadata=_number(0, 1e4, 0.0, section="contact"))
    contact_moment: float = field(metadata=_number(0, 1e4, 0.0, section="contact"))  # Nm
    # reduced mode: share of the joint velocity limits
    reduced_speed: float = field(metadata=_number(0.01, 1, 0.25, section="reduced"))
    reduced_tool_speed: float = field(metadata=_number(0.001, 10, 0.25, section="reduced"))  # m/s
    # share of the clips and contact thresholds
    reduced_force: float = field(metadata=_number(0.01, 1, 0.5, section="reduced"))
    # m between any two arms, each from its elbow to its tool; 0: not guarded
    arms_distance: float = field(metadata=_number(0, 2, 0.0))


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
    target_wrench: tuple[float, ...] = (0.0,) * 6  # (6 k) N, Nm that each of k tools shall exert, base frame
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


COMMANDS = ("effort", "position", "velocity")
GATES = ("brakes", "damping", "hold")


@dataclass(frozen=True)
class Hardware:
    """Which backend drives the robot and who adds gravity."""

    backend: str
    gravity: str  # "controller" | "robot"
    command: str  # "effort" | "position" | "velocity": what the robot takes
    options: dict[str, str]
    gate: str = ""  # one of GATES: what the robot's side does when commands end; empty: not declared


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
class Payload:
    """What a hand carries all the time beyond what the model has, as a point."""

    mass: float = 0.0  # kg
    com: np.ndarray = field(default_factory=lambda: np.zeros(3))  # (3,) m in the tool frame


@dataclass(frozen=True)
class Calibration:
    """What was identified on this very robot; `physai calibrate` writes it."""

    friction: tuple[Friction, ...]  # one for each joint; without a calibration that of the model
    encoder_offset: np.ndarray  # (n,) rad, subtracted from what the encoders say
    payloads: tuple[Payload, ...] = (Payload(),)  # one for each end effector
    command_delay_s: float = 0.0  # from a command to its torque
    residual: Path | None = None  # bundle of the learned residual
