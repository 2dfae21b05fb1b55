"""The faults of processes and of the machine: killed, stopped and stalled ones, hogs, a full disk, what the cycle calls."""

from __future__ import annotations

import ctypes as C
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from pathlib import Path
from typing import IO

import mujoco
import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.robot_model import load_robot
from physai_lab.faults.envelope import judge, restart, rows_of_a_cycle
from physai_lab.faults.fault import FAULTS, Check, Fault, run_scenario, simulated
from physai_lab.faults.mutants import source_root
from physai_lab.faults.trial import LATCHED, Trial, TrialResult, World
from physai_lab.realtime.hogs import Hogs
from physai_lab.realtime.loops import Loops
from physai_sim.inject import Event, FaultKind
from physai_sim.plant import LOG_SIZE, Gate, Plant, PlantLog

ANSWER_S = 30.0  # for a process to say what it must; simulated time goes on meanwhile
GRACE_S = 0.5  # wall time: more than a busy machine takes the loop away, less than Python is made to stall
HOGGED_S = 3.0
CONFINED_MS = 1500


def _plain_environment() -> dict[str, str]:
    """This process's, without what is preloaded into it for trials."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


class PlantProcess:
    """A plant behind shared memory and a controller in a process of its own."""

    def __init__(
        self,
        embodiment: Embodiment,
        name: str,
        model: mujoco.MjModel | None = None,
        real_time_factor: float = 0.0,
    ) -> None:
        """`name` is that of the shared memory; `model` the robot's own unless given; as fast as possible with factor 0."""
        self.name, self.embodiment = name, embodiment
        self.model = model or copy(load_robot(embodiment).model)  # a plant changes it
        self.data = mujoco.MjData(self.model)
        hands = embodiment.finger_positions(embodiment.openings_at(0.0))
        load_robot(embodiment).put(self.data, embodiment.home, hands)
        self.plant = Plant(
            self.model,
            self.data,
            embodiment,
            shm_name=name,
            real_time_factor=real_time_factor,
            grace_s=GRACE_S,
        )
        self.process: subprocess.Popen[bytes] | None = None
        self.heard = ""

    def start(self, folder: str = "") -> None:
        """Start the controller, which records stops in `folder`."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "physai_lab.faults.controller", str(self.embodiment.path.absolute()), self.name, folder],
            # Not in the working directory: in a checkout, the sources there have no compiled libraries.
            cwd=os.sep, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
        self.heard = ""

    @property
    def controller(self) -> subprocess.Popen[bytes]:
        """The process, once started."""
        assert self.process is not None
        return self.process

    def order(self, word: str = "") -> None:
        """Tell the controller something."""
        stdin: IO[bytes] | None = self.controller.stdin
        assert stdin is not None
        stdin.write(f"{word}\n".encode())
        stdin.flush()

    def run_until(self, done: Callable[[], bool], timeout_s: float = ANSWER_S) -> None:
        """Let simulated time go on.

        Raises:
            TimeoutError: it was not done.
        """
        end = time.monotonic() + timeout_s
        while not done():
            if time.monotonic() > end:
                raise TimeoutError(f"not within {timeout_s:g} s; the controller has said: {self.heard!r}")
            self.plant.run(5)

    def run_until_said(self, words: str) -> None:
        """Until the controller has said this since the last such wait.

        Raises:
            PhysaiError: it has ended without.
            TimeoutError: it does not say so.
        """

        def said() -> bool:
            assert self.controller.stdout is not None
            ended = self.controller.poll() is not None
            self.heard += (self.controller.stdout.read() or b"").decode()
            if ended and words not in self.heard:
                log = self.controller.communicate()[1].decode().strip()
                raise PhysaiError(f"the controller has ended before it said {words!r}: {log[-500:]}")
            return words in self.heard

        self.run_until(said)
        self.heard = self.heard.split(words, 1)[1]

    def read_log(self) -> bool:
        """Drain what the controller has written to stderr; true."""
        assert self.controller.stderr is not None
        self.controller.stderr.read()
        return True

    def move(self, folder: str = "") -> None:
        """Start the controller and wait until it drives the arm at speed."""
        self.start(folder)
        self.run_until_said("moving")
        self.run_until(lambda: bool(np.abs(self.plant.log(1).velocity).max() > 0.15))

    def close(self) -> None:
        """End the process and free the plant."""
        if self.process:
            with suppress(ProcessLookupError):
                self.process.kill()
            self.process.communicate()
        self.plant.close()


class ProcessTrial:
    """One trial on a `PlantProcess`; not repeatable to the bit, since a real process takes its time."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.seed = world, seed
        self.rng = np.random.default_rng([seed, 1])
        self.cell = PlantProcess(world.embodiment, f"physai_fault_{os.getpid()}_{seed}", world.model, 1.0)
        self.failures: list[str] = []
        self.since = 0  # step of the fault
        self.reset_tick: int | None = None
        self.restart: np.ndarray | None = None

    @property
    def tick(self) -> int:
        """Steps so far."""
        return round(self.cell.data.time * 1000)

    def begin(self, folder: str = "") -> None:
        """Move for a while; the fault comes next."""
        self.cell.move(folder)
        self.cell.plant.run(int(self.rng.integers(1, 400)))
        self.since = self.tick

    def expect(self, holds: bool, why: str) -> None:
        """Fail with `why` unless it holds."""
        if not holds:
            self.failures.append(why)

    def reset(self) -> None:
        """Reset gate and controller, which must then hold."""
        self.reset_tick = self.tick
        if self.cell.plant.gate in (Gate.DAMPING, Gate.LATCHED):
            self.cell.plant.reset()
        self.cell.order()
        self.cell.run_until_said("holding again")
        self.cell.plant.run(500)
        self.restart = self.cell.plant.log(self.tick - self.reset_tick).position

    def log(self) -> PlantLog:
        """The truth from the fault on; row k is the step k ms after it."""
        return self.cell.plant.log(self.tick - self.since)

    def answered(self) -> bool:
        """Whether no command has been missed since the fault."""
        return bool(np.isin(self.log().gate, (Gate.DRIVEN, Gate.BRAKED)).all())

    def rests(self) -> bool:
        """Whether the arm stands now."""
        return bool(np.abs(self.cell.plant.log(20).velocity).max() < 0.01)

    def judge(self, fault: str) -> TrialResult:
        """The envelope on the plant's log and what was expected."""
        log = self.log()
        self.expect(len(log.time_s) < LOG_SIZE, "the trial is longer than the log")
        reset_row = None if self.reset_tick is None else self.reset_tick - self.since
        terms = judge(log, self.world.embodiment, self.world.tool, reset_row)
        if self.restart is not None:
            moved = restart(self.restart, self.world.tool)
            terms[moved.name] = moved
        broken = [f"{t.name}: {t.value:.4g}, at most {t.bound:.4g}" for t in terms.values() if not t.holds]
        latched = np.flatnonzero(log.gate >= Gate.DAMPING)
        return TrialResult(
            fault, self.seed, terms, tuple(broken + self.failures), bool(broken),
            self.cell.plant.gate.name.lower(), "", float(latched[0]) if len(latched) else float("nan"),
        )  # fmt: skip


ProcessScenario = Callable[[ProcessTrial], None]


def with_process(
    id: str, title: str, passes: str, breaks_without_guards: bool = True
) -> Callable[[ProcessScenario], ProcessScenario]:
    """Register a scenario with a controller process as the fault `id`; its docstring says how it is produced."""

    def register(scenario: ProcessScenario) -> ProcessScenario:
        def run(world: World, seed: int) -> TrialResult:
            trial = ProcessTrial(world, seed)
            try:
                scenario(trial)
                return trial.judge(id)
            finally:
                trial.cell.close()

        FAULTS[id] = Fault(
            id, title, " ".join((scenario.__doc__ or "").split()), passes, run, breaks_without_guards, real_time=True
        )  # fmt: skip
        return scenario

    return register


# ---- F13: a machine that is busy ----

LATE_ONCE_MS = 6  # a gap from which on the gains are lowered, at 1 kHz
BURSTS = 7


def _simulated_hog(trial: Trial) -> Check:
    rng = trial.rng
    at_s, longest, unanswered = trial.onset_s, 0, 0
    for _ in range(BURSTS):
        ms = int(np.clip(np.round(rng.pareto(1.1) + 1), 1, 60))
        trial.inject(Event(FaultKind.STATE_LOSS, round(at_s, 3), ms / 1000, 1.0))
        unanswered = max(unanswered, trial.unanswered_ms(ms, round(at_s * 1000)))
        at_s += ms / 1000 + 0.001 * float(rng.integers(2, 120))
        longest = max(longest, ms)

    def check() -> None:
        missed, withheld = int(trial.said.missed_states[-1]), int(trial.said.withheld[-1])
        trial.expect(missed == withheld, f"{missed} missed states counted, it was {withheld}")
        latched = trial.final_state in LATCHED
        trial.expect(
            latched == (unanswered >= 20), f"{longest} ms at most ended in {trial.final_state.name.lower()}"
        )
        lowered = bool(np.isin(trial.said.state[trial.onset :], 3).any())
        late = LATE_ONCE_MS * rows_of_a_cycle(trial.embodiment)
        trial.expect(lowered or latched or longest < late, f"{longest} ms did not lower the gains")

    return check


def _real_hogs(world: World, seed: int) -> TrialResult:
    """The real-time thread on a loopback robot while every core, the memory and the disk are kept busy."""
    failures: list[str] = []
    cores = len(os.sched_getaffinity(0))
    with (
        tempfile.TemporaryDirectory() as folder,
        Hogs(cores, Path(folder)) as hogs,
        Loops(world.embodiment) as loops,
    ):
        before = loops.snapshot()
        end = time.monotonic() + HOGGED_S
        while time.monotonic() < end:
            loops.feed()
            time.sleep(0.5)
        block = loops.snapshot() - before
        if hogs.alive < 2 * cores + 1:
            failures.append("the hogs ended early")
    due = block.time_s * loops.rate_hz
    if block.cycles > due + 2:
        failures.append(f"{block.cycles} cycles where {due:.0f} were due: it catches up in a burst")
    if block.cycles < due - 3 and block.overruns == 0:
        failures.append(f"{due - block.cycles:.0f} cycles are missing and no overrun was counted")
    return TrialResult("F13", seed, {}, tuple(failures), False, "track", "", float("nan"))


def _busy(world: World, seed: int) -> TrialResult:
    if seed % 100 == 0:
        return _real_hogs(world, seed)
    return run_scenario(world, seed, "F13", _simulated_hog)


FAULTS["F13"] = Fault(
    "F13", "the machine is busy",
    "Gaps of 1 to 60 ms in what reaches the controller, seven of them with a heavy tail, as hogs make them; one trial in a "
    "hundred runs the real-time thread beside real hogs of every core, the memory and the disk. Load by interrupts cannot be made "
    "without a device.",
    "every missed state and overrun counted; from 6 ms with lower gains, from 20 ms on a stop; no burst that catches up", _busy,
)  # fmt: skip


# ---- F14, F15, F26: the controller's process ----


def _stops_at_the_gate(trial: ProcessTrial, gate_ms: int) -> None:
    log = trial.log()
    missed = np.flatnonzero(log.gate != Gate.DRIVEN)
    trial.expect(len(missed) > 0, "no missing command was noticed")
    if not len(missed):
        return
    first = int(missed[0])
    latched = np.flatnonzero(log.gate[first:] >= Gate.DAMPING)
    trial.expect(
        len(latched) > 0 and latched[0] <= gate_ms, f"the gate did not close within {gate_ms} missed commands"
    )
    speed = np.abs(log.velocity[first:]).max(axis=1)
    trial.expect(bool(speed.max() < speed[0] + 0.1), "the arm sped up")
    trial.expect(
        bool(speed[60:].max(initial=0.0) < 0.01), "not at rest 60 ms after the first missing command"
    )


@with_process(
    "F14",
    "the controller dies or hangs",
    "the robot's gate closes at the first missing command of a dead process and at the 20th of one that hangs or is still "
    "dying, at rest 60 ms later; what comes back moves nothing until gate and controller are reset",
)
def controller_dies(trial: ProcessTrial) -> None:
    """SIGKILL, or SIGSTOP and later SIGCONT, to the process of the control core while it drives the arm."""
    killed = trial.rng.random() < 0.5
    dead = (
        killed and trial.rng.random() < 0.5
    )  # before the next cycle; else the kernel takes its time with it
    trial.begin()
    trial.cell.controller.send_signal(signal.SIGKILL if killed else signal.SIGSTOP)
    if dead:
        os.waitid(os.P_PID, trial.cell.controller.pid, os.WEXITED | os.WNOWAIT)
    trial.cell.plant.run(300)
    _stops_at_the_gate(trial, 1 if dead else 20)
    stood = trial.cell.plant.log(1).position[0]
    if killed:
        trial.cell.controller.communicate()
        trial.cell.start()
    else:
        trial.cell.controller.send_signal(signal.SIGCONT)
    trial.cell.run_until_said("fault: the robot's own gate")
    trial.cell.plant.run(300)
    trial.expect(trial.cell.plant.gate is Gate.LATCHED, "it went on by itself")
    moved = np.abs(trial.cell.plant.log(300).position - stood).max()
    trial.expect(bool(moved < 1e-3), f"the arm moved by {moved:.2g} rad on its brakes")
    trial.reset()


@with_process(
    "F15",
    "Python stalls",
    "no state goes unanswered; an arm whose chunk ends meanwhile comes to rest and goes on with the next",
    breaks_without_guards=False,
)
def python_stalls(trial: ProcessTrial) -> None:
    """The interpreter's lock is held for a second in the controller's process. `physai rt-check` has its jitter meanwhile."""
    trial.begin()
    trial.cell.order("stall")
    trial.cell.run_until_said("stalled")
    stalled = trial.tick - trial.since
    rested = np.abs(trial.log().velocity).max(axis=1) < 0.01
    trial.expect(stalled < 1500 or bool(rested.any()), "no chunk came, and the arm did not come to rest")
    trial.cell.run_until(lambda: not trial.rests())
    trial.expect(trial.answered(), "a state was not answered")


SMALL_BYTES = 4096


@contextmanager
def _full_disk() -> Iterator[tuple[str, bool]]:
    """A folder on a file system without room; false where none can be mounted."""
    with tempfile.TemporaryDirectory() as folder:
        mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder]
        if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            yield folder, False
            return
        try:
            with suppress(OSError), (Path(folder) / "filler").open("wb", buffering=0) as filler:
                while filler.write(bytes(4096)):
                    pass
            yield folder, True
        finally:
            subprocess.run(["umount", folder], check=True)


@with_process(
    "F26",
    "disk full, log flooded",
    "no state goes unanswered; a stop that cannot be recorded is one as any other and can be reset",
    breaks_without_guards=False,
)
def disk_full(trial: ProcessTrial) -> None:
    """A stop is to be recorded on a full disk (a full tmpfs, or a limit of file sizes where none can be mounted); a log that
    nobody reads. Steps of the wall clock are F8; changing the machine's clock source or suspending it would disturb others.
    """
    if trial.rng.random() < 0.5:
        with _full_disk() as (folder, full):
            trial.begin(folder)
            if not full:
                resource.prlimit(trial.cell.controller.pid, resource.RLIMIT_FSIZE, (SMALL_BYTES, SMALL_BYTES))
            trial.cell.order("estop")
            trial.cell.run_until_said("estop: emergency stop")
            trial.cell.run_until_said("not recorded")
            trial.reset()
    else:
        trial.begin()
        trial.cell.order("flood")
        trial.cell.plant.run(2500)
        trial.expect(trial.rests(), "no chunk came, and the arm did not come to rest")
        trial.cell.run_until(lambda: trial.cell.read_log() and not trial.rests())
    trial.expect(trial.answered(), "a state was not answered")


# ---- F16 and F17: what the cycle is made of ----

MODEL = "physai_control/core/test/model_control_mailbox"
BUILDS = ("c-sanitized", "c-check")


def _built(name: str) -> Path | None:
    with suppress(PhysaiError):
        for build in BUILDS:
            path = source_root(None) / "build" / build / name
            if path.is_file():
                return path
    return None


def _interleavings(world: World, seed: int) -> TrialResult:
    program = _built(MODEL)
    assert program is not None
    done = subprocess.run(
        [str(program)], capture_output=True, text=True, check=False, env=_plain_environment()
    )
    failures = () if done.returncode == 0 else (f"{program.name}: {(done.stdout + done.stderr)[-300:]}",)
    return TrialResult("F16", seed, {}, failures, False, "done", "", float("nan"))


FAULTS["F16"] = Fault(
    "F16", "exchange torn or raced",
    "Every interleaving of a mailbox's two sides by model_control_mailbox; `make test-threads` has the swaps under ThreadSanitizer.",
    "no torn, lost or doubled value; a fixed number of steps whatever the other side does", _interleavings,
    breaks_without_guards=False, most=1,
    impossible=lambda: "" if _built(MODEL) else "model_control_mailbox is not built; run `make test-c` in a checkout",
)  # fmt: skip


def _confined(trial: Trial) -> str:
    """Go on in a copy of this process that the kernel ends at any system call; what was wrong with it."""
    library = trial.plant._library
    own = C.CDLL(None)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        own.physai_trial_confine(library.physai_plant_run, trial.plant._handle, CONFINED_MS, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "a system call within the cycle"
    steps = int.from_bytes(said, sys.byteorder, signed=True)
    return "" if steps == CONFINED_MS else f"{steps} steps of {CONFINED_MS} came back"


@simulated(
    "F17",
    "the cycle allocates, locks or calls the system",
    "none of these in any cycle, with and without a fault",
    breaks_without_guards=False,
)
def cycle_calls(trial: Trial) -> Check:
    """Allocations and locks are counted in every cycle; 1.5 s with a gap, a spike or a stop run where the kernel forbids system calls."""
    kind = int(trial.rng.integers(4))
    events = (
        Event(FaultKind.STATE_LOSS, trial.onset_s + 0.1, 0.008, 1.0),
        Event(FaultKind.OFFSET, trial.onset_s + 0.1, 0.1, 0.3),
        Event(FaultKind.CLOCK, trial.onset_s + 0.1, 0.1, 0.5),
        Event(FaultKind.FLAG, trial.onset_s + 0.1, 0.1, 2),
    )
    trial.inject(events[kind])
    trial.end_of_fault_s = trial.onset_s + 0.5
    wrong: list[str] = []
    trial.at(trial.onset_s, lambda: wrong.append(_confined(trial)))

    def check() -> None:
        trial.expect(not wrong[0], wrong[0])
        most = int(trial.said.allocations.max())
        trial.expect(most == 0, f"{most} allocations or locks in a cycle")

    return check
