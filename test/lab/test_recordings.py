"""Recordings of other programs: the same result as from a plain one, or a count and a cause of what was left out."""

from __future__ import annotations

import array
import csv
import random
from dataclasses import replace
from pathlib import Path

import bags
import pytest
from bags import HOUR_NS, PERIOD_NS, START_NS
from mcap.writer import CompressionType

from physai_base.embodiment import Embodiment
from physai_lab import cli
from physai_lab.shadow.states_csv import Conversion, convert
from physai_ros.recording import Recorder, Recording, RecordingError

pytestmark = pytest.mark.ros
S = 10**9
NAN = float("nan")


def converted(recording: Path, robot: Embodiment, out: Path) -> tuple[Conversion, list[dict[str, str]]]:
    result = convert(recording, out, robot, "joint_states")
    with out.open() as file:
        return result, list(csv.DictReader(file))


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_split_recording_is_the_same_as_in_one_file(
    listed: bool, compressed: bool, tmp_path: Path, embodiment: Embodiment
) -> None:
    messages = bags.plain(embodiment)
    whole = converted(bags.write(tmp_path / "whole.mcap", messages), embodiment, tmp_path / "a.csv")
    folder = bags.split(tmp_path / "bag", messages, listed=listed, compressed=compressed)
    parts = converted(folder, embodiment, tmp_path / "b.csv")
    assert parts[1] == whole[1] and len(whole[1]) == len(messages)
    assert [m.stamp_ns for m in Recording(folder)] == [m[0] for m in messages]
    assert bool(parts[0].notes) is not listed


@pytest.mark.parametrize(
    ("settings", "kind"),
    [(CompressionType.LZ4, {}), (CompressionType.NONE, {}), (CompressionType.ZSTD, {"use_chunking": False})],
)
def test_files_of_every_layout_are_read(
    settings: CompressionType, kind: dict[str, bool], tmp_path: Path, embodiment: Embodiment
) -> None:
    path = bags.write(tmp_path / "x.mcap", bags.plain(embodiment), settings, **kind)
    result, rows = converted(path, embodiment, tmp_path / "x.csv")
    assert len(rows) == 240 and not result.left_out and not result.notes


def test_a_list_that_does_not_agree_with_the_files_is_said(tmp_path: Path, embodiment: Embodiment) -> None:
    messages = bags.plain(embodiment)
    folder = bags.split(tmp_path / "bag", messages)
    text = bags.metadata([f"bag_{k}.mcap" for k in (0, 1, 2, 99)])
    (folder / "metadata.yaml").write_text(text)
    result, rows = converted(folder, embodiment, tmp_path / "x.csv")
    assert len(rows) == len(messages)
    assert "bag_99.mcap" in result.notes[0] and "bag_11.mcap not listed" in result.notes[1]
    (folder / "metadata.yaml").write_text(
        "rosbag2_bagfile_information:\n  relative_file_"
    )  # killed while it wrote
    assert len(converted(folder, embodiment, tmp_path / "x.csv")[1]) == len(messages)


@pytest.mark.parametrize(
    ("others", "cause"),
    [({"storage_identifier": "sqlite3"}, "storage sqlite3"), ({"compression_mode": "MESSAGE"}, "one by one")],
)
def test_bags_that_cannot_be_read_say_what_to_do(
    others: dict[str, str], cause: str, tmp_path: Path, embodiment: Embodiment
) -> None:
    folder = bags.split(tmp_path / "bag", bags.plain(embodiment, 12))
    (folder / "metadata.yaml").write_text(bags.metadata(["bag_0.mcap"], **others))
    with pytest.raises(RecordingError, match=f"{cause}.*ros2 bag convert"):
        Recording(folder)


@pytest.mark.parametrize(
    ("begin", "cause"),
    [
        (b"SQLite format 3\0", "storage sqlite3; make it MCAP with: ros2 bag convert"),
        (b"#ROSBAG V2.0\n", "ROS 1; make it MCAP with: mcap convert"),
        (b"\x1f\x8b\x08\0", "gzip; undo that with: gunzip"),
        (b"\x04\x22\x4d\x18", "lz4 as a whole; undo that"),
        (b"PK\x03\x04", "a zip archive; unpack it"),
        (b"time_ns,q.fr3_joint1", "holds nothing .*not a valid MCAP file"),
    ],
)
def test_a_file_of_another_format_is_named(
    begin: bytes, cause: str, tmp_path: Path, embodiment: Embodiment
) -> None:
    path = tmp_path / "x.mcap"
    path.write_bytes(begin + bytes(500))
    with pytest.raises(RecordingError, match=cause):
        convert(path, tmp_path / "x.csv", embodiment, "joint_states")
    if begin.startswith(b"SQLite"):
        path.rename(tmp_path / "bag_0.db3")
        with pytest.raises(RecordingError, match="sqlite3; make it MCAP"):
            Recording(tmp_path)


def test_joint_states_on_other_topics_are_named(tmp_path: Path, embodiment: Embodiment) -> None:
    path = tmp_path / "x.mcap"
    with Recorder(path) as recorder:
        for logged_ns, message in bags.plain(embodiment, 5):
            for robot in ("left", "right"):
                recorder.write(f"/{robot}/joint_states", message, logged_ns)
    with pytest.raises(
        RecordingError, match="some on /left/joint_states, /right/joint_states: name one with --topic"
    ):
        convert(path, tmp_path / "x.csv", embodiment, "joint_states")
    assert convert(path, tmp_path / "x.csv", embodiment, "left/joint_states").written == 5


@pytest.mark.parametrize("listed", [True, False])
def test_a_part_that_is_missing_between_others_is_said(
    listed: bool, tmp_path: Path, embodiment: Embodiment
) -> None:
    folder = bags.split(tmp_path / "bag", bags.plain(embodiment), listed=listed)
    (folder / "bag_3.mcap").unlink()
    result, rows = converted(folder, embodiment, tmp_path / "x.csv")
    assert len(rows) == 220 and any("3" in note and "not there" in note for note in result.notes)


@pytest.mark.parametrize("paths", ["bag_0.mcap", "{bag_0.mcap: 1}", "[bag_0.mcap, bag_0.mcap, bag_1.mcap]"])
def test_a_list_that_is_none_or_names_a_file_twice_does_no_harm(
    paths: str, tmp_path: Path, embodiment: Embodiment
) -> None:
    folder = bags.split(tmp_path / "bag", bags.plain(embodiment), parts=2)
    (folder / "metadata.yaml").write_text(f"rosbag2_bagfile_information:\n  relative_file_paths: {paths}\n")
    result, rows = converted(folder, embodiment, tmp_path / "x.csv")
    assert len(rows) == 240 and not result.left_out
    assert ("is not the list" in "".join(result.notes)) is not paths.startswith("[")


def test_a_list_that_is_no_yaml_is_named_with_its_line(tmp_path: Path, embodiment: Embodiment) -> None:
    folder = bags.split(tmp_path / "bag", bags.plain(embodiment), parts=2)
    (folder / "metadata.yaml").write_text("rosbag2_bagfile_information:\n  version: [5\n")
    result, rows = converted(folder, embodiment, tmp_path / "x.csv")
    assert len(rows) == 240
    assert any(
        "is not the list" in note and "metadata.yaml:3: cannot be read as YAML" in note
        for note in result.notes
    )


def test_a_list_may_be_as_long_as_months_of_recording(tmp_path: Path, embodiment: Embodiment) -> None:
    folder = bags.split(tmp_path / "bag", bags.plain(embodiment), parts=2)
    files = [
        f"    - {{path: bag_{k}.mcap, starting_time: {{nanoseconds_since_epoch: {k}}}, message_count: {k}}}"
        for k in range(2500)
    ]
    listed = "\n".join(
        [
            "rosbag2_bagfile_information:",
            "  relative_file_paths: [bag_0.mcap, bag_1.mcap]",
            "  files:",
            *files,
        ]
    )
    (folder / "metadata.yaml").write_text(listed)
    result, rows = converted(folder, embodiment, tmp_path / "x.csv")
    assert len(rows) == 240 and not any("list" in note for note in result.notes)


def test_a_folder_of_several_recordings_is_none(tmp_path: Path, embodiment: Embodiment) -> None:
    for name in ("stop-1.mcap", "stop-2.mcap"):
        bags.write(tmp_path / "runs" / name, bags.plain(embodiment, 3))
    with pytest.raises(RecordingError, match=r"several recordings; give one of stop-1\.mcap, stop-2\.mcap"):
        Recording(tmp_path / "runs")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordingError, match="no MCAP recording"):
        Recording(tmp_path / "empty")


def test_what_was_cut_off_or_damaged_is_read_up_to_there(tmp_path: Path, embodiment: Embodiment) -> None:
    data = bags.write(tmp_path / "whole.mcap", bags.plain(embodiment)).read_bytes()
    random.seed(0)
    counts = []
    for share in (0.02, 0.2, 0.4, 0.9):
        path = tmp_path / "cut.mcap"
        path.write_bytes(data[: int(len(data) * share)])
        try:
            result, rows = converted(path, embodiment, tmp_path / "x.csv")
        except RecordingError as error:
            assert "no joint state" in str(error) or "cannot be read" in str(error)
            rows = []
        else:
            assert "cut off or damaged" in result.notes[0]
        counts.append(len(rows))
    assert counts == sorted(counts) and counts[2] > 0
    for _ in range(30):  # whatever bytes are wrong: a cause, no traceback
        damaged = bytearray(data)
        for _ in range(8):
            damaged[random.randrange(len(data))] = random.randrange(256)
        (tmp_path / "damaged.mcap").write_bytes(damaged)
        try:
            convert(tmp_path / "damaged.mcap", tmp_path / "x.csv", embodiment, "joint_states")
        except RecordingError as error:
            assert str(error)


def test_a_last_file_without_content_does_not_lose_the_others(tmp_path: Path, embodiment: Embodiment) -> None:
    folder = bags.split(tmp_path / "bag", bags.plain(embodiment), parts=3)
    (folder / "bag_2.mcap").write_bytes(b"")
    result, rows = converted(folder, embodiment, tmp_path / "x.csv")
    assert len(rows) == 160 and "bag_2.mcap is empty" in result.notes[0]
    for name in ("bag_0.mcap", "bag_1.mcap"):
        (folder / name).write_bytes(b"")
    with pytest.raises(RecordingError, match="cannot be read as MCAP"):
        convert(folder, tmp_path / "y.csv", embodiment, "joint_states")
    assert not (tmp_path / "y.csv").exists()


@pytest.mark.parametrize(
    ("change", "left_out", "cause"),
    [
        (lambda k: {"stamp_ns": START_NS + (10**15 if k == 10 else k * PERIOD_NS)}, 1, "s ahead"),
        (lambda k: {"stamp_ns": 0 if k == 10 else START_NS + k * PERIOD_NS}, 1, "no stamp"),
        (lambda k: {"stamp_ns": S if k == 10 else START_NS + k * PERIOD_NS}, 1, "s behind"),
        (
            lambda k: {"stamp_ns": START_NS + k * PERIOD_NS - (HOUR_NS if k >= 200 else 0)},
            40,
            "3600 s behind",
        ),
        (
            lambda k: {"stamp_ns": START_NS + k * PERIOD_NS + (10**9 if k == 10 else 0)},
            1,
            "does not come after",
        ),
        (lambda k: {"stamp_ns": START_NS + k // 2 * PERIOD_NS}, 120, "does not come after"),
        (lambda k: {"position": NAN if k % 2 else 0.1}, 120, "not finite"),
        (lambda k: {"velocity": float("inf") if k == 0 else 0.0}, 1, "not finite"),
        (lambda k: {"velocity": [] if k < 100 else 0.0}, 100, "no velocity"),
    ],
)
def test_what_is_left_out_is_counted_with_its_cause(
    change: object,
    left_out: int,
    cause: str,
    tmp_path: Path,
    embodiment: Embodiment,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = bags.write(tmp_path / "x.mcap", bags.plain(embodiment, change=change))  # type: ignore[arg-type]
    result, rows = converted(path, embodiment, tmp_path / "x.csv")
    assert len(rows) == result.written == 240 - left_out
    assert [cause in key for key in result.left_out] == [True] and result.left_out.total() == left_out
    times = [int(row["time_ns"]) for row in rows]
    assert times == sorted(set(times))
    assert not any("nan" in value or "inf" in value for row in rows for value in row.values())
    assert cli.main(["csv", str(path), str(tmp_path / "y.csv")]) == 0
    assert f"{left_out} left out: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda k: {"stamp_ns": 0}, "240: it carries no stamp"),
        (lambda k: {"velocity": NAN}, "not finite"),
        (lambda k: {"velocity": []}, "no velocity"),
        (lambda k: {"names": ["fr3_joint1", "fr3_joint1"]}, "twice"),
        (lambda k: {"names": ["fr3_joint1"]}, "no fr3_joint2"),
    ],
)
def test_a_recording_without_a_usable_state_says_why(
    change: object, cause: str, tmp_path: Path, embodiment: Embodiment
) -> None:
    path = bags.write(tmp_path / "x.mcap", bags.plain(embodiment, change=change))  # type: ignore[arg-type]
    with pytest.raises(RecordingError, match=f"no usable joint state on joint_states .*{cause}"):
        convert(path, tmp_path / "x.csv", embodiment, "joint_states")
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.parametrize("back_s", [0.5, 20.0, 40.0])
def test_two_passes_are_not_woven_into_one_motion(
    back_s: float, tmp_path: Path, embodiment: Embodiment
) -> None:
    """A cell that was reset, a clock that was set back, a bag that was looped: another motion with the same stamps."""
    first, second = 3000, 3500
    messages = []
    for k in range(first + second):
        stamp = (
            START_NS + 100 * S + k * PERIOD_NS - (round(back_s * 1e9) - PERIOD_NS // 2 if k >= first else 0)
        )
        messages.append((START_NS + k * PERIOD_NS, bags.joint_state(embodiment, k, stamp_ns=stamp)))
    result, rows = converted(bags.write(tmp_path / "x.mcap", messages), embodiment, tmp_path / "x.csv")
    assert len(rows) == second and list(result.left_out.values()) == [first]
    assert float(rows[0]["q.fr3_joint1"]) == pytest.approx(embodiment.home[0] + 1e-5 * first)


def test_arm_hand_and_wheels_may_come_apart_and_efforts_unmeasured(
    tmp_path: Path, embodiment: Embodiment
) -> None:
    messages = []
    for k in range(240):
        for names in (["wheel"], embodiment.joint_names, embodiment.finger_joints):
            messages.append((START_NS + k * PERIOD_NS, bags.joint_state(embodiment, k, names, effort=NAN)))
    result, rows = converted(bags.write(tmp_path / "x.mcap", messages), embodiment, tmp_path / "x.csv")
    assert len(rows) == 240 and not result.left_out
    assert {row["gripper_width"] for row in rows} == {"0.08"} and {row["tau.fr3_joint1"] for row in rows} == {
        "0.0"
    }


def test_joints_that_are_not_ours_may_hold_anything(tmp_path: Path, embodiment: Embodiment) -> None:
    names = [*embodiment.joint_names, *embodiment.finger_joints, "wheel", "wheel"]
    path = bags.write(tmp_path / "x.mcap", bags.plain(embodiment, 20, lambda k: {"names": names}))
    result, rows = converted(path, embodiment, tmp_path / "x.csv")
    assert len(rows) == 20 and not result.left_out


def test_one_finger_opens_by_half_of_the_width(tmp_path: Path, embodiment: Embodiment) -> None:
    end = embodiment.end_effectors[0]
    gripper = replace(end.gripper, fingers=end.gripper.fingers[:1])
    one = replace(embodiment, end_effectors=(replace(end, gripper=gripper),))
    path = bags.write(tmp_path / "x.mcap", bags.plain(embodiment, 20))
    assert {row["gripper_width"] for row in converted(path, one, tmp_path / "x.csv")[1]} == {"0.08"}


@pytest.mark.parametrize(("factor", "says"), [(57.29578, "would fit as degrees"), (1.9, "another robot")])
def test_positions_beyond_the_limits_are_said(
    factor: float, says: str, tmp_path: Path, embodiment: Embodiment
) -> None:
    position = array.array("d", [*(factor * embodiment.home), 0.04, 0.04])
    path = bags.write(tmp_path / "x.mcap", bags.plain(embodiment, 20, lambda k: {"position": position}))
    result, _ = converted(path, embodiment, tmp_path / "x.csv")
    assert says in result.notes[0] and "fr3_joint4" in result.notes[0]
    assert not converted(
        bags.write(tmp_path / "y.mcap", bags.plain(embodiment, 20)), embodiment, tmp_path / "y.csv"
    )[0].notes


def test_recorder_and_reader_agree(tmp_path: Path, embodiment: Embodiment) -> None:
    with Recorder(tmp_path / "ours.mcap") as recorder:
        for logged_ns, message in bags.plain(embodiment):
            recorder.write("/joint_states", message, logged_ns)
    ours = converted(tmp_path / "ours.mcap", embodiment, tmp_path / "a.csv")[1]
    theirs = converted(
        bags.write(tmp_path / "x.mcap", bags.plain(embodiment)), embodiment, tmp_path / "b.csv"
    )[1]
    assert ours == theirs
