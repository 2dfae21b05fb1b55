"""What an arm's motion says about its payload, its friction, its encoders and its drives.

The torque that the controller commanded is, a delay d later, that of the arm's own dynamics (known from its model
file) at the true joint angles, plus payload and friction:

    tau(t - d) = M(q - o) ddq + h(q - o, dq) + J^T Y(a) phi + friction(dq)

with the encoder offsets o, ten inertial parameters phi of the payload about the tool frame (mass, mass times centre
of mass, inertia) and, for each joint, the friction of `physai_base.embodiment.Friction`. Everything but o, d and the
shape of the friction is linear. The rest is found by Gauss-Newton: o and d enter through the derivatives of the
model's torque and of the commanded one.

Both sides pass the same zero-phase low-pass before the fit (Gautier's parallel filter), so that it biases nothing.
Rows are weighted by each joint's own residual and, after Huber, by their own. The residuals of such a fit are far
from independent, so the covariance is that of blocks in time (a cluster-robust sandwich), not of samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import least_squares

from physai_base.embodiment import Calibration, Embodiment, Friction
from physai_base.embodiment_parts import Payload
from physai_lab.calibration.arm_model import ArmModel
from physai_lab.calibration.motion import CalibrationError, MotionRecording
from physai_lab.calibration.signals import MODEL_RATE_HZ, Signals, lowpass, signals

FIT_CUTOFF_HZ = 12.0  # of both sides of the equation
FIT_RATE_HZ = 62.5
STILL_RAD_S = 0.03
STILL_SHARE = 0.02  # of the filter's memory
LEAST_MOVING = 0.2  # of the rows of each joint
EDGE_S = 0.1  # of a recording that the filters spoil
BLOCK_S = 0.25  # of the covariance
HUBER = 2.5  # standard deviations
UNCERTAIN_RAD = 0.005  # an encoder offset less certain than that is not written
LINK_ERROR = 0.01  # to which the model's link masses are trusted; the intervals contain what that would do
HIGHEST_CONDITION = 300.0
LONGEST_DELAY_S = 0.05
SLOPE_RANGE = (20.0, 200.0)  # s/rad: steeper would make the controller's feed-forward chatter
SHIFT_RANGE = (-0.05, 0.05)  # rad/s
SHAPE_GAIN = 0.03  # of a joint's squared residual that a friction's shape must explain to be believed

GROUPS = ("payload", "friction", "offsets", "delay")
ITERATIONS = 6
RELINEARIZE = (0, 2)  # after these iterations; slow
DISTINCT = 1e-3  # share of an offset's column that must be its own
UNKNOWN_OFFSET_RAD = 0.01  # what an encoder offset may be of which torque says nothing: half a degree
LEAST_PAYLOAD_KG = 0.02  # what is less is none
LEAST = {"payload": 0.05, "friction": 0.05, "delay": 1e-3}  # kg, Nm, s: so little below zero is still zero
FARTHEST_COM_M = 0.5
PAYLOAD_NAMES = ("mass", "mass*x", "mass*y", "mass*z", "Ixx", "Ixy", "Ixz", "Iyy", "Iyz", "Izz")


# ---- signals ----------------------------------------------------------------------------------------------


# ---- the fit ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """One parameter as it was and as it is now."""

    group: str  # payload, friction, offsets or delay
    name: str
    unit: str
    old: float
    new: float
    interval: float  # half of the 95 % interval; infinite when the motion says nothing about it
    note: str = ""


@dataclass(frozen=True)
class Fit:
    """What the recordings say."""

    calibration: Calibration  # complete; what could not be observed is as before
    estimates: tuple[Estimate, ...]
    condition: float  # of the regressor with columns of equal length
    rms_before: np.ndarray  # (n,) Nm not explained with the calibration as it was
    rms_after: np.ndarray  # (n,) Nm
    payload_inertia: np.ndarray  # (k, 6) kg m^2 about each tool frame, beyond a point mass at the centre


@dataclass
class _State:
    """The iterate: everything that the equation needs."""

    offset: np.ndarray  # (n,) rad beyond what the controller subtracts
    around: np.ndarray  # (n,) rad: the offsets about which the equation is linearized
    delay_s: float
    payload: np.ndarray  # (k, 10)
    friction: list[Friction]

    @property
    def payloads(self) -> tuple[Payload, ...]:
        """As points."""
        return tuple(
            Payload(float(p[0]), p[1:4] / p[0] if p[0] > 1e-3 else np.zeros(3)) for p in self.payload
        )


@dataclass(frozen=True)
class _Layout:
    """Where the parameters of n joints and k tools stand: payloads, Coulomb, viscous friction, offsets, delay."""

    n: int
    k: int

    @property
    def offsets(self) -> slice:
        return slice(10 * self.k + 2 * self.n, 10 * self.k + 3 * self.n)

    def friction(self, joint: int) -> tuple[int, int]:
        """Coulomb and viscous."""
        return 10 * self.k + joint, 10 * self.k + self.n + joint


def friction_torque(friction: Friction, dq: np.ndarray) -> np.ndarray:
    """Nm at speeds of any shape."""
    return friction.coulomb * friction_shape(friction, dq) + friction.viscous * dq


def friction_shape(friction: Friction, dq: np.ndarray) -> np.ndarray:
    """The factor of `coulomb` at speeds of any shape."""
    half = friction.slope / 2
    return np.asarray(np.tanh(half * (dq + friction.shift)) - np.tanh(half * friction.shift))


class _Problem:
    """The regression of one set of recordings."""

    def __init__(self, embodiment: Embodiment, recordings: list[MotionRecording]) -> None:
        self.embodiment, self.n = embodiment, len(embodiment.joints)
        self.layout = _Layout(self.n, len(embodiment.end_effectors))
        self.bare = (Payload(),) * self.layout.k
        self.model = ArmModel(embodiment)
        self.signals = [signals(recording) for recording in recordings]
        self.step = round(MODEL_RATE_HZ / FIT_RATE_HZ)
        self.added = [self._added_by_robot(s) for s in self.signals]
        moving = [self._moving(s) for s in self.signals]
        self.use = np.concatenate(moving)  # (N, n) rows that count
        for name, share in zip(embodiment.joint_names, self.use.mean(axis=0), strict=True):
            if share < LEAST_MOVING:
                raise CalibrationError(
                    f"{name} hardly moved: above {STILL_RAD_S} rad/s for {share:.0%} of the time, at least "
                    f"{LEAST_MOVING:.0%} are needed; give it more room about the home pose"
                )
        self.block = self._blocks([len(m) for m in moving])

    def filtered(self, values: np.ndarray) -> np.ndarray:
        """Of one recording, (T, ...) at MODEL_RATE_HZ, to the rows of the fit."""
        edge = round(EDGE_S * MODEL_RATE_HZ)
        return lowpass(values, FIT_CUTOFF_HZ, MODEL_RATE_HZ)[edge : -edge : self.step]

    def _moving(self, s: Signals) -> np.ndarray:
        still = self.filtered((np.abs(s.dq) < STILL_RAD_S).astype(float))
        return np.asarray(still < STILL_SHARE)

    def _blocks(self, lengths: list[int]) -> np.ndarray:
        """(N,) number of the block in time to which a row belongs."""
        size, first, numbers = round(BLOCK_S * FIT_RATE_HZ), 0, []
        for length in lengths:
            numbers.append(first + np.arange(length) // size)
            first = int(numbers[-1][-1]) + 1
        return np.concatenate(numbers)

    def _added_by_robot(self, s: Signals) -> np.ndarray:
        """Some robots add the weight of their own model, at what their encoders say."""
        if not self.model.robot_adds_gravity:
            return np.zeros_like(s.q)
        self.model.set_payloads(self.bare)
        return self.model.torque(s.q, np.zeros_like(s.q), np.zeros_like(s.q))

    def target(self, state: _State, with_payload: bool) -> np.ndarray:
        """(N, n) Nm: the torque that acted, less that of the arm's own dynamics."""
        self.model.set_payloads(state.payloads if with_payload else self.bare)
        rows = []
        for s, added in zip(self.signals, self.added, strict=True):
            self.model.set_gripper(s.openings)
            known = self.model.torque(s.q - state.around, s.dq, s.ddq)
            rows.append(self.filtered(s.torque(state.delay_s) + added - known))
        return np.concatenate(rows)

    def geometry(self, state: _State) -> list[np.ndarray]:
        """For each recording (T, n, 10 k + n): what a payload's parameters and the offsets change; slow."""
        result = []
        for s in self.signals:
            self.model.set_gripper(s.openings)
            q = s.q - state.around
            self.model.set_payloads([replace(p, mass=max(0.0, p.mass)) for p in state.payloads])
            payload = self.model.payload_columns(q, s.dq, s.ddq)
            result.append(np.concatenate([payload, -self.model.offset_columns(q, s.dq, s.ddq)], axis=2))
        return result

    def columns(self, state: _State, geometry: list[np.ndarray]) -> np.ndarray:
        """(N, n, p): payloads (10 k), coulomb (n), viscous (n), offsets (n), delay (1)."""
        rows = []
        for s, known in zip(self.signals, geometry, strict=True):
            coulomb = np.column_stack([friction_shape(f, s.dq[:, i]) for i, f in enumerate(state.friction)])
            each = np.eye(self.n)
            stack = np.concatenate(
                [
                    known[:, :, : 10 * self.layout.k],
                    coulomb[:, :, None] * each,
                    s.dq[:, :, None] * each,
                    known[:, :, 10 * self.layout.k :],
                    s.torque_rate(state.delay_s)[:, :, None],
                ],
                axis=2,
            )
            rows.append(self.filtered(stack))
        return np.concatenate(rows)

    def friction_rows(self, friction: Friction, joint: int) -> np.ndarray:
        """(N,) Nm of one joint's friction, filtered."""
        return np.concatenate(
            [self.filtered(friction_torque(friction, s.dq[:, joint])) for s in self.signals]
        )


def fit(embodiment: Embodiment, recordings: list[MotionRecording], what: Sequence[str] = GROUPS) -> Fit:
    """Identify everything that the recordings show, and put what is asked for into a calibration.

    Raises:
        CalibrationError: the motion does not determine the parameters, the calibration explains no more than the
            present one does, or a parameter comes out that no arm can have.
    """
    problem, n = _Problem(embodiment, recordings), len(embodiment.joints)
    old = embodiment.calibration
    state = _State(np.zeros(n), np.zeros(n), old.command_delay_s, _point_masses(old), list(old.friction))
    before = _unexplained(problem, state)
    solution, observable = _identify(problem, state)
    estimates = _estimates(embodiment, state, solution, observable)
    certain = observable & (solution.interval[problem.layout.offsets] <= UNCERTAIN_RAD)
    calibration = _calibration(old, state, certain, what)
    after = _unexplained(problem, _written(calibration, old))
    torque = embodiment.limits("torque")
    if not np.sum((after / torque) ** 2) < np.sum((before / torque) ** 2):
        raise CalibrationError(
            "the calibration that was found explains the motion no better than the present one does: nothing to write"
        )
    inertia = state.payload[:, 4:] - _point_masses(calibration)[:, 4:]
    return Fit(calibration, estimates, solution.condition, before, after, inertia)


def _identify(problem: _Problem, state: _State) -> tuple[_Solution, np.ndarray]:
    """Gauss-Newton from `state`, which it changes; and (n,) which encoder offsets torque shows."""
    weights = problem.use.astype(float)
    geometry = problem.geometry(state)
    observable = _distinct_offsets(problem, state, geometry)
    for iteration in range(ITERATIONS):
        solution = _solve(problem, state, geometry, observable, weights)
        if not solution.condition <= HIGHEST_CONDITION:
            raise CalibrationError(
                f"the motion does not tell the parameters apart: the regressor's condition is {solution.condition:.0f}, "
                f"at most {HIGHEST_CONDITION:.0f} is allowed; move longer or with more room about the home pose"
            )
        weights = solution.weights
        _advance(state, solution.parameters, problem.layout)
        if iteration in RELINEARIZE:
            state.around = state.offset.copy()
            geometry = problem.geometry(state)
        if iteration == 1:
            _shape_friction(problem, state, solution)
    covariance = solution.covariance + _link_covariance(problem, state, geometry, observable, weights)
    return replace(solution, covariance=covariance), observable


def _link_covariance(
    problem: _Problem, state: _State, geometry: list[np.ndarray], observable: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """(p, p) what links that weigh LINK_ERROR more or less than the model says would do to the parameters."""
    rows = []
    problem.model.set_payloads(problem.bare)
    for s in problem.signals:
        problem.model.set_gripper(s.openings)
        rows.append(problem.filtered(problem.model.link_columns(s.q, s.dq, s.ddq)))
    columns = problem.columns(state, geometry)
    p, W = columns.shape[2], weights.reshape(-1, 1)
    X, links = W * columns.reshape(-1, p), W * np.concatenate(rows).reshape(-1, problem.n)
    free = _free(X, observable, problem.layout)
    effect = np.zeros((p, problem.n))
    effect[free] = LINK_ERROR * np.linalg.lstsq(X[:, free], links, rcond=None)[0]
    return effect @ effect.T


def _distinct_offsets(problem: _Problem, state: _State, geometry: list[np.ndarray]) -> np.ndarray:
    """(n,) which offsets are no mixture of other parameters: torque cannot tell those from one another.

    A first joint that turns about the vertical never shows; the last one's offset is a turn of the payload.
    """
    n, offset_columns = problem.n, problem.layout.offsets
    observable = np.ones(n, bool)
    columns = problem.columns(state, geometry)
    X = (problem.use[:, :, None] * columns).reshape(-1, columns.shape[2])
    length = np.linalg.norm(X, axis=0)
    first = offset_columns.start
    observable &= length[offset_columns] > 1e-6 * length[offset_columns].max()
    while observable.any():
        keep = length > 0
        keep[offset_columns] &= observable
        places = np.flatnonzero(keep)
        inverse = np.linalg.pinv(X[:, keep] / length[keep], rcond=1e-12)
        own = 1 / np.linalg.norm(inverse, axis=1)  # share of a column that no others can imitate
        offsets = [
            (share, place - first) for share, place in zip(own, places, strict=True) if 0 <= place - first < n
        ]
        share, joint = min(offsets)
        if share > DISTINCT:
            break
        observable[joint] = False
    return observable


def _written(calibration: Calibration, old: Calibration) -> _State:
    """The state in which the controller believes once it has read `calibration`."""
    offset = calibration.encoder_offset - old.encoder_offset
    return _State(
        offset,
        offset,
        calibration.command_delay_s,
        _point_masses(calibration),
        list(calibration.friction),
    )


def _calibration(old: Calibration, state: _State, certain: np.ndarray, what: Sequence[str]) -> Calibration:
    """The old calibration with the groups that are asked for replaced."""
    new = old
    if "payload" in what:
        heavy = (p if p.mass > LEAST_PAYLOAD_KG else Payload() for p in state.payloads)
        new = replace(new, payloads=tuple(heavy))
    if "friction" in what:
        friction = (
            replace(f, coulomb=max(0.0, f.coulomb), viscous=max(0.0, f.viscous)) for f in state.friction
        )
        new = replace(new, friction=tuple(friction))
    if "offsets" in what:
        new = replace(new, encoder_offset=old.encoder_offset + np.where(certain, state.offset, 0.0))
    if "delay" in what:
        new = replace(new, command_delay_s=max(0.0, state.delay_s))
    return new


def _estimates(
    embodiment: Embodiment, state: _State, solution: _Solution, observable: np.ndarray
) -> tuple[Estimate, ...]:
    """Every parameter with its interval; refuses what no arm can have."""
    old, half = embodiment.calibration, solution.interval
    layout = _Layout(len(embodiment.joints), len(embodiment.end_effectors))
    found = [
        e
        for tool in range(layout.k)
        for e in _payload_estimates(embodiment, state, solution, observable, tool)
    ]
    for i, (name, before, now) in enumerate(
        zip(embodiment.joint_names, old.friction, state.friction, strict=True)
    ):
        found.append(
            Estimate(
                "friction",
                f"{name} coulomb",
                "Nm",
                before.coulomb,
                now.coulomb,
                float(half[layout.friction(i)[0]]),
            )
        )
        found.append(
            Estimate(
                "friction",
                f"{name} viscous",
                "Nm s/rad",
                before.viscous,
                now.viscous,
                float(half[layout.friction(i)[1]]),
            )
        )
    for i, name in enumerate(embodiment.joint_names):
        before_rad = float(old.encoder_offset[i])
        interval = float(half[layout.offsets][i]) if observable[i] else np.inf
        note = "too uncertain; kept" if interval > UNCERTAIN_RAD else ""
        note = note if observable[i] else "torque does not show it; kept"
        found.append(
            Estimate("offsets", name, "rad", before_rad, before_rad + float(state.offset[i]), interval, note)
        )
    found.append(Estimate("delay", "command", "s", old.command_delay_s, state.delay_s, float(half[-1])))
    _refuse_unphysical(found, state.payloads)
    return tuple(found)


def _payload_estimates(
    embodiment: Embodiment, state: _State, solution: _Solution, observable: np.ndarray, tool: int
) -> list[Estimate]:
    """Mass and centre of what one tool carries; of several their names come first."""
    model, old, now = ArmModel(embodiment), embodiment.calibration.payloads[tool], state.payloads[tool]
    mass, com, first = now.mass, now.com, 10 * tool
    name = f"{embodiment.end_effector_names[tool]} " if len(embodiment.end_effectors) > 1 else ""
    # The payload is found where the last joint is taken to be.
    turned = np.zeros(3) if observable[model.last[tool]] else UNKNOWN_OFFSET_RAD * model.last_turn(tool, com)
    found = [Estimate("payload", f"{name}mass", "kg", old.mass, mass, float(solution.interval[first]))]
    for axis in range(3):
        # d(com) = (d(mass*com) - com d(mass)) / mass
        gradient = np.array([-com[axis], 1.0]) / max(mass, 1e-9)
        pair = np.ix_([first, first + 1 + axis], [first, first + 1 + axis])
        spread = 1.96 * float(np.sqrt(gradient @ solution.covariance[pair] @ gradient))
        interval = float(np.hypot(spread, turned[axis])) if mass > 0 else np.inf
        title = f"{name}com {'xyz'[axis]}"
        found.append(Estimate("payload", title, "m", float(old.com[axis]), float(com[axis]), interval))
    return found


def _refuse_unphysical(estimates: list[Estimate], payloads: Sequence[Payload]) -> None:
    for e in estimates:
        if not np.isfinite(e.new):
            raise CalibrationError(f"{e.group}, {e.name}: the fit did not converge")
        positive = e.group in ("friction", "delay") or e.name.endswith("mass")
        if positive and e.new < -max(2 * e.interval, LEAST[e.group]):
            raise CalibrationError(
                f"{e.group}, {e.name}: {e.new:.3g} {e.unit} came out, which no arm has; check the robot model and "
                "that nothing touched the arm"
            )
    for payload in payloads:
        far_m = float(np.linalg.norm(payload.com))
        if payload.mass > LEAST_PAYLOAD_KG and far_m > FARTHEST_COM_M:
            raise CalibrationError(
                f"payload: its centre came out {far_m:.2f} m from the tool frame; check the robot model and "
                "that nothing touched the arm"
            )
    if estimates[-1].new >= LONGEST_DELAY_S:
        raise CalibrationError(
            f"delay: it is at least {LONGEST_DELAY_S * 1e3:.0f} ms, too long for this controller"
        )


def _point_masses(calibration: Calibration) -> np.ndarray:
    """(k, 10)."""
    rows = []
    for payload in calibration.payloads:
        m, c = payload.mass, payload.com
        inertia = m * (c @ c * np.eye(3) - np.outer(c, c))
        rows.append([m, *(m * c), *inertia[np.triu_indices(3)]])
    return np.array(rows)


@dataclass(frozen=True)
class _Solution:
    """One step of Gauss-Newton."""

    parameters: np.ndarray  # (p,); offsets and delay as steps from where they are linearized
    covariance: np.ndarray  # (p, p), not a number where nothing is known
    condition: float
    residual: np.ndarray  # (N, n) Nm
    weights: np.ndarray  # (N, n) of the next solution: 1 / Nm

    @property
    def interval(self) -> np.ndarray:
        """(p,) half of the 95 % interval, infinite where nothing is known."""
        variance = np.diag(self.covariance)
        return np.where(np.isfinite(variance), 1.96 * np.sqrt(variance), np.inf)


def _free(X: np.ndarray, observable: np.ndarray, layout: _Layout) -> np.ndarray:
    """(p,) which columns are solved for."""
    free = np.linalg.norm(X, axis=0) > 0
    free[layout.offsets] &= observable
    return free


def _solve(
    problem: _Problem, state: _State, geometry: list[np.ndarray], observable: np.ndarray, weights: np.ndarray
) -> _Solution:
    """One step of Gauss-Newton with weighted least squares and its cluster-robust covariance."""
    n = problem.n
    A, y = problem.columns(state, geometry), problem.target(state, with_payload=False)
    p = A.shape[2]
    W = weights.reshape(-1, 1)
    X, z = W * A.reshape(-1, p), (W[:, 0] * y.reshape(-1))
    length = np.linalg.norm(X, axis=0)
    free = _free(X, observable, problem.layout)
    Xs = X[:, free] / length[free]
    values = np.linalg.svd(Xs, compute_uv=False)
    inverse = np.linalg.inv(Xs.T @ Xs)
    theta = np.zeros(p)
    theta[free] = inverse @ (Xs.T @ z) / length[free]
    residual = y - A @ theta

    scores = Xs * (z - Xs @ (theta[free] * length[free]))[:, None]
    block = np.repeat(problem.block, n)
    sums = np.zeros((block[-1] + 1, scores.shape[1]))
    np.add.at(sums, block, scores)
    count, k = len(sums), scores.shape[1]
    meat = sums.T @ sums * count / max(1, count - k)
    covariance = np.full((p, p), np.nan)
    covariance[np.ix_(free, free)] = inverse @ meat @ inverse / np.outer(length[free], length[free])
    spread = np.array([1.4826 * np.median(np.abs(residual[problem.use[:, i], i])) + 1e-6 for i in range(n)])
    ratio = np.abs(residual) / spread / HUBER
    new_weights = problem.use / spread * np.minimum(1.0, 1.0 / np.sqrt(np.maximum(ratio, 1e-9)))
    return _Solution(theta, covariance, float(values[0] / values[-1]), residual, new_weights)


def _advance(state: _State, theta: np.ndarray, layout: _Layout) -> None:
    state.payload = theta[: 10 * layout.k].reshape(-1, 10).copy()
    dry = [theta[list(layout.friction(i))].tolist() for i in range(layout.n)]
    state.friction = [
        replace(f, coulomb=coulomb, viscous=viscous)
        for f, (coulomb, viscous) in zip(state.friction, dry, strict=True)
    ]
    state.offset = state.around + np.clip(theta[layout.offsets], -0.05, 0.05)
    state.delay_s = float(np.clip(state.delay_s + np.clip(theta[-1], -0.01, 0.01), -0.005, LONGEST_DELAY_S))


def _shape_friction(problem: _Problem, state: _State, solution: _Solution) -> None:
    """Slope and shift of each joint, where they explain more than the noise does."""
    for i, f in enumerate(state.friction):
        rows = problem.use[:, i]
        dry = solution.residual[rows, i] + problem.friction_rows(f, i)[rows]

        def misfit(x: np.ndarray, i: int = i, rows: np.ndarray = rows, dry: np.ndarray = dry) -> np.ndarray:
            trial = Friction(x[0], x[1] * 100, x[2], x[3])
            return np.asarray(problem.friction_rows(trial, i)[rows] - dry)

        start = [max(1e-3, f.coulomb), np.clip(f.slope, *SLOPE_RANGE) / 100, 0.0, max(1e-3, f.viscous)]
        low = [0.0, SLOPE_RANGE[0] / 100, SHIFT_RANGE[0], 0.0]
        high = [np.inf, SLOPE_RANGE[1] / 100, SHIFT_RANGE[1], np.inf]
        found = least_squares(misfit, start, bounds=(low, high), loss="soft_l1", f_scale=0.1)
        plain = float(np.sum(solution.residual[rows, i] ** 2))
        if float(np.sum(misfit(found.x) ** 2)) < (1 - SHAPE_GAIN) * plain:
            state.friction[i] = Friction(found.x[0], found.x[1] * 100, found.x[2], found.x[3])


def _left(problem: _Problem, state: _State) -> np.ndarray:
    """(N, n) Nm that the equation leaves."""
    friction = np.column_stack([problem.friction_rows(f, i) for i, f in enumerate(state.friction)])
    return problem.target(state, with_payload=True) - friction


def _unexplained(problem: _Problem, state: _State) -> np.ndarray:
    """(n,) Nm its root mean square."""
    left = _left(problem, state)
    return np.array([np.sqrt(np.mean(left[problem.use[:, i], i] ** 2)) for i in range(problem.n)])


# ---- what is left ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Leftover:
    """What an embodiment's calibration does not explain, with what a residual may know; rows of all recordings."""

    q: np.ndarray  # (N, n) rad, with the calibration's encoder offsets subtracted
    dq: np.ndarray  # (N, n) rad/s
    ddq: np.ndarray  # (N, n) rad/s^2
    torque: np.ndarray  # (N, n) Nm
    use: np.ndarray  # (N, n) bool: not where dry friction may be anything
    block: np.ndarray  # (N,) number of the row's block in time


def leftover(
    embodiment: Embodiment, recorded_with: Calibration, recordings: list[MotionRecording]
) -> Leftover:
    """What `embodiment.calibration` leaves of recordings that were made with another calibration."""
    problem = _Problem(replace(embodiment, calibration=recorded_with), recordings)
    state = _written(embodiment.calibration, recorded_with)
    torque = _left(problem, state)
    q, dq, ddq = (
        np.concatenate([problem.filtered(getattr(s, name)) for s in problem.signals])
        for name in ("q", "dq", "ddq")
    )
    return Leftover(q - state.offset, dq, ddq, torque, problem.use, problem.block)
