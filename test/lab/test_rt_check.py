"""`physai rt-check`: its statistics, its advice, what it does beside the loops, and one short run of all of it."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_control.bare_loop import BareLoop, bucket_edges_ns
from physai_control.core import ControlError
from physai_control.structures import BUCKETS
from physai_lab.realtime import loops, rt_check
from physai_lab.realtime.hogs import Hogs
from physai_lab.realtime.loops import max_us, quantile_us, ratio_of_p99_9, verdict
from physai_lab.realtime.machine import Loop, Machine, ThreadUse, advise, threads_named

pytestmark = pytest.mark.slow

ROBOT_PC = Machine(
    kernel="6.12 PREEMPT_RT", cores=8, preempt_rt=True, virtual=False, jetson=False, governors=("performance",) * 8,
    clocks_vary=True, idle_exit_us=2, isolated="7", nohz_full="7", rt_share=0.95, unevictable_moved=False, rtprio_limit=90,
    memlock_limit=-1,
)  # fmt: skip
GOOD_LOOP = Loop("SCHED_FIFO 80", True, faults=0, rt_use=0.02, overruns=0, cycles=60_000, steal=0.0)


def counts_of(us: np.ndarray) -> np.ndarray:
    """What a histogram holds after such durations, (..., BUCKETS)."""
    bucket = np.searchsorted(bucket_edges_ns(), us * 1e3, side="right") - 1
    counts = [np.bincount(np.minimum(row, BUCKETS - 1), minlength=BUCKETS) for row in np.atleast_2d(bucket)]
    return np.array(counts).reshape(*us.shape[:-1], BUCKETS)


def latencies(seed: int, blocks: int) -> np.ndarray:
    """Like a machine's: a body around 15 us and a rare tail up to milliseconds; (blocks, 2000) us."""
    rng = np.random.default_rng(seed)
    body, tail = rng.lognormal(np.log(15), 0.4, (blocks, 2000)), rng.exponential(400, (blocks, 2000))
    return np.where(rng.random((blocks, 2000)) < 0.005, tail, body)


def test_quantiles_are_those_of_the_durations_within_a_bucket() -> None:
    us = latencies(1, 4)
    for share in (0.5, 0.99, 0.999):
        assert quantile_us(counts_of(us), share) == pytest.approx(
            np.quantile(us, share, axis=1, method="inverted_cdf"), rel=0.032
        )
    assert np.isnan(quantile_us(np.zeros(BUCKETS), 0.5))
    assert us.max() <= max_us(counts_of(us).sum(0)) <= 1.032 * us.max()
    assert max_us(np.zeros(BUCKETS)) == 0.0


def test_ratio_of_equals_is_one_and_of_a_later_loop_is_seen() -> None:
    us, other = latencies(1, 60), latencies(2, 60)
    ratio, low, high = ratio_of_p99_9(counts_of(us), counts_of(us))
    assert (ratio, low, high) == (1, 1, 1)  # drawn together
    ratio, low, high = ratio_of_p99_9(counts_of(us), counts_of(other))
    assert low < 1 < high and high - low < 0.6
    ratio, low, high = ratio_of_p99_9(counts_of(2 * us), counts_of(us))
    assert ratio == pytest.approx(2, rel=0.05) and low > 1.8
    assert verdict(ratio, low, high) == "above 1.1"
    ratio, low, high = ratio_of_p99_9(counts_of(us[:3]), counts_of(us[:3]))
    assert ratio == 1 and np.isnan(low) and np.isnan(high)
    assert "not certain" in verdict(ratio, low, high)
    assert verdict(1.02, 0.99, 1.08) == "at most 1.1"


def test_a_good_machine_gets_no_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHYSAI_LOOP_CPU", "7")
    assert advise(ROBOT_PC, GOOD_LOOP) == []
    monkeypatch.delenv("PHYSAI_LOOP_CPU")
    assert [entry.remedy for entry in advise(ROBOT_PC, GOOD_LOOP)] == [
        "set PHYSAI_LOOP_CPU to a core of 7 for whatever starts physai"
    ]


@pytest.mark.parametrize(
    ("machine", "loop", "word"),
    [
        ({"rtprio_limit": 0}, {"scheduling": "SCHED_OTHER"}, "@realtime - rtprio 90"),
        ({"memlock_limit": 65536}, {"locked": False}, "@realtime - memlock unlimited"),
        ({"preempt_rt": False}, {}, "linux-image-rt"),
        ({"preempt_rt": False, "jetson": True, "clocks_vary": False}, {}, "nvidia-l4t-rt-kernel"),
        ({"jetson": True}, {}, "jetson_clocks"),
        ({"jetson": True, "governors": ("schedutil",), "clocks_vary": False}, {}, "nvpmodel"),
        ({"governors": ("performance", "powersave")}, {}, "cpupower frequency-set -g performance"),
        ({"idle_exit_us": 890}, {}, "cpupower idle-set"),
        ({"isolated": ""}, {}, "isolcpus=managed_irq,domain,7 nohz_full=7"),
        ({"virtual": True}, {"steal": 0.07}, "pinned"),
        ({}, {"rt_use": 0.6}, "rate_hz"),
        ({}, {"faults": 3}, "fork"),
        ({"unevictable_moved": True}, {"faults": 3}, "compact_unevictable_allowed=0"),
        ({}, {"overruns": 5}, "follow the advice above"),
    ],
)
def test_what_is_found_gets_its_remedy(
    machine: dict, loop: dict, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHYSAI_LOOP_CPU", "7")
    (entry,) = advise(replace(ROBOT_PC, **machine), replace(GOOD_LOOP, **loop))
    assert word in entry.remedy
    assert entry.found


def test_a_machine_is_read_from_its_files(tmp_path: Path) -> None:
    cpu = "sys/devices/system/cpu"
    for path, text in {
        "proc/sys/kernel/osrelease": "5.15.148-rt-tegra\n",
        "proc/sys/kernel/version": "#1 SMP PREEMPT_RT Mon\n",
        "proc/sys/kernel/sched_rt_runtime_us": "950000\n",
        "proc/sys/kernel/sched_rt_period_us": "1000000\n",
        "proc/sys/vm/compact_unevictable_allowed": "1\n",
        "proc/cpuinfo": "processor\t: 0\nflags : fpu hypervisor\n\nprocessor\t: 1\n",
        "etc/nv_tegra_release": "# R36",
        f"{cpu}/isolated": "1\n",
        f"{cpu}/nohz_full": "(null)\n",
        f"{cpu}/cpu0/cpufreq/scaling_governor": "schedutil\n",
        f"{cpu}/cpu0/cpufreq/scaling_min_freq": "115200\n",
        f"{cpu}/cpu0/cpufreq/scaling_max_freq": "2201600\n",
        f"{cpu}/cpu0/cpuidle/state0/latency": "1\n",
        f"{cpu}/cpu0/cpuidle/state1/latency": "5000\n",
        f"{cpu}/cpu0/cpuidle/state2/latency": "9000\n",
        f"{cpu}/cpu0/cpuidle/state2/disable": "1\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    machine = Machine.read(tmp_path)
    assert machine.kernel == "5.15.148-rt-tegra #1 SMP PREEMPT_RT Mon"
    assert machine.preempt_rt and machine.virtual and machine.jetson and machine.clocks_vary
    assert (machine.cores, machine.governors, machine.idle_exit_us) == (2, ("schedutil",), 5000)
    assert (machine.isolated, machine.nohz_full, machine.rt_share) == ("1", "", 0.95)
    assert machine.unevictable_moved
    bare = Machine.read(tmp_path / "nowhere")
    assert not (bare.preempt_rt or bare.virtual or bare.jetson or bare.governors)
    assert bare.rt_share == 1.0


def test_holding_the_interpreter_keeps_other_threads_from_running() -> None:
    turns, end = 0, threading.Event()

    def count() -> None:
        nonlocal turns
        while not end.is_set():
            turns += 1
            time.sleep(1e-4)

    thread = threading.Thread(target=count)
    thread.start()
    gained = []
    for wait in (loops.hold_interpreter, time.sleep):
        before = turns
        wait(0.5)
        gained.append(turns - before)
    end.set()
    thread.join()
    assert gained[0] <= 0.05 * gained[1], gained


def test_thread_use_is_of_the_named_thread() -> None:
    loop = BareLoop(500.0, 0.25)
    (thread,) = threads_named("physai-bare")
    before = ThreadUse.read(thread)
    while loop.histogram().sum() < 200:
        time.sleep(0.01)
    use = ThreadUse.read(thread) - before
    assert use.waits >= 150
    loop.close()
    assert threads_named("physai-bare") == []
    with pytest.raises(ControlError, match="phase 1"):
        BareLoop(500.0, 1.0)


def test_hogs_leave_nothing_behind(tmp_path: Path) -> None:
    with Hogs(2, tmp_path) as hogs:
        while not list(tmp_path.iterdir()):
            time.sleep(0.05)
        assert hogs.alive == 5
    assert hogs.alive == 0
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_reports_what_it_has(tmp_path: Path, embodiment: Embodiment) -> None:
    """One block without and one with a stalled Python, then Ctrl-C."""
    cores = os.sched_getaffinity(0)

    def progress(done: int, total: int, note: str) -> None:
        assert 1 <= done <= total == 2 and "p99.9" in note
        if "stalled" in note:
            raise KeyboardInterrupt

    check = rt_check.rt_check(embodiment, 2 * rt_check.BLOCK_S / 60, False, tmp_path, progress)
    assert check.interrupted
    assert [result.name for result in check.results] == ["idle", "stalled"]
    for result in check.results:
        wake = result.wake()
        assert wake.shape == (1, 3, BUCKETS)
        assert (wake.sum(axis=(0, 2)) > 100).all()
        assert result.cycles > 100
        # A shared machine may stand still; then the loop says what it has to say about a robot that does.
        assert re.match("track$|degraded: |fault: the robot skipped ", result.state), result.state
        assert result.scheduling[0] == result.scheduling[1]
        assert 0 <= result.steal <= 1 and 0 < result.busy <= 1
    report = json.loads((check.page.parent / "report.json").read_text())
    assert (
        report["scenarios"]["stalled"]["figures_us"]["loop"]["cycles"] == check.results[1].wake()[0, 0].sum()
    )
    assert np.isfinite(report["scenarios"]["idle"]["ratio_p99_9"][0])
    assert "data:image/png" in check.page.read_text()
    assert os.sched_getaffinity(0) == cores  # the rest of the process stays where it was
    assert threads_named("physai-loop") == threads_named("physai-bare") == []
    rt_check.print_check(check)


def test_nothing_measured_is_an_error(
    tmp_path: Path, embodiment: Embodiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rt_check, "measure", interrupt)
    with pytest.raises(PhysaiError, match="nothing to report"):
        rt_check.rt_check(embodiment, 1, False, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_core_that_is_no_number_is_an_error(
    tmp_path: Path, embodiment: Embodiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHYSAI_LOOP_CPU", "last")
    with pytest.raises(PhysaiError, match=r"PHYSAI_LOOP_CPU.*'last'"):
        rt_check.rt_check(embodiment, 1, False, tmp_path)
