"""Typed values out of a file of ours, with everything that is wrong reported at once.

Whoever reads a file asks a `Reader` for its entries by name, type and range. What is missing or wrong is noted, a
harmless value stands in, and reading goes on. `finish` then raises one error with all of it: each with its file and
line, a key that nobody asked for with the nearest name that somebody did.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from physai_base.document import DAMAGED, REMOVED, Node, Problem, Unreadable, overlay, read_yaml
from physai_base.errors import PhysaiError, shown

_REQUIRED: Any = object()


def open_yaml(path: Path, error: type[Exception], cure: str = "", *, extends: bool = False) -> Reader:
    """A reader of the mapping in a YAML file.

    With `extends` an entry of that name is another file whose entries stand under this one's (RFC 7396: mappings
    merge, null removes, all else replaces); each entry still knows the file in which it stands.

    Raises:
        error: there is no such file, or it is no YAML mapping.
    """
    try:
        node = _extended(path, ()) if extends else read_yaml(path)
    except Unreadable as reason:
        raise error(str(reason.problem)) from reason
    return Reader.over(node, error, cure)


def _extended(path: Path, extended_by: tuple[Path, ...]) -> Node:
    node = read_yaml(path)
    if not isinstance(node.value, dict):
        raise Unreadable(path, node.line, "must be a mapping")
    if "extends" not in node.value:
        return node
    line, name = node.key_lines["extends"], node.value["extends"].value
    if not isinstance(name, str) or not name:
        raise Unreadable(path, line, f"extends: must be text, got {shown(node.value['extends'].plain())}")
    base_path = path.parent / name
    if not os.path.isfile(base_path):  # False also for a name that no file can have
        raise Unreadable(
            path, line, f"extends: no such file: {base_path}; give its path, in full or from {path.parent}"
        )
    if os.path.realpath(base_path) in map(os.path.realpath, (path, *extended_by)):
        raise Unreadable(path, line, f"extends: {base_path} extends itself")
    base = _extended(base_path, (path, *extended_by))
    own = {key: value for key, value in node.value.items() if key != "extends"}
    return overlay(base, Node(own, path, node.line, node.key_lines, node.damage))


class _Log:
    """What all readers of one file share."""

    def __init__(self, path: Path, error: type[Exception], cure: str) -> None:
        self.path, self.error, self.cure = path, error, cure
        self.problems: list[Problem] = []
        self.readers: list[Reader] = []


class Reader:
    """Takes typed entries out of one mapping of a file."""

    def __init__(self, log: _Log, node: Node | None, where: str = "") -> None:
        """`node` None: the mapping is missing or none, which was said; every entry is then a stand-in."""
        self._log, self._node, self._where = log, node, where
        self._entries: dict[Any, Node] = node.value if node is not None else {}
        self._known: list[Any] = []
        self._bad: set[Any] = set()
        log.readers.append(self)

    @staticmethod
    def over(node: Node, error: type[Exception] = PhysaiError, cure: str = "", where: str = "") -> Reader:
        """A reader of a node; problems are raised as `error`, with `cure` behind them.

        Raises:
            error: the node is no mapping.
        """
        log = _Log(node.path, error, cure)
        log.problems += node.damages(where)
        if not isinstance(node.value, dict):
            wrong = Problem(node.path, node.line, where, f"must be a mapping, got {_kind(node)}")
            raise error(_report(log, log.problems or [wrong]))
        return Reader(log, node, where)

    @property
    def path(self) -> Path:
        """The file."""
        return self._log.path

    @property
    def where(self) -> str:
        """The entry's name, as `control.contact`; empty for the file itself."""
        return self._where

    def plain(self) -> dict[Any, Any]:
        """The mapping as built-in types."""
        return {key: node.plain() for key, node in self._entries.items() if node.value is not REMOVED}

    # What is wrong ------------------------------------------------------------------------------------------

    def fail(self, key: Any, message: str, node: Node | None = None, *, missing: bool = False) -> None:
        """Note that an entry is wrong; `finish` raises it."""
        self._bad.add(key)
        at = node or self._entries.get(key) or self._node
        line = 0 if at is None else at.line
        if node is None and self._node is not None:
            line = self._node.key_lines.get(key, line)
        path = at.path if at else self._log.path
        self._log.problems.append(Problem(path, line, self._name(key), message, missing))

    def good(self, *keys: Any) -> bool:
        """Whether nothing was found wrong with these entries, so that they may be compared."""
        return self._node is not None and not self._bad.intersection(keys)

    @property
    def clean(self) -> bool:
        """Whether nothing at all was found wrong so far in this file."""
        return not self._log.problems

    def finish(self) -> None:
        """Raise what was found wrong in the whole file, unknown keys among it; nothing: return.

        Raises:
            Exception: of the type that the reader was opened with.
        """
        problems = list(self._log.problems)
        for reader in self._log.readers:
            problems = reader._unknown(problems)
        if problems:
            raise self._log.error(_report(self._log, problems))

    def _unknown(self, problems: list[Problem]) -> list[Problem]:
        """`problems` and the keys that nobody asked for; one that was meant by such a key is not missing as well."""
        for key, node in self._entries.items():
            if key in self._known:
                continue
            line = self._node.key_lines.get(key, node.line) if self._node else node.line
            name = nearest(str(key), self._known)
            if name:
                meant = self._name(name)
                problems = [p for p in problems if not (p.name == meant and p.missing)]
                hint = f"did you mean {name}?"
            else:
                hint = self._elsewhere(str(key)) or f"allowed: {', '.join(map(str, self._known))}"
            problems.append(Problem(node.path, line, self._name(key), f"unknown entry; {hint}"))
        return problems

    def _elsewhere(self, key: str) -> str:
        for reader in self._log.readers:
            if reader is not self and key in reader._known:
                return f"it belongs in {reader._where or 'the file, outside of ' + self._where}"
        return ""

    def _name(self, key: Any) -> str:
        return f"{self._where}.{key}" if self._where and key != "" else str(key) or self._where

    # Scalars ------------------------------------------------------------------------------------------------

    def has(self, key: Any) -> bool:
        """Whether there is such an entry; its name is a known one from now on."""
        self._know(key)
        node = self._entries.get(key)
        return node is not None and node.value is not REMOVED

    def _know(self, key: Any) -> None:
        if key not in self._known:
            self._known.append(key)

    def _take(self, key: Any, default: Any) -> Node | None:
        """The entry's node; None where the default, or a stand-in, is to be taken."""
        if self.has(key):
            node = self._entries[key]
            if node.value is not DAMAGED:
                return node
            self._bad.add(key)
            return None
        if default is _REQUIRED and self._node is not None:
            self.fail(key, "is missing", missing=True)
        return None

    def text(self, key: str, default: str = _REQUIRED) -> str:
        """A text that is not empty."""
        node = self._take(key, default)
        if node is not None and (not isinstance(node.value, str) or not node.value):
            self.fail(key, f"must be text, got {shown(node.plain())}")
            node = None
        if node is None:
            return "?" if default is _REQUIRED else default
        return str(node.value)

    def choice(self, key: str, allowed: Sequence[str], default: str = _REQUIRED) -> str:
        """One of the allowed words."""
        value = self.text(key, default)
        if value not in allowed and self.has(key) and self.good(key):
            near = nearest(value, allowed)
            hint = f"; did you mean {near}?" if near else ""
            self.fail(key, f"must be one of {', '.join(allowed)}, got {shown(value)}{hint}")
        return value if value in allowed or (default is not _REQUIRED and value == default) else allowed[0]

    def flag(self, key: str, default: bool = _REQUIRED) -> bool:
        """True or false."""
        node = self._take(key, default)
        if node is not None and not isinstance(node.value, bool):
            self.fail(key, f"must be true or false, got {shown(node.plain())}")
            node = None
        if node is None:
            return False if default is _REQUIRED else default
        return bool(node.value)

    def number(
        self, key: str, low: float = -math.inf, high: float = math.inf, default: float = _REQUIRED
    ) -> float:
        """A finite number from `low` to `high`."""
        node = self._take(key, default)
        if node is None:
            return _within(low, high) if default is _REQUIRED else default
        value = self._finite(key, node, low, high)
        return _within(low, high) if value is None else value

    def whole(self, key: str, low: int, high: int, default: int = _REQUIRED) -> int:
        """A whole number from `low` to `high`."""
        value = self.number(key, low, high, default)
        if value != int(value):
            self.fail(key, f"must be a whole number, got {value:g}")
        return int(value)

    def _finite(
        self, key: str, node: Node, low: float, high: float, index: int | None = None
    ) -> float | None:
        value, name = node.value, "" if index is None else f"entry {index}: "
        if value is DAMAGED:
            self._bad.add(key)
            return None
        # bool is an int in Python, and YAML reads "yes" as one.
        if isinstance(value, bool) or not isinstance(value, int | float):
            hint = ""
            if isinstance(value, str) and _is_number(value):
                hint = f"; YAML takes that for text, write {_as_yaml(value)}"
            self.fail(key, f"{name}must be a number, got {shown(node.plain())}{hint}", node)
            return None
        if not math.isfinite(value):
            self.fail(key, f"{name}must be finite, got {shown(value)}", node)
            return None
        if not low <= value <= high:
            self.fail(key, f"{name}must be within [{low:g}, {high:g}], got {shown(value)}", node)
            return None
        return float(value)

    def file(self, key: str, default: Path | None = _REQUIRED) -> Path | None:
        """A path, relative to the file in which it stands; whether it exists is not looked at."""
        if default is not _REQUIRED and not self.has(key):
            return default
        name = self.text(key)
        node = self._entries.get(key)
        return (node.path if node is not None else self.path).parent / name

    def anything(self, key: Any, default: Any = _REQUIRED) -> Any:
        """The plain value, whatever it is."""
        node = self._take(key, default)
        if node is None:
            return None if default is _REQUIRED else default
        return node.plain()

    # Lists --------------------------------------------------------------------------------------------------

    def _list(self, key: Any, default: Any, what: str, length: int | None = None) -> list[Node] | None:
        node = self._take(key, default)
        if node is None:
            return None
        if not isinstance(node.value, list) or (length is not None and len(node.value) != length):
            count = "" if length is None else f"{length} "
            self.fail(key, f"must be a list of {count}{what}, got {shown(node.plain())}")
            return None
        return list(node.value)

    def vector(
        self,
        key: Any,
        length: int | None,
        low: float = -math.inf,
        high: float = math.inf,
        default: Sequence[float] = _REQUIRED,
    ) -> np.ndarray:
        """(length,) finite numbers from `low` to `high`; `length` None: as many as there are."""
        nodes = self._list(key, default, "numbers", length)
        if nodes is None:
            stand_in = [_within(low, high)] * (length or 0)
            return np.array(stand_in if default is _REQUIRED or self._is_bad(key) else default, dtype=float)
        values = [self._finite(key, node, low, high, index) for index, node in enumerate(nodes)]
        return np.array([_within(low, high) if value is None else value for value in values], dtype=float)

    def _is_bad(self, key: Any) -> bool:
        return key in self._bad

    def bounds(self, key: str, least: float = -math.inf, most: float = math.inf) -> tuple[float, float]:
        """A lower bound and an upper one above it, both from `least` to `most`."""
        low, high = self.vector(key, 2, least, most)
        if self.good(key) and not low < high:
            self.fail(key, f"the lower bound {low:g} must be below the upper bound {high:g}")
        return (float(low), float(high)) if self.good(key) else (0.0, 1.0)

    def texts(self, key: str, default: Sequence[str] = _REQUIRED) -> tuple[str, ...]:
        """Names that differ."""
        nodes = self._list(key, default, "names")
        if nodes is None:
            return () if default is _REQUIRED else tuple(default)
        values = [node.value for node in nodes]
        if not all(isinstance(value, str) and value for value in values):
            self.fail(key, f"must be a list of names, got {shown([node.plain() for node in nodes])}")
            return ()
        if len(set(values)) != len(values):
            self.fail(key, f"names must differ, got {shown(values)}")
        return tuple(values)

    # Mappings -----------------------------------------------------------------------------------------------

    def section(self, key: str, *, optional: bool = False) -> Reader:
        """A mapping; one that is optional and missing is empty."""
        node = self._take(key, None if optional else _REQUIRED)
        if node is not None and not isinstance(node.value, dict):
            self.fail(key, f"must be a mapping, got {_kind(node)}")
            return Reader(self._log, None, self._name(key))
        if node is None and optional and self.good(key):
            here = self._node.path if self._node is not None else self.path
            return Reader(self._log, Node({}, here), self._name(key))
        return Reader(self._log, node, self._name(key))

    def sections(self, key: str, *, optional: bool = False) -> list[Reader]:
        """A list of mappings, with at least one unless it is optional."""
        nodes = self._list(key, None if optional else _REQUIRED, "mappings")
        if nodes is None:
            return []
        if not nodes and not optional:
            self.fail(key, "must be a list with at least one entry")
        readers = []
        for index, node in enumerate(nodes):
            if not isinstance(node.value, dict):
                self.fail(key, f"entry {index}: must be a mapping, got {_kind(node)}", node)
            readers.append(
                Reader(
                    self._log, node if isinstance(node.value, dict) else None, f"{self._name(key)}[{index}]"
                )
            )
        return readers

    def items(self) -> Iterator[tuple[Any, Node]]:
        """The entries of a mapping whose keys are free: names of joints, of a message's fields, numbers of markers."""
        for key, node in self._entries.items():
            self._know(key)
            if node.value is not REMOVED:
                yield key, node

    def __len__(self) -> int:
        return sum(node.value is not REMOVED for node in self._entries.values())


def _within(low: float, high: float) -> float:
    """A stand-in that satisfies the bounds."""
    return min(max(1.0, low), high)


def _kind(node: Node) -> str:
    return (
        "nothing" if node.value is None else "a list" if isinstance(node.value, list) else shown(node.value)
    )


def nearest(word: str, known: Sequence[str]) -> str:
    """The name that was most likely meant, or nothing."""
    folded = {str(name).lower().replace("-", "_"): str(name) for name in known}
    near = difflib.get_close_matches(word.lower().replace("-", "_"), folded, n=1, cutoff=0.6)
    return folded[near[0]] if near else ""


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _as_yaml(text: str) -> str:
    if "e" not in text.lower():
        return "it without quotation marks"
    mantissa, _, exponent = text.strip().lower().partition("e")
    sign = "" if exponent[:1] in "+-" else "+"
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{sign}{exponent}"


def _report(log: _Log, problems: list[Problem]) -> str:
    """One line for one problem; else a line for each, those of the file itself first."""
    behind = f"; {log.cure}" if log.cure else ""
    ordered = sorted(dict.fromkeys(problems), key=lambda p: (p.path != log.path, str(p.path), p.line, p.name))
    if len(ordered) == 1:
        return f"{ordered[0]}{behind}"
    return "\n  ".join([f"{log.path}: {len(ordered)} things are wrong{behind}:", *map(str, ordered)])
