"""Where installed files are: configuration, launch files and models in `share/physai`."""

from __future__ import annotations

import functools
import os
from pathlib import Path


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
    """The robot and the task of whoever names none, from `config/defaults.yaml`."""
    # Without the library: `--help` must not load it.
    lines = (share_directory() / "config" / "defaults.yaml").read_text().splitlines()
    return dict(line.split(": ", 1) for line in lines if line and not line.startswith("#"))
