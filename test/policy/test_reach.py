"""Whether an arm can take its tool where a task has things, and what is asked of an arm that cannot turn it freely."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scenes import make_scene

from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.kinematics import FREE_ROTATION, TOOL_DOWN, ArmKinematics, Pose
from physai_base.task import Task
from physai_policy.decoding import ChunkDecoder
from physai_policy.policy import ActionSpace, Proposal
from physai_policy.reach import TURN, Reach, check_reach, free_for, rank_of

LOCKED = {"fr3_joint5": 0.0, "fr3_joint7": 0.785}


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Embodiment:
    """The FR3 with two joints locked, without which the hand points down but cannot be turned about the vertical."""
    import yaml

    shipped = Embodiment.load("fr3")
    document = yaml.safe_load(shipped.path.read_text())
    kept = [k for k, joint in enumerate(document["joints"]) if joint["name"] not in LOCKED]
    document["joints"] = [document["joints"][k] for k in kept]
    document["home"] = [document["home"][k] for k in kept]
    document |= {"name": "five", "model": str(shipped.model_path), "locked": LOCKED}
    del document["features"]  # those of seven joints
    path = tmp_path_factory.mktemp("five") / "five.yaml"
    path.write_text(yaml.safe_dump(document))
    return Embodiment.load(path)


def test_an_arm_of_seven_joints_is_asked_for_all(embodiment: Embodiment, task: Task) -> None:
    kinematics = ArmKinematics(embodiment)
    assert rank_of(embodiment, kinematics) == 6
    assert free_for(embodiment, kinematics, task) == ()
    reach = Reach.of(embodiment, task)
    assert reach.good and reach.reached == reach.places == 15
    assert reach.text(embodiment) == ""


def test_an_arm_of_five_joints_does_it_where_the_turn_does_not_matter(five: Embodiment, task: Task) -> None:
    reach = Reach.of(five, task)
    assert (reach.rank, reach.free) == (5, TURN)
    assert reach.good
    assert check_reach("policy", ActionSpace.TOOL_POSITION, five, task) == reach.text(five)


def test_where_the_turn_matters_it_is_told_why_it_cannot(
    five: Embodiment, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(task), "turn_matters", True)
    said = r"policy cubes moves the tool, and robot five reaches \d of 15 places .* turned as the task asks, and \d+ however"
    with pytest.raises(PhysaiError, match=said + r".*5 joints move the tool in 5 of 6 directions"):
        check_reach("cubes", ActionSpace.TOOL_POSITION, five, task)
    assert not check_reach("cubes", ActionSpace.JOINT_POSITION, five, task)  # whose joints are its own matter


def test_a_task_out_of_reach_is_said(embodiment: Embodiment, task: Task) -> None:
    far = replace(
        task,
        cups=replace(task.cups, region=replace(task.cups.region, x=(1.2, 1.4))),
        boards=replace(task.boards, region_x=(1.2, 1.4)),
    )
    with pytest.raises(
        PhysaiError, match=r"reaches 0 of 15 places .* and 0 however it points. Take another arm"
    ):
        check_reach("policy", ActionSpace.TOOL_POSITION, embodiment, far)


def test_a_tool_whose_turn_is_free_points_down_where_it_is_told(five: Embodiment, task: Task) -> None:
    kinematics = ArmKinematics(five)
    start = kinematics.inverse(Pose(np.array([0.45, -0.1, 0.3]), TOOL_DOWN), five.home, five.home, TURN)
    tool = kinematics.tool_pose(start)
    np.testing.assert_allclose(tool.position, [0.45, -0.1, 0.3], atol=2e-4)
    np.testing.assert_allclose(tool.rotation[:, 2], [0, 0, -1], atol=2e-3)
    path = tool.position + np.outer(np.linspace(0, 1, 16), [0.0, 0.05, -0.05])
    proposal = Proposal(np.column_stack([path, np.full(16, 0.08)])[None], ActionSpace.TOOL_POSITION, 0.05)
    scene = replace(
        make_scene(Embodiment.load("fr3"), task), joint_position=start, joint_velocity=np.zeros(5)
    )
    chunk = ChunkDecoder(five, kinematics, TURN).decode(proposal, scene, 1, "test").chunk
    ends = [kinematics.tool_pose(row).position for row in chunk.values]
    assert np.linalg.norm(ends - path, axis=1).max() < 2e-3


def test_of_any_turn_only_the_place_is_asked_for(embodiment: Embodiment) -> None:
    kinematics = ArmKinematics(embodiment)
    place = np.array([0.4, 0.2, 0.5])
    joints = kinematics.inverse(Pose(place, TOOL_DOWN), embodiment.home, free=FREE_ROTATION)
    np.testing.assert_allclose(kinematics.tool_pose(joints).position, place, atol=2e-4)


@pytest.mark.parametrize("name", ["push", "stack", "insert", "wipe", "drawer"])
def test_the_arm_reaches_what_every_task_is_about(embodiment: Embodiment, name: str) -> None:
    reach = Reach.of(embodiment, Task.load(name))
    assert reach.reached == reach.places >= 5


@pytest.mark.parametrize(("name", "refused"), [("insert", True), ("wipe", True), ("push", False)])
def test_a_policy_that_feels_is_refused_where_nothing_measures_that(
    embodiment: Embodiment, name: str, refused: bool
) -> None:
    blind = replace(embodiment, hardware=replace(embodiment.hardware, command="position"))
    task = Task.load(name)
    if refused:
        with pytest.raises(PhysaiError, match=r"goes by what pushes the tool, and robot fr3 takes positions"):
            check_reach("policy", ActionSpace.TOOL_POSITION, blind, task)
    else:
        assert check_reach("policy", ActionSpace.TOOL_POSITION, blind, task) == ""
