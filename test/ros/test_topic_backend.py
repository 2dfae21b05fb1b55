"""The `topic` backend against the cell in another process, and against messages of our own, over real DDS."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from std_msgs.msg import Header
from topic_cell import Truth, bridge, until, write_robot

from physai_base.embodiment import Embodiment
from physai_base.errors import EmbodimentError
from physai_base.values import ActionChunk, ChunkMode, ControlCause, ControlState
from physai_control.core import ControlCore, ControlError
from physai_lab.stack.bringup import Stack, join_stack
from physai_ros.graph import Graph
from physai_sim.plant import Gate

pytestmark = pytest.mark.ros

DT_NS, STEPS = 50_000_000, 16
PERIOD_NS = 2_500_000  # between stamps of our own states, which come at half that pace
PATIENT_S = 0.5  # for those, since a Python program sends them


@pytest.fixture(autouse=True)
def own_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests must not meet another stack on the same machine."""
    join_stack()
    monkeypatch.setenv("ROS_DOMAIN_ID", str(20 + os.getpid() % 70))


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


# Against messages of our own ----------------------------------------------------------------------------------


class Robot:
    """The robot's side of the topics in this process: an arm that stands at home."""

    def __init__(self, robot: Embodiment) -> None:
        import rclpy
        from sensor_msgs.msg import JointState
        from std_msgs.msg import Bool

        from physai_ros import qos

        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=int(os.environ["ROS_DOMAIN_ID"]))
        self.node = rclpy.create_node("robot", context=self.context)
        self.commands: list[Any] = []
        self.enabled: list[bool] = []
        self.names = [*robot.joint_names, *robot.gripper.joints]
        self.position = [*robot.home, 0.01, 0.02]
        self.stamp_ns = time.time_ns()
        self._message = JointState
        self._bool = Bool
        self.states = self.node.create_publisher(JointState, "hardware/joint_states", qos.STATUS)
        self.stopped = self.node.create_publisher(Bool, "hardware/stopped", qos.STATUS)
        self.node.create_subscription(JointState, "hardware/joint_command", self.commands.append, qos.STATUS)
        latched = rclpy.qos.QoSProfile(depth=1, durability=rclpy.qos.DurabilityPolicy.TRANSIENT_LOCAL)
        self.node.create_subscription(Bool, "hardware/enable", lambda m: self.enabled.append(m.data), latched)
        self.executor = rclpy.executors.SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def message(self, period_ns: int = PERIOD_NS, **changes: Any) -> Any:
        self.stamp_ns += period_ns
        message = self._message()
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(self.stamp_ns, 10**9)
        message.name, message.position = list(self.names), [float(q) for q in self.position]
        message.velocity = message.effort = [0.0] * len(self.names)
        for name, value in changes.items():
            setattr(message, name, value)
        return message

    def run(self, seconds: float, make: Any = None) -> None:
        """Publish states at 200 Hz."""
        for _ in range(round(seconds * 200)):
            self.states.publish(make() if make else self.message())
            self.spin(0.005)

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.executor.spin_once(timeout_sec=left)

    def say_stopped(self, stopped: bool) -> None:
        self.stopped.publish(self._bool(data=stopped))

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()


@contextlib.contextmanager
def held(folder: Path, **changes: Any) -> Iterator[tuple[Robot, ControlCore]]:
    """A robot in this process that an active core holds; the loop is as slow as effort may be."""
    changes.setdefault("control", {}).setdefault("rate_hz", 300)
    embodiment = Embodiment.load(write_robot(folder, PATIENT_S, **changes))
    core, robot = ControlCore(embodiment), Robot(embodiment)
    core.start()
    try:
        for _ in range(100):
            robot.run(0.05)
            if core.joint_state() is not None and robot.stopped.get_subscription_count():
                break
        for _ in range(20):  # the commands' reader may be found later than the states' writer
            core.activate()
            robot.run(0.3)
            if core.status().state is ControlState.HOLD:
                break
        assert core.status().state is ControlState.HOLD, core.status().cause
        assert robot.commands and robot.enabled[-1]
        yield robot, core
    finally:
        core.close()
        robot.close()


@pytest.fixture
def driven(tmp_path: Path) -> Iterator[tuple[Robot, ControlCore]]:
    """The shipped robot's topics, held."""
    with held(tmp_path) as pair:
        yield pair


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


# Several publishers of joint states ---------------------------------------------------------------------------


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
    "fingers": ({"fingers": "a,,b"}, "fingers: up to 16 names"),
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


# What moves nobody ------------------------------------------------------------------------------------------------


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
