"""Where a robot's model and its meshes are: paths as makers write them, on the disk of whoever has them."""

from __future__ import annotations

import importlib.machinery
import os
from pathlib import Path
from urllib.parse import unquote, urlparse
from xml.etree import ElementTree

from physai_base.errors import EmbodimentError

MESH_FORMATS = (".stl", ".obj", ".msh")
"""What MuJoCo reads."""
_STL_HEADER, _STL_FACET = 84, 50  # bytes


def find_in_package(package: str, path: str) -> Path:
    """The file `path` of a Python package (which is not imported) or of a ROS package's share folder.

    Raises:
        EmbodimentError: there is no such package, or it has no such file.
    """
    folders = [folder for folder in (_python_package(package), ros_package(package)) if folder is not None]
    if not folders:
        raise EmbodimentError(
            f"there is neither a Python package {package!r} (pip install it) nor a ROS package of that name on "
            "AMENT_PREFIX_PATH or ROS_PACKAGE_PATH (source its setup file); or give model a path"
        )
    for folder in folders:
        if (folder / path).is_file():
            return folder / path
    raise EmbodimentError(
        f"package {package!r} has no file {path!r}; it is {' and '.join(map(str, folders))}"
    )


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
    prefixes = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    paths = [Path(p) for p in os.environ.get("ROS_PACKAGE_PATH", "").split(os.pathsep) if p]
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
