"""Control as a ROS node: hosts the C core, validates and posts chunks, publishes what the core reports."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.parameter import Parameter
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from physai.msg import ActionChunk, ChunkVerdict
from physai.srv import SetImpedance
from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.resources import defaults
from physai_base.values import ActionChunk as Chunk
from physai_base.values import ControlCause, ControlState, ControlStatus
from physai_control.core import ChunkRejected, ControlCore
from physai_control.estop import StopButtons
from physai_control.gate import ChunkGate
from physai_ros import conversions, topics
from physai_ros.black_box import write_stop
from physai_ros.lifecycle_node import Interrupted, PhysaiNode, run_node
from physai_ros.place import shared_memory_of
from physai_ros.robot_state import FRAMES, RobotState

ESTOP = "estop"
MODES = ("off", "monitor", "veto")
LATE = "joint states come late; stiffness and speed are reduced until they have been in time for 1 s"
LATCHED = (ControlState.FAULT, ControlState.ESTOP)
ACTIVATE_TIMEOUT_S = 5.0  # a cell that is starting may pause
ACTIVATE_PERIOD_S = 0.5  # between two requests, of which the core forgets each after 1 s
CHUNKS_END_S = 1.0  # without a chunk: nobody waits for one to be taken
STOP_TIMEOUT_S = 0.8
LOOP_TIMEOUT_S = 1.0  # without a cycle: longer than any backend's read or write should ever take
RESET_TIMEOUT_S = 1.2
ESTOP_SIGNAL = signal.SIGUSR1  # an emergency stop, also while Python is stalled


@dataclass(frozen=True)
class ControlParameters:
    """Parameters of the node."""

    robot: str = field(
        default=defaults()["robot"], metadata={"description": "embodiment: an installed name or a file"}
    )
    world_model: str = field(
        default="veto", metadata={"choices": MODES, "description": "veto: a chunk needs an allowing verdict"}
    )
    verdict_timeout_s: float = field(
        default=0.1,
        metadata={
            "unit": "s",
            "range": (0.01, 2.0),
            "description": "no verdict for this long counts as a veto",
        },
    )
    state_rate_hz: float = field(
        default=60.0, metadata={"unit": "Hz", "range": (10.0, 250.0), "description": "of joint_states"}
    )
    latched: str = field(
        default="",
        metadata={"description": "why the process starts latched, until ~/reset; empty: it does not"},
    )
    tf: str = field(
        default="all",
        metadata={
            "choices": FRAMES,
            "description": "frames that it publishes; robot: without cameras, whose drivers do; none: others do",
        },
    )
    stop_recordings: str = field(
        default="runs/stops",
        metadata={"description": "folder for an MCAP file of each latched stop; empty for none"},
    )
    status_rate_hz: float = field(
        default=20.0, metadata={"unit": "Hz", "range": (1.0, 100.0), "description": "of control/status"}
    )


class ControlNode(PhysaiNode[ControlParameters]):
    """The Python side of the controller; nothing here is in the 1 kHz path."""

    name = "control"
    parameters_type = ControlParameters
    _latched = ""  # why control is to start latched
    _told_to_latch = True  # the parameter was set since it was last heeded
    _buttons: StopButtons | None = None  # kept when the node is set up anew

    def _check_parameters(self, changed: list[Parameter[Any]]) -> SetParametersResult:
        result = super()._check_parameters(changed)
        if result.successful and any(parameter.name == "latched" for parameter in changed):
            self._told_to_latch = True
        return result

    def setup(self) -> None:
        """Load the embodiment, attach to the hardware and start the real-time thread, inactive."""
        parameters = self.parameters
        if self._told_to_latch:  # at the start, or since; what a person has reset meanwhile stays reset
            self._told_to_latch = False
            self._latched = parameters.latched or self._latched
        self._embodiment = Embodiment.load(parameters.robot)
        if self._embodiment.hardware.backend == "topic":  # its topics are in this node's namespace
            self._embodiment = self._embodiment.with_hardware_option("namespace", self.get_namespace())
        elif self._embodiment.hardware.backend == "shm":
            hardware = self._embodiment.hardware
            memory = {"name": shared_memory_of(self, hardware.options["name"])}
            hardware = replace(hardware, options={**hardware.options, **memory})
            self._embodiment = replace(self._embodiment, hardware=hardware)
        self._core = ControlCore(self._embodiment)
        self._buttons = self._buttons or StopButtons()
        self._gate = ChunkGate(parameters.verdict_timeout_s)
        self._last_line = ""  # of the log, on the state
        self._stamp_ns = -1
        self._cycles, self._ticks_without_cycle = 0, 0
        self._dropped = ""
        self._dropped_chunk = (0, 0)  # its lease and sequence
        self._chunk_s = 0.0  # steady time of the newest chunk
        self._robot_state = RobotState(self, self._embodiment, parameters.tf)
        self._states = topics.advertise(self, "joint_states")
        ends = self._embodiment.end_effectors
        names = [f"wrench/{end.name}" if len(ends) > 1 else "wrench" for end in ends]
        self._wrenches = [topics.advertise(self, name) for name in names]
        self._status = topics.advertise(self, "control/status")
        topics.hear(self, "action_chunk", self._on_chunk)
        topics.hear(self, "chunk_verdict", self._on_verdict)
        topics.hear(self, ESTOP, self._on_estop, info=True)
        for period_s, work in (
            (0.05, self._expire),
            (0.2, self._keep_stop),
            (1 / parameters.state_rate_hz, self._publish_state),
            (1 / parameters.status_rate_hz, self._publish_status),
        ):
            self.create_timer(period_s, work, clock=self.steady_clock)
        for name, request in (
            ("stop", self._core.stop_motion),
            ("reset", self._reset),
            ("resume", self._resume),
            ("estop", self._core.estop),
        ):
            self.create_service(Trigger, f"~/{name}", self._trigger(name, request))
        self.create_service(SetImpedance, "~/set_impedance", self._set_impedance)
        self._core.estop_on_signal(ESTOP_SIGNAL)
        self._core.start()

    def start(self) -> None:
        """Hold at the measured pose and accept chunks; after a latched stop, wait for a reset."""
        if self._latched:
            # Setting up anew must not do what only a person may: clear a latched stop.
            self._core.estop()
            if not self._comes_to(lambda state: state in LATCHED, "waits for the control loop to latch"):
                raise PhysaiError(f"the control loop does not run; still latched: {self._latched}")
            self.get_logger().error(f"still latched, call ~/reset: {self._latched}")
            return
        waits = (
            f"waits for the first joint state from {self._source()}: is the robot on, and its driver running?"
        )
        try:
            here = self._comes_to(self._asked_to_activate(), waits)
        except Interrupted:
            self._core.deactivate()
            raise
        if not here:
            status = self._core.status()
            self._core.deactivate()
            if status.cause_code is ControlCause.UNHEARD:
                topic = self._embodiment.hardware.options.get("command_topic", "hardware/joint_command")
                raise PhysaiError(f"{status.cause}; the topic is {topic}")
            if status.cause_code is ControlCause.STATE_SLOW:
                raise PhysaiError(
                    f"{status.cause}; take command: position in {self._embodiment.name}'s hardware"
                )
            if status.cause_code is ControlCause.STATE_NOT_FINITE:
                raise PhysaiError(f"{status.cause}; it comes from {self._source()}")
            if status.stamp_ns:
                raise PhysaiError(
                    f"control could not be activated within {ACTIVATE_TIMEOUT_S:g} s, though joint states have come from "
                    f"{self._source()}: are they complete, and do they still come? {status.cause}"
                )
            raise PhysaiError(
                f"the hardware gives no joint state: {self._what_came()} within {ACTIVATE_TIMEOUT_S:g} s from {self._source()}"
            )

    def stop(self) -> None:
        """Stop and go inactive: the robot's brakes hold it."""
        self._core.deactivate()
        self._reaches(lambda state: state in (ControlState.INACTIVE, *LATCHED), STOP_TIMEOUT_S)

    def teardown(self) -> None:
        """End the real-time thread and detach."""
        status = self._core.status()
        if status.state in LATCHED:
            self._latched = self._latched or status.cause or "a latched stop"
        self._core.close()

    def _reaches(self, reached: Callable[[ControlState], bool], timeout_s: float) -> bool:
        """Wait until the core's state is as wanted; also when the process ends, since a stop takes its time."""
        deadline = time.monotonic() + timeout_s
        while not reached(self._core.status().state):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def _comes_to(self, reached: Callable[[ControlState], bool], text: str) -> bool:
        """Wait for the hardware, unless the process is to end."""
        return self.wait_until(
            lambda: reached(self._core.status().state), ACTIVATE_TIMEOUT_S, "hardware_silent", text
        )

    def _asked_to_activate(self) -> Callable[[ControlState], bool]:
        """Whether the core is active, after it was asked again: it forgets what it could not grant within 1 s."""
        asked_s = -math.inf

        def reached(state: ControlState) -> bool:
            nonlocal asked_s
            if state is not ControlState.INACTIVE:
                return True
            if time.monotonic() - asked_s >= ACTIVATE_PERIOD_S:
                asked_s = time.monotonic()
                self._core.activate()
            return False

        return reached

    def _source(self) -> str:
        """Where joint states come from, for whoever has to look there."""
        hardware = self._embodiment.hardware
        options = ", ".join(f"{key} {value}" for key, value in hardware.options.items())
        return f"the hardware backend {hardware.backend} of robot {self._embodiment.name} ({options})"

    def _what_came(self) -> str:
        """Of joint states while there was none for the core: messages that the backend could not use look like none."""
        topic = self._embodiment.hardware.options.get("state_topic", "hardware/joint_states")
        there = topics.publishers(self, topic) if self._embodiment.hardware.backend == "topic" else {}
        if not there:
            return "nothing came"
        names = ", ".join(sorted(set(there.values())))
        return f"{names} publishes {topic}, but no message that can be used came (the log says what is wrong with them)"

    def _on_chunk(self, message: ActionChunk) -> None:
        which = int(message.lease), int(message.sequence)
        if conversions.is_end(message):
            self._end_chunk(which[0])
            return
        if not self._active:
            self._drop(f"chunk {message.sequence} refused: control is not active", which)
            return
        self._chunk_s = time.monotonic()
        try:
            chunk = conversions.chunk_from_msg(message)
        except PhysaiError as error:
            self._drop(f"chunk {message.sequence} refused: {error}", which)
            return
        if self.parameters.world_model == "veto":
            self._pass_on(*self._gate.offer(chunk, time.monotonic()), which)
        else:
            self._pass_on(chunk, "", which)

    def _end_chunk(self, lease: int) -> None:
        """The arm stops on its path; that needs nobody's verdict."""
        self._gate.forget(lease)
        try:
            self._core.end_chunk(lease)
        except ChunkRejected as rejection:
            self.warn_throttled(f"the end of a chunk refused: {rejection}")

    def _on_verdict(self, message: ChunkVerdict) -> None:
        if self.parameters.world_model != "veto":
            return
        try:
            verdict = conversions.verdict_from_msg(message)
        except PhysaiError as error:
            which = int(message.lease), int(message.sequence)
            self._drop(f"verdict on chunk {message.sequence} refused: {error}", which)
            return
        self.conditions.end("verdict_absent")
        why = f"{verdict.reason.value}: {verdict.detail}"
        which = self._waiting()
        self._pass_on(
            *self._gate.decide(verdict.lease, verdict.sequence, verdict.allow, why, time.monotonic()), which
        )

    def _waiting(self) -> tuple[int, int]:
        chunk = self._gate.waiting
        return (0, 0) if chunk is None else (chunk.lease, chunk.sequence)

    def _expire(self) -> None:
        which = self._waiting()
        dropped = self._gate.expire(time.monotonic())
        if dropped:
            topic = self.resolve_topic_name("chunk_verdict")
            text = f"chunks wait in vain for a verdict on {topic}: is world_model active? (world_model:=off needs none)"
            self.conditions.set("verdict_absent", text)
        self._drop(dropped, which)
        if time.monotonic() - self._chunk_s > CHUNKS_END_S:
            self.conditions.end("verdict_absent", "chunks_refused")

    def _pass_on(self, chunk: Chunk | None, dropped: str, which: tuple[int, int]) -> None:
        self._drop(dropped, which)
        if chunk is None:
            return
        try:
            self._core.post(chunk)
        except ChunkRejected as rejection:
            self._drop(f"chunk {chunk.sequence} refused: {rejection}", (chunk.lease, chunk.sequence))
            text = f"no chunk is taken any more, the last one because: {rejection}"
            self.conditions.set("chunks_refused", text)
        else:
            self.conditions.end("chunks_refused")

    def _drop(self, why: str, which: tuple[int, int]) -> None:
        """`which` is the lease and the sequence of the chunk."""
        if why:
            self._dropped, self._dropped_chunk = why, which
            self.warn_throttled(why)

    def _on_estop(self, message: Bool, info: Any) -> None:
        assert self._buttons is not None
        if message.data:
            self._core.estop()
        publisher = topics.publisher_of(info)
        number = info.get("publication_sequence_number") if publisher else None
        order = int(number or info.get("source_timestamp") or 0)
        if not self._buttons.say(
            publisher, message.data, order, lambda: topics.publishers(self, ESTOP).keys()
        ):
            self.warn_throttled(
                f"false on `{ESTOP}` releases nothing: this ROS does not tell its publishers apart, and there are "
                "several; end all but one, then publish false"
            )

    def _pressing(self) -> str:
        """Which nodes hold the emergency stop, empty for none."""
        assert self._buttons is not None
        living = topics.publishers(self, ESTOP)
        unknown = f"one of {', '.join(living.values()) or 'those that are gone'}"
        return ", ".join(
            living.get(who, "a node that is gone" if who else unknown) for who in self._buttons.pressing()
        )

    def _set_impedance(
        self, request: SetImpedance.Request, response: SetImpedance.Response
    ) -> SetImpedance.Response:
        try:
            wanted = conversions.impedance_from_msg(request.impedance, self._core.impedance)
            if silence := self._silence():
                raise PhysaiError(silence)
            self._core.configure(wanted)
            response.success, response.message = True, f"law {wanted.law} from the next cycle on"
        except PhysaiError as error:
            response.success, response.message = False, f"refused, nothing has changed: {error}"
        response.impedance = conversions.impedance_to_msg(self._core.impedance)
        return response

    def _keep_stop(self) -> None:
        records = self._core.stop_records()
        if not records or not self.parameters.stop_recordings:
            return
        try:
            path = write_stop(
                Path(self.parameters.stop_recordings), records, self._core.status(), self._embodiment
            )
            self.get_logger().info(f"the last {len(records)} cycles of this stop are in {path}")
        except OSError as error:  # a full disk must not end the controller
            self.get_logger().warning(f"the stop's cycles could not be recorded: {error}")

    def _reset(self) -> None:
        if not self._active:
            raise PhysaiError("control is not active: activate it first")
        if pressing := self._pressing():
            raise PhysaiError(
                f"the emergency stop is still pressed, by {pressing}: publish false on `estop` there first"
            )
        self._core.reset()
        if not self._reaches(lambda state: state not in LATCHED, RESET_TIMEOUT_S):
            raise PhysaiError(
                f"control stays latched: {self._core.status().cause}; if the robot's own gate or emergency stop has "
                "latched, too, that is reset first (of the embedded cell: sim/reset)"
            )
        self._latched = ""

    def _resume(self) -> None:
        if not self._active:
            raise PhysaiError("control is not active: activate it first")
        self._core.resume()

    def _trigger(
        self, name: str, request: Callable[[], None]
    ) -> Callable[[Trigger.Request, Trigger.Response], Trigger.Response]:
        def handle(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            try:
                request()
                if silence := self._silence():
                    raise PhysaiError(f"{name} requested, but {silence}: what the robot does is unknown")
                response.success = True
                response.message = f"{name} requested; control is {self._core.status().state.name.lower()}"
            except PhysaiError as error:
                response.success, response.message = False, str(error)
            return response

        return handle

    def _publish_state(self) -> None:
        sample = self._core.joint_state()
        if sample is None or sample.stamp_ns == self._stamp_ns:
            return
        self._stamp_ns = sample.stamp_ns
        message = conversions.joint_state_to_msg(sample, self._embodiment)
        self._states.publish(message)
        self._robot_state.update(dict(zip(message.name, message.position, strict=True)), sample.stamp_ns)

    def _explained(self, status: ControlStatus) -> ControlStatus:
        """The core's status with what this process knows of it."""
        if self._latched and status.state in LATCHED:
            return replace(
                status,
                cause=f"still latched since before it was set up anew: {self._latched}",
                cause_code=ControlCause.LATCHED_BEFORE,
            )
        if status.state is ControlState.DEGRADED:
            return replace(status, cause=f"{LATE} (before: {status.cause})" if status.cause else LATE)
        return status

    def _silence(self) -> str:
        """Why nothing can be said of the robot, or nothing: the loop cycles also when no joint state comes."""
        still_s = self._ticks_without_cycle / self.parameters.status_rate_hz
        return f"the control loop has not run for {still_s:.1f} s" if still_s > LOOP_TIMEOUT_S else ""

    def _publish_status(self) -> None:
        status = self._explained(self._core.status())
        # Counted in ticks of ours: a process that was stopped as a whole finds its loop alive when it goes on.
        self._ticks_without_cycle = self._ticks_without_cycle + 1 if status.cycles == self._cycles else 0
        self._cycles = status.cycles
        if silence := self._silence():
            # The last value would look like the present one.
            self.report_error(f"{silence}; control/status is silent until it does")
            return
        if not status.stamp_ns:  # no joint state yet
            status = replace(status, stamp_ns=self.ros_time_ns())
        else:
            ends = zip(self._wrenches, status.end_effectors, self._embodiment.end_effectors, strict=True)
            for publisher, tool, end in ends:
                publisher.publish(conversions.tool_wrench_to_msg(tool, status.stamp_ns, end.frame))
        if self._dropped:
            lease, sequence = self._dropped_chunk
            status = replace(
                status, last_rejection=self._dropped, rejected_lease=lease, rejected_sequence=sequence
            )
        self._status.publish(conversions.status_to_msg(status, self._embodiment))
        severe, text = status.state in LATCHED, log_line(status)
        if text and text != self._last_line:
            # Not in one line: rclpy raises when one place logs with two severities.
            if severe:
                self.get_logger().error(text)
            else:
                self.get_logger().info(text)
            self._last_line = text
        if status.state in LATCHED:
            self.report_error(f"{status.state.name.lower()}: {status.cause}")
        else:
            self.report_ok()


def log_line(status: ControlStatus) -> str:
    """A state for the log, empty for one that is not worth a line.

    The cause is of the last hold, stop or fault, and says nothing of a chunk that is followed. One that ran to its end
    is how every task ends, and no stop that somebody has to look into.
    """
    name = status.state.name.lower()
    ended = status.cause_code is ControlCause.CHUNK_EXPIRED
    if status.state is ControlState.TRACK:
        return f"{name}: follows chunks"
    if status.state is ControlState.STOPPING and ended:
        return ""
    if status.state is ControlState.HOLD and ended:
        return f"{name}: the chunk ran to its end, and no newer one came"
    if status.state is ControlState.DEGRADED:
        return f"{name}: {LATE}"
    return f"{name}: {status.cause}" if status.cause else name


def main() -> None:
    """Entry point of the executable `control`."""
    run_node(ControlNode)


if __name__ == "__main__":
    main()
