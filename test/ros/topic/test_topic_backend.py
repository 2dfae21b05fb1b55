"""The `topic` backend against the cell in another process, and against messages of our own, over real DDS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from std_msgs.msg import Header
from topic_cell import Truth, bridge, until, write_robot
from topic_robot import PATIENT_S, PERIOD_NS, Robot, held

from physai_base.embodiment import Embodiment
from physai_base.values import ActionChunk, ChunkMode, ControlState
from physai_control.core import ControlCore, ControlError
from physai_lab.stack.bringup import Stack
from physai_ros.graph import Graph
from physai_sim.plant import Gate

pytestmark = pytest.mark.ros

DT_NS, STEPS = 50_000_000, 16


def reach_chunk(core: ControlCore, robot: Embodiment, reach_rad: float) -> ActionChunk:
    """A smooth motion of all joints from the present reference."""
    status = core.status()
    phase = (1 - np.cos(np.pi * np.arange(STEPS) / (STEPS - 1))) / 2
    return ActionChunk(
        sequence=1, policy="test", observation_ns=status.stamp_ns, start_ns=status.stamp_ns, dt_ns=DT_NS,
        mode=ChunkMode.JOINT_POSITION, joint_names=robot.joint_names,
        values=status.reference + reach_rad * phase[:, None], openings=np.full((STEPS, 1), 0.04),
        uncertainty=0.0, expiry_ns=status.stamp_ns + (STEPS + 10) * DT_NS,
    )  # fmt: skip


FORMATS = {
    "effort array": ("effort", {"format": "multiarray"}),
    "effort joint state": ("effort", {"format": "joint_state"}),
    "effort numbers": (
        "effort",
        {
            "format": "float64",
            "command_topic": "hardware/{joint}/cmd_force",
            "gripper_topic": "hardware/{joint}/cmd_pos",
        },
    ),
    "position joint state": ("position", {"format": "joint_state"}),
    "velocity array": ("velocity", {"format": "multiarray"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_drives_the_cell_along_a_chunk(name: str, tmp_path: Path) -> None:
    command, options = FORMATS[name]
    path = write_robot(tmp_path, hardware={"command": command, "options": options})
    robot, truth = Embodiment.load(path), Truth(tmp_path / "truth")
    core = ControlCore(robot)
    with Stack(Graph((bridge(path, tmp_path / "truth"),)), lambda who, line: print(f"[{who}] {line}")):
        core.start()
        try:
            until(lambda: core.joint_state() is not None, "joint states arrive")
            core.activate()
            until(lambda: truth.is_driven, "the arm is driven")
            truth.run(0.6)
            start, began = core.status().reference, len(truth)
            core.post(reach_chunk(core, robot, 0.2))
            truth.run(1.2)
            status, rows = core.status(), slice(began, None)
            assert status.state is ControlState.HOLD, status.cause
            assert "expired" in status.cause
            # Messages that reached the plant in time to count, per simulated second.
            gates = truth.gate(began)
            assert set(gates) <= {Gate.DRIVEN, Gate.MISSING}
            assert np.mean(gates == Gate.DRIVEN) * 1000 >= 500
            # The arm is where the chunk leads, within dry friction over stiffness, and stayed within its limits.
            np.testing.assert_allclose(truth.position(began)[-1], start + 0.2, atol=0.02)
            assert np.abs(truth.velocity(began)).max() > 0.3
            assert (np.abs(truth.torque(began)) <= robot.limits("torque")).all()
            if command == "effort":
                assert np.abs(np.diff(truth.torque()[rows], axis=0)).max() <= 1.0 + 1e-9  # Nm per ms
            assert core.joint_state().openings[0] == pytest.approx(0.04, abs=3e-3)  # type: ignore[union-attr]
            # Letting go on purpose leaves the arm on its brakes, without a latched gate.
            core.deactivate()
            until(lambda: truth.gate()[-1] == Gate.BRAKED, "the brakes close")
            assert Gate.LATCHED not in truth.gate(began)
            assert np.abs(np.diff(truth.position(began)[[-1, -100]], axis=0)).max() < 2e-3
        finally:
            core.close()


def test_an_arm_that_carries_its_own_weight_is_not_lifted_by_its_servo_as_well(tmp_path: Path) -> None:
    path = write_robot(tmp_path, hardware={"command": "position", "gravity": "robot"})
    truth, core = Truth(tmp_path / "truth"), ControlCore(Embodiment.load(path))
    with Stack(Graph((bridge(path, tmp_path / "truth"),)), lambda who, line: print(f"[{who}] {line}")):
        core.start()
        try:
            until(lambda: core.joint_state() is not None, "joint states arrive")
            core.activate()
            until(lambda: truth.is_driven, "the arm is driven")
            truth.run(0.6)
            np.testing.assert_allclose(truth.position()[-1], core.status().reference, atol=3e-3)
        finally:
            core.close()


# Against messages of our own ----------------------------------------------------------------------------------


def test_a_command_is_what_isaac_sim_takes(driven: tuple[Robot, ControlCore], embodiment: Embodiment) -> None:
    robot, _ = driven
    command = robot.commands[-1]
    assert tuple(command.name) == embodiment.joint_names
    assert len(command.effort) == 7 and not command.position and not command.velocity
    stamp = command.header.stamp
    assert 0 <= robot.stamp_ns - (stamp.sec * 10**9 + stamp.nanosec) < 1e9  # of the state that it answers


def test_joints_are_matched_by_name(driven: tuple[Robot, ControlCore]) -> None:
    robot, core = driven
    before = core.joint_state().position  # type: ignore[union-attr]
    order = np.random.default_rng(1).permutation(len(robot.names))
    robot.names = [*(robot.names[i] for i in order), "a_sensor", "a_wheel"]
    robot.position = [*(robot.position[i] for i in order), 7.0, 8.0]
    robot.run(0.2)
    state = core.joint_state()
    assert state is not None
    np.testing.assert_array_equal(state.position, before)
    assert state.openings[0] == pytest.approx(0.03)
    assert core.status().state is ControlState.HOLD


def test_states_that_are_not_finite_are_a_fault(driven: tuple[Robot, ControlCore]) -> None:
    robot, core = driven
    robot.position[3] = float("nan")
    robot.run(0.1)
    assert core.status().state is ControlState.FAULT
    assert "not finite" in core.status().cause
    assert not robot.enabled[-1]
    start = len(robot.commands)
    robot.position[3] = -2.4
    robot.run(0.2)
    assert len(robot.commands) == start  # latched: nothing is sent
    core.reset()
    robot.run(0.2)
    assert core.status().state is ControlState.HOLD
    assert len(robot.commands) > start and robot.enabled[-1]


UNUSABLE = {
    "a missing joint": ({"name": ["x", *(f"fr3_joint{i}" for i in range(2, 8)), "f1", "f2"]}, "joint 'fr3_joint1' is missing"),
    "a missing finger": ({"name": [*(f"fr3_joint{i}" for i in range(1, 8)), "f1", "f2"]}, "'fr3_finger_joint1' is missing"),
    "no velocities": ({"velocity": []}, "9 names but 9 positions, 0 velocities"),
    "too few positions": ({"position": [0.0] * 8}, "9 names but 8 positions"),
    "many joints of others": (
        {name: [0.0] * 65 for name in ("position", "velocity", "effort")} | {"name": [f"j{i}" for i in range(65)]},
        "joint 'fr3_joint1' is missing",
    ),
    "a joint twice": ({"name": [*(f"fr3_joint{i}" for i in (1, 1, 3, 4, 5, 6, 7)), "f1", "f2"]}, "'fr3_joint1' is named twice"),
    "no stamp": ({"header": Header()}, "without a stamp"),
    "nothing": ({"name": [], "position": [], "velocity": [], "effort": []}, "joint 'fr3_joint1' is missing"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_states_are_named_and_end_in_a_fault(
    name: str, driven: tuple[Robot, ControlCore], capfd: pytest.CaptureFixture[str]
) -> None:
    robot, core = driven
    changes, reason = UNUSABLE[name]
    robot.run(3 * PATIENT_S, lambda: robot.message(**changes))
    assert core.status().state is ControlState.FAULT
    assert reason in "".join(capfd.readouterr())
    assert not robot.enabled[-1]


def test_the_robots_own_stop_holds_while_anybody_says_so(driven: tuple[Robot, ControlCore]) -> None:
    from physai_ros import qos

    robot, core = driven
    other = robot.node.create_publisher(robot._bool, "hardware/stopped", qos.SENSOR)
    until(other.get_subscription_count, "the backend listens to it")
    robot.say_stopped(True)
    robot.run(0.2)
    other.publish(robot._bool(data=False))
    core.reset()
    robot.run(0.2)
    assert core.status().state is ControlState.FAULT
    robot.say_stopped(False)
    robot.run(0.2)
    core.reset()
    robot.run(0.2)
    assert core.status().state is ControlState.HOLD, core.status().cause


def test_states_whose_stamp_stands_still_count_as_none(driven: tuple[Robot, ControlCore]) -> None:
    robot, core = driven
    frozen = robot.message()
    robot.run(4 * PATIENT_S, lambda: frozen)
    assert core.status().state is ControlState.FAULT
    assert "no joint state" in core.status().cause
    sent = len(robot.commands)
    robot.run(0.2)
    assert len(robot.commands) == sent
    assert core.status().state is ControlState.FAULT  # nothing goes on by itself


def test_the_robots_own_stop_is_a_fault_that_no_reset_overrides(driven: tuple[Robot, ControlCore]) -> None:
    robot, core = driven
    robot.say_stopped(True)
    robot.run(0.2)
    assert core.status().state is ControlState.FAULT
    core.reset()
    robot.run(0.2)
    assert core.status().state is ControlState.FAULT
    robot.say_stopped(False)
    robot.run(0.1)
    core.reset()
    robot.run(0.2)
    assert core.status().state is ControlState.HOLD


@pytest.mark.parametrize("flag", ["estop", "stopped"])
def test_a_pulse_between_two_states_stops_the_arm(flag: str, tmp_path: Path) -> None:
    """A momentary button: true and false in the same moment, sent reliably, so that neither is lost on the way."""
    with held(tmp_path, hardware={"options": {f"{flag}_topic": f"hardware/{flag}"}}) as (robot, core):
        button = robot.node.create_publisher(robot._bool, f"hardware/{flag}", 10)
        for _ in range(100):
            robot.run(0.05)
            if button.get_subscription_count() == 2:  # best effort, and reliable
                break
        assert button.get_subscription_count() == 2
        assert core.status().state is ControlState.HOLD, core.status().cause
        for pressed in (True, False):
            button.publish(robot._bool(data=pressed))
        robot.spin(0.1)  # both are there before the next state is
        robot.run(0.1)
        wanted = ControlState.ESTOP if flag == "estop" else ControlState.FAULT
        assert core.status().state is wanted
        core.reset()
        robot.run(0.2)
        assert core.status().state is ControlState.HOLD, core.status().cause  # it is released


def test_the_watchdog_is_the_backends_own(tmp_path: Path) -> None:
    """A core that would wait a second for states has been let go of by its backend before, and must be reset."""
    changes = {"control": {"state_timeout_s": 1.0}, "hardware": {"options": {"stale_ms": 300}}}
    with held(tmp_path, **changes) as (robot, core):
        robot.spin(0.6)  # no state for longer than stale_ms, for less than the core allows
        assert not robot.enabled[-1]
        sent = len(robot.commands)
        robot.run(0.3)
        assert len(robot.commands) == sent
        assert core.status().state is ControlState.FAULT
        core.reset()
        robot.run(0.3)
        assert core.status().state is ControlState.HOLD
        assert len(robot.commands) > sent and robot.enabled[-1]


@pytest.mark.parametrize(
    ("command", "stale", "last"),
    [
        ("velocity", "default", "zero"),
        ("position", "default", "measured"),
        ("position", "nothing", "commanded"),
        ("effort", "zero", "zero"),
        ("effort", "default", "commanded"),
    ],
)
def test_what_is_sent_last_depends_on_the_kind_of_command(
    command: str, stale: str, last: str, tmp_path: Path
) -> None:
    hardware = {"command": command, "options": {"stale_command": stale}}
    with held(tmp_path, hardware=hardware) as (robot, core):
        # Away from the reference, so that what is measured differs from what is commanded.
        for _ in range(20):
            robot.position[1] += 5e-4
            robot.run(0.005)
        robot.run(0.1)
        assert core.status().state is ControlState.HOLD, core.status().cause
        values = {
            "zero": 0.0,
            "measured": robot.position[1],
            "commanded": getattr(robot.commands[-1], command)[1],
        }
        assert len({round(value, 6) for value in values.values()}) == 3
        robot.spin(2 * PATIENT_S)
        assert not robot.enabled[-1]
        assert getattr(robot.commands[-1], command)[1] == pytest.approx(values[last])


OPTIONS = {
    "unknown": ({"rate": 5}, "there is no option 'rate'; there are: state_topic, command_topic"),
    "choice": ({"format": "json"}, "format must be one of multiarray, joint_state, float64; got 'json'"),
    "number": ({"stale_ms": "soon"}, r"stale_ms must be a number within \[2, 10000\], got 'soon'"),
    "nan": ({"stale_ms": "nan"}, "stale_ms must be a number"),
    "range": ({"stale_ms": 0}, r"within \[2, 10000\], got '0'"),
    "pattern": ({"format": "float64", "gripper_topic": ""}, r"float64 needs {joint} in command_topic"),
    "long": ({"command_topic": "x" * 300}, "command_topic has 300 characters, at most 255"),
    "fingers": ({"fingers": "a,,b"}, "fingers: up to 8 names"),
    "gripper": ({"fingers": ""}, "gripper_topic needs fingers"),
    "hold": ({"stale_command": "hold"}, "stale_command hold is for command position"),
    "topic": ({"state_topic": "a b"}, "a b"),
    "node": ({"node_name": "1 2"}, "1 2"),
    "pace": ({"pace": "fast"}, "pace must be one of state, timer"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_wrong_options_are_named(name: str, tmp_path: Path) -> None:
    options, reason = OPTIONS[name]
    core = ControlCore(Embodiment.load(write_robot(tmp_path, hardware={"options": options})))
    try:
        with pytest.raises(ControlError, match=reason):
            core.start()
    finally:
        core.close()


def test_a_backend_that_was_not_built_is_named(tmp_path: Path) -> None:
    robot = Embodiment.load(write_robot(tmp_path, hardware={"backend": "ethercat"}))
    with pytest.raises(ControlError, match="there is no hardware backend 'ethercat'"):
        ControlCore(robot)


def test_a_timer_can_pace_the_loop(tmp_path: Path) -> None:
    """States at 200 Hz, a loop at 100 Hz: it takes every other state, and answers it."""
    hardware = {"command": "position", "options": {"pace": "timer"}}
    with held(tmp_path, control={"rate_hz": 100}, hardware=hardware) as (robot, _):
        sent, published = len(robot.commands), robot.stamp_ns
        robot.run(1.0)
        states = (robot.stamp_ns - published) / PERIOD_NS
        assert 0.25 * states <= len(robot.commands) - sent <= 0.75 * states
