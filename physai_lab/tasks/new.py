"""`physai task new`: the folder of a task that works at once, to be changed into one's own.

It is `physai_lab/tasks/template` with other names: a jar is put on a mark.
"""

from __future__ import annotations

import ast
import importlib.util
import keyword
import re
from dataclasses import dataclass
from pathlib import Path

from physai_base.errors import TaskError
from physai_base.task import GROUP, TASKS, definitions
from physai_lab.tasks import template

TEMPLATE = Path(template.__file__).parent
TEST = "test_template.py"
LONGEST = 24
NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
PREFIX = "physai_task_"  # of the module of a package of its own
PYPROJECT = """\
[build-system]
requires = ["setuptools>=64"]
build-backend = "setuptools.build_meta"

[project]
name = "{distribution}"
version = "0.1.0"
description = "The task {name} for physai"
requires-python = ">=3.10"
# physai itself is not listed: it is installed from its sources, into the same environment.
dependencies = ["numpy"]

[project.entry-points."{group}"]
{name} = "{module}:read"

[tool.setuptools]
packages = ["{module}"]
package-data = {{ {module} = ["*.yaml", "models/**"] }}
"""


@dataclass(frozen=True)
class Written:
    """What was made."""

    name: str
    folder: Path  # of the task
    test: Path
    package: Path | None  # what pip installs; None inside a checkout


def new_task(name: str, out: Path | None = None, checkout: Path | None = None) -> Written:
    """Write a task: a package of its own in the folder `out` (default: named like it), or into a `checkout` of physai.

    Raises:
        TaskError: the name is taken or cannot be one, a folder is there already or none of physai's; nothing was written.
    """
    _check_name(name)
    if checkout is not None:
        if not (checkout / TASKS / "__init__.py").is_file():
            raise TaskError(f"{checkout} is no checkout of physai: it has no {TASKS}/__init__.py")
        if (checkout / TASKS / f"{name}.py").exists():
            raise TaskError(f"{checkout / TASKS / name}.py is there already; give the task another name")
        written = Written(
            name, checkout / TASKS / name, checkout / "test" / "tasks" / f"test_{name}.py", None
        )
        module = f"{TASKS}.{name}"
    else:
        module = PREFIX + name
        if importlib.util.find_spec(module) is not None:
            raise TaskError(f"a module {module} is installed already; give the task another name")
        package = out if out is not None else Path(module.replace("_", "-"))
        written = Written(name, package / module, package / "test" / f"test_{name}.py", package)
    for path in (written.package or written.folder, written.test):
        if path.exists():
            raise TaskError(f"{path} is there already; remove it, or give another name")
    written.folder.mkdir(parents=True)
    written.test.parent.mkdir(parents=True, exist_ok=True)
    for source in sorted(TEMPLATE.iterdir()):
        if source.suffix in (".py", ".yaml"):
            target = written.test if source.name == TEST else written.folder / source.name
            target.write_text(renamed(source.read_text(), name, module, python=source.suffix == ".py"))
    if written.package is not None:
        distribution = module.replace("_", "-")
        text = PYPROJECT.format(name=name, module=module, distribution=distribution, group=GROUP)
        (written.package / "pyproject.toml").write_text(text)
    return written


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name) or keyword.iskeyword(name) or len(name) > LONGEST:
        raise TaskError(
            f"{name!r} cannot be a task's name: it names a folder, a Python module and files; take at most {LONGEST} small "
            "letters, digits and single underscores, a letter first, such as line_up"
        )
    known = definitions()
    if name in known:
        raise TaskError(f"there is a task {name!r} already; known: {', '.join(sorted(known))}")
    if name == TEMPLATE.name:
        raise TaskError(f"{name!r} is what a new task is made from; give it a name of its own")


def renamed(text: str, name: str, module: str, *, python: bool) -> str:
    """A file of the template as one of the task `name` in `module`, its imports in order again."""
    text = text.replace(template.__name__, module)
    text = text.replace("Template", "".join(part.capitalize() for part in name.split("_")))
    text = re.sub(r"(?<![a-z])template(?![a-z])", name, text)
    return _sorted_imports(text) if python else text


def _sorted_imports(text: str) -> str:
    """`from … import …` that stand together, by module."""
    lines = text.splitlines(keepends=True)
    blocks: list[list[ast.ImportFrom]] = []
    for node in ast.parse(text).body:
        if isinstance(node, ast.ImportFrom):
            if not blocks or blocks[-1][-1].end_lineno != node.lineno - 1:
                blocks.append([])
            blocks[-1].append(node)
    for block in blocks:
        ordered = sorted(block, key=lambda node: node.module or "")
        parts = ["".join(lines[node.lineno - 1 : node.end_lineno]) for node in ordered]
        lines[block[0].lineno - 1 : block[-1].end_lineno] = ["".join(parts)] + [""] * (
            (block[-1].end_lineno or 0) - block[0].lineno
        )
    return "".join(lines)
