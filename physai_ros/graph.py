"""The one description of the graph: which processes run, with which parameters, in which order.

`launch/bringup.launch.py` and `physai up` both start what `bringup_graph` returns. No ROS is imported here.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from physai_base.errors import PhysaiError
from physai_base.resources import defaults

MAX_RESPAWN = 3
RESPAWN_DELAY_S = 0.5
LONGEST_NAME = 128  # of a namespace; ROS has 255 for it and what is below
AUTO, NONE = "auto", "none"  # of an argument: as others ask for it; without
NO_POLICY = "no policy (policy:=none): nobody takes instructions, chunks come from elsewhere"
SHADOW = "shadow"  # namespace of what must not reach the controller
# What nodes in that namespace take from outside of it; whatever else they publish or call stays inside.
SHADOW_INPUTS = {"world_model": ("scene",), "policy": ("scene", "control/status", "supervisor/status")}
# Names by which the controller is told what to do: also written in full they lead nowhere from inside.
COMMANDS = (
    "action_chunk", "chunk_verdict", "estop", "control/stop", "control/resume", "control/reset", "control/estop",
    "control/set_impedance",
)  # fmt: skip


class GraphError(PhysaiError):
    """Arguments of the bring-up that are not allowed."""


@dataclass(frozen=True)
class Argument:
    """One argument of the bring-up, as launch and the command line show it."""

    name: str
    default: str
    description: str
    choices: tuple[str, ...] = ()


ARGUMENTS = (
    Argument("robot", defaults()["robot"], "embodiment: a name in config/robots or the path of a YAML file"),
    Argument(
        "task",
        "auto",
        f"task: its name or the path of a YAML file; several by commas: an instruction says which, the first stands there until "
        f"then; none: a robot alone; auto: {defaults()['task']} with a policy, none without",
    ),
    Argument("sim", "mujoco", "simulator: the embedded MuJoCo cell, or none for a robot", ("mujoco", "none")),
    Argument(
        "policy",
        "policy",
        "policy bundle: a name in models/<task>, TASK/NAME, or a directory; or a remote policy's YAML file; none: chunks come from elsewhere",
    ),
    Argument(
        "runtime",
        "onnx",
        "what computes the policy (docs/explanation/policy_runtimes.md)",
        ("onnx", "tensorrt", "torch"),
    ),
    Argument(
        "precision",
        "fp32",
        "what the runtime computes in: onnx fp32, tf32; tensorrt fp32, fp16, bf16, fp8, as its engine was built; torch fp32",
        ("fp32", "tf32", "fp16", "bf16", "fp8"),
    ),
    Argument(
        "method",
        "real_time",
        "how the policy's chunks join although inference takes time: synchronous, naive, ensemble, real_time, corrected, "
        "or what another package registers (docs/explanation/policy.md)",
    ),
    Argument(
        "handover",
        "report",
        "what the policy does in doubt; on: rest and ask for a person, report: say so alone (docs/explanation/handover.md)",
        ("on", "report", "off"),
    ),
    Argument(
        "world_model",
        "auto",
        "off: none; monitor: publish predictions; veto: a chunk needs its consent, and none in time is a veto; auto: veto "
        "with a policy, off without",
        ("auto", "off", "monitor", "veto"),
    ),
    Argument(
        "mode",
        "active",
        "active: the policy moves the robot; shadow: it runs out of the controller's reach and is compared with "
        "what does (docs/howto/shadow.md)",
        ("active", "shadow"),
    ),
    Argument(
        "control", "physai", "physai: the 1 kHz controller; none: another process is it", ("physai", "none")
    ),
    Argument(
        "latched",
        "",
        "why the controller starts latched, until control/reset; for bring-ups that no person starts",
    ),
    Argument(
        "tf",
        "all",
        "frames that the controller publishes; robot: without cameras, whose drivers do; none: others publish them",
        ("all", "robot", "none"),
    ),
    Argument(
        "perception",
        "physai",
        "physai: objects from images; none: another process publishes scene",
        ("physai", "none"),
    ),
    Argument("namespace", "", "namespace of all nodes and topics: one for each robot"),
    Argument("use_sim_time", "auto", "time from `clock`; auto: with a simulator", ("auto", "true", "false")),
    Argument(
        "clock",
        "clock",
        "topic of simulated time, below the namespace; another simulator's is /clock wherever the namespace",
    ),
    Argument(
        "log_level", "info", "severity from which nodes log", ("debug", "info", "warn", "error", "fatal")
    ),
    Argument(
        "world_model_bundle",
        "world_model",
        "world-model bundle: a name in models/<task>, TASK/NAME, or a directory",
    ),
    Argument("real_time_factor", "1.0", "pace of the simulator; 0: as fast as possible"),
)


@dataclass(frozen=True)
class NodeSpec:
    """One process of the graph."""

    executable: str
    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    namespace: str = ""  # below the graph's
    remappings: tuple[tuple[str, str], ...] = ()
    respawn: int = MAX_RESPAWN  # times that it is started again after it died
    managed: bool = (
        True  # a lifecycle node that the supervisor configures and activates, in the graph's order
    )
    idle_on_loss: bool = False  # deactivated when any other node is lost: it asks for motion
    latched_on_loss: bool = False  # starts latched (parameter `latched`) when its process was lost
    renewed_with: tuple[str, ...] = ()  # set up anew when one of these nodes was lost
    command: tuple[str, ...] = ()  # started instead of lib/physai/<executable>


@dataclass(frozen=True)
class Graph:
    """The processes in the order in which they are configured and activated."""

    nodes: tuple[NodeSpec, ...]
    namespace: str = ""
    log_level: str = "info"

    def namespace_of(self, spec: NodeSpec) -> str:
        """A node's whole namespace, without the leading slash."""
        return f"{self.namespace}/{spec.namespace}".strip("/")

    def node(self, name: str) -> NodeSpec:
        """The node of that name."""
        for spec in self.nodes:
            if spec.name == name:
                return spec
        raise KeyError(name)


def bringup_graph(**given: Any) -> Graph:
    """The graph for the given ARGUMENTS, each as text or as its natural type; the rest have their defaults.

    Raises:
        GraphError: an unknown argument, or a value that is not among its choices.
    """
    values = {argument.name: argument.default for argument in ARGUMENTS}
    for name, value in given.items():
        if name not in values:
            raise GraphError(f"there is no argument {name!r}; there are: {', '.join(values)}")
        values[name] = str(value).lower() if isinstance(value, bool) else str(value)
    for argument in ARGUMENTS:
        if argument.choices and values[argument.name] not in argument.choices:
            raise GraphError(
                f"{argument.name} must be one of {', '.join(argument.choices)}; got {values[argument.name]!r}"
            )
    try:
        real_time_factor = float(values["real_time_factor"])
    except ValueError:
        raise GraphError(f"real_time_factor must be a number, got {values['real_time_factor']!r}") from None
    for name in ("namespace", "clock"):
        _check_name(name, values[name])
    _settle(values)
    sim, world_model, shadow = values["sim"] != "none", values["world_model"], values["mode"] == "shadow"
    if sim and values["use_sim_time"] == "false":
        raise GraphError(
            "use_sim_time:=false with sim:=mujoco would mix two clocks: the cell's time is simulated"
        )
    time = {"use_sim_time": sim if values["use_sim_time"] == "auto" else values["use_sim_time"] == "true"}
    robot = {"robot": values["robot"], **time}
    cell = {**robot, "task": values["task"]}
    nodes = []
    if sim:
        # The clock's own node must not wait for the clock.
        pace = {"robot": values["robot"], "task": values["task"], "real_time_factor": real_time_factor}
        nodes.append(NodeSpec("sim", "sim", pace))
    if values["control"] != "none":
        # Verdicts on a shadow's chunks say nothing about the chunks of whoever moves the robot.
        gate = "off" if shadow else world_model
        renewed = ("sim",) if sim else ()
        latched = {"latched": values["latched"]} if values["latched"] else {}
        parameters = {**robot, "world_model": gate, "tf": values["tf"], **latched}
        nodes.append(NodeSpec("control", "control", parameters, latched_on_loss=True, renewed_with=renewed))
    if values["perception"] != "none" and values["task"] != NONE:
        nodes.append(NodeSpec("perception", "perception", cell))
    learned = []
    if world_model != "off":
        bundle = {"bundle": values["world_model_bundle"]}
        learned.append(NodeSpec("world_model", "world_model", {**cell, **bundle}, idle_on_loss=True))
    if values["policy"] != NONE:
        policy = {"bundle": values["policy"]}
        policy |= {name: values[name] for name in ("mode", "runtime", "precision", "method", "handover")}
        learned.append(NodeSpec("policy", "policy", {**cell, **policy}, idle_on_loss=True))
    namespace = values["namespace"].strip("/")
    if shadow:
        learned.insert(0, NodeSpec("shadow", "recorder", time))
        learned = [_in_shadow(spec, namespace) for spec in learned]
    note = {} if values["policy"] != NONE else {"note": NO_POLICY}
    graph = with_supervisor(Graph((*nodes, *learned), namespace, values["log_level"]), {**robot, **note})
    clock = values["clock"] if values["clock"].startswith("/") else f"/{namespace}/{values['clock']}"
    return _on_clock(graph, clock.replace("//", "/"))


def _settle(values: dict[str, str]) -> None:
    """Put what `auto` stands for in its place.

    Raises:
        GraphError: what is asked for cannot be without something that is not.
    """
    without_policy = values["policy"] == NONE
    if values["task"] == AUTO:
        values["task"] = NONE if without_policy else defaults()["task"]
    if values["world_model"] == AUTO:
        values["world_model"] = "off" if without_policy else "veto"
    if values["task"] == NONE and not without_policy:
        raise GraphError(f"a policy needs a task: give one, or policy:={NONE}, too")
    if values["task"] == NONE and values["world_model"] != "off":
        raise GraphError("the world model needs a task: give one, or world_model:=off, too")
    several = [name.strip() for name in values["task"].split(",")]
    if len(several) > 1 and NONE in several:
        raise GraphError(f"task {values['task']!r}: none is no task among others")
    if len(several) > 1 and values["mode"] == SHADOW:
        raise GraphError(
            f"task {values['task']!r}: in shadow mode there is one, since what moves the robot says what stands there"
        )
    if without_policy and values["mode"] == "shadow":
        raise GraphError(
            "in shadow mode it is a policy that runs beside the robot: give one, or leave out mode:=shadow"
        )


def _check_name(argument: str, value: str) -> None:
    """Raises GraphError where ROS has no such name; a namespace may be empty."""
    words = value.strip("/").split("/")
    good = all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", word) for word in words)
    if argument == "namespace" and not value.strip("/"):
        return
    if not good or len(value) > LONGEST_NAME:
        raise GraphError(
            f"{argument} must be words of letters, digits and _, none beginning with a digit, joined by /, of at most "
            f"{LONGEST_NAME} characters in all; got {value[:80]!r}"
        )


def _on_clock(graph: Graph, clock: str) -> Graph:
    """The graph whose nodes listen to that topic for simulated time; left to itself each takes its namespace's `clock`."""
    return replace(
        graph,
        nodes=tuple(
            spec
            if f"/{graph.namespace_of(spec)}/clock".replace("//", "/") == clock
            else replace(spec, remappings=(*spec.remappings, ("clock", clock)))
            for spec in graph.nodes
        ),
    )


def _in_shadow(spec: NodeSpec, namespace: str) -> NodeSpec:
    """The node in the namespace SHADOW, where it sees what it needs of the robot and reaches nothing of it."""
    outside = f"/{namespace}".rstrip("/")
    inside = f"{outside}/{SHADOW}"
    remappings = (
        *((name, f"{outside}/{name}") for name in SHADOW_INPUTS.get(spec.name, ())),
        *((f"{outside}/{name}", f"{inside}/{name}") for name in COMMANDS if spec.name in SHADOW_INPUTS),
    )
    return replace(spec, namespace=SHADOW, remappings=remappings)


def with_supervisor(graph: Graph, parameters: Mapping[str, Any] | None = None) -> Graph:
    """The graph with a supervisor for its managed nodes at the end."""
    managed = [spec for spec in graph.nodes if spec.managed]
    places = {spec.namespace for spec in managed}
    place = places.pop() if len(places) == 1 else ""
    names = {spec.name: f"{spec.namespace}/{spec.name}".removeprefix(f"{place}/") for spec in managed}
    supervised = {
        "nodes": [names[spec.name] for spec in managed],
        "idle_on_loss": [names[spec.name] for spec in managed if spec.idle_on_loss] or [""],
        "latched_on_loss": [names[spec.name] for spec in managed if spec.latched_on_loss] or [""],
        "renewed_with": [f"{spec.name}:{other}" for spec in managed for other in spec.renewed_with] or [""],
        **(parameters or {}),
    }
    supervisor = NodeSpec("supervisor", "supervisor", supervised, place, respawn=0, managed=False)
    return Graph((*graph.nodes, supervisor), graph.namespace, graph.log_level)


def hardware_id(robot: str, namespace: str) -> str:
    """What a status on `/diagnostics` is about: the robot, below its namespace; without one this computer.

    `robot` is a robot's name or its file. A shadow's robot is that of the namespace around it.
    """
    if not robot:
        return socket.gethostname()
    place = namespace.strip("/").removesuffix(SHADOW).strip("/")
    name = Path(robot).stem if robot.endswith((".yaml", ".yml")) else robot
    return f"{place}/{name}".strip("/")


def middleware_environment(profile: str) -> dict[str, str]:
    """Environment variables that give Fast DDS its profile; a variable of the wrong version makes it warn."""
    import os

    old = os.environ.get("ROS_DISTRO") in ("humble", "iron", "jazzy")  # Fast DDS before 3
    return {"FASTRTPS_DEFAULT_PROFILES_FILE" if old else "FASTDDS_DEFAULT_PROFILES_FILE": profile}


def ros_arguments(spec: NodeSpec, graph: Graph) -> list[str]:
    """The `--ros-args …` that give a process its name, namespace, log level, parameters and remappings."""
    arguments = ["--ros-args", "-r", f"__node:={spec.name}", "--log-level", graph.log_level]
    if graph.namespace_of(spec):
        arguments += ["-r", f"__ns:=/{graph.namespace_of(spec)}"]
    for old, new in spec.remappings:
        arguments += ["-r", f"{old}:={new}"]
    for name, value in spec.parameters.items():
        arguments += ["-p", f"{name}:={_yaml(value)}"]
    return arguments


def _yaml(value: Any) -> str:
    """A value as YAML in one word; text is always quoted, since YAML would read `off` as a boolean."""
    import json

    if isinstance(value, list | tuple):
        return f"[{', '.join(_yaml(item) for item in value)}]"
    return json.dumps(value)
