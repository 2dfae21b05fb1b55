"""`physai do`: one instruction to a running stack, with live progress."""

from __future__ import annotations

import sys
import time
from typing import Any

from physai_base.errors import PhysaiError
from physai_lab.bringup import join_stack

SERVER_TIMEOUT_S = 10.0
HANDED_OVER = 3  # exit code


def do(instruction: str, timeout_s: float, namespace: str, wait: bool = True) -> int:
    """Send the instruction as an action goal; 0 when it succeeded. Ctrl-C cancels the task.

    When the policy asks for a person, this says so and waits for one, or without `wait` cancels and is `HANDED_OVER`.
    """
    join_stack()
    import rclpy
    from rclpy.action import ActionClient
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from physai.action import ExecuteTask
    from physai.msg import PolicyStatus

    rclpy.init(args=[])
    node = rclpy.create_node("physai_do", namespace=namespace)
    client: Any = ActionClient(node, ExecuteTask, "execute_task")
    resume = f"/{namespace.strip('/')}/policy/resume".replace("//", "/")
    handle: Any = None
    try:
        if not client.wait_for_server(timeout_sec=SERVER_TIMEOUT_S):
            raise PhysaiError(
                "no policy offers execute_task; start the stack with `physai up` or `ros2 launch`"
            )
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns) as progress:
            bar = progress.add_task(instruction, total=1.0, note="")

            asked = ""

            def feedback(message: Any) -> None:
                nonlocal asked
                report = message.feedback
                before, asked = asked, report.message if report.state == PolicyStatus.HANDOVER else ""
                if asked and not before:
                    progress.console.print(f"physai do: the policy {asked}", markup=False)
                    if wait:
                        progress.console.print(
                            f"  go on with: ros2 service call {resume} std_srvs/srv/Trigger"
                        )
                progress.update(bar, completed=report.progress, note=report.message)

            goal = ExecuteTask.Goal(instruction=instruction, timeout=timeout_s)
            sending = client.send_goal_async(goal, feedback_callback=feedback)
            rclpy.spin_until_future_complete(node, sending, timeout_sec=SERVER_TIMEOUT_S)
            handle = sending.result() if sending.done() else None
            if handle is None or not handle.accepted:
                raise PhysaiError(
                    "the policy does not accept tasks now; look at policy/status and diagnostics"
                )
            waiting = handle.get_result_async()
            while not waiting.done():
                rclpy.spin_once(node, timeout_sec=0.5)
                if asked and not wait:
                    print("physai do: cancelled, nobody is here to take over", file=sys.stderr)
                    _cancel(node, handle)
                    return HANDED_OVER
            answer: Any = waiting.result()
            result = answer.result
            progress.update(bar, completed=1.0 if result.success else 0.0, note="")
        if result.success:
            print(
                f"done in {result.duration:.1f} s: {result.target} on {result.destination}, {result.chunks} chunks"
            )
            return 0
        print(f"physai do: not done: {result.message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        if handle is not None:
            _cancel(node, handle)
        print("physai do: cancelled", file=sys.stderr)
        return 130
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def _cancel(node: Any, handle: Any) -> None:
    import rclpy

    cancelling = handle.cancel_goal_async()
    deadline = time.monotonic() + 2.0
    while not cancelling.done() and time.monotonic() < deadline:
        rclpy.spin_once(node, timeout_sec=0.1)
