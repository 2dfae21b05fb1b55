"""What the supervisor decides, with nodes that are no processes: they do what a test says."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import pytest

from physai.msg import SupervisorStatus
from physai_ros.budget import RestartBudget
from physai_ros.managed import Managed
from physai_ros.supervisor import BringUpError, Supervisor, SupervisorParameters

pytestmark = pytest.mark.ros
RESULT = {"configure": "inactive", "activate": "active", "deactivate": "inactive", "cleanup": "unconfigured"}


class Ready:
    def service_is_ready(self) -> bool:
        return True


class Quiet:
    def __getattr__(self, name: str) -> Any:
        return lambda text: None


class Decisions(Supervisor):
    """A supervisor of sim, control and policy without ROS; `refused` transitions fail, `asked` has all of them."""

    def __init__(self) -> None:
        self.settings = SupervisorParameters(
            nodes=("sim", "control", "policy"), idle_on_loss=("policy",), latched_on_loss=("control",),
            configure_timeout_s=0.1, transition_timeout_s=0.05,
        )  # fmt: skip
        self._managed, self._renewed_with = {}, [["control", "sim"]]
        for name in self.settings.nodes:
            managed = Managed(name, Ready(), RestartBudget(3))
            managed.pid = managed.running_pid = str(os.getpid())
            managed.here, managed.state, managed.seen_s = True, "active", time.monotonic() + 100.0
            self._managed[name] = managed
        self._state = SupervisorStatus.ACTIVE
        self._stopping, self._retry = threading.Event(), threading.Event()
        self.refused: set[tuple[str, str]] = set()
        self.asked: list[tuple[str, str]] = []

    def get_logger(self) -> Any:
        return Quiet()

    def _report(self) -> None:
        pass

    def _retry_name(self) -> str:
        return "/supervisor/retry"

    def _latch(self, managed: Managed) -> None:
        self.asked.append((managed.name, "latch"))

    def _transition(
        self, managed: Managed, step: str, timeout_s: float | None = None, stopping: bool = False
    ) -> None:
        self.asked.append((managed.name, step))
        if (managed.name, step) in self.refused:
            raise BringUpError(f"{managed.name} could not {step}")
        managed.state = RESULT[step]

    def look(self, times: int) -> None:
        for _ in range(times):
            for managed in self._managed.values():
                self._watch(managed)


def test_a_node_that_does_not_activate_spends_its_own_restarts() -> None:
    supervisor = Decisions()
    sim, control, policy = supervisor._managed.values()
    sim.running_pid, sim.state = "1", "unconfigured"  # another process
    supervisor.refused = {("policy", "activate")}
    supervisor.look(20)
    assert (sim.lost, sim.restarts, control.lost, control.state) == ("", 1, "", "active")
    assert "could not activate" in policy.lost and policy.given_up and policy.budget.used == 3
    assert supervisor.asked.count(("control", "cleanup")) == 1  # with the simulator, and not for the policy
    assert not supervisor._all_well()
    # A person mends it and asks for another try.
    supervisor.refused = set()
    supervisor._try_again()
    supervisor.look(3)
    assert supervisor._all_well()


def test_one_that_failed_after_it_hung_is_not_said_to_have_hung_again() -> None:
    supervisor = Decisions()
    policy = supervisor._managed["policy"]
    policy.lost, policy.hung, policy.state = "no heartbeat", True, "active"
    supervisor.look(1)
    assert (policy.lost, policy.restarts) == ("", 0)
    policy.lost, policy.hung = "policy could not activate", False
    supervisor.look(1)
    assert (policy.lost, policy.restarts) == ("", 1)


def test_a_walk_that_does_not_arrive_is_a_failure() -> None:
    supervisor = Decisions()
    policy = supervisor._managed["policy"]
    policy.state = "configuring"
    with pytest.raises(BringUpError, match="policy is configuring and did not become active"):
        supervisor._take_to(policy, "active")
    # It is on the way for longer than anybody waits: not well, not asked again, and taken on when it has arrived.
    policy.running_pid = "1"
    supervisor.look(3)
    assert policy.lost and not supervisor._all_well() and supervisor.asked == []
    policy.state = "inactive"
    supervisor.look(3)
    assert (policy.state, policy.lost, policy.by_hand) == ("active", "", "")
    assert supervisor._all_well()
    policy.state = "inactive"
    assert not supervisor._all_well()


def test_the_walk_follows_a_transition_that_comes_to_its_end() -> None:
    supervisor = Decisions()
    policy = supervisor._managed["policy"]
    policy.state = "configuring"
    arrives = threading.Timer(0.05, setattr, (policy, "state", "inactive"))
    arrives.start()
    supervisor._take_to(policy, "active")
    arrives.join()
    assert policy.state == "active"
