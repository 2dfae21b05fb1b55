"""What test_pool.py runs in a process of its own, since spawned workers import the main program: prints one line a case."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

from physai_base.errors import PhysaiError
from physai_lab.faults.workers import Job, Workers
from physai_lab.pool import work_on


def fine(factor: int) -> None:
    os.environ["FACTOR"] = str(factor)


def refuse(text: str) -> None:
    raise PhysaiError(text)


def crash() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def broken() -> None:
    raise KeyError("nothing")


def times(job: int) -> int:
    return job * int(os.environ["FACTOR"])


def die(job: int) -> int:
    if job == 2:
        os.kill(os.getpid(), signal.SIGSEGV)
    return job


def endless(_: int) -> int:
    print(os.getpid(), flush=True)
    time.sleep(60)
    return 0


def main() -> None:
    if "endless" in sys.argv:
        list(work_on(range(1), endless, 1, fine, (1,)))
    answers = work_on(itertools.count(), times, 2, fine, (3,))
    print(list(itertools.islice(answers, 10)), flush=True)
    answers.close()
    print(len(multiprocessing.active_children()), "left", flush=True)
    for work, initializer, arguments in (
        (times, refuse, ("no bundle 'nonsense'",)),
        (times, broken, ()),
        (times, crash, ()),
        (die, fine, (1,)),
    ):
        try:
            print(list(work_on(range(100), work, 1, initializer, arguments)), flush=True)  # type: ignore[arg-type]
        except PhysaiError as error:
            print(error, flush=True)
    print(len(multiprocessing.active_children()), "left", flush=True)
    try:
        with Workers(Path("/nowhere.yaml"), 1) as workers:
            print(list(workers.run([Job("F1", seed) for seed in range(50)])))
    except PhysaiError as error:
        print(error)


if __name__ == "__main__":
    main()
