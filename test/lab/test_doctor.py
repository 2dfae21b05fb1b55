"""`physai doctor`: what works here, and how to mend what does not."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from physai_base.embodiment import Embodiment
from physai_lab.cli import main
from physai_lab.stack import doctor
from physai_lab.stack.running import node_lines
from physai_policy.runtimes import RUNTIMES


@pytest.mark.slow
def test_every_runtime_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0  # what these tests run in is a whole installation
    said = capsys.readouterr().out
    assert "FAIL" not in said
    for name in (*RUNTIMES, "remote"):
        assert f"runtime {name}: " in said


def test_what_is_missing_comes_with_its_remedy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "msgpack" else found(name))

    def broken() -> doctor.Finding:
        raise OSError("no such camera")

    monkeypatch.setattr(doctor, "OF_ROBOT", ())
    monkeypatch.setattr(doctor, "CHECKS", (("camera", broken), ("runtime remote", doctor._remote)))
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "FAIL  camera: OSError: no such camera" in said
    assert "warn  runtime remote: msgpack not installed" in said and "pip install" in said


def test_a_robot_is_tried_by_its_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    blind = tmp_path / "blind.yaml"
    blind.write_text(f"extends: {Embodiment.load('fr3').path}\nname: blind\ncameras: []\n")
    assert main(["doctor", "--robot", str(blind)]) == 0
    said = capsys.readouterr().out
    assert "embodiment blind: 7 joints, 0 cameras" in said and "the robot has no cameras" in said
    assert main(["doctor", "--robot", str(tmp_path / "absent.yaml")]) == 1
    assert "FAIL  robot file: " in capsys.readouterr().out


def test_a_layer_that_is_there_and_says_nothing_is_called_silent() -> None:
    """A hung process stays in the graph, and its last word on the robot must not pass for the present one."""
    names = ["/left/control", "/left/perception", "/left/supervisor", "/rviz2"]
    services = ["/left/control/change_state", "/left/perception/change_state", "/left/supervisor/stop"]
    said = {
        "/left/perception": "active",
        "/left/supervisor": "error: control is lost: no heartbeat for 2.1 s",
    }
    lines, silent = node_lines(names, services, said)
    assert silent == ["/left/control"]
    assert lines == [
        "/left/control  SILENT",
        "/left/perception  active",
        "/left/supervisor  error: control is lost: no heartbeat for 2.1 s",
        "/rviz2",
    ]


def test_nodes_without_a_supervisor_are_said_to_be_unwatched() -> None:
    """One that is frozen does not even show in the graph of who comes after."""
    services = ["/control/change_state"]
    lines, silent = node_lines(["/control"], services, {"/control": "active"})
    assert not silent and "no supervisor is heard" in lines[-1]
    lines, _ = node_lines(["/control"], services, {"/control": "active", "/supervisor": "active"})
    assert lines == ["/control  active", "/supervisor  active"]
    assert node_lines(["/rviz2"], [], {}) == (["/rviz2"], [])
