"""The faults of what the controller hears from the robot and tells it: clocks, states, commands, the emergency stop."""

from __future__ import annotations

import ctypes as C
from functools import partial

import numpy as np

from physai_base.values import ControlState
from physai_lab.faults.envelope import Term, rows_of_a_cycle, takes_positions
from physai_lab.faults.fault import Check, simulated
from physai_lab.faults.trial import LATCHED, SenselessTrial, Trial
from physai_sim.inject import Event, FaultKind, Field
from physai_sim.plant import Gate

FLAG_ESTOP = 2
FOREVER_S = 100.0
MEASURES_POSITIONS = (
    "positions are all that it measures: its velocities are made of them, and torques there are none"
)
SPIKE_RAD = 0.025  # and more, for less than 5 ms, is to be ridden through
SHAKING_SHARE = 0.06  # of a torque limit, as the RMS of what is left of the mean over 0.1 s: 8 % of amplitude
SHAKING_MS, SLOW_MS = 300, 100


def _counts_missed_states(trial: Trial) -> None:
    missed, withheld = int(trial.said.missed_states[-1]), int(trial.said.withheld[-1])
    trial.expect(missed == withheld, f"{missed} missed states counted, it was {withheld}")


@simulated(
    "F8",
    "clocks",
    "the wall clock makes no difference to the last bit; a robot's clock that jumps by more than 20 ms is a stop",
)
def clocks(trial: Trial) -> Check:
    """The process's wall clock jumps by an hour or 128 ms or is slewed; or the robot's clock jumps, either way."""
    if trial.rng.random() < 0.4:
        return _robot_clock_jumps(trial)
    return _wall_clock_moves(trial)


def _wall_clock_moves(trial: Trial) -> Check:
    offsets_s = [float(trial.rng.choice([-3600, 3600, -0.128, 0.128]))]
    if trial.rng.random() < 0.3:
        offsets_s = (np.arange(1, 101) * 500e-6 * 0.01).tolist()  # 500 ppm, seen every 10 ms
    set_offset = C.CDLL(None).physai_trial_set_wall_offset
    for k, offset_s in enumerate(offsets_s):
        trial.at(trial.onset_s + 0.01 * k, partial(set_offset, C.c_int64(round(offset_s * 1e9))))
    trial.afterwards(partial(set_offset, C.c_int64(0)))
    gap = Event(FaultKind.STATE_LOSS, trial.onset_s + 0.003, 0.004, 1.0)  # the watchdogs are at work
    trial.inject(gap)
    trial.end_of_fault_s = trial.onset_s + 1.0

    def check() -> None:
        set_offset(C.c_int64(0))
        twin = trial.twin(gap)
        same = all(
            np.array_equal(getattr(trial.log, name), getattr(twin.log, name))
            for name in ("position", "velocity", "torque", "gate")
        )
        trial.expect(same, "the arm moves otherwise than with a steady wall clock")

    return check


def _robot_clock_jumps(trial: Trial) -> Check:
    jump_s = float(trial.rng.choice([0.03, 0.128, 1.0, 3600.0, -0.03, -0.128, -0.5]))
    trial.inject(Event(FaultKind.CLOCK, trial.onset_s, FOREVER_S, jump_s), lasting=True)

    def check() -> None:
        row = trial.reaction()
        cycle = rows_of_a_cycle(trial.embodiment)
        most = cycle if jump_s > 0 else 20 + cycle
        trial.expect(
            row is not None and row - trial.onset <= most,
            f"a jump by {jump_s} s did not stop the arm in time",
        )

    return check


@simulated(
    "F9",
    "joint state stops",
    "to 2 ms it goes on as if nothing were, from 6 ms with lower gains; from 20 ms on it stops and stays stopped",
)
def state_stops(trial: Trial) -> Check:
    """No state for 1 ms to 1 s."""
    longest = ((1, 3), (3, 20), (20, 1000))[trial.rng.integers(3)]
    ticks = int(trial.rng.integers(*longest))
    trial.inject(Event(FaultKind.STATE_LOSS, trial.onset_s, ticks / 1000, 1.0))

    def check() -> None:
        latched = trial.final_state in LATCHED
        trial.expect(
            latched == (trial.unanswered_ms(ticks) >= 20),
            f"{ticks} ms without a state ended in {trial.final_state.name.lower()}",
        )
        said = np.flatnonzero(trial.said.state == ControlState.FAULT)
        cycle = rows_of_a_cycle(trial.embodiment)
        bears = round(trial.embodiment.control.state_timeout_s * 1000)
        quick = len(said) > 0 and said[0] - trial.onset <= bears + cycle
        trial.expect(
            ticks < bears + 2 * cycle or quick,
            f"the controller itself did not fault within {bears + cycle} ms",
        )
        degraded = (trial.said.state[trial.onset :] == ControlState.DEGRADED).any()
        late = 6 * cycle
        trial.expect(
            ticks < late or ticks >= 20 or bool(degraded),
            f"{ticks} ms without a state did not lower the gains",
        )
        _counts_missed_states(trial)

    return check


@simulated(
    "F10",
    "joint state frozen but fresh",
    "a stop within 50 ms of the arm being 20 mrad from where the state says",
)
def state_frozen(trial: Trial) -> Check:
    """Positions, velocities and torques stay what they were, stamps go on."""
    trial.inject(Event(FaultKind.FREEZE, trial.onset_s, 1.0))

    def check() -> None:
        q = trial.log.position
        off = np.abs(q[trial.onset : trial.onset + 1000] - q[trial.onset - 1]).max(axis=1) > 0.02
        row = trial.reaction()
        if off.any():
            since = trial.onset + int(np.argmax(off))
            within = max(
                50, 6 * rows_of_a_cycle(trial.embodiment)
            )  # a slow arm: five states that repeat, and one
            trial.expect(row is not None and row <= since + within, f"not noticed within {within} ms")

    return check


@simulated(
    "F11",
    "encoder lies",
    "the envelope; less than 5 ms are ridden through, a lasting jump latches within 10 cycles, no number in its own",
)
def encoder_lies(trial: Trial) -> Check:
    """A spike, a flipped bit, a full turn, a lasting step of the position, not a number."""
    rng = trial.rng
    kind = str(rng.choice(["spike", "bit", "turn", "step", "nan", "huge"]))
    joint = int(rng.integers(len(trial.embodiment.joints)))
    sign = float(rng.choice([-1, 1]))
    field = Field(int(rng.integers(3))) if kind in ("bit", "nan", "huge") else Field.POSITION
    if takes_positions(trial.embodiment):
        field = Field.POSITION
    cycle = rows_of_a_cycle(trial.embodiment)
    short_s = float(rng.integers(1, 4) * cycle) / 1000
    if kind == "spike":
        event = Event(
            FaultKind.OFFSET, trial.onset_s, short_s, sign * rng.uniform(SPIKE_RAD, 3), field, joint
        )
    elif kind == "bit":
        event = Event(FaultKind.BIT_FLIP, trial.onset_s, short_s, float(rng.integers(64)), field, joint)
    elif kind == "turn":
        lasting_s = short_s if rng.random() < 0.5 else 1.0
        event = Event(FaultKind.OFFSET, trial.onset_s, lasting_s, sign * 2 * np.pi, field, joint)
    elif kind == "huge":
        event = Event(FaultKind.VALUE, trial.onset_s, short_s, sign * 1e200, field, joint)
    elif kind == "step":
        event = Event(FaultKind.OFFSET, trial.onset_s, 1.0, sign * rng.uniform(0.02, 0.5), field, joint)
    else:
        event = Event(
            FaultKind.VALUE,
            trial.onset_s,
            short_s,
            float(rng.choice([np.nan, np.inf, -np.inf])),
            field,
            joint,
        )
    trial.inject(event)

    def check() -> None:
        row = trial.reaction()
        if kind == "nan":
            in_it = row is not None and 0 <= row - trial.onset < cycle
            trial.expect(in_it, "not latched in the cycle in which it came")
        elif kind == "spike" or (kind == "turn" and event.duration_s < 0.005 * cycle):
            ridden = trial.unanswered_ms(round(event.duration_s * 1000)) < 20  # else its own gate stops it
            trial.expect(
                row is None or not ridden, f"a glitch of {event.duration_s * 1e3:.0f} ms stopped the arm"
            )
        elif kind == "turn":
            trial.expect(row is not None and row - trial.onset <= 10 * cycle, "not latched within 10 cycles")

    return check


@simulated(
    "F12",
    "velocity and torque sensors lie",
    "the envelope; an arm that is driven up or shaken is stopped",
)
def sensors_lie(trial: Trial) -> Check:
    """Velocity noise of 0.1 to 0.5 rad/s, its sign turned, beyond its limit; torque off by a constant."""
    if takes_positions(trial.embodiment):
        raise SenselessTrial(MEASURES_POSITIONS)
    rng = trial.rng
    n = len(trial.embodiment.joints)
    kind = str(rng.choice(["noise", "sign", "bias", "fast"]))
    joint = int(rng.integers(-1, n))
    if kind == "noise":
        size = np.exp(rng.uniform(np.log(0.1), np.log(0.5)))
        trial.inject(Event(FaultKind.NOISE, trial.onset_s, 1.0, size, Field.VELOCITY, joint))
    elif kind == "fast":  # one joint says that it moves beyond its limit
        joint = max(joint, 0)
        size = 1.3 * trial.embodiment.joints[joint].velocity * rng.choice([-1, 1])
        trial.inject(Event(FaultKind.VALUE, trial.onset_s, 0.1, size, Field.VELOCITY, joint))
    elif kind == "sign":
        trial.inject(Event(FaultKind.SCALE, trial.onset_s, 1.0, -1.0, Field.VELOCITY, joint))
    else:
        size = rng.uniform(2, 20) * rng.choice([-1, 1])
        trial.inject(Event(FaultKind.OFFSET, trial.onset_s, 1.0, size, Field.TORQUE, joint))

    def check() -> None:
        row = trial.reaction()
        if kind == "fast":
            trial.expect(
                row == trial.onset, "a joint beyond its velocity limit was not stopped in the same cycle"
            )
        if kind == "noise":
            trial.extra_terms.append(Term("shaking torque, share", _shaking(trial), SHAKING_SHARE))

    return check


def _shaking(trial: Trial) -> float:
    """How a joint's torque shakes at its worst in the second of the fault, as long as no stop has latched."""
    log, said = trial.log, trial.said
    rows = slice(trial.onset, trial.onset + 1000)
    driven = np.isin(log.gate[rows], (Gate.DRIVEN, Gate.MISSING)) & ~np.isin(said.state[rows], LATCHED)
    torque = log.torque[rows.start - SLOW_MS + 1 : rows.stop]
    fast = (torque[SLOW_MS - 1 :] - _moving_mean(torque, SLOW_MS)) * driven[:, None]
    rms = np.sqrt(_moving_mean(fast**2, SHAKING_MS)) / trial.embodiment.limits("torque")
    return float(rms.max())


def _moving_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Over `width` rows each: (N, n) to (N - width + 1, n)."""
    sums = np.cumsum(np.vstack([np.zeros_like(values[:1]), values]), axis=0)
    return (sums[width:] - sums[:-width]) / width


@simulated(
    "F22",
    "emergency stop",
    "first effect within 2 cycles, at rest on the brakes, latched; no reset while it is pressed",
)
def emergency_stop(trial: Trial) -> Check:
    """Asked for by software, or pressed on the robot, at any tick; a reset while it is pressed."""
    pressed = trial.rng.random() < 0.5
    cycle = rows_of_a_cycle(trial.embodiment)
    held_s = (
        float(trial.rng.uniform(0.001, 1.2)) + (cycle - 1) / 1000
    )  # a backend keeps a pulse until a state is read
    if pressed:
        trial.inject(Event(FaultKind.FLAG, trial.onset_s, held_s, FLAG_ESTOP))
        trial.at(trial.onset_s + held_s / 2, trial.reset)
        trial.after_s = 1.0
    else:
        trial.at(trial.onset_s, trial.estop)

    def check() -> None:
        row = trial.reaction()
        trial.expect(row is not None and row - trial.onset <= 2 * cycle, "no effect within 2 cycles")
        trial.expect(trial.final_state is ControlState.ESTOP, f"ended in {trial.final_state.name.lower()}")
        meanwhile = slice(trial.onset + 2 * cycle, trial.onset + round(held_s * 1000) * pressed)
        kept = (trial.said.state[meanwhile] == ControlState.ESTOP).all()
        kept &= len(set(trial.said.cause_cycle[meanwhile])) <= 1  # not even taken and latched anew
        trial.expect(bool(kept), "a reset was granted while the stop was pressed")
        braked = (
            trial.log.gate[trial.reset_tick - 20] == Gate.BRAKED if hasattr(trial, "reset_tick") else False
        )
        trial.expect(bool(braked), "the arm is not on its brakes")

    return check


@simulated(
    "F24",
    "the line to the robot",
    "the envelope; 20 ms without an answer latch, and nothing resumes by itself",
)
def line(trial: Trial) -> Check:
    """Unplugged and plugged in again; 1 to 50 % lost, repeated, reordered; 1 to 50 ms late, either way; torques on the
    way to the robot that nobody can have meant.
    """
    rng = trial.rng
    kind = str(rng.choice(["unplugged", "loss", "repeat", "reorder", "late", "garbled"]))
    to_robot = rng.random() < 0.5
    share = rng.uniform(0.01, 0.5)
    lasting_s = float(rng.integers(5, 1000)) / 1000
    ticks = int(rng.integers(1, 51))
    if kind == "unplugged":
        for event in (FaultKind.STATE_LOSS, FaultKind.COMMAND_LOSS):
            trial.inject(Event(event, trial.onset_s, lasting_s, 1.0))
    elif kind == "loss":
        trial.inject(
            Event(FaultKind.COMMAND_LOSS if to_robot else FaultKind.STATE_LOSS, trial.onset_s, 1.0, share)
        )
    elif kind == "repeat":
        trial.inject(Event(FaultKind.STATE_REPEAT, trial.onset_s, 1.0, share))
    elif kind == "reorder":
        trial.inject(Event(FaultKind.STATE_REORDER, trial.onset_s, 1.0, share))
    elif kind == "garbled":
        joint = int(rng.integers(len(trial.embodiment.joints)))
        beyond = rng.choice([-1, 1]) * trial.embodiment.joints[joint].torque * rng.uniform(1.01, 10)
        torque = float(rng.choice([np.nan, np.inf, -np.inf, beyond, beyond, beyond]))
        if takes_positions(trial.embodiment):  # rad that no joint of any robot has
            torque = 10.0 * torque / trial.embodiment.joints[joint].torque
        trial.inject(Event(FaultKind.COMMAND_VALUE, trial.onset_s, lasting_s, torque, joint=joint))
    else:
        trial.inject(
            Event(FaultKind.COMMAND_DELAY if to_robot else FaultKind.STATE_DELAY, trial.onset_s, 1.0, ticks)
        )

    def check() -> None:
        log = trial.log
        _counts_missed_states(trial)
        gap = int(log.missed.max())
        latched = trial.final_state in LATCHED
        trial.expect(gap <= 20, f"the robot's gate let {gap} steps pass without an answer")
        trial.expect(
            gap < 20 or latched, f"{gap} steps without an answer ended in {trial.final_state.name.lower()}"
        )
        if kind in ("unplugged", "garbled"):
            lasting = trial.unanswered_ms(round(lasting_s * 1000))
            trial.expect(
                latched == (lasting >= 20),
                f"{kind} for {lasting_s * 1e3:.0f} ms: {trial.final_state.name.lower()}",
            )

    return check
