"""The example backend of the docs: it compiles without a warning and drives a robot."""

from __future__ import annotations

import ctypes
import shutil
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from paths import ROOT

from physai_base.embodiment import Embodiment, find_embodiment
from physai_base.values import ControlState
from physai_control.core import ControlCore, ControlError
from physai_control.structures import Command, State


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    assert compiler, "physai is built with a C compiler; where is it now?"
    folder = tmp_path_factory.mktemp("lib")
    strict = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wconversion", "-Wno-sign-conversion"]
    include = ROOT / "physai_control" / "core" / "include"
    target = folder / "libphysai_hardware_udp.so"
    subprocess.run(
        [
            compiler,
            *strict,
            "-shared",
            "-fPIC",
            "-I",
            include,
            ROOT / "docs/howto/example_backend.c",
            "-o",
            target,
        ],
        check=True,
    )
    return folder


def core_for(folder: Path, **options: object) -> ControlCore:
    document = {
        "extends": str(find_embodiment("fr3").resolve()),
        "control": {"state_timeout_s": 0.5},
        "hardware": {"backend": "udp", "options": {"name": None, **options}},
    }
    (folder / "robot.yaml").write_text(yaml.safe_dump(document))
    return ControlCore(Embodiment.load(folder / "robot.yaml"))


def test_it_drives_a_robot_and_its_loss_is_a_fault(
    library: Path, tmp_path: Path, embodiment: Embodiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHYSAI_LIB_DIR", str(library))
    robot = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    robot.connect(("127.0.0.1", port))
    robot.settimeout(5.0)
    core = core_for(tmp_path, port=port)
    core.start()
    state, command = State(n_joints=7), Command()
    state.q[:7] = embodiment.home.tolist()

    def exchange() -> Command:
        state.seq += 1
        state.time_ns += 1_000_000
        robot.send(bytes(state))
        ctypes.memmove(ctypes.byref(command), robot.recv(4096), ctypes.sizeof(command))
        assert command.seq == state.seq
        return command

    assert not exchange().flags
    core.activate()
    for _ in range(100):
        exchange()
    assert command.flags == 1
    assert core.status().state is ControlState.HOLD
    assert 5 < np.abs(command.tau[:7]).max() < 87  # it carries its weight
    robot.send(b"no state")  # a stray datagram is none
    assert exchange().flags == 1
    robot.recv(4096)  # the robot falls silent; the last command closes its brakes
    deadline = time.monotonic() + 30
    while core.status().state is not ControlState.FAULT:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert "no joint state" in core.status().cause
    core.close()
    robot.close()


def test_it_says_what_is_wrong_with_its_options(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHYSAI_LIB_DIR", str(library))
    core = core_for(tmp_path, socket=3)
    with pytest.raises(ControlError, match="give the option port, a free one; got 'socket=3'"):
        core.start()
    core.close()
