"""The embedded cell's arm behind ROS 2 topics as a process of its own: a robot for the `topic` hardware backend."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from std_msgs.msg import String
from std_srvs.srv import Trigger

from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.resources import defaults
from physai_base.task import Task
from physai_ros import topics
from physai_ros.lifecycle_node import PhysaiNode, run_node
from physai_sim.bridge import TopicBridge, WireFaults
from physai_sim.plant import Plant, PlantLog
from physai_sim.scene import Scene

STEPS = 10  # physics steps of 1 ms between two looks at requests
END_TIMEOUT_S = 0.9
PRIORITY, PHYSICS_PRIORITY = 10, 78  # SCHED_FIFO, where that is permitted; the messages' threads are at 79


@dataclass(frozen=True)
class BridgeParameters:
    """Parameters of the node."""

    robot: str = field(
        default=f"{defaults()['robot']}_topic",
        metadata={"description": "embodiment: an installed name or a file"},
    )
    task: str = field(
        default="", metadata={"description": "task: an installed name or a file; empty: the default one"}
    )
    real_time_factor: float = field(
        default=1.0,
        metadata={"range": (0.0, 100.0), "description": "pace of simulated time; 0 runs as fast as possible"},
    )
    answer_ms: float = field(
        default=5.0,
        metadata={
            "unit": "ms",
            "range": (0.1, 1000.0),
            "description": "wall time that simulated time waits for a command; keep it below the controller's stale_ms",
        },
    )
    autostart: bool = field(
        default=True,
        metadata={"description": "start by itself, as a robot's driver does; false: wait for a supervisor"},
    )
    log: str = field(
        default="",
        metadata={
            "description": "file for what the arm really does: float64 rows of time_s, gate, missed, then position, velocity and "
            "torque of every joint; empty: none"
        },
    )


class BridgeNode(PhysaiNode[BridgeParameters]):
    """Runs the cell without cameras; the topics of its arm are served in C."""

    name = "bridge"
    parameters_type = BridgeParameters
    executor_threads = 2  # the reset waits for physics
    fixed_parameters = ("autostart",)

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        if self.get_parameter("autostart").value:
            self._first_turn = self.create_timer(0.01, self._configure_once, clock=self.steady_clock)

    def _configure_once(self) -> None:
        self._first_turn.cancel()
        self.trigger_configure()

    def setup(self) -> None:
        """Build the cell and connect it; physics run from now on."""
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        parameters = self.parameters
        embodiment = Embodiment.load(parameters.robot)
        if embodiment.hardware.backend != "topic":
            raise PhysaiError(
                f"robot {parameters.robot} has the hardware backend {embodiment.hardware.backend!r}; the bridge serves "
                "robots with the backend topic, such as fr3_topic"
            )
        self._scene = Scene.build(embodiment, Task.load(parameters.task))
        self._wire = TopicBridge(
            self._scene.model, self._scene.data, embodiment, node_name=f"{self.get_name()}_topics",
            namespace=self.get_namespace(), epoch_ns=time.time_ns(), answer_s=parameters.answer_ms / 1e3,
        )  # fmt: skip
        self._plant = Plant(
            self._scene.model,
            self._scene.data,
            embodiment,
            core=self._wire,
            real_time_factor=parameters.real_time_factor,
            own_servos=True,
        )
        log = Path(parameters.log).open("ab") if parameters.log else None  # noqa: SIM115
        self._truth: BinaryIO | None = log
        self._jobs: queue.Queue[tuple[threading.Event, Callable[[], None]]] = queue.Queue()
        self.create_service(Trigger, "~/reset", self._reset)
        topics.hear(self, "~/inject", self._inject)
        self._thread = threading.Thread(target=self._physics_loop, name="physics", daemon=True)
        self._thread.start()

    def teardown(self) -> None:
        """End physics and leave."""
        plant, wire = (
            getattr(self, "_plant", None),
            getattr(self, "_wire", None),
        )  # setup() may have broken off
        self._stopping.set()
        if plant:
            plant.interrupt()
        if self._thread:
            self._thread.join(END_TIMEOUT_S)
            if self._thread.is_alive():
                return
            self.get_logger().info(self._summary())
        for part in (plant, wire):
            if part:
                part.close()

    def _summary(self) -> str:
        """What went over the wire, for whoever wonders how fast that is."""
        counts, seconds = self._wire.counts(), self._wire.round_trips()
        text = f"{counts.states} states, {counts.commands} commands, of them {counts.applied} applied, {counts.refused} refused"
        if len(seconds):
            p50, p99, worst = np.percentile(seconds, [50, 99, 100]) * 1e6
            text += f"; the last {len(seconds)} answers took p50 {p50:.0f} us, p99 {p99:.0f} us, at most {worst:.0f} us"
        return text

    def _physics_loop(self) -> None:
        if self.parameters.real_time_factor > 0:
            _prefer(PHYSICS_PRIORITY)
        try:
            while not self._stopping.is_set():
                done = self._plant.run(STEPS)
                if self._truth:
                    self._truth.write(_rows(self._plant.log(done)).tobytes())
                    self._truth.flush()
                while not self._jobs.empty():
                    finished, job = self._jobs.get()
                    job()
                    finished.set()
        except Exception as error:
            if not self._stopping.is_set():
                self.fail(f"physics ended: {error}")

    def _reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Open the gate; the arm stays where it is."""
        finished = threading.Event()
        self._jobs.put((finished, self._plant.reset))
        response.success = finished.wait(5.0)
        response.message = "" if response.success else "physics did not answer"
        return response

    def _inject(self, message: String) -> None:
        try:
            self._wire.set_faults(WireFaults.parse(message.data))
        except PhysaiError as error:
            self.warn_throttled(str(error))


def _rows(log: PlantLog) -> np.ndarray:
    """(N, 3 + 3 n)."""
    columns = (log.time_s, log.gate, log.missed, log.position, log.velocity, log.torque)
    return np.column_stack(columns).astype(np.float64)


def _prefer(priority: int) -> None:
    """Run the calling thread, and those that it starts, before ordinary ones: a robot does not wait for a machine's load."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))


def main() -> None:
    """Entry point of the executable `bridge`."""
    _prefer(PRIORITY)  # also for who holds the interpreter's lock when physics needs it
    run_node(BridgeNode)


if __name__ == "__main__":
    main()
