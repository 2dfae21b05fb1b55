import numpy as np
import pytest

from physai_base.kinematics import TOOL_DOWN, Pose
from physai_base.task import Task
from physai_perception.cylinder import CylinderFit
from physai_perception.cylinder_tracker import CylinderTracker, HandView, Sighting

PERIOD_NS = 66_666_667
UP = np.array([0.0, 0.0, 1.0])


def fit(foot, axis=UP) -> CylinderFit:
    covariance = np.diag([1e-6] * 3 + [1e-3] * 3)
    return CylinderFit(np.array(foot, dtype=float), np.array(axis, dtype=float), covariance, 0.0005, 1.0)


def tool(position=(0.5, 0.3, 0.5), width_m=0.08, velocity=(0, 0, 0)) -> HandView:
    return HandView(
        Pose(np.array(position, dtype=float), TOOL_DOWN), np.array([*velocity, 0, 0, 0], dtype=float), width_m
    )


@pytest.fixture
def tracker() -> CylinderTracker:
    task = Task.load("cups")
    return CylinderTracker({label: task.kind(label) for label in task.objects}, 0.95)


def see(foot, **kwargs):
    return {"red_cup": Sighting(fit(foot, **kwargs), 1.0)}


HIDDEN = {"red_cup": Sighting(None)}


def test_identities_belong_to_labels(tracker):
    seen = {label: Sighting(fit((0.4, y, 0)), 1.0) for label, y in (("blue_cup", -0.1), ("red_cup", -0.3))}
    first = {thing.label: thing.id for thing in tracker.update(0, seen, tool())}
    tracker.reset()
    second = {thing.label: thing.id for thing in tracker.update(PERIOD_NS, see((0.5, 0, 0)), tool())}
    assert first == {"red_cup": 1, "blue_cup": 3}
    assert second == {"red_cup": 1}


def test_velocity_follows_a_moving_cup_and_rests_with_it(tracker):
    for k in range(15):
        (thing,) = tracker.update(k * PERIOD_NS, see((0.4 + 0.1 * k / 15, 0, 0)), tool())
    np.testing.assert_allclose(thing.velocity_m_s, [0.1, 0, 0], atol=0.005)
    for k in range(15, 35):
        (thing,) = tracker.update(k * PERIOD_NS, see((0.5, 0, 0)), tool())
    np.testing.assert_allclose(thing.velocity_m_s, 0, atol=0.002)


def test_a_hidden_cup_stays_and_is_believed_less_and_less(tracker):
    tracker.update(0, see((0.4, 0, 0)), tool())
    confidence = [tracker.update((k + 1) * PERIOD_NS, HIDDEN, tool())[0].confidence for k in range(30)]
    (thing,) = tracker.update(31 * PERIOD_NS, HIDDEN, tool())
    np.testing.assert_allclose(thing.position_m, [0.4, 0, 0], atol=1e-3)
    assert thing.last_seen_ns == 0
    assert (np.diff(confidence) < 0).all() and 0.4 < confidence[-1] < 0.8


def test_a_cup_whose_place_is_empty_is_soon_not_believed(tracker):
    tracker.update(0, see((0.4, 0, 0)), tool())
    for k in range(15):
        (thing,) = tracker.update((k + 1) * PERIOD_NS, {"red_cup": Sighting(None, 0.0, absent=True)}, tool())
    assert thing.confidence < 0.1


def test_a_held_and_hidden_cup_moves_with_the_tool_until_it_is_released(tracker):
    at = np.array([0.4, 0.0, 0.06])
    tracker.update(0, see((0.4, 0, 0)), tool(at, 0.06))
    for k in range(1, 11):
        at = at + [0.01, 0, 0.02]
        (thing,) = tracker.update(k * PERIOD_NS, HIDDEN, tool(at, 0.06, (0.15, 0, 0.3)))
    np.testing.assert_allclose(thing.position_m, at - [0, 0, 0.06], atol=1e-6)
    np.testing.assert_allclose(thing.velocity_m_s, [0.15, 0, 0.3])
    assert tracker.held("red_cup")
    tracker.update(11 * PERIOD_NS, HIDDEN, tool(at, 0.08))
    for k in range(12, 16):
        (thing,) = tracker.update(k * PERIOD_NS, HIDDEN, tool(at + [0, 0, 0.02 * k], 0.08, (0, 0, 0.3)))
    assert not tracker.held("red_cup")
    np.testing.assert_allclose(thing.position_m[:2], at[:2], atol=1e-6)
    assert np.linalg.norm(thing.velocity_m_s) < 0.01


def test_a_gripper_that_closes_elsewhere_or_further_takes_nothing_along(tracker):
    for position, width in (((0.4, 0.1, 0.06), 0.06), ((0.4, 0, 0.06), 0.0), ((0.4, 0, 0.06), 0.08)):
        tracker.reset()
        tracker.update(0, see((0.4, 0, 0)), tool(position, width))
        tracker.update(PERIOD_NS, HIDDEN, tool(position, width))
        assert not tracker.held("red_cup")


def test_one_wild_sighting_is_not_followed_but_two_are(tracker):
    tracker.update(0, see((0.4, 0, 0)), tool())
    (thing,) = tracker.update(PERIOD_NS, see((0.6, 0.2, 0)), tool())
    np.testing.assert_allclose(thing.position_m, [0.4, 0, 0], atol=1e-3)
    (thing,) = tracker.update(2 * PERIOD_NS, see((0.6, 0.2, 0)), tool())
    np.testing.assert_allclose(thing.position_m, [0.6, 0.2, 0], atol=1e-3)


def test_a_cup_that_tips_over_is_no_longer_upright(tracker):
    tracker.update(0, see((0.4, 0, 0)), tool())
    for k in range(1, 5):
        (thing,) = tracker.update(k * PERIOD_NS, see((0.4, 0, 0.03), axis=(1, 0, 0)), tool())
    assert not thing.upright


def test_what_goes_from_hand_to_hand_moves_with_the_one_that_has_it(tracker: CylinderTracker) -> None:
    away, at = np.array([0.4, 0.5, 0.5]), np.array([0.4, 0, 0.05])
    tracker.update(0, see((0.4, 0, 0)), tool(away, 0.08), tool(at, 0.06))
    (thing,) = tracker.update(PERIOD_NS, HIDDEN, tool(away, 0.08), tool(at + [0, 0, 0.1], 0.06))
    np.testing.assert_allclose(thing.position_m, [0.4, 0, 0.1], atol=1e-3)
    # The first hand takes it as well; the second one lets go, and the cylinder goes with the first.
    up = at + [0, 0, 0.1]
    tracker.update(2 * PERIOD_NS, HIDDEN, tool(up + [0, 0, 0.02], 0.06), tool(up, 0.06))
    tracker.update(3 * PERIOD_NS, HIDDEN, tool(up + [0, 0, 0.02], 0.06), tool(up, 0.08))
    (thing,) = tracker.update(4 * PERIOD_NS, HIDDEN, tool(up + [0.2, 0, 0.02], 0.06), tool(up, 0.08))
    np.testing.assert_allclose(thing.position_m, [0.6, 0, 0.1], atol=1e-3)
