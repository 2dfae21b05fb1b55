"""Builds the package with CMake, as `colcon build` does, and puts what CMake installs into the wheel.

Needs a Python environment that is a ROS prefix (the PyPI wheels of requirements.txt), or a sourced ROS.
Configuration and settings are in pyproject.toml; the C and message build is CMakeLists.txt.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zlib
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build import build

ROOT = Path(__file__).resolve().parent
# One for each environment: the build is bound to its Python.
WORK = ROOT / "build" / f"cmake-{sysconfig.get_python_version()}-{zlib.crc32(sys.prefix.encode()):08x}"


def tool(name: str) -> str:
    """The program beside this Python, which may not be on PATH, or the one on PATH."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.is_file() else shutil.which(name)
    if not found:
        raise SystemExit(f"{name} was not found; install it with: {sys.executable} -m pip install {name}")
    return found


def environment() -> dict[str, str]:
    """This environment with the running Python's prefix as a ROS prefix where it is one."""
    env = dict(os.environ)
    if (Path(sys.prefix) / "share" / "ament_cmake").is_dir():
        for name in ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH"):
            env[name] = os.pathsep.join(filter(None, [sys.prefix, env.get(name)]))
        libraries = [Path(sys.prefix) / "lib", *Path(sysconfig.get_path("platlib")).glob("ros_*.libs")]
        env["LD_LIBRARY_PATH"] = os.pathsep.join([*map(str, libraries), env.get("LD_LIBRARY_PATH", "")])
    elif "AMENT_PREFIX_PATH" not in env:
        raise SystemExit(
            "no ROS 2 was found: install the wheels first (pip install -r requirements.txt -c constraints.txt) "
            "and pass --no-build-isolation to pip, or source a ROS installation's setup file"
        )
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env["PATH"]])
    return env


def projects() -> list[Path]:
    """The CMake projects to build: ours and, where no ROS installation has it, tf2_msgs."""
    ours = ROOT / "cmake" / "tf2_msgs"
    prefixes = map(Path, filter(None, environment().get("AMENT_PREFIX_PATH", "").split(os.pathsep)))
    found = [
        path for path in (prefix / "share/tf2_msgs/package.xml" for prefix in prefixes) if path.is_file()
    ]
    # One that an earlier installation of ours has left is about to be replaced with it.
    elsewhere = [path for path in found if path.read_bytes() != (ours / "package.xml").read_bytes()]
    return [ROOT] if elsewhere else [ROOT, ours]


def cmake_install() -> Path:
    """Configure and build incrementally, install into an emptied staging folder and return that."""
    stage = WORK / "stage"
    shutil.rmtree(stage, ignore_errors=True)
    cmake, env = tool("cmake"), environment()
    for source in projects():
        objects = WORK / ("objects" if source == ROOT else source.name)
        configure = [cmake, "-G", "Ninja", "-S", str(source), "-B", str(objects)]
        configure += [f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}", f"-DCMAKE_INSTALL_PREFIX={stage}"]
        configure += [
            f"-DPython3_EXECUTABLE={sys.executable}",
            "-DBUILD_TESTING=OFF",
            *os.environ.get("CMAKE_ARGS", "").split(),
        ]
        # A configured tree reconfigures itself when a CMake file changes.
        steps = [] if (objects / "build.ninja").is_file() else [configure]
        steps += [[cmake, "--build", str(objects)], [cmake, "--install", str(objects)]]
        for step in steps:
            subprocess.run(step, env=env, check=True)
    return stage


class CMakeBuild(build):
    """`build` that takes Python packages and data files from CMake's staging folder."""

    def run(self) -> None:
        """Build with CMake and hand its installation over to setuptools."""
        WORK.mkdir(parents=True, exist_ok=True)
        with (WORK / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # a second build of the same environment waits
            self._take(cmake_install())
        super().run()

    def _take(self, stage: Path) -> None:
        (packages,) = (stage / "lib").glob("python*/*-packages")
        shutil.rmtree(self.build_lib, ignore_errors=True)
        # The wheel has its own metadata (dist-info); the one written for ament would contradict it.
        shutil.copytree(packages, self.build_lib, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
        self.distribution.data_files = [
            (str(path.parent.relative_to(stage)), [str(path.relative_to(ROOT))])
            for path in sorted(stage.rglob("*"))
            # bin/physai comes from the entry point, so that pip writes the right interpreter into it.
            if path.is_file() and packages not in path.parents and path.parent.name != "bin"
        ]


class BinaryDistribution(Distribution):
    """A distribution whose wheel is for one Python version and platform."""

    def has_ext_modules(self) -> bool:
        """Say yes: CMake makes the extension modules."""
        return True


version = re.search(r"<version>(.*?)</version>", (ROOT / "package.xml").read_text())
assert version
setup(version=version[1], packages=[], distclass=BinaryDistribution, cmdclass={"build": CMakeBuild})
