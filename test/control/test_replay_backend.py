"""The `replay` backend: a recording drives the core's real-time thread."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest
import yaml

from physai_base.embodiment import Embodiment, find_embodiment
from physai_base.embodiment_parts import EndEffector, Gripper, Hand
from physai_base.values import ControlState, JointState, StopRecord
from physai_control.core import ControlCore, ControlError
from physai_lab.shadow.states_csv import convert, header, write_states
from physai_ros.recording import RecordingError

MS = 1_000_000
START_NS = 1_700_000_000_000_000_000


def standing(embodiment: Embodiment, count: int) -> np.ndarray:
    """States (count, 22) of an arm that stands at home with an open gripper."""
    row = np.concatenate([embodiment.home, np.zeros(14), [0.08]])
    return np.tile(row, (count, 1))


def replay(folder: Path, state_timeout_s: float = 0.5, **options: object) -> ControlCore:
    """A core whose hardware is a recording."""
    document = {
        "extends": str(find_embodiment("fr3").resolve()),
        "control": {"state_timeout_s": state_timeout_s},
        "hardware": {
            "backend": "replay",
            "options": {"name": None, "file": str(folder / "states.csv"), **options},
        },
    }
    (folder / "robot.yaml").write_text(yaml.safe_dump(document))
    return ControlCore(Embodiment.load(folder / "robot.yaml"))


def wait(core: ControlCore, reached: Callable[[ControlState], bool]) -> None:
    deadline = time.monotonic() + 30
    while not reached(core.status().state):
        assert time.monotonic() < deadline, core.status()
        time.sleep(0.002)


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_every_recorded_state_is_answered(tmp_path: Path, embodiment: Embodiment) -> None:
    stamps = [START_NS + i * MS for i in range(2000)]
    write_states(tmp_path / "states.csv", embodiment, stamps, standing(embodiment, 2000))
    core = replay(tmp_path, speed=0, commands=str(tmp_path / "commands.csv"))
    core.start()
    wait(core, lambda _: core.status().stamp_ns == stamps[-1])
    state = core.joint_state()
    assert state is not None
    np.testing.assert_array_equal(state.position, embodiment.home)
    assert state.openings[0] == 0.08
    core.close()
    commands = table(tmp_path / "commands.csv")
    assert [int(row["time_ns"]) for row in commands] == stamps
    assert [int(row["seq"]) for row in commands] == list(range(1, 2001))
    assert {row["flags"] for row in commands} == {"0"}  # inactive: nothing is asked of the arm


def test_an_active_controller_answers_with_torque(tmp_path: Path, embodiment: Embodiment) -> None:
    stamps = [START_NS + i * MS for i in range(1500)]
    write_states(tmp_path / "states.csv", embodiment, stamps, standing(embodiment, 1500))
    core = replay(tmp_path, commands=str(tmp_path / "commands.csv"))
    core.start()
    core.activate()
    wait(core, lambda state: state is ControlState.FAULT)
    assert "gone" in core.status().cause  # the recording is at its end
    core.close()
    driven = [row for row in table(tmp_path / "commands.csv") if row["flags"] == "1"]
    assert driven
    model = mujoco.MjModel.from_xml_path(str(embodiment.model_path))
    data = mujoco.MjData(model)
    data.qpos[:7], data.qpos[7:9] = embodiment.home, 0.04
    mujoco.mj_forward(model, data)
    for row in driven:
        tau = np.array([float(row[f"tau.{name}"]) for name in embodiment.joint_names])
        np.testing.assert_allclose(tau, data.qfrc_bias[:7], atol=1e-3)  # at rest on the reference: its weight


def test_a_gap_in_the_recording_is_a_gap_for_the_controller(tmp_path: Path, embodiment: Embodiment) -> None:
    stamps = [START_NS + i * MS + (i >= 800) * 900 * MS for i in range(1200)]
    write_states(tmp_path / "states.csv", embodiment, stamps, standing(embodiment, 1200))
    core = replay(tmp_path)
    core.start()
    core.activate()
    wait(core, lambda state: state is ControlState.FAULT)
    assert "no joint state" in core.status().cause
    assert core.status().stamp_ns == stamps[799]
    core.close()


def test_what_is_not_finite_is_passed_on_and_refused(tmp_path: Path, embodiment: Embodiment) -> None:
    values = standing(embodiment, 1000)
    values[700, 3] = np.nan
    write_states(tmp_path / "states.csv", embodiment, [START_NS + i * MS for i in range(1000)], values)
    core = replay(tmp_path)
    core.start()
    core.activate()
    wait(core, lambda state: state is ControlState.FAULT)
    assert "not finite" in core.status().cause
    core.close()


def text_of(embodiment: Embodiment) -> str:
    row = ",".join(["{stamp}", *("0.5" for _ in range(22))])
    lines = [",".join(header(embodiment)), *(row.format(stamp=START_NS + i * MS) for i in range(3))]
    return "\n".join(lines) + "\n"


BROKEN: dict[str, tuple[Callable[[str], str], str]] = {
    "no joint": (lambda t: t.replace("dq.fr3_joint3", "dq.elbow"), "column dq.fr3_joint3 is missing"),
    "no time": (lambda t: t.replace("time_ns", "time"), "time_ns is missing"),
    "no width": (lambda t: t.replace("gripper_width", "gripper"), "opening is missing"),
    "twice": (lambda t: t.replace("q.fr3_joint2,", "q.fr3_joint1,", 1), "column 'q.fr3_joint1' is there twice"),
    "not a number": (lambda t: t.replace("0.5", "x", 1), "line 2, field 2: 'x' is not a number"),
    "empty field": (lambda t: t.replace("0.5,", ",", 1), "line 2, field 2: '' is not a number"),
    "hexadecimal time": (lambda t: t.replace(str(START_NS), "0x12"), "line 2, field 1: '0x12'"),
    "short row": (lambda t: t.replace(",0.5\n", "\n", 1), "line 2: 22 fields, the first line names 23"),
    "long row": (lambda t: t.replace("0.5\n", "0.5,1\n", 1), "line 2: more fields"),
    "time stands": (lambda t: t.replace(str(START_NS + MS), str(START_NS)), "line 3: time_ns does not increase"),
    "no row": (lambda t: t.splitlines()[0], "no state in it"),
    "empty": (lambda t: "", "time_ns is missing"),
    "columns": (lambda t: ",".join(f"c{i}" for i in range(300)), "'c256' is one too many"),
    "binary": (lambda t: "\x00\x01\x02", "is no text in UTF-8"),
    "semicolons": (lambda t: t.replace(",", ";"), "separated by semicolons; save it with commas"),
    "tabs": (lambda t: t.replace(",", "\t"), "separated by tabs; save it with commas"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_recording_is_refused_with_the_place(
    name: str, tmp_path: Path, embodiment: Embodiment
) -> None:
    breaking, reason = BROKEN[name]
    (tmp_path / "states.csv").write_text(breaking(text_of(embodiment)))
    core = replay(tmp_path)
    with pytest.raises(ControlError, match=reason):
        core.start()
    core.close()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"file": "/nonexistent/states.csv"}, "'/nonexistent/states.csv': No such file"),
        ({"file": ""}, "give the CSV file"),
        ({"file": "/"}, "cannot be read"),
        ({"speed": -1}, r"speed must be a number within \[0, 100\], got '-1'"),
        ({"commands": "/nonexistent/commands.csv"}, "commands: '/nonexistent/commands.csv': No such file"),
        ({"loop": 1}, "there is no option 'loop'; there are: file, speed, commands"),
    ],
)
def test_wrong_options_are_named(
    options: dict[str, object], reason: str, tmp_path: Path, embodiment: Embodiment
) -> None:
    (tmp_path / "states.csv").write_text(text_of(embodiment))
    core = replay(tmp_path, **options)
    with pytest.raises(ControlError, match=reason):
        core.start()
    core.close()


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_order_further_columns_and_line_ends_do_not_matter(
    mark: bytes, tmp_path: Path, embodiment: Embodiment
) -> None:
    names = [*header(embodiment)[::-1], "comment"]
    rows = []
    for i in range(3):
        values = dict.fromkeys(names, "0.25") | {"time_ns": str(START_NS + i * MS), "comment": "none"}
        rows.append(",".join(values[name] for name in names))
    (tmp_path / "states.csv").write_bytes(mark + "\r\n".join([",".join(names), *rows]).encode())
    core = replay(tmp_path, speed=0)
    core.start()
    wait(core, lambda _: core.status().stamp_ns == START_NS + 2 * MS)
    assert core.joint_state().position.tolist() == [0.25] * 7  # type: ignore[union-attr]
    core.close()


# From recordings ----------------------------------------------------------------------------------------------


def black_box(folder: Path, embodiment: Embodiment) -> Path:
    """What control writes when a stop latches."""
    from physai_ros.black_box import write_stop

    def record(i: int) -> StopRecord:
        position = embodiment.home + 1e-3 * i
        measured = JointState(START_NS + i * MS, position, np.full(7, 0.1), np.full(7, 2.0), np.array([0.05]))
        return StopRecord(i, ControlState.TRACK, True, measured, position, position, position, 0.05, True)

    core = ControlCore(embodiment)
    recording = write_stop(folder, [record(i) for i in range(20)], core.status(), embodiment)
    core.close()
    return recording


@pytest.mark.ros
def test_a_black_box_can_be_replayed(tmp_path: Path, embodiment: Embodiment) -> None:
    recording = black_box(tmp_path, embodiment)
    assert convert(recording, tmp_path / "states.csv", embodiment, "/joint_states").written == 20
    core = replay(tmp_path, speed=0)
    core.start()
    wait(core, lambda _: core.status().stamp_ns == START_NS + 19 * MS)
    state = core.joint_state()
    assert state is not None
    np.testing.assert_array_equal(state.position, embodiment.home + 0.019)
    np.testing.assert_array_equal(state.velocity, 0.1)
    assert table(tmp_path / "states.csv")[0]["tau.fr3_joint1"] == "2.0"
    assert state.openings[0] == 0.05
    core.close()


@pytest.mark.ros
def test_recordings_that_do_not_fit_are_refused(tmp_path: Path, embodiment: Embodiment) -> None:
    recording = black_box(tmp_path, embodiment)
    out = tmp_path / "out.csv"
    with pytest.raises(RecordingError, match="no joint state on wrench"):
        convert(recording, out, embodiment, "wrench")
    with pytest.raises(RecordingError, match="ControlStatus, not sensor_msgs/msg/JointState"):
        convert(recording, out, embodiment, "control/status")
    (tmp_path / "text.mcap").write_text("no recording")
    with pytest.raises(RecordingError, match="cannot be read as MCAP"):
        convert(tmp_path / "text.mcap", out, embodiment, "joint_states")
    assert not out.exists()


def test_a_recording_of_two_grippers(tmp_path: Path, embodiment: Embodiment) -> None:
    """Each end effector has its column."""
    cup = EndEffector("cup", "fr3_link5", Gripper("suction", 0.0, 1.0, 10.0, 10.0), Hand())
    options = {"file": str(tmp_path / "states.csv"), "speed": "0", "commands": str(tmp_path / "commands.csv")}
    two = replace(
        embodiment,
        end_effectors=(*embodiment.end_effectors, cup),
        hardware=replace(embodiment.hardware, backend="replay", options=options),
        control=replace(embodiment.control, state_timeout_s=0.5),
    )
    names = [end.name for end in two.end_effectors]
    assert header(two)[-2:] == [f"opening.{name}" for name in names]
    stamps = [START_NS + i * MS for i in range(1000)]
    values = np.column_stack([standing(embodiment, 1000), np.repeat([1.0, 0.0], 500)])
    write_states(tmp_path / "states.csv", two, stamps, values)
    core = ControlCore(two)
    core.start()
    wait(core, lambda _: core.status().stamp_ns == stamps[-1])
    state = core.joint_state()
    assert state is not None
    np.testing.assert_array_equal(state.openings, values[-1, -2:])
    core.close()
    assert {f"opening.{name}" for name in names} <= set(table(tmp_path / "commands.csv")[0])
