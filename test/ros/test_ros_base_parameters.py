"""A dataclass becomes ROS parameters with descriptors, and comes back checked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import rclpy
from rclpy.parameter import Parameter

from physai_ros import parameters

pytestmark = pytest.mark.ros


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


def test_descriptors_say_unit_and_range(context: Any) -> None:
    node = rclpy.create_node("example", context=context)
    parameters.declare(node, Example)
    descriptor = node.describe_parameter("period_s")
    assert descriptor.description == "between plans [s]"
    assert descriptor.floating_point_range[0].to_value == 1.0
    assert node.describe_parameter("mode").additional_constraints == "one of: off, veto"
    node.destroy_node()
