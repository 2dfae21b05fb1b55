"""The stamped, frozen values that travel between layers; one class for one message of `msg/`.

Units are SI, angles radians. Positions and rotations are expressed in the robot's base frame unless a
name says otherwise. Quaternions are (w, x, y, z), as in MuJoCo and transforms3d. `stamp_ns` is ROS time in
nanoseconds: simulated time in a simulator, wall time on a robot.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum

import numpy as np

from physai_base.errors import MissingObjectError

POSE = 7  # numbers of a pose: position (3), m, and quaternion w x y z
LEAST_CONFIDENCE = 0.05  # below it a thing counts as gone


@dataclass(frozen=True)
class JointState:
    """What the arm measured at one instant."""

    stamp_ns: int
    position: np.ndarray  # (n,) rad
    velocity: np.ndarray  # (n,) rad/s
    effort: np.ndarray  # (n,) Nm
    openings: np.ndarray  # (k,) of each end effector's gripper, in its own unit; 0 without one


@dataclass(frozen=True)
class JointSample:
    """What one message says of one joint; NaN where it says nothing."""

    position: float  # rad or m
    velocity: float
    effort: float


@dataclass(frozen=True)
class CameraFrame:
    """One registered RGB-D image. The optical frame is x right, y down, z forward (REP 103)."""

    stamp_ns: int
    camera: str
    rgb: np.ndarray  # (h, w, 3) uint8
    depth_m: np.ndarray  # (h, w) float32, distance along the optical axis, 0 where unknown
    intrinsics: np.ndarray  # (3, 3) pinhole matrix K, pixels


@dataclass(frozen=True)
class SceneObject:
    """One thing that perception believes in."""

    id: int
    label: str  # as named in the task file
    position_m: (
        np.ndarray
    )  # (3,) centre of the object's base (the foot of what stands, the middle of a board's surface)
    orientation: np.ndarray  # (4,) w x y z
    covariance: np.ndarray  # (6, 6) of (x, y, z, rotation vector), m^2 and rad^2
    velocity_m_s: np.ndarray  # (3,)
    size_m: np.ndarray  # (3,) extents along the object's own axes
    confidence: float  # 0..1
    last_seen_ns: int
    upright: bool = True
    kind: str = ""  # as the task declares it

    @property
    def believed(self) -> bool:
        """Whether it may still be acted on: perception goes on to report a thing that was taken away."""
        return self.confidence >= LEAST_CONFIDENCE


@dataclass(frozen=True)
class EndEffectorState:
    """Where one end effector is, how it moves, and how far its gripper is open."""

    name: str
    position_m: np.ndarray  # (3,) of the tool frame
    orientation: np.ndarray  # (4,) w x y z
    linear_velocity_m_s: np.ndarray  # (3,)
    angular_velocity_rad_s: np.ndarray  # (3,)
    opening: float  # in the gripper's own unit (m, rad, 0..1); 0 without one

    @staticmethod
    def at_rest(
        position_m: np.ndarray, orientation: np.ndarray, opening: float, name: str = "tool"
    ) -> EndEffectorState:
        """One that does not move."""
        return EndEffectorState(name, position_m, orientation, np.zeros(3), np.zeros(3), opening)


@dataclass(frozen=True)
class SceneState:
    """The scene at the stamp of an image, with the robot's state interpolated to that same stamp."""

    stamp_ns: int
    objects: tuple[SceneObject, ...]
    joint_position: np.ndarray  # (n,) rad
    joint_velocity: np.ndarray  # (n,) rad/s
    end_effectors: tuple[EndEffectorState, ...]  # in the embodiment's order, at least one
    task: str = ""  # whose things were looked for; empty: nobody says

    @property
    def tool(self) -> EndEffectorState:
        """The first end effector, the only one of a robot with one arm."""
        return self.end_effectors[0]

    def find(self, label: str) -> SceneObject | None:
        """The object of that label, or None."""
        return next((thing for thing in self.objects if thing.label == label), None)

    def require(self, label: str) -> SceneObject:
        """The object of that label.

        Raises:
            MissingObjectError: perception does not know it, or believes in it no more.
        """
        found = self.find(label)
        if found is None or not found.believed:
            raise MissingObjectError(f"{label.replace('_', ' ')} is not in view")
        return found


class ChunkMode(IntEnum):
    """What a chunk's values mean; the numbers are those of ActionChunk.msg."""

    JOINT_POSITION = 0
    TCP_POSE = 1


@dataclass(frozen=True)
class ActionChunk:
    """H future setpoints at dt from `start_ns`, absolute, with an opening of each of the k end effectors' grippers."""

    sequence: int
    policy: str
    observation_ns: int  # stamp of the observation that this chunk is conditioned on
    start_ns: int  # time of step 0
    dt_ns: int
    mode: ChunkMode
    joint_names: tuple[str, ...]
    values: np.ndarray  # (H, n) rad, or (H, 7 k) m and quaternion w x y z of each end effector in turn
    openings: np.ndarray  # (H, k) in each gripper's own unit; 0 without one
    uncertainty: float  # of the whole chunk, the policy's own scale
    expiry_ns: int  # after this the controller must not follow it any more
    lease: int = 1  # of the process that made it, not 0: the arm follows one at a time
    end_effectors: tuple[str, ...] = ()  # k names; may be empty for a robot with one, k = 1

    @property
    def horizon(self) -> int:
        """Number of setpoints H."""
        return len(self.values)


class VerdictReason(str, Enum):
    """Why the world model allowed or vetoed a chunk."""

    OK = "ok"
    TABLE = "table_contact"
    WORKSPACE = "leaves_workspace"
    KNOCK = "knocks_over"
    OUT_OF_DISTRIBUTION = "out_of_distribution"
    STALE_SCENE = "stale_scene"
    INVALID = "invalid_chunk"


@dataclass(frozen=True)
class ChunkVerdict:
    """The world model's judgement of one chunk."""

    stamp_ns: int
    sequence: int
    allow: bool
    reason: VerdictReason
    detail: str
    risk: float  # 0..1, largest of the imagined hazards relative to its limit
    uncertainty: float  # epistemic: ensemble disagreement
    ood_score: float
    ood_threshold: float
    lease: int = 1  # of the chunk


@dataclass(frozen=True)
class WorldPrediction:
    """What the world model imagines along a chunk, one row per chunk step."""

    stamp_ns: int
    sequence: int
    dt_ns: int
    tcp_position_m: np.ndarray  # (H, 3)
    object_labels: tuple[str, ...]
    object_position_m: np.ndarray  # (H, k, 3)
    uncertainty: np.ndarray  # (H,)


class ControlState(IntEnum):
    """States of the control core; the numbers are those of ControlStatus.msg and of the C library."""

    INACTIVE = 0
    HOLD = 1
    TRACK = 2
    DEGRADED = 3
    STOPPING = 4
    FAULT = 5
    ESTOP = 6


class ControlCause(IntEnum):
    """Why the control core last held, stopped or faulted; the numbers are those of ControlStatus.msg and `enum physai_cause`."""

    NONE = 0
    ACTIVATED = 1
    RESET = 2
    REPOSITIONED = 3
    CHUNK_EXPIRED = 4
    STOP_REQUESTED = 5
    DEACTIVATED = 6
    RESUMED = 7
    LAW_CHANGED = 8
    STATE_NOT_FINITE = 9
    STATE_TIMEOUT = 10
    HARDWARE_GONE = 11
    TORQUE_NOT_FINITE = 12
    VELOCITY = 13
    POSITION = 14
    TRACKING = 15
    GEOFENCE = 16
    GATE = 17
    DYNAMICS = 18
    POSE_TRACKING = 19
    STATE_GAP = 20
    STATE_INCONSISTENT = 21
    STATE_FROZEN = 22
    CONTACT = 23
    CONTACT_WRENCH = 24
    INSTABILITY = 25
    ESTOP_REQUESTED = 26
    ESTOP_HARDWARE = 27
    CHUNK_ENDED = 28
    UNHEARD = 29
    STATE_CONTRADICTED = 30
    STATE_SLOW = 31
    ARMS_DISTANCE = 32
    LET_GO = 33
    STATE_JUMPED = 34
    LATCHED_BEFORE = 100  # said by the node: a stop from before this process, or before it was set up anew


@dataclass(frozen=True)
class EndEffectorStatus:
    """What the control core says of one end effector; base frame."""

    name: str
    pose: np.ndarray  # (7,) measured: m and quaternion w x y z
    pose_error: np.ndarray  # (6,) m, rad: reference - measured, Cartesian law
    external_wrench: np.ndarray  # (6,) N, Nm from outside about the tool's origin, estimated
    opening: float  # measured, in the gripper's own unit; 0 without one


@dataclass(frozen=True)
class ControlStatus:
    """A snapshot of the control core."""

    stamp_ns: int
    state: ControlState
    cause: str  # of the last hold, stop or fault, empty if none
    cycles: int
    overruns: int
    missed_states: int
    latency_us: dict[str, float]  # p50, p99, p99_9, max of the compute time of a cycle
    wake_us: dict[str, float]  # the same of the wake-up lateness
    active_sequence: int  # 0 when no chunk is followed
    chunk_age_s: float  # since its observation
    chunks_accepted: int
    chunks_rejected: int
    last_rejection: str
    tracking_error_rad: np.ndarray  # (n,)
    end_effectors: tuple[EndEffectorStatus, ...]
    reference: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (n,) rad
    activation_latency_s: float = 0.0  # from a chunk's observation to the first torque computed from it
    law: str = "joint"  # or "cartesian"
    reduced: bool = False
    residual_active: bool = False
    skipped_states: int = 0
    tank_energy_j: float = 0.0
    cause_code: ControlCause = ControlCause.NONE  # `cause` for programs
    active_lease: int = 0  # of the chunk that is followed, 0 when none
    rejected_lease: int = 0  # of the chunk that `last_rejection` is about, 0 when that is not known
    rejected_sequence: int = 0

    @property
    def tool(self) -> EndEffectorStatus:
        """The first end effector, the only one of a robot with one arm."""
        return self.end_effectors[0]


@dataclass(frozen=True)
class StopRecord:
    """One cycle as the control core's black box keeps it."""

    cycle: int
    state: ControlState
    answered: bool  # a command was sent
    measured: JointState
    command_position: np.ndarray  # (n,) rad
    command_velocity: np.ndarray  # (n,) rad/s
    command_torque: np.ndarray  # (n,) Nm
    openings: np.ndarray  # (k,) commanded
    enabled: bool  # the torque counts; else the brakes hold the arm
