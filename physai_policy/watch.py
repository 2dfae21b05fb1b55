"""What repeats without progress: named, dated, and told once it has lasted for two seconds."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import Enum

import numpy as np

from physai_base.task import Task
from physai_base.values import ChunkVerdict, SceneState, VerdictReason

PATIENCE_S = 2.0
FRESH_S = 0.3  # what was last seen so long ago may have gone elsewhere
FOLLOWS_M = 0.06  # a held object is no farther from the hand than this, from its middle
EPISODE_S = 0.15  # less may be a late image
CONTRADICTIONS, EMPTY_GRASPS = 2, 4
BESIDE_M = 0.02  # a hand this near to an object's axis would close on it
GRASPED_LOW_M, GRASPED_HIGH_M = (
    -0.006,
    0.004,
)  # of the hand's opening from what it holds


class Stall(str, Enum):
    """What may repeat without progress; the values are the names in `policy/status`."""

    NOT_SEEN = "not_seen"  # the target or the destination
    TARGET_LIES = "target_lies"
    NO_PLAN = "no_plan"  # the policy has no answer, or one that is out of reach
    VETOED = "vetoed"  # by the world model
    REJECTED = "rejected"  # by the controller
    UNANSWERED = "unanswered"  # the controller follows no chunk and does not say why
    FROZEN = "scene_frozen"  # what is seen is not the present
    HAND_EMPTY = "hand_empty"  # closed where the target is seen
    HARM = "other_object_harmed"


@dataclass(frozen=True)
class Stalled:
    """One thing that repeats."""

    stall: Stall
    text: str  # for a person
    since_ns: int


class Watch:
    """The conditions of one task, on the time of its scenes; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._present: dict[Stall, Stalled] = {}

    def begin(self) -> None:
        """Nothing is known yet."""
        with self._lock:
            self._present.clear()

    def note(self, stall: Stall, text: str, now_ns: int) -> None:
        """It is so, since now or since it was first noted; the newest text counts."""
        with self._lock:
            known = self._present.get(stall)
            self._present[stall] = Stalled(stall, text, now_ns if known is None else known.since_ns)

    def over(self, *stalls: Stall) -> None:
        """They are so no more."""
        with self._lock:
            for stall in stalls:
                self._present.pop(stall, None)

    def look(self, stall: Stall, text: str, now_ns: int) -> None:
        """It is so if there is a text."""
        if text:
            self.note(stall, text, now_ns)
        else:
            self.over(stall)

    def present(self) -> tuple[Stalled, ...]:
        """All of them, the oldest first."""
        with self._lock:
            return tuple(sorted(self._present.values(), key=lambda condition: condition.since_ns))


_VETOES = {
    VerdictReason.KNOCK: "would knock something over",
    VerdictReason.TABLE: "would touch the table",
    VerdictReason.WORKSPACE: "would leave the workspace",
    VerdictReason.OUT_OF_DISTRIBUTION: "is unlike what the world model knows",
    VerdictReason.STALE_SCENE: "is judged by no fresh scene",
    VerdictReason.INVALID: "cannot be judged",
}


def why_vetoed(verdict: ChunkVerdict) -> str:
    """What a veto says, for a person."""
    said = _VETOES.get(verdict.reason, verdict.reason.value)
    return f"{said}: {verdict.detail}" if verdict.detail else said


def lies(scene: SceneState, label: str) -> str:
    """That the object lies; empty when it stands or is not seen."""
    thing = scene.find(label)
    if thing is None or not thing.believed or thing.upright:
        return ""
    return f"the {label.replace('_', ' ')} lies: I cannot pick up what lies"


def may_hold(scene: SceneState, task: Task) -> bool:
    """Whether the hand is as wide as while it holds something."""
    widths = {task.kind(label).grip_m for label in task.objects}
    return any(GRASPED_LOW_M <= scene.tool.opening - width <= GRASPED_HIGH_M for width in widths)


class Grasps:
    """What the hand feels against what is seen: whether the scene can be the present.

    One contradiction may be a slip or a bad fit; a policy that sees a frozen scene runs into the same one again and again.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._held_away = Episodes()
        self._empty = Episodes()
        self._was_free = False  # what it held before that may be something else

    def look(self, scene: SceneState, label: str) -> tuple[str, str]:
        """That an object is carried and still seen where it stood, and that the hand closes there on nothing; empty if not so."""
        thing, kind = scene.find(label), self._task.kind(label)
        holds = may_hold(scene, self._task)
        self._was_free = self._was_free or not holds
        fresh = thing is not None and thing.believed and scene.stamp_ns - thing.last_seen_ns <= FRESH_S * 1e9
        if thing is None or not fresh:
            self._held_away.see(False, scene.stamp_ns)
            self._empty.see(False, scene.stamp_ns)
            return "", ""
        name, wider = label.replace("_", " "), scene.tool.opening - kind.grip_m
        offset = scene.tool.position_m - thing.position_m
        away = np.linalg.norm(offset - [0, 0, kind.size_m[2] / 2]) > FOLLOWS_M
        self._held_away.see(bool(self._was_free and holds and away), scene.stamp_ns)
        there = np.linalg.norm(offset[:2]) < BESIDE_M and 0 < offset[2] < kind.size_m[2]
        self._empty.see(bool(there and wider < 2 * GRASPED_LOW_M), scene.stamp_ns)
        carries = f"the hand carries something, but the {name} is still seen where it stood: does the camera show the present?"
        nothing = f"the hand closes where the {name} is seen, and holds nothing"
        return (
            carries
            if self._held_away.count >= CONTRADICTIONS or self._held_away.lasts_s > PATIENCE_S
            else "",
            nothing if self._empty.count >= EMPTY_GRASPS or self._empty.lasts_s > PATIENCE_S else "",
        )


class Episodes:
    """How often something has been so for `EPISODE_S`."""

    def __init__(self) -> None:
        self.count = 0
        self.lasts_s = 0.0  # the present one
        self._since_ns: int | None = None

    def see(self, so: bool, now_ns: int) -> None:
        """What is seen now."""
        if not so:
            self._since_ns, self.lasts_s = None, 0.0
            return
        self._since_ns = now_ns if self._since_ns is None else self._since_ns
        before, self.lasts_s = self.lasts_s, (now_ns - self._since_ns) / 1e9
        self.count += before < EPISODE_S <= self.lasts_s


def repeats(scene: SceneState, before: SceneState) -> bool:
    """Whether a newer scene is the one before, number by number: nothing measured ever is."""
    if scene.stamp_ns <= before.stamp_ns or len(scene.objects) != len(before.objects):
        return False
    pairs = [
        (scene.joint_position, before.joint_position),
        (scene.joint_velocity, before.joint_velocity),
        *((a.position_m, b.position_m) for a, b in zip(scene.objects, before.objects, strict=True)),
    ]
    return all(np.array_equal(a, b) for a, b in pairs)
