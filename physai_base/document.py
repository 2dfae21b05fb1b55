"""YAML and JSON as nodes that know their file and line, so that whatever is wrong can be shown where it stands.

`read_yaml` and `read_json` give a `Node`; `physai_base.reader` takes typed values out of one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from json.decoder import JSONDecodeError, scanstring  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES, MAX_ENTRIES, MAX_DEPTH = 1 << 20, 20_000, 50  # of a file that a person writes
_WORD, _MAPPING, _SEQUENCE = "tag:yaml.org,2002:", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"


REMOVED = object()
"""What a `null` leaves in an overlay: there is no such entry, though its key is to be a known one."""
DAMAGED = object()
"""Instead of a scalar that is none."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a file."""

    path: Path
    line: int  # from 1 on; 0: unknown
    name: str  # of the entry, as `control.contact.force`; empty: the file as a whole
    message: str
    missing: bool = False  # it is not there

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else str(self.path)
        return f"{place}: {self.name}: {self.message}" if self.name else f"{place}: {self.message}"


class Unreadable(Exception):
    """Nothing can be taken out of a file; `problem` says why."""

    def __init__(self, path: Path, line: int, message: str) -> None:
        super().__init__(message)
        self.problem = Problem(path, line, "", message)


@dataclass(frozen=True)
class Node:
    """A value of a file: a scalar, a list of nodes, or a mapping of key → node."""

    value: Any
    path: Path
    line: int = 0
    key_lines: dict[Any, int] = field(default_factory=dict)  # of a mapping
    damage: tuple[Problem, ...] = ()  # keys that occur twice, scalars that are none

    @staticmethod
    def of(value: Any, path: Path) -> Node:
        """A plain Python value as a node without lines."""
        if isinstance(value, dict):
            return Node({key: Node.of(item, path) for key, item in value.items()}, path)
        if isinstance(value, list | tuple):
            return Node([Node.of(item, path) for item in value], path)
        return Node(value, path)

    def damages(self, name: str = "") -> Iterator[Problem]:
        """What is damaged in it, with the names of the entries."""
        for problem in self.damage:
            full = ".".join(filter(None, (name, problem.name)))
            yield Problem(problem.path, problem.line, full, problem.message)
        if isinstance(self.value, dict):
            for key, node in self.value.items():
                yield from node.damages(f"{name}.{key}" if name else str(key))
        elif isinstance(self.value, list):
            for index, node in enumerate(self.value):
                yield from node.damages(f"{name}[{index}]")

    def plain(self) -> Any:
        """The Python value, of built-in types alone."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items() if node.value is not REMOVED}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


def read_bytes(path: Path, limit: int = MAX_BYTES) -> bytes:
    """The file's bytes.

    Raises:
        Unreadable: there is none, or it is larger than `limit`.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError as error:
        raise Unreadable(path, 0, "no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise Unreadable(path, 0, f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > limit:
        raise Unreadable(path, 0, f"is larger than {limit} bytes, which no such file is")
    return data


def _text(data: bytes, path: Path, format: str) -> str:
    """The file's text, without a byte order mark.

    Raises:
        Unreadable: it is not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        how = (
            "it is UTF-16"
            if data[:2] in (b"\xff\xfe", b"\xfe\xff")
            else f"byte {data[error.start]:#x} is not UTF-8"
        )
        raise Unreadable(path, line, f"cannot be read as {format}: {how}; save it as UTF-8") from error


# YAML -------------------------------------------------------------------------------------------------------


def read_yaml(path: Path, limit: int = MAX_BYTES, entries: int = MAX_ENTRIES) -> Node:
    """The YAML document in a file of at most `limit` bytes and `entries` entries.

    Raises:
        Unreadable: it is missing, is no YAML, or aliases make it stand for a document without end.
    """
    text = _text(read_bytes(path, limit), path, "YAML")
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = ", ".join(filter(None, (error.context, error.problem)))
        if r"'\t'" in reason:
            reason += "; YAML takes spaces, no tabs"
        raise Unreadable(path, mark.line + 1 if mark else 0, f"cannot be read as YAML: {reason}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        reason = f"the character #x{error.character:04x} may not stand in it; save it as plain text"
        raise Unreadable(path, line, f"cannot be read as YAML: {reason}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise Unreadable(path, 0, f"cannot be read as YAML: {error}") from error
    if root is None:
        return Node(None, path, 1)
    return _Yaml(path, loader, entries).node(root, 0)


class _Yaml:
    """Turns PyYAML's nodes into ours; counts them, since aliases may repeat without end."""

    def __init__(self, path: Path, loader: yaml.SafeLoader, most: int) -> None:
        self._path, self._loader, self._most, self._entries = path, loader, most, 0

    def node(self, raw: yaml.Node, depth: int) -> Node:
        self._entries += 1
        line = raw.start_mark.line + 1
        if self._entries > self._most or depth > MAX_DEPTH:
            raise Unreadable(
                self._path, line,
                f"has more than {self._most} entries, or more than {MAX_DEPTH} within each other, with those that "
                "aliases (*name) stand for; write out what is meant",
            )  # fmt: skip
        if isinstance(raw, yaml.ScalarNode):
            return self._scalar(raw, line)
        if raw.tag not in (_MAPPING, _SEQUENCE):
            return self._damaged(
                line, f"cannot be read as YAML: the tag {raw.tag.replace(_WORD, '!!')} has no meaning here"
            )
        if isinstance(raw, yaml.SequenceNode):
            return Node([self.node(item, depth + 1) for item in raw.value], self._path, line)
        assert isinstance(raw, yaml.MappingNode)
        return self._mapping(raw, line, depth)

    def _damaged(self, line: int, message: str) -> Node:
        return Node(DAMAGED, self._path, line, damage=(Problem(self._path, line, "", message),))

    def _scalar(self, raw: yaml.ScalarNode, line: int) -> Node:
        try:
            value = self._loader.construct_object(raw)
        except (yaml.YAMLError, ValueError, ArithmeticError, LookupError, AttributeError, TypeError) as error:
            # PyYAML lets most of them out of its constructors: `!!int x`, `!!bool x`, `!!timestamp x`, 2026-99-99.
            reason = getattr(error, "problem", None) or error  # without the excerpt that PyYAML adds
            return self._damaged(line, f"{raw.value[:80]!r} cannot be read as YAML's {raw.tag.replace(_WORD, '!!')}: {reason}")  # fmt: skip
        if value is None and not raw.value:  # its lines may have been commented out: nobody has said null
            return self._damaged(
                line, "nothing stands there; write a value, or null to take out what an extended file says"
            )
        if isinstance(value, int) and value.bit_length() > 1023:
            return self._damaged(line, "an integer that no floating-point number can be")
        return Node(value, self._path, line)

    def _mapping(self, raw: yaml.MappingNode, line: int, depth: int) -> Node:
        found: dict[Any, Node] = {}
        lines: dict[Any, int] = {}
        damage: list[Problem] = []
        inherited: list[Node] = []
        for raw_key, raw_value in raw.value:
            at = raw_key.start_mark.line + 1
            if raw_key.tag == _WORD + "merge":
                merged = self.node(raw_value, depth + 1)
                inherited += merged.value if isinstance(merged.value, list) else [merged]
                continue
            key = self.node(raw_key, depth + 1)
            if key.damage or isinstance(key.value, dict | list) or key.value is None:
                damage.append(Problem(self._path, at, "", "a key must be a word or a number"))
                continue
            value = self.node(raw_value, depth + 1)
            if key.value in found:
                first = lines[key.value]
                damage.append(
                    Problem(
                        self._path, at, str(key.value), f"occurs twice, first in line {first}; remove one"
                    )
                )
                continue
            found[key.value], lines[key.value] = value, at
        for node in inherited:  # what <<: *name brings stands below what is said here
            if not isinstance(node.value, dict):
                damage.append(Problem(self._path, node.line, "<<", "must be a mapping or a list of them"))
                continue
            for key_, value in node.value.items():
                found.setdefault(key_, value)
                lines.setdefault(key_, node.key_lines.get(key_, node.line))
        return Node(found, self._path, line, lines, tuple(damage))


def overlay(base: Node, own: Node) -> Node:
    """`own` over `base`, both mappings, as RFC 7396 merges: entry by entry, null removes, everything else replaces."""
    merged, lines = dict(base.value), dict(base.key_lines)
    for key, node in own.value.items():
        under = base.value.get(key)
        if isinstance(node.value, dict):
            empty = Node({}, node.path, node.line)
            node = overlay(under if under is not None and isinstance(under.value, dict) else empty, node)
        elif node.value is None and not node.damage:
            node = Node(REMOVED, node.path, node.line)
        merged[key], lines[key] = node, own.key_lines.get(key, node.line)
    return Node(merged, own.path, own.line, lines, (*base.damage, *own.damage))


# JSON -------------------------------------------------------------------------------------------------------


def read_json(data: bytes, path: Path) -> Node:
    """A JSON document; every number is finite.

    Raises:
        Unreadable: it is no JSON.
    """
    text = _text(data, path, "JSON")
    scanner = _Json(text, path)
    try:
        node, end = scanner.node(scanner.skip(0), 0)
        if scanner.skip(end) != len(text):
            raise JSONDecodeError("more than one document", text, end)
    except JSONDecodeError as error:
        raise Unreadable(path, error.lineno, f"cannot be read as JSON: {error.msg}") from error
    return node


class _Json:
    """The grammar of RFC 8259; strings and numbers are left to the standard library."""

    def __init__(self, text: str, path: Path) -> None:
        self._text, self._path = text, path
        self._line, self._counted = 1, 0
        self._scalar = json.JSONDecoder(parse_constant=_refused).scan_once  # type: ignore[attr-defined]

    def skip(self, at: int) -> int:
        while self._text[at : at + 1] in (" ", "\t", "\n", "\r"):
            at += 1
        return at

    def line(self, at: int) -> int:
        self._line += self._text.count("\n", self._counted, at)
        self._counted = at
        return self._line

    def node(self, at: int, depth: int) -> tuple[Node, int]:
        line, opened = self.line(at), self._text[at : at + 1]
        if depth > MAX_DEPTH:
            raise JSONDecodeError(f"more than {MAX_DEPTH} within each other", self._text, at)
        if opened == "{":
            return self._object(at, line, depth)
        if opened == "[":
            items: list[Node] = []
            at = self._items(at, "]", lambda begin: self._item(items, begin, depth))
            return Node(items, self._path, line), at
        try:
            value, at = self._scalar(self._text, at)
        except StopIteration as error:
            raise JSONDecodeError("a value is missing", self._text, error.value) from None
        except ValueError as error:  # a number of more digits than Python converts
            raise JSONDecodeError(str(error), self._text, at) from None
        return Node(value, self._path, line), at

    def _item(self, items: list[Node], at: int, depth: int) -> int:
        node, at = self.node(at, depth + 1)
        items.append(node)
        return at

    def _object(self, at: int, line: int, depth: int) -> tuple[Node, int]:
        found: dict[str, Node] = {}
        lines: dict[str, int] = {}
        damage: list[Problem] = []

        def member(begin: int) -> int:
            if self._text[begin : begin + 1] != '"':
                raise JSONDecodeError("a key in quotation marks is missing", self._text, begin)
            key_line = self.line(begin)
            key, end = scanstring(self._text, begin + 1, True)
            end = self.skip(end)
            if self._text[end : end + 1] != ":":
                raise JSONDecodeError("':' is missing", self._text, end)
            value, end = self.node(self.skip(end + 1), depth + 1)
            if key in found:
                damage.append(Problem(self._path, key_line, key, f"occurs twice, first in line {lines[key]}"))
            else:
                found[key], lines[key] = value, key_line
            return end

        at = self._items(at, "}", member)
        return Node(found, self._path, line, dict(lines), tuple(damage)), at

    def _items(self, at: int, closing: str, take: Callable[[int], int]) -> int:
        at = self.skip(at + 1)
        if self._text[at : at + 1] == closing:
            return at + 1
        while True:
            at = self.skip(take(at))
            mark = self._text[at : at + 1]
            if mark == closing:
                return at + 1
            if mark != ",":
                raise JSONDecodeError(f"',' or '{closing}' is missing", self._text, at)
            at = self.skip(at + 1)


def _refused(text: str) -> Any:
    raise ValueError(f"{text} is not a finite number")
