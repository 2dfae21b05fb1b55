"""Do 640x480 RGB images at 30 Hz reach a trivial perception without drops? Prints rate, drops, p50 and p99.

    python test/bench/bench_images.py [--seconds 60]

The cell runs as its own process with the shipped DDS profile; this process subscribes as perception does.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import tempfile
import time
from pathlib import Path

import yaml

from physai_base.embodiment import Embodiment
from physai_lab.report import host
from physai_lab.stack.bringup import Stack, join_stack
from physai_lab.statistics import quantiles
from physai_ros.graph import Graph, NodeSpec, with_supervisor

RATE_HZ = 30.0


def fast_robot(folder: Path) -> Path:
    """The shipped embodiment with a camera of 30 Hz."""
    robot = Embodiment.load("fr3")
    shutil.copytree(robot.model_path.parent, folder / robot.model_path.parent.name)
    document = yaml.safe_load(robot.path.read_text())
    document["cameras"][0]["rate_hz"] = RATE_HZ
    document["hardware"]["options"]["name"] = "physai_bench"
    path = folder / "fast.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    seconds = parser.parse_args().seconds
    join_stack()
    import rclpy
    from sensor_msgs.msg import Image

    from physai_ros import conversions, qos

    with tempfile.TemporaryDirectory() as folder:
        sim = NodeSpec("sim", "sim", {"robot": str(fast_robot(Path(folder)))})
        with Stack(with_supervisor(Graph((sim,))), print_line) as stack:
            stack.wait_ready()
            rclpy.init(args=[])
            node = rclpy.create_node("trivial_perception")
            stamps: list[int] = []
            arrivals: list[float] = []

            def on_image(message: Image) -> None:
                stamps.append(conversions.time_from_msg(message.header.stamp))
                arrivals.append(time.monotonic())
                assert len(message.data) == message.height * message.step

            node.create_subscription(Image, "camera/overview/image_raw", on_image, qos.SENSOR)
            executor = rclpy.executors.SingleThreadedExecutor()
            executor.add_node(node)
            deadline = time.monotonic() + 20.0
            while not stamps and time.monotonic() < deadline:
                executor.spin_once(timeout_sec=0.1)
            # The first images may be missed while peers discover each other.
            warm = time.monotonic() + 2.0
            while time.monotonic() < warm:
                executor.spin_once(timeout_sec=0.1)
            stamps.clear()
            arrivals.clear()
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                executor.spin_once(timeout_sec=0.1)
            executor.shutdown()
            node.destroy_node()
            rclpy.try_shutdown()
    # Stamps are whole milliseconds, so that the distance of two images is the period give or take one.
    missing = sum(round((b - a) * 1e-9 * RATE_HZ) - 1 for a, b in itertools.pairwise(stamps))
    gaps_ms = [(b - a) * 1e3 for a, b in itertools.pairwise(arrivals)]
    simulated = (stamps[-1] - stamps[0]) / 1e9
    print(f"host: {host()}")
    print(
        f"{len(stamps)} images of 640x480 RGB in {simulated:.1f} s simulated, {arrivals[-1] - arrivals[0]:.1f} s wall"
    )
    print(
        f"rate {(len(stamps) - 1) / simulated:.2f} Hz of simulated time, dropped {missing} of {len(stamps) + missing}"
    )
    gaps = quantiles(gaps_ms)
    print(
        f"time between arrivals: p50 {gaps['p50']:.1f} ms, p99 {gaps['p99']:.1f} ms, max {gaps['max']:.1f} ms"
    )


def print_line(name: str, line: str) -> None:
    """Show what goes wrong."""
    if "ERROR" in line or line.startswith("physai "):
        print(f"[{name}] {line}")


if __name__ == "__main__":
    main()
