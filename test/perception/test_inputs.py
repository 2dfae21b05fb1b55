"""What perception waits for and what it makes of joint states: pairs, absences, clocks, fingers, turns and degrees."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.stream import StreamCheck
from physai_base.values import JointSample, JointState
from physai_perception.errors import SynchronizationError
from physai_perception.inputs import PARTS, InputWatch, behind, clocks
from physai_perception.joint_assembly import JointAssembler
from physai_perception.pairing import FramePairing
from physai_ros import conversions

MS = 1_000_000
ROBOT = Embodiment.load("fr3")


# Pairs.


@pytest.mark.parametrize("offset_ms", [0.0, 1.0, -1.0, 4.0, -9.0])
@pytest.mark.parametrize("first", ["colour", "depth"])
def test_colour_and_depth_pair_within_the_tolerance(offset_ms: float, first: str) -> None:
    pairing: FramePairing[str] = FramePairing(0.01)
    pairs = []
    for k in range(5):
        stamps = {"colour": k * 50 * MS, "depth": round((k * 50 + offset_ms) * MS)}
        for kind in (first, "depth" if first == "colour" else "colour"):
            pairs.append(pairing.add(kind, stamps[kind], f"{kind}{k}"))
    assert [pair for pair in pairs if pair] == [(k * 50 * MS, f"colour{k}", f"depth{k}") for k in range(5)]
    assert pairing.fault == ""


def test_the_nearest_partner_is_taken_and_a_wild_stamp_costs_one_image() -> None:
    pairing: FramePairing[str] = FramePairing(0.02)
    pairing.add("colour", 0, "far")
    pairing.add("colour", 15 * MS, "near")
    assert pairing.add("depth", 16 * MS, "d") == (15 * MS, "near", "d")
    assert pairing.add("colour", 3_600_000 * MS, "wild") is None
    pairing.add("colour", 60 * MS, "c")
    assert pairing.add("depth", 60 * MS, "d") == (60 * MS, "c", "d")


@pytest.mark.parametrize(
    ("offset_ms", "words"),
    [(16.0, "depth image is 16.0 ms later than colour"), (-14.0, "colour image is 14.0 ms later")],
)
def test_streams_that_never_pair_say_which_is_late(offset_ms: float, words: str) -> None:
    pairing: FramePairing[int] = FramePairing(0.01)
    for k in range(8):
        assert pairing.add("colour", k * 50 * MS, k) is None
        assert pairing.add("depth", round((k * 50 + offset_ms) * MS), k) is None
    assert words in pairing.fault and "pairing_tolerance_s" in pairing.fault


# Absences.

TOPICS = {
    "colour": "/camera/overview/image_raw",
    "depth": "/camera/overview/depth/image_rect_raw",
    "camera_info": "/camera/overview/camera_info",
    "joint_states": "/joint_states",
}


def watch(absent: set[str], publishers: int = 1) -> list[tuple[str, str]]:
    inputs = InputWatch("overview", TOPICS, 1.0, lambda topic: publishers)
    inputs.restart(10.0)
    for k in range(40):
        for part in set(TOPICS) - absent:
            inputs.arrived(part, 10.0 + 0.05 * k)
    return [(one.name, one.text) for one in inputs.missing(12.0)]


@pytest.mark.parametrize("part", list(TOPICS))
def test_the_part_that_is_absent_is_named_by_its_topic(part: str) -> None:
    ((name, text),) = watch({part}, publishers=0)
    assert name == f"{part}_absent" and TOPICS[part] in text and "nobody publishes it" in text
    ((_, text),) = watch({part}, publishers=1)
    assert "quality of service" in text


def test_joint_states_of_other_joints_are_named() -> None:
    inputs = InputWatch("overview", TOPICS, 1.0, lambda topic: 1)
    inputs.restart(10.0)
    inputs.foreign = "left_fr3_joint1, left_fr3_joint2"
    texts = {one.name: one.text for one in inputs.missing(12.0)}
    assert texts["joint_states_absent"] == (
        "no joint state of the robot file's joints on /joint_states at all, for more than 1 s: what comes there is of "
        "left_fr3_joint1, left_fr3_joint2"
    )


def test_a_camera_of_which_nothing_comes_is_one_thing() -> None:
    assert watch(set()) == []
    names = [name for name, _ in watch({"colour", "depth", "camera_info"})]
    assert names == ["camera_absent", "camera_info_absent"]
    ((name, text),) = watch({"colour", "depth"})
    assert name == "camera_absent" and "no image from camera 'overview' for more than 1 s" in text


def test_calibration_that_came_once_is_not_waited_for() -> None:
    inputs = InputWatch("overview", TOPICS, 1.0, lambda topic: 1)
    inputs.arrived("camera_info", 1.0)
    inputs.restart(50.0)
    for part in ("colour", "depth", "joint_states"):
        inputs.arrived(part, 60.0)
    assert inputs.missing(60.5) == []


def test_clocks_that_differ_are_told_apart() -> None:
    assert "1.0 s ahead of the newest on j" in clocks(2_000 * MS, 1_000 * MS, "c", "j")
    assert "wait for a first joint state on j" in clocks(2_000 * MS, None, "c", "j")
    assert "0.8 s older than the newest joint state" in behind(200 * MS, 1_000 * MS, "c", "j")
    assert behind(900 * MS, 1_000 * MS, "c", "j") == ""


def test_refusals_that_come_and_go_are_a_condition() -> None:
    inputs = InputWatch("overview", TOPICS, 1.0, lambda topic: 1)
    for k in range(20):
        inputs.evaluated("too far apart" if k % 3 == 0 else "")
    assert inputs.refusals() == "7 of the last 20 images gave no scene, the last one because: too far apart"
    for _ in range(20):
        inputs.evaluated("")
    assert inputs.refusals() == ""


def test_two_cameras_on_one_topic_are_named() -> None:
    count = {"/colour": 2}
    watch = InputWatch(
        "overview", {part: f"/{part}" for part in PARTS}, 1.0, lambda topic: count.get(topic, 1)
    )
    for k in range(20):
        watch.evaluated("the markers lie elsewhere" if k % 2 else "")
    assert watch.refusals().endswith("; more than one program publishes /colour: end all but one")
    assert watch.back_and_forth() == ""
    watch.restart(0.0)
    for k in range(20):  # their clocks differ: no image is refused, and everything is forgotten with each
        watch.evaluated("", ran_back=bool(k % 2))
    assert watch.refusals() == ""
    assert "ran back 10 times in 20 images" in watch.back_and_forth()
    assert watch.back_and_forth().endswith("/colour: end all but one")
    count["/colour"] = 1
    assert watch.back_and_forth().endswith("let one clock stamp them")
    watch.restart(0.0)
    watch.evaluated("", ran_back=True)  # time was set back once
    assert watch.back_and_forth() == ""


@pytest.mark.parametrize(("every", "said"), [(1, True), (2, True), (4, True), (10, False)])
def test_joint_states_that_are_refused_now_and_then_are_said(every: int, said: bool) -> None:
    inputs = InputWatch("overview", TOPICS, 1.0, lambda topic: 1)
    texts = [inputs.joint_state("" if k % every else "position of fr3_joint1 is nan") for k in range(100)]
    assert {bool(text) for text in texts[20:]} == {said}
    if said:
        some = "" if every == 1 else f" ({20 // every} of the last 20)"
        assert texts[-1] == f"/joint_states: position of fr3_joint1 is nan{some}"
    assert [inputs.joint_state("") for _ in range(20)][-1] == ""


def test_refusals_may_be_read_while_images_come() -> None:
    inputs = InputWatch("overview", TOPICS, 1.0, lambda topic: 1)

    class Interrupted(str):
        """While it is looked at, another thread adds one."""

        def __bool__(self) -> bool:
            inputs.evaluated("late")
            return True

    for _ in range(20):
        inputs.evaluated(Interrupted("early"))
    assert inputs.refusals() == "20 of the last 20 images gave no scene, the last one because: early"


def test_a_stream_is_compared_with_the_robot_file() -> None:
    camera = ROBOT.camera("wrist")
    stream = StreamCheck(camera, "camera/wrist/image_raw")
    assert stream.wrong_size(camera.width, camera.height) == ""
    assert "is 640x480, the robot file promises 320x240; it is of the same shape" in stream.wrong_size(
        640, 480
    )
    assert "turned by 90 degrees" in stream.wrong_size(camera.height, camera.width)
    for k in range(12):
        stream.add(k * 200 * MS)
    assert "come at 5 Hz, the robot file promises 15 Hz" in stream.too_slow()
    for k in range(12):
        stream.add((10_000 + k * 66) * MS)
    assert stream.too_slow() == ""


# Joint states.


def samples(position: np.ndarray | None = None, **changes: JointSample | None) -> dict[str, JointSample]:
    arm = np.array(ROBOT.home) if position is None else position
    found = {name: JointSample(float(q), 0.0, 0.0) for name, q in zip(ROBOT.joint_names, arm, strict=True)}
    found |= {name: JointSample(0.04, 0.0, 0.0) for name in ROBOT.gripper.joints}
    for name, change in changes.items():
        if change is None:
            del found[name]
        else:
            found[name] = change
    return found


def test_efforts_are_not_needed() -> None:
    assembler = JointAssembler(ROBOT)
    nothing = {name: replace(sample, effort=math.nan) for name, sample in samples().items()}
    state = assembler.add(5 * MS, nothing)
    assert state is not None and state.openings[0] == pytest.approx(0.08) and assembler.remark == ""
    assert (state.effort == 0).all()


def test_fingers_may_come_apart_or_alone() -> None:
    assembler = JointAssembler(ROBOT)
    left, right = ROBOT.gripper.joints
    arm = samples(**{left: None, right: None})
    with pytest.raises(SynchronizationError, match=f"gripper's joints {left}, {right} are missing"):
        assembler.add(5 * MS, arm)
    assert assembler.add(10 * MS, {left: JointSample(0.03, 0, 0), right: JointSample(0.03, 0, 0)}) is None
    state = assembler.add(15 * MS, arm)
    assert state is not None and state.openings[0] == pytest.approx(0.06) and assembler.remark == ""
    with pytest.raises(SynchronizationError, match="come too rarely"):
        assembler.add(2_000 * MS, arm)
    state = assembler.add(2_005 * MS, samples(**{right: None}))
    assert state is not None and state.openings[0] == pytest.approx(0.08)
    assert f"lack {right}" in assembler.remark


@pytest.mark.parametrize(
    ("fingers", "says"),
    [
        ((0.04, -0.04), "is open by -0.080 m"),
        ((0.04, 40.0), "is open by 80.000 m"),
        ((0.04, 0.0), "do not open alike"),
    ],
)
def test_fingers_that_disagree_are_no_middle(fingers: tuple[float, float], says: str) -> None:
    assembler = JointAssembler(ROBOT)
    given = {name: JointSample(p, 0.0, 0.0) for name, p in zip(ROBOT.joint_names, ROBOT.home, strict=True)}
    given |= {name: JointSample(p, 0.0, 0.0) for name, p in zip(ROBOT.gripper.joints, fingers, strict=True)}
    if says.startswith("is"):
        with pytest.raises(SynchronizationError, match=says):
            assembler.add(1, given)
    else:
        assembler.add(1, given)
        assert says in assembler.remark


def test_degrees_are_refused_and_whole_turns_taken_back() -> None:
    home = np.array(ROBOT.home)
    with pytest.raises(SynchronizationError, match="would fit as degrees"):
        JointAssembler(ROBOT).add(5 * MS, samples(np.degrees(home)))
    for joint, turn in ((0, 2 * np.pi), (4, -2 * np.pi)):
        assembler = JointAssembler(ROBOT)
        position = home.copy()
        position[joint] += turn
        state = assembler.add(5 * MS, samples(position))
        assert state is not None
        np.testing.assert_allclose(state.position, home, atol=1e-12)
        assert "a whole turn off" in assembler.remark and ROBOT.joint_names[joint] in assembler.remark
    with pytest.raises(SynchronizationError, match="another robot"):
        JointAssembler(ROBOT).add(5 * MS, samples(home + np.array([0, 0, 0, 4.0, 0, 0, 0])))
    with pytest.raises(SynchronizationError, match=r"open by 4\.000 m"):
        finger = JointSample(2.0, 0, 0)
        JointAssembler(ROBOT).add(5 * MS, samples(**dict.fromkeys(ROBOT.gripper.joints, finger)))


def test_what_the_broadcaster_writes_for_hardware_without_velocity_is_none_measured() -> None:
    message = conversions.joint_state_to_msg(
        JointState(1, np.array(ROBOT.home), np.full(7, np.nan), np.full(7, np.nan), np.array([0.08])), ROBOT
    )
    found = conversions.joint_samples_from_msg(message, JointAssembler(ROBOT).names)
    state = JointAssembler(ROBOT).add(1, found)
    assert state is not None and not state.velocity.any() and not state.effort.any()
    with pytest.raises(
        PhysaiError, match="no velocity of fr3_joint1"
    ):  # who has no history cannot make it up
        conversions.joint_state_from_msg(message, ROBOT)
    message.velocity[2] = math.inf
    with pytest.raises(PhysaiError, match="velocity of fr3_joint3 is inf"):
        conversions.joint_samples_from_msg(message, JointAssembler(ROBOT).names)


def test_velocities_are_taken_from_positions_where_there_are_none() -> None:
    assembler = JointAssembler(ROBOT)
    for k in range(3):
        position = np.array(ROBOT.home) + 0.01 * k
        given = {name: replace(s, velocity=math.nan) for name, s in samples(position).items()}
        state = assembler.add((10 + 20 * k) * MS, given)
    assert state is not None and "no velocity" in assembler.remark
    np.testing.assert_allclose(state.velocity, 0.5, atol=1e-9)


def test_states_without_a_stamp_or_with_half_an_arm_are_refused() -> None:
    with pytest.raises(SynchronizationError, match="no stamp"):
        JointAssembler(ROBOT).add(0, samples())
    with pytest.raises(SynchronizationError, match="without fr3_joint4"):
        JointAssembler(ROBOT).add(5 * MS, samples(fr3_joint4=None))
