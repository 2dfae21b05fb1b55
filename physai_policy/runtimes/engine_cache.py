"""Where built engines are kept: a directory of ours alone, each engine beside a note of what it is.

An engine is code that the GPU runs and its loader is not made for hostile input. So it is used only where it was
built, from a graph that was verified, out of a directory that nobody else can write to; what does not match is refused
and built again. This does not protect from one who already acts as this user.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from physai_base.errors import PhysaiError

REBUILD = "build it again with `physai build-engine`"
_LARGEST_NOTE_BYTES = 1 << 20
_LARGEST_ENGINE_BYTES = 64 << 30


class EngineError(PhysaiError):
    """An engine that is not there, is not to be trusted or does not compute what was asked."""


@dataclass(frozen=True)
class EngineKey:
    """What an engine depends on. The memory it was built with is not part: it changes the speed, not the result."""

    onnx_sha256: str  # of the bundle's graph, before any conversion
    library: str  # tensorrt or tensorrt_rtx
    version: str
    target: str  # name and compute capability of the GPU, or the capabilities it was built ahead for
    precision: str
    sizes: tuple[tuple[str, int], ...]  # of the named dimensions

    @property
    def digest(self) -> str:
        """SHA-256 of all of it; the engine's file name."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


class EngineCache:
    """Engines by key.

    Raises:
        EngineError: the directory belongs to someone else, or others may read or write in it.
    """

    def __init__(self, directory: str | Path = "") -> None:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        self.directory = Path(directory or Path(base) / "physai" / "engines").absolute()
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            self.directory.mkdir(mode=0o700)
        status = self.directory.lstat()
        if not stat.S_ISDIR(status.st_mode):
            raise EngineError(
                f"{self.directory}: is not a directory of its own (a link or a file); remove it"
            )
        _check_private(self.directory, status, "chmod 700")

    def path(self, key: EngineKey) -> Path:
        """Where the engine of that key is or will be."""
        return self.directory / f"{key.digest}.engine"

    def note_path(self, key: EngineKey) -> Path:
        """Where its note is."""
        return self.directory / f"{key.digest}.json"

    def load(self, key: EngineKey) -> tuple[bytes, dict[str, Any]]:
        """The engine and its note.

        Raises:
            EngineError: there is none, it is damaged, or it is not the one that was built for this key.
        """
        if not self.path(key).exists() and not self.note_path(key).exists():
            raise EngineError(
                f"{self.directory}: no engine for this graph in {key.precision}, {dict(key.sizes)}, "
                f"{key.library} {key.version} and {key.target}; {REBUILD}"
            )
        path = self.note_path(key)
        try:
            note = json.loads(_read_private(path, _LARGEST_NOTE_BYTES))
            wanted, size, sha256 = note["key"], note["size"], note["sha256"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise EngineError(f"{path}: is damaged ({error!r}); {REBUILD}") from error
        if wanted != _as_json(key):
            raise EngineError(f"{path}: describes another engine than its name says; {REBUILD}")
        engine = _read_private(self.path(key), _LARGEST_ENGINE_BYTES)
        if len(engine) != size or hashlib.sha256(engine).hexdigest() != sha256:
            raise EngineError(f"{self.path(key)}: is damaged or is not the engine that was built; {REBUILD}")
        return engine, note

    def store(self, key: EngineKey, engine: bytes, about: Mapping[str, Any]) -> Path:
        """Keep an engine; a reader sees the old one, none, or the new one, never a part."""
        note = {
            **about,
            "key": _as_json(key),
            "size": len(engine),
            "sha256": hashlib.sha256(engine).hexdigest(),
        }
        self.note_path(key).unlink(missing_ok=True)
        self._write(self.path(key), engine)
        self._write(self.note_path(key), (json.dumps(note, indent=1) + "\n").encode())
        return self.path(key)

    def _write(self, path: Path, data: bytes) -> None:
        handle, scratch = tempfile.mkstemp(
            prefix=".", dir=self.directory
        )  # readable and writable by us alone
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(handle)
            os.replace(scratch, path)
        except BaseException:
            os.unlink(scratch)
            raise
        folder = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _as_json(key: EngineKey) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(key)))  # type: ignore[no-any-return]


def _check_private(path: Path, status: os.stat_result, remedy: str) -> None:
    if status.st_uid != os.geteuid():
        raise EngineError(
            f"{path}: belongs to user {status.st_uid}, this is user {os.geteuid()}; engines are used only by who built "
            "them: give another directory, or remove this one"
        )
    if status.st_mode & 0o077:
        raise EngineError(
            f"{path}: others may use it (mode {stat.S_IMODE(status.st_mode):o}); if nobody else wrote there: {remedy}"
        )


def _read_private(path: Path, limit: int) -> bytes:
    more = os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        opened = open(path, "rb", opener=lambda name, flags: os.open(name, flags | more))  # noqa: SIM115
    except OSError as error:
        reason = "is a symbolic link" if path.is_symlink() else error.strerror
        raise EngineError(f"{path}: {reason}; {REBUILD}") from error
    with opened as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise EngineError(f"{path}: is not a file of its own; remove it and {REBUILD}")
        _check_private(path, status, "chmod 600")
        if status.st_size > limit:
            raise EngineError(f"{path}: has {status.st_size} bytes, at most {limit} are read; {REBUILD}")
        return file.read(status.st_size)
