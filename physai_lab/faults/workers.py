"""Trials on several processes that may crash or hang: a mutant does what no shipped library may do."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import mujoco

from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.native import LibraryError
from physai_lab.faults.trial import TrialResult
from physai_lab.pool import WorkerError

PATIENCE_S = 120.0  # for one trial, before its process counts as hung


@dataclass(frozen=True)
class Job:
    """One trial."""

    fault: str
    seed: int


def _work(robot: Path, pipe: Connection) -> None:
    """A worker: one job after the other until None."""
    from physai_lab.faults.catalogue import FAULTS
    from physai_lab.faults.trial import World

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    mujoco.set_mju_user_warning(lambda message: None)  # a trial that diverges says so itself
    world: World | None = None
    while (job := pipe.recv()) is not None:
        result: TrialResult | PhysaiError
        try:
            world = world or World(Embodiment.load(robot))
        except Exception as error:  # no trial can begin: a campaign cannot go on
            reason = str(error) if isinstance(error, PhysaiError) else f"{type(error).__name__}: {error}"
            pipe.send(WorkerError(f"a worker process cannot begin: {reason}"))
            continue
        try:
            result = FAULTS[job.fault].run(world, job.seed)
        except LibraryError as error:  # says nothing of a guard: a campaign cannot go on with it
            result = error
        except Exception as error:
            result = _lost(job, f"{type(error).__name__}: {error}")
        pipe.send(result)


@contextmanager
def _environment(libraries: str) -> Iterator[None]:
    """What is started within has libphysai_trial in front of libc, and takes our libraries from that folder."""
    from physai_sim.inject import trial_library

    preloaded = filter(None, [str(trial_library()), os.environ.get("LD_PRELOAD")])
    values = {"LD_PRELOAD": " ".join(preloaded)} | ({"PHYSAI_LIB_DIR": libraries} if libraries else {})
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class _Worker:
    def __init__(self, robot: Path, libraries: str) -> None:
        context: Any = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(robot, theirs), daemon=False)
        with _environment(libraries):
            self.process.start()
        theirs.close()
        self.job: Job | None = None
        self.since_s = 0.0

    def give(self, job: Job) -> None:
        self.job, self.since_s = job, time.monotonic()
        with suppress(OSError):  # one that has died shows where its answer is awaited
            self.pipe.send(job)

    def hung(self) -> bool:
        return self.job is not None and time.monotonic() - self.since_s > PATIENCE_S

    def end(self, kill: bool) -> None:
        if kill:
            self.process.kill()
        else:
            with suppress(OSError):  # it may be gone already
                self.pipe.send(None)
        self.process.join()
        self.pipe.close()


def _lost(job: Job, why: str) -> TrialResult:
    return TrialResult(job.fault, job.seed, {}, (why,), True, "crashed", why, float("nan"))


class Workers:
    """A set of processes; use as a context, so that none is left behind."""

    def __init__(self, robot: Path, count: int, libraries: str = "") -> None:
        """`robot` is the embodiment file; `libraries` a folder to take ours from, the installed ones where empty."""
        self._start = lambda: _Worker(robot, libraries)
        self._workers = [self._start() for _ in range(count)]

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for worker in self._workers:
            worker.end(kill=kind is not None or worker.job is not None)

    def _replace(self, worker: _Worker) -> None:
        worker.end(kill=True)
        self._workers[self._workers.index(worker)] = self._start()

    def _collect(self, worker: _Worker) -> TrialResult:
        job = worker.job
        assert job is not None
        try:
            result: TrialResult | PhysaiError = worker.pipe.recv()
        except (EOFError, ConnectionResetError):
            worker.process.join()
            code = worker.process.exitcode or 0
            self._replace(worker)
            return _lost(job, f"the process died: {signal.Signals(-code).name if code < 0 else code}")
        worker.job = None
        if isinstance(result, PhysaiError):
            raise result
        return result

    def run(
        self, jobs: Iterable[Job], enough: Callable[[Job], bool] = lambda job: False
    ) -> Iterator[tuple[Job, TrialResult]]:
        """Results as they come; a job for which `enough` says so when its turn comes is left out.

        Raises:
            PhysaiError: the libraries cannot be loaded, or a worker cannot begin otherwise.
        """
        waiting = iter(jobs)
        exhausted = False
        while True:
            for worker in self._workers:
                while worker.job is None and not exhausted:
                    job = next(waiting, None)
                    if job is None:
                        exhausted = True
                    elif not enough(job):
                        worker.give(job)
            busy = {w.pipe: w for w in self._workers if w.job is not None}
            if not busy:
                return
            for pipe in wait(list(busy), timeout=1.0):
                worker = busy[pipe]  # type: ignore[index]
                finished = worker.job
                assert finished is not None
                yield finished, self._collect(worker)
            for worker in busy.values():
                if worker.hung():
                    late = worker.job
                    assert late is not None
                    self._replace(worker)
                    yield late, _lost(late, f"no end after {PATIENCE_S:.0f} s")
