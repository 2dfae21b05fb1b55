"""Whoever asks for a task while something of the bring-up is missing is told what, and what to do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from physai.msg import SupervisorStatus
from physai_policy.node import PolicyNode
from physai_policy.session import Session

pytestmark = pytest.mark.ros


def node(active: bool) -> Any:
    """The part of the node that hears, with the part of its session that answers."""
    return SimpleNamespace(_session=SimpleNamespace(active=active, bring_up="", control=None))


def test_an_inactive_policy_says_what_is_missing() -> None:
    self = node(active=False)
    message = "sim is lost: call supervisor/retry"
    PolicyNode._on_supervisor(self, SupervisorStatus(state=SupervisorStatus.DEGRADED, message=message))
    assert Session.reason_not_to_begin(self._session) == f"the policy is not active: {message}"
    PolicyNode._on_supervisor(self, SupervisorStatus(state=SupervisorStatus.ACTIVE))
    assert Session.reason_not_to_begin(self._session) == "the policy is not active"


def test_nothing_begins_in_a_degraded_bring_up() -> None:
    """Without the world model's consent, say, no chunk would move the arm: the task would run for nothing."""
    self = node(active=True)
    message = "world_model is inactive: somebody took it there by hand"
    PolicyNode._on_supervisor(self, SupervisorStatus(state=SupervisorStatus.DEGRADED, message=message))
    assert Session.reason_not_to_begin(self._session) == f"the bring-up is degraded: {message}"
