"""What a bundle was trained on, and whether the task and the robot in use are that, value by value.

A manifest's `trained_on` maps the names below to values; null means that nobody knows, as of a policy that came from elsewhere.
Every value has a rule:

    same      lengths may differ by `SIZE_M`: what a ruler shows, and less than the shipped policy misses by (2.3 mm)
    within    an interval in use lies within the one that was trained on
    at least  the value in use is not below the one that was trained on

What the success of a task is (`success`), is not compared: nothing is trained on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from physai_base.errors import BundleError, shown

if TYPE_CHECKING:
    from physai_base.embodiment import Embodiment
    from physai_base.task import Task

SIZE_M = 0.001
SAME, WITHIN, AT_LEAST = "same", "within", "at least"
RULES = {
    "cups.labels": SAME,
    "shelf.labels": SAME,
    "cups.radius_m": SAME,
    "cups.height_m": SAME,
    "cups.region.x": WITHIN,
    "cups.region.y": WITHIN,
    "cups.min_distance_m": AT_LEAST,
    "shelf.board_size_m": SAME,
    "shelf.heights_m": SAME,
    "shelf.offsets_x_m": SAME,
    "shelf.region.x": WITHIN,
    "shelf.region.y": WITHIN,
    "shelf.region.yaw": WITHIN,
    "workspace.x": WITHIN,
    "workspace.y": WITHIN,
    "workspace.z": WITHIN,
}
SEEN = ("table.x", "table.y", "markers.dictionary", "markers.size_m", "markers.centers")  # in an image


class MismatchError(BundleError):
    """A bundle that was trained on another task or robot than is used, or does not say on what."""

    exit_code = 78  # EX_CONFIG


def values_of(task: Task, embodiment: Embodiment) -> dict[str, Any]:
    """All values that a bundle may have been trained on, as JSON."""
    return {**task_values(task), **robot_values(embodiment)}


def task_values(task: Task) -> dict[str, Any]:
    """Those of a task."""
    cups, shelf, markers = task.cups, task.shelf, task.markers
    low, high = task.workspace_min, task.workspace_max
    return {name: _plain(value) for name, value in {
        "cups.labels": cups.labels, "shelf.labels": shelf.labels,
        "cups.radius_m": cups.radius_m, "cups.height_m": cups.height_m,
        "cups.region.x": cups.region_x, "cups.region.y": cups.region_y, "cups.min_distance_m": cups.min_distance_m,
        "shelf.board_size_m": shelf.board_size_m, "shelf.heights_m": shelf.heights_m, "shelf.offsets_x_m": shelf.offsets_x_m,
        "shelf.region.x": shelf.region_x, "shelf.region.y": shelf.region_y, "shelf.region.yaw": shelf.region_yaw,
        **{f"workspace.{axis}": (low[k], high[k]) for k, axis in enumerate("xyz")},
        "table.x": task.table_x, "table.y": task.table_y,
        "markers.dictionary": markers.dictionary, "markers.size_m": markers.size_m,
        "markers.centers": {str(number): centre for number, centre in sorted(markers.centers.items())},
    }.items()}  # fmt: skip


def robot_values(embodiment: Embodiment) -> dict[str, Any]:
    """Those of a robot: its interface, not its name."""
    gripper = embodiment.gripper
    return {name: _plain(value) for name, value in {
        "robot.joints": len(embodiment.joints), "robot.gripper.width_m": (gripper.width_min, gripper.width_max),
        **{f"robot.cameras.{camera.name}": {
            "parent": "base" if camera.parent == embodiment.base_frame else "tool",
            "position_m": camera.position, "look_at_m": camera.look_at,
            "size": (camera.width, camera.height), "fovy_deg": camera.fovy_deg,
        } for camera in embodiment.cameras},
    }.items()}  # fmt: skip


def differences(
    trained: Mapping[str, Any], used: Mapping[str, Any], names: tuple[str, ...], exactly: bool = False
) -> list[str]:
    """How what is used differs from what was trained on, in those values; `exactly`: without the rules' allowance."""
    found = []
    for name in names:
        if name not in trained:
            found.append(f"{name} is not stated, here {_said(used.get(name))}")
            continue
        rule, before, now = RULES.get(name, SAME), trained[name], used.get(name)
        if exactly:
            rule = SAME
        try:
            if rule == WITHIN:
                good = now is not None and before[0] - SIZE_M <= now[0] and now[1] <= before[1] + SIZE_M
            elif rule == AT_LEAST:
                good = now is not None and now >= before - SIZE_M
            else:
                good = _same(before, now)
        except (TypeError, LookupError, ValueError):
            good = False
        if not good:
            how = {WITHIN: "within ", AT_LEAST: "at least "}.get(rule, "")
            found.append(f"{name} {how}{_said(before)}, here {_said(now)}")
    return found


def task_names(looks: bool = False) -> tuple[str, ...]:
    """Which of a task's values matter to a bundle; to one that looks through cameras more do."""
    return (*RULES, *(SEEN if looks else ()))


def robot_names(cameras: Sequence[str] = ()) -> tuple[str, ...]:
    """Which of a robot's values matter to it."""
    return ("robot.joints", "robot.gripper.width_m", *(f"robot.cameras.{name}" for name in cameras))


def check_trained_on(
    where: str, trained: Mapping[str, Any] | None, used: Mapping[str, Any], names: tuple[str, ...], what: str
) -> None:
    """Whether a bundle was trained on what is used.

    Raises:
        MismatchError: a value differs; the message names all that do.
    """
    wrong = differences(trained or {}, used, names)
    if names and not trained:
        raise MismatchError(
            f"{where}: does not say what it was trained on; say it with `physai golden {where} --trained-on --task TASK`, or "
            "export it again"
        )
    if wrong:
        raise MismatchError(
            f"{where}: was trained on something else than {what}: {'; '.join(wrong)}. Use what it was trained on, or train it "
            "anew (docs/learned_parts.md)"
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
