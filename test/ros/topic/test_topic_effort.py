"""What moves nobody, and torques over topics: only where somebody listens, states come fast and a gate stops the arm."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from topic_cell import write_robot
from topic_robot import Robot

from physai_base.embodiment import Embodiment
from physai_base.errors import EmbodimentError
from physai_base.values import ControlCause, ControlState
from physai_control.core import ControlCore, ControlError

pytestmark = pytest.mark.ros


class Deaf(Robot):
    """A robot that publishes its states and takes no commands."""

    def __init__(self, robot: Embodiment) -> None:
        super().__init__(robot)
        for subscription in list(self.node.subscriptions):
            if subscription.topic_name.endswith("joint_command"):
                self.node.destroy_subscription(subscription)


def test_an_arm_whose_commands_nobody_receives_is_not_activated(tmp_path: Path) -> None:
    embodiment = Embodiment.load(write_robot(tmp_path, control={"rate_hz": 300}))
    core, robot = ControlCore(embodiment), Deaf(embodiment)
    core.start()
    try:
        for _ in range(100):
            robot.run(0.05)
            if core.joint_state() is not None:
                break
        core.activate()
        robot.run(0.5)
        status = core.status()
        assert status.state is ControlState.INACTIVE and status.cause_code is ControlCause.UNHEARD
        assert "nobody receives the commands" in status.cause
    finally:
        core.close()
        robot.close()


def test_a_robot_that_stops_listening_is_a_fault(driven: tuple[Robot, ControlCore]) -> None:
    robot, core = driven
    for subscription in list(robot.node.subscriptions):
        if subscription.topic_name.endswith("joint_command"):
            robot.node.destroy_subscription(subscription)
    for _ in range(100):
        robot.run(0.05)
        if core.status().state is ControlState.FAULT:
            break
    assert core.status().cause_code is ControlCause.UNHEARD, core.status().cause


SLOW_NS = 7_500_000  # 133 Hz


def test_torques_are_refused_where_states_really_come_below_300_hz(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever the robot's file says."""
    embodiment = Embodiment.load(write_robot(tmp_path, control={"rate_hz": 300}))
    core, robot = ControlCore(embodiment), Robot(embodiment)
    core.start()
    try:
        for _ in range(100):
            robot.run(0.05, lambda: robot.message(period_ns=SLOW_NS))
            if core.joint_state() is not None:
                break
        core.activate()
        robot.run(0.7, lambda: robot.message(period_ns=SLOW_NS))
        status = core.status()
        assert status.state is ControlState.INACTIVE and status.cause_code is ControlCause.STATE_SLOW
        assert not robot.commands
        assert re.search(r"states come at 13\d Hz by their stamps", "".join(capfd.readouterr()))
        robot.run(0.6)  # as often as the file says
        core.activate()
        robot.run(0.3)
        assert core.status().state is ControlState.HOLD, core.status().cause
        robot.run(0.2, lambda: robot.message(period_ns=SLOW_NS))  # a short while is no fault
        robot.run(0.5)
        assert core.status().state is ControlState.HOLD, core.status().cause
        robot.run(1.5, lambda: robot.message(period_ns=SLOW_NS))
        assert core.status().cause_code is ControlCause.STATE_SLOW
        assert core.status().state is ControlState.FAULT and not robot.enabled[-1]
    finally:
        core.close()
        robot.close()


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"gate": ""}, "needs hardware.gate"), ({"rate_hz": 250.0}, "at least 300 Hz")],
)
def test_the_backend_itself_refuses_effort_that_is_not_safe(
    change: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    """Also where the embodiment did not come out of a file."""
    embodiment = Embodiment.load(write_robot(tmp_path))
    if "gate" in change:
        options = {**embodiment.hardware.options, "gate": "none"}
        embodiment = replace(embodiment, hardware=replace(embodiment.hardware, options=options))
    else:
        embodiment = replace(embodiment, control=replace(embodiment.control, **change))
    core = ControlCore(embodiment)
    try:
        with pytest.raises(ControlError, match=reason):
            core.start()
    finally:
        core.close()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hardware": {"gate": None}}, "hardware.gate: is missing"),
        ({"control": {"rate_hz": 250}}, "at least 300 Hz, got 250 Hz"),
        ({"hardware": {"gate": {"action": "brakes"}}}, None),
        ({"hardware": {"gate": {"action": "nothing"}}}, "must be one of brakes, damping, hold"),
        ({"hardware": {"gate": {"within_ms": 5000}}}, r"within \[1, 200\]"),
        ({"hardware": {"gate": None, "command": "position"}, "control": {"rate_hz": 100}}, None),
    ],
)  # fmt: skip
def test_effort_over_topics_needs_a_gate_and_300_hz(
    changes: dict[str, Any], reason: str | None, tmp_path: Path
) -> None:
    path = write_robot(tmp_path, **changes)
    if reason is None:
        Embodiment.load(path)
    else:
        with pytest.raises(EmbodimentError, match=reason):
            Embodiment.load(path)
