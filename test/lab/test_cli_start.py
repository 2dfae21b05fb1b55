"""A command says what it is without what it computes with."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "mujoco", "glfw", "OpenGL", "matplotlib", "scipy", "onnxruntime", "rclpy", "numpy", "cv2", "torch", "tensorrt", "yaml", "rich",
    "asyncio",
)  # fmt: skip
COMMANDS = (
    "up", "do", "demo", "demo-all", "serve", "shadow", "csv", "demos", "train", "export", "calibrate-doubt", "eval", "calibrate", "faults",
    "rt-check", "import", "build-engine", "verify", "golden", "bench-policy", "doctor", "robot", "task",
)  # fmt: skip


def loaded(program: str) -> set[str]:
    """What of HEAVY a Python has loaded after `program`."""
    ask = f"\nimport sys\nprint('LOADED', *(set(sys.modules) & set({HEAVY!r})))"
    done = subprocess.run([sys.executable, "-c", program + ask], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split()[1:])


HELP = """
from physai_lab.cli import main
for command in {commands!r}:
    try:
        main([*command, "--help"])
    except SystemExit as end:
        assert end.code == 0, command
"""


def test_help_of_every_command_loads_nothing_heavy() -> None:
    commands = [
        [],
        *([name] for name in COMMANDS),
        ["import", "lerobot"],
        ["import", "hf"],
        ["robot", "new"],
        ["robot", "check"],
        *(["task", action] for action in ("new", "check", "list")),
    ]
    assert loaded(HELP.format(commands=commands)) == set()


def test_the_check_sees_what_is_loaded() -> None:
    assert "numpy" in loaded("import numpy")


def test_the_list_of_commands_is_whole() -> None:
    from physai_lab.parser import command_line

    (choices,) = [a.choices for a in command_line()._actions if a.choices and a.dest == "command"]
    assert set(choices) == set(COMMANDS)


def test_what_talks_to_a_running_stack_loads_no_simulator() -> None:
    assert not loaded("import physai_lab.stack.do, physai_lab.stack.bringup") & {
        "mujoco",
        "glfw",
        "matplotlib",
        "scipy",
        "onnxruntime",
    }


@pytest.mark.parametrize(
    "name", ["PRECISIONS", "ENGINE_PRECISIONS", "RUNTIMES", "SAMPLES", "ORDER", "EAGER", "HOST", "PORT"]
)
def test_the_options_repeat_what_the_parts_have(name: str) -> None:
    from physai_lab import policy_arguments
    from physai_lab.runtimes import bench_policy, verify
    from physai_policy import flow_policy, runtimes
    from physai_policy.remote.server import ServerSettings

    there = {
        "PRECISIONS": runtimes.PRECISIONS, "ENGINE_PRECISIONS": runtimes.precisions_of("tensorrt"),
        "RUNTIMES": tuple(runtimes.RUNTIMES), "SAMPLES": flow_policy.SAMPLES, "ORDER": verify.ORDER,
        "EAGER": bench_policy.EAGER, "HOST": ServerSettings.host, "PORT": ServerSettings.port,
    }  # fmt: skip
    assert getattr(policy_arguments, name) == there[name]
