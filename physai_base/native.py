"""Finds and loads physai's C libraries."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import mujoco

from physai_base.errors import PhysaiError


class LibraryError(PhysaiError):
    """A C library that is not built or cannot be loaded."""


def find_library(package: str, name: str) -> Path:
    """`lib<name>.so` beside the package's modules, in PHYSAI_LIB_DIR, or in a build of the source tree."""
    file = f"lib{name}.so"
    here = Path(__file__).absolute().parent.parent
    folders = [Path(p) for p in (os.environ.get("PHYSAI_LIB_DIR"),) if p]
    folders += [here / package, here / "build" / package]
    for folder in folders:
        if (folder / file).is_file():
            return folder / file
    raise LibraryError(
        f"{file} was not found in {', '.join(map(str, folders))}; build it with `make install`"
    )


def load_library(package: str, name: str) -> ctypes.CDLL:
    """Load it, after the libmujoco that Python uses, so that both are the same one."""
    path = find_library(package, name)
    runtime = next(Path(mujoco.__file__).parent.glob("libmujoco.so*"), None)
    try:
        if runtime is not None:
            ctypes.CDLL(str(runtime), mode=ctypes.RTLD_GLOBAL)
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise LibraryError(f"{path} cannot be loaded: {error}; build it again with `make install`") from error
