"""One network for several tasks: it sees the features of all of them, by name, and which task it is about.

What a task does not see is for the network as it is on average. A chunk has the columns of all tasks; what one of them does not
steer stays where it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from physai_base.errors import BundleError
from physai_base.task import ACTION, TURNING, Task

MARK = "task."  # before a task's name: 1 where it is about that one, else 0


@dataclass(frozen=True)
class Share:
    """What of a network's input and output is one task's."""

    names: tuple[str, ...]  # of all features
    seen: np.ndarray  # (F,) where the task's features are
    mark: int | None  # and where it says that it is this task; None: the network knows one task alone
    columns: np.ndarray  # (D,) which columns of the network's chunks are the task's

    @staticmethod
    def whole(names: Sequence[str], columns: int) -> Share:
        """All of it, of a network for one task."""
        return Share(tuple(names), np.arange(len(names)), None, np.arange(columns))

    @staticmethod
    def of(task: Task, names: Sequence[str], action: Sequence[str]) -> Share:
        """That of `task` in a network for several.

        Raises:
            BundleError: the network does not know that task, or was trained on other features.
        """
        known = [name.removeprefix(MARK) for name in names if name.startswith(MARK)]
        if task.definition not in known:
            raise BundleError(f"knows the tasks {', '.join(known)}, not {task.definition}; train it anew")
        missing = [name for name in task.feature_names() if name not in names]
        if missing:
            raise BundleError(f"was trained without the features {', '.join(missing)}; train it anew")
        seen = np.array([names.index(name) for name in task.feature_names()])
        columns = np.array([action.index(name) for name in task.action])
        return Share(tuple(names), seen, names.index(MARK + task.definition), columns)

    def widened(self, features: np.ndarray, unknown: np.ndarray) -> np.ndarray:
        """(..., U) the network's features of a task's (..., F), with those of `unknown` (U,) where the task has none."""
        wide = np.broadcast_to(unknown, (*features.shape[:-1], len(self.names))).astype(features.dtype)
        if self.mark is not None:
            wide[..., [name.startswith(MARK) for name in self.names]] = 0.0
            wide[..., self.mark] = 1.0
        wide[..., self.seen] = features
        return wide


def joint_names(tasks: Sequence[Task]) -> tuple[str, ...]:
    """The features of a network for these tasks."""
    names = dict.fromkeys(name for task in tasks for name in task.feature_names())
    return (*names, *(MARK + task.definition for task in tasks))


def joint_action(tasks: Sequence[Task]) -> tuple[str, ...]:
    """The columns of its chunks."""
    return TURNING if any(len(task.action) > len(ACTION) for task in tasks) else ACTION


def tasks_of(config: Mapping[str, Any]) -> list[str]:
    """The definitions of the tasks that a bundle of this configuration knows; none: it is of one task alone."""
    return [name.removeprefix(MARK) for name in config.get("features", ()) if str(name).startswith(MARK)]
