"""Mutations of the guards in the C sources, and libraries built from them.

The shipped library has no switch that turns a guard off. What happens without one is shown on a library that
is built here from a copy of the sources with a line changed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mujoco

from physai_base.errors import PhysaiError

CORE, PLANT = "physai_control/core", "physai_sim/plant"
LIBRARIES = ("libphysai_control.so", "libphysai_hardware_shm.so", "libphysai_plant.so")
PROJECT = f"""cmake_minimum_required(VERSION 3.18)
project(physai_mutants LANGUAGES C)
add_subdirectory({CORE})
add_subdirectory({PLANT})
"""


class MutantsError(PhysaiError):
    """Mutants cannot be built here; the message says what is missing."""


@dataclass(frozen=True)
class Mutation:
    """One change of one source file."""

    name: str
    guard: str  # what it changes
    file: str
    old: str  # found exactly once
    new: str
    caught_by: tuple[str, ...]  # faults whose trials must fail with it
    removal: bool = False  # takes the guard away; all of these that a fault is for together are "guards off"
    behind: tuple[
        str, ...
    ] = ()  # of the guards that act before this one, or what this one is for; applied as well


def source_root(given: Path | None = None) -> Path:
    """The checkout that holds the C sources.

    Raises:
        MutantsError: there is none.
    """
    here = Path.cwd()
    for folder in [given] if given else [Path(__file__).absolute().parents[2], here, *here.parents]:
        if (folder / CORE / "CMakeLists.txt").is_file() and (folder / PLANT / "CMakeLists.txt").is_file():
            return folder
    raise MutantsError(
        f"the C sources ({CORE}) were not found in {given or here}: the controls need a source checkout; "
        "run the command in one, or give --sources"
    )


def _tool(name: str) -> str:
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.is_file() else shutil.which(name)
    if not found:
        raise MutantsError(f"{name} was not found, and the controls build libraries with it; install it")
    return found


def apply(text: str, mutation: Mutation) -> str:
    """The file's text with the mutation in it.

    Raises:
        MutantsError: what it replaces is not there exactly once.
    """
    count = text.count(mutation.old)
    if count != 1:
        raise MutantsError(
            f"mutation {mutation.name}: its text is found {count} times in {mutation.file}, expected once; "
            "the sources have changed, bring physai_lab/faults/mutations.py up to date"
        )
    return text.replace(mutation.old, mutation.new)


class MutantBuilder:
    """Builds the libraries in a scratch copy of the sources, one mutant after the other."""

    def __init__(self, sources: Path, scratch: Path) -> None:
        """Copy and configure.

        Raises:
            MutantsError: no compiler or CMake.
        """
        self._tree, self._build, self._out = scratch / "tree", scratch / "build", scratch / "libraries"
        for folder in (CORE, PLANT):
            shutil.copytree(sources / folder, self._tree / folder, ignore=shutil.ignore_patterns("test"))
        (self._tree / "CMakeLists.txt").write_text(PROJECT)
        if not (os.environ.get("CC") or shutil.which("cc")):
            raise MutantsError(
                "there is no C compiler (cc), and the controls build libraries with it; install gcc"
            )
        self._run(
            _tool("cmake"), "-S", str(self._tree), "-B", str(self._build), "-G", "Ninja",
            f"-DCMAKE_MAKE_PROGRAM={_tool('ninja')}", f"-DPython3_EXECUTABLE={sys.executable}",
            f"-DMUJOCO_DIR={Path(mujoco.__file__).parent}", "-DBUILD_TESTING=OFF",
            "-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DCMAKE_C_FLAGS=-w",
        )  # fmt: skip

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise MutantsError(f"{' '.join(command[:3])} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")

    @contextmanager
    def _changed(self, mutations: Iterable[Mutation]) -> Iterator[None]:
        originals: dict[Path, str] = {}
        try:
            for mutation in mutations:
                path = self._tree / mutation.file
                text = path.read_text()
                originals.setdefault(path, text)
                path.write_text(apply(text, mutation))
            yield
        finally:
            for path, text in originals.items():
                path.write_text(text)

    def build(self, name: str, mutations: Iterable[Mutation] = ()) -> Path:
        """The folder of the libraries with these mutations, for PHYSAI_LIB_DIR."""
        folder = self._out / name
        with self._changed(mutations):
            self._run(_tool("cmake"), "--build", str(self._build))
        folder.mkdir(parents=True)
        for library in LIBRARIES:
            (found,) = self._build.rglob(library)
            shutil.copy2(found, folder / library)
        return folder
