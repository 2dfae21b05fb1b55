"""How far a long command is: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[int, int, str], None]
"""Told what is done, of how much, and a note."""
LINE_EVERY_S = 20.0  # where the output is no terminal


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """A progress bar; the value is a function of (done, total, note)."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )  # fmt: skip
    if not sys.stdout.isatty():
        yield _lines(title)
        return
    with Bar(*columns) as progress:
        bar = progress.add_task(title, total=None, note="")

        def update(done: int, total: int, note: str) -> None:
            progress.update(bar, completed=done, total=total, note=note)

        yield update


def _lines(title: str) -> Progress:
    """Where nobody watches a bar: a line now and then."""
    last_s = time.monotonic()

    def update(done: int, total: int, note: str) -> None:
        nonlocal last_s
        if time.monotonic() - last_s >= LINE_EVERY_S:
            last_s = time.monotonic()
            print(f"{title}: {done}/{total} {note}", flush=True)

    return update
