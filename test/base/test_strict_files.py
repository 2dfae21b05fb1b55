"""Files of ours: an unknown key is never passed over, and everything that is wrong is told at once, where it stands."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import paths
import pytest
import yaml

from physai_base.bundle import MANIFEST, Bundle, find_bundle, manifest_digest
from physai_base.document import Unreadable, read_json
from physai_base.embodiment import Embodiment, find_embodiment
from physai_base.embodiment_parts import Payload
from physai_base.errors import BundleError, EmbodimentError, PhysaiError, TaskError
from physai_base.resources import share_directory
from physai_base.task import Task
from physai_lab.calibration.file import write_calibration
from physai_policy.remote.config import RemoteConfig

CASES = paths.CASES / "misspelt_keys"
CONFIG = share_directory() / "config"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the shipped robot files and their model, to be extended or changed."""
    robots = CONFIG / "robots"
    shutil.copytree(robots, tmp_path, dirs_exist_ok=True)
    return tmp_path


def refusal(load: Callable[[Path], Any], path: Path) -> list[str]:
    """The lines of the error, one for each thing that is wrong."""
    with pytest.raises(PhysaiError) as caught:
        load(path)
    lines = str(caught.value).splitlines()
    return [line.strip() for line in (lines[1:] if len(lines) > 1 else lines)]


def test_misspelt_guards_of_a_robot_are_all_named_with_their_lines(folder: Path) -> None:
    path = shutil.copy(CASES / "guards.yaml", folder / "guards.yaml")
    assert refusal(Embodiment.load, path) == [
        f"{path}:5: control.contcat: unknown entry; did you mean contact?",
        f"{path}:6: control.tank.enrgy: unknown entry; did you mean energy?",
        f"{path}:9: geofence.fenses: unknown entry; did you mean fences?",
    ]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("control:\n  contact:\n    # force: 20\n", ["control.contact"]),
        ("geofence:\n  fences:\n", ["geofence.fences"]),
        ("control:\ngeofence:\n  fences: []\n", ["control"]),
    ],
)
def test_a_guard_whose_lines_are_commented_out_is_not_taken_out(
    folder: Path, text: str, names: list[str]
) -> None:
    path = folder / "commented.yaml"
    path.write_text(f"extends: fr3.yaml\n{text}")
    assert [line.split(": ")[1] for line in refusal(Embodiment.load, path)] == names
    path.write_text("extends: fr3.yaml\ncontrol: {contact: null}\n")  # said outright
    assert Embodiment.load(path).control.contact_force == 0


def test_everything_that_is_wrong_with_a_task_is_told_at_once() -> None:
    told = refusal(Task.load, CASES / "task.yaml")
    named = {line.split(": ")[1] for line in told}
    assert {
        "format_version",
        "cups.region.y",
        "shelf.labels",
        "shelf.region",
        "workspace",
        "success",
    } <= named
    assert all(":" in line and line.split(":")[1].isdigit() for line in told)


def places(document: Any, free: frozenset[str], where: str = "") -> Iterator[tuple[Any, Any]]:
    """Mapping and key of every entry whose name is ours, once for the entries of a list."""
    if isinstance(document, list):
        if document:
            yield from places(document[0], free, where)
    elif isinstance(document, dict):
        for key, value in document.items():
            if where not in free:
                yield document, key
            yield from places(value, free, str(key))


def misspelt(key: str) -> str:
    return key[:-2] + key[-1] + key[-2] if len(key) > 2 and key[-1] != key[-2] else key + "_"


@pytest.mark.parametrize(
    ("file", "load", "free"),
    [
        ("robots/fr3.yaml", Embodiment.load, frozenset({"options"})),
        (str(Task.load("cups").path), Task.load, frozenset({"centers"})),
        ("remote/pi05_joints.yaml", RemoteConfig.load, frozenset({"observation"})),
        ("remote/gr00t_joints.yaml", RemoteConfig.load, frozenset({"observation", "video", "state", "language"})),
    ],
)  # fmt: skip
def test_each_key_that_is_ours_is_refused_when_it_is_misspelt(
    file: str, load: Callable[[Path], Any], free: frozenset[str], folder: Path
) -> None:
    document = yaml.safe_load((CONFIG / file).read_text())
    path = folder / "changed.yaml"
    tried = 0
    for index, (_, key) in enumerate(list(places(document, free))):
        changed = copy.deepcopy(document)
        holder, _ = list(places(changed, free))[index]
        holder[misspelt(key)] = holder.pop(key)
        path.write_text(yaml.safe_dump(changed, sort_keys=False))
        told = refusal(load, path)
        assert any(
            f"{misspelt(key)}: unknown entry; did you mean {key}?" in line
            or ("must have one of" in line and f"; did you mean {key}?" in line)
            for line in told
        ), (key, told)
        tried += 1
    assert tried > 10


def test_what_is_wrong_in_an_extended_file_is_told_with_that_files_name(folder: Path) -> None:
    base = folder / "base.yaml"
    base.write_text("extends: fr3.yaml\ncontrol:\n  blend: 0.2\n")
    own = folder / "own.yaml"
    own.write_text("extends: base.yaml\ncontrol:\n  rate_hz: fast\n")
    assert refusal(Embodiment.load, own) == [
        f"{own}:3: control.rate_hz: must be a number, got 'fast'",
        f"{base}:3: control.blend: unknown entry; did you mean blend_s?",
    ]


def test_null_for_a_name_that_does_not_exist_is_refused(folder: Path) -> None:
    path = folder / "own.yaml"
    path.write_text("extends: fr3.yaml\ncontrol:\n  contcat: null\n")
    assert refusal(Embodiment.load, path) == [
        f"{path}:3: control.contcat: unknown entry; did you mean contact?"
    ]


@pytest.mark.parametrize("entry", ["contact", "tank", "reduced", "tool_limits"])
def test_an_empty_section_is_no_default(entry: str, folder: Path) -> None:
    document = yaml.safe_load(find_embodiment("fr3").read_text())
    document["control"][entry] = None
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(EmbodimentError, match=f"control.{entry}: must be a mapping, got nothing"):
        Embodiment.load(path)


def test_a_key_that_occurs_twice_is_refused(folder: Path) -> None:
    path = folder / "own.yaml"
    path.write_text(
        "extends: fr3.yaml\ncontrol: {blend_s: 0.2, blend_s: 0.3}\nhome: [0, 1]\n"
        "control: {contact: {force: 1}}\n"
    )  # fmt: skip
    told = refusal(Embodiment.load, path)
    assert f"{path}:2: control.blend_s: occurs twice, first in line 2; remove one" in told
    assert f"{path}:4: control: occurs twice, first in line 2; remove one" in told
    assert any(line.startswith(f"{path}:3: home: must be a list of 7 numbers") for line in told)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (".nan", "must be finite"), ("-.inf", "must be finite"), ("yes", "must be a number"),
        ("1e-3", "YAML takes that for text, write 1.0e-3"), ("'0.2'", "without quotation marks"), ("[1]", "must be a number"),
        ("99", r"must be within \[0.005, 2\]"), ("!!int x", "cannot be read as YAML's !!int"), ("{}", "must be a number"),
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_kind_is_told_with_the_cure(value: str, reason: str, folder: Path) -> None:
    path = folder / "own.yaml"
    path.write_text(f"extends: fr3.yaml\ncontrol:\n  blend_s: {value}\n")
    with pytest.raises(EmbodimentError, match=f"^{path}:3: control.blend_s: .*{reason}"):
        Embodiment.load(path)


def test_a_key_in_the_wrong_section_is_told_where_it_belongs(folder: Path) -> None:
    path = folder / "own.yaml"
    path.write_text("extends: fr3.yaml\nfriction_compensation: 0.5\n")
    with pytest.raises(EmbodimentError, match="friction_compensation: unknown entry; it belongs in control"):
        Embodiment.load(path)


def test_merged_anchors_count_as_written(folder: Path) -> None:
    document = find_embodiment("fr3").read_text()
    path = folder / "own.yaml"
    path.write_text(document.replace("tank: {energy: 0, power: 0}", "tank: {<<: {energy: 3, powr: 1}}"))
    with pytest.raises(EmbodimentError, match=r"control.tank.powr: unknown entry; did you mean power\?"):
        Embodiment.load(path)


def test_a_model_beside_the_file_that_names_it_is_found_from_elsewhere(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "own.yaml").write_text("extends: ../fr3.yaml\n")
    assert Embodiment.load(elsewhere / "own.yaml").model_path.samefile(folder / "fr3/fr3_hand.xml")


def test_an_unknown_task_lists_the_known() -> None:
    with pytest.raises(TaskError, match=r"no task 'cup'; known: cups"):
        Task.load("cup")


def manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A shipped bundle with a changed manifest whose digest is right again."""
    path = folder / "bundle"
    shutil.copytree(find_bundle("cups/policy")[0], path)
    document = json.loads((path / MANIFEST).read_text())
    change(document)
    document["digest"] = manifest_digest(document)
    (path / MANIFEST).write_text(json.dumps(document, indent=1))
    return path


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda d: d.update(licenze="MIT"), r"manifest.json:\d+: licenze: unknown entry; did you mean licence\?"),
        (lambda d: d["inputs"][0].update(unitz="m"), r"inputs\[0\].unitz: unknown entry; did you mean units\?"),
        (lambda d: d["inputs"][0].update(normalization={"mean": [0.0] * len(d["inputs"][0]["normalization"]["mean"]),
            "std": [1.0] * len(d["inputs"][0]["normalization"]["mean"]), "stdd": 1}), r"stdd: unknown entry; did you mean std\?"),
    ],
)  # fmt: skip
def test_an_unknown_entry_of_a_manifest_is_refused(
    change: Callable[[Any], None], told: str, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match=told):
        Bundle.open(manifest(tmp_path, change))


def test_a_manifest_from_before_an_optional_entry_is_read(tmp_path: Path) -> None:
    assert Bundle.open(manifest(tmp_path, lambda document: document.pop("trained_on", None))).kind == "policy"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("extends: fr3.yaml\n".encode("utf-16"), "1: cannot be read as YAML: it is UTF-16; save it as UTF-8"),
        ("extends: fr3.yaml\n# Küche\n".encode("latin-1"), "2: cannot be read as YAML: byte 0xfc is not UTF-8; save it as UTF-8"),
        (b"extends: fr3.yaml\n\0", "2: cannot be read as YAML: the character #x0000 may not stand in it; save it as plain text"),
        (b"extends: [fr3.yaml]\n", "1: extends: must be text, got ['fr3.yaml']"),
        (b"extends: fr3.yaml\ncontrol:\n  blend_s: !!python/object:os.system ls\n",
         "3: control.blend_s: 'ls' cannot be read as YAML's !!python/object:os.system: could not determine a constructor for the tag "
         "'tag:yaml.org,2002:python/object:os.system'"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_text_is_told_in_one_line(data: bytes, says: str, folder: Path) -> None:
    path = folder / "own.yaml"
    path.write_bytes(data)
    with pytest.raises(PhysaiError) as caught:
        Embodiment.load(path)
    assert str(caught.value) == f"{path}:{says}"


@pytest.mark.parametrize("name", ["own.yaml", "./own.yaml", "../{here}/own.yaml", "link.yaml", "second.yaml"])
def test_a_file_that_extends_itself_by_another_name_is_refused(name: str, folder: Path) -> None:
    path = folder / "own.yaml"
    (folder / "link.yaml").symlink_to(path)
    (folder / "second.yaml").write_text("extends: ./own.yaml\n")
    path.write_text(f"extends: {name.format(here=folder.name)}\n")
    (line,) = refusal(Embodiment.load, path)
    assert line.endswith(("own.yaml extends itself", "link.yaml extends itself"))
    assert len(line) < 4 * len(str(path)) + 40


def test_a_byte_order_mark_is_no_part_of_the_text(folder: Path) -> None:
    (folder / "own.yaml").write_bytes(b"\xef\xbb\xbfextends: fr3.yaml\r\n")
    assert Embodiment.load(folder / "own.yaml").path == folder / "own.yaml"


def test_json_is_read_with_lines_and_doubled_keys_are_found() -> None:
    node = read_json(b'{"a": [1, 2.5e3, {"b": null}],\n "c": "x\\u00e9",\n "a": 1}', Path("f.json"))
    assert node.plain() == {"a": [1, 2500.0, {"b": None}], "c": "x\u00e9"}
    (problem,) = node.damages()
    assert str(problem) == "f.json:3: a: occurs twice, first in line 1"


@pytest.mark.parametrize(
    "text", ["", "{", "[1,]", '{"a": NaN}', "{} {}", '{"a" 1}', "[" * 200, "{1: 2}", "[Infinity]"]
)
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(Unreadable, match="cannot be read as JSON"):
        read_json(text.encode(), Path("f.json"))


def test_a_calibration_of_a_variant_can_be_written_elsewhere(folder: Path, tmp_path: Path) -> None:
    robot = Embodiment.load(folder / "fr3_topic.yaml")
    calibration = replace(robot.calibration, payloads=(Payload(0.5),))
    written = tmp_path / "elsewhere/calibrated.yaml"
    write_calibration(robot, calibration, written, "tried")
    again = Embodiment.load(written)
    assert again.calibration.payloads[0].mass == 0.5 and again.hardware.backend == "topic"
