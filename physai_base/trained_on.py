"""What a bundle was trained on, and whether the task and the robot in use are that, value by value.

A manifest's `trained_on` maps the names below to values; null means that nobody knows, as of a policy that came from elsewhere.
Of a bundle that knows several tasks it maps `tasks` to such a mapping for each.
Every value of a task has a rule (`physai_base.task.Rule`), one of a robot must be the same. Lengths may differ by `SIZE_M`:
what a ruler shows, and less than the shipped policy misses by (2.3 mm).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from physai_base.errors import BundleError, shown
from physai_base.task import Rule, TrainedValue

if TYPE_CHECKING:
    from physai_base.embodiment import Embodiment
    from physai_base.task import Task

SIZE_M = 0.001
CAMERA = "robot.cameras."  # before a camera's name
TASKS = "tasks"  # of a bundle that knows several: values by task


class MismatchError(BundleError):
    """A bundle that was trained on another task or robot than is used, or does not say on what."""

    exit_code = 78  # EX_CONFIG


Values = Mapping[str, TrainedValue]


def values_of(task: Task, embodiment: Embodiment) -> Values:
    """All values that a bundle may have been trained on."""
    return {**task_values(task), **robot_values(embodiment)}


def as_json(values: Values) -> dict[str, Any]:
    """As a manifest has them."""
    return {name: known.value for name, known in values.items()}


def task_values(task: Task, looks: bool = True) -> Values:
    """Those of a task; to a bundle that does not look through cameras fewer matter."""
    known = task.trained_values().items()
    return {name: replace(v, value=_plain(v.value)) for name, v in known if looks or not v.looks}


def robot_values(embodiment: Embodiment) -> Values:
    """Those of a robot: its interface, not its name."""
    gripper = embodiment.gripper
    return {
        "robot.joints": TrainedValue(len(embodiment.joints)),
        "robot.gripper.width_m": TrainedValue([gripper.opening_min, gripper.opening_max]),
        **camera_values(embodiment),
    }


def camera_values(embodiment: Embodiment, cameras: Sequence[str] | None = None) -> Values:
    """How a robot's cameras are mounted, and what they see; of those (None: of all; one that it lacks has no value)."""
    views = {
        camera.name: {
            "parent": "base" if camera.parent == embodiment.base_frame else "tool",
            "position_m": camera.position, "look_at_m": camera.look_at,
            "size": (camera.width, camera.height), "fovy_deg": camera.fovy_deg,
        } for camera in embodiment.cameras
    }  # fmt: skip
    names = views if cameras is None else cameras
    return {f"{CAMERA}{name}": TrainedValue(_plain(views.get(name))) for name in names}


def differences(trained: Mapping[str, Any], used: Values, exactly: bool = False) -> list[str]:
    """How what is used differs from what was trained on; `exactly`: without the rules' allowance."""
    found = []
    for name, known in used.items():
        now, rule = known.value, Rule.SAME if exactly else known.rule
        if name not in trained:
            found.append(f"{name} is not stated, here {_said(now)}")
            continue
        before = trained[name]
        try:
            if rule is Rule.WITHIN:
                good = now is not None and before[0] - SIZE_M <= now[0] and now[1] <= before[1] + SIZE_M
            elif rule is Rule.AT_LEAST:
                good = now is not None and now >= before - SIZE_M
            else:
                good = _same(before, now)
        except (TypeError, LookupError, ValueError):
            good = False
        if not good:
            how = "" if rule is Rule.SAME else f"{rule.value} "
            found.append(f"{name} {how}{_said(before)}, here {_said(now)}")
    return found


def of_task(where: str, trained: Mapping[str, Any] | None, task: str) -> Mapping[str, Any] | None:
    """What concerns one task of what a bundle was trained on; of one that knows several, each has its own entry in `TASKS`.

    Raises:
        MismatchError: it knows others.
    """
    tasks = (trained or {}).get(TASKS)
    if tasks is None:
        return trained
    if task not in tasks:
        raise MismatchError(f"{where}: was trained on the tasks {', '.join(tasks)}, not on {task}")
    return dict(tasks[task])


def check_trained_on(where: str, trained: Mapping[str, Any] | None, used: Values, what: str) -> None:
    """Whether a bundle was trained on what is used.

    Raises:
        MismatchError: a value differs; the message names all that do.
    """
    wrong = differences(trained or {}, used)
    if used and not trained:
        raise MismatchError(
            f"{where}: does not say what it was trained on; say it with `physai golden {where} --trained-on --task TASK`, or "
            "export it again"
        )
    if wrong:
        raise MismatchError(
            f"{where}: was trained on something else than {what}: {'; '.join(wrong)}. Use what it was trained on, or train it "
            "anew (docs/explanation/learned_parts.md)"
        )


def _same(before: Any, now: Any) -> bool:
    if isinstance(before, Mapping) or isinstance(now, Mapping):
        return (
            isinstance(before, Mapping)
            and isinstance(now, Mapping)
            and before.keys() == now.keys()
            and all(_same(before[key], now[key]) for key in before)
        )
    if isinstance(before, list) or isinstance(now, list):
        return (
            isinstance(before, list)
            and isinstance(now, list)
            and len(before) == len(now)
            and all(map(_same, before, now))
        )
    if isinstance(before, float) or isinstance(now, float):
        return (
            not isinstance(before, str | None)
            and not isinstance(now, str | None)
            and abs(before - now) <= SIZE_M
        )
    return bool(before == now)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray):
        return [float(entry) for entry in value]
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    return float(value) if isinstance(value, np.floating) else value


def _said(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_said, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_said(entry)}' for key, entry in value.items())}}}"
    return (
        f"{value:g}"
        if isinstance(value, float)
        else "nothing"
        if value is None
        else shown(value)
        if not isinstance(value, str)
        else value
    )
