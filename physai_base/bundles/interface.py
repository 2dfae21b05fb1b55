"""What a bundle needs of a robot: its interface. Whatever robot has that may run it, whatever it is called.

A manifest's `interface`, with units as everywhere (m, rad, base frame):

    action_space   tool_position, tool_position_yaw, tool_pose or joint_position: what it acts or judges in; none for what does neither
    grippers       of each end effector, in order: `kind` and the `range` of openings that training saw
    joints         of joint_position alone: `name` and `range` of each joint in training
    cameras        of what looks through cameras: how each is mounted and what it sees, by name

A robot fits when it has as many end effectors, each gripper of that kind with the range within its own; when its joints have those
names, or are as many with those ranges within their own; and when its cameras are mounted as those were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from physai_base.embodiment_parts import GRIPPER_KINDS
from physai_base.errors import BundleError
from physai_base.trained_on import CAMERA, SIZE_M, MismatchError, camera_values, differences

if TYPE_CHECKING:
    from physai_base.embodiment import Embodiment
    from physai_base.reader import Reader

SPACES = ("none", "tool_position", "tool_position_yaw", "tool_pose", "joint_position")
JOINTS = "joint_position"
SIZE_RAD = 0.01  # by which ranges of joints may differ that are meant to be the same


@dataclass(frozen=True)
class Interface:
    """What a bundle needs."""

    action_space: str
    grippers: tuple[tuple[str, float, float], ...]  # kind, least and greatest opening
    joints: tuple[tuple[str, float, float], ...] = ()  # name, least and greatest position
    cameras: Mapping[str, Mapping[str, Any]] = field(
        default_factory=dict
    )  # by name, as trained_on.py has them

    @staticmethod
    def of(
        embodiment: Embodiment,
        action_space: str,
        cameras: Sequence[str] = (),
        openings: tuple[float, float] | None = None,
    ) -> Interface:
        """That of a robot, for what acts in that space and looks through those cameras.

        `openings`: the least and greatest opening that training saw of one gripper; None: all that the robot's has.

        Raises:
            BundleError: it has no such camera.
        """
        views = {name.removeprefix(CAMERA): v.value for name, v in camera_values(embodiment, cameras).items()}
        missing = [name for name in cameras if views[name] is None]
        if missing:
            raise BundleError(f"robot {embodiment.name} has no camera {', '.join(missing)}")
        ranges = [(end.gripper.opening_min, end.gripper.opening_max) for end in embodiment.end_effectors]
        ranges = ranges if openings is None else [openings, *ranges[1:]]
        kinds = [end.gripper.kind for end in embodiment.end_effectors]
        joints = embodiment.joints if action_space == JOINTS else ()
        return Interface(
            action_space,
            tuple((kind, float(low), float(high)) for kind, (low, high) in zip(kinds, ranges, strict=True)),
            tuple((joint.name, joint.position_min, joint.position_max) for joint in joints),
            {name: views[name] for name in cameras},
        )

    def as_json(self) -> dict[str, Any]:
        """As a manifest has it."""
        return {
            "action_space": self.action_space,
            "grippers": [{"kind": kind, "range": [low, high]} for kind, low, high in self.grippers],
            "joints": [{"name": name, "range": [low, high]} for name, low, high in self.joints],
            "cameras": {name: dict(view) for name, view in self.cameras.items()},
        }

    @staticmethod
    def read(entry: Reader) -> Interface:
        """From a manifest; what is wrong is noted there."""
        return Interface(
            entry.choice("action_space", SPACES),
            tuple((g.choice("kind", GRIPPER_KINDS), *_range(g)) for g in entry.sections("grippers")),
            tuple((j.text("name"), *_range(j)) for j in entry.sections("joints", optional=True)),
            {str(name): node.plain() for name, node in entry.section("cameras", optional=True).items()},
        )

    def lacks(self, embodiment: Embodiment) -> list[str]:
        """What keeps that robot from running it, each in words; empty when nothing does."""
        return [*self._grippers(embodiment), *self._joints(embodiment), *self._cameras(embodiment)]

    def _grippers(self, embodiment: Embodiment) -> list[str]:
        there = [end.gripper for end in embodiment.end_effectors]
        if len(there) != len(self.grippers):
            return [
                f"it is for {len(self.grippers)} end effector{'s' * (len(self.grippers) != 1)}, here are {len(there)}"
            ]
        found = []
        for end, (kind, low, high) in zip(embodiment.end_effectors, self.grippers, strict=True):
            gripper = end.gripper
            if gripper.kind != kind:
                found.append(f"it moves a gripper of kind {kind}, {end.name} has kind {gripper.kind}")
            elif low < gripper.opening_min - SIZE_M or high > gripper.opening_max + SIZE_M:
                found.append(
                    f"it opens a gripper from {low:g} to {high:g} {gripper.unit}, {end.name} opens from "
                    f"{gripper.opening_min:g} to {gripper.opening_max:g} {gripper.unit}"
                )
        return found

    def _joints(self, embodiment: Embodiment) -> list[str]:
        if self.action_space != JOINTS:
            return []
        names = tuple(name for name, _, _ in self.joints)
        if names == embodiment.joint_names:
            return []
        if len(names) != len(embodiment.joints):
            return [f"it moves {len(names)} joints ({', '.join(names)}), here are {len(embodiment.joints)}"]
        return [
            f"it moves {name} from {low:g} to {high:g} rad, {joint.name} goes from {joint.position_min:g} to "
            f"{joint.position_max:g} rad"
            for (name, low, high), joint in zip(self.joints, embodiment.joints, strict=True)
            if low < joint.position_min - SIZE_RAD or high > joint.position_max + SIZE_RAD
        ]

    def _cameras(self, embodiment: Embodiment) -> list[str]:
        trained = {f"{CAMERA}{name}": view for name, view in self.cameras.items()}
        return differences(trained, camera_values(embodiment, tuple(self.cameras)))

    def check(self, where: str, embodiment: Embodiment) -> None:
        """Whether a bundle fits a robot.

        Raises:
            MismatchError: it does not; the message names all that keeps it.
        """
        lacks = self.lacks(embodiment)
        if lacks:
            raise MismatchError(
                f"{where}: does not fit the robot {embodiment.path}: {'; '.join(lacks)}. Give a bundle for such a robot, or "
                "train one (docs/explanation/learned_parts.md)"
            )


def _range(entry: Reader) -> tuple[float, float]:
    low, high = entry.vector("range", 2)
    if entry.good("range") and low > high:
        entry.fail("range", f"the least, {low:g}, must not be above the greatest, {high:g}")
    return float(low), float(high)
