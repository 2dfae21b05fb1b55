"""Shadow mode for simulated minutes beside a policy that works: who publishes what the controller listens to.

A whole stack does the job as fast as the machine allows. Beside it runs a shadow: for half of the time the shipped
policy, for a quarter one whose server answers nonsense, and for a quarter a program that tries every way to the
controller (test/helpers/rogue_policy.py). Every message on every topic that the controller's process listens to is counted by its
publisher. Exits with 1 when one came from the shadow.

    python test/bench/bench_shadow.py --minutes 10
"""

from __future__ import annotations

import argparse
import random
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

from paths import HELPERS, SHIPPED_REMOTE

from physai_lab.stack.bringup import Stack, join_stack
from physai_ros.graph import Graph, bringup_graph

CUPS, PLACES = ("red", "green", "blue"), ("top", "bottom")


class Operator:
    """Gives the working policy one task after the other."""

    def __init__(self, seed: int) -> None:
        import rclpy
        from rosgraph_msgs.msg import Clock
        from shadow_watch import ControllerWatch

        from physai.msg import ActionChunk, ControlStatus, PolicyStatus
        from physai.srv import Randomize
        from physai_ros import qos

        rclpy.init(args=[])
        self.node = rclpy.create_node("operator")
        self._rng = random.Random(seed)
        self.now_s, self.shadow_chunks, self.control = 0.0, 0, None
        self._state, self._due_s = 0, 0.0
        create = self.node.create_subscription
        create(Clock, "/clock", self._on_clock, qos.SENSOR)
        create(ActionChunk, "shadow/action_chunk", self._on_shadow_chunk, qos.STATUS)
        create(ControlStatus, "control/status", lambda m: setattr(self, "control", m), qos.STATUS)
        create(PolicyStatus, "policy/status", lambda m: setattr(self, "_state", m.state), qos.STATUS)
        self._randomize = self.node.create_client(Randomize, "sim/randomize")
        self._instructions = self.node.create_publisher(*self._instruction_topic())
        self.tasks = self.succeeded = 0
        self.watch = ControllerWatch(self.node)
        self.executor = rclpy.executors.SingleThreadedExecutor()
        self.executor.add_node(self.node)
        while "control" not in self.node.get_node_names() or "/action_chunk" not in self.watch.look():
            self.executor.spin_once(timeout_sec=0.1)

    @staticmethod
    def _instruction_topic() -> tuple[Any, str, Any]:
        from physai.msg import Instruction
        from physai_ros import qos

        return Instruction, "instruction", qos.ESTOP

    def _on_clock(self, message: Any) -> None:
        self.now_s = message.clock.sec + message.clock.nanosec * 1e-9

    def _on_shadow_chunk(self, _: Any) -> None:
        self.shadow_chunks += 1

    def simulate(self, seconds: float) -> None:
        """Let tasks run for a while."""
        end_s, look_s = self.now_s + seconds, 0.0
        while self.now_s < end_s:
            self.executor.spin_once(timeout_sec=0.05)
            if self.now_s >= self._due_s and self._state != 1:
                self._next_task()
            if time.monotonic() > look_s:
                look_s = time.monotonic() + 0.5
                self.watch.look()

    def _next_task(self) -> None:
        from physai.msg import Instruction
        from physai.srv import Randomize

        self.succeeded += self._state == 2
        future = self._randomize.call_async(
            Randomize.Request(seed=self._rng.randrange(1 << 30), parts=["poses"])
        )
        self.executor.spin_until_future_complete(future, timeout_sec=60)
        settled_s = self.now_s + 1.0
        while self.now_s < settled_s:
            self.executor.spin_once(timeout_sec=0.05)
        cup, place = self._rng.choice(CUPS), self._rng.choice(PLACES)
        self._instructions.publish(Instruction(text=f"put the {cup} cup on the {place} shelf"))
        self.tasks += 1
        self._due_s = self.now_s + 2.0  # by then its status has changed


def nonsense(connection: socket.socket) -> None:
    """A server that behaves once, for the start, and then answers anything."""
    import numpy as np
    from openpi_client import msgpack_numpy
    from remote_peers import openpi_handshake, read_websocket_message, websocket_frame

    rng, sensible = random.Random(5), not nonsense.started  # type: ignore[attr-defined]
    nonsense.started = True  # type: ignore[attr-defined]
    openpi_handshake(connection)
    while True:
        read_websocket_message(connection)
        size = 0.0 if sensible else rng.choice([0.002, 0.01, 0.02, 0.3, 1e300, np.nan])
        noise = np.random.default_rng(rng.randrange(1 << 30)).normal(size=(16, 4))
        actions = [0.4, 0.0, 0.4, 0.04] + size * noise
        reply = msgpack_numpy.packb({"actions": actions, "samples": np.zeros((16, 0, 4))})
        broken = [] if sensible else [reply[:-9], rng.randbytes(200), b"\x80\x04.", b""]
        connection.sendall(websocket_frame(rng.choice([reply, reply, reply, *broken])))
        sensible = False


nonsense.started = False  # type: ignore[attr-defined]


def beside(**given: str) -> Graph:
    """A shadow beside a stack that runs."""
    return bringup_graph(
        mode="shadow", sim="none", control="none", perception="none", use_sim_time="true", **given
    )


@contextmanager
def shadow(graph: Graph, recordings: Path, verbose: bool) -> Iterator[Stack]:
    changed = {"recordings": str(recordings), "least_free_mb": 0.0}
    nodes = tuple(
        replace(spec, parameters={**spec.parameters, **changed}) if spec.name == "recorder" else spec
        for spec in graph.nodes
    )
    with Stack(replace(graph, nodes=nodes), said("shadow ", verbose)) as stack:
        stack.wait_ready(180)
        yield stack


def said(mark: str, verbose: bool) -> Any:
    return (lambda name, line: print(f"[{mark}{name}] {line}", flush=True)) if verbose else None


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="simulated")
    parser.add_argument("--real-time-factor", type=float, default=0.0, help="0: as fast as possible")
    parser.add_argument("--out", type=Path, default=None, help="folder for the shadow's recordings")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    from remote_peers import EvilServer

    join_stack()
    out = options.out or Path(tempfile.mkdtemp(prefix="shadow-"))
    seconds, began = options.minutes * 60, time.monotonic()
    working = bringup_graph(real_time_factor=str(options.real_time_factor))
    with Stack(working, said("", options.verbose)) as stack, EvilServer(nonsense) as server:
        stack.wait_ready(180)
        operator = Operator(options.seed)
        far = out / "far.yaml"
        out.mkdir(parents=True, exist_ok=True)
        far.write_text(SHIPPED_REMOTE.read_text().replace("127.0.0.1:8000", f"127.0.0.1:{server.port}"))
        rogue = beside()
        command = (sys.executable, str(HELPERS / "rogue_policy.py"))
        rogue = replace(
            rogue, nodes=tuple(replace(s, command=command) if s.name == "policy" else s for s in rogue.nodes)
        )
        simulated_s = 0.0
        for name, graph, share in (
            ("the shipped policy", beside(), 0.5),
            ("a policy whose server answers nonsense", beside(policy=str(far)), 0.25),
            ("a program that tries every way", rogue, 0.25),
        ):
            with shadow(graph, out, options.verbose):
                from_s, chunks = operator.now_s, operator.shadow_chunks
                operator.simulate(share * seconds)
                simulated_s += operator.now_s - from_s
                print(
                    f"shadow: {name}: {operator.now_s - from_s:.0f} simulated s, "
                    f"{operator.shadow_chunks - chunks} chunks on shadow/action_chunk",
                    flush=True,
                )
        watch, control = operator.watch, operator.control
        print(
            f"{simulated_s:.0f} simulated s in {time.monotonic() - began:.0f} s; {operator.tasks} tasks given, ",
            end="",
        )
        print(
            f"{operator.succeeded} done; the controller took {control.chunks_accepted} chunks, refused {control.chunks_rejected}"
        )
        print("what the controller's process listens to, and who published there:")
        for topic in sorted(watch.look()):
            publishers = {who for place, who in watch.offered if place == topic}
            publishers |= {who for place, who in watch.counts if place == topic}
            for who in sorted(publishers) or ["nobody"]:
                print(f"  {topic:18} {who:22} {watch.counts[topic, who]:8} messages")
        reaching = watch.reaching("/shadow")
        print(f"of the shadow: {reaching or 'none'}; recordings in {out}")
    return 1 if reaching or not operator.shadow_chunks else 0


if __name__ == "__main__":
    sys.exit(main())
