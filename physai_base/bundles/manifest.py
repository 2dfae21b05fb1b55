"""A bundle's manifest and files, as bytes that nobody is believed about: read once, and refused unless they are what they were."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from physai_base.bundles.interface import Interface
from physai_base.document import Unreadable, read_json
from physai_base.errors import BundleError, shown
from physai_base.reader import Reader
from physai_base.tensor import is_int

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
RESTORE = "copy the bundle again from its source, or train it again"

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\.(onnx|safetensors|json|md|txt)")
_MANIFEST_MAX_BYTES = 1 << 20


def sha256_of(data: bytes) -> str:
    """In hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def manifest_digest(document: Mapping[str, Any]) -> str:
    """SHA-256 of the manifest without its own digest, in a spelling that white space cannot change."""
    rest = {key: value for key, value in document.items() if key != "digest"}
    return sha256_of(json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())


def _read_file(path: Path, limit: int, *, allow_links: bool) -> bytes:
    """At most `limit` + 1 bytes of a plain file."""
    more = os.O_NONBLOCK | (0 if allow_links else os.O_NOFOLLOW)
    try:
        opened = open(path, "rb", opener=lambda name, flags: os.open(name, flags | more))  # noqa: SIM115
    except FileNotFoundError as error:
        raise BundleError(f"{path}: is missing; {RESTORE}") from error
    except OSError as error:
        reason = "is a symbolic link" if path.is_symlink() else f"cannot be read: {error.strerror}"
        raise BundleError(
            f"{path}: {reason}; a bundle holds plain files only: copy it with cp -rL"
        ) from error
    with opened as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{path}: is not a plain file; a bundle holds plain files only: {RESTORE}")
        if status.st_nlink > 1 and not allow_links:
            raise BundleError(
                f"{path}: has other hard links; a bundle holds its own files: copy it with cp -r"
            )
        return file.read(min(limit, status.st_size) + 1)  # `limit` is what a manifest says, so any number


def read_manifest(directory: Path, *, allow_links: bool) -> tuple[dict[str, Any], bytes]:
    """The document and its bytes, intact.

    Raises:
        BundleError: it cannot be read, is of another version or was changed.
    """
    path = directory / MANIFEST
    data = _read_file(path, _MANIFEST_MAX_BYTES, allow_links=allow_links)
    if len(data) > _MANIFEST_MAX_BYTES:
        raise BundleError(f"{path}: is larger than {_MANIFEST_MAX_BYTES} bytes; {RESTORE}")
    try:
        document = json.loads(data, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: is damaged, it cannot be read as JSON: {error}; {RESTORE}") from error
    if not isinstance(document, dict):
        raise BundleError(f"{path}: must be a JSON object; {RESTORE}")
    version = document.get("format_version")
    if version != FORMAT_VERSION or not is_int(version):
        raise BundleError(
            f"{path}: format_version is {shown(version)}; this physai reads {FORMAT_VERSION}. "
            "Install the physai that made the bundle, or export it again with this one"
        )
    try:
        intact = document.get("digest") == manifest_digest(document)
    except (ValueError, RecursionError):  # a number too large for a float, read as infinity; too deep
        intact = False
    if not intact:
        raise BundleError(f"{path}: was changed after it was written (its digest does not match); {RESTORE}")
    return document, data


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a finite number")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("an entry occurs twice")
    return document


_ENTRIES = (
    "format_version", "digest", "kind", "name", "robot", "inputs", "outputs", "config", "training_data", "metrics", "licence",
    "trained_on", "files",
)  # fmt: skip


def check_entries(path: Path, data: bytes) -> Interface | None:
    """Nothing in a manifest is passed over; `config`, `metrics` and `trained_on` are their readers' own.

    The interface, where it has one.

    Raises:
        BundleError: an entry is unknown or wrong.
    """
    try:
        manifest = Reader.over(read_json(data, path), BundleError, RESTORE)
    except Unreadable as error:
        raise BundleError(f"{error.problem}; {RESTORE}") from error
    for key in _ENTRIES:
        manifest.has(key)
    for tensors in (manifest.sections(key) for key in ("inputs", "outputs")):
        for tensor in tensors:
            for key in ("name", "shape", "units", "dtype"):
                tensor.has(key)
            if tensor.anything("normalization", None) is not None:
                normalization = tensor.section("normalization")
                for key in ("mean", "std"):
                    normalization.has(key)
    interface = None
    if manifest.anything("interface", None) is not None:
        interface = Interface.read(manifest.section("interface"))
    manifest.finish()
    return interface


def declared_files(path: Path, document: dict[str, Any], needed: str) -> dict[str, tuple[str, int]]:
    """SHA-256 and size of each file that a manifest lists; `needed` must be among them.

    Raises:
        BundleError: an entry is wrong, or a name is not allowed.
    """
    files = document.get("files")
    if not isinstance(files, dict) or needed not in files:
        raise BundleError(f"{path / MANIFEST}: files must list {needed}; {RESTORE}")
    declared = {}
    for name, entry in files.items():
        # Plain names only: no absolute path, no "..", no folder, no pickle.
        if not _FILE_NAME.fullmatch(name) or name == MANIFEST:
            raise BundleError(
                f"{path / MANIFEST}: files: {shown(name)} is not allowed; a file is a plain name that ends in "
                ".onnx, .safetensors, .json, .md or .txt. Do not use this bundle"
            )
        sha256, size = (entry.get("sha256"), entry.get("size")) if isinstance(entry, dict) else (None, None)
        if not isinstance(sha256, str) or not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise BundleError(f"{path / MANIFEST}: files: {name}: sha256 is missing or wrong; {RESTORE}")
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise BundleError(f"{path / MANIFEST}: files: {name}: size is missing or wrong; {RESTORE}")
        declared[name] = (sha256, size)
    return declared


def check_listing(path: Path, files: dict[str, tuple[str, int]]) -> None:
    """Whether the directory holds what the manifest lists, and nothing else.

    Raises:
        BundleError: it does not.
    """
    present = {entry.name for entry in path.iterdir()} - {MANIFEST}
    missing, extra = sorted(files.keys() - present), sorted(present - files.keys())
    if missing:
        raise BundleError(f"{path}: {', '.join(missing)} is missing; {RESTORE}")
    if extra:
        raise BundleError(f"{path}: {', '.join(extra)} is not in the manifest; remove it or {RESTORE}")


def read_verified(path: Path, sha256: str, size: int, *, allow_links: bool) -> bytes:
    """A file's bytes, which are those that the manifest is about.

    Raises:
        BundleError: they are not.
    """
    data = _read_file(path, size, allow_links=allow_links)
    if len(data) != size:
        found = f"{len(data)} bytes" if len(data) < size else f"more than {size} bytes"
        raise BundleError(f"{path}: has {found}, the manifest says {size}; {RESTORE}")
    if sha256_of(data) != sha256:
        raise BundleError(
            f"{path}: its sha256 is not the manifest's, the file is damaged or was changed; {RESTORE}"
        )
    return data
