"""Commands that use several processes end, with one line, when those cannot begin or die."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from paths import HELPERS

pytestmark = pytest.mark.slow


def test_the_work_ends_with_its_reason() -> None:
    program = HELPERS / "pool_program.py"
    done = subprocess.run([sys.executable, "-P", str(program)], capture_output=True, text=True, check=False)
    answers, left, refused, broken, crashed, died, still_left, *campaign = done.stdout.splitlines()
    assert answers == str(list(range(0, 30, 3)))
    assert left == still_left == "0 left"
    assert refused == "no bundle 'nonsense'"
    assert broken == "a worker process cannot begin: KeyError: 'nothing'"
    assert "a worker process died" in crashed
    assert "a worker process died" in died
    assert "a worker process cannot begin" in campaign[0] and "nowhere" in campaign[0]
    assert "Traceback" not in done.stderr, done.stderr


def test_workers_end_with_a_parent_that_was_killed() -> None:
    program = HELPERS / "pool_program.py"
    command = [sys.executable, "-P", str(program), "endless"]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = Path("/proc") / parent.stdout.readline().strip()
    assert worker.exists()
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20.0
    while worker.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    parent.stdout.close()


@pytest.mark.parametrize("option", ["--world-model-bundle", "--doubt"])
def test_physai_eval_with_what_is_not_there_ends(tmp_path: Path, option: str) -> None:
    physai = str(Path(sys.executable).with_name("physai"))
    command = [physai, "eval", "--episodes", "50", "--workers", "1", "--sight", "truth", option, "nonsense"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and "nonsense" in lines[0], done.stderr
