"""Calibration over ROS: the control node's topics give what the core gives in process."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import mujoco
import numpy as np
import pytest

from physai_base.embodiment import Embodiment
from physai_base.values import ControlState
from physai_lab.calibration.arm_model import ArmModel
from physai_lab.calibration.calibrate import go_home
from physai_lab.calibration.excitation import Workspace, random_motion
from physai_lab.calibration.identification import friction_torque, leftover
from physai_lab.calibration.motion import execute
from physai_lab.calibration.robot import robot_arm
from physai_lab.stack.bringup import join_stack
from physai_ros.place import shared_memory_name
from physai_sim.plant import Plant

NAMESPACE = f"calibrate_{os.getpid()}"
pytestmark = [pytest.mark.ros, pytest.mark.slow]


@pytest.fixture
def robot(embodiment: Embodiment, tmp_path: Path) -> Iterator[Embodiment]:
    """A simulated arm behind shared memory in real time, a little away from its home pose."""
    name = f"physai_calibrate_{os.getpid()}"
    text = embodiment.path.read_text().replace("{name: physai_fr3}", f"{{name: {name}}}")
    text = text.replace("model: fr3/", f"model: {embodiment.model_path.parent}/")
    (tmp_path / "fr3.yaml").write_text(text)
    model = mujoco.MjModel.from_xml_path(str(embodiment.model_path))
    data = mujoco.MjData(model)
    data.qpos[: len(embodiment.home)] = embodiment.home + 0.1
    memory = shared_memory_name(name, int(os.environ.get("ROS_DOMAIN_ID", "0")), NAMESPACE)
    plant = Plant(model, data, embodiment, shm_name=memory, real_time_factor=1.0)
    stop = threading.Event()

    def step() -> None:
        while not stop.is_set():
            plant.run(20)

    thread = threading.Thread(target=step, daemon=True)
    thread.start()
    yield Embodiment.load(tmp_path / "fr3.yaml")
    stop.set()
    thread.join()
    plant.close()


def test_a_motion_over_topics_is_recorded_as_it_was_made(robot: Embodiment) -> None:
    join_stack()
    workspace = Workspace(robot, ArmModel(robot))
    motion = random_motion(workspace, 5.0, seed=2)
    with robot_arm(robot, namespace=NAMESPACE) as arm:
        go_home(arm, workspace)
        recording = execute(arm, motion)
        assert arm.status().state is ControlState.HOLD
    during = (recording.time_s > 0) & (recording.time_s < motion.duration_s)
    assert during.sum() > 100 * motion.duration_s
    assert np.all(np.diff(recording.time_s) > 0)
    assert recording.rms_error().max() < 0.003
    # The torque is the one commanded in answer to the state beside it: the model explains it.
    left = leftover(robot, robot.calibration, [recording])
    unexplained = np.sqrt(np.mean((left.torque * left.use) ** 2, axis=0))
    moved = friction_torque(robot.calibration.friction[0], np.array([1.0]))[0]
    assert unexplained.max() < 0.5 * moved
