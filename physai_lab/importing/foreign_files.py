"""Files that others wrote, read without trust."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from physai_base.errors import PhysaiError

PICKLED = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")
_JSON_MAX_BYTES = 4 << 20


def pickle_advice(names: list[str], model: str, writer: str) -> str:
    """Why these files are not read, and how `writer`, the library that made them, saves `model` instead."""
    return (
        f"{', '.join(names)}: files of this kind are Python pickles, which run what they hold when they are read. They "
        f"are never opened here; save the model as {model} with {writer}, where you trust it"
    )


def read_json(path: Path, error_type: type[PhysaiError]) -> dict[str, Any]:
    """The JSON object in a file of at most 4 MiB.

    Raises:
        error_type: it cannot be read or is something else.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_JSON_MAX_BYTES + 1)
        if len(data) > _JSON_MAX_BYTES:
            raise ValueError(f"is larger than {_JSON_MAX_BYTES} bytes")
        document = json.loads(data)
    except OSError as error:
        raise error_type(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise error_type(f"{path}: is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise error_type(f"{path}: must be a JSON object")
    return document
