"""What is imported is declared: for pip in pyproject.toml, for rosdep in package.xml, and the rest is asked for before it is used."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from paths import ROOT

from physai_base.errors import PhysaiError
from physai_lab import cli, extras

DISTRIBUTIONS = {"cv2": "opencv-python-headless", "PIL": "pillow", "yaml": "PyYAML"}
ROSDEP = {
    "matplotlib": "python3-matplotlib", "numpy": "python3-numpy", "opencv-python-headless": "python3-opencv", "pillow": "python3-pil",
    "PyYAML": "python3-yaml", "rich": "python3-rich", "scipy": "python3-scipy", "transforms3d": "python3-transforms3d",
}  # fmt: skip
"""Distribution → rosdep key; those that are not here have none, and docs/howto/bringup.md says that pip brings them."""
ROS = re.compile(r"^(rclpy|launch|launch_ros|.*_msgs|.*_srvs|.*_interfaces)$")
NOT_OURS_TO_DECLARE = {
    "ros_wheels_bootstrapper",
    "ament_index_python",
    "xacro",
}  # guarded: there only with wheels, with ROS, or where a robot's file names a xacro file


def imported() -> dict[str, set[str]]:
    """Top-level module → where it is imported: `top` of a file, or `use` within a function."""
    found: dict[str, set[str]] = {}

    def visit(node: ast.AST, where: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            names = [alias.name for alias in child.names] if isinstance(child, ast.Import) else []
            if isinstance(child, ast.ImportFrom) and child.module:
                names = [child.module]
            for name in names:
                found.setdefault(name.split(".")[0], set()).add(where)
            visit(child, "use" if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else where)

    for path in sorted(ROOT.glob("physai_*/**/*.py")):
        visit(ast.parse(path.read_text()), "top")
    return {
        name: where
        for name, where in found.items()
        if name not in sys.stdlib_module_names
        and not name.startswith("physai")
        and name not in NOT_OURS_TO_DECLARE
    }


def table(name: str) -> list[str]:
    """A list of pyproject.toml; Python 3.10 has no tomllib."""
    text = (ROOT / "pyproject.toml").read_text()
    match = re.search(rf"^{name} = \[(.*?)\]", text, re.MULTILINE | re.DOTALL)
    assert match
    return re.findall(r'"([\w-]+)', match[1])


def required_by(distribution: str) -> set[str]:
    """Names of what a distribution asks for without extras."""
    wanted = importlib.metadata.requires(distribution) or []
    return {re.split(r"[^\w-]", entry)[0].lower() for entry in wanted if "extra ==" not in entry}


def test_every_import_is_declared() -> None:
    declared, optional = table("dependencies"), table("remote") + table("train")
    seen = imported()
    assert {"numpy", "mujoco", "rclpy", "mcap"} <= set(seen)
    of_others = {name for distribution in declared for name in required_by(distribution)}
    wrong = [
        name
        for name in seen
        if not ROS.match(name)
        and DISTRIBUTIONS.get(name, name) not in [*declared, *optional, "tensorrt", "tensorrt_rtx"]
        and name.lower() not in of_others
    ]
    assert not wrong


def test_package_xml_lists_all_that_runs() -> None:
    listed = {
        node.text
        for node in ElementTree.parse(ROOT / "package.xml").getroot()
        if node.tag in ("depend", "exec_depend")
    }
    missing = [name for name in imported() if ROS.match(name) and name not in listed]
    assert not missing
    assert set(ROSDEP.values()) <= listed


def test_the_docs_say_what_pip_brings_where_rosdep_has_no_key() -> None:
    (line,) = re.findall(
        r"^pip install -c constraints.txt (.*)$", (ROOT / "docs/howto/bringup.md").read_text(), re.MULTILINE
    )
    assert set(line.split()) == set(table("dependencies")) - set(ROSDEP)


def test_requirements_name_the_same() -> None:
    wanted = (ROOT / "requirements.txt").read_text().split()
    assert set(table("dependencies")) <= set(wanted)
    assert table("train") == [
        line
        for line in (ROOT / "requirements-train.txt").read_text().splitlines()
        if not line.startswith("#")
    ]


@pytest.mark.parametrize(
    ("command", "module", "cure"),
    [
        (["demos"], "pyarrow", "train"), (["train", "policy"], "torch", "train"), (["train", "vision"], "onnx", "train"),
        (["export"], "torch", "train"), (["import", "lerobot", "x", "--map", "x"], "torch", "train"),
        (["import", "hf", "x", "--map", "x"], "transformers", "train"), (["serve", "policy"], "websockets", "remote"),
        (["calibrate", "--residual", "--cell", "1"], "torch", "train"),
    ],
)  # fmt: skip
def test_a_command_without_its_extra_says_so_before_it_begins(
    command: list[str],
    module: str,
    cure: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = extras.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == module else found(name))
    assert cli.main(command) == 1
    told = capsys.readouterr()
    assert (
        told.err.startswith(f"physai {command[0]}: {module} is not installed")
        and extras.CURES[cure] in told.err
    )
    assert not told.out


def test_all_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(PhysaiError, match="a and b are not installed"):
        extras.require("train", "a", "b")


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("physai_*/**/*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_sources_are_of_the_oldest_python_that_is_promised(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 10))
