"""The faults that come with chunks: no policy, two of them, and everything that a chunk can be but good."""

from __future__ import annotations

import ctypes as C
import re
from collections.abc import Callable
from dataclasses import replace

import mujoco
import numpy as np

from physai_base.values import POSE, ActionChunk, ControlCause, ControlState
from physai_control import structures
from physai_control.gate import ChunkGate
from physai_lab.faults.envelope import ROW_S, rows_of_a_cycle, takes_positions
from physai_lab.faults.fault import Check, simulated
from physai_lab.faults.motion import JointMotion
from physai_lab.faults.trial import DT_S, HORIZON_S, MOVE_S, PERIOD_S, STEPS, Post, Trial

SEAM = 1e-3  # rad or m, of the reference within a tick, beyond the motion it had
STOP_AFTER_HORIZON_S = 0.1
REST_AFTER_S = HORIZON_S + STOP_AFTER_HORIZON_S + 0.05  # by then the arm rests, and stays so
LATE_S = 3.0
STRANGER = 2  # the lease of a second policy


def _rests_after_horizon(trial: Trial) -> None:
    """The last chunk ran to its end, the arm came to rest, and the controller says why."""
    last = max((p.time_s for p in trial.posts if p.accepted), default=0.0)
    horizon_s = last + HORIZON_S
    row = trial.at_rest_from()
    late_ms = float("inf") if row is None else row - horizon_s * 1000
    trial.expect(
        late_ms <= STOP_AFTER_HORIZON_S * 1000,
        f"at rest {late_ms:.0f} ms after the horizon, {STOP_AFTER_HORIZON_S * 1000:.0f} ms are allowed",
    )
    trial.expect(
        trial.final_state is ControlState.HOLD and trial.final_code is ControlCause.CHUNK_EXPIRED,
        f"ended in {trial.final_state.name.lower()} ({trial.final_cause}), not in hold because the chunk expired",
    )


def _refused(trial: Trial, post: Post, reason: str) -> None:
    """Refused, and for the right reason: chance does not count."""
    trial.expect(
        not post.accepted and re.search(reason, post.reason) is not None,
        f"a chunk to be refused ({reason}) was {'accepted' if post.accepted else f'refused: {post.reason}'}",
    )


def _smooth_seams(trial: Trial) -> None:
    seam = trial.largest_seam()
    cycle_s = rows_of_a_cycle(trial.embodiment) * ROW_S
    # What the limits allow within a cycle that is longer than a tick is no step.
    most = SEAM + trial.embodiment.limits("acceleration").max() * (cycle_s**2 - ROW_S**2)
    trial.expect(seam <= most, f"the reference stepped by {seam * 1e3:.3g} mrad or mm within a tick")


@simulated(
    "F1",
    "policy dies mid-motion",
    "the last chunk is finished, at rest in hold within 100 ms of its horizon, no step of the reference above 1 mrad",
)
def policy_dies(trial: Trial) -> Check:
    """No chunk comes any more from a random moment on."""
    trial.source.silent_from_s = trial.onset_s
    trial.after_s = REST_AFTER_S

    def check() -> None:
        _rests_after_horizon(trial)
        _smooth_seams(trial)

    return check


@simulated(
    "F2",
    "policy stopped, then continued",
    "as F1 while it lasts; the late chunk is refused once expired, else only its remaining steps run; seams below 1 mrad",
)
def policy_stops(trial: Trial) -> Check:
    """No chunk for 10 ms to 3 s; the one that was in work comes that much late."""
    pause_s = float(np.exp(trial.rng.uniform(np.log(0.01), np.log(LATE_S))))
    trial.source.silent_from_s, trial.source.silent_until_s = trial.onset_s, trial.onset_s + pause_s
    trial.end_of_fault_s = trial.onset_s + pause_s
    generous = trial.rng.random() < 0.5  # it may be followed for longer than it has steps
    outcome: list[Post] = []

    def comes_late() -> None:
        late = trial.chunk(trial.onset_s, trial.source.next_sequence)
        if generous:
            late = replace(late, expiry_ns=late.start_ns + round((LATE_S + 2) * 1e9))
        trial.source.next_sequence += 1
        outcome.append(trial.post(late, honest=False))

    trial.at(trial.onset_s + pause_s, comes_late)

    def check() -> None:
        if generous and pause_s >= (STEPS - 1) * DT_S:
            _refused(trial, outcome[0], "its last step was")
        elif not generous and pause_s >= HORIZON_S:
            _refused(trial, outcome[0], "it expired")
        elif pause_s >= (STEPS - 1) * DT_S:
            _refused(trial, outcome[0], "its last step was")
        _smooth_seams(trial)

    return check


@simulated(
    "F3",
    "chunks come late",
    "steps that came too late are skipped; no step of the reference above 1 mrad at a seam",
)
def chunks_late(trial: Trial) -> Check:
    """Each chunk 1 to 20 periods late, or with a heavy-tailed latency, for 3 s."""
    heavy_tail = trial.rng.random() < 0.5

    def latency_s() -> float:
        if trial.now_s < trial.onset_s:
            return 0.0
        if heavy_tail:
            return float(np.minimum(trial.rng.lognormal(np.log(0.15), 1.2), 20 * PERIOD_S))
        return float(trial.rng.integers(1, 21) * PERIOD_S)

    trial.source.latency_s = latency_s
    trial.end_of_fault_s = trial.onset_s + LATE_S
    return lambda: _smooth_seams(trial)


@simulated(
    "F4",
    "chunks out of order",
    "each chunk that is not newer is refused, every other one accepted, the counters agree to the last one",
)
def chunks_out_of_order(trial: Trial) -> Check:
    """Chunks swapped, repeated and left out at random."""
    held: list[ActionChunk] = []

    def mangle(chunk: ActionChunk) -> list[ActionChunk]:
        if trial.now_s < trial.onset_s:
            return [chunk]
        kind = trial.rng.integers(4)
        if kind == 0 and not held:
            held.append(chunk)
            return []
        after = [held.pop()] if held else []
        if kind == 1:
            return [chunk, chunk, *after]
        if kind == 2:
            trial.source.next_sequence += int(trial.rng.integers(1, 100))
        return [chunk, *after]

    trial.source.mangle = mangle
    trial.end_of_fault_s = trial.onset_s + 2.0

    def check() -> None:
        last = 0
        for post in trial.posts:
            newer = post.sequence > last
            by_sequence = "does not come after" in post.reason
            trial.expect(
                newer != by_sequence if not post.accepted else newer,
                f"chunk {post.sequence} after {last} was {'accepted' if post.accepted else 'refused: ' + post.reason}",
            )
            last = max(last, post.sequence) if post.accepted else last
        status = trial.core.status()
        taken = sum(post.accepted for post in trial.posts)
        trial.expect(
            (status.chunks_accepted, status.chunks_rejected) == (taken, len(trial.posts) - taken),
            f"the counters say {status.chunks_accepted} and {status.chunks_rejected}, "
            f"it was {taken} and {len(trial.posts) - taken}",
        )

    return check


def _post_raw(trial: Trial, change: Callable[[C.Structure], None]) -> Post:
    """A chunk straight to the C library, past every check in Python."""
    chunk = trial.chunk(trial.now_s, trial.source.next_sequence)
    trial.source.next_sequence += 1
    raw = structures.Chunk(
        chunk.sequence, chunk.lease, chunk.observation_ns, chunk.start_ns, chunk.dt_ns, chunk.expiry_ns, chunk.mode.value,
        chunk.values.shape[1], STEPS,
    )  # fmt: skip
    for row, values in zip(raw.values, chunk.values, strict=False):
        row[: len(values)] = values.tolist()
    for step, openings in enumerate(chunk.openings):
        raw.opening[step][: len(openings)] = openings.tolist()
    change(raw)
    text = C.create_string_buffer(structures.TEXT_SIZE)
    library = trial.core._library
    code = library.physai_control_post_chunk(trial.core.handle, C.byref(raw), text, len(text))
    return Post(trial.now_s, chunk.sequence, code == 0, text.value.decode(errors="replace"), False)


# What is wrong with it, and how the refusal names that.
MALFORMED: dict[str, str] = {
    "not a number": "is not finite",
    "out of all range": "reaches",
    "other type": "",
    "gripper, not a number": "opening of step [0-9]+ is not finite",
    "gripper, out of range": "opening of step .* are allowed",
    "joints": "joints given",
    "steps": "steps given",
    "dt": "dt is",
    "time": "expire|in the future|not a time|last step",
    "mode": "mode [0-9]+ is unknown",
    "no pose": "is not finite",
    "quaternion": "quaternion",
    "pose of other size": "numbers for a tool pose",
}
POSES = ("mode", "no pose", "quaternion", "pose of other size")


@simulated(
    "F5",
    "chunk that is no chunk",
    "refused at once with the reason; the running chunk goes on in the next cycle as if nothing had been sent",
)
def chunk_malformed(trial: Trial) -> Check:
    """NaN, infinities, 1e308, numbers of other types, wrong lengths, wrong times, given to the C library directly."""
    rng = trial.rng
    step, joint = int(rng.integers(STEPS)), int(rng.integers(len(trial.embodiment.joints)))
    kind = str(rng.choice(list(MALFORMED)))
    trial.use("pose" if kind in POSES else "joint")
    no_number = float(rng.choice([np.nan, np.inf, -np.inf]))
    huge = float(rng.choice([1e308, -1e308, 1e17, 4e3]))
    pick = int(rng.integers(5))

    def change(raw: C.Structure) -> None:
        if kind == "not a number":
            raw.values[step][joint] = no_number
        elif kind == "out of all range":
            raw.values[step][joint] = huge
        elif kind == "other type":  # two numbers of single precision in the place of each
            for row in raw.values:
                row[:] = np.frombuffer(np.array([*row, *row], np.float32).tobytes(), np.float64).tolist()
        elif kind == "gripper, not a number":
            raw.opening[step][0] = no_number
        elif kind == "gripper, out of range":
            raw.opening[step][0] = huge
        elif kind == "joints":
            count = len(trial.embodiment.joints)
            raw.n_values = (0, count - 1, count + 1, structures.MAX_JOINTS + 1, 2**32 - 1)[pick]
        elif kind == "steps":
            most = structures.MAX_STEPS
            raw.n_steps = (0, most + 1, most + 2, 2**31, 2**32 - 1)[pick]
        elif kind == "mode":
            raw.mode = (2, 3, 255, 2**31, 2**32 - 1)[pick]
        elif kind == "no pose":
            raw.values[step][joint] = no_number
        elif kind == "quaternion":  # of length 0, 1.5 or 0.99
            for k in range(3, POSE):
                raw.values[step][k] *= (0.0, 1.5, 0.99)[pick % 3]
        elif kind == "pose of other size":
            raw.n_values = (0, 6, 8, 17, 2**32 - 1)[pick]
        elif kind == "dt":
            raw.dt_ns = (0, -1, 999_999, 2**63 - 1, -(2**63))[pick]
        else:
            setattr(raw, ("start_ns", "expiry_ns")[pick % 2], (-(2**63), -(2**62), 2**63 - 1)[pick % 3])

    outcome: list[Post] = []
    trial.at(trial.onset_s, lambda: outcome.append(_post_raw(trial, change)))

    def check() -> None:
        if not (kind == "time" and pick % 2 and pick % 3 == 2):  # for ever is odd, but a time
            _refused(trial, outcome[0], MALFORMED[kind])
        before, after = trial.said.active_sequence[[trial.onset - 1, trial.onset]]
        renewed = any(abs(p.time_s - trial.onset_s) < 1.5e-3 and p.accepted for p in trial.posts)
        trial.expect(before == after or renewed, "the running chunk was disturbed")
        trial.expect(trial.final_state is ControlState.TRACK, f"ended in {trial.final_state.name.lower()}")

    return check


# As above; an order of the joints that no limit forbids is followed.
BAD: dict[str, str] = {
    "jump": "from where",
    "range": "reaches",
    "speed": "moves at",
    "spike": "accelerates|reaches|moves at|has a jerk",
    "order": "",
    "degrees": "",
    "fence": "geofence",
    "gone": "",  # accepted, but the reference is elsewhere when it begins
    "pose jump": "m from where the tool",
    "pose turn": "rad from how the tool|turns the tool",
    "pose speed": "moves at",
    "pose fence": "geofence",
}
LONG_STEPS = 80
AHEAD_NS = 190_000_000  # a chunk may begin up to 0.2 s in the future


def _fast_last_joint(motion: JointMotion) -> JointMotion:
    """The last joint alone, at up to 2.8 rad/s: half a radian in `AHEAD_NS`."""
    last = np.arange(len(motion.start)) == len(motion.start) - 1
    return JointMotion(np.where(last, -1.1, motion.start), np.where(last, 2.2, 0.0), 2.5)


def _leaving_the_fence(trial: Trial, present: np.ndarray) -> np.ndarray:
    """Setpoints (K, n) slowly to a pose of the joints' range at which the tool is outside."""
    joints = trial.embodiment
    low, high = joints.limits("position_min") + 0.1, joints.limits("position_max") - 0.1
    while True:
        goal = present + trial.rng.uniform(-1.2, 1.2, len(present))
        if (goal > low).all() and (goal < high).all() and trial.world.tool.outside(goal[None])[0] > 0.02:
            phase = (1 - np.cos(np.linspace(0, np.pi, LONG_STEPS))) / 2
            return present + np.outer(phase, goal - present)


@simulated(
    "F6",
    "chunk that is finite and bad",
    "refused with the reason; a wrong order that the limits allow is followed within the envelope; no clean chunk refused",
)
def chunk_bad(trial: Trial) -> Check:
    """A jump, out of the joints' range or of the geofence, too fast, a spike, the joints' order changed, degrees for radians."""
    rng = trial.rng
    n = len(trial.embodiment.joints)
    posed = not takes_positions(trial.embodiment)  # else a tool pose becomes joint positions first, if it can
    kind = str(rng.choice([kind for kind in BAD if posed or not kind.startswith("pose")]))
    trial.use("pose" if kind.startswith("pose") else "joint")
    joint, step = int(rng.integers(n)), int(rng.integers(2, STEPS - 1))
    order = rng.permutation(n)
    side = trial.embodiment.joints[joint]
    middle = (side.position_min + side.position_max) / 2
    place = trial.pose.start

    if kind == "gone":
        trial.motion = _fast_last_joint(trial.motion)
        trial.onset_s = round(MOVE_S + trial.motion.period_s / 4, 3)
        trial.source.silent_from_s, trial.source.silent_until_s = trial.onset_s - 0.001, trial.onset_s + 0.3

    def spoil(good: np.ndarray) -> np.ndarray:
        values = good.copy()
        inward = 1.0 if good[0, joint] < middle else -1.0
        if kind == "jump":
            values[:, joint] += inward * rng.uniform(0.45, 0.8)
        elif kind == "range":
            values[step, joint] = side.position_max + 0.02 if rng.random() < 0.5 else side.position_min - 0.02
        elif kind == "speed":
            values = np.repeat(values[:1], 3, axis=0)
            values[:, joint] += inward * 1.2 * side.velocity * DT_S * np.arange(3)
        elif kind == "spike":
            values[step, joint] += inward * rng.uniform(0.03, 0.3)
        elif kind == "order":
            values = values[:, order]
        elif kind == "degrees":
            values = np.degrees(values)
        elif kind == "gone":
            values[:] = values[0]
        elif kind == "pose jump":
            values[:, place + int(rng.integers(3))] += rng.choice([-1, 1]) * rng.uniform(0.2, 0.5)
        elif kind == "pose turn":
            for pose in values[:, trial.pose]:
                mujoco.mju_mulQuat(pose[3:], np.array([np.cos(0.4), np.sin(0.4), 0, 0]), pose[3:].copy())
        elif kind == "pose speed":
            values = np.repeat(values[:1], 3, axis=0)
            fast = 1.2 * trial.embodiment.tool_limits.velocity[0]
            values[:, place + int(rng.integers(3))] += rng.choice([-1, 1]) * fast * DT_S * np.arange(3)
        elif kind == "pose fence":
            values = np.repeat(values[:1], LONG_STEPS, axis=0)
            out = trial.embodiment.geofence_max[1] - values[0, place + 1] + 0.05
            values[:, place + 1] += out * (1 - np.cos(np.linspace(0, np.pi, LONG_STEPS))) / 2
        else:
            values = _leaving_the_fence(trial, values[0])
        return values

    outcome: list[Post] = []
    forbidden: list[bool] = []

    def comes() -> None:
        good = trial.chunk(trial.now_s, trial.source.next_sequence)
        values = spoil(good.values)
        lasting = round(((len(values) - 1) * DT_S + 0.6) * 1e9)
        bad = replace(
            good,
            values=values,
            openings=np.tile(good.openings[:1], (len(values), 1)),
            expiry_ns=good.start_ns + lasting,
        )
        if kind == "gone":
            bad = replace(bad, start_ns=bad.start_ns + AHEAD_NS, expiry_ns=bad.expiry_ns + AHEAD_NS)
        trial.source.next_sequence += 1
        forbidden.append(kind != "order" or bool(np.abs(values[0] - good.values[0]).max() > 0.45))
        outcome.append(trial.post(bad, honest=False))

    trial.at(trial.onset_s, comes)
    trial.end_of_fault_s = trial.onset_s + (LONG_STEPS if kind.endswith("fence") else STEPS) * DT_S

    def check() -> None:
        if kind == "gone":
            trial.expect(
                outcome[0].accepted, f"a chunk from the present reference was refused: {outcome[0].reason}"
            )
            followed = (trial.said.active_sequence == outcome[0].sequence).any()
            trial.expect(not followed, "a chunk was followed from where the reference had long left")
        elif forbidden[0]:
            _refused(trial, outcome[0], BAD[kind])

    return check


@simulated(
    "F7",
    "two policies at once",
    "while one is followed the other is refused by its lease, and takes over once that one's chunk has ended; seams below 1 mrad",
)
def two_policies(trial: Trial) -> Check:
    """A second source sends chunks of another motion between those of the first, in half the trials for longer than it."""
    trial.use("joint")
    away = trial.rng.uniform(-0.2, 0.2, len(trial.embodiment.joints))
    other = replace(trial.motion, start=trial.motion.start + away)
    inherits = trial.rng.random() < 0.5
    strangers: list[Post] = []
    if inherits:
        trial.source.silent_from_s = trial.onset_s

    def intrude() -> None:
        chunk = trial.chunk(trial.now_s, trial.source.next_sequence, other)
        trial.source.next_sequence += 1
        strangers.append(trial.post(replace(chunk, lease=STRANGER), honest=False))

    for k in range(8):
        trial.at(trial.onset_s + PERIOD_S * k, intrude)
    trial.end_of_fault_s = trial.onset_s + 8 * PERIOD_S

    def check() -> None:
        _smooth_seams(trial)
        owned_until_s = max(p.time_s for p in trial.posts if p.accepted and p not in strangers)
        owned_until_s += (STEPS - 1) * DT_S
        for post in strangers:
            if post.time_s < owned_until_s - 1e-3:
                _refused(trial, post, "lease")
            elif (
                inherits and post.time_s > owned_until_s + 1e-3
            ):  # its motion may start out of reach from here
                free = post.accepted or "lease" not in post.reason
                trial.expect(free, f"nobody is followed, yet another was refused: {post.reason}")

    return check


@simulated(
    "F27",
    "the guard dies",
    "no chunk passes without a verdict; at rest in hold within 100 ms of the horizon of the last that did",
)
def guard_dies(trial: Trial) -> Check:
    """The world model that must allow each chunk stops giving verdicts."""
    gate = ChunkGate(timeout_s=0.1)

    def mangle(chunk: ActionChunk) -> list[ActionChunk]:
        gate.expire(trial.now_s)
        passed, _ = gate.offer(chunk, trial.now_s)
        if passed is None and trial.now_s < trial.onset_s:
            passed, _ = gate.decide(chunk.lease, chunk.sequence, True, "", trial.now_s + 0.02)
        return [passed] if passed else []

    trial.source.mangle = mangle
    trial.after_s = REST_AFTER_S

    def check() -> None:
        late = [p for p in trial.posts if p.time_s > trial.onset_s + 0.1 and p.accepted]
        trial.expect(not late, "a chunk passed without a verdict")
        _rests_after_horizon(trial)

    return check
