"""What a policy in shadow mode would have done, against what moved the robot: the comparison behind `physai shadow report`.

All times are those in the messages (ROS time); when a recording was written does not matter.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.kinematics import ArmKinematics
from physai_base.values import POSE, ActionChunk, ChunkMode, ChunkVerdict, JointState
from physai_control.refusals import RefusalCheck
from physai_lab.statistics import quantiles, wilson_interval

LONGEST_GAP_S = 0.2  # between joint states, over which they are interpolated
PAUSE_S = 2.0  # without a chunk: another task, where no policy/status says so
LEAST_HAND_TRAVEL_M = 0.005  # below it the hand did nothing that could be compared
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


@dataclass(frozen=True)
class Tolerance:
    """Up to where a chunk agrees with what the robot did."""

    joint_rad: float = 0.15  # of the joint that is furthest off
    tool_m: float = 0.03


@dataclass(frozen=True)
class PublishedChunk:
    """One chunk as it was published; `chunk` is None when its message could not be read, and `problem` says why."""

    sequence: int
    lease: int  # of the process that counted
    published_ns: int
    observation_ns: int
    chunk: ActionChunk | None
    problem: str = ""


@dataclass(frozen=True)
class PolicyWord:
    """One policy/status."""

    stamp_ns: int
    running: bool
    instruction: str
    state: str
    message: str
    chunks: int
    inference_ms: float


@dataclass(frozen=True)
class Track:
    """What the arm did, T states in the order of time."""

    stamp_ns: np.ndarray  # (T,)
    position: np.ndarray  # (T, n) rad
    openings: np.ndarray  # (T, k) of each end effector

    def at(self, time_ns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Joints (K, n) rad and openings (K, k) at those times, between states; NaN where there are none near."""
        if not len(self.stamp_ns):
            joints, openings = (
                np.full((len(time_ns), a.shape[1]), np.nan) for a in (self.position, self.openings)
            )
            return joints, openings
        after = np.clip(np.searchsorted(self.stamp_ns, time_ns), 1, max(1, len(self.stamp_ns) - 1))
        before = after - 1
        after = np.minimum(after, len(self.stamp_ns) - 1)
        gap = self.stamp_ns[after] - self.stamp_ns[before]
        share = (time_ns - self.stamp_ns[before]) / np.maximum(gap, 1)
        known = (share >= 0) & (share <= 1) & (gap <= LONGEST_GAP_S * 1e9)
        share = np.where(known, share, np.nan)
        blend: Callable[[np.ndarray, np.ndarray], np.ndarray] = lambda values, s: (  # noqa: E731
            (1 - s) * values[before] + s * values[after]
        )
        return blend(self.position, share[:, None]), blend(self.openings, share[:, None])


@dataclass(frozen=True)
class ShadowRecording:
    """What a recording says, as values."""

    track: Track
    proposals: list[PublishedChunk]  # of the shadow policy
    real: list[PublishedChunk]  # the chunks that the controller was given, if it was by chunks
    verdicts: dict[tuple[int, int], ChunkVerdict]  # by lease and sequence
    words: list[PolicyWord]  # of the shadow policy
    real_words: list[PolicyWord]  # of a policy that moved the robot
    messages: dict[str, int] = field(default_factory=dict)  # by topic
    unreadable: dict[str, Counter[str]] = field(default_factory=dict)  # of them, by cause
    notes: tuple[str, ...] = ()  # of the files: cut off, missing, not listed


def read_shadow(path: Path, embodiment: Embodiment, namespace: str = "") -> ShadowRecording:
    """Read a recording of shadow mode; `namespace` is the robot's.

    Raises:
        PhysaiError: it is no recording, or holds no chunk of a shadow policy.
    """
    from rclpy.serialization import deserialize_message
    from sensor_msgs.msg import JointState as JointStateMsg

    from physai.msg import ActionChunk as ActionChunkMsg
    from physai.msg import ChunkVerdict as ChunkVerdictMsg
    from physai.msg import PolicyStatus
    from physai_ros import conversions
    from physai_ros.recording import Recording

    outside = f"/{namespace.strip('/')}".rstrip("/")
    inside = f"{outside}/shadow"
    states: list[JointState] = []
    chunks: dict[str, list[PublishedChunk]] = {f"{inside}/action_chunk": [], f"{outside}/action_chunk": []}
    words: dict[str, list[PolicyWord]] = {f"{inside}/policy/status": [], f"{outside}/policy/status": []}
    verdicts: dict[tuple[int, int], ChunkVerdict] = {}
    names = {getattr(PolicyStatus, name): name.lower() for name in ("IDLE", "RUNNING", "SUCCEEDED", "REFUSED", "ABORTED", "HANDOVER")}  # fmt: skip

    def take_chunk(topic: str, message: Any) -> None:
        if conversions.is_end(message):
            return
        published, seen = (
            conversions.time_from_msg(t) for t in (message.header.stamp, message.observation_stamp)
        )
        try:
            chunk, problem = conversions.chunk_from_msg(message), ""
        except PhysaiError as error:
            chunk, problem = None, str(error)
        chunks[topic].append(
            PublishedChunk(int(message.sequence), int(message.lease), published, seen, chunk, problem)
        )

    def take_word(topic: str, message: Any) -> None:
        words[topic].append(
            PolicyWord(
                conversions.time_from_msg(message.header.stamp), message.state == PolicyStatus.RUNNING,
                message.instruction, names.get(message.state, str(message.state)), message.message,
                int(message.chunks), float(message.inference_ms),
            )
        )  # fmt: skip

    def take_verdict(_: str, message: Any) -> None:
        verdicts[int(message.lease), int(message.sequence)] = conversions.verdict_from_msg(message)

    def take_state(_: str, message: Any) -> None:
        states.append(conversions.joint_state_from_msg(message, embodiment))

    readers: dict[str, tuple[type, Callable[[str, Any], None]]] = {
        f"{outside}/joint_states": (JointStateMsg, take_state),
        f"{inside}/chunk_verdict": (ChunkVerdictMsg, take_verdict),
        **dict.fromkeys(chunks, (ActionChunkMsg, take_chunk)),
        **dict.fromkeys(words, (PolicyStatus, take_word)),
    }
    counts: dict[str, int] = {}
    unreadable: dict[str, Counter[str]] = {}
    recording = Recording(path)
    for recorded in recording:
        topic = f"/{recorded.topic.strip('/')}"
        counts[topic] = counts.get(topic, 0) + 1
        if topic not in readers:
            continue
        kind, take = readers[topic]
        try:
            take(topic, deserialize_message(recorded.data, kind))
        except Exception as error:  # of one message, whatever its bytes provoke
            cause = str(error) if isinstance(error, PhysaiError) else f"{type(error).__name__}: {error}"
            unreadable.setdefault(topic, Counter())[NUMBER.sub("…", cause)] += 1
    proposals = chunks[f"{inside}/action_chunk"]
    if not proposals:
        raise PhysaiError(
            f"{path}: no chunk on {inside}/action_chunk; it has {', '.join(sorted(counts)) or 'no message'}. "
            "Was an instruction given, and is --namespace the robot's?"
        )
    return ShadowRecording(
        _track(states, embodiment), proposals, chunks[f"{outside}/action_chunk"], verdicts,
        words[f"{inside}/policy/status"], words[f"{outside}/policy/status"], counts, unreadable, recording.notes,
    )  # fmt: skip


def _track(states: Sequence[JointState], embodiment: Embodiment) -> Track:
    ordered = sorted({state.stamp_ns: state for state in states}.values(), key=lambda state: state.stamp_ns)
    return Track(
        np.array([state.stamp_ns for state in ordered], np.int64),
        np.array([state.position for state in ordered]).reshape(-1, len(embodiment.joints)),
        np.array([state.openings for state in ordered]).reshape(-1, len(embodiment.end_effectors)),
    )


# ShadowComparison --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ShadowComparison:
    """One chunk beside what the robot did at the time of each of its H steps; NaN where that is not known. Of several end
    effectors the one that is furthest off counts.
    """

    proposal: PublishedChunk
    task: int
    ahead_s: np.ndarray  # (H,) from the observation to each step
    joint_rad: np.ndarray  # (H,) of the joint that is furthest off; NaN for chunks of tool poses
    tool_m: np.ndarray  # (H,)
    still_m: np.ndarray  # (H,) how far the tool came from where it was at the observation
    same_hand: np.ndarray  # (H,) 1: both open or both closed, each hand, 0: not
    due: np.ndarray  # (H,) bool: between its publication and the next chunk's: what the robot would have done

    def agrees(self, tolerance: Tolerance) -> bool | None:
        """Whether every step that was due is within the tolerance; None when the robot's motion then is not known."""
        joint, tool = self.joint_rad[self.due], self.tool_m[self.due]
        if not len(tool) or np.isnan(tool).any():
            return None
        return bool((tool <= tolerance.tool_m).all() and not (joint > tolerance.joint_rad).any())


@dataclass
class TaskSpan:
    """A time in which the shadow policy was at one instruction."""

    instruction: str
    began_ns: int
    ended_ns: int
    outcome: str = ""


def tasks_of(recording: ShadowRecording) -> list[TaskSpan]:
    """The shadow policy's tasks, by what it said; without its word, pauses between chunks part them."""
    tasks: list[TaskSpan] = []
    running: PolicyWord | None = None
    for word in recording.words:
        if word.running:
            if running is None or word.instruction != running.instruction or word.chunks < running.chunks:
                tasks.append(TaskSpan(word.instruction, word.stamp_ns, word.stamp_ns))
            tasks[-1].ended_ns = word.stamp_ns
        elif running is not None and word.instruction == running.instruction:
            tasks[-1].ended_ns = word.stamp_ns
            tasks[-1].outcome = f"{word.state}: {word.message}" if word.message else word.state
        elif word.state == "refused":  # another instruction, while one runs
            continue
        running = word if word.running else None
    if not tasks:
        last_ns = None
        for proposal in recording.proposals:
            if last_ns is None or proposal.published_ns - last_ns > PAUSE_S * 1e9:
                tasks.append(TaskSpan("", proposal.published_ns, proposal.published_ns))
            tasks[-1].ended_ns = last_ns = proposal.published_ns
    return tasks


def compare(
    proposals: Sequence[PublishedChunk], tasks: Sequence[TaskSpan], track: Track, embodiment: Embodiment
) -> list[ShadowComparison]:
    """Each readable chunk beside the robot's motion."""
    arms = [ArmKinematics(embodiment, name) for name in embodiment.end_effector_names]
    starts = np.array([task.began_ns for task in tasks])
    middles = _middle_openings(track)

    def tools_at(joints: np.ndarray) -> np.ndarray:
        """(K, k, 3) m."""
        found = np.full((len(joints), len(arms), 3), np.nan)
        for row in np.flatnonzero(np.isfinite(joints).all(axis=1)):
            found[row] = [arm.tool_pose(joints[row]).position for arm in arms]
        return found

    found = []
    for proposal, following in itertools.zip_longest(proposals, proposals[1:]):
        chunk = proposal.chunk
        if chunk is None:
            continue
        if chunk.mode is ChunkMode.JOINT_POSITION and chunk.joint_names != embodiment.joint_names:
            continue
        times = chunk.start_ns + chunk.dt_ns * np.arange(chunk.horizon)
        joints, openings = track.at(times)
        seen = tools_at(track.at(np.array([chunk.observation_ns]))[0])[0]
        tools = tools_at(joints)
        if chunk.mode is ChunkMode.JOINT_POSITION:
            joint_rad, planned = np.abs(chunk.values - joints).max(axis=1), tools_at(chunk.values)
        else:
            joint_rad = np.full(chunk.horizon, np.nan)
            planned = chunk.values.reshape(chunk.horizon, -1, POSE)[:, :, :3]
        moves = np.isfinite(middles)  # hands that were seen to move
        same = ((chunk.openings < middles) == (openings < middles))[:, moves].all(axis=1)
        until_ns = chunk.expiry_ns if following is None else min(chunk.expiry_ns, following.published_ns)
        due = (times >= proposal.published_ns) & (times < until_ns)
        if not due.any():  # replaced before a step: the one that it would have led to
            due = np.arange(chunk.horizon) == np.searchsorted(times, proposal.published_ns)
        found.append(
            ShadowComparison(
                proposal,
                int(np.searchsorted(starts, proposal.published_ns, side="right")) - 1,
                (times - chunk.observation_ns) / 1e9,
                joint_rad,
                np.linalg.norm(planned - tools, axis=2).max(axis=1),
                np.linalg.norm(tools - seen, axis=2).max(axis=1),
                np.where(np.isnan(openings).any(axis=1) | ~moves.any(), np.nan, same),
                due,
            )
        )
    return found


def _middle_openings(track: Track) -> np.ndarray:
    """(k,) below which a hand counts as closed: halfway between the openings that were seen. NaN when it did not move.

    A command to close says 0 while a held thing keeps the fingers apart, so openings themselves cannot be compared.
    """
    if not len(track.openings):
        return np.full(track.openings.shape[1], np.nan)
    low, high = np.quantile(track.openings, [0.02, 0.98], axis=0)
    return np.where(high - low > LEAST_HAND_TRAVEL_M, (low + high) / 2, np.nan)


# Figures -----------------------------------------------------------------------------------------------------


def by_horizon(comparisons: Sequence[ShadowComparison]) -> list[dict[str, float]]:
    """p50 and p95 of the divergence at each step's distance from the observation, in bins of one step."""
    if not comparisons:
        return []
    step_s = float(
        np.median([np.diff(c.ahead_s).mean() for c in comparisons if len(c.ahead_s) > 1] or [0.05])
    )
    columns = {
        name: np.concatenate([getattr(c, name) for c in comparisons])
        for name in ("ahead_s", "joint_rad", "tool_m", "still_m")
    }
    bins = np.round(columns["ahead_s"] / step_s).astype(int)
    rows = []
    for k in np.unique(bins[~np.isnan(columns["tool_m"])]):
        here = (bins == k) & ~np.isnan(columns["tool_m"])
        row: dict[str, float] = {"ahead_s": float(k * step_s), "n": int(here.sum())}
        for name in ("joint_rad", "tool_m", "still_m"):
            values = columns[name][here]
            values = values[~np.isnan(values)]
            for q in (50, 95):
                row[f"{name}_p{q}"] = float(np.quantile(values, q / 100)) if len(values) else float("nan")
        rows.append(row)
    return rows


def agreement(comparisons: Sequence[ShadowComparison], tolerance: Tolerance) -> dict[str, Any]:
    """The share of chunks that agree, with a 95 % interval.

    Chunks of one task go together, so that a task counts as one trial: Wilson's interval with as many trials as there
    are tasks. It is too wide rather than too narrow.
    """
    judged = [(c.task, agrees) for c in comparisons if (agrees := c.agrees(tolerance)) is not None]
    tasks = {task for task, _ in judged}
    share = sum(agrees for _, agrees in judged) / len(judged) if judged else float("nan")
    low, high = wilson_interval(share * len(tasks), len(tasks)) if judged else (0.0, 1.0)
    return {
        "share": share, "interval": [low, high], "chunks": len(judged), "tasks": len(tasks),
        "not comparable": len(comparisons) - len(judged),
    }  # fmt: skip


def hand_agreement(comparisons: Sequence[ShadowComparison]) -> dict[str, float]:
    """The share of due steps at which the hand is open or closed as it really was."""
    steps = np.concatenate([c.same_hand[c.due] for c in comparisons]) if comparisons else np.zeros(0)
    steps = steps[~np.isnan(steps)]
    return {"share": float(steps.mean()) if len(steps) else float("nan"), "steps": len(steps)}


def vetoes(recording: ShadowRecording) -> dict[str, Any]:
    """What the world model would have vetoed, by reason with an example; and chunks without a verdict."""
    reasons: dict[str, list[ChunkVerdict]] = {}
    for verdict in recording.verdicts.values():
        if not verdict.allow:
            reasons.setdefault(verdict.reason.value, []).append(verdict)
    judged = len(recording.verdicts)
    missing = (
        sum((p.lease, p.sequence) not in recording.verdicts for p in recording.proposals) if judged else 0
    )
    return {
        "judged": judged,
        "without a verdict": missing,
        "vetoed": sum(map(len, reasons.values())),
        "reasons": {name: {"chunks": len(all_), "example": all_[0].detail} for name, all_ in reasons.items()},
        "sequences": sorted(v.sequence for all_ in reasons.values() for v in all_),
    }


def refusals(recording: ShadowRecording, embodiment: Embodiment) -> dict[str, Any]:
    """What the control core would have refused, each chunk by itself with the arm holding where it really was."""
    reasons: dict[str, list[tuple[int, str]]] = {}
    checked = 0
    check = RefusalCheck(embodiment)
    try:
        for proposal in recording.proposals:
            why = proposal.problem
            if proposal.chunk is not None:
                joints, openings = recording.track.at(np.array([proposal.published_ns]))
                if np.isnan(joints).any():
                    continue
                rest = np.zeros(joints.shape[1])
                measured = JointState(proposal.published_ns, joints[0], rest, rest, openings[0])
                why = check.why_refused(proposal.chunk, measured, proposal.published_ns)
            checked += 1
            if why:
                reasons.setdefault(NUMBER.sub("…", why), []).append((proposal.sequence, why))
    finally:
        check.close()
    return {
        "checked": checked,
        "refused": sum(map(len, reasons.values())),
        "reasons": {name: {"chunks": len(all_), "example": all_[0][1]} for name, all_ in reasons.items()},
        "sequences": sorted(sequence for all_ in reasons.values() for sequence, _ in all_),
    }


def latencies(recording: ShadowRecording) -> dict[str, Mapping[str, float]]:
    """Quantiles, ms: observation to chunk and between chunks in ROS time, inference in the node's own time."""
    age = [(p.published_ns - p.observation_ns) / 1e6 for p in recording.proposals]
    stamps = np.array([p.published_ns for p in recording.proposals])
    between = np.diff(stamps) / 1e6
    inference, before = [], -1
    for word in recording.words:
        if word.running and word.chunks and word.chunks != before:
            inference.append(word.inference_ms)
        before = word.chunks
    return {
        "observation to chunk": quantiles(age),
        "between chunks": quantiles(between[(between > 0) & (between < PAUSE_S * 1e3)].tolist()),
        "inference": quantiles(inference),
    }
