"""A signal at any stage of the bring-up ends a node in order: with the exit code that is documented, without a crash,
without a part used after its end and without shared memory left behind."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import rclpy
from lifecycle_msgs.srv import ChangeState
from paths import HELPERS

from physai_ros.executor import CachingExecutor

pytestmark = pytest.mark.ros
DOMAIN = str(140 + os.getpid() % 40)
CONFIGURE, ACTIVATE, DEACTIVATE = 1, 3, 4
DUMMY = (sys.executable, str(HELPERS / "dummy_node.py"))
NODES = Path(sys.prefix) / "lib/physai"
SIGNALS = (signal.SIGINT, signal.SIGTERM)
STAGES = ("constructing", "configuring", "activating", "active", "deactivating", "deaf")
STEPS = {"configuring": 1, "deaf": 1, "activating": 2, "active": 2, "deactivating": 3}
ENDS_WITH_ZERO = ("active", "deactivating", "unconfigured")


class Driver:
    """Asks for transitions, without waiting for what does not come."""

    def __init__(self) -> None:
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=int(DOMAIN))
        self._node = rclpy.create_node("driver", context=self._context)
        self._executor = CachingExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        with contextlib.suppress(rclpy.executors.ExternalShutdownException):
            self._executor.spin()

    def ask(self, name: str, transition: int) -> Any:
        """The future of the answer; when the service is there."""
        with self._lock:
            client: Any = self._node.create_client(ChangeState, f"{name}/change_state")
        assert client.wait_for_service(30.0), name
        request = ChangeState.Request()
        request.transition.id = transition
        return client.call_async(request)

    def close(self) -> None:
        self._context.try_shutdown()
        self._thread.join(5.0)


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    driver = Driver()
    yield driver
    driver.close()


def start(command: tuple[str, ...], name: str, *parameters: str) -> subprocess.Popen[str]:
    arguments = ["--ros-args", "-r", f"__node:={name}", *itertools.chain(*(("-p", p) for p in parameters))]
    return subprocess.Popen(
        [*command, *arguments],
        env={**os.environ, "ROS_DOMAIN_ID": DOMAIN, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def until(process: subprocess.Popen[str], word: str) -> list[str]:
    """The lines up to one that is `word`."""
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if lines[-1] == word:
            return lines
    raise AssertionError(f"no {word!r} in {lines}")


def segments() -> set[str]:
    """Segments of the middleware by the lock that their owner holds, and shared memory of ours."""
    return {path.name for pattern in ("fast*_el", "physai*") for path in Path("/dev/shm").glob(pattern)}


def interrupted_at(driver: Driver, stage: str, number: signal.Signals) -> tuple[int, str]:
    """Exit code and output of a dummy that gets the signal at that stage."""
    name = f"dummy_{stage}_{number}"
    process = start(DUMMY, name, f"waits:={stage if stage != 'active' else chr(34) * 2}")
    try:
        answer: Any = None
        for transition in (CONFIGURE, ACTIVATE, DEACTIVATE)[: STEPS.get(stage, 0)]:
            deadline = time.monotonic() + 30.0
            while answer is not None and not answer.done() and time.monotonic() < deadline:
                time.sleep(0.02)
            answer = driver.ask(name, transition)
        if stage == "active":
            while not answer.done():
                time.sleep(0.02)
            lines = []
        else:
            lines = until(process, stage)
        time.sleep(0.1)
        process.send_signal(number)
        rest, _ = process.communicate(timeout=30.0)
        return process.returncode, "\n".join([*lines, rest])
    finally:
        process.kill()


def test_a_node_is_interrupted_at_every_stage(driver: Driver) -> None:
    cases = list(itertools.product(STAGES, SIGNALS))
    with ThreadPoolExecutor(4) as pool:
        ends = list(pool.map(lambda case: interrupted_at(driver, *case), cases))
    wrong = []
    for (stage, number), (code, output) in zip(cases, ends, strict=True):
        expected = 0 if stage in ENDS_WITH_ZERO else 128 + number
        if code != expected or "used after its end" in output or "Traceback" in output or "Fatal" in output:
            wrong.append(f"{stage}, {number.name}: code {code}, not {expected}\n{output}")
        if expected and "interrupted while" not in output:
            wrong.append(f"{stage}, {number.name}: does not say so\n{output}")
    assert not wrong, "\n\n".join(wrong)


def test_a_node_ends_though_nobody_hears_its_last_words(driver: Driver) -> None:
    """Whoever read its output has died, and its last line cannot be written."""
    process = start(DUMMY, "unheard", "waits:=configuring")
    try:
        driver.ask("unheard", CONFIGURE)
        until(process, "configuring")
        assert process.stdout
        process.stdout.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30.0) == 128 + signal.SIGTERM
    finally:
        process.kill()


def test_a_node_ends_though_its_interpreter_is_locked(driver: Driver) -> None:
    """A library that keeps Python's lock keeps every thread and timer of ours; what ends the process needs none."""
    process = start(DUMMY, "locked", "fail:=lock_on_stop")
    try:
        for transition in (CONFIGURE, ACTIVATE):
            answer = driver.ask("locked", transition)
            while not answer.done():
                time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30.0)
        assert process.returncode == 1
        assert "Timeout" in output and "dummy_node.py" in output  # where every thread was
    finally:
        process.kill()


ROBOTS = {"control": "fr3_topic", "bridge": "fr3_topic"}
REAL = ("sim", "control", "perception", "world_model", "policy", "bridge")


def interrupt_the_real_ones(
    driver: Driver, stage: str, number: signal.Signals, delay_s: float = 0.3
) -> dict[str, tuple[int, str]]:
    """Exit code and output of every node, interrupted at the stage: all at once, as Ctrl-C in a terminal does it."""
    # Without the bridge nothing gives joint states, and control waits for the first.
    names = tuple(name for name in REAL if name != "bridge" or stage != "activating")
    processes = {
        name: start((str(NODES / name),), name, f"robot:={ROBOTS.get(name, 'fr3')}", "use_sim_time:=false",
                    *(("autostart:=false",) if name == "bridge" else ()))
        for name in names
    }  # fmt: skip
    try:
        for transition in (CONFIGURE, ACTIVATE, DEACTIVATE)[: STEPS.get(stage, 0)]:
            answers = [driver.ask(name, transition) for name in names]
            if transition != (CONFIGURE, ACTIVATE, DEACTIVATE)[STEPS[stage] - 1] or stage == "active":
                deadline = time.monotonic() + 8.0  # an answer may be lost to a client that is not known yet
                while not all(a.done() for a in answers) and time.monotonic() < deadline:
                    time.sleep(0.02)
        time.sleep(delay_s)
        for process in processes.values():
            process.send_signal(number)
        return {
            name: (output, process.returncode)[::-1]
            for name, process in processes.items()
            for output, _ in [process.communicate(timeout=30.0)]
        }
    finally:
        for process in processes.values():
            process.kill()


@pytest.mark.parametrize(
    ("stage", "number"), [("configuring", signal.SIGINT), ("activating", signal.SIGTERM)]
)
def test_the_real_nodes_end_in_order(driver: Driver, stage: str, number: signal.Signals) -> None:
    before = segments()
    ends = interrupt_the_real_ones(driver, stage, number)
    for name, (code, output) in ends.items():
        assert code in (0, 128 + number), f"{name}: {code}\n{output}"
        assert "Traceback" not in output and "Fatal" not in output, f"{name}\n{output}"
    if stage == "activating":  # control, alone, waits there: for the first joint state
        assert ends["control"][0] == 128 + number, ends["control"]
        assert "interrupted while activating" in ends["control"][1]
    assert segments() - before == set()


# The whole table, some minutes: PYTHONPATH=test/helpers python test/ros/stacks/test_interrupts.py
if __name__ == "__main__":
    whole = Driver()
    for stage, number in itertools.product(
        ("constructing", "configuring", "activating", "active", "deactivating"), SIGNALS
    ):
        for delay_s in (0.0, 0.4, 1.0):
            before = segments()
            ends = interrupt_the_real_ones(whole, stage, number, delay_s)
            codes = {name: code for name, (code, _) in ends.items()}
            print(stage, number.name, delay_s, codes, "left:", segments() - before, flush=True)
            for name, (code, output) in ends.items():
                if code not in (0, 128 + number) or "Traceback" in output:
                    print(f"--- {name}\n{output}")
    whole.close()
