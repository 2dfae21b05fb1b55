"""`physai robot new` drafts a file that loads and moves; `physai robot check` says what is wrong with one, and only then fails."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from maker_models import INERTIAL, MJCF, URDF, six_axes

from physai_base.embodiment import Embodiment, find_embodiment
from physai_base.kinematics import ArmKinematics
from physai_base.models.published import published, survey
from physai_base.robot_model import load_robot
from physai_lab.cli import main
from physai_lab.robots.anatomy import contacts_at, dissect, finger_ends
from physai_lab.robots.check import DOUBTFUL, WRONG, findings

LIMIT = 'lower="-2.5" upper="2.5"'  # of all but the first joint of `six`


@pytest.fixture
def six(tmp_path: Path) -> Path:
    path = tmp_path / "six.urdf"
    path.write_text(six_axes())
    return path


@pytest.fixture(scope="module")
def text_drafted(tmp_path_factory: pytest.TempPathFactory) -> str:
    model = tmp_path_factory.mktemp("drafted") / "six.urdf"
    model.write_text(six_axes())
    out = model.with_suffix(".yaml")
    assert main(["robot", "new", str(model), "--out", str(out)]) == 0
    return out.read_text()


@pytest.fixture
def drafted(six: Path, text_drafted: str) -> Path:
    out = six.with_suffix(".yaml")
    out.write_text(text_drafted)  # it names its model relative to where it lies
    return out


def wrong(path: Path, *, moving: bool = False) -> list[str]:
    return [
        str(finding) for finding in findings(Embodiment.load(path), moving=moving) if finding.level == WRONG
    ]


def test_an_arm_and_its_gripper_are_found(six: Path) -> None:
    found = dissect(published(six), survey(six))
    assert found.base == "base_link" and found.rest == ()
    (arm,) = found.arms
    assert arm.joints == tuple(f"joint{i}" for i in range(1, 7))
    assert arm.fingers == ("left_finger_joint",) and arm.tool == "tcp"
    assert finger_ends(published(six), survey(six), arm.fingers) == {"left_finger_joint": (0.0, 0.03)}


def test_a_draft_loads_and_says_what_it_guessed(drafted: Path) -> None:
    robot = Embodiment.load(drafted)
    assert robot.model_path == drafted.with_suffix(".urdf")
    assert robot.limits("velocity").tolist() == [2.0] * 6 and robot.limits("torque").tolist() == [60.0] * 6
    assert robot.finger_joints == ("left_finger_joint", "right_finger_joint")
    assert (robot.gripper.kind, robot.gripper.opening_max) == ("parallel", 0.06)
    assert contacts_at(load_robot(robot), robot.home) == []
    lines = {line.split(":")[0].strip(): line for line in drafted.read_text().splitlines()}
    for entry in ("tool_frame", "home", "range", "rate_hz", "geofence"):
        assert "# guess: " in lines[entry], entry
    joints = [line for line in drafted.read_text().splitlines() if "{name: joint" in line]
    assert all("acceleration, jerk" in line.split("# guess")[1] for line in joints)
    assert "the joint turns without end" in joints[0] and "without end" not in joints[1]
    assert not any("velocity" in line.split("# guess")[1] for line in joints)


def test_a_draft_is_accepted_and_moves(drafted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["robot", "check", str(drafted)]) == 0
    said = capsys.readouterr().out
    assert "moved: held, followed a chunk there and back, opened and closed, ended" in said
    assert "guesses are left in lines" in said


def test_what_a_model_does_not_say_is_guessed(six: Path) -> None:
    six.write_text(six_axes(effort=""))
    out = six.with_suffix(".yaml")
    assert main(["robot", "new", str(six), "--out", str(out)]) == 0
    robot = Embodiment.load(out)
    data_free = next(line for line in out.read_text().splitlines() if "{name: joint2" in line)
    assert "torque," in data_free.split("# guess")[1]
    assert wrong(out) == [] and robot.limits("torque").min() >= 1.0


def test_an_arm_whose_maker_sells_no_gripper_gets_the_shipped_hand(six: Path) -> None:
    out = six.with_suffix(".yaml")
    arguments = ["robot", "new", str(six), "--gripper", "none", "--mount", "tcp", "--out", str(out)]
    assert main(arguments) == 0
    robot = Embodiment.load(out)
    assert robot.tool_frame == "hand_tool0" and robot.gripper.opening_max == 0.08
    assert load_robot(robot).locked == {"left_finger_joint": 0.0, "right_finger_joint": 0.0}
    fr3 = Embodiment.load(find_embodiment("fr3"))
    assert robot.end_effectors[0].hand == fr3.end_effectors[0].hand  # it is known, as its force and range are
    assert (robot.gripper.force, robot.gripper.speed) == (fr3.gripper.force, fr3.gripper.speed)
    assert "package: physai" in out.read_text()  # found wherever physai is installed


def test_an_arm_that_mostly_reaches_downwards_still_rests_above_the_floor(six: Path) -> None:
    text = six.read_text()
    low = text.replace('<origin xyz="0 0 0.15"/>', '<origin xyz="0 0 0.02"/>', 1)
    assert low != text
    six.write_text(low.replace('<origin xyz="0 0 0.1"/>', '<origin xyz="0 0 0.02"/>', 1))
    out = six.with_suffix(".yaml")
    assert main(["robot", "new", str(six), "--out", str(out)]) == 0
    robot = Embodiment.load(out)
    height = ArmKinematics(robot).tool_pose(np.array(robot.home)).position[2]
    assert height > robot.geofence_min[2] + 0.05 and wrong(out) == []


def test_an_arm_that_can_begins_with_its_tool_ahead_and_downwards(six: Path) -> None:
    as_it_was, forwards = (
        "0 1.5707963267948966 0",
        "3.14159265 -1.5707963 0",
    )  # x along the tool's z, z along its x
    assert as_it_was in six.read_text()
    six.write_text(six.read_text().replace(as_it_was, forwards))
    out = six.with_suffix(".yaml")
    assert main(["robot", "new", str(six), "--out", str(out)]) == 0
    robot = Embodiment.load(out)
    tool = ArmKinematics(robot).tool_pose(np.array(robot.home)).matrix()
    np.testing.assert_allclose(tool[:3, :3], np.diag([1, -1, -1]), atol=0.01)
    assert tool[0, 3] > 0.2 and abs(tool[1, 3]) < 0.01
    assert contacts_at(load_robot(robot), robot.home) == []


TREE = f'<link name="again">{INERTIAL}</link><joint name="joint2" type="fixed"><parent link="tcp"/><child link="again"/></joint>'


@pytest.mark.parametrize(
    ("old", "new", "words"),
    (
        (LIMIT, "", "cannot move: joint2, joint3, joint4, joint5, joint6"),
        (LIMIT, 'lower="1" upper="-1"', "without a range (lower below upper)"),
        (LIMIT, 'lower="nan" upper="1"', "lower of <limit> must be finite"),
        ('<origin xyz="0 0 0.35"/>', '<origin xyz="nan 0 0"/>', "origin of joint 'joint3' is not finite"),
        ("</robot>", f"{TREE}</robot>", "there are several joints named joint2"),
        ("</robot>", f"{TREE.replace('again', 'link1')}</robot>", "there are several links named link1"),
        ("</robot>", '<link name="lost"/></robot>', "a URDF has one root link; got: base_link, lost"),
        ("</robot>", "", "cannot be read as XML"),
    ),
)
def test_a_broken_model_is_one_line(
    six: Path, old: str, new: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = six.read_text()
    assert old in text
    six.write_text(text.replace(old, new))
    assert main(["robot", "new", str(six)]) == 1
    said = capsys.readouterr().err.strip()
    assert words in said and len(said.splitlines()) == 1 and said.startswith("physai robot:")


def test_more_joints_than_can_be_driven_are_refused_before_a_file_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    joint = '<joint name="j{0}" type="revolute"><parent link="l{0}"/><child link="l{1}"/><limit lower="-1" upper="1"/></joint>'
    links = "".join(f'<link name="l{i}">{INERTIAL}</link>' for i in range(34))
    path, out = tmp_path / "snake.urdf", tmp_path / "snake.yaml"
    path.write_text(
        f'<robot name="snake">{links}{"".join(joint.format(i, i + 1) for i in range(33))}</robot>'
    )
    assert main(["robot", "new", str(path), "--out", str(out)]) == 1
    assert "arms with 33 joints and 1 tools; at most 32 and 4" in capsys.readouterr().err
    assert not out.exists()


def test_joints_without_a_name_and_what_mujoco_refuses_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "arm.xml"
    for body, words in (
        ('<body><joint range="-1 1"/><geom size=".1"/></body>', "a joint of the model has no name"),
        ('<body><joint name="a" range="-1 1"/><geom type="banana"/></body>', "MuJoCo refuses it"),
    ):
        path.write_text(f'<mujoco><compiler autolimits="true"/><worldbody>{body}</worldbody></mujoco>')
        assert main(["robot", "new", str(path)]) == 1
        said = capsys.readouterr().err.strip()
        assert words in said and len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    (
        (["nowhere.urdf"], "no such model: nowhere.urdf; give a file, or PACKAGE:PATH"),
        (["/"], "/ is a folder; give a file"),
        (["nobodys_models:arm.urdf"], "neither a Python package 'nobodys_models'"),
        (["{model}", "--base", "feet"], "--base: the model has no 'feet'; it has: world, base_link"),
        (["{model}", "--tool", "hand"], "--tool: the model has no 'hand'"),
        (["{model}", "--gripper", "thumb"], "--gripper: the model has no 'thumb'"),
        (["{model}", "--mount", "nose"], "no site, body or link named 'nose'"),
        (["{model}", "--out", "{model}"], "exists; give another --out"),
        (["{model}", "--out", "/no/such/folder/a.yaml"], "there is no folder /no/such/folder"),
    ),
)
def test_what_cannot_be_drafted_is_one_line(
    six: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["robot", "new", *(text.format(model=six) for text in arguments)]) == 1
    said = capsys.readouterr().err.strip()
    assert words in said and said.startswith("physai robot:")


def test_a_model_without_an_arm_names_the_way_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "arm.urdf"
    path.write_text(URDF)
    assert main(["robot", "new", str(path)]) == 1
    assert (
        "no chain of at least 4 joints was found among the model's 4 that move; --tool names"
        in capsys.readouterr().err
    )
    assert main(["robot", "new", str(path), "--tool", "flange"]) == 0
    assert "closed: " in capsys.readouterr().out


def test_what_is_of_no_arm_is_locked(tmp_path: Path) -> None:
    path, out = tmp_path / "arm.xml", tmp_path / "arm.yaml"
    path.write_text(MJCF)
    found = dissect(published(path), survey(path), tools=("tip",))
    assert found.arms[0].joints == ("lift", "pan", "tilt")
    assert main(["robot", "new", str(path), "--tool", "tip", "--base", "foot", "--out", str(out)]) == 0
    assert [joint.name for joint in Embodiment.load(out).joints] == ["lift", "pan", "tilt"]


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    (
        ("velocity: 2,", "velocity: 3,", "joints.joint1: velocity 3 is above the model's 2"),
        ("torque: 60,", "torque: 90,", "joints.joint1: torque 90 is above the model's 60"),
        ("home: [", "home: [0.1, 2.0, 1.2, 0, 0, 0] #", "parts touch there"),
        (
            "geofence: {",
            "geofence: {min: [5, 5, 5], max: [6, 6, 6]} #",
            "hardly ever is inside (0.0 % of joint positions)",
        ),
        (
            "geofence: {",
            "geofence: {min: [5, 5, 5], max: [6, 6, 6]} #",
            "home: tool is outside of a fence there",
        ),
        ("state_timeout_s: 0.02", "state_timeout_s: 0.001", "less than two periods of 1000 Hz"),
        ("offset: 0.1", "offset: 9", "braking allows no speed"),
    ),
)
def test_what_is_implausible_is_named(drafted: Path, old: str, new: str, words: str) -> None:
    change(drafted, old, new)
    assert any(words in text for text in wrong(drafted)), wrong(drafted)


OVERVIEW = (
    "cameras: [{name: overview, frame: overview_optical_frame, parent: base_link, position: [1.3, 0, 0.9], look_at: [0.3, 0, 0.2], "
    "width: 640, height: 480, fovy_deg: 60, rate_hz: 20}]\n"
)
HANDLING = "{joint: left_finger_joint, closed: 0, open: 0.03}"


@pytest.mark.parametrize(
    ("old", "new", "level", "words"),
    (
        ("tool_frame: tcp", "tool_frame: link3", WRONG, "tool_frame: link3 of tool is not moved by joint4, joint5, joint6, which move its gripper"),
        ("tool_frame: tcp", "tool_frame: link3", DOUBTFUL, "joints: joint4, joint5, joint6 move no tool: left out, they are locked"),
        ("tool_frame: tcp", "tool_frame: left_finger", WRONG, "tool_frame: left_finger of tool moves with its finger left_finger_joint"),
        (HANDLING, "{joint: left_finger_joint, closed: 0.03, open: 0}", WRONG, "gripper.fingers: those of tool are 60 mm nearer to each other at 0.06 m"),
        ("range: [0, 0.06]", "range: [0, 0.03]", DOUBTFUL, "gripper.range: goes through 0.03 m, and the fingers of tool move 0.06 m apart"),
        ("range: [0, 0.06]", "range: [0, 0.6]", DOUBTFUL, "gripper.range: goes through 0.6 m"),
        ("  speed: ", "  speed: 50 # ", DOUBTFUL, "gripper.speed: 50 m/s opens tool in 1.2 ms; m/s, not mm/s?"),
        ("geofence: {", "geofence: {min: [-900, -900, 0], max: [900, 900, 900]} #", WRONG, "geofence: holds nothing back: it is 900 m wide"),
        ("look_at: [0.3, 0, 0.2]", "look_at: [3, 0, 2]", DOUBTFUL, "cameras[0]: overview sees 0 % of the places that tools reach"),
        ("position: [1.3, 0, 0.9], look_at: [0.3, 0, 0.2]", "position: [1300, 0, 900], look_at: [300, 0, 200]", DOUBTFUL, "cameras[0]: overview is 1.58e+03 m away"),
        ("base_frame: base_link", "frames: [{name: wall, parent: base_link, rpy: [1.57, 0, 0]}]\nbase_frame: wall", DOUBTFUL, "base_frame: the z axis of wall is 90 degrees off"),
    ),
)  # fmt: skip
def test_what_does_not_fit_the_models_parts_is_named(
    drafted: Path, old: str, new: str, level: str, words: str
) -> None:
    drafted.write_text(drafted.read_text() + OVERVIEW)
    whole = [str(finding) for finding in findings(Embodiment.load(drafted), moving=False)]
    assert not any(
        entry in text for text in whole for entry in ("cameras[", "tool_frame", "gripper.", "base_frame")
    )
    change(drafted, old, new)
    if "base_frame" in old:
        change(drafted, "parent: base_link, position", "parent: wall, position")
    said = [str(finding) for finding in findings(Embodiment.load(drafted), moving=False)]
    assert any(text.startswith(level) and words in text for text in said), said


def test_stiffness_that_the_rate_cannot_hold(drafted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        drafted.read_text()
        .replace("rate_hz: 1000", "rate_hz: 100")
        .replace("state_timeout_s: 0.02", "state_timeout_s: 0.2")
    )
    drafted.write_text(re.sub(r"(\{name: joint6, .*?stiffness: )[\d.]+", r"\g<1>5000", text))
    assert main(["robot", "check", "--still", str(drafted)]) == 1
    said = capsys.readouterr().out
    assert re.search(r"joints.joint6: stiffness 5000 Nm/rad on .* too fast for 100 Hz; take at most", said)
    assert "1 wrong" in said


def test_a_motor_too_weak_for_its_arm_is_found_without_and_with_motion(drafted: Path) -> None:
    text = drafted.read_text()
    drafted.write_text(re.sub(r"(\{name: joint2, .*?torque: )[\d.]+", r"\g<1>1.5", text))
    assert any("gravity asks for" in text for text in wrong(drafted))
    assert any("motion:" in text for text in wrong(drafted, moving=True))


def test_a_file_that_is_refused_is_an_error_of_its_own(
    drafted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(drafted, "tool_frame: tcp", "tool_frame: tpc")
    assert main(["robot", "check", str(drafted)]) == 1
    assert "tool_frame: 'tpc' is no site, body or link" in capsys.readouterr().err


def remarks(path: Path) -> list[str]:
    return [str(finding) for finding in findings(Embodiment.load(path), moving=False)]


@pytest.mark.parametrize(
    ("changed", "words"),
    (
        (r"\g<1>stiffness: 14000,", "stiffness 14000 Nm/rad asks for all of the torque 60 Nm at an error of 0.0043 rad"),
        (r"\g<1>stiffness: 0,", "without stiffness whoever pushes it moves it"),
    ),
)  # fmt: skip
def test_stiffness_of_another_robot_is_doubted(drafted: Path, changed: str, words: str) -> None:
    assert not any(words[:10] in text for text in remarks(drafted))
    drafted.write_text(re.sub(r"(\{name: joint2, .*?)stiffness: [\d.]+,", changed, drafted.read_text()))
    assert any(text.startswith(DOUBTFUL) and f"joints.joint2: {words}" in text for text in remarks(drafted))


def test_a_range_in_degrees_that_the_model_bears_is_doubted(six: Path) -> None:
    change(six, 'lower="-2.5" upper="2.5"', 'lower="-150" upper="150"')
    out = six.with_suffix(".yaml")
    assert main(["robot", "new", str(six), "--out", str(out)]) == 0
    assert any(
        "joints.joint2: position goes 150 rad far, 24 turns: rad, not degrees?" in t for t in remarks(out)
    )


def test_torque_limits_under_which_the_arm_would_fall_are_not_believed(
    six: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in URDFs whose efforts were never filled in."""
    six.write_text(six_axes(effort='effort="1"'))
    out = six.with_suffix(".yaml")
    assert main(["robot", "new", str(six), "--out", str(out)]) == 0
    assert "the model's torque limits cannot be meant" in capsys.readouterr().err
    robot = Embodiment.load(out)
    assert robot.joints[1].torque > 10 and wrong(out, moving=True) == []
    assert any(
        "note      model: its torque limits cannot be meant: joint2 has 1 Nm" in t for t in remarks(out)
    )


def test_a_model_without_masses_is_drafted_and_doubted_and_wrong_where_it_would_let_an_arm_fall(
    six: Path,
) -> None:
    six.write_text(six_axes(effort="").replace(INERTIAL, ""))
    out = six.with_suffix(".yaml")
    assert main(["robot", "new", str(six), "--out", str(out)]) == 0
    assert min(joint.torque for joint in Embodiment.load(out).joints) >= 20
    assert wrong(out, moving=True) == []
    said = "model: what joint1, joint2, joint3, joint4, joint5, joint6 move has no mass in it"
    assert any(text.startswith(DOUBTFUL) and said in text for text in remarks(out))
    change(out, "backend: shm", "backend: loopback")
    change(out, "options: {name: physai_six}", "options: {}")
    assert any(text.startswith(WRONG) and said in text for text in remarks(out))


def test_a_mounted_hand_is_turned_so_that_it_points_ahead_where_the_arm_does(six: Path) -> None:
    """The flange's x axis points backwards where the arm looks down, and no joint can turn it round."""
    out = six.with_suffix(".yaml")
    assert main(["robot", "new", str(six), "--gripper", "none", "--mount", "tcp", "--out", str(out)]) == 0
    robot = Embodiment.load(out)
    tool = ArmKinematics(robot).tool_pose(np.array(robot.home))
    np.testing.assert_allclose(tool.rotation, np.diag([1.0, -1.0, -1.0]), atol=0.02)
    assert "rpy: [0, 0, 3.14159]" in out.read_text() and "# guess: where the flange" in out.read_text()


def test_a_packages_xacro_file_is_drafted_with_its_arguments(
    six: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expanded = {}

    def expand(path: Path, arguments: dict[str, str]) -> Path:
        expanded[path.name] = arguments
        return six

    (six.parent / "maker").mkdir()
    (six.parent / "maker" / "arm.xacro").write_text("<robot/>")
    monkeypatch.setenv("PHYSAI_MODEL_PATH", str(six.parent))
    monkeypatch.setattr("physai_lab.robots.draft.expand_xacro", expand)
    given = ["--xacro", "dof=6", "--xacro", "name:=maxi"]
    assert main(["robot", "new", "maker:arm.xacro", *given]) == 0
    assert expanded == {"arm.xacro": {"dof": "6", "name": "maxi"}}
    said = capsys.readouterr().out
    assert "name: maxi\n" in said
    assert "model: {package: maker, path: arm.xacro, xacro: {dof: '6', name: maxi}}\n" in said
    assert main(["robot", "new", str(six), *given]) == 1
    assert "taken from a package, as PACKAGE:PATH" in capsys.readouterr().err
    assert main(["robot", "new", "maker:arm.xacro", "--xacro", "dof"]) == 1
    assert "--xacro: give NAME=VALUE, got dof" in capsys.readouterr().err


def test_the_shipped_arm_passes(embodiment: Embodiment) -> None:
    assert wrong(embodiment.path, moving=True) == []


def test_home_is_the_same_every_time(six: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for _ in range(2):
        assert main(["robot", "new", str(six)]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
