"""One description of the graph: its arguments, and that launch and `physai up` start the same from it."""

from __future__ import annotations

import argparse
import itertools
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import yaml
from paths import ROOT

from physai_lab.stack.bringup import add_arguments, graph_from
from physai_ros.graph import ARGUMENTS, Graph, GraphError, NodeSpec, bringup_graph, ros_arguments

ORDER = ["sim", "control", "perception", "world_model", "policy", "supervisor"]


def test_default_graph() -> None:
    graph = bringup_graph()
    assert [spec.name for spec in graph.nodes] == ORDER
    assert graph.node("supervisor").parameters["nodes"] == ORDER[:-1]
    assert all(spec.respawn <= 3 for spec in graph.nodes)
    # The clock's source must not wait for the clock.
    assert "use_sim_time" not in graph.node("sim").parameters
    assert all(graph.node(name).parameters["use_sim_time"] is True for name in ORDER[1:])


def test_without_a_simulator_time_is_the_machine_s() -> None:
    graph = bringup_graph(sim="none")
    assert "sim" not in [spec.name for spec in graph.nodes]
    assert graph.node("control").parameters["use_sim_time"] is False
    assert graph.node("control").renewed_with == ()
    assert bringup_graph(sim="none", use_sim_time="true").node("control").parameters["use_sim_time"] is True


def test_a_controller_whose_process_was_lost_starts_latched() -> None:
    graph = bringup_graph(sim="none", namespace="left")
    assert graph.node("supervisor").parameters["latched_on_loss"] == ["control"]
    assert "latched" not in graph.node("control").parameters
    assert bringup_graph(latched="restarted").node("control").parameters["latched"] == "restarted"
    assert bringup_graph(control="none").node("supervisor").parameters["latched_on_loss"] == [""]


def test_what_the_policy_may_be_told_is_what_its_node_takes() -> None:
    from physai_policy.agent import HANDOVERS
    from physai_policy.chunking.method import OURS, chunking_method
    from physai_policy.runtimes import PRECISIONS, RUNTIMES

    choices = {argument.name: argument.choices for argument in ARGUMENTS}
    (described,) = (argument.description for argument in ARGUMENTS if argument.name == "method")
    assert ", ".join(OURS) in described and all(map(chunking_method, OURS))
    assert choices["handover"] == HANDOVERS
    assert choices["runtime"] == tuple(RUNTIMES) and choices["precision"] == PRECISIONS
    given = {"runtime": "torch", "precision": "bf16", "method": "corrected", "handover": "on"}
    assert given.items() <= bringup_graph(**given).node("policy").parameters.items()


def test_without_a_world_model_control_does_not_wait_for_verdicts() -> None:
    graph = bringup_graph(world_model="off")
    assert "world_model" not in [spec.name for spec in graph.nodes]
    assert graph.node("control").parameters["world_model"] == "off"


def test_a_robot_needs_no_policy() -> None:
    graph = bringup_graph(policy="none")
    assert [spec.name for spec in graph.nodes] == ["sim", "control", "supervisor"]
    assert graph.node("control").parameters["world_model"] == "off"  # chunks go straight to the gate
    assert graph.node("sim").parameters["task"] == "none"
    assert "no policy" in graph.node("supervisor").parameters["note"]
    assert "note" not in bringup_graph().node("supervisor").parameters
    robot = bringup_graph(policy="none", sim="none")
    assert [spec.name for spec in robot.nodes] == ["control", "supervisor"]
    seeing = bringup_graph(policy="none", task="cups")
    assert [spec.name for spec in seeing.nodes] == ["sim", "control", "perception", "supervisor"]
    # Whoever sends chunks may have them judged.
    judged = bringup_graph(policy="none", task="cups", world_model="veto")
    assert [spec.name for spec in judged.nodes] == [
        "sim",
        "control",
        "perception",
        "world_model",
        "supervisor",
    ]
    assert judged.node("control").parameters["world_model"] == "veto"


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"task": "none"}, "a policy needs a task"),
        ({"policy": "none", "world_model": "veto"}, "the world model needs a task"),
        ({"policy": "none", "mode": "shadow"}, "shadow mode"),
        ({"task": "cups,push", "mode": "shadow"}, "in shadow mode there is one"),
        ({"task": "cups,none"}, "none is no task among others"),
    ],
)
def test_what_cannot_be_without_the_other_is_refused(given: dict[str, str], word: str) -> None:
    with pytest.raises(GraphError, match=word):
        bringup_graph(**given)


def test_in_shadow_mode_nothing_that_learns_is_beside_the_controller() -> None:
    graph = bringup_graph(mode="shadow", namespace="left")
    outside = [spec.name for spec in graph.nodes if graph.namespace_of(spec) == "left"]
    assert outside == ["sim", "control", "perception", "supervisor"]
    for name in ("recorder", "world_model", "policy"):
        spec = graph.node(name)
        assert graph.namespace_of(spec) == "left/shadow"
        assert "__ns:=/left/shadow" in ros_arguments(spec, graph)
    policy = graph.node("policy")
    assert ("scene", "/left/scene") in policy.remappings
    assert ("/left/action_chunk", "/left/shadow/action_chunk") in policy.remappings
    assert policy.parameters["mode"] == "shadow"
    # Its verdicts do not reach the controller, which must not wait for them.
    assert graph.node("control").parameters["world_model"] == "off"
    assert graph.node("supervisor").parameters["nodes"] == [
        "sim", "control", "perception", "shadow/recorder", "shadow/world_model", "shadow/policy",
    ]  # fmt: skip
    assert bringup_graph().node("control").parameters["world_model"] == "veto"


def test_a_shadow_beside_a_running_stack_adds_nothing_outside() -> None:
    graph = bringup_graph(mode="shadow", sim="none", control="none", perception="none")
    assert {graph.namespace_of(spec) for spec in graph.nodes} == {"shadow"}
    assert [spec.name for spec in graph.nodes] == ["recorder", "world_model", "policy", "supervisor"]
    assert graph.node("supervisor").parameters["nodes"] == ["recorder", "world_model", "policy"]
    assert not any(old == "diagnostics" for spec in graph.nodes for old, _ in spec.remappings)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"world_model": "on"}, "world_model must be one of auto, off, monitor, veto; got 'on'"),
        ({"robots": "fr3"}, "there is no argument 'robots'"),
        ({"real_time_factor": "fast"}, "real_time_factor must be a number"),
        ({"use_sim_time": "false"}, "would mix two clocks"),
    ],
)
def test_wrong_arguments_name_what_is_allowed(given: dict[str, str], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        bringup_graph(**given)


def test_every_argument_is_described() -> None:
    for argument in ARGUMENTS:
        assert argument.description
        assert not argument.choices or argument.default in argument.choices
    required = ["robot", "sim", "policy", "world_model", "mode", "namespace", "use_sim_time", "log_level"]
    assert set(required) <= {argument.name for argument in ARGUMENTS}


def test_text_parameters_stay_text() -> None:
    """YAML would read `off` as a boolean and `1e3` as a number."""
    spec = NodeSpec(
        "x", "x", {"mode": "off", "robot": "1e3", "rate": 5.0, "names": ["no", "a b"], "count": 3}
    )
    arguments = ros_arguments(spec, Graph((spec,), namespace="left"))
    assert "__ns:=/left" in arguments
    given = dict(a.split(":=", 1) for flag, a in itertools.pairwise(arguments) if flag == "-p")
    assert {name: yaml.safe_load(text) for name, text in given.items()} == spec.parameters
    assert isinstance(yaml.safe_load(given["rate"]), float)


def test_command_line_and_launch_have_the_same_arguments() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = parser.parse_args(["--world-model", "monitor", "--namespace", "left"])
    assert graph_from(options) == bringup_graph(world_model="monitor", namespace="left")
    options = parser.parse_args(["--task", "push", "--task", "wipe,cups"])
    assert graph_from(options).node("policy").parameters["task"] == "push,wipe,cups"


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"mode": "shadow"},
        {"sim": "none", "namespace": "left"},
        {"world_model": "off", "log_level": "debug"},
    ],
)
def test_launch_starts_the_same_processes(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the launch file; with stand-ins for launch where it is not installed."""
    launch = pytest.importorskip("launch") if "launch" in sys.modules else None
    if launch is None:
        _stand_in(monkeypatch)
    description = _load(ROOT / "launch" / "bringup.launch.py")
    declared = {
        entity.name: entity
        for entity in description.entities
        if type(entity).__name__ == "DeclareLaunchArgument"
    }
    assert {n: (a.default_value, a.description, tuple(a.choices or ())) for n, a in declared.items()} == {
        a.name: (a.default, a.description, a.choices) for a in ARGUMENTS
    }
    (function,) = [e for e in description.entities if type(e).__name__ == "OpaqueFunction"]
    context = {name: argument.default_value for name, argument in declared.items()} | given
    nodes = [entity for entity in function.function(context) if type(entity).__name__ == "Node"]
    graph = bringup_graph(**given)
    assert [
        (n.executable, n.name, n.namespace, n.parameters, n.respawn_max_retries, "--log-level" in n.arguments) for n in nodes
    ] == [
        (s.executable, s.name, graph.namespace_of(s), [dict(s.parameters)], s.respawn, True) for s in graph.nodes
    ]  # fmt: skip


def _load(path: Path) -> Any:
    import importlib.util

    spec = importlib.util.spec_from_file_location("bringup_launch", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generate_launch_description()


def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes that only keep what they are given."""

    def record(class_name: str, *positional: str) -> type:
        def __init__(self: Any, *given: Any, **named: Any) -> None:
            self.__dict__.update(dict(zip(positional, given, strict=False)) | named)

        return type(class_name, (), {"__init__": __init__})

    class LaunchConfiguration:
        def __init__(self, name: str) -> None:
            self.name = name

        def perform(self, context: dict[str, str]) -> str:
            return context[self.name]

    modules: dict[str, dict[str, Any]] = {
        "launch": {
            "LaunchDescription": record("LaunchDescription", "entities"),
            "LaunchContext": dict,
            "LaunchDescriptionEntity": object,
        },
        "launch.actions": {
            "DeclareLaunchArgument": record("DeclareLaunchArgument", "name"),
            "OpaqueFunction": record("OpaqueFunction"),
            "RegisterEventHandler": record("RegisterEventHandler"),
            "SetEnvironmentVariable": record("SetEnvironmentVariable", "variable", "value"),
            "Shutdown": record("Shutdown"),
        },
        "launch.event_handlers": {"OnProcessIO": record("OnProcessIO")},
        "launch.events": {},
        "launch.events.process": {"ProcessExited": record("ProcessExited"), "ProcessIO": record("ProcessIO")},
        "launch.substitutions": {
            "EnvironmentVariable": record("EnvironmentVariable", "name"),
            "LaunchConfiguration": LaunchConfiguration,
        },
        "launch_ros": {},
        "launch_ros.actions": {"Node": record("Node")},
    }
    for name, content in modules.items():
        module = types.ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)


def test_every_node_is_on_the_clock_of_its_stack() -> None:
    def clocks(**given: str) -> set[str]:
        """Where `clock`, as nodes name it, leads."""
        graph = bringup_graph(**given)
        return {
            dict(spec.remappings).get("clock", f"/{graph.namespace_of(spec)}/clock".replace("//", "/"))
            for spec in graph.nodes
        }

    assert clocks() == {"/clock"}
    assert clocks(namespace="arm1") == {"/arm1/clock"}
    assert clocks(namespace="arm1", mode="shadow") == {"/arm1/clock"}
    beside = {
        "mode": "shadow",
        "sim": "none",
        "control": "none",
        "perception": "none",
        "use_sim_time": "true",
    }
    assert clocks(namespace="arm1", **beside) == {"/arm1/clock"}
    assert clocks(**beside) == {"/clock"}
    # Another simulator's time has one topic for all.
    assert clocks(namespace="arm1", sim="none", use_sim_time="true", clock="/clock") == {"/clock"}
