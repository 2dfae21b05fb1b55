"""Keeps one track for each thing: pose, velocity, what is left of it, confidence, and whether a gripper carries it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from physai_base.kinematics import Pose
from physai_base.task import Kind, Shape
from physai_base.values import SceneObject
from physai_perception.cylinder import axis_turn, orientation, quaternion
from physai_perception.fitting import Guess, ShapeFit, Sighting, upright_turn
from physai_perception.settings import PerceptionSettings

_FIRST_VELOCITY_SIGMA = 0.3  # m/s
_REST_SPEED = 0.004  # m/s: below this a free thing is reported at rest
_AXIS_GAIN = 0.6
_DIAGONAL = np.arange(3)
_FIRST_TURN_SIGMA = 0.5  # rad/s: how fast a free thing may turn between two images
_TIPPED_COSINE = 0.7  # a box whose axis is further off than this lies on another face now
_GRASP_BELOW_M = 0.01  # how far the tool may be beyond the thing's ends while holding it
_GRASP_ABOVE_M = 0.02
_GRASP_SIDEWAYS_M = 0.01  # how far the tool may be beside its axis when it takes it, of a thin one as well
_FINGER_ASIDE_M, _FINGER_RADIUS_M = (
    0.006,
    0.010,
)  # a finger's middle beyond its inner face, and about how thick it is
_PUSHED_SIGMA = 0.2  # m for each m that a hidden thing is thought to have been pushed
_PLACE_ACCELERATION = 0.02  # m/s^2, of a place that nobody moves
_PLACE_DECAY_S = 30.0  # of the confidence while a place that nothing moves is hidden


@dataclass(frozen=True)
class HandView:
    """The gripper at the stamp of the image."""

    pose: Pose
    twist: np.ndarray  # (6,) m/s, rad/s of the tool in the base frame
    width_m: float


@dataclass
class _Track:
    kind: Kind
    turns: int  # its symmetry
    position: np.ndarray
    velocity: np.ndarray
    covariance: np.ndarray  # (6, 6) of position and velocity
    axis: np.ndarray  # its own z
    heading: np.ndarray  # its own x; of what is round, anything across the axis
    size_m: np.ndarray
    rotation_covariance: np.ndarray  # (3, 3)
    confidence: float
    stamp_ns: int
    last_seen_ns: int
    hand: int | None = None  # which of the tools holds it
    in_tool: np.ndarray = field(default_factory=lambda: np.zeros(3))  # origin in the tool frame, while held
    axis_in_tool: np.ndarray = field(default_factory=lambda: np.array([0.0, 0.0, 1.0]))
    heading_in_tool: np.ndarray = field(default_factory=lambda: np.array([1.0, 0.0, 0.0]))
    jumps: list[np.ndarray] = field(default_factory=list)


class ThingTracker:
    """One Kalman filter with constant velocity for each label; what is held moves and turns with the tool instead."""

    def __init__(
        self,
        kinds: Mapping[str, Kind],
        upright_cosine: float,
        settings: PerceptionSettings | None = None,
        first_id: int = 1,
        fixed: Collection[str] = (),
    ) -> None:
        """`fixed`: labels of what nobody moves."""
        self._kinds = kinds
        self._upright_cosine = upright_cosine
        self._settings = settings or PerceptionSettings()
        self._ids = {label: first_id + k for k, label in enumerate(kinds)}
        self._fixed = frozenset(fixed)
        self._tracks: dict[str, _Track] = {}

    def reset(self) -> None:
        """Forget everything; identities stay those of the labels."""
        self._tracks.clear()

    def guess(self, label: str, *tools: HandView) -> Guess | None:
        """Where a thing should be now, or None when it has never been seen."""
        track = self._tracks.get(label)
        if track is None:
            return None
        position, axis, heading = track.position, track.axis, track.heading
        if track.hand is not None:
            position, axis, heading = self._carried(track, tools[track.hand])
        rotation = axis_turn(axis) if track.turns == 0 else _rotation(axis, heading)
        return Guess(position, rotation, track.size_m, held=track.hand is not None)

    def held(self, label: str) -> bool:
        """Whether a gripper carries that thing."""
        track = self._tracks.get(label)
        return track is not None and track.hand is not None

    def update(
        self, stamp_ns: int, sightings: Mapping[str, Sighting], *tools: HandView
    ) -> tuple[SceneObject, ...]:
        """All tracks after one image."""
        for label, sighting in sightings.items():
            track = self._tracks.get(label)
            if track is None:
                if sighting.fit is not None:
                    track = self._begin(self._kinds[label], stamp_ns, sighting.fit, sighting.visibility)
                    self._tracks[label] = track
                    self._decide_held(label, track, tools)
                continue
            dt = (stamp_ns - track.stamp_ns) * 1e-9
            self._predict(label, track, dt, tools)
            if sighting.fit is not None:
                self._correct(track, stamp_ns, sighting.fit, sighting.visibility)
            else:
                track.confidence *= float(np.exp(-dt / self._decay_s(label, sighting.absent)))
            track.stamp_ns = stamp_ns
            self._decide_held(label, track, tools)
        return tuple(self._object(label) for label in self._kinds if label in self._tracks)

    def _decay_s(self, label: str, absent: bool) -> float:
        if absent:
            return self._settings.absent_decay_s
        return _PLACE_DECAY_S if label in self._fixed else self._settings.confidence_decay_s

    def _begin(self, kind: Kind, stamp_ns: int, fit: ShapeFit, visibility: float) -> _Track:
        covariance = np.zeros((6, 6))
        covariance[:3, :3] = fit.covariance[:3, :3]
        covariance[3:, 3:] = np.eye(3) * _FIRST_VELOCITY_SIGMA**2
        return _Track(
            kind=kind, turns=symmetry(kind), position=fit.origin.copy(), velocity=np.zeros(3), covariance=covariance, axis=fit.axis.copy(),
            heading=fit.rotation[:, 0].copy(), size_m=fit.size_m.copy(),
            rotation_covariance=fit.covariance[3:, 3:].copy(), confidence=_confidence(fit, visibility),
            stamp_ns=stamp_ns, last_seen_ns=stamp_ns,
        )  # fmt: skip

    def _predict(self, label: str, track: _Track, dt: float, tools: tuple[HandView, ...]) -> None:
        if track.turns:
            track.rotation_covariance[2, 2] += (_FIRST_TURN_SIGMA * dt) ** 2
        if track.hand is not None:
            tool = tools[track.hand]
            track.position, track.axis, track.heading = self._carried(track, tool)
            lever = track.position - tool.pose.position
            track.velocity = tool.twist[:3] + np.cross(tool.twist[3:], lever)
            track.covariance[:3, :3] += np.eye(3) * 0.001**2 * dt * 15
            return
        seen = track.stamp_ns == track.last_seen_ns
        if not seen:
            track.velocity = track.velocity * np.exp(-dt / 0.1)  # a hidden thing soon stands
        F = np.eye(6)
        F[_DIAGONAL, _DIAGONAL + 3] = dt
        q = (_PLACE_ACCELERATION if label in self._fixed else self._settings.acceleration_sigma) ** 2
        Q = np.zeros((6, 6))
        Q[_DIAGONAL, _DIAGONAL] = q * dt**4 / 4
        Q[_DIAGONAL + 3, _DIAGONAL + 3] = q * dt**2
        Q[_DIAGONAL, _DIAGONAL + 3] = Q[_DIAGONAL + 3, _DIAGONAL] = q * dt**3 / 2
        came_from = track.position
        track.position = came_from + dt * track.velocity
        track.covariance = F @ track.covariance @ F.T + Q
        if not seen and dt > 0 and label not in self._fixed and track.kind.shape is not Shape.PATCH:
            self._push(track, tools, came_from, dt)
        if not seen:  # its uncertainty grows, but not without bound: it cannot have gone far
            scale = np.minimum(1.0, np.array([0.05] * 3 + [0.3] * 3) / np.sqrt(np.diag(track.covariance)))
            track.covariance *= np.outer(scale, scale)

    def _push(self, track: _Track, tools: tuple[HandView, ...], came_from: np.ndarray, dt: float) -> None:
        """What stands hidden behind a hand is moved out of the way of its fingers.

        The thing is taken as round, and pushed along the normal of the contact, without friction.
        """
        if track.axis[2] < self._upright_cosine:
            return
        reach = float(track.size_m[:2].min()) / 2 + _FINGER_RADIUS_M
        pushed_m = 0.0
        for tool in tools:
            for side in (-1.0, 1.0):
                aside = side * (tool.width_m / 2 + _FINGER_ASIDE_M)
                finger = tool.pose.position + aside * tool.pose.rotation[:, 1]
                offset = (track.position - finger)[:2]
                apart = float(np.linalg.norm(offset))
                if -_GRASP_BELOW_M < finger[2] - track.position[2] < track.size_m[2] and 1e-6 < apart < reach:
                    track.position[:2] += offset / apart * (reach - apart)
                    pushed_m += reach - apart
        if pushed_m:
            track.velocity = (track.position - came_from) / dt
            track.covariance[:2, :2] += np.eye(2) * (_PUSHED_SIGMA * pushed_m) ** 2

    def _correct(self, track: _Track, stamp_ns: int, fit: ShapeFit, visibility: float) -> None:
        foot, axis = fit.origin, fit.axis
        if axis @ track.axis < 0 and abs(axis[2]) < 0.5:  # lying, and named from the other end
            foot, axis = foot + track.kind.size_m[2] * axis, -axis
        innovation = foot - track.position
        if np.linalg.norm(innovation) > self._settings.gate_m:
            track.jumps = [j for j in track.jumps if np.linalg.norm(j - foot) < self._settings.gate_m]
            track.jumps.append(foot)
            if len(track.jumps) < self._settings.gate_frames:
                return
            fresh = self._begin(track.kind, stamp_ns, fit, visibility)  # it was moved, or the track was wrong
            track.__dict__.update(fresh.__dict__)
            return
        track.jumps = []
        R = fit.covariance[:3, :3]
        P = track.covariance
        gain = np.linalg.solve(P[:3, :3] + R, P[:3, :]).T  # (6, 3)
        correction = gain @ innovation
        track.position = track.position + correction[:3]
        if track.hand is None:  # the tool's own velocity is better than any that images give
            track.velocity = track.velocity + correction[3:]
        track.covariance = P - gain @ P[:3, :]
        track.covariance = 0.5 * (track.covariance + track.covariance.T)
        self._turn(track, axis, fit)
        if (fit.size_m != track.size_m).any():  # what is left of it has another middle: that is no motion
            track.position, track.velocity, track.size_m = foot.copy(), np.zeros(3), fit.size_m.copy()
        track.confidence += 0.7 * (_confidence(fit, visibility) - track.confidence)
        track.last_seen_ns = stamp_ns

    def _turn(self, track: _Track, axis: np.ndarray, fit: ShapeFit) -> None:
        """Take over how the thing is turned: its axis, and its heading as far as that can be told."""
        turns = track.turns
        if turns and axis @ track.axis < _TIPPED_COSINE:
            track.axis, track.heading = axis.copy(), fit.rotation[:, 0].copy()
            track.rotation_covariance = fit.covariance[3:, 3:].copy()
            return
        blended = track.axis + _AXIS_GAIN * (axis - track.axis)
        track.axis = blended / np.linalg.norm(blended)
        variance = track.rotation_covariance[2, 2]
        track.rotation_covariance = fit.covariance[3:, 3:].copy()
        if not turns:
            return
        gain = variance / (variance + fit.covariance[5, 5])
        track.rotation_covariance[2, 2] = (1 - gain) * variance
        across = fit.rotation[:, 0]
        off = np.arctan2(np.cross(track.heading, across) @ track.axis, track.heading @ across)
        angle = gain * fold(float(off), turns)
        heading = np.cos(angle) * track.heading + np.sin(angle) * np.cross(track.axis, track.heading)
        heading = heading - (heading @ track.axis) * track.axis
        track.heading = heading / np.linalg.norm(heading)

    def _decide_held(self, label: str, track: _Track, tools: tuple[HandView, ...]) -> None:
        """Held: a gripper is as wide as the thing and closed around it. Kept while it stays that wide."""
        if label in self._fixed or track.kind.shape is Shape.PATCH:
            return
        order = sorted(range(len(tools)), key=lambda k: k != track.hand)  # the one that has it keeps it
        hand = next((k for k in order if self._holds(track, k, tools[k])), None)
        if hand is None:
            if track.hand is not None:
                track.velocity = np.zeros(3)
                track.covariance[3:, 3:] = np.eye(3) * _FIRST_VELOCITY_SIGMA**2
                track.covariance[:3, 3:] = track.covariance[3:, :3] = 0
            track.hand = None
            return
        tool = tools[hand]
        # Where it sits in the hand is what was last believed, image by image.
        track.in_tool = tool.pose.rotation.T @ (track.position - tool.pose.position)
        track.axis_in_tool = tool.pose.rotation.T @ track.axis
        track.heading_in_tool = tool.pose.rotation.T @ track.heading
        track.hand = hand

    def _holds(self, track: _Track, hand: int, tool: HandView) -> bool:
        grips = {track.kind.grip_m, *track.kind.size_m[:2]} if track.turns else {track.kind.grip_m}
        if min(abs(tool.width_m - grip) for grip in grips) >= self._settings.grasp_width_tolerance_m:
            return False
        offset = tool.pose.position - track.position
        along = float(offset @ track.axis)
        sideways = float(np.linalg.norm(offset - along * track.axis))
        slack = track.kind.size_m[0] / 2 * (1.0 if track.hand == hand else 0.5)
        beside = sideways < max(slack, _GRASP_SIDEWAYS_M)
        return beside and -_GRASP_BELOW_M < along < track.kind.size_m[2] + _GRASP_ABOVE_M

    @staticmethod
    def _carried(track: _Track, tool: HandView) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Origin, axis and heading (3,) each."""
        rotation = tool.pose.rotation
        position = tool.pose.position + rotation @ track.in_tool
        return position, rotation @ track.axis_in_tool, rotation @ track.heading_in_tool

    def _object(self, label: str) -> SceneObject:
        track = self._tracks[label]
        covariance = np.zeros((6, 6))
        covariance[:3, :3] = track.covariance[:3, :3]
        covariance[3:, 3:] = track.rotation_covariance
        still = track.hand is None and np.linalg.norm(track.velocity) < _REST_SPEED
        return SceneObject(
            id=self._ids[label],
            label=label,
            position_m=track.position.copy(),
            orientation=_orientation(track),
            covariance=covariance,
            velocity_m_s=np.zeros(3) if still else track.velocity.copy(),
            size_m=track.size_m.copy(),
            confidence=float(np.clip(track.confidence, 0.0, 1.0)),
            last_seen_ns=track.last_seen_ns,
            upright=bool(track.axis[2] >= self._upright_cosine),
        )


def symmetry(kind: Kind) -> int:
    """How often a thing looks the same in one turn about its axis; 0 for what is round, and for what is measured along the base
    frame's axes."""
    if kind.shape is Shape.CYLINDER:
        return 0
    square = abs(kind.size_m[0] - kind.size_m[1]) < 1e-4
    if square:
        return 0 if kind.shape is Shape.PATCH else 4
    return 2


def fold(angle: float, turns: int) -> float:
    """The smallest angle that looks the same, within half a turn's `turns`-th part."""
    part = 2 * np.pi / turns
    return float((angle + part / 2) % part - part / 2)


def _rotation(axis: np.ndarray, heading: np.ndarray) -> np.ndarray:
    return np.column_stack([heading, np.cross(axis, heading), axis])


def _orientation(track: _Track) -> np.ndarray:
    """Quaternion (w, x, y, z), its turn about an upright axis folded by symmetry."""
    turns = track.turns
    if not turns:
        return orientation(track.axis)
    if track.axis[2] < _TIPPED_COSINE:
        return quaternion(_rotation(track.axis, track.heading))
    # What is nearly upright: the smallest turn that tilts it, after the folded turn about the vertical.
    flat = axis_turn(track.axis).T @ track.heading
    yaw = fold(float(np.arctan2(flat[1], flat[0])), turns)
    return quaternion(axis_turn(track.axis) @ upright_turn(yaw))


def _confidence(fit: ShapeFit, visibility: float) -> float:
    """How far a sighting is believed: all of it from a third of the thing on, less when it fits badly."""
    return float(np.clip(0.4 + 1.8 * visibility, 0.0, 1.0) * fit.inliers)
