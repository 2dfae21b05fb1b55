"""Two tasks on one running stack: asked for one after the other, the controller goes on all the while.

The policies are the tasks' experts on perceived scenes (`expert_policy.py`), so that this needs no bundle of every task.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from watcher import AT_REST_RAD_S, Watcher

from physai_base.values import ControlState
from physai_lab.stack.bringup import Stack, join_stack
from physai_ros.graph import bringup_graph

pytestmark = [pytest.mark.ros, pytest.mark.slow]

HELPERS = Path(__file__).parents[2] / "helpers"
CUP, PUSH = "put the red cup on the bottom shelf", "push the blue puck onto the green mark"


@pytest.fixture
def stack() -> Iterator[Stack]:
    join_stack()
    graph = bringup_graph(task="cups,push", world_model="off", handover="off")
    expert = (sys.executable, str(HELPERS / "expert_policy.py"))
    nodes = [replace(spec, command=expert) if spec.name == "policy" else spec for spec in graph.nodes]
    with Stack(replace(graph, nodes=tuple(nodes)), lambda name, line: print(f"[{name}] {line}")) as running:
        running.wait_ready()
        yield running


@pytest.fixture
def watcher(stack: Stack) -> Iterator[Watcher]:
    import rclpy

    rclpy.init(args=[])
    watching = Watcher()
    yield watching
    watching.close()


def done(watcher: Watcher, instruction: str, target: str, destination: str) -> None:
    """Asked for as a person does, and judged by the cell."""
    from physai.srv import Score

    handle = watcher.send(instruction)
    assert handle.accepted
    result = handle.get_result_async()
    watcher.until(result.done, 120.0, instruction)
    assert result.result().result.success, result.result().result.message
    watcher.simulate(0.5)
    score = watcher.call(watcher.score, Score.Request(target=target, destination=destination))
    assert score.success, score.failure


def test_tasks_are_switched_by_what_is_asked_for(stack: Stack, watcher: Watcher) -> None:
    from physai.msg import GroundTruth, SceneState

    # A plain program with default quality of service hears scene and truth.
    scenes: list[Any] = []
    truths: list[Any] = []
    watcher.node.create_subscription(SceneState, "scene", scenes.append, 10)
    watcher.node.create_subscription(GroundTruth, "sim/ground_truth", truths.append, 10)
    watcher.until(lambda: scenes and truths and watcher.control, 30.0, "scene, truth and control are heard")
    assert scenes[-1].task == "cups" and "red_cup" in truths[-1].labels
    assert truths[-1].sizes[0].z == pytest.approx(0.1)
    controller, cycles = stack.pid("control"), watcher.control.cycles

    done(watcher, CUP, "red_cup", "bottom_shelf")

    # What is refused or asked for by a task that is not loaded changes nothing.
    refused = watcher.send("wipe the table").get_result_async()
    watcher.until(refused.done, 30.0, "the refusal")
    assert "the task wipe, which is not loaded" in refused.result().result.message
    assert scenes[-1].task == "cups"

    # The other task, by `physai do`: nothing moves until its things are looked for.
    sent, moved = len(watcher.chunks), len(watcher.motion)
    command = [sys.executable, "-m", "physai_lab.cli", "do", PUSH]
    asked = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    watcher.until(lambda: scenes[-1].task == "push", 60.0, "perception looks for pucks")
    changed_s = scenes[-1].header.stamp.sec + scenes[-1].header.stamp.nanosec * 1e-9
    early = [
        chunk for chunk in watcher.chunks[sent:] if chunk.horizon and _stamp_s(chunk.start_stamp) < changed_s
    ]
    assert early == []
    still = [speed for at_s, speed in watcher.motion[moved:] if at_s < changed_s]
    assert max(still[len(still) // 2 :], default=0.0) < 2 * AT_REST_RAD_S
    watcher.until(lambda: asked.poll() is not None, 120.0, "the push")
    said = asked.communicate()[0]
    assert asked.returncode == 0, said
    assert "red_puck" in truths[-1].labels

    # And back, with the very controller, whose loop has gone on.
    done(watcher, CUP, "red_cup", "bottom_shelf")
    assert scenes[-1].task == "cups"
    assert stack.pid("control") == controller and set(stack.starts.values()) == {1}
    watcher.until(lambda: watcher.control.state == ControlState.HOLD, 30.0, "the arm holds")
    assert watcher.control.cycles > cycles


def _stamp_s(stamp: Any) -> float:
    return float(stamp.sec + stamp.nanosec * 1e-9)
