"""Remote policies: how late an error is after its deadline with servers that hold the line, and what a link costs.

Ends with 1 when an error came more than 100 ms after its deadline.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

from evil_servers import EVIL
from remote_peers import Echo, EvilServer, Proxy, observation, serving, write_config

from physai_base.embodiment import Embodiment
from physai_base.errors import PolicyError
from physai_policy.policy import Observation
from physai_policy.remote.client import RemotePolicy
from physai_policy.remote.config import RemoteConfig

TIMEOUT_S, ALLOWED_MS, REPEATS = 0.2, 100.0, 5


def lateness(robot: Embodiment, folder: Path) -> float:
    """The largest time in ms from a deadline to its error, over every server that means harm."""
    worst = -np.inf
    for name, (kind, script, _) in EVIL.items():
        late = []
        with EvilServer(script) as server:
            path = write_config(folder, kind, server.port, f"timeout_s: {TIMEOUT_S}\n")
            for _ in range(REPEATS):
                policy = RemotePolicy(RemoteConfig.load(path), robot)
                began = time.perf_counter()
                try:
                    policy.infer(observation())
                except PolicyError:
                    late.append((time.perf_counter() - began - TIMEOUT_S) * 1e3)
        assert len(late) == REPEATS, name
        if max(late) > 0:
            print(f"  {max(late):7.1f} ms   {name}")
        worst = max(worst, *late)
    return worst


def latencies(robot: Embodiment, folder: Path, seen: Observation, delay_s: float, mapping: str = "") -> str:
    """Median and 99th percentile in ms of 200 inferences over a link with that delay, and what was the network's."""
    with serving(Echo()) as server, Proxy(server.port) as link:
        link.delay_s = delay_s
        path = write_config(folder, "openpi", link.port if delay_s else server.port)
        path.write_text(path.read_text().replace("observation:\n", "observation:\n" + mapping))
        policy = RemotePolicy(RemoteConfig.load(path), robot)
        policy.infer(seen)
        total, network = [], []
        for _ in range(200):
            policy.infer(seen)
            assert policy.last_timing is not None
            total.append(policy.last_timing.total_ms)
            network.append(policy.last_timing.network_ms)
    p50, p99 = np.percentile(total, [50, 99])
    return f"p50 {p50:6.2f} ms  p99 {p99:6.2f} ms  of it network p50 {np.median(network):6.2f} ms"


def main() -> int:
    robot = Embodiment.load("fr3")
    with tempfile.TemporaryDirectory() as folder:
        print("time from the deadline to the error, servers that mean harm:")
        worst = lateness(robot, Path(folder))
        print(
            f"  largest {worst:.1f} ms, allowed {ALLOWED_MS:g} ms; {threading.active_count()} threads are left"
        )
        seen = observation(robot=robot)
        images = {name: np.zeros((480, 640, 3), np.uint8) for name in ("overview", "wrist")}
        big = type(seen)(**{**vars(seen), "images": images})
        mapping = "  images: {overview: {image: overview}, wrist: {image: wrist}}\n"
        print("physai's client and server on one machine, a policy that takes no time:")
        print("  numbers alone          ", latencies(robot, Path(folder), seen, 0.0))
        print("  two images of 640x480  ", latencies(robot, Path(folder), big, 0.0, mapping))
        print("  numbers, link of 2x20ms", latencies(robot, Path(folder), seen, 0.02))
    return 0 if worst <= ALLOWED_MS else 1


if __name__ == "__main__":
    sys.exit(main())
