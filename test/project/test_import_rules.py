"""The arrows between packages (docs/reference/architecture.md): values at the bottom, layers apart, ROS at the edge."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from paths import ROOT

LAYERS = {"physai_perception", "physai_world_model", "physai_policy", "physai_control", "physai_sim"}
NODES = ("node.py", "bridge_node.py")
NODE_MODULE = re.compile(r"^physai_\w+\.(node|bridge_node)$")
ROS = re.compile(r"^(rclpy|physai|launch|launch_ros|ament_index_python|.*_msgs|.*_srvs|.*_interfaces)$")
HEAVY = {"torch", "tensorrt", "lerobot", "transformers", "onnx"}

# What a package's pure modules may import of physai.
ALLOWED: dict[str, set[str]] = {
    "physai_base": set(),
    "physai_perception": {"physai_base"},
    "physai_world_model": {"physai_base", "physai_perception"},
    "physai_tasks": {"physai_base", "physai_sim"},
    "physai_policy": {"physai_base", "physai_perception", "physai_world_model"},
    "physai_control": {"physai_base"},
    "physai_sim": {"physai_base"},
    "physai_ros": {"physai_base"},
    "physai_lab": {"physai_base", "physai_tasks", "physai_ros", *LAYERS},
}


@functools.cache
def modules() -> list[Path]:
    return sorted(path for package in ALLOWED for path in (ROOT / package).glob("**/*.py"))


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def imports(path: Path, top_level_only: bool = False) -> list[tuple[str, int]]:
    return list(_imports(path, top_level_only))


def _imports(path: Path, top_level_only: bool) -> Iterator[tuple[str, int]]:
    """Every imported module's full name and its line, without what is for the type checker alone."""
    pending: list[ast.AST] = list(parsed(path).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if top_level_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        pending += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative imports hide the arrows"
            assert node.module
            yield node.module, node.lineno
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", modules(), ids=relative)
def test_arrows_point_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    is_node = path.name in NODES and package in LAYERS
    allowed = ALLOWED[package] | {package}
    if is_node:
        allowed = allowed | {"physai_ros"}
    wrong = [
        f"{relative(path)}:{line}: imports {name}"
        for name, line in imports(path)
        if (top := name.split(".")[0]).startswith("physai_") and top not in allowed
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", modules(), ids=relative)
def test_ros_stays_at_the_edge(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    if package == "physai_ros" or (path.name in NODES and package in LAYERS):
        return
    # physai_lab talks to a running stack, but imports ROS where it does, so that offline tools need none.
    wrong = [
        f"{relative(path)}:{line}: imports {name}"
        for name, line in imports(path, top_level_only=package == "physai_lab")
        if ROS.match(name.split(".")[0])
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", modules(), ids=relative)
def test_nothing_imports_a_node(path: Path) -> None:
    wrong = [
        f"{relative(path)}:{line}: imports {name}" for name, line in imports(path) if NODE_MODULE.match(name)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", modules(), ids=relative)
def test_heavy_libraries_are_imported_where_they_are_used(path: Path) -> None:
    """The nodes run without them; a training module, which is imported only to train, may name them at its top."""
    if "training" in path.parts or path.name.startswith(("checkpoint", "network_")):
        return
    wrong = [
        f"{relative(path)}:{line}: imports {name}"
        for name, line in imports(path, top_level_only=True)
        if name.split(".")[0] in HEAVY
    ]
    assert not wrong, "\n".join(wrong)


VALUE_MESSAGES = {
    "ActionChunk", "SceneState", "ChunkVerdict", "WorldPrediction", "ControlStatus", "SceneObject", "Impedance", "JointState",
    "Image", "CameraInfo",
}  # fmt: skip
"""Those that stand for a value of physai_base."""


def built_messages(source: str) -> list[tuple[str, int]]:
    """Messages that stand for a value and are made here, however they are imported and named: name and line."""
    tree = ast.parse(source)
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and re.search(r"(^physai|_msgs)\.msg$", node.module)
        ):
            names |= {a.asname or a.name: a.name for a in node.names if a.name in VALUE_MESSAGES}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            full = re.fullmatch(r"(?:physai|\w+_msgs)\.msg\.(\w+)", called)
            name = names.get(called) or (full[1] if full else "")
            if name in VALUE_MESSAGES:
                found.append((name, node.lineno))
    return found


def test_only_conversions_fill_layer_messages() -> None:
    """The typed messages that stand for a value are built in one package."""
    seen = [path for path in modules() if built_messages(path.read_text())]
    assert seen and {path.parent for path in seen} == {ROOT / "physai_ros" / "conversions"}


@pytest.mark.parametrize(
    "source",
    [
        "from physai.msg import ActionChunk\nm = ActionChunk(sequence=1)",
        "from physai.msg import ActionChunk as Other\nm = Other()",
        "import physai.msg\nm = physai.msg.SceneState()",
        "from sensor_msgs.msg import JointState\ndef f():\n    return JointState(name=[])",
        "import sensor_msgs.msg\nm = sensor_msgs.msg.Image()",
    ],
)
def test_the_rule_on_messages_sees_what_it_forbids(source: str) -> None:
    assert built_messages(source)
    assert not built_messages(
        "from physai_base.values import JointState\nm = JointState()\nfrom std_msgs.msg import Bool\nBool()"
    )


def test_yaml_is_read_in_one_place() -> None:
    """With lines, limits and all that is wrong at once, by `physai_base.reader`; PyYAML's own loaders have none of it."""
    loads = re.compile(r"yaml\.(safe_|full_|unsafe_)?load|\bfrom yaml\b|SafeLoader|CLoader")
    seen = {relative(path) for path in modules() if loads.search(path.read_text())}
    assert seen == {"physai_base/document.py"}


def test_no_two_public_classes_share_a_name() -> None:
    homes: dict[str, set[str]] = {}
    for path in modules():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, set()).add(relative(path))
    assert len(homes) > 300
    assert not {name: sorted(where) for name, where in homes.items() if len(where) > 1}


def test_no_pickle_anywhere() -> None:
    forbidden = re.compile(r"^\s*(import|from) (pickle|cloudpickle|dill|marshal|shelve)\b", re.MULTILINE)
    loads = re.compile(r"torch\.load\(|yaml\.load\(|yaml\.unsafe_load|allow_pickle=True")
    wrong = [
        relative(path)
        for path in modules()
        if forbidden.search(path.read_text()) or loads.search(path.read_text())
    ]
    assert not wrong


@pytest.mark.parametrize("path", modules(), ids=relative)
def test_onnx_runtime_comes_through_one_door(path: Path) -> None:
    """Which closes its telemetry first; also `importlib.import_module("onnxruntime")` would go around it."""
    if path == ROOT / "physai_base" / "offline.py":
        return
    around = re.compile(r"import_module\([\"']onnxruntime|__import__\([\"']onnxruntime")
    wrong = [
        f"{relative(path)}:{line}" for name, line in imports(path) if name.split(".")[0] == "onnxruntime"
    ]
    assert not wrong and not around.search(path.read_text()), wrong


def import_graph() -> dict[str, set[str]]:
    """Which of our modules each of them imports, wherever in its text."""
    paths = modules()
    names = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in paths
    }
    return {
        name: {found for found, _ in imports(path) if found in names and found != name}
        for name, path in names.items()
    }


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that reach each other."""
    reached: dict[str, set[str]] = {}
    for start in graph:
        pending, seen = list(graph[start]), set[str]()
        while pending:
            if (name := pending.pop()) not in seen:
                seen.add(name)
                pending += graph[name]
        reached[start] = seen
    groups = {frozenset({a, *(b for b in reached[a] if a in reached[b])}) for a in graph if a in reached[a]}
    return sorted(sorted(group) for group in groups)


def test_no_modules_import_each_other() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d"}, "e": {"a"}}) == [["b", "c"], ["d"]]
    assert not cycles(import_graph())


C_FUNCTION = re.compile(r"^(?!static)[A-Za-z][\w \*]*?\b(physai_\w+)\([^;{}]*\)\s*\{", re.MULTILINE)


def c_graph() -> dict[str, set[str]]:
    """Which C files use functions that another one defines; what several define (each library's entry) counts for none."""
    paths = [
        path for folder in ALLOWED for path in (ROOT / folder).glob("**/*.c") if "test" not in path.parts
    ]
    text = {
        relative(path): re.sub(r'/\*.*?\*/|"(\\.|[^"\\])*"', "", path.read_text(), flags=re.DOTALL)
        for path in paths
    }
    defined: dict[str, list[str]] = {}
    for path, source in text.items():
        for name in C_FUNCTION.findall(source):
            defined.setdefault(name, []).append(path)
    home = {name: where[0] for name, where in defined.items() if len(where) == 1}
    return {
        path: {home[name] for name in re.findall(r"\bphysai_\w+", source) if name in home} - {path}
        for path, source in text.items()
    }


def test_no_c_files_call_each_other() -> None:
    graph = c_graph()
    core = "physai_control/core/src"
    assert {f"{core}/state.c", f"{core}/motion/guards.c"} <= graph[f"{core}/cycle.c"], (
        "the calls are not found"
    )
    assert not cycles(graph)


THINGS_OF_A_TASK = re.compile(r"cup(?!y)|shel(f|ves)|tumbler|(?<![a-z])mug", re.IGNORECASE)


@pytest.mark.parametrize(
    "path", [path for path in modules() if "physai_tasks" not in path.parts], ids=relative
)
def test_no_layer_names_what_a_task_is_about(path: Path) -> None:
    wrong = [
        f"{relative(path)}:{number}: {line.strip()}"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if THINGS_OF_A_TASK.search(line)
    ]
    assert not wrong, "\n".join(wrong)


def numbers_of_joints(source: str) -> list[int]:
    """Lines in which seven is the length of an array, a range, a part of one, or what a length is compared with."""
    found = []
    for node in ast.walk(ast.parse(source)):
        parts: list[ast.expr | None] = []
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).split(".")[-1]
            if name in ("zeros", "ones", "full", "empty", "range", "eye", "tile", "repeat", "reshape"):
                parts = [*node.args[:1], *(node.args if name == "reshape" else [])]
            parts += [keyword.value for keyword in node.keywords if keyword.arg in ("size", "shape")]
        elif isinstance(node, ast.Slice):
            parts = [node.upper] if node.lower is None else []
        elif isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators] if "len(" in ast.unparse(node) else []
        wide = [
            n for part in parts if part for n in ([part] if not isinstance(part, ast.Tuple) else part.elts)
        ]
        found += [n.lineno for n in wide if isinstance(n, ast.Constant) and n.value == 7]
    return sorted(found)


def test_seven_joints_are_found() -> None:
    assert numbers_of_joints("a = np.zeros(7)\nb = q[:7]\nif len(q) != 7: x = rng.normal(size=(3, 7))") == [
        1,
        2,
        3,
        3,
    ]


@functools.cache
def shipped_robots() -> list[dict]:
    return [yaml.safe_load(file.read_text()) for file in (ROOT / "config" / "robots").glob("*.yaml")]


@pytest.mark.parametrize("path", modules(), ids=relative)
def test_no_module_knows_a_robot(path: Path) -> None:
    """How many joints it has and what its cameras are called is in its file alone; seven numbers of a pose are `POSE`."""
    robots = shipped_robots()
    cameras = {camera["name"] for robot in robots for camera in robot.get("cameras", ())}
    assert "overview" in cameras
    text = path.read_text()
    named = [
        f"{relative(path)}:{node.lineno}: {node.value!r}"
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and (node.value in cameras or any(f"camera/{name}" in node.value for name in cameras))
    ]
    assert not named + [f"{relative(path)}:{line}: seven" for line in numbers_of_joints(text)]


LONGEST, MOST_WITHOUT_WINGS = 600, 6000


def lines_of(folder: Path) -> int:
    return sum(
        len(path.read_text().splitlines())
        for path in folder.glob("*.*")
        if path.suffix in (".py", ".c", ".h")
    )


def sources() -> list[Path]:
    """Every file of Python and C that somebody reads, tests among them."""
    folders = [ROOT / name for name in (*ALLOWED, "test", "docs", "launch")]
    return [path for folder in folders for path in folder.rglob("*.*") if path.suffix in (".py", ".c", ".h")]


def test_no_file_is_too_long_to_be_read() -> None:
    long = {relative(path) for path in sources() if len(path.read_text().splitlines()) > LONGEST}
    assert not long, "split what is new"


def test_no_folder_is_too_long_without_wings() -> None:
    folders = {path.parent for path in sources()}
    assert {relative(folder) for folder in folders if lines_of(folder) > MOST_WITHOUT_WINGS} == set()
