"""What the tests of remote policies share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from remote_peers import (
    Make,
    write_config,
)  # fmt: skip

from physai_base.embodiment import Embodiment
from physai_policy.remote.client import RemotePolicy
from physai_policy.remote.config import RemoteConfig


@pytest.fixture
def make(tmp_path: Path, embodiment: Embodiment) -> Iterator[Make]:
    """Makes clients of servers on this machine."""
    made: list[RemotePolicy] = []

    def make(kind: str, port: int, extra: str = "timeout_s: 10.0\n", **more: Any) -> RemotePolicy:
        made.append(
            RemotePolicy(RemoteConfig.load(write_config(tmp_path, kind, port, extra)), embodiment, **more)
        )
        return made[-1]

    yield make
    for policy in made:
        policy.close()
