"""What the tests of the topic backend share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from topic_robot import Robot, held

from physai_control.core import ControlCore
from physai_lab.stack.bringup import join_stack


@pytest.fixture(autouse=True)
def own_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests must not meet another stack on the same machine."""
    join_stack()
    monkeypatch.setenv("ROS_DOMAIN_ID", str(20 + os.getpid() % 70))


@pytest.fixture
def driven(tmp_path: Path) -> Iterator[tuple[Robot, ControlCore]]:
    """The shipped robot's topics, held."""
    with held(tmp_path) as pair:
        yield pair
