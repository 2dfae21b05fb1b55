"""What a policy sees: offsets from the tool, which networks foresee by their names, the hand, the other jars."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from physai_base.expert import Goal
from physai_base.features import by_distance, fine_width, named, offset_names, offsets
from physai_base.outcome import Situation

if TYPE_CHECKING:
    from physai_lab.tasks.template.task import TemplateTask

OFFSETS = ("target_from_tcp", "place_from_tcp", "place_from_target")


def feature_names(task: TemplateTask) -> tuple[str, ...]:
    """Names of the entries of `features`, in order."""
    names = offset_names(*OFFSETS)
    names += [*named("tcp"), *named("tcp_velocity"), *named("target_velocity")]
    names += ["gripper.width", "gripper.width.fine"]
    names += [name for k in range(len(task.objects) - 1) for name in named(f"other{k}_from_tcp")]
    return tuple(names)


def features(task: TemplateTask, now: Situation, goal: Goal) -> np.ndarray:
    """The policy's input (F,) float32; entries are named by `feature_names`, lengths in metres.

    Raises:
        MissingObjectError: a jar or the mark is unknown.
    """
    tcp, jar, mark = now.tool_m, now.require(goal.target), now.require(goal.destination)
    place, width = mark.position_m, now.tool.opening
    parts = offsets(jar.position_m - tcp, place - tcp, place - jar.position_m)
    parts += [tcp, now.tool.velocity_m_s, jar.velocity_m_s]
    parts.append(np.array([width, fine_width(width, 2 * task.jars.radius_m)]))
    others = [label for label in task.objects if label != goal.target]
    parts += by_distance(now.require(label).position_m - tcp for label in others)
    return np.concatenate(parts).astype(np.float32)
