"""How every command ends when it is interrupted, when nobody reads, and when nothing can be written."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from physai_lab import cli, commands
from physai_ros.graph import GraphError, bringup_graph

NO_FOLDER = "/proc/version/runs"  # nobody, not even root, can make it


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("it has begun")


@pytest.mark.parametrize(
    "command",
    (
        ["eval", "--episodes", "1"],
        ["demo", "--episodes", "1"],
        ["demo-all", "--episodes", "1"],
        ["faults", "--trials", "1"],
        ["rt-check"],
        ["calibrate", "--cell", "1"],
        ["shadow", "report", "x.mcap"],
        ["verify", "policy"],
        ["bench-policy", "policy"],
    ),
    ids=lambda command: command[0],
)
def test_a_folder_for_reports_that_cannot_be_is_refused_before_anything_begins(command, monkeypatch, capsys):
    name = {"eval": "evaluate"}.get(command[0], command[0].replace("-", "_"))
    monkeypatch.setattr(commands, name, refuse)
    assert cli.main([*command, "--runs", NO_FOLDER]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"physai {command[0]}: --runs {NO_FOLDER}: cannot be written to (Not a directory)")


@pytest.mark.parametrize("what", ("policy", "vision", "corrector", "world-model", "doubt"))
def test_a_checkpoint_that_cannot_be_written_is_refused_before_the_training(what, monkeypatch, capsys):
    monkeypatch.setattr(commands, "require", lambda *_: None)
    monkeypatch.setattr("physai_base.embodiment.Embodiment.load", refuse)
    assert cli.main(["train", what, "--out", NO_FOLDER]) == 1
    assert f"--out {NO_FOLDER}: cannot be written to" in capsys.readouterr().err


def test_a_calibration_that_cannot_be_written_is_refused_before_the_arm_moves(monkeypatch, capsys):
    monkeypatch.setattr("physai_lab.calibration.calibrate._cell", refuse)
    assert cli.main(["calibrate", "--cell", "1", "--output", f"{NO_FOLDER}/x.yaml"]) == 1
    assert f"--output {NO_FOLDER}: cannot be written to" in capsys.readouterr().err


class RCLError(Exception):
    """As rclpy's."""


@pytest.mark.parametrize(
    ("error", "code", "said"),
    (
        (OSError(28, "No space left on device", "data/x"), 1, "physai doctor: data/x: No space left on device\n"),
        (OSError(28, "No space left on device"), 1, "physai doctor: output: No space left on device\n"),
        (BrokenPipeError(32, "Broken pipe"), 128 + signal.SIGPIPE, ""),
        (RCLError("no such thing, at /rcl/x.c:1\nmore"), 1, "physai doctor: ROS cannot begin here: no such thing; "),
    ),
)  # fmt: skip
def test_what_the_machine_refuses_is_one_line(error, code, said, monkeypatch, capsys):
    def run(_: object) -> int:
        raise error

    monkeypatch.setattr(commands, "doctor", run)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert cli.main(["doctor"]) == code
    found = capsys.readouterr().err
    assert found.startswith(said) and len(found.splitlines()) == bool(said)


def program(body: str, before: str = "") -> list[str]:
    """A `physai doctor` that does something else."""
    text = f"""
import signal, sys, time
from physai_lab import cli, commands
def run(options):
    {body}
    return 0
commands.doctor = run
{before}
sys.exit(cli.main(['doctor']))
"""
    return [sys.executable, "-c", text]


@pytest.mark.parametrize("closed", ("pipe", "full", "none"))
def test_an_output_that_takes_nothing_is_no_traceback(closed, tmp_path):
    command = program("for _ in range(9): print('x' * 99999)")
    if closed == "pipe":  # `| head -1`
        shell, code, lines = '"$@" | :; exit ${PIPESTATUS[0]}', 128 + signal.SIGPIPE, 0
    elif closed == "full":
        shell, code, lines = '"$@" > /dev/full', 1, 1
    else:
        shell, code, lines = '"$@" >&-', 0, 0
    ended = subprocess.run(
        ["bash", "-c", shell, "x", *command], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, len(ended.stderr.splitlines())) == (code, lines), ended.stderr


@pytest.mark.parametrize(
    ("number", "code"), ((signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130))
)
def test_a_signal_ends_a_command_in_order(number, code):
    waits = "try: print('on', flush=True); time.sleep(60)\n    finally: print('taken down', flush=True)"
    process = subprocess.Popen(program(waits), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "on\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (code, "taken down\n", "physai doctor: interrupted\n")


def test_a_signal_that_is_ignored_stays_so():
    """nohup."""
    here = "signal.raise_signal(signal.SIGHUP); print('goes on')"
    command = program(here, before="signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (0, "goes on\n"), ended.stderr


def test_a_folder_that_was_removed_is_named(tmp_path: Path):
    gone = tmp_path / "gone"
    gone.mkdir()
    command = ["bash", "-c", 'rmdir "$PWD"; exec "$@"', "x", *program("pass")]
    ended = subprocess.run(command, cwd=gone, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert ended.stderr == "physai doctor: the current folder was removed; change to another one\n"


@pytest.mark.parametrize(
    "name", ("1x", "a b", "a//b", "a-b", "hömé", "~", "a/~/b", "x" * 200, "a\nb"), ids=repr
)
@pytest.mark.parametrize("argument", ("namespace", "clock"))
def test_a_name_that_ros_does_not_have_is_refused_by_the_graph(argument, name):
    """Else every process ends with a traceback of rcl."""
    with pytest.raises(GraphError, match=f"{argument} must be words"):
        bringup_graph(**{argument: name})


def test_names_that_ros_has_are_taken():
    for name in ("", "/", "arm1", "/arm1/", "lab/arm_2", "_x"):
        bringup_graph(namespace=name, clock="/sim/clock")
    with pytest.raises(GraphError):
        bringup_graph(clock="")
