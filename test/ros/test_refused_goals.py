"""Whoever asks for a task while something of the bring-up is missing is told what, and what to do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from physai.msg import SupervisorStatus
from physai_policy.node import PolicyNode

pytestmark = pytest.mark.ros


def node(running: bool) -> Any:
    """The part of the node that answers."""
    return SimpleNamespace(
        _running=running, _bring_up="", _control=None, parameters=SimpleNamespace(mode="active")
    )


def test_an_inactive_policy_says_what_is_missing() -> None:
    self = node(running=False)
    message = "sim is lost: call supervisor/retry"
    PolicyNode._on_supervisor(self, SupervisorStatus(state=SupervisorStatus.DEGRADED, message=message))
    assert PolicyNode._reason_not_to_begin(self) == f"the policy is not active: {message}"
    PolicyNode._on_supervisor(self, SupervisorStatus(state=SupervisorStatus.ACTIVE))
    assert PolicyNode._reason_not_to_begin(self) == "the policy is not active"


def test_nothing_begins_in_a_degraded_bring_up() -> None:
    """Without the world model's consent, say, no chunk would move the arm: the task would run for nothing."""
    self = node(running=True)
    message = "world_model is inactive: somebody took it there by hand"
    PolicyNode._on_supervisor(self, SupervisorStatus(state=SupervisorStatus.DEGRADED, message=message))
    assert PolicyNode._reason_not_to_begin(self) == f"the bring-up is degraded: {message}"
