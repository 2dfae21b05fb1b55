"""Whether one task gets on: what became of its chunks, what is seen of it, and when that is to be given up."""

from __future__ import annotations

from dataclasses import replace

from physai_base.outcome import Outcome
from physai_base.task import Task
from physai_base.values import SceneState
from physai_policy.watch import PATIENCE_S, Grasps, Stall, Stalled, Watch, lies, repeats

STARTING_S = 0.3  # after the controller took a chunk the arm moves
SILENCE_S = 0.5  # of the controller about a chunk: more than a verdict and a status take
_PREFIXES = {Stall.VETOED: "vetoed", Stall.REJECTED: "refused by the controller"}
_REFUSALS = (Stall.VETOED, Stall.REJECTED)
LEAST_REFUSALS = 3  # fewer may be a moment's bad luck
_FAILURES = (Stall.NOT_SEEN, Stall.NO_PLAN)


class Progress:
    """Of one task after another. What the controller says may come from another thread than scenes."""

    def __init__(self, task: Task, drives: bool, lost_timeout_s: float) -> None:
        """`drives`: the arm is to follow these chunks. What cannot be seen or has no answer is put up with for `lost_timeout_s`."""
        self._task, self._drives, self._lost_timeout_s = task, drives, lost_timeout_s
        self._watch = Watch()
        self.begin()

    def begin(self) -> None:
        """A task begins, or goes on after a person had it."""
        self._watch.begin()
        self.ended_by: Stalled | None = None  # what repeated until the task was given up
        self.vetoes = self.rejections = 0  # in a row
        self.followed_ns: int | None = None  # when the controller last took a chunk of this task
        self._refused_ns = 0  # when one was last refused
        self._unanswered_ns: int | None = None  # when the first chunk went out that nothing was heard of
        self._now_ns = 0
        self._before: SceneState | None = None
        self._repeats_ns: int | None = None  # since when scenes have repeated themselves
        self._grasps = Grasps(self._task)

    @property
    def conditions(self) -> tuple[Stalled, ...]:
        """What repeats now, the oldest first; of a task that was given up, what it was given up for."""
        return (self.ended_by,) if self.ended_by is not None else self._watch.present()

    @property
    def note(self) -> str:
        """The oldest of them, for a person."""
        present = self._watch.present()
        if not present:
            return ""
        prefix = _PREFIXES.get(present[0].stall)
        return f"{prefix}: {present[0].text}" if prefix else present[0].text

    # What becomes of chunks.

    def sent(self, now_ns: int) -> None:
        """A chunk goes out."""
        if self._unanswered_ns is None and self._drives:
            self._unanswered_ns = now_ns

    def followed(self, now_ns: int) -> None:
        """The controller has taken one."""
        self.followed_ns, self._unanswered_ns = now_ns, None
        self.vetoes = self.rejections = 0
        self._watch.over(Stall.UNANSWERED, *_REFUSALS)

    def silence(self, now_ns: int) -> None:
        """The controller speaks, and not of the newest chunks."""
        since_ns = self._unanswered_ns
        if since_ns is None or now_ns - since_ns < SILENCE_S * 1e9:
            return
        said = "the controller follows none of the chunks and does not say why"
        self._watch.note(Stall.UNANSWERED, said, since_ns)

    def refused(self, stall: Stall, why: str) -> None:
        """The controller or the world model did not take one."""
        if not self._drives:
            return
        if stall is Stall.VETOED:
            self.vetoes += 1
        else:
            self.rejections += 1
        self._unanswered_ns, self._refused_ns = None, self._now_ns
        since = [one.since_ns for one in self._watch.present() if one.stall in _REFUSALS]
        self._watch.over(Stall.UNANSWERED, *_REFUSALS)
        self._watch.note(stall, why or "it does not say why", min(since, default=self._now_ns))

    # What comes of scenes.

    def failed(self, stall: Stall, why: str, now_ns: int) -> None:
        """Nothing came of an inference."""
        self._watch.note(stall, why, now_ns)

    def answered(self) -> None:
        """Something did."""
        self._watch.over(*_FAILURES)

    def look(self, scene: SceneState, held: str, found: Outcome, homing: bool = False) -> Stalled | None:
        """What has lasted too long and is to be given up for, with a text that says so; None while the task gets on.

        `held` is the label of what the hand is to hold; empty: nothing.
        """
        now = self._now_ns = scene.stamp_ns
        harm = f"the task is done, but {found}" if found.harm and not found.lack else ""
        carries = empty = ""
        if held and self.followed_ns is not None and not homing:  # else the hand did nothing of this task
            carries, empty = self._grasps.look(scene, held)
        for stall, text in (
            (Stall.HARM, harm),
            (Stall.TARGET_LIES, lies(scene, held)),
            (Stall.FROZEN, carries or self._repetition(scene)),
            (Stall.HAND_EMPTY, empty),
        ):
            self._watch.look(stall, text, now)
        for condition in self._watch.present():
            refusal = condition.stall in _REFUSALS
            if refusal and self.vetoes + self.rejections < LEAST_REFUSALS:
                continue
            # Between refusals there may be nothing to refuse.
            lasted_s = ((self._refused_ns if refusal else now) - condition.since_ns) / 1e9
            limit_s = self._lost_timeout_s if condition.stall in _FAILURES else PATIENCE_S
            if condition.text in (carries, empty):
                limit_s = 0.0  # it has repeated already
            if lasted_s > limit_s:
                prefix = _PREFIXES.get(condition.stall)
                text = f"{prefix} for {lasted_s:.0f} s: {condition.text}" if prefix else condition.text
                return replace(condition, text=text)
        return None

    def _repetition(self, scene: SceneState) -> str:
        """That scenes have repeated themselves since before a chunk was followed; empty if not."""
        before, self._before = self._before, scene
        if before is None or not self._drives or not repeats(scene, before):
            self._repeats_ns = None
            return ""
        self._repeats_ns = before.stamp_ns if self._repeats_ns is None else self._repeats_ns
        if self.followed_ns is None or self.followed_ns + STARTING_S * 1e9 < self._repeats_ns:
            return ""  # the arm rests
        return "the scenes repeat themselves although the arm moves: is what perception sees the present?"
