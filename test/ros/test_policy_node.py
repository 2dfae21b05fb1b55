"""The policy's node in process: what it makes of a controller that was there and says nothing any more."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from policy_bench import Bench

from physai.msg import ControlStatus

pytestmark = pytest.mark.ros


@pytest.fixture
def bench() -> Iterator[Bench]:
    one = Bench()
    yield one
    one.close()


def test_who_asks_is_told_that_control_is_silent_and_not_what_it_said_last(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A controller that was frozen or killed while it held the arm."""
    bench.until(bench.control.get_subscription_count, "the policy listens")
    bench.control.publish(ControlStatus(state=ControlStatus.HOLD))
    bench.until(lambda: bench.node._session.control is not None, "the policy has heard control")
    monkeypatch.setattr(bench.node._session, "_steady_s", lambda: time.monotonic() + 3.0)
    assert "control has said nothing for" in bench.ask("put the red cup on the top shelf")
    bench.diagnostics.clear()
    key = "condition.control_silent"
    bench.until(
        lambda: any(v.key == key for m in bench.diagnostics for s in m.status for v in s.values),
        "diagnostics",
    )
    # Once it speaks again, something else is missing.
    monkeypatch.undo()
    bench.control.publish(ControlStatus(state=ControlStatus.HOLD))
    bench.until(lambda: not bench.node._session.control_silence(), "the policy has heard control again")
    assert "perception publishes no scene" in bench.ask("put the red cup on the top shelf")
