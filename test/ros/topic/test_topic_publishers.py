"""Joint states from several publishers: a driver for each part is right, a contradiction is refused by name."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from topic_cell import until, write_robot
from topic_robot import PATIENT_S, Robot

from physai_base.embodiment import Embodiment
from physai_base.values import ControlState
from physai_control.core import ControlCore

pytestmark = pytest.mark.ros


def part(robot: Robot, names: list[str], **changes: Any) -> Any:
    """A message about those of the robot's joints alone."""
    position = [dict(zip(robot.names, robot.position, strict=True)).get(name, 1.0) for name in names]
    rates = [0.0] * len(names)
    return robot.message(
        **{"name": names, "position": position, "velocity": rates, "effort": rates, **changes}
    )


def another_publisher(robot: Robot) -> Any:
    from physai_ros import qos

    publisher = robot.node.create_publisher(type(robot.message()), "hardware/joint_states", qos.STATUS)
    until(publisher.get_subscription_count, "the backend listens to it")
    return publisher


def test_arm_and_gripper_may_have_a_driver_each_and_the_wheels_another(
    driven: tuple[Robot, ControlCore], capfd: pytest.CaptureFixture[str]
) -> None:
    robot, core = driven
    arm, fingers = robot.names[:7], robot.names[7:]
    gripper, platform = another_publisher(robot), another_publisher(robot)
    robot.position[7:] = [0.015, 0.02]
    cycles = itertools.count()

    def make() -> Any:
        if next(cycles) % 10 == 0:  # without velocities and efforts, as gripper drivers do
            gripper.publish(part(robot, fingers, period_ns=0, velocity=[], effort=[]))
        platform.publish(part(robot, ["wheel_left", "wheel_right"], period_ns=0, effort=[float("nan")] * 2))
        platform.publish(part(robot, ["wheel_left"], period_ns=0, position=[], velocity=[]))
        return part(robot, arm)

    robot.run(
        1.6, make
    )  # until the fingers, of which the first publisher says no more, are the gripper driver's
    core.reset()
    robot.run(0.3, make)
    capfd.readouterr()
    sent = len(robot.commands)
    robot.run(1.0, make)
    assert core.status().state is ControlState.HOLD, core.status().cause
    assert len(robot.commands) - sent > 20
    state = core.joint_state()
    assert state is not None and state.openings[0] == pytest.approx(0.035)
    np.testing.assert_array_equal(state.position, robot.position[:7])
    said = "".join(capfd.readouterr())
    assert "wheel" not in said and "contradict" not in said and "missing" not in said


def test_a_gripper_that_falls_silent_is_named(
    driven: tuple[Robot, ControlCore], capfd: pytest.CaptureFixture[str]
) -> None:
    robot, core = driven
    robot.run(4 * PATIENT_S, lambda: part(robot, robot.names[:7]))
    assert core.status().state is ControlState.FAULT
    assert "joint 'fr3_finger_joint1' is missing: it came last" in "".join(capfd.readouterr())


def test_a_second_publisher_that_says_the_same_does_no_harm(driven: tuple[Robot, ControlCore]) -> None:
    robot, core = driven
    relay = another_publisher(robot)

    def make() -> Any:
        relay.publish(robot.message(period_ns=0))
        return robot.message()

    robot.run(1.0, make)
    assert core.status().state is ControlState.HOLD, core.status().cause


SECONDS = {"zeros": [0.0] * 9, "another place": [0.3, -0.6, 0.0, -2.4, 0.0, 1.8, 0.7854, 0.01, 0.02]}


@pytest.mark.parametrize("said", SECONDS)
def test_a_second_publisher_that_says_otherwise_is_refused_by_name(
    said: str, driven: tuple[Robot, ControlCore], capfd: pytest.CaptureFixture[str]
) -> None:
    robot, core = driven
    home = list(robot.position[:7])
    second = another_publisher(robot)
    followed = []

    def make() -> Any:
        second.publish(robot.message(position=SECONDS[said]))
        followed.append(core.joint_state().position.tolist())  # type: ignore[union-attr]
        return robot.message()

    robot.run(0.5, make)
    assert core.status().state is ControlState.FAULT
    assert "publishers of the joint states contradict each other" in core.status().cause
    assert all(position == home for position in followed)
    assert not robot.enabled[-1]
    log = "".join(capfd.readouterr())
    assert re.search(
        r"hardware/joint_states: joint 'fr3_joint\d' is said to be at .* \(/robot, /robot\)", log
    ), log
    core.reset()
    robot.run(0.2, make)
    assert core.status().state is ControlState.FAULT  # as long as it goes on
    robot.run(1.3)
    core.reset()
    robot.run(0.2)
    assert core.status().state is ControlState.HOLD, core.status().cause


def test_one_publisher_that_says_two_things_in_turn_is_refused_by_name(
    driven: tuple[Robot, ControlCore], capfd: pytest.CaptureFixture[str]
) -> None:
    """Two drivers behind one relay, or one driver and what fills in zeros."""
    robot, core = driven
    turn = itertools.count()
    robot.run(0.5, lambda: robot.message(position=[0.0] * 9) if next(turn) % 2 else robot.message())
    assert "contradict each other" in core.status().cause
    assert "one publisher says two things in turn" in "".join(capfd.readouterr())


def test_an_arm_is_not_activated_on_contradicting_states(tmp_path: Path) -> None:
    embodiment = Embodiment.load(
        write_robot(tmp_path, PATIENT_S, control={"rate_hz": 100}, hardware={"command": "position"})
    )
    core, robot = ControlCore(embodiment), Robot(embodiment)
    try:
        core.start()
        second = another_publisher(robot)

        def make() -> Any:
            second.publish(robot.message(position=[0.0] * 9))
            return robot.message()

        for _ in range(100):
            robot.run(0.05, make)
            if core.joint_state() is not None:
                break
        robot.run(0.3, make)
        core.activate()
        robot.run(0.5, make)
        assert core.status().state is ControlState.FAULT
        assert "contradict each other" in core.status().cause
        assert not robot.commands
    finally:
        core.close()
        robot.close()


def test_one_stamp_far_ahead_is_dropped_and_not_the_end(
    driven: tuple[Robot, ControlCore], capfd: pytest.CaptureFixture[str]
) -> None:
    robot, core = driven
    ahead = robot.message()
    ahead.header.stamp.sec += 3600
    robot.states.publish(ahead)
    robot.run(0.5)
    assert core.status().state is ControlState.HOLD, core.status().cause
    assert "ahead of the last is dropped" in "".join(capfd.readouterr())
