import numpy as np
import pytest

from physai_base.values import JointState
from physai_perception.errors import SynchronizationError
from physai_perception.synchronizer import JointStateBuffer

MS = 1_000_000


def state(stamp_ns: int, n: int = 2) -> JointState:
    t = stamp_ns * 1e-9
    return JointState(
        stamp_ns,
        np.full(n, np.sin(3 * t)),
        np.full(n, 3 * np.cos(3 * t)),
        np.full(n, t),
        np.array([0.01 * t]),
    )


def buffer(period_ms: int = 10, count: int = 20) -> JointStateBuffer:
    history = JointStateBuffer()
    for k in range(count):
        history.add(state(k * period_ms * MS))
    return history


def test_interpolates_all_values_to_the_stamp():
    for stamp_ns in (0, 3 * MS, 47 * MS + 123, 190 * MS):
        got, wanted = buffer().at(stamp_ns), state(stamp_ns)
        assert got.stamp_ns == stamp_ns
        np.testing.assert_allclose(got.position, wanted.position, atol=1e-8)
        np.testing.assert_allclose(got.velocity, wanted.velocity, atol=5e-4)
        np.testing.assert_allclose(got.effort, wanted.effort, atol=1e-12)
        assert got.openings[0] == pytest.approx(wanted.openings[0])


def test_extrapolates_a_little_and_refuses_more():
    np.testing.assert_allclose(buffer().at(200 * MS).position, state(200 * MS).position, atol=1e-3)
    with pytest.raises(SynchronizationError, match="newer than the newest"):
        buffer().at(250 * MS)
    with pytest.raises(SynchronizationError, match="older than the oldest"):
        buffer().at(-50 * MS)


def test_refuses_gaps_nothing_and_nonsense():
    with pytest.raises(SynchronizationError, match="150 ms apart"):
        buffer(period_ms=150, count=3).at(200 * MS)
    with pytest.raises(SynchronizationError, match="no joint state"):
        JointStateBuffer().at(0)
    with pytest.raises(SynchronizationError, match="NaN"):
        JointStateBuffer().add(JointState(0, np.array([np.nan]), np.zeros(1), np.zeros(1), np.zeros(1)))
    history = buffer()
    with pytest.raises(SynchronizationError, match="has 3 joints"):
        history.add(state(300 * MS, n=3))


def test_forgets_old_states_and_starts_afresh_when_time_is_reset():
    history = buffer(count=500)
    assert len(history) <= 202
    history.add(state(5 * MS))
    assert len(history) == 1


def test_states_that_come_out_of_order_do_not_take_the_history():
    history = JointStateBuffer()
    for k in range(20):
        history.add(state(10 * k * MS))
        history.add(state((10 * k - 7) * MS))  # of a second publisher, or late on the way
    assert len(history) == 20
    np.testing.assert_allclose(history.at(47 * MS).position, state(47 * MS).position, atol=1e-8)
