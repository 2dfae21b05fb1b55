"""Arms that take positions and measure little else, and robots with several grippers, behind the topic backend."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from topic_robot import Robot, held

from physai_base.values import ActionChunk, ChunkMode, ControlCause, ControlState
from physai_control.core import ControlCore

pytestmark = pytest.mark.ros

DT_NS, STEPS = 50_000_000, 21
POSITIONS: dict[str, Any] = {
    "control": {"rate_hz": 50, "contact": {"force": 1.0, "moment": 1.0}},
    "hardware": {"command": "position"},
}

QUIET = {**POSITIONS, "control": {"rate_hz": 50, "contact": {"force": 0, "moment": 0}}}


def chunk(core: ControlCore, reach_rad: float, openings: np.ndarray) -> ActionChunk:
    """One second to `reach_rad` on every joint."""
    status = core.status()
    phase = 0.5 * (1 - np.cos(np.pi * np.arange(STEPS) / (STEPS - 1)))
    return ActionChunk(
        sequence=1, policy="test", observation_ns=status.stamp_ns, start_ns=status.stamp_ns, dt_ns=DT_NS,
        mode=ChunkMode.JOINT_POSITION, joint_names=core._embodiment.joint_names,
        values=status.reference + reach_rad * phase[:, None], openings=openings, uncertainty=0.0,
        expiry_ns=status.stamp_ns + (STEPS + 10) * DT_NS,
        end_effectors=core._embodiment.end_effector_names,
    )  # fmt: skip


SILENT = {"absent": [], "no number": [float("nan")] * 9}


@pytest.mark.parametrize("how", SILENT)
def test_an_arm_that_measures_positions_alone_follows_a_chunk(how: str, tmp_path: Path) -> None:
    """Its velocity is what positions make of it, and nobody takes a torque that it does not measure for contact."""

    class Hobby(Robot):
        def message(self, period_ns: int = 5_000_000, **changes: Any) -> Any:
            if self.commands:  # a servo that is where it was told to be
                self.position[:7] = self.commands[-1].position
            return super().message(period_ns, velocity=SILENT[how], effort=SILENT[how], **changes)

    with held(tmp_path, robot=Hobby, **POSITIONS) as (robot, core):
        start = core.status().reference
        core.post(chunk(core, 0.3, np.full((STEPS, 1), 0.04)))
        fastest = 0.0
        for _ in range(60):
            robot.run(0.025)
            state = core.joint_state()
            assert state is not None and np.isfinite(state.velocity).all()
            fastest = max(fastest, float(state.velocity.max()))
        status = core.status()
        assert status.state is ControlState.HOLD and "expired" in status.cause, status.cause
        np.testing.assert_allclose(robot.position[:7], start + 0.3, atol=2e-3)
        assert 0.3 < fastest < 0.7  # rad/s: the chunk's own is 0.47
        assert not status.tool.external_wrench.any()


def test_what_was_measured_once_must_go_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with held(tmp_path, **QUIET) as (robot, core):
        robot.run(1.5, lambda: robot.message(effort=[]))
        assert core.status().state is ControlState.FAULT
        assert "came with efforts before" in "".join(capfd.readouterr())


class Servos(Robot):
    """Position servos that are where they are told to be, with names of their own, fingers among the arm's joints."""

    prefix = "so_"

    def __init__(self, robot: Any) -> None:
        super().__init__(robot)
        self.names = [self.prefix + name for name in self.names]

    def message(self, period_ns: int = 5_000_000, **changes: Any) -> Any:
        if self.commands:
            self.position[: len(self.commands[-1].position)] = self.commands[-1].position
        return super().message(period_ns, **{"velocity": [], **changes})


RENAMED: dict[str, Any] = {
    "control": {"rate_hz": 50, "contact": {"force": 1.0, "moment": 1.0}},
    "hardware": {
        "command": "position",
        "options": {
            "joints": ", ".join(f"so_fr3_joint{k}" for k in range(1, 8)),
            "fingers": "so_fr3_finger_joint1, so_fr3_finger_joint2",
            "gripper_topic": "hardware/joint_command",
            "torque": "commanded",
        },
    },
}


def test_one_message_moves_arm_and_gripper_under_the_drivers_names(tmp_path: Path) -> None:
    """And an effort that is not read, here one that no arm can have, is no contact and no wrench."""

    class Loaded(Servos):
        def message(self, period_ns: int = 5_000_000, **changes: Any) -> Any:
            return super().message(
                period_ns, **{"effort": [99.0] * 9 if len(self.commands) % 2 else [], **changes}
            )

    with held(tmp_path, robot=Loaded, **RENAMED) as (robot, core):
        start = core.status().reference
        core.post(chunk(core, 0.3, np.linspace(0.03, 0.05, STEPS)[:, None]))
        robot.run(1.5)
        status = core.status()
        assert status.state is ControlState.HOLD and "expired" in status.cause, status.cause
        assert {tuple(message.name) for message in robot.commands} == {tuple(robot.names)}
        np.testing.assert_allclose(robot.commands[-1].position[:7], start + 0.3, atol=2e-3)
        np.testing.assert_allclose(robot.commands[-1].position[7:], [0.025, 0.025], atol=1e-3)
        assert status.tool.opening == pytest.approx(0.05, abs=2e-3)
        state = core.joint_state()
        assert state is not None and not state.effort.any() and not status.tool.external_wrench.any()


def test_names_that_the_robot_has_not_are_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with held(tmp_path, **QUIET) as (robot, core):
        robot.run(1.2, lambda: robot.message(name=[f"so_{name}" for name in robot.names]))
        assert core.status().state is ControlState.FAULT
        said = "".join(capfd.readouterr())
        assert "it names 'so_fr3_joint1', 'so_fr3_joint2'" in said and "options joints and fingers" in said


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"joints": "a, b"}, "option joints: the driver's names of the 7 joints"),
        ({"joints": "a, b, c, d, e, f, a"}, "each once"),
        ({"joints": "a, b, c, d, e, f, g, h"}, "got 'a, b, c, d, e, f, g, h'"),
        ({"gripper_topic": "hardware/joint_command", "format": "multiarray"}, "in format joint_state alone"),
    ],
)
def test_wrong_names_of_joints(options: dict[str, Any], reason: str, tmp_path: Path) -> None:
    from topic_cell import write_robot

    from physai_base.embodiment import Embodiment
    from physai_control.core import ControlError

    changes = {**POSITIONS, "hardware": {"command": "position", "options": options}}
    core = ControlCore(Embodiment.load(write_robot(tmp_path, **changes)))
    try:
        with pytest.raises(ControlError) as caught:
            core.start()
        assert reason in str(caught.value)
    finally:
        core.close()


def test_a_driver_that_stalls_is_not_said_to_have_stopped_the_robot(tmp_path: Path) -> None:
    """Longer than stale_ms and shorter than state_timeout_s: the backend lets go, and that is what is said."""
    quiet = {"control": {"rate_hz": 50, "state_timeout_s": 1.0, "contact": {"force": 0, "moment": 0}}}
    with held(tmp_path, hardware={"command": "position", "options": {"stale_ms": 200}}, **quiet) as (
        robot,
        core,
    ):
        robot.spin(0.5)
        robot.run(0.2)
        status = core.status()
        assert status.state is ControlState.FAULT
        assert status.cause_code is ControlCause.LET_GO, status.cause
        sent = len(robot.commands)
        robot.say_stopped(True)
        robot.run(0.2)
        core.reset()
        robot.run(0.3)
        assert core.status().state is ControlState.FAULT and len(robot.commands) == sent


def test_a_joint_that_comes_round_is_named_as_that(tmp_path: Path) -> None:
    class Round(Robot):
        turned_rad = 0.0

        def message(self, period_ns: int = 5_000_000, **changes: Any) -> Any:
            position = [float(q) + self.turned_rad * (k == 4) for k, q in enumerate(self.position)]
            return super().message(period_ns, position=position, velocity=[], effort=[])

    with held(tmp_path, robot=Round, **POSITIONS) as (robot, core):
        robot.turned_rad = 2 * np.pi
        robot.run(0.5)
        status = core.status()
        assert status.cause_code is ControlCause.STATE_JUMPED, status.cause
        assert status.state is ControlState.FAULT and "a full turn" in status.cause


TWO = {
    "control": {"rate_hz": 300, "contact": {"force": 0, "moment": 0}},
    "tool_frame": None,
    "gripper": None,
    "hand": None,
    "geofence": {"elbow_frame": None, "fences": None},
    "end_effectors": [
        {"name": "hand", "frame": "tool0", "gripper": {"joints": ["fr3_finger_joint1", "fr3_finger_joint2"], "width": [0.0, 0.08], "speed": 0.15, "force": 30.0}},
        {"name": "cup", "frame": "fr3_link5", "gripper": {"kind": "suction", "force": 10.0}},
    ],
    "features": None,
}  # fmt: skip
NAMED = {
    "fingers": None,
    "gripper_topic": None,
    "fingers.hand": "fr3_finger_joint1, fr3_finger_joint2",
    "gripper_topic.hand": "hardware/hand",
    "gripper_topic.cup": "hardware/cup",
}


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Robot, ControlCore]]:
    with held(tmp_path, hardware={"options": NAMED}, **TWO) as pair:
        yield pair


def test_each_gripper_has_its_topic(two: tuple[Robot, ControlCore]) -> None:
    from sensor_msgs.msg import JointState

    from physai_ros import qos

    robot, core = two
    said: dict[str, list[Any]] = {"hand": [], "cup": []}
    for name, messages in said.items():
        robot.node.create_subscription(JointState, f"hardware/{name}", messages.append, qos.STATUS)
    robot.run(0.3)
    openings = np.column_stack([np.full(STEPS, 0.03), np.where(np.arange(STEPS) < 4, 1.0, 0.0)])
    core.post(chunk(core, 0.0, openings))
    robot.run(3.6)  # its stamps go at half that pace
    assert core.status().state is ControlState.HOLD, core.status().cause
    hand, cup = said["hand"][-1], said["cup"][-1]
    assert list(hand.name) == ["fr3_finger_joint1", "fr3_finger_joint2"]
    np.testing.assert_allclose(hand.position, [0.015, 0.015], atol=1e-6)
    assert list(cup.name) == ["cup"] and list(cup.position) == [0.0]
    assert {message.position[0] for message in said["cup"]} == {0.0, 1.0}
    state = core.joint_state()
    assert state is not None
    np.testing.assert_allclose(state.openings, [0.03, 0.0], atol=1e-6)  # measured; and as it was commanded


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({**NAMED, "fingers": "a"}, "option fingers: the robot has several end effectors; give fingers.hand"),
        ({**NAMED, "fingers.hand": None}, "gripper_topic.hand needs fingers.hand"),
        ({**NAMED, "fingers.hand": "fr3_finger_joint1,other"}, "'other' is no finger of the robot's file"),
        ({**NAMED, "gripper_topic.foot": "x"}, "there is no option 'gripper_topic.foot'"),
    ],
)
def test_wrong_options_of_several_grippers(options: dict[str, Any], reason: str, tmp_path: Path) -> None:
    from topic_cell import write_robot

    from physai_base.embodiment import Embodiment
    from physai_control.core import ControlError

    core = ControlCore(Embodiment.load(write_robot(tmp_path, hardware={"options": options}, **TWO)))
    try:
        with pytest.raises(ControlError) as caught:
            core.start()
        assert reason in str(caught.value)
    finally:
        core.close()


def test_states_that_are_stale_at_once_are_refused(tmp_path: Path) -> None:
    from topic_cell import write_robot

    from physai_base.embodiment import Embodiment
    from physai_control.core import ControlError

    slow = {**POSITIONS, "hardware": {"command": "position", "options": {"stale_ms": 20}}}
    core = ControlCore(Embodiment.load(write_robot(tmp_path, **slow)))
    try:
        with pytest.raises(ControlError, match="stale_ms is 20 ms and states come every 20 ms"):
            core.start()
    finally:
        core.close()
