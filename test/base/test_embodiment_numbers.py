"""What a robot file's `joints` and `control` say is read by the fields' own words, and arrives in the core's structure."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from physai_base.embodiment import Embodiment, find_embodiment
from physai_base.embodiment_parts import ControlSettings, Joint
from physai_base.errors import PhysaiError
from physai_control.core import CONTROL_NUMBERS

SHIPPED = yaml.safe_load(find_embodiment("fr3").read_text())


def entries(kind: type) -> list[tuple[str, str, float, float]]:
    """Section, key and range of each number."""
    return [
        (part, item.name.removeprefix(f"{part}_"), *item.metadata["range"])
        for item in fields(kind)
        if "range" in item.metadata
        for part in [item.metadata["section"]]
    ]


def load(folder: Path, **changes: object) -> Embodiment:
    path = folder / "robot.yaml"
    path.write_text(yaml.safe_dump({"extends": str(find_embodiment("fr3").resolve()), **changes}))
    return Embodiment.load(path)


@pytest.mark.parametrize(("section", "key", "low", "high"), entries(ControlSettings))
def test_a_number_of_control_is_read_and_out_of_its_range_refused(
    tmp_path: Path, section: str, key: str, low: float, high: float
) -> None:
    def said(value: float) -> dict[str, object]:
        return {"control": {section: {key: value}} if section else {key: value}}

    value = 900.0 if key == "rate_hz" else low + (high - low) / 7
    name = f"{section}_{key}" if section else key
    assert getattr(load(tmp_path, **said(value)).control, name) == pytest.approx(value)
    with pytest.raises(PhysaiError, match=rf"{key}: must be"):
        load(tmp_path, **said(high + 1))


@pytest.mark.parametrize(("section", "key", "low", "high"), entries(Joint))
def test_a_number_of_a_joint_is_read_and_out_of_its_range_refused(
    tmp_path: Path, section: str, key: str, low: float, high: float
) -> None:
    def said(value: float) -> dict[str, object]:
        joints = [dict(joint) for joint in SHIPPED["joints"]]
        for joint in joints:
            if section:
                joint[section] = {**joint[section], key: value}
            else:
                joint[key] = value
        return {"joints": joints}

    with pytest.raises(PhysaiError, match=rf"{key}: must be"):
        load(tmp_path, **said(high + 1))
    name = f"{section}_{key}" if section else key
    inside = SHIPPED["joints"][0][section][key] if section else SHIPPED["joints"][0].get(key, high / 2)
    assert {getattr(joint, name) for joint in load(tmp_path, **said(inside * 0.99)).joints} == {inside * 0.99}


def test_every_number_of_control_goes_to_the_core() -> None:
    assert {item.name for item in fields(ControlSettings)} - set(CONTROL_NUMBERS) == {"pose_trip"}
