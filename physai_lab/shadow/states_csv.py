"""`physai csv`: the joint states of a recording as the CSV file that the `replay` hardware backend reads."""

from __future__ import annotations

import csv
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from physai_base.embodiment import Embodiment
from physai_ros.recording import Recording, RecordingError

JOINT_STATE = "sensor_msgs/msg/JointState"
SET_BACK_S, LONE = 0.1, 2  # stamps that go back by more begin another pass, unless this many alone are wrong
_LIMIT_SLACK_RAD = 0.1
CLOCK_STEP_S = (
    60.0  # stamps and times of writing that drift apart by more from one state to the next are of two clocks
)


def header(embodiment: Embodiment) -> list[str]:
    """The columns' names."""
    joints = [f"{kind}.{name}" for kind in ("q", "dq", "tau") for name in embodiment.joint_names]
    ends = embodiment.end_effectors
    openings = [f"opening.{end.name}" for end in ends] if len(ends) > 1 else ["gripper_width"]
    return ["time_ns", *joints, *openings]


def write_states(path: Path, embodiment: Embodiment, stamps_ns: Sequence[int], values: np.ndarray) -> None:
    """Write states; `values` (N, 3 n + k) has positions rad, velocities rad/s, torques Nm and the k grippers' openings."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header(embodiment))
        for stamp_ns, row in zip(stamps_ns, values, strict=True):
            writer.writerow([stamp_ns, *(repr(float(value)) for value in row)])


@dataclass
class Conversion:
    """What came of a recording."""

    written: int = 0  # states
    left_out: Counter[str] = field(default_factory=Counter)  # messages, by cause
    notes: list[str] = field(default_factory=list)  # what else a person should know


def convert(recording: Path, out: Path, embodiment: Embodiment, topic: str) -> Conversion:
    """Convert one topic of a recording.

    Time has to increase in the file: of stamps from two clocks, those of the one with most states are taken; of these the
    longest pass between two settings back; and of that the most that are in order. Messages about other joints alone are passed over; fingers may come in messages of their own.
    Torques and fingers that nobody measured are written as 0.

    Raises:
        RecordingError: it is no recording, or there is no usable joint state on the topic; the message says why not.
    """
    source, result = Recording(recording), Conversion()
    states = _States(embodiment, result)
    others: set[str] = set()
    for message, logged_ns in _joint_states(source, topic, others):
        states.add(message, logged_ns)
    result.notes += source.notes
    kept = in_order(states.stamps_ns, states.logged_ns, result.left_out)
    if not kept or len(kept) == 1 < len(states.stamps_ns):
        causes = "; ".join(f"{count}: {cause}" for cause, count in result.left_out.most_common(4))
        elsewhere = (
            f"; there are some on {', '.join(sorted(others))}: name one with --topic" if others else ""
        )
        raise RecordingError(
            f"{recording}: there is no {'usable ' if causes else ''}joint state on {topic}"
            + (f" ({causes})" if causes else "")
            + elsewhere
        )
    result.written = len(kept)
    result.notes += states.outside()
    write_states(out, embodiment, [states.stamps_ns[i] for i in kept], states.rows()[kept])
    return result


def _joint_states(recording: Recording, topic: str, others: set[str]) -> Any:
    """The topic's messages with the times at which they were recorded; a recorded name may be absolute.

    Names of other topics with joint states are added to `others`.
    """
    from rclpy.serialization import deserialize_message
    from sensor_msgs.msg import JointState

    for recorded in recording:
        if recorded.topic.strip("/") != topic.strip("/"):
            if recorded.kind == JOINT_STATE:
                others.add(recorded.topic)
            continue
        if recorded.kind != JOINT_STATE:
            raise RecordingError(f"{recording.path}: {recorded.topic} is {recorded.kind}, not {JOINT_STATE}")
        try:
            yield deserialize_message(recorded.data, JointState), recorded.stamp_ns
        except Exception:  # whatever bytes that are no such message provoke
            yield None, recorded.stamp_ns


class _States:
    """Collects the states of the arm, each with the last opening that was seen of each hand."""

    def __init__(self, embodiment: Embodiment, result: Conversion) -> None:
        self._embodiment = embodiment
        self._joints, self._fingers = embodiment.joint_names, embodiment.finger_joints
        self._grippers = [end.gripper for end in embodiment.end_effectors]
        self._result = result
        self._arm: list[np.ndarray] = []  # (3 n,) each
        self._openings: list[np.ndarray] = []  # (k,) each
        self._opening = np.full(len(self._grippers), np.nan)
        self.stamps_ns: list[int] = []
        self.logged_ns: list[int] = []

    def add(self, message: Any, logged_ns: int) -> None:
        """Take what a message says, or count why not."""
        cause = self._take(message, logged_ns)
        if cause:
            self._result.left_out[cause] += 1

    def _take(self, message: Any, logged_ns: int) -> str:
        if message is None:
            return "the bytes are no joint state"
        place, count = {name: i for i, name in enumerate(message.name)}, len(message.name)
        ours = [name for name in message.name if name in self._joints or name in self._fingers]
        if len(set(ours)) != len(ours):
            return "it names a joint twice"
        position = np.array(message.position)
        if len(position) != count:
            return f"{len(position)} positions of {count} joints"
        for k, gripper in enumerate(self._grippers):
            fingers = [name for name in gripper.joints if name in place]
            if fingers and np.isfinite(position[[place[name] for name in fingers]]).all():
                opening = [gripper.opening_of(name, position[place[name]]) for name in fingers]
                self._opening[k] = float(np.mean(opening))
        missing = [name for name in self._joints if name not in place]
        if len(missing) == len(self._joints):
            return ""  # wheels, or the hand alone
        if missing:
            return f"no {', '.join(missing)}"
        stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        if stamp_ns == 0:
            return "it carries no stamp, which the driver must fill in"
        joints = [place[name] for name in self._joints]
        if len(message.velocity) != count:
            return "no velocity of each joint"
        velocity, effort = np.array(message.velocity)[joints], np.zeros(len(joints))
        if not (np.isfinite(position[joints]).all() and np.isfinite(velocity).all()):
            return "a position or velocity is not finite"
        if len(message.effort) == count:
            effort = np.nan_to_num(
                np.array(message.effort)[joints], posinf=0.0, neginf=0.0
            )  # NaN: not measured
        self._arm.append(np.concatenate([position[joints], velocity, effort]))
        self._openings.append(self._opening.copy())
        self.stamps_ns.append(stamp_ns)
        self.logged_ns.append(logged_ns)
        return ""

    def outside(self) -> list[str]:
        """That positions are outside of the robot file's limits, with the joints."""
        joints, n = self._embodiment.joints, len(self._joints)
        position = np.array(self._arm)[:, :n]
        low = np.array([joint.position_min for joint in joints]) - _LIMIT_SLACK_RAD
        high = np.array([joint.position_max for joint in joints]) + _LIMIT_SLACK_RAD
        beyond = ((position < low) | (position > high)).any(axis=0)
        if not beyond.any():
            return []
        names = ", ".join(
            f"{self._joints[i]} {position[:, i].min():.2f} to {position[:, i].max():.2f}"
            for i in np.flatnonzero(beyond)
        )
        degrees = (np.radians(position) >= low).all() and (np.radians(position) <= high).all()
        return [
            f"positions are outside of the robot file's limits ({names} rad)"
            + ("; they would fit as degrees, and ROS has radians" if degrees else "; is it another robot?")
        ]

    def rows(self) -> np.ndarray:
        """(N, 3 n + k); before a hand was first seen it is as it was then."""
        openings = np.array(self._openings)
        for column, gripper in zip(openings.T, self._grippers, strict=True):
            seen = np.flatnonzero(np.isfinite(column))
            if gripper.joints and not len(seen):
                self._result.notes.append(
                    f"no state of {', '.join(gripper.joints)}: the width is written as 0"
                )
            column[: seen[0] if len(seen) else None] = column[seen[0]] if len(seen) else 0.0
        return np.column_stack([np.array(self._arm), openings])


def in_order(stamps_ns: Sequence[int], logged_ns: Sequence[int], left_out: Counter[str]) -> list[int]:
    """Which of the states to take so that time increases; why not the others is counted in `left_out`."""
    clocks: list[list[int]] = []  # states by the clock that stamped them
    for i, (stamp_ns, at_ns) in enumerate(zip(stamps_ns, logged_ns, strict=True)):
        ahead = [abs((stamp_ns - at_ns) - (stamps_ns[c[-1]] - logged_ns[c[-1]])) for c in clocks]
        nearest = int(np.argmin(ahead)) if ahead else 0
        if not ahead or ahead[nearest] > CLOCK_STEP_S * 1e9:
            clocks.append([])
            nearest = len(clocks) - 1
        clocks[nearest].append(i)
    if not clocks:
        return []
    main = max(clocks, key=len)
    first = stamps_ns[main[0]] - logged_ns[main[0]]
    for other in clocks:
        if other is not main:
            step_s = (stamps_ns[other[0]] - logged_ns[other[0]] - first) / 1e9
            left_out[
                f"stamped by a clock that is {abs(step_s):.0f} s {'ahead' if step_s > 0 else 'behind'}"
            ] += len(other)
    passes = _passes(stamps_ns, main)
    longest = max(passes, key=len)
    for other in passes:
        if other is not longest:
            left_out["of another pass: the clock was set back between it and the longest one"] += len(other)
    kept = _longest_increasing(stamps_ns, longest)
    if len(kept) < len(longest):
        left_out["its stamp does not come after the one before"] += len(longest) - len(kept)
    return kept


def _passes(stamps_ns: Sequence[int], chosen: Sequence[int]) -> list[list[int]]:
    """The states at `chosen` parted where the clock was set back: what comes after is another motion than what was before."""
    passes: list[list[int]] = [[]]
    for i in chosen:
        last = passes[-1]
        back = bool(last) and stamps_ns[i] < stamps_ns[last[-1]] - SET_BACK_S * 1e9
        if back and stamps_ns[i] <= stamps_ns[last[-1 - min(LONE, len(last) - 1)]]:
            passes.append([])
        passes[-1].append(i)
    whole = [passes[0]]
    for part in passes[1:]:  # a few stamps that are behind are no pass of their own
        if len(part) > LONE and stamps_ns[part[LONE]] > stamps_ns[whole[-1][-1]]:
            whole[-1] += part
        else:
            whole.append(part)
    return whole


def _longest_increasing(values: Sequence[int], chosen: Sequence[int]) -> list[int]:
    """The longest strictly increasing part of `values` at `chosen` (patience sorting)."""
    tails: list[int] = []  # the last value of the best chain of each length
    ends: list[int] = []  # and its index
    before: dict[int, int] = {}
    for i in chosen:
        at = bisect_left(tails, values[i])
        if at == len(tails):
            tails.append(values[i])
            ends.append(i)
        else:
            tails[at], ends[at] = values[i], i
        before[i] = ends[at - 1] if at else -1
    chain, i = [], ends[-1]
    while i >= 0:
        chain.append(i)
        i = before[i]
    return chain[::-1]
