"""The course of one task after another: when it began, where it stands, and how it ended."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from enum import Enum

import numpy as np

from physai_base.expert import Goal
from physai_base.outcome import Outcome, Situation, Stance
from physai_base.task import Task
from physai_base.values import SceneState

SET_BACK_S = 1.0  # scenes may overtake each other by less


class TaskState(Enum):
    """Where a task stands."""

    IDLE = "idle"
    RUNNING = "running"
    HANDED_OVER = "handed_over"  # the arm rests: a person resumes the task, or takes over
    SUCCEEDED = "succeeded"
    ABORTED = "aborted"


class Course:
    """Of the task that runs or ran last; what is ended stays so until the next one begins."""

    def __init__(self, task: Task, settle_s: float) -> None:
        """`settle_s`: a task is done when it has been seen done for so long."""
        self._task, self._settle_s = task, settle_s
        self.ending = threading.RLock()  # held while it ends, and by whoever must not go on after that
        self.goal: Goal | None = None
        self.instruction = ""
        self.state = TaskState.IDLE
        self.message = ""
        self._timeout_s = 0.0
        self._started_ns = self._handed_over_ns = 0
        self._start: Mapping[str, Stance] = {}  # how things were when it began, as far as they were seen then
        self._done_since_ns: int | None = None

    def begin(self, goal: Goal, now_ns: int, timeout_s: float, instruction: str) -> None:
        """A task begins."""
        self.goal, self.instruction = goal, instruction
        self.state, self.message = TaskState.RUNNING, ""
        self._started_ns, self._timeout_s = now_ns, timeout_s
        self._start, self._done_since_ns = {}, None

    def end(self, state: TaskState, message: str) -> bool:
        """It ends; whether it had not ended before."""
        with self.ending:
            if not self.busy:
                return False
            self.state, self.message = state, message
            return True

    @property
    def busy(self) -> bool:
        """Whether there is a task that has not ended; one that was handed over has not."""
        return self.state in (TaskState.RUNNING, TaskState.HANDED_OVER)

    def hand_over(self, why: str, now_ns: int) -> None:
        """A person is asked for, if it runs: nothing more is sent, what was sent last runs out and the controller holds."""
        with self.ending:
            if self.state is TaskState.RUNNING:
                self.state, self._handed_over_ns = TaskState.HANDED_OVER, now_ns
                self.message = f"asks for a person: {why}"

    def resume(self, now_ns: int) -> bool:
        """It goes on after it was handed over; whether it was."""
        if self.state is not TaskState.HANDED_OVER:
            return False
        self.prolong(now_ns - self._handed_over_ns)
        self.state, self.message = TaskState.RUNNING, ""
        return True

    def prolong(self, by_ns: int) -> None:
        """So long the policy had no time."""
        self._started_ns += by_ns

    def note(self, message: str) -> None:
        """What a person should know while it runs."""
        with self.ending:
            if self.state is TaskState.RUNNING:
                self.message = message

    def set_back_s(self, now_ns: int, last_ns: int) -> float:
        """How far the clock was set back before the start, or `last_ns` if that is later; 0 for what may be disorder."""
        back_s = (max(self._started_ns, last_ns) - now_ns) / 1e9
        return back_s if back_s > SET_BACK_S else 0.0

    def too_late(self, now_ns: int) -> str:
        """That it takes too long; empty when it does not."""
        late = now_ns - self._started_ns > self._timeout_s * 1e9
        return f"not done within {self._timeout_s:g} s" if late else ""

    def see(self, scene: SceneState) -> bool:
        """Whether that scene ends it: it has been seen done for a while."""
        self._remember_start(scene)
        if not self.outcome(scene).success:
            self._done_since_ns = None
            return False
        if self._done_since_ns is None:
            self._done_since_ns = scene.stamp_ns
        if scene.stamp_ns - self._done_since_ns < self._settle_s * 1e9:
            return False
        person = self.state is TaskState.HANDED_OVER
        self.end(TaskState.SUCCEEDED, "done by a person" if person else "done")
        return True

    def _remember_start(self, scene: SceneState) -> None:
        """How things stood when they were first seen; what a person does to them is no harm."""
        if self.state is TaskState.HANDED_OVER:
            self._start = {}
        else:
            self._start = {**Situation.perceived(scene).things, **self._start}

    def outcome(self, scene: SceneState) -> Outcome:
        """What has come of it so far, as it is perceived."""
        assert self.goal is not None
        return self._task.outcome(self.goal, Situation.perceived(scene), self._start)

    def progress(self, scene: SceneState) -> float:
        """A rough share of the way done, 0..1: fetched, carried, placed."""
        if self.state is TaskState.SUCCEEDED:
            return 1.0
        if self.goal is None:
            return 0.0
        thing = scene.find(self.goal.target)
        place = scene.find(self.goal.destination) if self.goal.destination else thing
        if thing is None or place is None:
            return 0.0
        fetch = np.linalg.norm(scene.tool.position_m - thing.position_m)
        carry = np.linalg.norm(place.position_m - thing.position_m)
        return float(np.clip(1.0 - 0.4 * min(1.0, fetch / 0.5) - 0.6 * min(1.0, carry / 0.6), 0.0, 0.99))
