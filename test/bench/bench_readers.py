"""What a slow or frozen reader costs whoever publishes reliably: the time that each publish() takes, and the cell's pace.

    python test/bench/bench_readers.py            # publish() alone
    python test/bench/bench_readers.py --stack    # the whole stack, with a frozen reader of every topic

A reader in another process subscribes to joint_states, scene and clock with default (reliable) quality of service and
is then left alone, made slow (it sleeps 50 ms for each message) or frozen (SIGSTOP).
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from physai_lab.stack.bringup import Stack, join_stack
from physai_ros.graph import bringup_graph

NAMES = ("joint_states", "scene", "clock")
STATES = ("no reader", "reader", "slow reader", "frozen reader")
RATE_HZ, SECONDS = 250, 4.0


def read(slow_s: float) -> None:
    """A reader's process; it says when it has heard everything once."""
    join_stack()
    import rclpy

    from physai_ros import topics

    rclpy.init(args=[])
    node = rclpy.create_node("reader")
    heard: set[str] = set()

    def hear(name: str) -> None:
        if name not in heard:
            heard.add(name)
            print(name, flush=True)
        time.sleep(slow_s)

    for name in NAMES:
        node.create_subscription(topics.topic(name).message(), name, lambda _, n=name: hear(n), 10)
    rclpy.spin(node)


class Reader:
    """The process, once it hears."""

    def __init__(self, state: str) -> None:
        slow_s = 0.05 if state == "slow reader" else 0.0
        command = [sys.executable, __file__, "--read", str(slow_s)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._state = state

    def begin(self) -> None:
        assert self._process.stdout is not None
        for _ in NAMES:
            assert self._process.stdout.readline()
        if self._state == "frozen reader":
            self._process.send_signal(signal.SIGSTOP)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def measure_publish() -> None:
    import numpy as np
    import rclpy

    from physai_ros import topics

    rclpy.init(args=[])
    node = rclpy.create_node("writer")
    publishers = {name: topics.advertise(node, name) for name in NAMES}
    messages: dict[str, Any] = {name: topics.topic(name).message()() for name in NAMES}
    states = messages["joint_states"]
    states.name = [f"fr3_joint{i}" for i in range(9)]
    states.position = states.velocity = states.effort = [0.1] * 9

    def publish(seconds: float) -> dict[str, list[float]]:
        took: dict[str, list[float]] = {name: [] for name in NAMES}
        due = time.monotonic()
        for _ in range(round(seconds * RATE_HZ)):
            for name in NAMES:
                began = time.perf_counter()
                publishers[name].publish(messages[name])
                took[name].append((time.perf_counter() - began) * 1e6)
            due += 1 / RATE_HZ
            time.sleep(max(0.0, due - time.monotonic()))
        return took

    print(f"publish() at {RATE_HZ} Hz, us: p50 / p99 / max")
    for state in STATES:
        reader = None if state == "no reader" else Reader(state)
        while reader and not all(publisher.get_subscription_count() for publisher in publishers.values()):
            time.sleep(0.05)
        publish(0.5)
        if reader:
            begun = threading.Thread(target=reader.begin)
            begun.start()
            while begun.is_alive():
                publish(0.1)
        for name, microseconds in publish(SECONDS).items():
            p50, p99, worst = np.percentile(microseconds, [50, 99, 100])
            print(f"{state:14} {name:13} {p50:7.0f} {p99:7.0f} {worst:7.0f}", flush=True)
        if reader:
            reader.close()
            time.sleep(1.0)


def measure_stack() -> None:
    import rclpy

    from physai_ros import topics

    rclpy.init(args=[])
    node = rclpy.create_node("pace")
    now: dict[str, Any] = {}
    topics.hear(node, "clock", lambda m: now.update(s=m.clock.sec + m.clock.nanosec * 1e-9))
    topics.hear(node, "control/status", lambda m: now.update(control=m))

    def watch(seconds: float) -> tuple[float, int, int]:
        """Simulated seconds a second of wall time, overruns and missed states in that time."""
        while "s" not in now or "control" not in now:
            rclpy.spin_once(node, timeout_sec=0.1)
        first, begin_s, began = now["control"], now["s"], time.monotonic()
        while time.monotonic() < began + seconds:
            rclpy.spin_once(node, timeout_sec=0.1)
        last = now["control"]
        pace = (now["s"] - begin_s) / (time.monotonic() - began)
        return pace, last.overruns - first.overruns, last.missed_states - first.missed_states

    with Stack(bringup_graph()) as stack:
        stack.wait_ready(120.0)
        for state in STATES:
            reader = None if state == "no reader" else Reader(state)
            if reader:
                reader.begin()
            pace, overruns, missed = watch(8.0)
            print(f"{state:14} pace {pace:.3f}, {overruns} overruns, {missed} missed states", flush=True)
            if reader:
                reader.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--read", type=float, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--stack", action="store_true", help="the whole stack instead of publish() alone")
    options = parser.parse_args()
    if options.read is not None:
        read(options.read)
        return
    join_stack()
    if options.stack:
        measure_stack()
    else:
        measure_publish()


if __name__ == "__main__":
    main()
