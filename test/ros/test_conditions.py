"""What a node waits for is named: shown after two seconds, logged once, gone when it is over."""

from __future__ import annotations

import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from physai_ros.conditions import PATIENCE_S, Conditions


class Bench:
    """Conditions with a clock and a log of the test's own."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.log: list[tuple[str, str]] = []
        self.conditions = Conditions(
            warn=lambda text: self.log.append(("warn", text)),
            fail=lambda text: self.log.append(("error", text)),
            tell=lambda text: self.log.append(("info", text)),
            clock=lambda: self.now_s,
        )

    def status(self, **fields: object) -> DiagnosticStatus:
        status = DiagnosticStatus(**{"message": "active", **fields})
        self.conditions.show_on(status)
        return status


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_it_is_shown_once_it_lasts_and_logged_once(bench: Bench) -> None:
    bench.conditions.set("depth_absent", "no depth image")
    bench.now_s += PATIENCE_S - 0.1
    assert bench.status().message == "active" and bench.log == []
    bench.conditions.set("depth_absent", "no depth image since the start: start the depth stream")
    bench.now_s += 0.1
    for _ in range(3):
        status = bench.status()
    assert status.level == DiagnosticStatus.WARN
    assert status.message == "no depth image since the start: start the depth stream"
    assert [(v.key, v.value) for v in status.values] == [("condition.depth_absent", status.message)]
    assert bench.log == [("warn", status.message)]
    assert bench.conditions.since_s("depth_absent") == pytest.approx(PATIENCE_S)


def test_it_is_gone_when_it_is_over_and_begins_anew(bench: Bench) -> None:
    bench.conditions.set("a", "first", error=True)
    bench.conditions.set("b", "second")
    bench.now_s += 5.0
    assert bench.status().message == "first; second" and bench.status().level == DiagnosticStatus.ERROR
    bench.conditions.set("a", "")
    assert bench.status().message == "second" and bench.status().level == DiagnosticStatus.WARN
    bench.conditions.end()
    assert bench.status().message == "active" and bench.conditions.since_s("a") is None
    assert bench.log == [("error", "first"), ("warn", "second"), ("info", "over: a"), ("info", "over: b")]
    bench.conditions.set("a", "again")
    assert bench.status().message == "active"


def test_an_error_of_the_node_comes_first(bench: Bench) -> None:
    with bench.conditions.during("renderer", "waits for the renderer"):
        bench.now_s += 3.0
        status = bench.status(level=DiagnosticStatus.ERROR, message="fault: contact")
        assert status.message == "fault: contact; waits for the renderer"
        assert status.values[0].key == "condition.renderer"
    assert not bench.status().values


def test_what_ends_before_it_shows_leaves_no_trace(bench: Bench) -> None:
    for _ in range(10):
        bench.conditions.set("late", "late")
        bench.now_s += 1.0
        bench.conditions.end("late", "never_was")
    assert bench.status().message == "active" and bench.log == []


def test_it_may_count_from_earlier_and_show_sooner(bench: Bench) -> None:
    bench.conditions.set("late", "late", since_s=bench.now_s - PATIENCE_S)
    assert bench.status().message == "late"
    bench.conditions.end("late")
    bench.conditions.set("late", "late", patience_s=0.5)
    bench.now_s += 0.6
    assert bench.status().message == "late"
