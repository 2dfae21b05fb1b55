"""What one task goes through between whoever asks and the controller, without ROS."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from session_world import TASK, World

from physai_base.embodiment import Embodiment
from physai_base.task import Task
from physai_base.values import ChunkVerdict, ControlState, VerdictReason
from physai_policy.course import TaskState
from physai_policy.decoding import LEASE
from physai_policy.language import Confirm
from physai_policy.session import (
    CONTROL_TIMEOUT_S,
    REST_TIMEOUT_S,
    SCENE_TIMEOUT_S,
    Request,
)

OTHER = "put the blue cup on the bottom shelf"
UNCLEAR = "put something somewhere"


@pytest.fixture
def world(embodiment: Embodiment, task: Task) -> Iterator[World]:
    """Active, at rest, everything heard."""
    one = World(embodiment, task)
    one.session.activate()
    one.wait(0.2)
    yield one


def test_by_topic_a_task_begins_and_its_state_is_told(world: World) -> None:
    found = world.session.begin(Request(TASK, identifier="seven"))
    assert (found.reason, found.target, found.destination) == ("", "red_cup", "top_shelf")
    world.look_around()
    (chunk,) = world.chunks
    assert chunk.lease == LEASE and chunk.sequence > 100e9  # of the clock
    said = world.standings[-1]
    assert (said.state, said.instruction, said.identifier) == (TaskState.RUNNING, TASK, "seven")
    assert (said.target, said.destination) == ("red_cup", "top_shelf")
    world.session.abort("enough")
    world.wait(1.0)
    assert (world.ends, world.results) == (1, [])  # nobody waits for a result
    assert world.standings[-1].message == "enough"


def test_by_action_the_result_comes_once_when_the_arm_rests(world: World) -> None:
    assert not world.session.accept(TASK, 0.0)
    assert not world.session.begin(Request(TASK, by_action=True)).reason
    world.wait(0.3)
    assert world.fed[-1].state is TaskState.RUNNING
    world.session.abort("cancelled")
    assert world.ends == 1
    world.wait(0.5, state=ControlState.STOPPING)
    assert world.session.stops and not world.results
    world.wait(0.5)
    (ended,) = world.results
    assert (ended.success, ended.message, ended.target) == (False, "cancelled", "red_cup")
    assert ended.chunks == len(world.chunks)
    assert world.session.idle


def test_an_arm_that_never_rests_does_not_keep_the_answer_back_for_ever(world: World) -> None:
    world.session.begin(Request(TASK, by_action=True))
    world.session.abort("cancelled")
    world.wait(REST_TIMEOUT_S - 0.2, state=ControlState.STOPPING)
    assert not world.results
    world.wait(0.5, state=ControlState.STOPPING)
    assert "control did not report that the arm rests" in world.results[0].message


def test_one_task_at_a_time_and_the_next_may_wait_for_rest(world: World) -> None:
    world.session.begin(Request(TASK, by_action=True))
    assert "busy with" in world.session.accept(OTHER, 0.0)
    refused = world.standings[-1]
    assert (refused.state, refused.instruction) == (None, OTHER) and "busy with" in refused.message
    assert "busy with" in world.session.begin(Request(OTHER, identifier="x")).reason
    assert world.standings[-1].identifier == "x"
    assert world.session.standing.instruction == TASK  # which goes on
    world.session.abort("cancelled")
    assert not world.session.accept(OTHER, 0.0)  # begins when the arm rests
    assert world.session.accept(TASK, 0.0)  # and one may wait
    world.session.withdraw()
    assert not world.session.accept(TASK, 0.0)


@pytest.mark.parametrize("timeout_s", [np.nan, -1.0, 1e9])
def test_a_timeout_that_is_none_is_refused_however_it_comes(world: World, timeout_s: float) -> None:
    assert "timeout" in world.session.accept(TASK, timeout_s)
    assert "timeout" in world.session.begin(Request(TASK, timeout_s)).reason
    assert world.session.idle and not world.session.agent.busy


def test_what_is_asked_back_begins_when_it_was_confirmed(world: World) -> None:
    found = world.session.begin(Request(TASK, confirm=Confirm.ALWAYS))
    assert found.question and not world.session.agent.busy
    assert world.standings[-1].state is None and world.standings[-1].target == "red_cup"
    again = Request(TASK, confirm=Confirm.ALWAYS, confirmed=(found.target, found.destination))
    assert not world.session.begin(again).reason
    assert world.session.agent.busy


def test_nothing_begins_on_what_is_not_understood_or_not_there(
    world: World, embodiment: Embodiment, task: Task
) -> None:
    assert world.session.begin(Request(UNCLEAR)).reason
    assert world.standings[-1].state is None
    world.session.bring_up = "perception is lost"
    assert "perception is lost" in world.session.begin(Request(TASK)).reason
    world.session.bring_up = ""
    world.control(ControlState.ESTOP)
    assert "control is estop" in world.session.begin(Request(TASK)).reason
    world.session.deactivate()
    assert "not active" in world.session.begin(Request(TASK)).reason
    fresh = World(embodiment, task)
    fresh.session.activate()
    assert "no word from control" in fresh.session.begin(Request(TASK)).reason
    fresh.control()
    assert "publishes no scene" in fresh.session.begin(Request(TASK)).reason
    assert not world.chunks and not fresh.chunks


@pytest.mark.parametrize("silent", ["control", "perception"])
def test_a_task_ends_when_nothing_is_heard_any_more(world: World, silent: str) -> None:
    world.session.begin(Request(TASK, by_action=True))
    limit_s = CONTROL_TIMEOUT_S if silent == "control" else SCENE_TIMEOUT_S
    for _ in range(round((limit_s + 0.5) / 0.1)):
        world.now_s += 0.1
        if silent == "control":
            world.look_around()
        else:
            world.control()
        world.session.look()
    assert world.session.agent.state is TaskState.ABORTED
    said = "control has said nothing" if silent == "control" else "publishes no scene"
    assert said in world.session.agent.message
    assert world.ends == 1


@pytest.mark.parametrize("on_request", [False, True])
def test_a_controller_that_stops_ends_the_task(world: World, on_request: bool) -> None:
    world.session.begin(Request(TASK))
    world.look_around()
    world.control(ControlState.STOPPING, cause="the arm is elsewhere")
    assert world.session.agent.busy  # a chunk ran out
    state = ControlState.STOPPING if on_request else ControlState.FAULT
    world.control(state, cause="a person", on_request=on_request)
    assert world.session.agent.message == f"control is {state.name.lower()}: a person"


def test_vetoes_and_refusals_are_heard_and_what_repeats_ends_the_task(world: World) -> None:
    world.session.begin(Request(TASK, by_action=True))
    for _ in range(60):
        world.now_s += 0.1
        known = len(world.chunks)
        world.look_around()
        if len(world.chunks) > known:
            sequence = world.chunks[-1].sequence
            world.session.hear_verdict(
                ChunkVerdict(0, sequence, False, VerdictReason.TABLE, "", 1.0, 0.0, 0.0, 1.0, lease=LEASE)
            )
            world.control(rejected=(LEASE, sequence), rejection=f"chunk {sequence} vetoed: table")
            if world.session.agent.busy:
                assert world.session.standing.condition == "vetoed"
        else:
            world.control()
        world.session.look()
    (ended,) = world.results
    assert ended.message == "vetoed for 2 s: would touch the table"
    assert any("was given up" in line for line in world.log)


def test_another_task_takes_the_place_of_one_that_was_handed_over(world: World) -> None:
    world.session.begin(Request(TASK, by_action=True))
    world.session.agent.course.hand_over("surprise", world.now_ns())
    assert world.session.begin(Request(UNCLEAR)).reason
    assert world.session.agent.state is TaskState.HANDED_OVER  # what cannot begin takes no place
    assert not world.session.begin(Request(OTHER)).reason
    (ended,) = world.results
    assert "another task takes its place" in ended.message
    assert world.session.standing.target == "blue_cup"


def test_a_task_that_was_handed_over_goes_on_when_a_person_says_so(world: World) -> None:
    assert world.session.resume() == "no task was handed over"
    world.session.begin(Request(TASK))
    world.session.agent.course.hand_over("surprise", world.now_ns())
    world.wait(1.0)
    assert not world.chunks
    assert not world.session.resume()
    world.wait(0.3)
    assert world.chunks and world.session.agent.state is TaskState.RUNNING


def test_what_is_deactivated_ends_its_task_with_the_reason(world: World) -> None:
    world.session.begin(Request(TASK, by_action=True))
    world.session.bring_up = "perception is lost"
    world.session.deactivate()
    world.session.attend(rested=True)  # nobody will be here to answer later
    world.session.attend(rested=True)
    (ended,) = world.results
    assert ended.message == "the policy was deactivated: perception is lost"


def test_a_shadow_tells_the_controller_nothing(embodiment: Embodiment, task: Task) -> None:
    world = World(embodiment, task, drives=False)
    world.session.activate()
    world.look_around()  # nothing is heard of control
    assert not world.session.begin(Request(TASK, by_action=True)).reason
    world.look_around()
    assert len(world.chunks) == 1
    world.session.abort("enough")
    world.session.look()
    assert world.ends == 0 and world.results[0].message == "enough"
