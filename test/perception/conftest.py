"""What the tests of perception on a recorded image share."""

from __future__ import annotations

import pytest
from pictured_cell import Cell


@pytest.fixture
def cell() -> Cell:
    return Cell()
