"""Keeps one track for each cylinder: position, velocity, confidence, and whether the gripper carries it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from physai_base.kinematics import Pose
from physai_base.task import Kind
from physai_base.values import SceneObject
from physai_perception.cylinder import CylinderFit, orientation
from physai_perception.settings import PerceptionSettings

_FIRST_VELOCITY_SIGMA = 0.3  # m/s
_REST_SPEED = 0.004  # m/s: below this a free cylinder is reported at rest
_AXIS_GAIN = 0.6
_DIAGONAL = np.arange(3)
_GRASP_BELOW_M = 0.01  # how far the tool may be beyond the cylinder's ends while holding it
_GRASP_ABOVE_M = 0.02


@dataclass(frozen=True)
class HandView:
    """The gripper at the stamp of the image."""

    pose: Pose
    twist: np.ndarray  # (6,) m/s, rad/s of the tool in the base frame
    width_m: float


@dataclass(frozen=True)
class Sighting:
    """What one image says about one cylinder."""

    fit: CylinderFit | None  # None: not seen
    visibility: float = 0.0  # 0..1, share of what would be seen if nothing hid it
    absent: bool = False  # its place is seen to be empty


@dataclass
class _Track:
    kind: Kind
    position: np.ndarray
    velocity: np.ndarray
    covariance: np.ndarray  # (6, 6) of position and velocity
    axis: np.ndarray
    rotation_covariance: np.ndarray  # (3, 3)
    confidence: float
    stamp_ns: int
    last_seen_ns: int
    hand: int | None = None  # which of the tools holds it
    in_tool: np.ndarray = field(default_factory=lambda: np.zeros(3))  # foot in the tool frame, while held
    axis_in_tool: np.ndarray = field(default_factory=lambda: np.array([0.0, 0.0, 1.0]))
    jumps: list[np.ndarray] = field(default_factory=list)


class CylinderTracker:
    """One Kalman filter with constant velocity for each label; a held cylinder moves with the tool instead."""

    def __init__(
        self,
        kinds: Mapping[str, Kind],
        upright_cosine: float,
        settings: PerceptionSettings | None = None,
        first_id: int = 1,
    ) -> None:
        self._kinds = kinds
        self._upright_cosine = upright_cosine
        self._settings = settings or PerceptionSettings()
        self._ids = {label: first_id + k for k, label in enumerate(kinds)}
        self._tracks: dict[str, _Track] = {}

    def reset(self) -> None:
        """Forget every cylinder; identities stay those of the labels."""
        self._tracks.clear()

    def guess(self, label: str, *tools: HandView) -> tuple[np.ndarray, np.ndarray] | None:
        """Foot and axis where a cylinder should be now, or None when it has never been seen."""
        track = self._tracks.get(label)
        if track is None:
            return None
        if track.hand is not None:
            return self._carried(track, tools[track.hand])
        return track.position, track.axis

    def held(self, label: str) -> bool:
        """Whether a gripper carries that cylinder."""
        track = self._tracks.get(label)
        return track is not None and track.hand is not None

    def update(
        self, stamp_ns: int, sightings: dict[str, Sighting], *tools: HandView
    ) -> tuple[SceneObject, ...]:
        """All tracks after one image."""
        for label, sighting in sightings.items():
            track = self._tracks.get(label)
            if track is None:
                if sighting.fit is not None:
                    track = self._begin(self._kinds[label], stamp_ns, sighting.fit, sighting.visibility)
                    self._tracks[label] = track
                    self._decide_held(track, tools)
                continue
            dt = (stamp_ns - track.stamp_ns) * 1e-9
            self._predict(track, dt, tools)
            if sighting.fit is not None:
                self._correct(track, stamp_ns, sighting.fit, sighting.visibility)
            else:
                tau = self._settings.absent_decay_s if sighting.absent else self._settings.confidence_decay_s
                track.confidence *= float(np.exp(-dt / tau))
            track.stamp_ns = stamp_ns
            self._decide_held(track, tools)
        return tuple(self._object(label) for label in self._kinds if label in self._tracks)

    def _begin(self, kind: Kind, stamp_ns: int, fit: CylinderFit, visibility: float) -> _Track:
        covariance = np.zeros((6, 6))
        covariance[:3, :3] = fit.covariance[:3, :3]
        covariance[3:, 3:] = np.eye(3) * _FIRST_VELOCITY_SIGMA**2
        return _Track(
            kind=kind, position=fit.foot.copy(), velocity=np.zeros(3), covariance=covariance, axis=fit.axis.copy(),
            rotation_covariance=fit.covariance[3:, 3:].copy(), confidence=_confidence(fit, visibility),
            stamp_ns=stamp_ns, last_seen_ns=stamp_ns,
        )  # fmt: skip

    def _predict(self, track: _Track, dt: float, tools: tuple[HandView, ...]) -> None:
        if track.hand is not None:
            tool = tools[track.hand]
            track.position, track.axis = self._carried(track, tool)
            lever = track.position - tool.pose.position
            track.velocity = tool.twist[:3] + np.cross(tool.twist[3:], lever)
            track.covariance[:3, :3] += np.eye(3) * 0.001**2 * dt * 15
            return
        seen = track.stamp_ns == track.last_seen_ns
        if not seen:
            track.velocity = track.velocity * np.exp(-dt / 0.1)  # a hidden cylinder soon stands
        F = np.eye(6)
        F[:3, 3:] = dt * np.eye(3)
        q = self._settings.acceleration_sigma**2
        Q = np.zeros((6, 6))
        Q[_DIAGONAL, _DIAGONAL] = q * dt**4 / 4
        Q[_DIAGONAL + 3, _DIAGONAL + 3] = q * dt**2
        Q[_DIAGONAL, _DIAGONAL + 3] = Q[_DIAGONAL + 3, _DIAGONAL] = q * dt**3 / 2
        track.position = track.position + dt * track.velocity
        track.covariance = F @ track.covariance @ F.T + Q
        if not seen:  # its uncertainty grows, but not without bound: it cannot have gone far
            scale = np.minimum(1.0, np.array([0.05] * 3 + [0.3] * 3) / np.sqrt(np.diag(track.covariance)))
            track.covariance *= np.outer(scale, scale)

    def _correct(self, track: _Track, stamp_ns: int, fit: CylinderFit, visibility: float) -> None:
        foot, axis = fit.foot, fit.axis
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
        blended = track.axis + _AXIS_GAIN * (axis - track.axis)
        track.axis = blended / np.linalg.norm(blended)
        track.rotation_covariance = fit.covariance[3:, 3:].copy()
        track.confidence += 0.7 * (_confidence(fit, visibility) - track.confidence)
        track.last_seen_ns = stamp_ns

    def _decide_held(self, track: _Track, tools: tuple[HandView, ...]) -> None:
        """Held: a gripper is as wide as the cylinder and closed around it. Kept while it stays that wide."""
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
        track.hand = hand

    def _holds(self, track: _Track, hand: int, tool: HandView) -> bool:
        if abs(tool.width_m - track.kind.grip_m) >= self._settings.grasp_width_tolerance_m:
            return False
        offset = tool.pose.position - track.position
        along = float(offset @ track.axis)
        sideways = float(np.linalg.norm(offset - along * track.axis))
        slack = track.kind.size_m[0] / 2 * (1.0 if track.hand == hand else 0.5)
        return sideways < slack and -_GRASP_BELOW_M < along < track.kind.size_m[2] + _GRASP_ABOVE_M

    @staticmethod
    def _carried(track: _Track, tool: HandView) -> tuple[np.ndarray, np.ndarray]:
        rotation = tool.pose.rotation
        return tool.pose.position + rotation @ track.in_tool, rotation @ track.axis_in_tool

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
            orientation=orientation(track.axis),
            covariance=covariance,
            velocity_m_s=np.zeros(3) if still else track.velocity.copy(),
            size_m=np.array(track.kind.size_m),
            confidence=float(np.clip(track.confidence, 0.0, 1.0)),
            last_seen_ns=track.last_seen_ns,
            upright=bool(track.axis[2] >= self._upright_cosine),
        )


def _confidence(fit: CylinderFit, visibility: float) -> float:
    """How far a sighting is believed: all of it from a third of the cylinder on, less when it fits badly."""
    return float(np.clip(0.4 + 1.8 * visibility, 0.0, 1.0) * fit.inliers)
