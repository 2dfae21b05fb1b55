"""`ros2 launch` exits with 1 after an exception alone; there are no wheels of launch, so a stand-in of its names serves."""

from __future__ import annotations

import runpy
import sys
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from paths import ROOT

FILE = ROOT / "launch/bringup.launch.py"
MODULES = (
    "launch",
    "launch.actions",
    "launch.event_handlers",
    "launch.events",
    "launch.events.process",
    "launch.substitutions",
    "launch_ros",
)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the launch file defines."""
    for name in (*MODULES, "launch_ros.actions"):
        module = ModuleType(name)
        module.__getattr__ = lambda _: MagicMock()  # type: ignore[method-assign]
        monkeypatch.setitem(sys.modules, name, module)
    return runpy.run_path(str(FILE))


def test_a_bring_up_that_fails_raises_in_launch(names: dict[str, Any]) -> None:
    failure = MagicMock()

    def ended(name: str) -> Any:
        return names["ended"](name, failure)

    runs, stops = SimpleNamespace(is_shutdown=False), SimpleNamespace(is_shutdown=True)
    with pytest.raises(RuntimeError, match="supervisor ended with code 78"):
        ended("supervisor")(SimpleNamespace(returncode=78), runs)
    with pytest.raises(RuntimeError, match="sim ended with code 78"):
        ended("sim")(SimpleNamespace(returncode=78), runs)
    assert len(ended("supervisor")(SimpleNamespace(returncode=0), runs)) == 1  # and shuts down in order
    assert ended("supervisor")(SimpleNamespace(returncode=78), stops) == []
    assert ended("policy")(SimpleNamespace(returncode=-9), runs) == []  # is started again


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (b"physai sim: there is no robot 'x'\n", "the bring-up failed: there is no robot 'x'\n"),
        (b"Killed\n", "the bring-up failed: sim ended with code 78; its log says why\n"),
    ],
)
def test_the_reason_is_the_last_line(
    said: bytes,
    line: str,
    names: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    at_exit: list[Any] = []
    monkeypatch.setattr("atexit.register", at_exit.append)
    failure = names["Failure"]()
    failure.begin("sim", 78)
    failure.hear("policy")(SimpleNamespace(text=b"physai policy: interrupted while configuring\n"))
    failure.begin("policy", 130)
    failure.hear("sim")(SimpleNamespace(text=b"[INFO] [sim]: configuring\n" + said))
    (tell,) = at_exit
    tell()
    assert capsys.readouterr().err == line
