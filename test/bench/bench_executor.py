"""What does it cost to receive messages? rclpy's executors and ours, side by side on a node like the policy's.

    python test/bench/bench_executor.py [--seconds 8]

A process publishes 100 clocks and 60 joint states a second; three more receive them at the same time, each a
lifecycle node with one of the executors. Prints the CPU time that each takes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import threading
import time
from typing import Any

from physai_lab.report import host
from physai_lab.stack.bringup import join_stack

CLOCK_HZ, JOINTS_HZ = 100, 60
KINDS = ("MultiThreadedExecutor", "SingleThreadedExecutor", "CachingExecutor")
DOMAIN = "77"


def publish(stop: Any) -> None:
    """Clocks and joint states until `stop`."""
    import rclpy
    from rosgraph_msgs.msg import Clock
    from sensor_msgs.msg import JointState

    from physai_ros import qos

    rclpy.init(args=[])
    node = rclpy.create_node("source")
    clocks, joints = node.create_publisher(Clock, "/clock", qos.SENSOR), node.create_publisher(JointState, "joint_states", qos.JOINTS)  # fmt: skip
    state = JointState(name=[f"joint{i}" for i in range(7)], position=[0.0] * 7, velocity=[0.0] * 7, effort=[0.0] * 7)  # fmt: skip
    tick, owed = 0, 0.0
    while not stop.wait(1 / CLOCK_HZ):
        tick += 1
        message = Clock()
        message.clock.sec, message.clock.nanosec = divmod(tick * 10**9 // CLOCK_HZ, 10**9)
        clocks.publish(message)
        owed += JOINTS_HZ / CLOCK_HZ
        if owed >= 1:
            owed -= 1
            joints.publish(state)


def receive(kind: str, seconds: float, ready: Any, results: Any) -> None:
    """One node on one executor; puts its CPU share and the messages that it got."""
    import rclpy
    from rclpy import executors
    from rclpy.lifecycle import LifecycleNode
    from rclpy.parameter import Parameter
    from sensor_msgs.msg import JointState

    from physai_ros import qos
    from physai_ros.executor import CachingExecutor

    rclpy.init(args=[])
    overrides = [Parameter("use_sim_time", value=True)]
    node = LifecycleNode(kind.lower(), parameter_overrides=overrides)
    count = 0

    def on_state(_: JointState) -> None:
        nonlocal count
        count += 1

    node.create_subscription(JointState, "joint_states", on_state, qos.JOINTS)
    node.create_timer(0.2, lambda: None)
    made = {
        "MultiThreadedExecutor": lambda: executors.MultiThreadedExecutor(4),
        "SingleThreadedExecutor": executors.SingleThreadedExecutor,
        "CachingExecutor": CachingExecutor,
    }
    executor = made[kind]()
    executor.add_node(node)
    threading.Thread(target=executor.spin, daemon=True).start()
    while not count:
        time.sleep(0.05)
    ready.wait(60.0)
    before, counted, began = resource.getrusage(resource.RUSAGE_SELF), count, time.monotonic()
    time.sleep(seconds)
    after, wall = resource.getrusage(resource.RUSAGE_SELF), time.monotonic() - began
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    results.put((kind, used / wall, (count - counted) / wall))
    results.close()
    results.join_thread()
    os._exit(0)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=8.0)
    seconds = parser.parse_args().seconds
    join_stack()
    os.environ["ROS_DOMAIN_ID"] = DOMAIN
    context = multiprocessing.get_context("spawn")
    ready, stop, results = context.Barrier(len(KINDS)), context.Event(), context.Queue()
    source = context.Process(target=publish, args=(stop,))
    sinks = [context.Process(target=receive, args=(kind, seconds, ready, results)) for kind in KINDS]
    for process in (source, *sinks):
        process.start()
    found = {kind: (share, rate) for kind, share, rate in (results.get(timeout=seconds + 60) for _ in KINDS)}
    stop.set()
    source.join()
    print(f"host: {host()}")
    base = found[KINDS[0]][0]
    for kind in KINDS:
        share, rate = found[kind]
        print(
            f"{kind:24s} {share:6.1%} of a core at {rate:5.1f} joint states/s, {share / base:.2f} x {KINDS[0]}"
        )


if __name__ == "__main__":
    main()
