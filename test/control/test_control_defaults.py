"""docs/reference/control_defaults.md against the files that it names: every number there is as here, and none is missing."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from paths import ROOT

from physai_base.embodiment import Embodiment, find_embodiment
from physai_control import core

PAGE = ROOT / "docs/reference/control_defaults.md"
SOURCES = ROOT / "physai_control" / "core" / "src"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
UNITS = {"NS"}  # 1e-9, which nobody chose


def tables() -> dict[str, dict[str, str]]:
    """Section -> name -> value, as text, of every table with single names."""
    found: dict[str, dict[str, str]] = {}
    section = ""
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif match := re.match(r"\| `([\w.]+)` \| ([^|]+) \|", line):
            rows = found.setdefault(section, {})
            assert match[1] not in rows, f"{match[1]} is listed twice"
            rows[match[1]] = match[2].strip()
    return found


TABLES = tables()
C_SECTIONS = [section for section in TABLES if section.startswith("`src/")]


def numbers(value: Any) -> list[float]:
    return [float(item) for item in np.ravel(np.asarray(value, float))]


def assert_same(name: str, said: str, value: Any) -> None:
    if isinstance(value, str):
        assert said == value, name
        return
    listed = [float(number) for number in NUMBER.findall(said)]
    actual = numbers(value)
    if len(listed) == 1:  # the same for all
        listed *= len(actual)
    assert listed == actual, f"{name}: {PAGE.name} says {said}, and it is {value}"


def fields(value: Any, path: str) -> Any:
    """The value at a path like `joints.stiffness`, through dataclasses and dicts; of a list one of each entry."""
    for key in path.split("."):
        if isinstance(value, list | tuple):
            value = [fields(entry, key) for entry in value]
        else:
            value = value[key] if isinstance(value, dict) else getattr(value, key)
    return value


def leaves(document: dict[str, Any], path: str) -> Iterator[str]:
    for key, value in document.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}.{key}")
        else:
            yield f"{path}.{key}"


@pytest.mark.parametrize("section", C_SECTIONS)
def test_the_core_s_numbers(section: str) -> None:
    defined: dict[str, str] = {}
    for name in re.findall(r"src/([\w./]+)", section):
        text = (SOURCES / name).read_text().replace("\\\n", "")
        defined |= dict(
            re.findall(r"^#define\s+(\w+)\s+(-?[\d.]+(?:e[+-]?\d+)?)f?(?=\s|$)", text, re.MULTILINE)
        )
    sizes = {name for name in defined if re.search(r"_(HIDDEN|SIZE)$|^PHYSAI_MAX", name)}
    missing = set(defined) - set(TABLES[section]) - UNITS - sizes
    assert not missing, f"{PAGE.name}, {section}: add a row with the source of {', '.join(sorted(missing))}"
    gone = set(TABLES[section]) - set(defined)
    assert not gone, f"{PAGE.name}, {section}: {', '.join(sorted(gone))} is not defined there any more"
    for name, said in TABLES[section].items():
        assert_same(name, said, float(defined[name]))


def test_files_whose_numbers_are_listed() -> None:
    listed = {name for section in C_SECTIONS for name in re.findall(r"src/(?:\w+/)?(\w+)\.c", section)}
    assert {"guards", "cycle", "track", "law", "joint_limits", "residual", "reference"} <= listed
    assert not re.search(
        r"^#define\s+\w+\s+[\d.]", (SOURCES / "motion" / "fence.c").read_text(), re.MULTILINE
    )


def test_the_robot_s_file() -> None:
    document = yaml.safe_load(find_embodiment("fr3").read_text())
    rows = TABLES["The robot's file"]
    for name, said in rows.items():
        assert_same(name, said, fields(document, name))
    assert set(leaves(document["control"], "control")) <= set(rows)


def test_what_holds_where_the_robot_s_file_says_nothing(tmp_path: Path) -> None:
    source = find_embodiment("fr3")
    document = yaml.safe_load(source.read_text())
    document["model"] = str(source.parent / document["model"])
    for joint in document["joints"]:
        del joint["stop_torque_rate"], joint["contact_torque"]
    required = (
        "rate_hz", "blend_s", "gain_ramp_s", "stop_acceleration", "state_timeout_s", "velocity_trip", "tracking_trip_rad",
    )  # fmt: skip
    document["control"] = {key: document["control"][key] for key in required}
    path = tmp_path / "bare.yaml"
    path.write_text(yaml.safe_dump(document))
    robot = Embodiment.load(path)
    rows = TABLES["When the robot's file says nothing"]
    for name, said in rows.items():
        assert_same(name, said, fields(robot, name))
    optional = {f"control.{item.name}" for item in dataclasses.fields(robot.control)}
    optional -= {f"control.{key}" for key in required}
    assert optional <= set(rows)
    assert [joint.stop_torque_rate for joint in robot.joints] == [joint.torque_rate for joint in robot.joints]


def test_what_is_the_same_for_every_robot() -> None:
    for name, said in TABLES["The same for every robot"].items():
        assert_same(name, said, getattr(core, name))


@pytest.mark.ros
def test_the_node_s_parameters() -> None:
    from physai_control.node import ControlParameters

    defaults = ControlParameters()
    rows = TABLES["The node"]
    for name, said in rows.items():
        assert_same(name, said, getattr(defaults, name))
    values = {f.name for f in dataclasses.fields(defaults) if isinstance(getattr(defaults, f.name), float)}
    assert values == set(rows)
