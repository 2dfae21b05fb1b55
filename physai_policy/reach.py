"""Whether an arm can take its tool where a task has things, pointing down: what a policy in tool space asks of it.

Such a policy says where the tool is; how the arm gets it there is for inverse kinematics. An arm of fewer than six joints cannot
hold every rotation at every place. Where a task does not mind how the hand is turned about the tool's axis, that is left to such an arm.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.errors import KinematicsError, PhysaiError
from physai_base.features import FORCE
from physai_base.kinematics import AXES, FREE_ROTATION, TOOL_DOWN, ArmKinematics, Pose
from physai_base.task import Task
from physai_policy.policy import ActionSpace

TURN = AXES[5:]  # about the tool's axis
RANK = 6  # of the Jacobian of an arm that can turn its tool as it likes
RANK_TOLERANCE = 1e-3  # of a singular value against the largest
POSTURES = 20  # at which the rank is looked for
LOW_M = 0.005  # above the lowest that the tool may be


def rank_of(embodiment: Embodiment, kinematics: ArmKinematics) -> int:
    """How many of the tool's six directions the arm moves it in, at most, over postures drawn from its whole range."""
    rng = np.random.default_rng(0)
    low, high = embodiment.limits("position_min"), embodiment.limits("position_max")
    postures = [embodiment.home, *rng.uniform(low, high, (POSTURES, len(low)))]
    return max(int(np.linalg.matrix_rank(kinematics.jacobian(q), tol=RANK_TOLERANCE)) for q in postures)


def free_for(embodiment: Embodiment, kinematics: ArmKinematics, task: Task) -> tuple[str, ...]:
    """What of the tool's rotation to leave to that arm: nothing wherever it can give all of it, or where the task minds."""
    if task.turn_matters or rank_of(embodiment, kinematics) >= RANK:
        return ()
    whole, some = (_count(embodiment, kinematics, task, free) for free in ((), TURN))
    return TURN if some > whole else ()


def _count(embodiment: Embodiment, kinematics: ArmKinematics, task: Task, free: Sequence[str]) -> int:
    """Of the task's places inside the fence, how many the tool is taken to, each from the start posture."""
    low, high = embodiment.geofence_min, embodiment.geofence_max
    inside = [place for place in places_of(task) if (place > low).all() and (place < high).all()]
    return sum(_reaches(embodiment, kinematics, place, free) for place in inside)


def places_of(task: Task) -> np.ndarray:
    """Where the tool goes (k, 3) m: to what may be fetched and to where it is put, at corners and middle of where they may be."""
    found = []
    grip_m = max((task.kind(label).grip_height_m for label in task.objects), default=0.0)
    for region in dict.fromkeys(task.region(label) for label in (*task.objects, *task.places)):
        spots = [*itertools.product(region.x, region.y), tuple(region.middle_m[:2])]
        lowest = task.workcell.workspace_min[2] + LOW_M  # what is pushed or wiped is not gripped
        found += [(*spot, max(region.z_m + grip_m, lowest)) for spot in spots]
    return np.array(found).reshape(-1, 3)


@dataclass(frozen=True)
class Reach:
    """How many of a task's places an arm can take its tool to."""

    places: int
    reached: int  # as the task asks for it
    anyhow: int  # however the tool points
    rank: int
    free: tuple[str, ...]  # what is left to the arm

    @staticmethod
    def of(embodiment: Embodiment, task: Task) -> Reach:
        """Tried one by one, each from the start posture."""
        kinematics = ArmKinematics(embodiment)
        free, places = free_for(embodiment, kinematics, task), len(places_of(task))
        reached = _count(embodiment, kinematics, task, free)
        anyhow = reached if reached == places else _count(embodiment, kinematics, task, FREE_ROTATION)
        return Reach(places, reached, anyhow, rank_of(embodiment, kinematics), free)

    @property
    def good(self) -> bool:
        """Whether it is worth a try: more than half."""
        return 2 * self.reached > self.places or not self.places

    def text(self, embodiment: Embodiment) -> str:
        """What it cannot do and why, for a person; empty when it reaches every place."""
        if self.reached == self.places:
            return ""
        how = "pointing down" if self.free else "pointing down and turned as the task asks"
        said = (
            f"robot {embodiment.name} reaches {self.reached} of {self.places} places of the task with the tool {how}, and "
            f"{self.anyhow} however it points"
        )
        if self.rank < RANK:
            said += (
                f": its {len(embodiment.joints)} joints move the tool in {self.rank} of 6 directions, so that it cannot be turned "
                "freely"
            )
        return said


def _reaches(
    embodiment: Embodiment, kinematics: ArmKinematics, place_m: np.ndarray, free: Sequence[str]
) -> bool:
    try:
        kinematics.inverse(Pose(place_m, TOOL_DOWN), embodiment.home, embodiment.home, free)
    except KinematicsError:
        return False
    return True


def check_reach(name: str, space: ActionSpace, embodiment: Embodiment, task: Task) -> str:
    """A warning where a policy of that name and space has an arm that does not reach all of the task; empty when it does.

    Raises:
        PhysaiError: it does not reach half of it, or cannot feel what the policy goes by; the message says why.
    """
    if embodiment.hardware.command != "effort" and f"{FORCE}.x" in task.feature_names():
        raise PhysaiError(
            f"policy {name} goes by what pushes the tool, and robot {embodiment.name} takes {embodiment.hardware.command}s: nothing "
            "there measures that. Take an arm with torques, or a policy that does not feel"
        )
    if space is ActionSpace.JOINT_POSITION:
        return ""
    reach = Reach.of(embodiment, task)
    if not reach.good:
        raise PhysaiError(
            f"policy {name} moves the tool, and {reach.text(embodiment)}. Take another arm, a task in its reach, or a policy for "
            "its joints"
        )
    return reach.text(embodiment)
