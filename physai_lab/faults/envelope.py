"""The envelope E: what must hold of the arm whatever happens, judged on the plant's log alone.

Every term is a worst value and its bound; a value that is not a number is beyond every bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import mujoco
import numpy as np

from physai_base.embodiment import Embodiment, Fence
from physai_base.robot_model import load_robot, place_of
from physai_base.values import POSE
from physai_sim.plant import Gate, PlantLog

ROW_S = 1e-3  # from one row of a log to the next
VELOCITY_SHARE = 1.05
RESTART_M = 2e-3
FENCE_MARGIN_M = 0.02  # where the core's own guard trips: contact and sag alone must not trip it
DETECTION_S, DECELERATION_M_S2, STOP_SLACK_M = 0.005, 9.0, 0.005
TOOL_EVERY = 4  # ms between the samples of the log at which the tool's position is computed
ROUNDING = 1e-9


@dataclass(frozen=True)
class Term:
    """One inequality of the envelope."""

    name: str
    value: float
    bound: float

    @property
    def holds(self) -> bool:
        """Written so that not-a-number fails."""
        return bool(self.value <= self.bound * (1 + ROUNDING) + ROUNDING)

    @property
    def share(self) -> float:
        """Value relative to the bound, 1 at the bound; infinite where the value is no number."""
        if not np.isfinite(self.value):
            return float("inf")
        return float(self.value / self.bound) if self.bound > 0 else (0.0 if self.holds else float("inf"))


class ToolEnvelope:
    """Where the tools and the elbows are at joint angles, on a model of its own."""

    def __init__(self, embodiment: Embodiment) -> None:
        robot = load_robot(embodiment)
        self._model, self._positions = robot.model, robot.positions
        self._data = mujoco.MjData(self._model)
        self._sites = [self._model.site(end.frame).id for end in embodiment.end_effectors]
        self._base = self._model.body(embodiment.base_frame).id
        elbows = [end.elbow_frame for end in embodiment.end_effectors]
        self._elbows = [place_of(self._model, self._data, name) for name in elbows if name]
        self._fences = embodiment.fences

    def _each(self, joints: np.ndarray) -> Iterator[int]:
        """Row after row of (K, n) rad that is finite, with the model there."""
        for row, q in enumerate(joints):
            if np.isfinite(q).all():
                self._data.qpos[self._positions] = q
                mujoco.mj_kinematics(self._model, self._data)
                yield row

    def positions(self, joints: np.ndarray) -> np.ndarray:
        """The tools' (k, K, 3) m in the base frame, which the model has not turned; NaN where the angles are."""
        found = np.full((len(self._sites), len(joints), 3), np.nan)
        for row in self._each(joints):
            found[:, row] = self._data.site_xpos[self._sites] - self._data.xpos[self._base]
        return found

    def poses(self, joints: np.ndarray) -> np.ndarray:
        """Of each of k tools in turn (K, 7 k): m and quaternion w x y z, neighbours of one sign."""
        found = np.full((len(joints), len(self._sites), POSE), np.nan)
        turn = np.empty(4)
        for row in self._each(joints):
            for k, site in enumerate(self._sites):
                mujoco.mju_mat2Quat(turn, self._data.site_xmat[site])
                flip = -1.0 if row and found[row - 1, k, 3:] @ turn < 0 else 1.0
                found[row, k, :3] = self._data.site_xpos[site] - self._data.xpos[self._base]
                found[row, k, 3:] = flip * turn
        return found.reshape(len(joints), -1)

    def outside(self, joints: np.ndarray) -> np.ndarray:
        """How far (K,) m any tool or elbow is beyond the worst of the embodiment's fences; 0 within all."""
        found = np.full(len(joints), np.nan)
        for row in self._each(joints):
            base = self._data.xpos[self._base]
            points = {
                "tool": self._data.site_xpos[self._sites] - base,
                "elbow": [elbow - base for elbow in self._elbows],
            }
            found[row] = max(
                (_beyond(f, point) for f in self._fences for name in f.points for point in points[name]),
                default=0.0,
            )
        return found


def _beyond(fence: Fence, point: np.ndarray) -> float:
    if fence.kind == "plane":
        return max(0.0, float(fence.offset - fence.normal @ point))
    out = float(np.maximum(fence.low - point, point - fence.high).max())
    return max(0.0, out if fence.kind == "inside" else -out)


def rows_of_a_cycle(embodiment: Embodiment) -> int:
    """How many rows a cycle of its controller lasts."""
    return max(1, round(1.0 / (embodiment.control.rate_hz * ROW_S)))


def takes_positions(embodiment: Embodiment) -> bool:
    """Whether servos of its own move it, and positions are all that it measures."""
    return embodiment.hardware.command != "effort"


def judge(
    log: PlantLog, embodiment: Embodiment, tool: ToolEnvelope, reset_tick: int | None = None
) -> dict[str, Term]:
    """The terms that follow from the plant's log; rows are 1 ms apart, `reset_tick` is the row of a reset."""
    driven = np.isin(log.gate, (Gate.DRIVEN, Gate.MISSING))
    velocity, torque = embodiment.limits("velocity"), embodiment.limits("torque")
    low, high = embodiment.limits("position_min"), embodiment.limits("position_max")
    terms = [
        Term("finite", _not_finite(log), 0.0),
        Term("torque", _worst(np.abs(log.torque[driven]) / torque), 1.0),
        Term("position", _worst(np.abs(2 * log.position - high - low) / (high - low)), 1.0),
        Term("velocity", _worst(np.abs(log.velocity) / velocity), VELOCITY_SHARE),
        _fence(log, tool, reset_tick),
    ]
    if not takes_positions(embodiment):  # of its own servos' torques the controller knows nothing
        terms.insert(2, Term("torque step", _torque_step(log, embodiment), 1.0))
    return {term.name: term for term in terms}


def restart(positions: np.ndarray, tool: ToolEnvelope) -> Term:
    """How far a tool goes from where it was at the reset; `positions` (N, n) rad from that row on."""
    track = tool.positions(positions[::TOOL_EVERY])
    moved = np.linalg.norm(track - track[:, :1], axis=2)
    return Term("restart motion, m", _worst(moved), RESTART_M)


def _worst(values: np.ndarray) -> float:
    """The largest, NaN if any is; 0 of none."""
    return float(values.max()) if values.size else 0.0


def _not_finite(log: PlantLog) -> float:
    return float(sum((~np.isfinite(a)).sum() for a in (log.position, log.velocity, log.torque)))


def _torque_step(log: PlantLog, embodiment: Embodiment) -> float:
    """Between neighbouring steps in both of which a controller's torque was applied, as a share of the stop path's rate.

    Brakes and the gate's damping take the torque over at once; that is theirs to do. After commands that did not arrive
    the controller has gone on for as many of its cycles.
    """
    driven = np.isin(log.gate, (Gate.DRIVEN, Gate.MISSING))
    both = driven[1:] & driven[:-1]
    since_s = (1 + log.missed[:-1, None]) * rows_of_a_cycle(embodiment) * ROW_S
    return _worst(
        (np.abs(np.diff(log.torque, axis=0)) / since_s / embodiment.limits("stop_torque_rate"))[both]
    )


def _fence(log: PlantLog, tool: ToolEnvelope, reset_tick: int | None) -> Term:
    """Distance of a tool or elbow outside the geofences, against the trip's margin and the way that a stop takes from there.

    An arm that a person resets while it stands outside may go no further than a stop takes it from there.
    """
    points = tool.positions(log.position[::TOOL_EVERY])
    outside = tool.outside(log.position[::TOOL_EVERY])
    speed = np.linalg.norm(np.diff(points, axis=1), axis=2).max(axis=0) / (TOOL_EVERY * ROW_S)
    reset = len(outside) if reset_tick is None else reset_tick // TOOL_EVERY
    before = _stopped(outside[:reset], speed, FENCE_MARGIN_M)
    if reset + 1 >= len(outside):
        return before
    margin = max(FENCE_MARGIN_M, float(outside[reset]))
    after = _stopped(outside[reset:], speed[reset:], margin)
    return after if before.holds and after.share > before.share else before


def _stopped(outside: np.ndarray, speed: np.ndarray, margin_m: float) -> Term:
    crossing = np.flatnonzero((outside[1:] > margin_m) & (outside[:-1] <= margin_m))
    fastest = _worst(speed[crossing])
    stop = fastest * DETECTION_S + fastest**2 / (2 * DECELERATION_M_S2) + STOP_SLACK_M
    return Term("outside the geofence, m", _worst(outside), margin_m + stop)
