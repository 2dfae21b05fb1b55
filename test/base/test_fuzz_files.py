"""A bounded run of `fuzz_files.py`, that it finds a planted defect, and what it cannot come upon by chance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fuzz_files
import pytest

from physai_base import bundle as bundle_module
from physai_base import reader as reader_module
from physai_base.bundle import MANIFEST, MODEL, Bundle, manifest_digest
from physai_base.embodiment import Embodiment
from physai_base.errors import BundleError, EmbodimentError


@pytest.mark.slow
@pytest.mark.parametrize(("target", "rounds"), [("embodiment", 80), ("bundle", 400), ("graph", 2000)])
def test_damaged_files_are_used_or_refused(target: str, rounds: int, tmp_path: Path) -> None:
    used, refused = fuzz_files.fuzz(target, tmp_path, iter(range(rounds)))
    assert used > 0 and refused > used / 10, (used, refused)


def _unchecked_number(
    self: Any, key: str, node: Any, low: float, high: float, index: int | None = None
) -> float:
    return float(node.value)


@pytest.mark.parametrize(
    ("target", "rounds", "holder", "name", "defect"),
    [
        ("embodiment", 80, reader_module.Reader, "_finite", _unchecked_number),
        ("bundle", 400, bundle_module.TensorSpec, "__post_init__", lambda self: None),
    ],
)
def test_a_planted_defect_is_found(
    target: str,
    rounds: int,
    holder: Any,
    name: str,
    defect: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = fuzz_files.TARGETS[target](tmp_path)
    monkeypatch.setattr(holder, name, defect)
    monkeypatch.setitem(fuzz_files.TARGETS, target, lambda folder: made)
    with pytest.raises(AssertionError, match=f"{target}, round"):
        fuzz_files.fuzz(target, tmp_path, iter(range(rounds)))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [MARK]]", "YAML"),
        ("a: &a [x, x]\n" + "".join(f"{n}: &{n} [{', '.join(['*' + m] * 9)}]\n" for m, n in zip("abcdefgh", "bcdefghi", strict=True)), "aliases"),
        ("a: &a {b: *a}", "aliases"),
        ("a: !!timestamp x", "YAML"),
        ("a: 2026-99-99", "YAML"),
        ("a: !!bool x", "YAML"),
        ("a: " + "9" * 5000, "YAML"),
        ("a: 0x" + "f" * 5000, "integer"),
        ("[" * 500, "YAML"),
        ("a: " + "x" * (1 << 20), "larger"),
    ],
    ids=range(10),
)  # fmt: skip
def test_a_document_that_is_an_attack_is_refused(text: str, word: str, tmp_path: Path) -> None:
    path, mark = tmp_path / "robot.yaml", tmp_path / "executed"
    path.write_text(text.replace("MARK", str(mark)))
    with pytest.raises(EmbodimentError, match=word):
        Embodiment.load(path)
    assert not mark.exists()


@pytest.mark.parametrize("size", [1 << 40, 1 << 63, 10**400])
def test_a_size_without_end_takes_no_memory(size: int, tmp_path: Path) -> None:
    fuzz_files.TARGETS["bundle"](tmp_path)
    path = tmp_path / "bundle" / MANIFEST
    document = json.loads(path.read_text())
    document["files"][MODEL]["size"] = size
    document["digest"] = manifest_digest(document)
    path.write_text(json.dumps(document))
    with pytest.raises(BundleError, match="the manifest says"):
        Bundle.open(path.parent)
