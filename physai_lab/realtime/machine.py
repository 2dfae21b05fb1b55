"""What a machine offers a real-time loop, read from /proc and /sys, and what to do about what it lacks."""

from __future__ import annotations

import os
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LIMITS_LINES = ("@realtime - rtprio 90", "@realtime - memlock unlimited")


@dataclass(frozen=True)
class Machine:
    """The settings that decide how late a thread wakes."""

    kernel: str
    cores: int
    preempt_rt: bool
    virtual: bool
    jetson: bool
    governors: tuple[str, ...]  # of the cores; empty where the frequency is not the kernel's to choose
    clocks_vary: bool  # the lowest allowed frequency is below the highest
    idle_exit_us: float  # of the deepest idle state that is enabled, 0 if unknown
    isolated: str  # cores taken from the scheduler, e.g. "3" or "2-3"
    nohz_full: str
    rt_share: float  # of every second that real-time threads may use; 1: no bound
    unevictable_moved: bool  # the kernel may move locked pages, which costs a page fault
    rtprio_limit: int  # highest real-time priority that this user may ask for
    memlock_limit: int  # bytes, -1 unlimited

    @staticmethod
    def read(root: Path = Path("/")) -> Machine:
        """What is found under `root`; what cannot be read counts as absent."""

        def text(path: str) -> str:
            try:
                return (root / path).read_text().strip()
            except OSError:
                return ""

        def number(path: str, default: int) -> int:
            value = text(path)
            return int(value) if value.lstrip("-").isdigit() else default

        def texts(pattern: str) -> list[str]:
            return [text(str(path.relative_to(root))) for path in sorted(root.glob(pattern))]

        cpu = "sys/devices/system/cpu"
        runtime = number("proc/sys/kernel/sched_rt_runtime_us", -1)
        period = number("proc/sys/kernel/sched_rt_period_us", 1_000_000)
        idle = [
            number(f"{path.relative_to(root)}/latency", 0)
            for path in sorted(root.glob(f"{cpu}/cpu0/cpuidle/state*"))
            if number(f"{path.relative_to(root)}/disable", 0) == 0
        ]
        lows = texts(f"{cpu}/cpu[0-9]*/cpufreq/scaling_min_freq")
        highs = texts(f"{cpu}/cpu[0-9]*/cpufreq/scaling_max_freq")
        release, version = text("proc/sys/kernel/osrelease"), text("proc/sys/kernel/version")
        return Machine(
            kernel=f"{release} {version}".strip(),
            cores=text("proc/cpuinfo").count("processor\t:"),
            preempt_rt=text("sys/kernel/realtime") == "1" or "PREEMPT_RT" in version,
            virtual=" hypervisor" in text("proc/cpuinfo") or bool(text("sys/hypervisor/type")),
            jetson=(root / "etc/nv_tegra_release").is_file(),
            governors=tuple(texts(f"{cpu}/cpu[0-9]*/cpufreq/scaling_governor")),
            clocks_vary=lows != highs,
            idle_exit_us=float(max(idle, default=0)),
            isolated=text(f"{cpu}/isolated"),
            nohz_full=text(f"{cpu}/nohz_full").replace("(null)", ""),
            rt_share=1.0 if runtime < 0 else runtime / period,
            unevictable_moved=number("proc/sys/vm/compact_unevictable_allowed", 0) == 1,
            rtprio_limit=resource.getrlimit(resource.RLIMIT_RTPRIO)[0],
            memlock_limit=resource.getrlimit(resource.RLIMIT_MEMLOCK)[0],
        )


@dataclass(frozen=True)
class ThreadUse:
    """What a thread has had of the machine since it started."""

    minor_faults: int = 0
    major_faults: int = 0
    waits: int = 0  # gave the core up by itself: one for each cycle
    preemptions: int = 0  # had the core taken away
    cpu_s: float = 0.0
    runnable_s: float = 0.0  # ready to run but without a core

    @staticmethod
    def read(thread: int) -> ThreadUse:
        """Of a thread of this process, by its kernel id; nothing runs in the thread for it (see proc(5))."""
        task = Path(f"/proc/self/task/{thread}")
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        status = dict(
            line.split(":", 1) for line in (task / "status").read_text().splitlines() if ":" in line
        )
        try:
            on_cpu_ns, waited_ns, _ = map(int, (task / "schedstat").read_text().split())
        except OSError:
            on_cpu_ns, waited_ns = 0, 0
        return ThreadUse(
            minor_faults=int(fields[7]),
            major_faults=int(fields[9]),
            waits=int(status["voluntary_ctxt_switches"]),
            preemptions=int(status["nonvoluntary_ctxt_switches"]),
            cpu_s=on_cpu_ns / 1e9,
            runnable_s=waited_ns / 1e9,
        )

    def __add__(self, other: ThreadUse) -> ThreadUse:
        return ThreadUse(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def __sub__(self, other: ThreadUse) -> ThreadUse:
        return ThreadUse(*(a - b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    @property
    def faults(self) -> int:
        """Page faults of both kinds."""
        return self.minor_faults + self.major_faults


def threads_named(name: str) -> list[int]:
    """Kernel ids of this process's threads of that name, oldest first."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        try:
            if (task / "comm").read_text().strip() == name:
                found.append(int(task.name))
        except OSError:
            continue  # it has just ended
    return sorted(found)


def scheduling_class(thread: int) -> str:
    """E.g. "SCHED_FIFO 80", as the kernel has it."""
    names = {os.SCHED_OTHER: "SCHED_OTHER", os.SCHED_FIFO: "SCHED_FIFO", os.SCHED_RR: "SCHED_RR"}
    policy = os.sched_getscheduler(thread) & ~os.SCHED_RESET_ON_FORK
    priority = os.sched_getparam(thread).sched_priority
    return names.get(policy, f"policy {policy}") + (f" {priority}" if priority else "")


def locked_bytes() -> int:
    """How much of this process's memory cannot be paged out."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("VmLck:"))


def cpu_ticks() -> tuple[int, int, int]:
    """Ticks of all cores since boot: all, idle, and stolen by a hypervisor (proc(5), /proc/stat)."""
    values = [int(value) for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(values), values[3] + values[4], values[7]


@dataclass(frozen=True)
class Loop:
    """What was found of the loop itself."""

    scheduling: str
    locked: bool
    faults: int
    rt_use: float  # share of a core that it takes
    overruns: int
    cycles: int
    steal: float  # share of the cores' time that a hypervisor took during the run


@dataclass(frozen=True)
class Advice:
    """One finding and what to do about it."""

    found: str
    remedy: str


def advise(machine: Machine, loop: Loop) -> list[Advice]:
    """What is worth changing, the most useful first."""
    return [advice for rule in _RULES if (advice := rule(machine, loop))]


def _scheduling(machine: Machine, loop: Loop) -> Advice | None:
    if loop.scheduling.startswith("SCHED_FIFO") and loop.locked:
        return None
    missing = [] if loop.scheduling.startswith("SCHED_FIFO") else [f"runs under {loop.scheduling}"]
    missing += [] if loop.locked else ["has memory that can be paged out"]
    limit = "unlimited" if machine.memlock_limit < 0 else f"{machine.memlock_limit} bytes"
    return Advice(
        f"the loop {' and '.join(missing)}: rtprio is limited to {machine.rtprio_limit}, memlock to {limit}",
        f"write `{LIMITS_LINES[0]}` and `{LIMITS_LINES[1]}` to /etc/security/limits.d/physai.conf, then "
        "`sudo groupadd -f realtime && sudo usermod -aG realtime $USER` and log in again; in a container: "
        "--cap-add=SYS_NICE --ulimit rtprio=90 --ulimit memlock=-1",
    )


def _kernel(machine: Machine, loop: Loop) -> Advice | None:
    if machine.preempt_rt:
        return None
    if machine.jetson:
        how = (
            "install nvidia-l4t-rt-kernel and its companions (Jetson Linux developer guide, Real-Time Kernel)"
        )
    else:
        how = "Debian: `apt install linux-image-rt-amd64`; Ubuntu: `pro enable realtime-kernel`; else build with CONFIG_PREEMPT_RT=y"
    return Advice("the kernel is not PREEMPT_RT: its own work can hold a core for milliseconds", how)


def _virtual(machine: Machine, loop: Loop) -> Advice | None:
    if not machine.virtual:
        return None
    return Advice(
        f"this is a virtual machine and its host took {loop.steal:.1%} of the cores' time (steal) during the run",
        "no setting in here bounds how long that lasts; drive a robot from real cores, or from a guest whose "
        "virtual cores are pinned to isolated ones",
    )


def _frequency(machine: Machine, loop: Loop) -> Advice | None:
    if machine.jetson and (machine.clocks_vary or any(g != "performance" for g in machine.governors)):
        return Advice(
            "this Jetson lowers its clocks when it is idle",
            "`sudo nvpmodel -m 0` (the mode without a power limit on most modules; `nvpmodel -q` names it), then `sudo jetson_clocks`",
        )
    slow = sorted({governor for governor in machine.governors if governor != "performance"})
    if not slow:
        return None
    return Advice(
        f"the frequency governor is {', '.join(slow)}: a core that slept wakes slow",
        "`sudo cpupower frequency-set -g performance`",
    )


def _idle_states(machine: Machine, loop: Loop) -> Advice | None:
    if machine.idle_exit_us <= 20:
        return None
    return Advice(
        f"an idle core may sleep so deep that it takes {machine.idle_exit_us:g} us to wake",
        "`sudo cpupower idle-set -D 10`, which disables idle states that take longer than 10 us",
    )


def _isolation(machine: Machine, loop: Loop) -> Advice | None:
    if machine.cores < 3 or machine.virtual:
        return None  # a core less would cost the rest of the stack more than the loop gains
    core = machine.cores - 1
    if not machine.isolated:
        return Advice(
            "no core is kept for the loop alone (isolcpus, nohz_full)",
            f"kernel command line: isolcpus=managed_irq,domain,{core} nohz_full={core} rcu_nocbs={core} "
            f"irqaffinity=0-{core - 1}; then set PHYSAI_LOOP_CPU={core} for whatever starts physai",
        )
    if not os.environ.get("PHYSAI_LOOP_CPU"):
        return Advice(
            f"core {machine.isolated} is isolated but the loop does not run there",
            f"set PHYSAI_LOOP_CPU to a core of {machine.isolated} for whatever starts physai",
        )
    return None


def _throttling(machine: Machine, loop: Loop) -> Advice | None:
    if loop.rt_use < 0.5 * machine.rt_share:
        return None
    return Advice(
        f"the loop takes {loop.rt_use:.0%} of a core and the kernel stops real-time threads at {machine.rt_share:.0%}",
        "lower rate_hz in the embodiment file; raising kernel.sched_rt_runtime_us would take away what keeps a "
        "runaway thread from locking the machine up",
    )


def _faults(machine: Machine, loop: Loop) -> Advice | None:
    if not loop.faults:
        return None
    moved = machine.unevictable_moved
    return Advice(
        f"the loop took {loop.faults} page faults",
        (
            "`sudo sysctl vm.compact_unevictable_allowed=0`: the kernel moves locked pages now; and "
            if moved
            else ""
        )
        + "start no other program (fork) from the process that hosts the loop",
    )


def _overruns(machine: Machine, loop: Loop) -> Advice | None:
    if not loop.overruns:
        return None
    return Advice(
        f"{loop.overruns} of {loop.cycles} cycles ended after the next one was due",
        "the core skips what it missed and stops the arm when states stay away too long (state_timeout_s), but a "
        "robot that expects a command every period will complain: follow the advice above until this is 0",
    )


_RULES = (
    _scheduling,
    _kernel,
    _virtual,
    _frequency,
    _idle_states,
    _isolation,
    _throttling,
    _faults,
    _overruns,
)


def describe(machine: Machine) -> Sequence[tuple[str, str]]:
    """Lines for people: what was found."""
    governors = ", ".join(sorted(set(machine.governors))) or "not the kernel's to choose"
    limit = "unlimited" if machine.memlock_limit < 0 else f"{machine.memlock_limit} bytes"
    return (
        ("kernel", machine.kernel),
        ("preemption", "PREEMPT_RT" if machine.preempt_rt else "not PREEMPT_RT"),
        ("cores", f"{machine.cores}{', virtual machine' if machine.virtual else ''}{', Jetson' if machine.jetson else ''}"),
        ("isolated cores", f"{machine.isolated or 'none'}, nohz_full {machine.nohz_full or 'none'}"),
        ("frequency governor", governors),
        ("real-time share", f"{machine.rt_share:.0%} of every second"),
        ("limits", f"rtprio {machine.rtprio_limit}, memlock {limit}"),
    )  # fmt: skip
