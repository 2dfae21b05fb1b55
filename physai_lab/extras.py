"""What some commands need beyond what physai depends on, asked for before they begin."""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path

from physai_base.errors import PhysaiError

CURES = {
    "train": "make train-deps, or: pip install 'physai[train]'",
    "remote": "pip install 'physai[remote]', or with the pins: pip install -c constraints.txt msgpack websockets",
}
"""Extra of pyproject.toml → how it is installed."""


def require(extra: str, *modules: str) -> None:
    """Make sure of the modules that a command is going to import.

    Raises:
        PhysaiError: some are not installed; the message says which, and how to get them.
    """
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise PhysaiError(
            f"{' and '.join(missing)} {verb} not installed, which this command needs; install: {CURES[extra]}"
        )


def require_folder(folder: Path, option: str) -> None:
    """Make sure of the folder that a command is going to write to, perhaps hours later. Nothing is left if that comes to nothing.

    Raises:
        PhysaiError: it cannot be made or written to.
    """
    try:
        there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"x")
    except OSError as error:
        raise PhysaiError(
            f"{option} {folder}: cannot be written to ({error.strerror}); give a folder that can"
        ) from error
