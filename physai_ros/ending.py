"""How a process of the stack ends: signals, its last words, and nothing left behind."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rclpy
from rclpy.node import Node

_ending = threading.Lock()


class StopSignals(threading.Event):
    """Set by the first SIGINT or SIGTERM, from its making on; `number` is that of the signal."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, self._on_signal)

    def _on_signal(self, number: int, _: Any) -> None:
        self.number = self.number or number
        self.set()


def leave_graph(node: Node, spinner: threading.Thread | None = None) -> None:
    """Leave the ROS graph in order, which removes this process's shared memory; `spinner` runs the executor."""
    steps: list[Callable[[], Any]] = [rclpy.try_shutdown]  # first: spin() then returns by itself
    if spinner:
        steps.append(lambda: spinner.join(timeout=0.4))
    # A lifecycle node's state machine also holds the node's handle, and would keep the participant.
    steps += [node.destroy_node, vars(node).clear, gc.collect]
    for step in steps:
        with contextlib.suppress(Exception):
            step()


def orphaned() -> bool:
    """Whether the `physai up` that started this process is gone: killed, it could not stop its processes."""
    starter = os.environ.get("PHYSAI_STARTER_PID")
    return starter is not None and str(os.getppid()) != starter


def exit_after(delay_s: float, code: int, line: str) -> None:
    """End then, unless the process has ended by itself."""
    timer = threading.Timer(delay_s, exit_now, (code, line))
    timer.daemon = True
    timer.start()


def exit_now(code: int, line: str) -> None:
    """End now: a thread that is stuck in a library must not keep the process."""
    if not _ending.acquire(blocking=False):
        time.sleep(60)  # another thread is at it
    last_words(line)
    with contextlib.suppress(Exception):
        remove_segments()
    os._exit(code)


def last_words(line: str) -> None:
    """Say why the process ends; nobody may be there to hear it any more, which must not keep it."""
    with contextlib.suppress(OSError, ValueError):
        if line:
            print(line, file=sys.stderr)
        sys.stderr.flush()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()


def remove_segments() -> None:
    """Remove the middleware's shared memory of this process, where it could not leave the graph in order.

    Fast DDS holds an exclusive lock on `<segment>_el` as long as it owns the segment.
    """
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    own = {lock[5].rpartition(":")[2] for lock in locks if lock[4] == str(os.getpid())}
    for path in Path("/dev/shm").glob("fast*_el"):
        if str(path.stat().st_ino) in own:
            base = path.name.removesuffix("_el")
            for name in (base, path.name, f"sem.{base}_mutex"):
                path.with_name(name).unlink(missing_ok=True)
