"""Numbers, and what is made of parts, on a command line: types for argparse that say what is allowed."""

from __future__ import annotations

import argparse
import math
from pathlib import Path


def count(text: str) -> int:
    """A whole number from 1 on.

    Raises:
        ArgumentTypeError: it is none.
    """
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, at least 1; got {text}")
    return value


def seed(text: str) -> int:
    """A whole number from 0 to 2^32 - 1.

    Raises:
        ArgumentTypeError: it is none.
    """
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to {2**32 - 1}; got {text}")
    return value


def episodes(text: str) -> tuple[int, ...]:
    """Numbers of episodes by commas, from 0 to 9999, each once.

    Raises:
        ArgumentTypeError: there are none, or others.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) <= 4 for part in parts) or len(set(map(int, parts))) != len(
        parts
    ):
        raise argparse.ArgumentTypeError(
            f"must be whole numbers from 0 to 9999 by commas, each once; got {text}"
        )
    return tuple(map(int, parts))


def port(text: str) -> int:
    """A port's number, or 0 for any that is free.

    Raises:
        ArgumentTypeError: it is none.
    """
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value < 2**16:
        raise argparse.ArgumentTypeError(f"must be a port from 0 to {2**16 - 1}; got {text}")
    return value


def share(text: str) -> float:
    """A number from 0 to 1.

    Raises:
        ArgumentTypeError: it is none.
    """
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to 1; got {text}")
    return value


def not_negative(text: str) -> float:
    """A finite number, 0 or more.

    Raises:
        ArgumentTypeError: it is none.
    """
    value = _number(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a finite number, 0 or more; got {text}")
    return value


def task_and_data(text: str) -> tuple[str, Path]:
    """A task, as its name or file, and a dataset's directory, with a = between.

    Raises:
        ArgumentTypeError: one is missing.
    """
    task, _, data = text.partition("=")
    if not task or not data:
        raise argparse.ArgumentTypeError(f"must be TASK=DATA, e.g. push=data/push; got {text}")
    return task, Path(data)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def positive(text: str) -> float:
    """A finite number above 0.

    Raises:
        ArgumentTypeError: it is none.
    """
    value = _number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a finite number above 0, got {text}")
    return value
