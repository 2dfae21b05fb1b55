import numpy as np
import pytest

from physai_base.kinematics import TOOL_DOWN, Pose
from physai_base.task import Kind, Shape, Task
from physai_perception.cylinder import axis_turn
from physai_perception.fitting import ShapeFit, Sighting, upright_turn
from physai_perception.thing_tracker import HandView, ThingTracker

PERIOD_NS = 66_666_667
UP = np.array([0.0, 0.0, 1.0])


def fit(foot, axis=UP, rotation=None, size_m=(0.06, 0.06, 0.1)) -> ShapeFit:
    covariance = np.diag([1e-6] * 3 + [1e-3] * 3)
    turn = axis_turn(np.array(axis, dtype=float)) if rotation is None else rotation
    return ShapeFit(np.array(foot, dtype=float), turn, np.array(size_m), covariance, 0.0005, 1.0)


def tool(position=(0.5, 0.3, 0.5), width_m=0.08, velocity=(0, 0, 0)) -> HandView:
    return HandView(
        Pose(np.array(position, dtype=float), TOOL_DOWN), np.array([*velocity, 0, 0, 0], dtype=float), width_m
    )


@pytest.fixture
def tracker() -> ThingTracker:
    task = Task.load("cups")
    return ThingTracker({label: task.kind(label) for label in task.objects}, 0.95)


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


@pytest.mark.parametrize("hidden", [True, False])
def test_a_hidden_cup_goes_before_the_fingers_that_push_it_and_a_seen_one_where_it_is_seen(tracker, hidden):
    at = np.array([0.45, 0.0, 0.04])
    tracker.update(0, see((0.4, 0, 0)), tool(at, 0.0))
    for k in range(1, 16):
        at = at - [0.005, 0, 0]
        (thing,) = tracker.update(k * PERIOD_NS, HIDDEN if hidden else see((0.4, 0, 0)), tool(at, 0.0))
    gone = 0.4 - thing.position_m[0]
    if hidden:
        assert 0.055 < gone < 0.075  # the fingers went 75 mm, and came from 5 to 15 mm before the cup
        assert thing.velocity_m_s[0] == pytest.approx(-0.075, abs=0.01)
        assert thing.covariance[0, 0] > 0.004**2  # nobody has seen it
    else:
        assert abs(gone) < 1e-3


@pytest.mark.parametrize("position", [(0.4, 0.0, 0.06), (0.4, 0.0, 0.13), (0.4, 0.1, 0.06)])
def test_a_hidden_cup_between_open_fingers_below_them_or_beside_them_stays(tracker, position):
    tracker.update(0, see((0.4, 0, 0)), tool((0.4, 0.0, 0.3)))
    for k in range(1, 6):
        (thing,) = tracker.update(k * PERIOD_NS, HIDDEN, tool(position, 0.08))
    np.testing.assert_allclose(thing.position_m, [0.4, 0, 0], atol=1e-3)


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


def test_what_goes_from_hand_to_hand_moves_with_the_one_that_has_it(tracker: ThingTracker) -> None:
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


BLOCK = Kind("block", Shape.BOX, (0.04, 0.04, 0.05))
BRICK = Kind("brick", Shape.BOX, (0.06, 0.04, 0.05))
STAIN = Kind("stain", Shape.PATCH, (0.1, 0.08, 0.0))


def of_kind(kind: Kind, fixed=()) -> ThingTracker:
    return ThingTracker({"thing": kind}, 0.95, fixed=fixed)


def seen(kind: Kind, origin, yaw_deg=0.0, size_m=None) -> dict[str, Sighting]:
    size = kind.size_m if size_m is None else size_m
    return {"thing": Sighting(fit(origin, rotation=upright_turn(np.radians(yaw_deg)), size_m=size), 1.0)}


def yaw_deg(thing) -> float:
    w, x, y, z = thing.orientation
    np.testing.assert_allclose([x, y], 0, atol=1e-9)
    return float(np.degrees(2 * np.arctan2(z, w)))


@pytest.mark.parametrize(
    ("kind", "measured", "said"), [(BLOCK, 100, 10), (BLOCK, -60, 30), (BRICK, 100, -80), (BRICK, 190, 10)]
)
def test_yaw_is_folded_by_symmetry(kind, measured, said):
    (thing,) = of_kind(kind).update(0, seen(kind, (0.4, 0, 0), measured), tool())
    assert yaw_deg(thing) == pytest.approx(said, abs=1e-6)


def test_yaw_follows_a_block_that_turns_on_beyond_its_symmetry_and_averages_noise():
    tracker, rng = of_kind(BLOCK), np.random.default_rng(0)
    for k in range(40):  # 2 degrees an image; a block is measured anywhere within its symmetry
        turn = 2.0 * k + rng.normal(0, 0.5) + 90 * rng.integers(4)
        (thing,) = tracker.update(k * PERIOD_NS, seen(BLOCK, (0.4, 0, 0), turn), tool())
        error = (yaw_deg(thing) - 2.0 * k + 45) % 90 - 45
        assert abs(error) < 4


def test_a_held_block_turns_with_the_hand():
    tracker, at = of_kind(BLOCK), np.array([0.4, 0.0, 0.03])
    hidden = {"thing": Sighting(None)}
    tracker.update(0, seen(BLOCK, (0.4, 0, 0), 20), tool(at, 0.04))
    assert tracker.held("thing")
    for k in range(1, 7):
        turned = Pose(at + [0, 0, 0.01 * k], upright_turn(np.radians(10 * k)) @ TOOL_DOWN)
        (thing,) = tracker.update(k * PERIOD_NS, hidden, HandView(turned, np.zeros(6), 0.04))
    assert yaw_deg(thing) == pytest.approx(-10, abs=1e-6)  # 80, folded
    np.testing.assert_allclose(thing.position_m, [0.4, 0, 0.06], atol=1e-9)


def test_a_hand_may_hold_a_brick_across_either_side_and_no_patch():
    for width, held in ((0.06, True), (0.04, True), (0.075, False)):
        tracker = of_kind(BRICK)
        tracker.update(0, seen(BRICK, (0.4, 0, 0)), tool((0.4, 0, 0.03), width))
        assert tracker.held("thing") is held
    tracker = of_kind(STAIN)
    tracker.update(0, seen(STAIN, (0.4, 0, 0)), tool((0.4, 0, 0.01), 0.08))
    assert not tracker.held("thing")


def test_what_is_left_of_a_stain_is_no_motion():
    tracker = of_kind(STAIN)
    tracker.update(0, seen(STAIN, (0.4, 0, 0)), tool())
    for k in range(1, 5):
        left = 0.1 - 0.02 * k
        (thing,) = tracker.update(
            k * PERIOD_NS, seen(STAIN, (0.4 - 0.01 * k, 0, 0), size_m=(left, 0.08, 0)), tool()
        )
        np.testing.assert_allclose(thing.position_m, [0.4 - 0.01 * k, 0, 0])
        np.testing.assert_allclose(thing.size_m, [left, 0.08, 0])
        np.testing.assert_allclose(thing.velocity_m_s, 0)


def test_a_hidden_place_is_believed_longer_than_what_may_have_been_taken_away():
    believed = []
    for fixed in ((), ("thing",)):
        tracker = of_kind(BLOCK, fixed)
        tracker.update(0, seen(BLOCK, (0.4, 0, 0)), tool())
        for k in range(1, 301):
            (thing,) = tracker.update(k * PERIOD_NS, {"thing": Sighting(None)}, tool())
        believed.append(thing.believed)
    assert believed == [False, True]


def test_a_box_that_tips_lies_on_another_face_at_once():
    tracker = of_kind(BRICK)
    tracker.update(0, seen(BRICK, (0.4, 0, 0)), tool())
    over = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
    lying = {"thing": Sighting(fit((0.4, 0, 0.03), rotation=over, size_m=BRICK.size_m), 1.0)}
    (thing,) = tracker.update(PERIOD_NS, lying, tool())
    assert not thing.upright
