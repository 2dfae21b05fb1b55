"""What decides something reads a number, never a sentence: the causes are the same in C, in the message and in Python."""

from __future__ import annotations

import ast
import re

import pytest
from paths import ROOT

from physai.msg import ControlStatus
from physai_base.values import ControlCause, ControlState

HEADER = ROOT / "physai_control/core/include/physai_control.h"
SENTENCES = {"cause", "final_cause", "last_rejection", "message", "detail", "reason"}
SEARCHES = ("startswith", "endswith", "find", "index")
# Texts of a server's protocol; that a trial's own reason matches; that the same file has written.
ALLOWED = {"physai_policy/remote", "physai_lab/faults/chunks.py", "physai_base/reader.py"}


def c_enum(name: str, prefix: str) -> dict[str, int]:
    """Names and numbers of an enum of the core."""
    body = re.search(rf"enum {name} \{{(.*?)\}};", HEADER.read_text(), re.DOTALL)
    assert body
    values: dict[str, int] = {}
    for word, number in re.findall(rf"{prefix}(\w+)(?: = (\d+))?,", body[1]):
        values[word] = int(number) if number else (max(values.values()) + 1)
    return values


@pytest.mark.parametrize(
    ("name", "prefix", "python", "mark"),
    [
        ("physai_cause", "PHYSAI_CAUSE_", ControlCause, "CAUSE_"),
        ("physai_control_state", "PHYSAI_", ControlState, ""),
    ],
)
def test_core_message_and_values_number_alike(name: str, prefix: str, python: type, mark: str) -> None:
    core = c_enum(name, prefix)
    assert len(core) > 5
    ours = {item.name: int(item) for item in python}  # type: ignore[var-annotated]
    assert {word: ours[word] for word in core} == core
    assert {word: getattr(ControlStatus, mark + word) for word in ours} == ours


def decides_by_a_sentence(tree: ast.AST) -> list[int]:
    """Lines on which a piece of text is looked for in a cause, a message or a reason."""

    def said(node: ast.AST) -> bool:
        return isinstance(node, ast.Attribute) and node.attr in SENTENCES

    def text(node: ast.AST) -> bool:
        # One word may be a value of a choice; a sentence has several, or is looked for inside of another.
        return isinstance(node, ast.Constant) and isinstance(node.value, str) and bool(node.value)

    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and any(map(said, [node.left, *node.comparators])):
            inside = any(isinstance(op, ast.In | ast.NotIn) for op in node.ops) and text(node.left)
            equal = any(text(side) and " " in side.value for side in [node.left, *node.comparators])  # type: ignore[attr-defined]
            if inside or equal:
                lines.append(node.lineno)
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Attribute) and said(called.value) and called.attr in SEARCHES:
            lines.append(node.lineno)  # type: ignore[attr-defined]
    return lines


def test_nothing_decides_by_a_sentence() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for package in ROOT.glob("physai_*")
        for path in package.rglob("*.py")
        if not any(str(path.relative_to(ROOT)).startswith(place) for place in ALLOWED)
        for line in decides_by_a_sentence(ast.parse(path.read_text()))
    ]
    # The text also carries the cycle, and a trial checks that it does; what it decides by is the number.
    assert [place for place in wrong if not place.startswith("physai_lab/faults/trial.py")] == []


def test_a_sentence_in_a_condition_is_found() -> None:
    for source in (
        "x = status.cause.startswith('stop requested')",
        "x = 'expired' in status.cause",
        "x = message.message == 'not ready'",
    ):
        assert decides_by_a_sentence(ast.parse(source)), source
    assert not decides_by_a_sentence(ast.parse("x = status.cause_code == 3 and bundle.reason == 'ok'"))
