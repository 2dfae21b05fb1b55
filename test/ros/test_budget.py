"""Restarts are counted within a window that moves on; readiness is a message, not a line of a log."""

from __future__ import annotations

import subprocess
import sys

from physai_ros.budget import RestartBudget
from physai_ros.notify import READY, Listener


def test_the_count_decays_and_a_person_may_clear_it() -> None:
    now = [0.0]
    budget = RestartBudget(2, 100.0, lambda: now[0])
    assert budget.free_in_s == 0
    budget.spend()
    now[0] = 30.0
    budget.spend()
    assert (budget.used, budget.free_in_s) == (2, 70.0)
    now[0] = 100.0
    assert (budget.used, budget.free_in_s) == (1, 0.0)
    budget.spend()
    assert budget.free_in_s == 30.0
    budget.clear()
    assert (budget.used, budget.free_in_s) == (0, 0.0)
    # A loss a day never gives up.
    for day in range(50):
        now[0] = 86400.0 * (day + 2)
        assert budget.free_in_s == 0
        budget.spend()


def test_without_restarts_there_is_none_ever() -> None:
    assert RestartBudget(0).free_in_s == float("inf")


def test_a_process_tells_its_starter() -> None:
    listener = Listener()
    program = "from physai_ros.notify import READY, notify; notify(READY, 'STATUS=active')"
    subprocess.run([sys.executable, "-P", "-c", program], env=listener.environment, check=True)
    assert listener.take() == [READY, "STATUS=active"]
    assert listener.take() == []
    listener.close()
    # Where nobody listens any more nothing happens.
    subprocess.run([sys.executable, "-P", "-c", program], env=listener.environment, check=True)
