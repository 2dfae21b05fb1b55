"""A node's parameters are one frozen dataclass; this declares its fields to ROS and reads them back.

    @dataclass(frozen=True)
    class Settings:
        rate_hz: float = field(default=15.0, metadata={"unit": "Hz", "range": (1.0, 60.0), "description": "of scenes"})
        mode: str = field(default="veto", metadata={"choices": ("off", "veto")})

Types: bool, int, float, str, and tuples of int, float or str. Checks between fields belong into the
dataclass's `__post_init__`.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import typing
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from physai_base.errors import PhysaiError

T = TypeVar("T")
MISSPELT = 0.85  # no two of our nodes' parameters are so alike, which a test holds

_TYPES: dict[Any, Parameter.Type] = {
    bool: Parameter.Type.BOOL,
    int: Parameter.Type.INTEGER,
    float: Parameter.Type.DOUBLE,
    str: Parameter.Type.STRING,
    tuple[int, ...]: Parameter.Type.INTEGER_ARRAY,
    tuple[float, ...]: Parameter.Type.DOUBLE_ARRAY,
    tuple[str, ...]: Parameter.Type.STRING_ARRAY,
}


class ParameterError(PhysaiError):
    """A parameter of the wrong type, outside its range or misspelt."""


def declare(node: Node, parameters_type: type[Any]) -> None:
    """Declare every field with its default, unit, range and description; overrides of the start are checked.

    Raises:
        ParameterError: overrides of the wrong type, outside their range, not among their choices or misspelt; it names
            them all.
    """
    wrong = []
    own = _fields(parameters_type)
    for name, kind, item in own:
        default = item.default
        if default is dataclasses.MISSING:
            raise TypeError(f"{parameters_type.__name__}.{name} needs a default")
        value = list(default) if isinstance(default, tuple) else default
        given = node._parameter_overrides.get(name)
        if given is not None:
            given = as_spelled(given, item.metadata)
            reason = _reason_against_override(given, kind, item.metadata)
            if reason:
                wrong.append(f"parameter {name}{reason}")
            else:
                value = given.value
        node.declare_parameter(name, value, _descriptor(name, kind, item.metadata), ignore_override=True)
    wrong += _misspelt(node, [name for name, _, _ in own])
    if wrong:
        raise ParameterError("; ".join(wrong))
    metadata = {name: item.metadata for name, _, item in own}
    if hasattr(node, "add_pre_set_parameters_callback"):  # not in ROS 2 before Iron
        node.add_pre_set_parameters_callback(
            lambda changed: [as_spelled(one, metadata.get(one.name, {})) for one in changed]
        )


def _misspelt(node: Node, own: list[str]) -> list[str]:
    """Overrides that are almost one of the node's, which would keep its default; of others the log tells.

    A file of parameters may be one for several nodes, so a name that is none here is no error by itself.
    """
    unknown = [
        name
        for name in node._parameter_overrides
        if not node.has_parameter(name) and not name.startswith("qos_overrides.")
    ]
    meant = {name: difflib.get_close_matches(name, own, n=1, cutoff=MISSPELT) for name in unknown}
    strange = [name for name, near in meant.items() if not near]
    if strange:
        node.get_logger().warning(f"given, and no parameters of this node: {', '.join(strange)}")
    return [f"there is no parameter {name}; {near[0]} is meant?" for name, near in meant.items() if near]


_SPELLINGS = {True: ("on", "yes", "true", "y"), False: ("off", "no", "false", "n")}


def as_spelled(given: Parameter[Any], metadata: typing.Mapping[str, Any]) -> Parameter[Any]:
    """A choice that YAML read as a boolean, `world_model:=off`, as the word that it must have been."""
    if given.type_ is not Parameter.Type.BOOL:
        return given
    words = [word for word in _SPELLINGS[given.value] if word in metadata.get("choices", ())]
    return Parameter(given.name, Parameter.Type.STRING, words[0]) if words else given


def _reason_against_override(given: Parameter[Any], kind: Any, metadata: typing.Mapping[str, Any]) -> str:
    if given.type_ is not _TYPES[kind]:
        hint = ""
        if kind is float and given.type_ is Parameter.Type.INTEGER:
            hint = f": write {given.name}:={given.value}.0, not {given.name}:={given.value}"
        elif kind is str:
            hint = f": YAML read {given.value!r}; quote it twice, as in {given.name}:=\"'text'\""
        return f" must be of type {_TYPES[kind].name.lower()}{hint or f', got {given.value!r}'}"
    value = tuple(given.value) if typing.get_origin(kind) is tuple else given.value
    reason = reason_against(value, metadata)
    return f": {reason}" if reason else ""


def read(node: Node, parameters_type: type[T]) -> T:
    """The dataclass with the declared parameters' present values.

    Raises:
        ParameterError: a value is not finite, outside its range or not among its choices.
    """
    values: dict[str, Any] = {}
    for name, kind, item in _fields(parameters_type):
        value = node.get_parameter(name).value
        values[name] = tuple(value) if typing.get_origin(kind) is tuple else value
        reason = reason_against(values[name], item.metadata)
        if reason:
            raise ParameterError(f"parameter {name}: {reason}")
    try:
        return parameters_type(**values)
    except ValueError as error:
        raise ParameterError(str(error)) from error


def reason_against(value: Any, metadata: typing.Mapping[str, Any]) -> str:
    """Why `value` is not allowed, or nothing."""
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, float) and not math.isfinite(number):
            return f"must be finite, got {number}"
        if "range" in metadata and not metadata["range"][0] <= number <= metadata["range"][1]:
            low, high = metadata["range"]
            unit = f" {metadata['unit']}" if "unit" in metadata else ""
            return f"must be within [{low:g}, {high:g}]{unit}, got {number!r}"
    if "choices" in metadata and value not in metadata["choices"]:
        return f"must be one of {', '.join(map(str, metadata['choices']))}; got {value!r}"
    return ""


def _fields(parameters_type: type[Any]) -> list[tuple[str, Any, dataclasses.Field[Any]]]:
    hints = typing.get_type_hints(parameters_type)
    listed = []
    for item in dataclasses.fields(parameters_type):
        if hints[item.name] not in _TYPES:
            raise TypeError(
                f"{parameters_type.__name__}.{item.name}: {hints[item.name]} cannot be a ROS parameter"
            )
        listed.append((item.name, hints[item.name], item))
    return listed


def _descriptor(name: str, kind: Any, metadata: typing.Mapping[str, Any]) -> ParameterDescriptor:
    text = str(metadata.get("description", name.replace("_", " ")))
    if "unit" in metadata:
        text += f" [{metadata['unit']}]"
    descriptor = ParameterDescriptor(description=text)
    if "choices" in metadata:
        descriptor.additional_constraints = f"one of: {', '.join(map(str, metadata['choices']))}"
    if "range" in metadata:
        low, high = metadata["range"]
        if kind is float:
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=float(low), to_value=float(high))
            ]
        elif kind is int:
            descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    return descriptor
