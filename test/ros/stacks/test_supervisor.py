"""What the supervisor decides, with nodes that are no processes: they do what a test says."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from std_srvs.srv import Trigger

from physai.msg import SupervisorStatus
from physai_ros.budget import RestartBudget
from physai_ros.conditions import Conditions
from physai_ros.managed import Managed
from physai_ros.rivals import Rivals
from physai_ros.supervisor import Supervisor
from physai_ros.supervisor_parameters import SupervisorParameters
from physai_ros.transitions import BringUpError, Transitions

pytestmark = pytest.mark.ros
RESULT = {"configure": "inactive", "activate": "active", "deactivate": "inactive", "cleanup": "unconfigured"}


class Ready:
    def service_is_ready(self) -> bool:
        return True


class Quiet:
    def __getattr__(self, name: str) -> Any:
        return lambda text: None


class Walk(Transitions):
    """Transitions without ROS; `refused` ones fail, `asked` has all of them."""

    def __init__(self, settings: SupervisorParameters, stopping: threading.Event) -> None:
        quiet = Quiet()
        conditions = Conditions(warn=quiet.warning, fail=quiet.error, tell=quiet.info)
        super().__init__(None, conditions, lambda: settings, stopping)  # type: ignore[arg-type]
        self.refused: set[tuple[str, str]] = set()
        self.asked: list[tuple[str, str]] = []

    def latch(self, managed: Managed) -> None:
        self.asked.append((managed.name, "latch"))

    def step(
        self, managed: Managed, step: str, timeout_s: float | None = None, stopping: bool = False
    ) -> None:
        self.asked.append((managed.name, step))
        if (managed.name, step) in self.refused:
            raise BringUpError(f"{managed.name} could not {step}")
        managed.state = RESULT[step]


class Decisions(Supervisor):
    """A supervisor of sim, control and policy without ROS."""

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
        self._state, self._failure = SupervisorStatus.ACTIVE, ""
        self._status: Any = SimpleNamespace(topic="/supervisor/status")
        self._stopping, self._retry = threading.Event(), threading.Event()
        self._transitions = self.walk = Walk(self.settings, self._stopping)

    def get_logger(self) -> Any:
        return Quiet()

    def _report(self) -> None:
        pass

    def _retry_name(self) -> str:
        return "/supervisor/retry"

    def look(self, times: int) -> None:
        for _ in range(times):
            for managed in self._managed.values():
                self._watch(managed)


def test_a_node_that_does_not_activate_spends_its_own_restarts() -> None:
    supervisor = Decisions()
    sim, control, policy = supervisor._managed.values()
    sim.running_pid, sim.state = "1", "unconfigured"  # another process
    supervisor.walk.refused = {("policy", "activate")}
    supervisor.look(20)
    assert (sim.lost, sim.restarts, control.lost, control.state) == ("", 1, "", "active")
    assert "could not activate" in policy.lost and policy.given_up and policy.budget.used == 3
    assert (
        supervisor.walk.asked.count(("control", "cleanup")) == 1
    )  # with the simulator, and not for the policy
    assert not supervisor._all_well()
    # A person mends it and asks for another try.
    supervisor.walk.refused = set()
    supervisor._try_again()
    supervisor.look(3)
    assert supervisor._all_well()


def test_a_heartbeat_of_another_process_is_not_heeded_while_the_node_lives() -> None:
    """A second stack in the same place; here the same process id on another machine, and another one on this."""
    sim = Decisions()._managed["sim"]
    here, other = socket.gethostname(), {"state": "unconfigured"}
    for pid, host in ((str(os.getpid()), "elsewhere"), ("1", here)):
        assert sim.heard({**other, "pid": pid, "host": host}, b"\0", "") == f"process {pid} on {host}"
    assert (sim.state, sim.pid, sim.loss(2.0)) == ("active", str(os.getpid()), "")
    ended = subprocess.Popen(["true"])
    ended.wait()
    sim.pid = sim.running_pid = str(ended.pid)  # its process is gone: the next one takes its place
    assert sim.heard({**other, "pid": "1", "host": here}, b"\0", "") == ""
    assert (sim.state, sim.pid) == ("unconfigured", "1")


def test_one_supervisor_has_a_place_though_it_hears_nothing_of_another() -> None:
    def rivals(namespace: str = f"/test_{os.getpid()}", domain: int = 77) -> Rivals:
        return Rivals(domain, namespace, Conditions(Quiet().warning, Quiet().error, Quiet().info))

    first = rivals()
    others = rivals(), rivals(domain=78), rivals("/" + 200 * "x"), rivals()
    first.take_place()
    with pytest.raises(BringUpError, match=rf"another stack .*: its supervisor is process {os.getpid()} on "):
        others[0].take_place()
    for elsewhere in others[1:3]:
        elsewhere.take_place()
    first.close()
    others[3].take_place()
    for each in others:
        each.close()


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
        supervisor.walk.take_to(policy, "active")
    # It is on the way for longer than anybody waits: not well, not asked again, and taken on when it has arrived.
    policy.running_pid = "1"
    supervisor.look(3)
    assert policy.lost and not supervisor._all_well() and supervisor.walk.asked == []
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
    supervisor.walk.take_to(policy, "active")
    arrives.join()
    assert policy.state == "active"


@pytest.fixture
def hung() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("starter", ["physai up", "launch", "launch in a unit"])
def test_retry_ends_only_what_somebody_starts_again(
    starter: str, hung: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("PHYSAI_STARTER_PID", raising=False)
    if starter != "launch":
        monkeypatch.setenv("NOTIFY_SOCKET", "@nobody-listens")
    if starter == "physai up":
        monkeypatch.setenv("PHYSAI_STARTER_PID", str(os.getppid()))
    supervisor = Decisions()
    supervisor._state = SupervisorStatus.DEGRADED
    policy = supervisor._managed["policy"]
    policy.pid = policy.running_pid = str(hung.pid)
    policy.lost, policy.hung, policy.seen_s = "no heartbeat", True, time.monotonic() - 10.0
    answer = supervisor._on_retry(Trigger.Request(), Trigger.Response())
    supervisor._try_again()
    if starter == "physai up":
        assert answer.success and answer.message.startswith("tries again: policy")
        assert hung.wait(timeout=20.0) == -signal.SIGKILL
        return
    assert not answer.success and f"do that yourself: policy (process {hung.pid})" in answer.message
    assert f"kill -9 {hung.pid}" in supervisor._message()
    assert hung.poll() is None


@pytest.mark.parametrize(
    ("step", "error", "refused"),
    [("configure", "", True), ("activate", "no power", False)],
)
def test_only_a_refused_configuration_is_one(step: str, error: str, refused: bool) -> None:
    class Refusing(Walk):
        step = Transitions.step

        def _call(self, *_: Any) -> Any:
            return SimpleNamespace(success=False)

    supervisor = Decisions()
    policy = supervisor._managed["policy"]
    policy.error = error
    with pytest.raises(BringUpError, match=f"policy could not {step}") as raised:
        Refusing(supervisor.settings, threading.Event()).step(policy, step)
    assert raised.value.refused is refused
