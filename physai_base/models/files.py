"""Where a robot's model and its meshes are: paths as makers write them, on the disk of whoever has them."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.machinery
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlparse
from xml.etree import ElementTree

from physai_base.errors import EmbodimentError

MESH_FORMATS = (".stl", ".obj", ".msh")
"""What MuJoCo reads."""
OWN_PATH = "PHYSAI_MODEL_PATH"
"""Folders in which a user keeps models, separated as in PATH."""
_STL_HEADER, _STL_FACET = 84, 50  # bytes


def find_in_package(package: str, path: str) -> Path:
    """The file `path` of a Python package (which is not imported), a ROS package's share folder or a folder of models.

    Raises:
        EmbodimentError: there is no such package, or it has no such file.
    """
    places = (
        _python_package(package),
        Path(sys.prefix) / "share" / package,
        ros_package(package),
        _own_folder(package),
    )
    folders = [folder for folder in places if folder is not None and folder.is_dir()]
    if not folders:
        raise EmbodimentError(
            f"there is neither a Python package {package!r} (pip install it) nor a ROS package of that name on "
            f"AMENT_PREFIX_PATH or ROS_PACKAGE_PATH (source its setup file), nor a folder of that name in one of {OWN_PATH}; "
            "or give model a path"
        )
    for folder in folders:
        if (folder / path).is_file():
            return folder / path
    raise EmbodimentError(
        f"package {package!r} has no file {path!r}; it is {' and '.join(map(str, folders))}"
    )


def _own_folder(name: str) -> Path | None:
    """A clone of a maker's repository, say, in one of the folders in which the user keeps models."""
    for folder in _entries(OWN_PATH):
        if (folder / name).is_dir():
            return folder / name
    return None


def _entries(variable: str) -> list[Path]:
    return [Path(entry) for entry in os.environ.get(variable, "").split(os.pathsep) if entry]


def expand_xacro(path: Path, arguments: Mapping[str, str]) -> Path:
    """The URDF that a xacro file makes with these arguments, in the user's cache; written when it differs.

    Its `$(find PACKAGE)` is a ROS package as `ros_package` finds it, so that a clone of the maker's repository will do.

    Raises:
        EmbodimentError: xacro is not installed, or refuses the file.
    """
    try:
        import xacro
    except ImportError as error:
        raise EmbodimentError(
            f"{path} is expanded by xacro, which is not here: pip install xacro, or source ROS"
        ) from error
    try:
        with _found_as_models_are(path):
            text = xacro.process_file(str(path), mappings=dict(arguments)).toprettyxml(indent="  ")
    except Exception as error:  # of many kinds, those of what the file calls among them
        raise EmbodimentError(f"{path}: xacro refuses it: {str(error).splitlines()[0]}") from error
    key = hashlib.sha256(repr((str(path.resolve()), sorted(arguments.items()))).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "physai" / "models"
    expanded = cache / f"{path.name.split('.')[0]}_{key}.urdf"
    if not expanded.is_file() or expanded.read_text() != text:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=cache, delete=False) as file:
            file.write(text)
        os.replace(file.name, expanded)  # whoever reads it meanwhile has all of it, of before or of now
    return expanded


@contextlib.contextmanager
def _found_as_models_are(path: Path) -> Iterator[None]:
    """Have ament's index, which xacro asks for packages, look around `path` and in the user's folders first."""
    parent, asked = "ament_index_python", "get_package_share_directory"
    stand_ins: dict[str, ModuleType] = {}
    try:
        index = importlib.import_module(f"{parent}.packages")
    except ImportError:  # no ROS here
        index = ModuleType(f"{parent}.packages")
        stand_ins = {parent: ModuleType(parent), index.__name__: index}
    own = getattr(index, asked, None)

    def find(package: str, *more: Any) -> str:
        folder = ros_package(package, path)
        if folder is not None:
            return str(folder)
        if own is not None and os.environ.get("AMENT_PREFIX_PATH"):
            return str(own(package, *more))
        raise EmbodimentError(f"there is no ROS package {package!r}: source ROS, or clone it into {OWN_PATH}")

    sys.modules.update(stand_ins)
    setattr(index, asked, find)
    try:
        yield
    finally:
        setattr(index, asked, own)
        for name in stand_ins:
            del sys.modules[name]


def _python_package(name: str) -> Path | None:
    # Not importlib.util.find_spec, which imports what is before a dot.
    search: list[str] | None = None
    for part in name.split("."):
        spec = importlib.machinery.PathFinder.find_spec(part, search)
        if spec is None or not spec.submodule_search_locations:
            return None
        search = list(spec.submodule_search_locations)
    return Path(search[0]) if search else None


def ros_package(name: str, near: Path | None = None) -> Path | None:
    """The folder of a ROS package: around the file `near`, or where the environment says that packages are."""
    around = list(near.resolve().parents) if near is not None else []
    prefixes, paths = _entries("AMENT_PREFIX_PATH"), [*_entries("ROS_PACKAGE_PATH"), *_entries(OWN_PATH)]
    candidates = [
        *around,
        *(folder / name for folder in around),
        *(prefix / "share" / name for prefix in prefixes),
    ]
    candidates += [*paths, *(path / name for path in paths)]
    for folder in candidates:
        if _package_name(folder) == name:
            return folder
    return None


def _package_name(folder: Path) -> str:
    """The name in a folder's package.xml; empty where there is none."""
    try:
        return (ElementTree.parse(folder / "package.xml").getroot().findtext("name") or "").strip()
    except (OSError, ElementTree.ParseError):
        return ""


def find_mesh(name: str, model: Path) -> Path | None:
    """The file that a URDF's mesh `filename` names; None where there is none.

    `package://` and `model://` paths, file URIs and paths relative to the model; of a file that lay in another machine's
    `share/<package>` that of the package here.
    """
    scheme = urlparse(name).scheme
    if scheme in ("package", "model"):
        package, _, rest = name.split("://", 1)[1].partition("/")
        folder = ros_package(package, model)
        found = None if folder is None else folder / unquote(rest)
        return found if found is not None and found.is_file() else None
    path = Path(unquote(urlparse(name).path)) if scheme == "file" else Path(name)
    path = path if path.is_absolute() else model.parent / path
    if path.is_file():
        return path
    parts = path.parts
    for i in range(len(parts) - 2, 0, -1):
        if parts[i - 1] == "share" and (folder := ros_package(parts[i], model)) is not None:
            elsewhere = folder.joinpath(*parts[i + 1 :])
            return elsewhere if elsewhere.is_file() else None
    return None


def unreadable(mesh: Path) -> str:
    """Why MuJoCo cannot read a mesh; empty where it may."""
    if mesh.suffix.lower() not in MESH_FORMATS:
        return f"MuJoCo reads {', '.join(MESH_FORMATS)} only"
    size = mesh.stat().st_size
    if mesh.suffix.lower() == ".stl":
        with mesh.open("rb") as file:
            header = file.read(_STL_HEADER)
        facets = int.from_bytes(header[80:84], "little")
        if len(header) < _STL_HEADER or size < _STL_HEADER + _STL_FACET * facets:
            return "it is no binary STL"
    return "it is empty" if size == 0 else ""
