"""Processes that keep a machine busy: `Hogs` starts them, each runs `python -m physai_lab.realtime.hogs KIND FOLDER`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

KINDS = ("cpu", "memory", "disk")
BLOCK_BYTES = 64 << 20  # larger than the caches that the loop's data would stay in
WRITE_BYTES = 4 << 20


def hog(kind: str, folder: Path) -> None:
    """Use as much of one resource as there is, until the process that started this one is gone."""
    parent = os.getppid()
    block = bytearray(os.urandom(1 << 20) * (BLOCK_BYTES >> 20)) if kind == "memory" else bytearray()
    other = bytearray(len(block))
    path = folder / f"hog-{os.getpid()}"
    try:
        while os.getppid() == parent:
            if kind == "cpu":
                sum(number * number for number in range(200_000))
            elif kind == "memory":
                other[:] = block
            else:
                with path.open("wb") as file:
                    file.write(os.urandom(WRITE_BYTES))
                    file.flush()
                    os.fsync(file.fileno())
    finally:
        path.unlink(missing_ok=True)


class Hogs:
    """While entered: a CPU and a memory hog for each of `cores`, and one that writes to the disk of `folder`."""

    def __init__(self, cores: int, folder: Path) -> None:
        self._kinds = ["cpu", "memory"] * cores + ["disk"]
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Hogs:
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "physai_lab.realtime.hogs", kind, str(self._folder.absolute())]
            )
            for kind in self._kinds
        ]
        return self

    @property
    def alive(self) -> int:
        """How many are at work."""
        return sum(process.poll() is None for process in self._processes)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started this
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # runs the `finally` above
    hog(sys.argv[1], Path(sys.argv[2]))
