"""Work on several processes that ends with one line when a process cannot begin or dies, instead of never.

multiprocessing.Pool starts a worker whose initializer raises again and again and gives no answer.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, TypeVar

from physai_base.errors import PhysaiError

J = TypeVar("J")
R = TypeVar("R")
AHEAD = 4  # jobs that are handed out before they are due, of each worker


class WorkerError(PhysaiError):
    """A worker process could not begin, or it died."""


_refusal: BaseException | None = None


def _begin(initializer: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    """Why a worker cannot begin is the answer to its first job."""
    global _refusal
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    try:
        initializer(*arguments)
    except Exception as error:
        _refusal = error


def _end_with_parent() -> None:
    """Whoever killed the parent (out of memory, kill -9) wants no process of it to wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(work: Callable[[Any], Any], job: Any) -> Any:
    if _refusal is None:
        return work(job)
    if isinstance(_refusal, PhysaiError):
        raise _refusal
    raise WorkerError(f"a worker process cannot begin: {type(_refusal).__name__}: {_refusal}")


def work_on(
    jobs: Iterable[J],
    work: Callable[[J], R],
    workers: int,
    initializer: Callable[..., object],
    arguments: tuple[Any, ...] = (),
) -> Generator[R, None, None]:
    """What `work` returns for each job, in order; `initializer(*arguments)` runs first in each process.

    Leaving it early (a break, Ctrl-C, an error) ends the processes at once; `jobs` may be endless. The processes are
    spawned: each needs its own OpenGL context and libraries.

    Raises:
        PhysaiError: what the initializer or a job raised of that kind; or a WorkerError: the process died, or the
            initializer failed otherwise.
    """
    if workers < 1:
        raise WorkerError(f"at least one worker process is needed, got {workers}")
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _begin, (initializer, arguments))
    waiting: deque[Future[R]] = deque()
    source = iter(jobs)
    try:
        while True:
            for job in islice(source, max(0, AHEAD * workers - len(waiting))):
                waiting.append(pool.submit(_do, work, job))
            if not waiting:
                return
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise WorkerError(
            "a worker process died; out of memory? `dmesg` tells, and fewer workers need less (--workers)"
        ) from None
    finally:
        for process in list((pool._processes or {}).values()):
            process.kill()
        pool.shutdown(wait=True, cancel_futures=True)  # joins them, also those of a pool that broke by itself
