"""How fast the topic backend is: the cell in one process, the control core here, DDS between them."""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

from physai_lab.stack.bringup import Stack, join_stack

join_stack()

from topic_cell import Truth, bridge, until, write_robot  # noqa: E402

from physai_base.embodiment import Embodiment  # noqa: E402
from physai_control.core import ControlCore  # noqa: E402
from physai_ros.graph import Graph  # noqa: E402
from physai_sim.plant import Gate  # noqa: E402

SECONDS = 8.0
FORMATS = {
    "joint_state": {"format": "joint_state"},
    "multiarray": {"format": "multiarray"},
    "float64": {"format": "float64", "command_topic": "hardware/{joint}/cmd", "gripper_topic": "hardware/{joint}/pos"},
}  # fmt: skip


def measure(options: dict[str, str], folder: Path) -> str:
    """Run an arm that is held for SECONDS of simulated time."""
    path = write_robot(folder, hardware={"options": options})
    said: list[str] = []
    core = ControlCore(Embodiment.load(path))
    truth = Truth(folder / "truth")
    began = time.monotonic()
    with Stack(Graph((bridge(path, folder / "truth"),)), lambda _, line: said.append(line)):
        core.start()
        until(lambda: core.joint_state() is not None, "states arrive")
        core.activate()
        until(lambda: truth.is_driven, "the arm is driven")
        start, began = len(truth), time.monotonic()
        core.clear_latency()
        truth.run(SECONDS)
        wall_s, gate, status = time.monotonic() - began, truth.gate(start), core.status()
        core.deactivate()
        until(lambda: not truth.is_driven, "the brakes close")
    core.close()
    answers = next((re.sub(".*the last", "the last", line) for line in said if "the last" in line), "")
    return (
        f"{(gate == Gate.DRIVEN).sum() / len(gate) * 1000:.0f} commands applied per simulated second, {len(gate) / wall_s:.0f} states "
        f"a second; {answers}; cycle p50 {status.latency_us['p50']:.0f} us, wake-up p50 {status.wake_us['p50']:.0f} us, "
        f"p99 {status.wake_us['p99']:.0f} us"
    )


def main() -> None:
    """Print one line for each format."""
    os.environ.setdefault("ROS_DOMAIN_ID", "93")
    load = os.getloadavg()[0]
    print(
        f"topic backend on {platform.machine()}, {os.cpu_count()} cores, kernel {platform.release()}, load {load:.1f}"
    )
    for name, options in FORMATS.items():
        with tempfile.TemporaryDirectory() as folder:
            print(f"  {name}: {measure(options, Path(folder))}")


if __name__ == "__main__":
    main()
