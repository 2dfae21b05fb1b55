"""What happens to a stack whose output cannot be written any more. Its processes are plain programs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from physai_lab.stack.bringup import Stack
from physai_ros.graph import Graph, NodeSpec


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20.0
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def talker(done: Path, lines: int = 3000) -> Graph:
    program = (
        "import pathlib, time\n"
        f"for i in range({lines}): print('x' * 100, flush=True)\n"  # more than a pipe holds
        f"pathlib.Path({str(done)!r}).touch()\n"
        "time.sleep(60)\n"
    )
    return Graph((NodeSpec("x", "control", command=(sys.executable, "-c", program), respawn=3),))


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), BrokenPipeError(), ValueError("closed file")]
)
def test_a_log_that_cannot_be_written_holds_no_process_up(tmp_path: Path, error: Exception) -> None:
    def full(name: str, line: str) -> None:
        raise error

    done = tmp_path / "done"
    with Stack(talker(done), full) as stack:
        wait_for(done.exists)
        os.kill(stack.pid("control"), signal.SIGKILL)
        wait_for(lambda: stack.starts["control"] == 2)  # and it is still watched
        assert not stack.failure


def test_a_watch_that_fails_ends_the_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Stack) -> bool:
        raise KeyError("x")

    monkeypatch.setattr(Stack, "_hear_supervisor", broken)
    with Stack(talker(tmp_path / "done")) as stack:
        wait_for(stack._ended.is_set)
        assert "cannot be watched any more: KeyError" in stack.wait()


def test_a_terminal_that_takes_nothing_holds_no_process_up_and_lost_lines_are_counted(tmp_path: Path) -> None:
    """Ctrl-S, or a pager at its first page: the write blocks and does not fail."""
    go_on, shown = threading.Event(), []

    def held(name: str, line: str) -> None:
        go_on.wait()
        shown.append(line)

    done = tmp_path / "done"
    with Stack(talker(done, lines=10_000), held) as stack:
        wait_for(done.exists)
        os.kill(stack.pid("control"), signal.SIGKILL)
        wait_for(lambda: stack.starts["control"] == 2)  # it is watched as well
        go_on.set()
        wait_for(lambda: any("lines were lost here" in line for line in shown))


def test_a_stack_ends_although_its_output_is_held(tmp_path: Path) -> None:
    """As a program of its own, since Python's end waits for a lock that a blocked write holds."""
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from physai_lab.stack.bringup import Stack, printer\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_stack_output import talker, wait_for\n"
        f"done = Path({str(tmp_path / 'done')!r})\n"
        "with Stack(talker(done), printer(sys.stdout)) as stack: wait_for(done.exists)\n"
        "print('stopped', file=sys.stderr)\n"
    )
    held = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert held.stdout is not None and held.stderr is not None
    try:
        assert held.wait(timeout=60) == 0
        assert held.stderr.read() == "stopped\n"
    finally:
        held.kill()
        held.stdout.close()
        held.stderr.close()
