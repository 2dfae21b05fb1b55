"""What training leaves for `physai export`: weights as safetensors, everything else as JSON."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from physai_base.errors import PhysaiError


class CheckpointError(PhysaiError):
    """A checkpoint that is missing or of another kind."""


def dataset_id(data: Path) -> str:
    """A short id of a dataset: the hash of its statistics."""
    return hashlib.sha256((data / "meta/stats.json").read_bytes()).hexdigest()[:16]


def save_checkpoint(folder: Path, kind: str, module: Any, notes: dict[str, Any]) -> None:
    """Write the weights of a torch module and what is needed to rebuild it; the notes come last."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "checkpoint.json").unlink(missing_ok=True)
    save_file(
        {name: value.contiguous() for name, value in module.state_dict().items()},
        folder / "weights.safetensors",
    )
    temporary = folder / "checkpoint.tmp"
    temporary.write_text(json.dumps({"kind": kind, **notes}, indent=1))
    os.replace(temporary, folder / "checkpoint.json")


def load_checkpoint(folder: Path, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The notes and the tensors of a checkpoint of that kind."""
    from safetensors.torch import load_file

    try:
        notes = json.loads((folder / "checkpoint.json").read_text())
        weights = load_file(folder / "weights.safetensors")
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{folder}: no checkpoint ({error}); make it with `physai train {kind.replace('_', '-')}`"
        ) from error
    if notes.get("kind") != kind:
        raise CheckpointError(f"{folder}: is a checkpoint of kind {notes.get('kind')!r}, not {kind!r}")
    return notes, weights
