"""A dataclass becomes ROS parameters with descriptors, and comes back checked."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import rclpy
from rclpy.parameter import Parameter

from physai_ros import parameters

pytestmark = pytest.mark.ros
NODES = [f"physai_{layer}.node" for layer in ("sim", "control", "perception", "world_model", "policy")]
NODES += ["physai_ros.supervisor", "physai_ros.shadow"]


@dataclass(frozen=True)
class Base:
    period_s: float = field(
        default=0.2, metadata={"unit": "s", "range": (0.02, 1.0), "description": "between plans"}
    )


@dataclass(frozen=True)
class Example(Base):
    mode: str = field(default="veto", metadata={"choices": ("off", "veto")})
    threads: int = field(default=1, metadata={"range": (1, 64)})
    fast: bool = False
    names: tuple[str, ...] = ("a", "b")
    gains: tuple[float, ...] = field(default=(1.0, 2.0), metadata={"range": (0.0, 10.0)})

    def __post_init__(self) -> None:
        if self.fast and self.threads > 8:
            raise ValueError("fast needs at most 8 threads")


@pytest.fixture
def context() -> Iterator[Any]:
    context = rclpy.Context()
    rclpy.init(context=context)
    yield context
    context.try_shutdown()


def read(context: Any, **overrides: Any) -> Example:
    node = rclpy.create_node(
        "example",
        context=context,
        parameter_overrides=[Parameter(name, value=value) for name, value in overrides.items()],
    )
    try:
        parameters.declare(node, Example)
        return parameters.read(node, Example)
    finally:
        node.destroy_node()


def test_defaults_are_the_dataclass_s(context: Any) -> None:
    assert read(context) == Example()


def test_overrides_are_typed(context: Any) -> None:
    changed = read(context, mode="off", threads=4, fast=True, names=["c"], gains=[3.0], period_s=0.5)
    assert changed == Example(0.5, "off", 4, True, ("c",), (3.0,))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"mode": "on"}, "mode: must be one of off, veto; got 'on'"),
        ({"period_s": 2.0}, "period_s"),
        ({"period_s": math.nan}, "period_s.*nan"),
        ({"period_s": 1}, "period_s must be of type double: write period_s:=1.0"),
        ({"threads": 65}, "threads"),
        ({"threads": "many"}, "threads must be of type integer"),
        ({"gains": [1.0, 11.0]}, r"gains: must be within \[0, 10\], got 11.0"),
        ({"fast": True, "threads": 9}, "at most 8 threads"),
    ],
)
def test_what_is_wrong_is_named(context: Any, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(parameters.ParameterError, match=message):
        read(context, **overrides)


def test_a_choice_that_yaml_reads_as_a_boolean_is_the_word_it_was(context: Any) -> None:
    """`mode:=off` on a command line is a boolean for YAML."""
    assert read(context, mode=False).mode == "off"
    with pytest.raises(
        parameters.ParameterError, match="mode must be of type string: YAML read True; quote it"
    ):
        read(context, mode=True)
    node = rclpy.create_node("example", context=context)
    parameters.declare(node, Example)
    assert node.set_parameters([Parameter("mode", value=False)])[0].successful
    assert parameters.read(node, Example).mode == "off"
    node.destroy_node()


def test_all_that_is_wrong_is_told_at_once(context: Any) -> None:
    with pytest.raises(parameters.ParameterError) as caught:
        read(context, mode="maybe", threads=65, fast="very", gains=[11.0])
    for name in ("mode", "threads", "fast", "gains"):
        assert f"parameter {name}" in str(caught.value)


def test_descriptors_say_unit_and_range(context: Any) -> None:
    node = rclpy.create_node("example", context=context)
    parameters.declare(node, Example)
    descriptor = node.describe_parameter("period_s")
    assert descriptor.description == "between plans [s]"
    assert descriptor.floating_point_range[0].to_value == 1.0
    assert node.describe_parameter("mode").additional_constraints == "one of: off, veto"
    node.destroy_node()


@pytest.mark.parametrize(
    ("given", "meant"),
    [("perod_s", "period_s"), ("thread", "threads"), ("gaines", "gains"), ("Threads", "threads")],
)
def test_a_misspelt_parameter_is_refused_with_the_one_that_is_meant(
    context: Any, given: str, meant: str
) -> None:
    """rclpy takes it without a word, and what was to be set keeps its default: a guard, say."""
    with pytest.raises(parameters.ParameterError, match=f"no parameter {given}; {meant} is meant"):
        read(context, **{given: 1.0, "names": ["x"]})


def test_a_parameter_of_another_node_is_told_and_no_error(context: Any, capfd: Any) -> None:
    """A file of parameters for `/**` is one for all nodes."""
    assert read(context, threads=2, wheels=4).threads == 2
    assert "no parameters of this node: wheels" in "".join(capfd.readouterr())


def test_no_parameter_of_one_node_is_taken_for_a_misspelt_one_of_another() -> None:
    types = [
        getattr(module, name)
        for module in map(importlib.import_module, NODES)
        for name in dir(module)
        if name.endswith("Parameters") and dataclasses.is_dataclass(getattr(module, name))
    ]
    assert len(set(types)) >= len(NODES)
    own = [{item.name for item in dataclasses.fields(each)} for each in types]
    everything = set().union(*own)
    for names in own:
        for other in everything - names:
            assert not difflib.get_close_matches(other, names, n=1, cutoff=parameters.MISSPELT), other
