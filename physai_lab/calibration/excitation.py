"""Motions that show an arm's parameters, within its limits, its geofence and clear of itself.

Fourier series of a few harmonics for each joint (Swevers et al., "Optimal robot excitation and identification", IEEE
T-RA 1997), periodic, so that they start and end at rest at the home pose. Their coefficients are searched for the
motion whose least visible combination of parameters is as visible as can be: the largest smallest singular value of the
regressor, each parameter in units of the accuracy that is wanted and each torque in units of what is usually
unexplained. Ramps at constant speed, up and down, show dry friction without inertia.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.embodiment_parts import FENCE_POINTS, Fence
from physai_lab.calibration.arm_model import ArmModel
from physai_lab.calibration.motion import STEP_S, CalibrationError, CalibrationMotion
from physai_lab.progress import Progress

HARMONICS = 5
SHARE_VELOCITY, SHARE_ACCELERATION, SHARE_JERK = 0.4, 0.5, 0.5  # of the limits
POSITION_MARGIN_RAD = 0.15
REACH_RAD = 0.7  # from home
CLEARANCE_M, HOME_SHARE = 0.08, 0.5  # of the tool to the geofence, or of what the home pose has
RANDOM_TRIALS, REFINEMENTS = 30, 60
SCORE_SAMPLES = 80
SEARCH_CHECKS, FINAL_CHECKS = 40, 400  # poses of a motion that are checked for the fence and for contacts
SHRINK = 0.85

WANTED_MASS_KG, WANTED_MOMENT_KG_M, WANTED_INERTIA_KG_M2 = 0.01, 0.001, 0.02
WANTED_FRICTION, WANTED_OFFSET_RAD = (
    0.002,
    0.002,
)  # friction as a share of the torque limit, per rad/s for the viscous
UNEXPLAINED = 0.01  # of the torque limit

RAMP_SPEED_RAD_S = 0.08
RAMP_S = 8.0


@dataclass(frozen=True)
class Workspace:
    """Where an arm may move for its calibration."""

    embodiment: Embodiment
    model: ArmModel

    def problem(self, setpoints: np.ndarray, checks: int = FINAL_CHECKS) -> str:
        """Why the arm may not follow (H, n) setpoints; empty when it may."""
        e = self.embodiment
        low = e.limits("position_min") + POSITION_MARGIN_RAD
        high = e.limits("position_max") - POSITION_MARGIN_RAD
        for i, joint in enumerate(e.joints):
            lowest, highest = setpoints[:, i].min(), setpoints[:, i].max()
            if lowest < min(low[i], e.home[i]) or highest > max(high[i], e.home[i]):
                return f"{joint.name} would move within {POSITION_MARGIN_RAD:g} rad of its stop"
        motion = CalibrationMotion("check", setpoints)
        times = np.linspace(0.0, motion.duration_s, 4 * len(setpoints))
        for derivative, name, share in (
            (1, "velocity", SHARE_VELOCITY),
            (2, "acceleration", SHARE_ACCELERATION),
            (3, "jerk", SHARE_JERK),
        ):
            fastest = np.abs(motion.evaluate(times, derivative)).max(axis=0)
            over = fastest > share * e.limits(name) * 1.001
            if over.any():
                return f"{e.joints[int(np.argmax(over))].name} would exceed {share:.0%} of its {name} limit"
        poses = setpoints[:: max(1, len(setpoints) // checks)]
        at_home = dict(
            zip(FENCE_POINTS, (p.reshape(-1, 3) for p in self.model.places(e.home[None])), strict=True)
        )
        places = dict(zip(FENCE_POINTS, (p.reshape(-1, 3) for p in self.model.places(poses)), strict=True))
        for fence in e.fences:
            for point in fence.points:
                clearance_m = min(CLEARANCE_M, HOME_SHARE * _room(fence, at_home[point]).min())
                if (_room(fence, places[point]) < clearance_m).any():
                    return f"the {point} would come within {clearance_m:.2g} m of the geofence"
        for pose in poses:
            if touching := self.model.touches(pose):
                return f"{touching} would touch"
        return ""

    def fit(self, setpoints: np.ndarray, checks: int = FINAL_CHECKS) -> np.ndarray:
        """The motion made smaller about home until the arm may follow it.

        Raises:
            CalibrationError: there is no room even for a tenth of it; the message says what is in the way.
        """
        scale = 1.0
        home = self.embodiment.home
        while problem := self.problem(home + scale * (setpoints - home), checks):
            scale *= SHRINK
            if scale < 0.1:
                raise CalibrationError(f"there is no room to move about the home pose: {problem}")
        return np.asarray(home + scale * (setpoints - home))


def _room(fence: Fence, place: np.ndarray) -> np.ndarray:
    """(T,) m from the fence of points (T, 3), below zero beyond it."""
    if fence.kind == "plane":
        return np.asarray(place @ fence.normal - fence.offset)
    inside = np.minimum(place - fence.low, fence.high - place).min(axis=1)
    return inside if fence.kind == "inside" else -inside


def fourier(embodiment: Embodiment, coefficients: np.ndarray, duration_s: float) -> np.ndarray:
    """(H, n) setpoints of the series with (2, HARMONICS, n) coefficients, as large as the limits of each joint allow."""
    t = np.arange(round(duration_s / STEP_S) + 1) * STEP_S
    k = np.arange(1, HARMONICS + 1)
    w = 2 * np.pi * k / duration_s
    sine, cosine = coefficients
    sine = sine - sine.mean(axis=0)  # no velocity at the ends
    cosine = cosine - np.outer(k, k @ cosine) / (k @ k)  # no acceleration at the ends
    swing = (np.sin(np.outer(t, w)) / w) @ sine - ((np.cos(np.outer(t, w)) - 1) / w) @ cosine
    velocity = np.cos(np.outer(t, w)) @ sine + np.sin(np.outer(t, w)) @ cosine
    acceleration = -(np.sin(np.outer(t, w)) * w) @ sine + (np.cos(np.outer(t, w)) * w) @ cosine
    jerk = -(np.cos(np.outer(t, w)) * w**2) @ sine - (np.sin(np.outer(t, w)) * w**2) @ cosine
    room_up = np.minimum(REACH_RAD, embodiment.limits("position_max") - POSITION_MARGIN_RAD - embodiment.home)
    room_down = np.minimum(
        REACH_RAD, embodiment.home - embodiment.limits("position_min") - POSITION_MARGIN_RAD
    )
    scale = np.min(
        [
            np.maximum(room_up, 0.0) / np.maximum(swing.max(axis=0), 1e-9),
            np.maximum(room_down, 0.0) / np.maximum(-swing.min(axis=0), 1e-9),
            SHARE_VELOCITY * embodiment.limits("velocity") / np.abs(velocity).max(axis=0),
            SHARE_ACCELERATION * embodiment.limits("acceleration") / np.abs(acceleration).max(axis=0),
            SHARE_JERK * embodiment.limits("jerk") / np.abs(jerk).max(axis=0),
        ],
        axis=0,
    )
    return np.asarray(embodiment.home + scale * swing)


def ramps(workspace: Workspace) -> CalibrationMotion:
    """All joints up and down at a constant slow speed, each with a period of its own."""
    embodiment = workspace.embodiment
    t = np.arange(round(RAMP_S / STEP_S) + 1) * STEP_S
    columns = []
    for i in range(len(embodiment.joints)):
        cycles = 1 + 0.5 * (i % 3)  # reversals of neighbours apart; half a cycle more ends at home as well
        phase = 2 * np.pi * cycles * t / RAMP_S
        # A rounded triangle: constant speed but for about 0.1 s at the corners.
        columns.append(np.arcsin(0.995 * np.sin(phase)) * RAMP_SPEED_RAD_S * RAMP_S / (2 * np.pi * cycles))
    swing = np.column_stack(columns)
    ease = np.clip(np.minimum(t, RAMP_S - t) / 0.5, 0.0, 1.0)[:, None]  # begins and ends at rest
    setpoints = embodiment.home + swing * ease**3 * (10 + ease * (6 * ease - 15))
    return CalibrationMotion("ramps", workspace.fit(setpoints))


def random_motion(
    workspace: Workspace, duration_s: float, seed: int, name: str = "test"
) -> CalibrationMotion:
    """A Fourier series drawn at random: for tests, and for what a fit did not see."""
    rng = np.random.default_rng([seed, 3])
    coefficients = rng.normal(size=(2, HARMONICS, len(workspace.embodiment.joints)))
    return CalibrationMotion(name, workspace.fit(fourier(workspace.embodiment, coefficients, duration_s)))


def design(
    workspace: Workspace, duration_s: float, seed: int = 0, progress: Progress | None = None
) -> tuple[CalibrationMotion, float]:
    """The most telling motion that was found, and its score: above one means the wanted accuracy from one sample.

    Raises:
        CalibrationError: no motion fits around the home pose.
    """
    rng = np.random.default_rng([seed, 1])
    shape = (2, HARMONICS, len(workspace.embodiment.joints))
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    step = 1.0
    for trial in range(RANDOM_TRIALS + REFINEMENTS):
        refining = best is not None and trial >= RANDOM_TRIALS
        candidate = best[1] + step * rng.normal(size=shape) if refining and best else rng.normal(size=shape)
        setpoints = workspace.fit(fourier(workspace.embodiment, candidate, duration_s), SEARCH_CHECKS)
        score = visibility(workspace, setpoints)
        if best is None or score > best[0]:
            best = (score, candidate, setpoints)
        elif refining:
            step = max(0.1, 0.96 * step)
        if progress:
            progress(trial + 1, RANDOM_TRIALS + REFINEMENTS, f"score {best[0]:.2f}")
    assert best is not None
    return CalibrationMotion("excitation", workspace.fit(best[2])), best[0]


def visibility(workspace: Workspace, setpoints: np.ndarray) -> float:
    """Smallest singular value of the regressor, in wanted accuracies per usual error."""
    embodiment, n = workspace.embodiment, len(workspace.embodiment.joints)
    motion = CalibrationMotion("candidate", setpoints)
    t = np.linspace(0.0, motion.duration_s, SCORE_SAMPLES)
    q, dq, ddq = (motion.evaluate(t, order) for order in range(3))
    torque = embodiment.limits("torque")
    each = np.eye(n)
    blocks = [
        workspace.model.payload_columns(q, dq, ddq)
        * np.tile(
            [WANTED_MASS_KG, *[WANTED_MOMENT_KG_M] * 3, *[WANTED_INERTIA_KG_M2] * 6],
            len(workspace.model.last),
        ),
        np.tanh(50 * dq)[:, :, None] * (each * WANTED_FRICTION * torque),
        dq[:, :, None] * (each * WANTED_FRICTION * torque),
        workspace.model.offset_columns(q, dq, ddq)[:, :, _visible_offsets(workspace.model.last)]
        * WANTED_OFFSET_RAD,
    ]
    regressor = (np.concatenate(blocks, axis=2) / (UNEXPLAINED * torque)[:, None]).reshape(len(t) * n, -1)
    return float(np.linalg.svd(regressor, compute_uv=False)[-1])


def _visible_offsets(last: list[int]) -> list[int]:
    """An arm's first joint's turns about the vertical and the last one's is a turn of the payload: torque shows neither."""
    firsts = [0, *(joint + 1 for joint in last[:-1])]
    return [joint for joint in range(last[-1] + 1) if joint not in (*firsts, *last)]
