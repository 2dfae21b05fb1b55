"""Whether ctypes mirrors of C structures are those of the library that is loaded."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

from physai_base.native import LibraryError

_SCALARS = {
    ctypes.c_uint32: "uint32_t", ctypes.c_int32: "int32_t", ctypes.c_uint64: "uint64_t", ctypes.c_int64: "int64_t",
    ctypes.c_double: "double", ctypes.c_float: "float", ctypes.c_char: "char", ctypes.c_void_p: "*",
}  # fmt: skip

_CHECKED: set[tuple[Any, ...]] = set()


def check_layout(
    library: ctypes.CDLL,
    name: str,
    mirrors: Mapping[str, type[ctypes.Structure]],
    numbers: Mapping[str, int] | None = None,
) -> None:
    """Make sure that ctypes mirrors are the structs that the library `name` was compiled with: names in their order,
    types, array shapes, offsets and sizes; and that constants have its values.

    `mirrors` are by the struct's name without `struct`, `numbers` by the name of the enumerator or macro.

    Raises:
        LibraryError: they differ; the message names the first field or number that does.
    """
    checked = (name, library._name, *mirrors.values(), *(numbers or {}).items())
    if checked in _CHECKED:
        return
    structs, values = _layout(library, name)
    names = {mirror: struct for struct, mirror in mirrors.items()}
    for struct, mirror in mirrors.items():
        here = [". struct " + str(ctypes.sizeof(mirror))]
        here += [_field(mirror, field, kind, names) for field, kind, *_ in mirror._fields_]
        there = structs.get(struct, [])
        if here != there:
            at = next((i for i, (a, b) in enumerate(zip(here, there, strict=False)) if a != b), min(len(here), len(there)))  # fmt: skip
            ours, theirs = (lines[at] if at < len(lines) else "nothing" for lines in (here, there))
            raise LibraryError(
                f"lib{name} is of another version than this package: in struct {struct} it has {theirs!r} where the package "
                f"has {ours!r} (field, type, offset, size); build again with `make install`"
            )
    for constant, value in (numbers or {}).items():
        if values.get(constant) != int(value):
            raise LibraryError(
                f"lib{name} is of another version than this package: {constant} is {values.get(constant)} there and "
                f"{int(value)} here; build again with `make install`"
            )
    _CHECKED.add(checked)


def _layout(library: ctypes.CDLL, name: str) -> tuple[dict[str, list[str]], dict[str, int]]:
    """The library's own table: fields of each struct, and numbers; see physai_control/core/cmake/layout.py."""
    structs: dict[str, list[str]] = {}
    values: dict[str, int] = {}
    text, line = ctypes.create_string_buffer(512), 0
    try:
        read = getattr(library, f"{name}_layout")
    except AttributeError:
        return structs, values
    while read(ctypes.c_int(line), text, ctypes.c_size_t(len(text))) >= 0:
        kind, what, rest = text.value.decode().split(" ", 2)
        if kind == "struct":
            structs.setdefault(what, []).append(
                rest if not rest.startswith(". ") else rest.replace(" 0 ", " ")
            )
        else:
            values[what] = int(rest)
        line += 1
    return structs, values


def _field(
    mirror: type[ctypes.Structure], field: str, kind: Any, names: Mapping[type[ctypes.Structure], str]
) -> str:
    shape = ""
    at = getattr(mirror, field)
    while isinstance(kind, type) and issubclass(kind, ctypes.Array):
        shape += f"[{kind._length_}]"
        kind = kind._type_
    word = _SCALARS.get(kind) or f"struct_{names.get(kind, kind.__name__)}"
    return f"{field} {word}{shape} {at.offset} {at.size}"
