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

left_for_gpu: list[str] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `gpu` run when asked for, `pytest -m gpu`: they fail rather than skip where CUDA is missing."""
    if "gpu" in config.getoption("-m"):
        return
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    items[:] = [item for item in items if item not in gpu]
    config.hook.pytest_deselected(items=gpu)
    left_for_gpu[:] = [item.nodeid for item in gpu]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many were left out."""
    if left_for_gpu:
        terminalreporter.write_line(
            f"{len(left_for_gpu)} tests for a CUDA machine did not run here; there: pytest -m gpu"
        )


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
