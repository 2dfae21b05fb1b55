"""Numbers on a command line are what they say, or one line says what is allowed."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import pytest

from physai_lab import numbers
from physai_lab.cli import main


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (numbers.count, "3", ["0", "-1", "1.5", "nan", "x", ""]),
        (numbers.seed, "0", ["-1", "4294967296", "1e3", "nan", "x"]),
        (numbers.port, "0", ["-1", "65536", "http"]),
        (numbers.share, "0.5", ["-0.1", "1.1", "nan", "inf", "x"]),
        (numbers.not_negative, "0", ["-1", "nan", "inf", "x"]),
        (numbers.positive, "1e-3", ["0", "-5", "nan", "inf", "x"]),
    ],
)
def test_a_number_that_is_none_is_refused(kind: Callable[[str], float], good: str, bad: list[str]) -> None:
    assert kind(good) == float(good)
    for text in bad:
        with pytest.raises(argparse.ArgumentTypeError, match="must be"):
            kind(text)


@pytest.mark.parametrize(
    "words",
    [
        ["demo", "--seed", "-1"], ["demo", "--real-time-factor", "nan"], ["eval", "--seed", "-3"],
        ["eval", "--require", "nan"], ["eval", "--timeout", "-5"], ["do", "x", "--timeout", "nan"],
        ["demos", "--seed", "-1"], ["faults", "--seed", "-1"], ["calibrate-doubt", "--share", "2"],
    ],
)  # fmt: skip
def test_the_commands_use_them(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "must be" in capsys.readouterr().err
