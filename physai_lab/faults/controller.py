"""A controller process for faults of processes: `python -m physai_lab.faults.controller ROBOT SEGMENT [FOLDER]`.

It swings the arm for ever, by chunks of 0.8 s of which a new one comes every 0.2 s of simulated time, and does
what it reads from stdin, a word a line:

- `estop`: ask for an emergency stop;
- `stall`: hold the interpreter's lock for a second;
- `flood`: write more to stderr than a pipe holds.

After a latched stop it says why, writes the last cycles to FOLDER, and waits for a line before it resets and for
another before it leaves.
"""

from __future__ import annotations

import os
import select
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.values import ActionChunk, ChunkMode, ControlState
from physai_control.core import ChunkRejected, ControlCore
from physai_lab.realtime.loops import hold_interpreter

LATCHED = (ControlState.FAULT, ControlState.ESTOP)
DT_NS, STEPS, PERIOD_NS = 50_000_000, 16, 200_000_000
SWING = (1.0, 0.0, 0.0, 0.3, 0.0, 0.3)  # share of a joint in the motion, over and over
FLOOD_BYTES = 1 << 20
STALL_S = 1.0


def _obey(core: ControlCore) -> None:
    """Carry out what stdin says, if it says anything."""
    if not select.select([sys.stdin], [], [], 0)[0]:
        return
    order = sys.stdin.readline().strip()
    if order == "estop":
        core.estop()
    elif order == "stall":
        hold_interpreter(STALL_S)
        print("stalled", flush=True)
    elif order == "flood":
        os.write(2, b"x" * FLOOD_BYTES)
        print("flooded", flush=True)


def _record(core: ControlCore, embodiment: Embodiment, folder: Path) -> None:
    """Write the stop's cycles as the control node does; the core needs some more of them first."""
    from physai_ros.black_box import write_stop

    end = time.monotonic() + 20
    while not (records := core.stop_records()) and time.monotonic() < end:
        time.sleep(0.01)
    try:
        write_stop(folder, records, core.status(), embodiment)
        print("recorded", flush=True)
    except OSError as error:
        print(f"not recorded: {error}", flush=True)


def _swing(core: ControlCore, embodiment: Embodiment, folder: str) -> None:
    """Until a latched stop."""
    sequence, phase_s, last_ns = 0, 0.0, core.status().stamp_ns
    while (status := core.status()).state not in LATCHED:
        now_ns = status.stamp_ns
        # An arm that ran to its last chunk's end, because nothing came, goes on from there.
        phase_s += min((now_ns - last_ns) / 1e9, (STEPS - 1) * DT_NS / 1e9)
        last_ns = now_ns
        times = phase_s + np.arange(STEPS) * DT_NS / 1e9
        way = np.outer(0.4 * (1 - np.cos(1.5 * times)) / 2, np.resize(SWING, len(embodiment.home)))
        sequence += 1
        chunk = ActionChunk(
            sequence, "swing", now_ns, now_ns, DT_NS, ChunkMode.JOINT_POSITION, embodiment.joint_names,
            embodiment.home + way, np.tile(embodiment.openings_at(0.5), (STEPS, 1)), 0.0, now_ns + STEPS * DT_NS,
            end_effectors=embodiment.end_effector_names,
        )  # fmt: skip
        try:
            core.post(chunk)
        except (
            ChunkRejected
        ) as refusal:  # this process was stopped, or the core latched, since the state was read
            print(f"refused: {refusal}", flush=True)
            time.sleep(0.01)
            continue
        if sequence == 5:
            print("moving", flush=True)
        while core.status().stamp_ns < now_ns + PERIOD_NS and core.status().state not in LATCHED:
            _obey(core)
            time.sleep(0.002)
    print(f"{status.state.name.lower()}: {status.cause}", flush=True)
    if folder:
        _record(core, embodiment, Path(folder))


def main(robot: str, segment: str, folder: str = "") -> None:
    """Run until stdin ends."""
    embodiment = Embodiment.load(robot)
    hardware = replace(embodiment.hardware, backend="shm", options={"name": segment})
    core = ControlCore(replace(embodiment, hardware=hardware))
    core.start()
    while core.joint_state() is None:
        time.sleep(0.01)
    core.activate()
    while core.status().state is ControlState.INACTIVE:
        time.sleep(0.01)
    _swing(core, embodiment, folder)
    sys.stdin.readline()
    core.reset()
    while core.status().state is not ControlState.HOLD:
        time.sleep(0.01)
    print("holding again", flush=True)
    sys.stdin.readline()
    core.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
