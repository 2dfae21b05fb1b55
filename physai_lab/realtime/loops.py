"""The control loop beside two bare ones on one core at a time, and what their histograms say."""

from __future__ import annotations

import ctypes as C
import gc
import math
import os
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.values import ActionChunk, ChunkMode, ControlState
from physai_control.bare_loop import BARE_THREAD, CONTROL_PHASE, CONTROL_THREAD, BareLoop, bucket_edges_ns
from physai_control.core import ChunkRejected, ControlCore
from physai_control.structures import BUCKETS
from physai_lab.realtime.hogs import Hogs
from physai_lab.realtime.machine import ThreadUse, cpu_ticks, locked_bytes, scheduling_class, threads_named

BOUND = 1.1  # what the ratio of p99.9 is to stay below
BLOCK_S = 2.0
DRIFT = 0.997  # of the robot's rate
SHARES = {"p50": 0.5, "p99": 0.99, "p99_9": 0.999}
SCENARIOS = {
    "idle": "nothing else runs",
    "stalled": "Python holds its interpreter lock for 1 s, then collects garbage for 1 s, and so on",
    "load": "every core computes and copies memory, and one process writes to the disk",
}
ACTIVE = (ControlState.HOLD, ControlState.TRACK, ControlState.DEGRADED, ControlState.STOPPING)
DT_NS, STEPS = 50_000_000, 64  # chunks of 3.2 s: longer than a block, so a stalled Python is no missing chunk
SWING_RAD, SWING_S = 0.05, 4.0
RESAMPLES = 2000
FEWEST_BLOCKS = 5  # for an interval


def quantile_us(counts: np.ndarray, share: float) -> np.ndarray:
    """The duration (us) that `share` of the counts (..., BUCKETS) stay below, interpolated within its bucket."""
    edges = bucket_edges_ns()
    total = counts.sum(axis=-1, keepdims=True)
    below = np.cumsum(counts, axis=-1)
    bucket = np.argmax(below >= share * total, axis=-1)[..., None]
    inside = np.take_along_axis(counts, bucket, -1)
    before = np.take_along_axis(below, bucket, -1) - inside
    part = (share * total - before) / np.maximum(inside, 1)
    value = edges[bucket] + part * (edges[bucket + 1] - edges[bucket])
    return np.where(total > 0, value, np.nan)[..., 0] / 1e3


def max_us(counts: np.ndarray) -> float:
    """Upper edge (us) of the highest bucket in use; 0 without any."""
    used = np.flatnonzero(counts)
    return float(bucket_edges_ns()[used[-1] + 1] / 1e3) if len(used) else 0.0


def ratio_of_p99_9(ours: np.ndarray, theirs: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """p99.9 of one loop over that of another, and its 95 % interval, from counts per block (blocks, BUCKETS).

    The interval is (nan, nan) with fewer than FEWEST_BLOCKS blocks.
    """
    ratio = float(quantile_us(ours.sum(0), 0.999) / quantile_us(theirs.sum(0), 0.999))
    blocks = len(ours)
    if blocks < FEWEST_BLOCKS:
        return ratio, math.nan, math.nan
    drawn = np.random.default_rng(seed).multinomial(blocks, np.full(blocks, 1 / blocks), RESAMPLES)
    ratios = quantile_us(drawn @ ours, 0.999) / quantile_us(drawn @ theirs, 0.999)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return ratio, float(low), float(high)


def verdict(ratio: float, low: float, high: float) -> str:
    """What a ratio with its interval says about BOUND."""
    if high <= BOUND:
        return f"at most {BOUND:g}"
    if low > BOUND:
        return f"above {BOUND:g}"
    return f"{'below' if ratio <= BOUND else 'above'} {BOUND:g}, not certain: measure longer"


@dataclass(frozen=True)
class Snapshot:
    """What had been counted at one instant; the difference of two is a block."""

    time_s: float  # of the control loop's last cycle
    wake: np.ndarray  # (3, BUCKETS): the control loop, one bare loop, the other
    compute: np.ndarray  # (BUCKETS,)
    overruns: int
    cycles: int
    use: ThreadUse  # of the control loop
    bare_use: ThreadUse  # of one bare loop

    def __sub__(self, before: Snapshot) -> Snapshot:
        return Snapshot(
            self.time_s - before.time_s,
            self.wake - before.wake,
            self.compute - before.compute,
            self.overruns - before.overruns,
            self.cycles - before.cycles,
            self.use - before.use,
            self.bare_use - before.bare_use,
        )


class Loops:
    """The control loop on a loopback robot that follows a slow swing, and two bare loops beside it."""

    def __init__(self, embodiment: Embodiment) -> None:
        self.rate_hz = DRIFT * embodiment.control.rate_hz
        start = " ".join(f"{angle:.9g}" for angle in embodiment.home)
        self._embodiment = replace(
            embodiment,
            control=replace(embodiment.control, rate_hz=self.rate_hz),
            hardware=replace(embodiment.hardware, backend="loopback", options={"start": start}),
        )
        self._core = ControlCore(self._embodiment)
        self._bare: list[BareLoop] = []
        self._sequence = 0
        self._started_ns = 0
        self.stops = 0

    def __enter__(self) -> Loops:
        self._core.start()
        self._bare = [BareLoop(self.rate_hz, (CONTROL_PHASE + third / 3) % 1) for third in (1, 2)]
        self._core.activate()
        self._await()
        self._started_ns = self._core.status().stamp_ns
        self.feed()
        self._thread = threads_named(CONTROL_THREAD)[-1]
        self._bare_threads = threads_named(BARE_THREAD)[-2:]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for loop in self._bare:
            loop.close()
        self._core.close()

    def _await(self) -> None:
        """Until the arm holds or tracks."""
        for _ in range(1000):
            status = self._core.status()
            if status.state in ACTIVE:
                return
            time.sleep(0.01)
        raise PhysaiError(
            f"the control loop does not hold the loopback robot: it is in {status.state.name.lower()}, {status.cause}"
        )

    def feed(self) -> None:
        """Post the next seconds of the swing; a loop that has stopped the arm is reset first."""
        for _ in range(10):
            if self._core.status().state not in ACTIVE:
                self.stops += 1
                self._core.reset()
                self._await()
            try:
                self._core.post(self._swing(self._core.status().stamp_ns))
                return
            except ChunkRejected:
                if self._core.status().state in ACTIVE:
                    raise
        raise PhysaiError(f"the control loop stops the arm again and again: {self._core.status().cause}")

    def _swing(self, now_ns: int) -> ActionChunk:
        """The next seconds of a slow swing from the home position toward the middle of each joint's range."""
        times_s = (now_ns - self._started_ns + DT_NS * np.arange(STEPS)) / 1e9
        swing = SWING_RAD * (1 - np.cos(2 * np.pi * times_s / SWING_S)) / 2
        home, ends = self._embodiment.home, self._embodiment.end_effectors
        toward_middle = np.sign(
            (self._embodiment.limits("position_min") + self._embodiment.limits("position_max")) / 2 - home
        )
        self._sequence += 1
        return ActionChunk(
            self._sequence, "rt-check", now_ns, now_ns, DT_NS, ChunkMode.JOINT_POSITION, self._embodiment.joint_names,
            home + np.outer(swing, toward_middle), np.tile([end.gripper.opening_min for end in ends], (STEPS, 1)), 0.0, now_ns + STEPS * DT_NS,
            end_effectors=self._embodiment.end_effector_names,
        )  # fmt: skip

    def move_to(self, core: int) -> None:
        """Let the three threads run on one core alone."""
        for thread in (self._thread, *self._bare_threads):
            os.sched_setaffinity(thread, {core})

    def snapshot(self) -> Snapshot:
        """Everything counted since the start."""
        compute, wake = self._core.histograms()
        status = self._core.status()
        return Snapshot(
            status.stamp_ns * 1e-9,
            np.stack([wake, *(loop.histogram() for loop in self._bare)]),
            compute,
            status.overruns,
            status.cycles,
            ThreadUse.read(self._thread),
            ThreadUse.read(self._bare_threads[0]),
        )

    @property
    def scheduling(self) -> tuple[str, str]:
        """The kernel's scheduling class of the control loop and of a bare one."""
        return scheduling_class(self._thread), scheduling_class(self._bare_threads[0])

    @property
    def state(self) -> str:
        """The control loop's state now, with its cause unless it tracks."""
        status = self._core.status()
        name = status.state.name.lower()
        return name if status.state is ControlState.TRACK else f"{name}: {status.cause}"


def hold_interpreter(seconds: float) -> None:
    """Wait without letting go of the interpreter's lock: no other Python thread runs."""
    C.PyDLL(None).poll(None, C.c_ulong(0), C.c_int(round(1e3 * seconds)))


def collect_garbage(seconds: float) -> None:
    """Make and collect as much cyclic garbage as fits."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rings: list[list[Any]] = [[] for _ in range(50_000)]
        for ring in rings:
            ring.append(ring)
        del rings
        gc.collect()


def _stall(seconds: float) -> None:
    hold_interpreter(seconds / 2)
    collect_garbage(seconds / 2)


@dataclass
class LoopResult:
    """The blocks of one scenario and what the machine did meanwhile."""

    name: str
    rate_hz: float
    blocks: list[Snapshot] = field(default_factory=list)
    scheduling: tuple[str, str] = ("", "")
    locked: bool = False
    state: str = ""
    stops: int = 0  # of the arm, by the core, because its states stayed away too long
    busy: float = math.nan  # share of all cores' time that was not idle
    steal: float = math.nan  # share that a hypervisor took

    def wake(self) -> np.ndarray:
        """Counts (blocks, 3, BUCKETS)."""
        return np.array([block.wake for block in self.blocks]).reshape(-1, 3, BUCKETS)

    @property
    def cycles(self) -> int:
        """Of the control loop."""
        return sum(block.cycles for block in self.blocks)

    @property
    def overruns(self) -> int:
        """Cycles of the control loop that ended after the next one was due."""
        return sum(block.overruns for block in self.blocks)

    @property
    def skipped(self) -> int:
        """Deadlines of the control loop that passed without a cycle, because the one before came so late."""
        due = self.rate_hz * sum(block.time_s for block in self.blocks)
        return max(0, round(due) - self.cycles - len(self.blocks))  # a block's edges cut one off at most

    @property
    def uses(self) -> tuple[ThreadUse, ThreadUse]:
        """What the control loop's thread and a bare loop's have had of the machine."""
        return (
            sum((block.use for block in self.blocks), ThreadUse()),
            sum((block.bare_use for block in self.blocks), ThreadUse()),
        )

    def ratio(self) -> tuple[float, float, float]:
        """The control loop over both bare loops together."""
        wake = self.wake()
        return ratio_of_p99_9(wake[:, 0], wake[:, 1] + wake[:, 2])

    def control_ratio(self) -> tuple[float, float, float]:
        """One bare loop over the other: what the comparison can resolve."""
        wake = self.wake()
        return ratio_of_p99_9(wake[:, 1], wake[:, 2])

    def figures(self) -> dict[str, dict[str, float]]:
        """Quantiles and maximum, us, of the wake-up latencies and of the compute time."""
        wake = self.wake().sum(0)
        compute = sum((block.compute for block in self.blocks), np.zeros(BUCKETS, np.int64))
        series = {
            "loop": wake[0],
            "bare": wake[1] + wake[2],
            "bare_1": wake[1],
            "bare_2": wake[2],
            "compute": compute,
        }
        return {
            name: {
                "cycles": int(counts.sum()),
                **{key: float(quantile_us(counts, share)) for key, share in SHARES.items()},
                "max": max_us(counts),
            }
            for name, counts in series.items()
        }  # fmt: skip


def _cores() -> list[int]:
    """The cores to visit: those that this process may use, or the one that PHYSAI_LOOP_CPU names."""
    named = os.environ.get("PHYSAI_LOOP_CPU", "")
    if named and not (named.isascii() and named.isdigit()):
        raise PhysaiError(f"PHYSAI_LOOP_CPU must be the number of a core, e.g. 3, got {named!r}")
    return [int(named)] if named else sorted(os.sched_getaffinity(0))


def measure(embodiment: Embodiment, name: str, seconds: float, folder: Path) -> Iterator[LoopResult]:
    """Measure one scenario; yields the growing result after every block."""
    cores = _cores()
    hogs = Hogs(len(os.sched_getaffinity(0)), folder) if name == "load" else nullcontext()
    with hogs, Loops(embodiment) as loops:
        result = LoopResult(name, loops.rate_hz, scheduling=loops.scheduling, locked=locked_bytes() > 0)
        time.sleep(1.0)  # start-up is not what is measured
        ticks = cpu_ticks()
        for block in range(max(1, round(seconds / BLOCK_S))):
            loops.feed()
            loops.move_to(cores[block % len(cores)])
            time.sleep(0.02)
            before = loops.snapshot()
            _stall(BLOCK_S) if name == "stalled" else time.sleep(BLOCK_S)
            result.blocks.append(loops.snapshot() - before)
            result.state, result.stops = loops.state, loops.stops
            everything, idle, stolen = np.subtract(cpu_ticks(), ticks)
            result.busy, result.steal = 1 - idle / max(everything, 1), stolen / max(everything, 1)
            yield result
