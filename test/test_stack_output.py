"""What happens to a stack whose output cannot be written any more. Its processes are plain programs."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from physai_lab.bringup import Stack
from physai_ros.graph import Graph, NodeSpec


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20.0
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def talker(done: Path) -> Graph:
    program = (
        "import pathlib, time\n"
        "for i in range(3000): print('x' * 100, flush=True)\n"  # more than a pipe holds
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


def test_a_watch_that_fails_ends_the_stack(tmp_path: Path) -> None:
    def broken(name: str, line: str) -> None:
        if line.startswith("ended"):
            raise KeyError(line)

    with Stack(talker(tmp_path / "done"), broken) as stack:
        os.kill(stack.pid("control"), signal.SIGKILL)
        wait_for(stack._ended.is_set)
        assert "cannot be watched any more: KeyError" in stack.wait()
