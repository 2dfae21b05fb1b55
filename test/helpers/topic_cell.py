"""What the tests of the topic backend share: the cell as a second process, and what the arm in it really does."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from physai_base.embodiment import find_embodiment
from physai_ros.graph import NodeSpec
from physai_sim.plant import Gate

# A busy machine may take a process off its core for longer than the 20 ms of the shipped robot, and the watchdogs at
# the controller's end run on wall time: here they have more. The gate at the robot's end counts simulated time, which
# waits for answers; it keeps its 20 ms.
PATIENT_S = 0.5
ANSWER_MS = 25.0


def write_robot(folder: Path, patient_s: float = PATIENT_S, **changes: Any) -> Path:
    """An embodiment that extends fr3_topic, with watchdogs of `patient_s` and changes to its sections."""
    control = {"state_timeout_s": patient_s, **changes.pop("control", {})}
    hardware = changes.pop("hardware", {})
    options = {"stale_ms": patient_s * 1e3, **hardware.pop("options", {})}
    document = {
        "extends": str(find_embodiment("fr3_topic").resolve()),
        "control": control,
        "hardware": {**hardware, "options": options},
        **changes,
    }
    path = folder / "robot.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def bridge(robot: Path, log: Path, **parameters: Any) -> NodeSpec:
    """The process that runs the cell."""
    return NodeSpec(
        "bridge",
        "bridge",
        {"robot": str(robot), "log": str(log), "answer_ms": ANSWER_MS, **parameters},
        managed=False,
    )


def until(condition: Callable[[], Any], what: str, timeout_s: float = 30.0) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"timed out: {what}"
        time.sleep(0.005)


class Truth:
    """The plant's own log, written by the cell's process, one row each ms of simulated time."""

    def __init__(self, path: Path, joints: int = 7) -> None:
        self._path = path
        self._columns = 3 + 3 * joints
        self._joints = joints

    def rows(self, start: int = 0) -> np.ndarray:
        """(N, 3 + 3 n): time_s, gate, missed, position, velocity, torque."""
        if not self._path.exists():
            return np.empty((0, self._columns))
        content = np.fromfile(self._path, offset=start * self._columns * 8)
        count = len(content) // self._columns
        return content[: count * self._columns].reshape(count, self._columns)

    def __len__(self) -> int:
        """Rows so far."""
        return self._path.stat().st_size // (8 * self._columns) if self._path.exists() else 0

    def run(self, seconds: float) -> None:
        """Wait for simulated time to pass."""
        end = len(self) + round(seconds * 1000)
        until(lambda: len(self) >= end, "simulated time passes", 60.0 + 10 * seconds)

    def of(self, rows: np.ndarray, what: str) -> np.ndarray:
        """The columns (N, n) of `position`, `velocity` or `torque`."""
        first = 3 + self._joints * ("position", "velocity", "torque").index(what)
        return rows[:, first : first + self._joints]

    def gate(self, start: int = 0) -> np.ndarray:
        return self.rows(start)[:, 1].astype(int)

    def position(self, start: int = 0) -> np.ndarray:
        return self.of(self.rows(start), "position")

    def velocity(self, start: int = 0) -> np.ndarray:
        return self.of(self.rows(start), "velocity")

    def torque(self, start: int = 0) -> np.ndarray:
        return self.of(self.rows(start), "torque")

    @property
    def speed(self) -> float:
        """Largest joint speed over the last 10 ms, rad/s."""
        return float(np.abs(self.velocity(max(0, len(self) - 10))).max(initial=0.0))

    @property
    def is_driven(self) -> bool:
        """Whether a controller's torque was applied in the newest step."""
        gates = self.gate(max(0, len(self) - 1))
        return bool(len(gates)) and gates[-1] == Gate.DRIVEN
