"""Whether the statistics of a checkpoint can be those of the robot that its map names: degrees for radians, per cent for metres.

A policy's normalization says where its training data lay. Where that is beyond what the robot can do, either the map names
another quantity or the policy is of another robot; neither shows in the sizes, and both show on the robot alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.tensor import TensorSpec
from physai_policy.mapped import ModelMapping
from physai_policy.policy import ActionSpace
from physai_policy.remote.mapping import GripperScale, ValuesEntry

SLACK = 0.1  # of a range, beyond its ends: data may touch a limit, and a mean and a deviation are no ends
Range = tuple[str, float, float]  # a quantity and the ends of what this robot can show


def doubts(
    mapping: ModelMapping, inputs: Sequence[TensorSpec], output: TensorSpec, embodiment: Embodiment
) -> list[str]:
    """What does not fit, a sentence for each input and for the action; mean and deviation of each number are compared."""
    gripper = mapping.actions.gripper
    found = []
    for spec in inputs:
        entry = mapping.observation.get(spec.name)
        if isinstance(entry, ValuesEntry) and spec.mean is not None:
            ranges = [r for name in entry.names for r in _ranges(name, embodiment, gripper)]
            found.append(_doubt(spec, ranges, np.ones(len(ranges))))
    actions = mapping.actions
    if output.mean is not None and actions.relative == "no":
        quantity = "joints" if actions.space is ActionSpace.JOINT_POSITION else "tool"
        ranges = _ranges(quantity, embodiment, gripper)
        columns = actions.columns or range(actions.width(len(embodiment.joints)))
        scale = np.append(actions.scale or np.ones(len(columns) - 1), 1.0)
        ends = _ranges("gripper", embodiment, gripper)
        chosen = [*columns[: len(ranges)], columns[-1]]
        picked = TensorSpec(
            output.name, (len(chosen),), output.units,
            mean=tuple(output.mean[c] for c in chosen), std=tuple((output.std or output.mean)[c] for c in chosen),
        )  # fmt: skip
        found.append(_doubt(picked, [*ranges, *ends], np.append(scale[: len(ranges)], 1.0)))
    return [text for text in found if text]


def _ranges(name: str, embodiment: Embodiment, gripper: GripperScale) -> list[Range]:
    """Of every number of a quantity; an unbounded one is within anything."""
    hand = embodiment.gripper
    if name in ("joints", "joints_degrees"):
        turn = 180 / np.pi if name == "joints_degrees" else 1.0
        return [(j.name, j.position_min * turn, j.position_max * turn) for j in embodiment.joints]
    if name == "gripper_width":
        return [("the gripper's width in m", hand.opening_min, hand.opening_max)]
    if name == "gripper":
        return [("the gripper", min(gripper.closed, gripper.open), max(gripper.closed, gripper.open))]
    if name == "tool":
        low, high = embodiment.geofence_min, embodiment.geofence_max
        return [(f"the tool's {axis} in m", float(low[i]), float(high[i])) for i, axis in enumerate("xyz")]
    sizes = {"tool_quaternion": (4, 1.0), "tool_rotation_vector": (3, 2 * np.pi)}
    count, end = sizes.get(name, (0, 0.0))
    return [(name, -end, end)] * count


def _doubt(spec: TensorSpec, ranges: Sequence[Range], scale: np.ndarray) -> str:
    """The first number of a tensor whose data cannot be the robot's, and how many there are."""
    if spec.mean is None or spec.std is None or len(ranges) != len(spec.mean):
        return ""  # features and others whose range nobody states
    beyond = []
    for (name, low, high), mean, deviation, factor in zip(ranges, spec.mean, spec.std, scale, strict=True):
        a, b = sorted(((mean - deviation) * factor, (mean + deviation) * factor))
        slack = SLACK * (high - low)
        if not (low - slack <= a and b <= high + slack):
            beyond.append(f"{name}: {a:.3g} to {b:.3g} in training, {low:.3g} to {high:.3g} on this robot")
    if not beyond:
        return ""
    more = f" (and {len(beyond) - 1} more)" if len(beyond) > 1 else ""
    return f"{spec.name}: {beyond[0]}{more}"


ADVICE = (
    "another unit than the map says (degrees: joints_degrees and scale; per cent: gripper), or another robot?"
)
