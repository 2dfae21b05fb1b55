"""`physai doctor`: what works here, and how to mend what does not."""

from __future__ import annotations

import importlib.util

import pytest

from physai_lab import doctor
from physai_lab.cli import main
from physai_policy.runtimes import RUNTIMES


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

    monkeypatch.setattr(doctor, "CHECKS", (("camera", broken), ("runtime remote", doctor._remote)))
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "FAIL  camera: OSError: no such camera" in said
    assert "warn  runtime remote: msgpack not installed" in said and "pip install" in said
