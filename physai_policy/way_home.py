"""A slow way for the joints from where the arm stands to its start posture, for when a policy does not know where it stands.

It is sent as chunks like the policy's own, through the same world model and limits; before the first, all of it is checked here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.embodiment_parts import Hand
from physai_base.kinematics import ArmKinematics
from physai_base.task import Kind, Shape, Task
from physai_base.values import SceneState
from physai_policy.policy import ActionSpace, Proposal
from physai_policy.watch import may_hold

SPEED_RAD_S = 0.3  # of the fastest joint, at most
ACCELERATION_RAD_S2 = 0.5
WAIT_S = 0.3  # the arm stands this long first, until the first chunk has come
THERE_RAD = 0.03  # a joint this near its start angle is there
TIP_SLACK_M = 0.002  # beyond the hand's lowest point
CLEARANCE_M = 0.06  # of those points from a thing's side
ABOVE_M = 0.03  # and from the table, and from the top of things
CHECKS = 60
FAR_RAD = 0.15  # a first chunk that begins farther from a joint was not made for this posture; the controller allows 0.35
ROWS, DT_S = 16, 0.05
OPEN_M = 0.002  # a hand this near to its greatest width holds nothing
SETTLE_S = 2.0  # after the way the arm is near its end, or never will be
LIMIT_S = 60.0


@dataclass(frozen=True)
class WayHome:
    """Joint angles over time, with no jerk at either end."""

    start: np.ndarray  # (n,) rad
    end: np.ndarray  # (n,) rad
    gripper_width_m: float  # stays as it is
    begin_ns: int

    @staticmethod
    def from_here(embodiment: Embodiment, scene: SceneState) -> WayHome:
        """From where the arm is in that scene."""
        return WayHome(scene.joint_position, embodiment.home, scene.tool.opening, scene.stamp_ns)

    @property
    def duration_s(self) -> float:
        """From the first motion to rest."""
        most = float(np.abs(self.end - self.start).max())
        return max(1.875 * most / SPEED_RAD_S, float(np.sqrt(5.78 * most / ACCELERATION_RAD_S2)), 1e-3)

    def at(self, share: np.ndarray) -> np.ndarray:
        """Joint angles (k, n) after those shares (k,) of the duration."""
        s = np.clip(share, 0.0, 1.0)[:, None]
        return self.start + (10 * s**3 - 15 * s**4 + 6 * s**5) * (self.end - self.start)

    def proposal(self, now_ns: int, horizon: int, dt_s: float) -> Proposal:
        """The part of it that begins now, as one sample."""
        times = (now_ns - self.begin_ns) / 1e9 - WAIT_S + np.arange(horizon) * dt_s
        rows = self.at(times / self.duration_s)
        widths = np.full((horizon, 1), self.gripper_width_m)
        return Proposal(np.hstack([rows, widths])[None], ActionSpace.JOINT_POSITION, dt_s)

    def obstacle(
        self, embodiment: Embodiment, kinematics: ArmKinematics, scene: SceneState, task: Task
    ) -> str:
        """What the way would meet, empty if nothing: stops of joints, the geofence, the table, objects and places.

        Where the hand is already nearer to a thing than it should be, it may leave, not come nearer.
        """
        path = self.at(np.linspace(0.0, 1.0, CHECKS))
        for joint, angles in zip(embodiment.joints, path.T, strict=True):
            if not (angles.min() >= joint.position_min and angles.max() <= joint.position_max):
                return f"passes the stop of {joint.name}"
        along_m = _along(embodiment.end_effectors[0].hand)
        points = np.array([_hand(kinematics, row, along_m) for row in path])  # (CHECKS, points, 3)
        tool = points[:, 0]
        outside = np.maximum(embodiment.geofence_min - tool, tool - embodiment.geofence_max).max(axis=1)
        if outside.max() > max(0.0, outside[0]) + 1e-6:
            return "leaves the geofence"
        rooms = {"the table": points[:, :, 2].min(axis=1) - ABOVE_M}
        for thing in scene.objects:
            if not thing.believed:
                continue
            name = f"the {thing.label.replace('_', ' ')}"
            if thing.label not in (*task.objects, *task.places):
                continue
            kind = task.kind(thing.label)
            if kind.shape is Shape.BOARD:
                half = np.array(kind.size_m[:2]) / 2
                aside = np.linalg.norm(
                    np.maximum(np.abs(points[:, :, :2] - thing.position_m[:2]) - half, 0), axis=2
                )
                rooms[name] = _room(aside, points[:, :, 2] - thing.position_m[2])
            else:
                rooms[name] = _room_beside(points, thing.position_m, thing.upright, kind)
        for name, room in rooms.items():
            if room.min() < min(0.0, room[0]) - 1e-3:
                return f"comes too near to {name}"
        return ""


def _along(hand: Hand) -> tuple[float, ...]:
    """Points along the tool's axis that are kept clear of things, the tool frame first."""
    return (0.0, -hand.length, -hand.length / 2, hand.tip + TIP_SLACK_M)


def _hand(kinematics: ArmKinematics, joints: np.ndarray, along_m: tuple[float, ...]) -> np.ndarray:
    pose = kinematics.tool_pose(joints)
    return pose.position + np.outer(along_m, pose.rotation[:, 2])


def _room_beside(points: np.ndarray, foot_m: np.ndarray, upright: bool, kind: Kind) -> np.ndarray:
    radius, height = kind.size_m[0] / 2, kind.size_m[2]
    if not upright:  # wherever its top points to
        radius, height = height, 2 * radius
    aside = np.linalg.norm(points[:, :, :2] - foot_m[:2], axis=2) - radius
    return _room(aside, points[:, :, 2] - foot_m[2] - height)


def _room(aside_m: np.ndarray, above_m: np.ndarray) -> np.ndarray:
    """How much room (k,) the nearest of the points (k, p) has left: beside the thing or above it."""
    return np.maximum(aside_m - CLEARANCE_M, above_m - ABOVE_M).min(axis=1)


class Homing:
    """Takes the arm home once in a task, when a policy does not know where it stands."""

    def __init__(self, embodiment: Embodiment, kinematics: ArmKinematics, task: Task) -> None:
        self._embodiment, self._kinematics, self._task = embodiment, kinematics, task
        self.begin()

    def begin(self, resumed: bool = False) -> None:
        """Another task; or one that goes on after a person had it, in the middle of which there is no way home."""
        self._way: WayHome | None = None
        self._since_ns = 0
        self.why, self.used = "", resumed

    @property
    def active(self) -> bool:
        """Whether the arm is on its way."""
        return self._way is not None

    def away(self, scene: SceneState) -> bool:
        """Whether the arm is elsewhere."""
        return bool(np.abs(scene.joint_position - self._embodiment.home).max() > THERE_RAD)

    def strange(self, rows: np.ndarray, scene: SceneState) -> str:
        """That a first chunk (H, n) was not made for the arm's posture; empty when it was."""
        far_rad = np.abs(rows[0] - scene.joint_position)
        joint = int(np.argmax(far_rad))
        if far_rad[joint] <= FAR_RAD:
            return ""
        return f"the policy would begin {far_rad[joint]:.2f} rad from where {self._embodiment.joint_names[joint]} is"

    def set_out(self, why: str, scene: SceneState) -> str:
        """Begin; returns what is in the way, and then it has not begun."""
        self.why, self.used, self._since_ns = why, True, scene.stamp_ns
        closed = scene.tool.opening < self._embodiment.gripper.opening_max - OPEN_M
        if closed and may_hold(
            scene, self._task
        ):  # it is held only as long as less than its width is commanded
            return f"the hand holds something: {why}, and on the way to its start posture it would be dropped; take it out of the hand"
        way = WayHome.from_here(self._embodiment, scene)
        obstacle = way.obstacle(self._embodiment, self._kinematics, scene, self._task)
        if obstacle:
            return f"{why}, and the way to its start posture {obstacle}: bring the arm there by hand"
        self._way = way
        return ""

    def anew(self, scene: SceneState) -> None:
        """From where the arm is now: a chunk was not followed, and the time of the way has gone on."""
        self._way = WayHome.from_here(self._embodiment, scene)

    def proposal(self, scene: SceneState) -> Proposal:
        """What is due now."""
        assert self._way is not None
        return self._way.proposal(scene.stamp_ns, ROWS, DT_S)

    def too_late(self, now_ns: int) -> str:
        """That it takes too long; empty when it does not."""
        if self._way is None or now_ns - self._since_ns <= LIMIT_S * 1e9:
            return ""
        return f"{self.why}, and the start posture was not reached within {LIMIT_S:g} s"

    def arrived_after_ns(self, scene: SceneState) -> int | None:
        """None while the arm is on its way; once, when it has arrived, how long it took (ns)."""
        assert self._way is not None
        late_s = (scene.stamp_ns - self._way.begin_ns) / 1e9 - WAIT_S - self._way.duration_s
        if late_s <= 0 or (self.away(scene) and late_s < SETTLE_S):
            return None
        self._way = None
        return scene.stamp_ns - self._since_ns
