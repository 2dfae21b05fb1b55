"""The control node in process on the loopback backend: emergency stops, settings at run time, the black box."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rclpy
import yaml
from mcap.reader import make_reader
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Header
from std_srvs.srv import Trigger
from topic_cell import write_robot

from physai.msg import ControlStatus, Impedance
from physai.srv import SetImpedance
from physai_base.embodiment import Embodiment, find_embodiment
from physai_base.errors import PhysaiError
from physai_base.values import ControlCause, ControlState
from physai_control.node import ControlNode, log_line
from physai_ros import qos
from physai_ros.executor import CachingExecutor

pytestmark = pytest.mark.ros
_domains = itertools.count(141 + os.getpid() % 40)


def loopback_robot(folder: Path) -> Path:
    """The shipped arm on the loopback backend."""
    source = find_embodiment("fr3")
    document = yaml.safe_load(source.read_text())
    document["model"] = str(source.parent / document["model"])
    start = " ".join(str(angle) for angle in document["home"])
    document["hardware"] = {"backend": "loopback", "gravity": "controller", "options": {"start": start}}
    # This host may keep the loop waiting for long; what a gap does is not the subject here.
    document["control"]["state_timeout_s"] = 1.0
    path = folder / "loopback.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


HELD = (ControlState.HOLD, ControlState.DEGRADED)  # degraded: on a busy machine


class Bench:
    """The node, active, and an operator beside it."""

    def __init__(self, folder: Path, **parameters: str) -> None:
        self.stops = folder / "stops"
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=next(_domains))
        values = {
            "robot": str(loopback_robot(folder)),
            "world_model": "off",
            "stop_recordings": str(self.stops),
            **parameters,
        }
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        self.node = ControlNode(context=self.context, parameter_overrides=overrides)
        self.operator = rclpy.create_node("operator", context=self.context)
        self.button = self.operator.create_publisher(Bool, "estop", qos.ESTOP)
        self.executor = CachingExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.executor.add_node(self.operator)
        self.thread = threading.Thread(target=self._spin, daemon=True)
        self.thread.start()
        self.node.trigger_configure()
        self.node.trigger_activate()
        self.until(lambda: self.state is not ControlState.INACTIVE)

    def new_button(self, profile: QoSProfile) -> Any:
        """A publisher of `estop` that control listens to."""
        button = self.operator.create_publisher(Bool, "estop", profile)
        self.until(lambda: bool(button.get_subscription_count()))
        return button

    def _spin(self) -> None:
        with contextlib.suppress(rclpy.executors.ExternalShutdownException):
            self.executor.spin()

    @property
    def state(self) -> ControlState:
        return self.node._core.status().state

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, self.node._core.status().cause
            time.sleep(0.01)

    def call(self, kind: type, name: str, request: Any) -> Any:
        client = self.operator.create_client(kind, name)
        assert client.wait_for_service(timeout_sec=20)
        future = client.call_async(request)
        self.until(future.done)
        return future.result()

    def trigger(self, name: str) -> Trigger.Response:
        return self.call(Trigger, f"control/{name}", Trigger.Request())

    def set_impedance(self, **fields: Any) -> SetImpedance.Response:
        return self.call(
            SetImpedance, "control/set_impedance", SetImpedance.Request(impedance=Impedance(**fields))
        )

    def close(self) -> None:
        self.node.trigger_deactivate()
        self.node.trigger_cleanup()
        self.executor.shutdown()
        self.thread.join()
        self.node.destroy_node()
        self.operator.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """The node, active."""
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def test_a_pressed_emergency_stop_latches_until_it_is_released_and_reset(bench: Bench) -> None:
    bench.button.publish(Bool(data=True))
    bench.until(lambda: bench.state is ControlState.ESTOP)
    refused = bench.trigger("reset")
    assert not refused.success and "still pressed, by /operator" in refused.message
    assert bench.state is ControlState.ESTOP
    bench.button.publish(Bool(data=False))
    bench.until(lambda: not bench.node._pressing())
    assert bench.state is ControlState.ESTOP  # releasing the button starts nothing
    assert bench.trigger("reset").success
    bench.until(lambda: bench.state in HELD)


RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
VOLATILE, TRANSIENT = DurabilityPolicy.VOLATILE, DurabilityPolicy.TRANSIENT_LOCAL


@pytest.mark.parametrize("reliability", [RELIABLE, BEST_EFFORT])
@pytest.mark.parametrize("durability", [VOLATILE, TRANSIENT])
def test_every_kind_of_button_stops_the_arm(
    bench: Bench, reliability: ReliabilityPolicy, durability: DurabilityPolicy
) -> None:
    """`ros2 topic pub /estop` with its defaults is reliable and volatile."""
    button = bench.new_button(QoSProfile(depth=10, reliability=reliability, durability=durability))
    button.publish(Bool(data=True))
    bench.until(lambda: bench.state is ControlState.ESTOP)
    assert not bench.trigger("reset").success
    button.publish(Bool(data=False))
    bench.until(lambda: bench.trigger("reset").success)
    bench.until(lambda: bench.state in HELD)


def test_pressed_wins_when_buttons_disagree(bench: Bench) -> None:
    pressed, released = bench.new_button(qos.STATUS), bench.new_button(qos.STATUS)
    pressed.publish(Bool(data=True))
    bench.until(lambda: bench.state is ControlState.ESTOP)
    for _ in range(5):
        released.publish(Bool(data=False))
        bench.button.publish(Bool(data=False))
        time.sleep(0.02)
    assert not bench.trigger("reset").success
    assert bench.state is ControlState.ESTOP
    # A button that is gone cannot release what it pressed; another's word counts then, from after it.
    bench.operator.destroy_publisher(pressed)
    bench.until(lambda: bench.node._pressing() == "a node that is gone")
    assert not bench.trigger("reset").success
    released.publish(Bool(data=False))
    bench.until(lambda: bench.trigger("reset").success)


def about(number: int, publisher: bytes = b"") -> dict[str, Any]:
    """What rclpy tells about a message; before Kilted without its publisher."""
    named = {"publisher_gid": {"data": publisher}} if publisher else {}
    return {"publication_sequence_number": number, "source_timestamp": 1000 + number, **named}


def test_a_press_that_comes_after_its_release_stops_and_needs_no_second_release(bench: Bench) -> None:
    """5, true, is lost on the way and sent again after 6, false."""
    node = bench.node
    node._on_estop(Bool(data=False), about(6, b"a" * 16))
    assert bench.state in HELD
    node._on_estop(Bool(data=True), about(5, b"a" * 16))
    bench.until(lambda: bench.state is ControlState.ESTOP)
    assert bench.trigger("reset").success
    # Nor does a release that a newer press has overtaken release anything.
    node._on_estop(Bool(data=True), about(8, b"a" * 16))
    node._on_estop(Bool(data=False), about(7, b"a" * 16))
    assert node._pressing()


def test_where_publishers_are_not_told_apart_nobody_releases_what_another_may_have_pressed(
    bench: Bench,
) -> None:
    node, other = bench.node, bench.new_button(qos.STATUS)
    node._on_estop(Bool(data=True), about(10))
    bench.until(lambda: bench.state is ControlState.ESTOP)
    node._on_estop(Bool(data=False), about(11))
    refused = bench.trigger("reset")
    assert not refused.success and "one of /operator" in refused.message
    bench.operator.destroy_publisher(other)

    def released() -> bool:
        node._on_estop(Bool(data=False), about(12))
        return not node._pressing()

    bench.until(released)
    assert bench.trigger("reset").success


def test_what_the_core_forgets_is_asked_for_again_while_the_robot_is_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """States that begin 2 s after the request: the core grants none that waits for more than 1 s."""
    node = bench.node
    node.trigger_deactivate()
    asked: list[float] = []
    real = node._core.activate

    def forgotten() -> None:
        asked.append(time.monotonic())
        if asked[-1] - asked[0] > 1.2:
            real()

    monkeypatch.setattr(node._core, "activate", forgotten)
    node.trigger_activate()
    assert bench.state in HELD and len(asked) > 2


def test_nothing_came_is_said_only_if_nothing_came(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    node = bench.node
    node.trigger_deactivate()
    bench.until(lambda: bench.state is ControlState.INACTIVE)
    monkeypatch.setattr(node._core, "activate", lambda: None)
    monkeypatch.setattr("physai_control.node.ACTIVATE_TIMEOUT_S", 0.1)
    with pytest.raises(PhysaiError, match="though joint states have come"):
        node.start()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (None, "nothing came"),
        ({"effort": [float("nan")] * 9}, "not finite"),
        ({"effort": []}, "/driver publishes hardware/joint_states, but no message that can be used"),
        ({"header": Header()}, "/driver publishes hardware/joint_states, but no message that can be used"),
    ],
)
def test_states_that_cannot_be_used_are_not_called_none(
    changes: dict[str, Any] | None, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(next(_domains)))  # the backend's own context takes it from there
    monkeypatch.setattr("physai_control.node.ACTIVATE_TIMEOUT_S", 2.0)
    path = write_robot(tmp_path)
    embodiment = Embodiment.load(path)
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=int(os.environ["ROS_DOMAIN_ID"]))
    overrides = [Parameter("robot", value=str(path)), Parameter("stop_recordings", value="")]
    node = ControlNode(context=context, parameter_overrides=overrides)
    driver, ended = rclpy.create_node("driver", context=context), threading.Event()

    def drive() -> None:
        publisher = driver.create_publisher(JointState, "hardware/joint_states", 10)
        rates = [0.0] * 9
        while not ended.wait(0.005):
            message = JointState(
                name=[*embodiment.joint_names, *embodiment.finger_joints],
                position=[*embodiment.home, 0.0, 0.0],
                velocity=rates,
                effort=rates,
            )
            message.header.stamp = driver.get_clock().now().to_msg()
            for name, value in (changes or {}).items():
                setattr(message, name, value)
            publisher.publish(message)

    thread = threading.Thread(target=drive)
    if changes is not None:
        thread.start()
    node.trigger_configure()
    try:
        with pytest.raises(PhysaiError, match=reason):
            node.start()
    finally:
        ended.set()
        if changes is not None:
            thread.join()
        node.trigger_cleanup()
        node.destroy_node()
        driver.destroy_node()
        rclpy.shutdown(context=context)


def test_a_button_that_pressed_and_went_holds_until_another_releases(bench: Bench) -> None:
    once = bench.new_button(qos.STATUS)
    once.publish(Bool(data=True))
    bench.until(lambda: bench.state is ControlState.ESTOP)
    bench.operator.destroy_publisher(once)
    bench.until(lambda: bench.node._pressing() == "a node that is gone")
    assert "a node that is gone" in bench.trigger("reset").message
    bench.new_button(qos.STATUS).publish(Bool(data=False))
    bench.until(lambda: bench.trigger("reset").success)


def test_a_stop_that_was_pressed_before_control_came_is_heard(bench: Bench) -> None:
    """Set up anew while a latched button is pressed, the way a process that comes late is."""
    bench.node.trigger_deactivate()
    bench.node.trigger_cleanup()
    bench.node._buttons = bench.node._latched = None  # as a new process begins
    bench.button.publish(Bool(data=True))
    bench.node.trigger_configure()
    bench.until(lambda: bool(bench.node._pressing()))
    bench.node.trigger_activate()
    bench.until(lambda: bench.state is ControlState.ESTOP)
    assert not bench.trigger("reset").success
    bench.button.publish(Bool(data=False))
    bench.until(lambda: bench.trigger("reset").success)


def test_a_process_that_starts_latched_stays_so_until_a_reset(tmp_path: Path) -> None:
    with contextlib.closing(Bench(tmp_path, latched="the process before was lost")) as bench:
        assert bench.state is ControlState.ESTOP
        # Setting up anew clears nothing, and what was latched first stays the reason.
        for _ in range(2):
            bench.node.trigger_deactivate()
            bench.node.trigger_cleanup()
            bench.node.trigger_configure()
            assert not bench.trigger("reset").success  # nobody clears a stop of a node that is not active
            bench.node.trigger_activate()
            assert bench.state is ControlState.ESTOP
            assert bench.node._latched == "the process before was lost"
        assert bench.trigger("reset").success
        bench.until(lambda: bench.state in HELD)
        # Once a person has cleared it, the parameter it was started with is spent.
        bench.node.trigger_deactivate()
        bench.node.trigger_cleanup()
        bench.node.trigger_configure()
        bench.node.trigger_activate()
        assert bench.state in HELD


@pytest.mark.parametrize("way", ["service", "signal"])
def test_service_and_signal_end_in_the_same_latched_state(bench: Bench, way: str) -> None:
    if way == "service":
        assert bench.trigger("estop").success
    else:
        os.kill(os.getpid(), signal.SIGUSR1)
    bench.until(lambda: bench.state is ControlState.ESTOP)
    assert "emergency stop requested" in bench.node._core.status().cause
    bench.trigger("resume")
    time.sleep(0.05)
    assert bench.state is ControlState.ESTOP
    assert bench.trigger("reset").success


def test_law_and_gains_change_as_a_whole_or_not_at_all(bench: Bench) -> None:
    answer = bench.set_impedance(law=Impedance.LAW_CARTESIAN, cartesian_stiffness=[800.0] * 3 + [40.0] * 3)
    assert answer.success and answer.impedance.law == Impedance.LAW_CARTESIAN
    bench.until(lambda: bench.node._core.status().law == "cartesian")
    for wrong, reason in (
        ({"cartesian_stiffness": [float("nan")] * 6}, "finite"),
        ({"cartesian_stiffness": [1.0, 2.0]}, "6"),
        ({"stiffness": [1e9] * 7}, "14250"),
        ({"law": 9}, "unknown law"),
        ({"nullspace": [-1.0, 1.0]}, "null space"),
    ):
        refused = bench.set_impedance(**{"reduced": [True], **wrong})
        assert not refused.success and reason in refused.message, refused.message
        assert list(refused.impedance.cartesian_stiffness) == [800.0] * 3 + [40.0] * 3
        assert not refused.impedance.reduced[0]
    assert bench.set_impedance(law=Impedance.LAW_JOINT, reduced=[True]).success
    bench.until(lambda: bench.node._core.status().law == "joint" and bench.node._core.status().reduced)
    assert bench.state in HELD


def test_the_cycles_of_a_stop_are_kept_as_a_recording(bench: Bench) -> None:
    time.sleep(0.7)
    bench.trigger("estop")
    bench.until(lambda: any(bench.stops.glob("*.mcap")))
    [path] = bench.stops.glob("*.mcap")
    topics: dict[str, list[Any]] = {}
    with path.open("rb") as file:
        for schema, channel, message in make_reader(file).iter_messages():
            assert schema is not None and schema.encoding == "ros2msg"
            topics.setdefault(channel.topic, []).append(message)
            if channel.topic == "control/status":
                assert b"MSG: std_msgs/Header" in schema.data and b"MSG: geometry_msgs/Wrench" in schema.data
    assert set(topics) == {"joint_states", "command", "control/status"}
    states = [deserialize_message(message.data, JointState) for message in topics["joint_states"]]
    assert len(states) == 640 and list(states[0].name[:2]) == ["fr3_joint1", "fr3_joint2"]
    stamps = [message.log_time for message in topics["joint_states"]]
    assert stamps == sorted(stamps)
    span_s = (stamps[-1] - stamps[0]) / 1e9
    assert span_s > 0.5, span_s


def test_a_loop_that_does_not_run_is_not_shown_as_its_last_state(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stuck in a robot's driver, say, while Python lives: silence and an error, and no service says that all is well."""
    heard: list[ControlStatus] = []
    bench.operator.create_subscription(ControlStatus, "control/status", heard.append, 10)
    bench.until(lambda: len(heard) >= 3)
    last = bench.node._core.status()
    monkeypatch.setattr(bench.node._core, "status", lambda: last)
    bench.until(lambda: "control loop has not run" in bench.node._error)
    count = len(heard)
    for name in ("stop", "resume"):
        answer = bench.trigger(name)
        assert not answer.success and "control loop has not run" in answer.message
    assert not bench.set_impedance(law=Impedance.LAW_JOINT).success
    assert len(heard) <= count + 1  # one may have been under way
    monkeypatch.undo()
    bench.until(lambda: len(heard) > count + 2 and not bench.node._error)


def test_degraded_says_why(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[ControlStatus] = []
    bench.operator.create_subscription(ControlStatus, "control/status", heard.append, 10)
    real = bench.node._core.status
    monkeypatch.setattr(
        bench.node._core, "status", lambda: dataclasses.replace(real(), state=ControlState.DEGRADED)
    )
    bench.until(lambda: any("joint states come late" in message.cause for message in heard))
    message = heard[-1]
    assert message.state == ControlStatus.DEGRADED and "activated" in message.cause
    assert message.cause_code == ControlStatus.CAUSE_ACTIVATED


def test_a_latch_that_is_asked_for_after_a_clean_up_counts(bench: Bench) -> None:
    """And one that a person has reset does not come back with the next configuration."""
    node = bench.node
    for reason, reset in (("told later", True), ("told later", False)):
        node.trigger_deactivate()
        node.trigger_cleanup()
        assert node.set_parameters([Parameter("latched", value=reason)])[0].successful
        node.trigger_configure()
        node.trigger_activate()
        bench.until(lambda: bench.state is ControlState.ESTOP)
        if reset:
            bench.until(lambda: bench.trigger("reset").success)
            node.trigger_deactivate()
            node.trigger_cleanup()
            node.trigger_configure()
            node.trigger_activate()
            bench.until(lambda: bench.state in HELD)


def test_the_log_gives_each_state_its_own_reason(bench: Bench) -> None:
    """Not the cause of the last hold beside an arm that follows a chunk, and no stop where a task has ended well."""

    def said(
        state: ControlState, cause: ControlCause = ControlCause.REPOSITIONED, text: str = "why (cycle 7)"
    ) -> str:
        now = bench.node._core.status()
        return log_line(
            bench.node._explained(dataclasses.replace(now, state=state, cause_code=cause, cause=text))
        )

    assert said(ControlState.TRACK) == "track: follows chunks"
    assert said(ControlState.HOLD) == "hold: why (cycle 7)"
    assert said(ControlState.STOPPING, ControlCause.STOP_REQUESTED) == "stopping: why (cycle 7)"
    assert said(ControlState.STOPPING, ControlCause.CHUNK_EXPIRED) == ""
    assert said(ControlState.HOLD, ControlCause.CHUNK_EXPIRED).startswith("hold: the chunk ran to its end")
    assert said(ControlState.DEGRADED).startswith("degraded: joint states come late")
    assert said(ControlState.FAULT, ControlCause.VELOCITY) == "fault: why (cycle 7)"
    assert said(ControlState.INACTIVE, ControlCause.NONE, "") == "inactive"
