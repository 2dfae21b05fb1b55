"""Mirrors of C structures are those of the library that is loaded: field by field, not by their size."""

from __future__ import annotations

import ast
import ctypes as C
import importlib
import importlib.util
from itertools import pairwise
from typing import Any

import pytest
from paths import ROOT

from physai_base.layout import check_layout
from physai_base.native import LibraryError, load_library

LIBRARIES = {
    "physai_control.structures": ("physai_control", "physai_control"),
    "physai_base.inverse_kinematics": ("physai_control", "physai_control"),
    "physai_sim.plant": ("physai_sim", "physai_plant"),
    "physai_sim.inject": ("physai_sim", "physai_plant"),
    "physai_sim.bridge": ("physai_sim", "physai_bridge"),
}


def mirrors() -> list[Any]:
    return [
        pytest.param(module, struct, id=f"{module}-{struct}")
        for module in LIBRARIES
        for struct in importlib.import_module(module).MIRRORS
    ]


def changed(mirror: type[C.Structure], fields: list[Any]) -> type[C.Structure]:
    return type(mirror.__name__, (C.Structure,), {"_fields_": fields})


def check(module: str, struct: str, mirror: type[C.Structure], numbers: dict[str, int] | None = None) -> None:
    folder, name = LIBRARIES[module]
    all_of_it = {**importlib.import_module(module).MIRRORS, struct: mirror}
    check_layout(load_library(folder, name), name, all_of_it, numbers)


def test_every_mirror_is_checked() -> None:
    found = set()
    for path in sorted(ROOT.glob("physai_*/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and any(
                "Structure" in ast.unparse(base) for base in node.bases
            ):
                found.add((".".join(path.relative_to(ROOT).with_suffix("").parts), node.name))
    checked = {
        (mirror.__module__, mirror.__name__)
        for module in LIBRARIES
        for mirror in importlib.import_module(module).MIRRORS.values()
    }
    assert len(found) > 15
    assert found == checked


@pytest.mark.parametrize(("module", "struct"), mirrors())
def test_a_mirror_with_any_two_fields_swapped_is_refused(module: str, struct: str) -> None:
    mirror = importlib.import_module(module).MIRRORS[struct]
    fields = list(mirror._fields_)
    check(module, struct, mirror)
    assert len(fields) > 2
    for first, second in pairwise(range(len(fields))):
        swapped = list(fields)
        swapped[first], swapped[second] = swapped[second], swapped[first]
        with pytest.raises(LibraryError, match=f"struct {struct}"):
            check(module, struct, changed(mirror, swapped))
    with pytest.raises(LibraryError, match=f"struct {struct}"):
        check(module, struct, changed(mirror, fields[:-1]))


@pytest.mark.parametrize(("module", "struct"), mirrors())
def test_a_mirror_with_a_field_of_another_type_of_the_same_size_is_refused(module: str, struct: str) -> None:
    other = {
        C.c_double: C.c_int64, C.c_uint64: C.c_int64, C.c_int64: C.c_uint64, C.c_uint32: C.c_int32, C.c_int32: C.c_uint32,
        C.c_float: C.c_int32,
    }  # fmt: skip
    mirror = importlib.import_module(module).MIRRORS[struct]
    tried = 0
    for index, (name, kind) in enumerate(mirror._fields_):
        if kind not in other:
            continue
        fields = list(mirror._fields_)
        fields[index] = (name, other[kind])
        with pytest.raises(LibraryError, match=name):
            check(module, struct, changed(mirror, fields))
        tried += 1
    assert tried


def test_an_array_of_the_same_size_and_another_shape_is_refused() -> None:
    from physai_base.hardware_structures import MAX_JOINTS
    from physai_control.structures import MAX_STEPS, Chunk

    fields = [
        (name, (C.c_double * MAX_STEPS) * MAX_JOINTS if name == "values" else kind)
        for name, kind in Chunk._fields_
    ]
    with pytest.raises(LibraryError, match=r"values double\[128\]\[32\]"):
        check("physai_control.structures", "physai_chunk", changed(Chunk, fields))


@pytest.mark.parametrize("module", LIBRARIES)
def test_a_number_that_the_library_has_otherwise_is_refused(module: str) -> None:
    numbers = importlib.import_module(module).NUMBERS
    struct, mirror = next(iter(importlib.import_module(module).MIRRORS.items()))
    assert numbers
    for name, value in numbers.items():
        with pytest.raises(LibraryError, match=name):
            check(module, struct, mirror, {**numbers, name: value + 1})


def test_a_library_without_a_table_is_refused() -> None:
    module = importlib.import_module("physai_control.structures")
    with pytest.raises(LibraryError, match="another version"):
        check_layout(C.CDLL(None), "physai_control", module.MIRRORS)


def test_the_benchmarks_mirror_is_that_of_its_header() -> None:
    spec = importlib.util.spec_from_file_location("layout", ROOT / "physai_control/core/cmake/layout.py")
    assert spec and spec.loader
    layout = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(layout)
    there = dict(layout.structs((ROOT / "test/bench/pinocchio/terms.h").read_text()))["terms_arm"]
    tree = ast.parse((ROOT / "test/bench/bench_cycle.py").read_text())
    (arm,) = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == "_Arm"]
    (fields,) = [node.value for node in arm.body if isinstance(node, ast.Assign)]
    assert isinstance(fields, ast.List)
    here = []
    for item in fields.elts:
        assert isinstance(item, ast.Tuple)
        name, kind = item.elts
        words = ast.unparse(kind)
        here.append((ast.literal_eval(name), "int" if "c_int" in words else "double", words.count("*")))
    assert here == there
