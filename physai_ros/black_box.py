"""The cycles around a latched stop as an MCAP file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from sensor_msgs.msg import JointState

from physai_base.embodiment import Embodiment
from physai_base.values import ControlStatus, StopRecord
from physai_ros import conversions
from physai_ros.recording import Recorder


def write_stop(
    folder: Path, records: Sequence[StopRecord], status: ControlStatus, embodiment: Embodiment
) -> Path:
    """Write `stop-<time>.mcap` with what was measured and commanded in each cycle, and the status at the end.

    Topics: joint_states, command (JointState: reference position and velocity, commanded torque as effort, which
    is empty while the brakes hold the arm) and control/status.

    Raises:
        OSError: the file cannot be written.
    """
    path = folder / f"stop-{time.strftime('%Y%m%d-%H%M%S')}-{status.cycles}.mcap"
    with Recorder(path) as recorder:
        for record in records:
            stamp_ns = record.measured.stamp_ns
            recorder.write(
                "joint_states", conversions.joint_state_to_msg(record.measured, embodiment), stamp_ns
            )
            if record.answered:
                recorder.write("command", _command(record, embodiment), stamp_ns)
        recorder.write("control/status", conversions.status_to_msg(status, embodiment), status.stamp_ns)
    return path


def _command(record: StopRecord, embodiment: Embodiment) -> JointState:
    return conversions.joints_to_msg(
        conversions.header(record.measured.stamp_ns, embodiment.base_frame),
        embodiment.joint_names,
        record.command_position,
        record.command_velocity,
        record.command_torque if record.enabled else (),
    )
