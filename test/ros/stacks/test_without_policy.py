"""A robot without a policy, as real processes: the controller follows whoever sends chunks, and everybody says that there is no policy."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from watcher import AT_REST_RAD_S, Watcher

from physai_base.embodiment import Embodiment
from physai_base.values import ActionChunk, ChunkMode, ControlState
from physai_lab.stack.bringup import Stack, join_stack
from physai_ros import conversions, qos, topics
from physai_ros.graph import NO_POLICY, bringup_graph

pytestmark = [pytest.mark.ros, pytest.mark.slow]
PHYSAI = Path(sys.executable).with_name("physai")
REACH_RAD = 0.2  # of the first joint


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Of an arm that has no camera either."""
    blind = tmp_path / "blind.yaml"
    blind.write_text(f"extends: {Embodiment.load('fr3').path}\nname: blind\ncameras: []\n")
    join_stack()
    graph = bringup_graph(robot=str(blind), policy="none")
    with Stack(graph, lambda name, line: print(f"[{name}] {line}")) as running:
        running.wait_ready()
        yield running


@pytest.fixture
def watcher(stack: Stack) -> Iterator[Watcher]:
    import rclpy

    rclpy.init(args=[])
    watching = Watcher()
    yield watching
    watching.close()


def physai(*arguments: str) -> tuple[int, str]:
    """Exit code and everything that it says."""
    done = subprocess.run(
        [PHYSAI, *arguments], check=False, capture_output=True, text=True, timeout=60, env=os.environ
    )
    return done.returncode, done.stdout + done.stderr


def turn(robot: Embodiment, now_ns: int) -> ActionChunk:
    """The first joint turned by `REACH_RAD` within 1.5 s, from rest to rest."""
    share = (1 - np.cos(np.pi * np.linspace(0, 1, 31))) / 2
    values = robot.home + np.outer(share, np.eye(len(robot.joints))[0] * REACH_RAD)
    return ActionChunk(
        sequence=now_ns, policy="somebody", observation_ns=now_ns, start_ns=now_ns, dt_ns=50_000_000,
        mode=ChunkMode.JOINT_POSITION, joint_names=robot.joint_names, values=values,
        openings=np.tile(robot.openings_at(1.0), (31, 1)), uncertainty=0.0, expiry_ns=now_ns + 1_800_000_000,
    )  # fmt: skip


def test_chunks_of_anybody_move_a_robot_that_has_no_policy(stack: Stack, watcher: Watcher) -> None:
    said: dict[str, Any] = {}
    for topic in ("supervisor/status", "robot_description", "tf_static"):
        watcher.node.create_subscription(
            topics.topic(topic).message(), topic, partial(said.__setitem__, topic), qos.LATCHED
        )
    topics.hear(watcher.node, "joint_states", partial(said.__setitem__, "joint_states"))
    watcher.until(lambda: len(said) == 4 and watcher.control and watcher.motion, 30.0, "the robot speaks")
    assert set(stack.starts) == {"sim", "control", "supervisor"}
    assert "<robot" in said["robot_description"].data and said["tf_static"].transforms
    assert said["supervisor/status"].message == NO_POLICY and NO_POLICY in stack.status

    # Without a world model nobody is waited for.
    robot = Embodiment.load("fr3")
    watcher.simulate(0.5)
    before = watcher.control.reference[0]
    now_ns = round(watcher.now_s * 1e9)
    watcher.until(watcher.dive.get_subscription_count, 30.0, "control listens")
    watcher.dive.publish(conversions.chunk_to_msg(turn(robot, now_ns), now_ns, robot.base_frame))
    watcher.until(lambda: watcher.control.state == ControlState.TRACK, 30.0, "it follows")
    watcher.simulate(3.0)
    assert watcher.control.state == ControlState.HOLD
    assert watcher.motion[-1][1] < AT_REST_RAD_S
    assert watcher.control.reference[0] - before == pytest.approx(REACH_RAD, abs=0.01)

    # Who asks for a task is told at once, and so is who looks.
    code, text = physai("do", "put the red cup on the top shelf")
    assert code == 1 and NO_POLICY in text
    code, text = physai("doctor", "--graph")
    assert code == 0 and NO_POLICY in text and "SILENT" not in text
