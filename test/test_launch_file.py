"""`ros2 launch` exits with 1 after an exception alone; there are no wheels of launch, so a stand-in of its names serves."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

import pytest

FILE = Path(__file__).parent.parent / "launch/bringup.launch.py"
MODULES = (
    "launch",
    "launch.actions",
    "launch.events",
    "launch.events.process",
    "launch.substitutions",
    "launch_ros",
)


def test_a_bring_up_that_fails_raises_in_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*MODULES, "launch_ros.actions"):
        module = ModuleType(name)
        module.__getattr__ = lambda _: MagicMock()  # type: ignore[method-assign]
        monkeypatch.setitem(sys.modules, name, module)
    ended = runpy.run_path(str(FILE))["ended"]
    runs, stops = SimpleNamespace(is_shutdown=False), SimpleNamespace(is_shutdown=True)
    with pytest.raises(RuntimeError, match="supervisor ended with code 78"):
        ended("supervisor")(SimpleNamespace(returncode=78), runs)
    with pytest.raises(RuntimeError, match="sim ended with code 78"):
        ended("sim")(SimpleNamespace(returncode=78), runs)
    assert len(ended("supervisor")(SimpleNamespace(returncode=0), runs)) == 1  # and shuts down in order
    assert ended("supervisor")(SimpleNamespace(returncode=78), stops) == []
    assert ended("policy")(SimpleNamespace(returncode=-9), runs) == []  # is started again
