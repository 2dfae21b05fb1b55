"""Two tasks of different nature through the real stack, by the command that does so for all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from physai_lab import cli

pytestmark = [pytest.mark.ros, pytest.mark.slow]

TASKS = ["cups", "stack"]


def test_two_tasks_through_the_real_stack(tmp_path: Path) -> None:
    command = [
        "demo-all",
        "--tasks",
        ",".join(TASKS),
        "--episodes",
        "2",
        "--seed",
        "7",
        "--runs",
        str(tmp_path),
    ]
    code = cli.main(command)
    (page,) = tmp_path.glob("*/report.json")
    rows = {row["task"]: row for row in json.loads(page.read_text())["tasks"]}
    assert list(rows) == TASKS
    assert code == 0, rows
