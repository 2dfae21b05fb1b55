"""Shared fixtures: the shipped robot and task."""

from __future__ import annotations

import os

# As the `physai` command does, and before numpy is loaded: on a machine with few, busy cores, threads of small matrix
# products mostly wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest

from physai_base.embodiment import Embodiment
from physai_base.kinematics import ArmKinematics
from physai_base.task import Task


@pytest.fixture(scope="session")
def embodiment() -> Embodiment:
    """The shipped arm."""
    return Embodiment.load("fr3")


@pytest.fixture(scope="session")
def task() -> Task:
    """The shipped task."""
    return Task.load("cups")


@pytest.fixture(scope="session")
def kinematics(embodiment: Embodiment) -> ArmKinematics:
    """Its kinematics."""
    return ArmKinematics(embodiment)
