"""An embodiment file that extends another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from physai_base.embodiment import Embodiment, find_embodiment
from physai_base.errors import EmbodimentError


def load(folder: Path, **entries: Any) -> Embodiment:
    path = folder / "variant.yaml"
    path.write_text(yaml.safe_dump({"extends": str(find_embodiment("fr3").resolve()), **entries}))
    return Embodiment.load(path)


def test_what_it_does_not_name_is_as_there(tmp_path: Path, embodiment: Embodiment) -> None:
    variant = load(tmp_path, control={"rate_hz": 500}, hardware={"options": {"grace_s": 2}})
    assert variant.control.rate_hz == 500
    assert variant.control.blend_s == embodiment.control.blend_s
    assert variant.hardware.options == {"name": "physai_fr3", "grace_s": "2"}
    assert variant.joint_names == embodiment.joint_names
    assert variant.model_path == embodiment.model_path.resolve()
    assert variant.path == tmp_path / "variant.yaml"


def test_lists_are_replaced_and_null_removes(tmp_path: Path) -> None:
    variant = load(
        tmp_path,
        home=[0, -0.5, 0, -2.4, 0, 1.8, 0.7],
        hardware={"backend": "loopback", "options": {"name": None}},
    )
    assert variant.home[1] == -0.5
    assert variant.hardware.options == {}


def test_extensions_can_be_extended(tmp_path: Path) -> None:
    load(tmp_path, control={"rate_hz": 500}, hardware={"options": {"name": "one"}})
    (tmp_path / "second.yaml").write_text("{extends: variant.yaml, hardware: {options: {name: two}}}")
    second = Embodiment.load(tmp_path / "second.yaml")
    assert second.control.rate_hz == 500
    assert second.hardware.options == {"name": "two"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{extends: nowhere.yaml}", "extends: no such file: .*; give its path, in full or from "),
        (f"{{extends: {'x' * 2000}.yaml}}", "extends: no such file"),  # longer than a file's name may be
        ("{extends: variant.yaml}", "extends itself"),
        ("{extends: 3}", "extends: must be text"),
        ("{extends: list.yaml}", "must be a mapping"),
    ],
)
def test_wrong_ones_are_refused(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("[1, 2]")
    (tmp_path / "variant.yaml").write_text(text)
    with pytest.raises(EmbodimentError, match=reason):
        Embodiment.load(tmp_path / "variant.yaml")


def test_the_shipped_variants_are_read() -> None:
    topic, patient = Embodiment.load("fr3_topic"), Embodiment.load("fr3_topic_sim")
    assert topic.hardware.backend == patient.hardware.backend == "topic"
    assert topic.name == patient.name == "fr3"  # the same arm: what was trained for it fits
    assert topic.hardware.options["command"] == "effort"
    assert patient.control.state_timeout_s > topic.control.state_timeout_s


def test_the_topic_backends_command_is_the_robots(tmp_path: Path) -> None:
    with pytest.raises(EmbodimentError, match=r"options: command must be as hardware.command, effort"):
        load(tmp_path, hardware={"backend": "topic", "options": {"name": None, "command": "position"}})
