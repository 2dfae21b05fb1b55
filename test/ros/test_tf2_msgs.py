"""tf2_msgs is built where no installation has it, and shadows nobody's."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from paths import ROOT

OURS = ROOT / "cmake" / "tf2_msgs"


@pytest.fixture
def projects(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Path]], list[Path]]:
    """setup.py's choice of what to build, where the ROS prefixes are those given."""
    tree = ast.parse((ROOT / "setup.py").read_text())
    (wanted,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "projects")
    code = compile(ast.Module([wanted], []), "setup.py", "exec")

    def choose(prefixes: list[Path]) -> list[Path]:
        environment = {"AMENT_PREFIX_PATH": os.pathsep.join(map(str, prefixes))}
        names = {"os": os, "Path": Path, "ROOT": ROOT, "environment": lambda: environment}
        exec(code, names)  # noqa: S102
        return names["projects"]()  # type: ignore[operator]

    return choose


def installed(prefix: Path, package: str) -> Path:
    folder = prefix / "share" / "tf2_msgs"
    folder.mkdir(parents=True)
    (folder / "package.xml").write_text(package)
    return prefix


def test_an_installation_s_own_is_used_and_ours_is_renewed(
    tmp_path: Path, projects: Callable[[list[Path]], list[Path]]
) -> None:
    system = installed(tmp_path / "system", "<package><name>tf2_msgs</name></package>")
    earlier = installed(tmp_path / "earlier", (OURS / "package.xml").read_text())
    bare = tmp_path / "bare"
    bare.mkdir()
    assert projects([bare]) == [ROOT, OURS]
    assert projects([bare, earlier]) == [ROOT, OURS]
    assert projects([bare, system]) == [ROOT]
    assert projects([earlier, system]) == [ROOT]


def test_the_definition_is_that_of_ros() -> None:
    """The name and the one field make the type's hash, by which peers know each other."""
    lines = (OURS / "msg" / "TFMessage.msg").read_text().split("\n")
    assert [line for line in lines if line and not line.startswith("#")] == [
        "geometry_msgs/TransformStamped[] transforms"
    ]
    # colcon does not look into a package for others, so that a workspace has no second tf2_msgs.
    assert (ROOT / "package.xml").is_file() and "<exec_depend>tf2_msgs</exec_depend>" in (
        ROOT / "package.xml"
    ).read_text()
