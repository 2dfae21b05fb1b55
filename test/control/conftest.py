"""What the tests of the controller share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bare_arm import Arm

from physai_base.embodiment import Embodiment


@pytest.fixture
def arm(embodiment: Embodiment) -> Iterator[Arm]:
    arm = Arm(embodiment)
    yield arm
    arm.close()
