"""Where installed files are: configuration, launch files and models in `share/physai`."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from physai_base.errors import PhysaiError

DEFAULTS = ("robot", "task", "example")


def share_directory() -> Path:
    """`share/physai` of the installation, or the source tree when this file is run from one."""
    source = Path(__file__).resolve().parent.parent
    if (source / "package.xml").is_file():
        return source
    prefixes = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    # <prefix>/lib/pythonX.Y/site-packages/physai_base/resources.py, or Debian's <prefix>/local/lib/…/dist-packages
    prefixes += list(Path(__file__).absolute().parents)[3:6]
    for prefix in prefixes:
        if (prefix / "share" / "physai" / "package.xml").is_file():
            return prefix / "share" / "physai"
    raise FileNotFoundError(
        f"share/physai was not found beside {__file__} nor on AMENT_PREFIX_PATH; install physai or source its setup file"
    )


@functools.cache
def defaults() -> dict[str, str]:
    """The robot and the task of whoever names none, and an example, from `config/defaults.yaml`.

    Raises:
        PhysaiError: the file says something else, or not all of it.
    """
    # Without YAML's library, which `--help` must not load: a line `name: text` for each.
    path, found = share_directory() / "config" / "defaults.yaml", dict[str, str]()
    for number, line in enumerate(path.read_text().splitlines(), 1):
        name, colon, value = line.partition(": ")
        if not line.strip() or line.startswith("#"):
            continue
        if not colon or name not in DEFAULTS or name in found or not value.strip():
            raise PhysaiError(
                f"{path}:{number}: must be `name: text` with one of {', '.join(DEFAULTS)}, each once; got {line!r}"
            )
        found[name] = value.strip()
    if missing := [name for name in DEFAULTS if name not in found]:
        raise PhysaiError(f"{path}: {', '.join(missing)}: missing; write a line `{missing[0]}: …`")
    return found
