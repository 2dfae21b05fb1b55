"""`physai do`: one instruction to a running stack, with live progress."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from physai_base.errors import PhysaiError
from physai_lab.stack.bringup import join_stack

SERVER_TIMEOUT_S = 10.0
WITHDRAWAL_S = 3.0  # for an acceptance that comes late, so that the task can be cancelled
CANCELLATION_S = 1.0  # for the answer to that
CANCEL_TIMEOUT_S = 5.0  # for the answer that the arm rests
GONE_S = 2.0  # a policy that is not there for so long answers no more
REJECTION_S = 1.0  # for the reason why a goal was rejected
HANDED_OVER = 3  # exit codes: the policy asks for a person
NOT_CONFIRMED = 4  # the instruction was asked back, and nobody said yes
CONFIRM = ("auto", "always", "never")  # in the order of ExecuteTask's numbers


@dataclass
class Interruption:
    """SIGINT, SIGTERM and SIGHUP, noted; a second one raises KeyboardInterrupt."""

    signals: list[int] = field(default_factory=list)
    asking: bool = False  # while a person is asked, the first one raises, too

    def note(self, number: int, _: object) -> None:
        """The handler."""
        self.signals.append(number)
        if self.asking or len(self.signals) > 1:
            raise KeyboardInterrupt

    @property
    def exit_code(self) -> int:
        """As a shell has it: 130 by SIGINT, 143 by SIGTERM, 129 by SIGHUP."""
        return 128 + (self.signals[0] if self.signals else signal.SIGINT)

    def __bool__(self) -> bool:
        return bool(self.signals)


@contextlib.contextmanager
def interruptions() -> Iterator[Interruption]:
    """Notes SIGINT, SIGTERM and SIGHUP instead of being ended by them; one that is ignored (nohup) stays so."""
    interruption = Interruption()
    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN or number is signal.SIGINT
    ]
    before = {number: signal.signal(number, interruption.note) for number in numbers}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def confirmed(question: str, yes: bool, interruption: Interruption) -> bool:
    """Whether a person says that this is what was meant; `yes` says so for whoever is not asked."""
    if yes:
        print(f"physai do: {question} — yes (--yes)", flush=True)
        return True
    if not sys.stdin.isatty():
        print(
            f"physai do: asked back: {question}\n  nobody is here to answer: say it in other words, or with --yes",
            file=sys.stderr,
        )
        return False
    interruption.asking = True
    try:
        answer = input(f"physai do: {question} [y/N] ")
    except EOFError:
        answer = ""
    finally:
        interruption.asking = False
    return answer.strip().lower() in ("y", "yes")


def do(
    instruction: str,
    timeout_s: float,
    namespace: str,
    wait: bool = True,
    confirm: str = "auto",
    yes: bool = False,
) -> int:
    """Send the instruction as an action goal; 0 when it succeeded. SIGINT, SIGTERM and SIGHUP cancel it.

    What the policy asks back is asked on the terminal; without one it is refused unless `yes`. When the policy asks
    for a person, this says so and waits for one, or without `wait` cancels and is `HANDED_OVER`.
    """
    join_stack()
    import rclpy
    from rclpy.action import ActionClient
    from rclpy.exceptions import NameValidationException
    from rclpy.signals import SignalHandlerOptions

    from physai.action import ExecuteTask

    # rclpy's own handlers would end the context, and with it the way to cancel.
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = rclpy.create_node("physai_do", namespace=namespace)
    except NameValidationException as error:
        rclpy.try_shutdown()
        raise PhysaiError(f"--namespace {namespace!r}: {str(error).splitlines()[0]}") from error
    client: Any = ActionClient(node, ExecuteTask, "execute_task")
    resume = f"/{namespace.strip('/')}/policy/resume".replace("//", "/")
    goal = ExecuteTask.Goal(instruction=instruction, timeout=timeout_s, confirm=CONFIRM.index(confirm))
    with interruptions() as interruption:
        try:
            from physai_ros import topics

            stands: list[Any] = []
            topics.hear(node, "supervisor/status", stands.append)
            deadline = time.monotonic() + SERVER_TIMEOUT_S
            while not client.wait_for_server(timeout_sec=0.2):
                rclpy.spin_once(node, timeout_sec=0)
                if stands and stands[-1].state == stands[-1].ACTIVE and "policy" not in stands[-1].nodes:
                    raise PhysaiError(
                        f"nobody takes instructions here: {stands[-1].message or 'no policy runs'}"
                    )
                if interruption:
                    print("physai do: interrupted before anything was sent", file=sys.stderr)
                    return interruption.exit_code
                if time.monotonic() > deadline:
                    raise PhysaiError(
                        "no policy offers execute_task; start the stack with `physai up` or `ros2 launch`"
                    )
            run = _Run(node, client, interruption, resume if wait else "")
            code, result = run.carry_out(goal)
            if result is not None and result.question:
                if not confirmed(result.question, yes, interruption):
                    print("physai do: nothing was done", file=sys.stderr)
                    return NOT_CONFIRMED
                goal.target, goal.destination = result.target, result.destination
                code, result = run.carry_out(goal)
            return code
        except KeyboardInterrupt:
            print("physai do: interrupted", file=sys.stderr)
            return interruption.exit_code
        finally:
            node.destroy_node()
            rclpy.try_shutdown()


class _Presence:
    """Whether somebody is still there who can answer."""

    def __init__(self, ready: Callable[[], bool]) -> None:
        self._ready = ready
        self._seen_s = time.monotonic()

    def gone(self) -> bool:
        """It has been away for `GONE_S`; to be asked again and again."""
        if self._ready():
            self._seen_s = time.monotonic()
        return time.monotonic() - self._seen_s > GONE_S


class _Run:
    """Goals sent one after the other, with a bar for each."""

    def __init__(self, node: Any, client: Any, interruption: Interruption, resume: str) -> None:
        from physai_ros import topics

        self._node, self._client, self._interruption = node, client, interruption
        self._rejection, self._started_anew = "", False
        topics.hear(node, "policy/status", self._on_status)
        self._instruction = ""
        self._resume = resume  # service by which a task goes on that was handed over; "": it is cancelled

    def carry_out(self, goal: Any) -> tuple[int, Any]:
        """The exit code and the result of one goal; None instead of a result where there is none."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        from physai.msg import PolicyStatus

        # What people and programs write is no markup: "[/x]" is text.
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        asked = ""
        self._instruction = goal.instruction
        with Progress(*columns, disable=not sys.stdout.isatty()) as progress:
            bar = progress.add_task(goal.instruction, total=1.0, note="")

            def feedback(message: Any) -> None:
                nonlocal asked
                report = message.feedback
                before, asked = asked, report.message if report.state == PolicyStatus.HANDOVER else ""
                if asked and not before:
                    self._say(progress, f"physai do: the policy {asked}")
                    if self._resume:
                        self._say(
                            progress, f"  go on with: ros2 service call {self._resume} std_srvs/srv/Trigger"
                        )
                progress.update(bar, completed=report.progress, note=report.message)

            sending = self._client.send_goal_async(goal, feedback_callback=feedback)
            there = _Presence(self._client.server_is_ready)
            try:
                # Also when interrupted: then it must be cancelled.
                self._spin(lambda: sending.done() or there.gone(), SERVER_TIMEOUT_S)
            except KeyboardInterrupt:
                print(f"physai do: {self._withdraw(sending, WITHDRAWAL_S)}", file=sys.stderr)
                raise
            if not sending.done():
                gone = there.gone()
                late = self._withdraw(sending, WITHDRAWAL_S)
                if gone:
                    raise PhysaiError(f"the policy has gone away before it answered: {late}")
                raise PhysaiError(f"the policy did not answer within {SERVER_TIMEOUT_S:g} s: {late}")
            handle = sending.result()
            if not handle.accepted:
                self._spin(lambda: bool(self._rejection), REJECTION_S)
                raise PhysaiError(
                    f"the policy does not accept the task: {self._rejection}"
                    if self._rejection
                    else "the policy does not accept tasks now; look at policy/status and diagnostics"
                )
            ending = handle.get_result_async()
            present = _Presence(lambda: self._client.server_is_ready() and not self._started_anew)
            self._spin(
                lambda: (
                    ending.done()
                    or bool(self._interruption)
                    or bool(asked and not self._resume)
                    or present.gone()
                )
            )
            if not ending.done() and present.gone():
                raise PhysaiError(
                    "the policy has gone away and answers no more; the arm holds once its last chunk has run out"
                )
            if not ending.done():
                why = (
                    "physai do: cancelled"
                    if self._interruption
                    else "physai do: cancelled, nobody is here to take over"
                )
                print(f"{why}{self._cancel(handle, ending)}", file=sys.stderr)
                return (self._interruption.exit_code if self._interruption else HANDED_OVER), None
            result = ending.result().result
            progress.update(bar, completed=1.0 if result.success else 0.0, note="")
        if result.success:
            what = " on ".join(label for label in (result.target, result.destination) if label)
            print(f"done in {result.duration:.1f} s: {what}, {result.chunks} chunks")
            return 0, result
        if not result.question:
            print(f"physai do: not done: {result.message}", file=sys.stderr)
        return 1, result

    def _withdraw(self, sending: Any, timeout_s: float) -> str:
        """Cancel a goal that has not been answered, should it be accepted in that time; what there is to say of it."""
        deadline = time.monotonic() + timeout_s
        if not self._spin(sending.done, timeout_s):
            return "the task was not accepted yet, and may still begin; look at policy/status"
        handle = sending.result()
        if not handle.accepted:
            return "the task was not accepted"
        cancelling = handle.cancel_goal_async()
        if self._spin(cancelling.done, max(deadline - time.monotonic(), CANCELLATION_S)):
            return "the task was accepted late and is cancelled"
        return "the task was accepted late, and its cancellation was not answered; look at policy/status"

    def _on_status(self, message: Any) -> None:
        """An action's rejection carries no reason; the policy says it here."""
        # A policy that was killed and started again knows of no instruction.
        self._started_anew = message.state == message.IDLE and not message.instruction
        if message.state == message.REFUSED and message.instruction == self._instruction:
            self._rejection = message.message

    def _say(self, progress: Any, text: str) -> None:
        if progress.disable:
            with contextlib.suppress(OSError):  # who reads has gone; the task has not
                print(text, flush=True)
        else:
            progress.console.print(text, markup=False, highlight=False)

    def _cancel(self, handle: Any, ending: Any) -> str:
        """Cancel, and wait for the word that the task has ended; what there is to say of it."""
        handle.cancel_goal_async()
        if not self._spin(ending.done, CANCEL_TIMEOUT_S):
            return f", but the policy did not answer within {CANCEL_TIMEOUT_S:g} s; look at policy/status"
        message = ending.result().result.message
        return f": {message}" if message and message != "cancelled" else ""

    def _spin(self, until: Callable[[], bool], timeout_s: float = float("inf")) -> bool:
        import rclpy

        deadline = time.monotonic() + timeout_s
        while not until() and time.monotonic() < deadline:
            rclpy.spin_once(self._node, timeout_sec=0.1)
        return until()
