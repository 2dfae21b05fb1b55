"""Instructions for one of several tasks: who works on it, who is told, and what moves until perception follows. Without ROS."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scenes import make_scene, thing
from session_world import TASK, Upwards, World

from physai_base.embodiment import Embodiment
from physai_base.task import Task
from physai_base.values import SceneState
from physai_policy.agent import Agent, AgentSettings
from physai_policy.course import TaskState
from physai_policy.language import Confirm, TasksGrounder
from physai_policy.session import CHANGE_TIMEOUT_S, Request, Session

PUSH = "push the red puck onto the green mark"
PUSH_M = {"red_puck": (0.45, -0.2), "blue_puck": (0.5, -0.1), "green_mark": (0.5, 0.2)}


class Table(World):
    """A world whose table holds one task's things, which perception looks for if it was told."""

    def __init__(self, embodiment: Embodiment, task: Task) -> None:
        super().__init__(embodiment, task)
        push = Task.load("push")
        self.agents = {
            task.name: self.session.agent,
            "push": Agent(embodiment, push, Upwards(), AgentSettings()),
        }
        grounder = TasksGrounder((task, push), lambda: [Task.load("wipe")])
        self.session = Session(self.agents, grounder, self, self.now_ns, steady_s=lambda: self.now_s)
        self.seen = task.name

    def scene(self) -> SceneState:
        """What perception says now."""
        scene = make_scene(self.embodiment, self.task, stamp_ns=self.now_ns())
        scene = replace(
            scene, joint_position=scene.joint_position + self._noise.normal(0, 1e-6, 7), task=self.seen
        )
        if self.seen != "push":
            return scene
        sizes = {label: Task.load("push").kind(label).size_m for label in PUSH_M}
        things = (replace(thing(k, p, self.now_ns()), size_m=np.array(sizes[k])) for k, p in PUSH_M.items())
        return replace(scene, objects=tuple(things))

    def look_around(self) -> None:
        scene = self.scene()
        self.session.hear_scene(scene)
        self.session.stepped = scene
        self.session.step(scene)


@pytest.fixture
def table(embodiment: Embodiment, task: Task) -> Table:
    one = Table(embodiment, task)
    one.session.activate()
    one.wait(0.2)
    return one


def test_what_is_for_the_task_that_is_there_begins_at_once_and_nobody_is_told(table: Table) -> None:
    assert not table.session.begin(Request(TASK)).reason
    table.look_around()
    assert len(table.chunks) == 1 and table.named == [] and table.ends == 0


def test_another_task_is_named_and_nothing_moves_until_its_things_are_looked_for(table: Table) -> None:
    assert not table.session.begin(Request(PUSH)).reason
    assert table.named == ["push"] and table.ends == 1
    assert table.session.agent is table.agents["push"]
    assert "looks for the things of the task push" in table.standings[-1].message
    table.wait(1.0)  # scenes of cups
    assert table.chunks == [] and table.session.agent.state is TaskState.RUNNING
    table.seen = "push"
    table.wait(0.3)
    assert table.chunks and table.standings[-1].target == "red_puck"
    # The way back, and the numbers of chunks rise over both.
    table.session.abort("enough")
    assert not table.session.begin(Request(TASK)).reason
    assert table.named == ["push", "cups"]
    before = len(table.chunks)
    table.wait(0.5)
    assert len(table.chunks) == before
    table.seen = "cups"
    table.wait(0.3)
    numbers = [chunk.sequence for chunk in table.chunks]
    assert len(numbers) > before and numbers == sorted(set(numbers))


def test_a_perception_that_does_not_follow_ends_it(table: Table) -> None:
    table.session.begin(Request(PUSH, by_action=True))
    table.wait(CHANGE_TIMEOUT_S - 1.0)
    assert table.results == []
    table.wait(2.0)
    (ended,) = table.results
    assert not ended.success and "perception publishes no scene of the task push" in ended.message
    assert table.chunks == []
    assert not table.session.begin(Request(TASK)).reason  # what is there goes on
    table.look_around()
    assert len(table.chunks) == 1


def test_a_scene_that_was_on_its_way_is_no_scene_of_the_next_task(table: Table) -> None:
    old = table.scene()
    table.session.begin(Request(PUSH))
    table.session.step(old)  # the thread that steps had it already
    assert table.chunks == []


def test_of_an_unknown_task_nothing_is_believed(table: Table) -> None:
    table.session.begin(Request(TASK))
    for task in ("wipe", ""):  # nobody says which, and there are two
        table.seen = task
        table.now_s += 0.1
        table.session.hear_scene(table.scene())
        assert "scene refused: it " in table.log[-1]
    assert table.session.scene is not None and table.session.scene.task == "cups"


def test_questions_and_refusals_switch_nothing(table: Table) -> None:
    asked = table.session.begin(Request(PUSH, confirm=Confirm.ALWAYS, by_action=True))
    assert asked.question and asked.target == "red_puck"
    refused = table.session.begin(Request("wipe the table"))
    assert "the task wipe" in refused.reason and "not loaded" in refused.reason
    assert table.named == [] and table.session.agent is table.agents["cups"]
    table.session.begin(Request(TASK))
    assert "busy with" in table.session.begin(Request(PUSH)).reason
    assert table.named == []


def test_a_policy_that_was_started_anew_takes_what_perception_looks_for(table: Table) -> None:
    table.seen = "push"  # since its predecessor said so
    table.wait(0.2)
    assert not table.session.begin(Request(PUSH)).reason
    table.look_around()
    assert len(table.chunks) == 1 and table.named == []
