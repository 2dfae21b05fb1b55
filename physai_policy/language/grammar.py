"""A small grammar of sentences, and all the ways in which it covers one from the first word to the last.

A grammar is text, one rule a line (longer ones go on in indented lines):

    name = word other [perhaps] {any number} (this | that) <rule> CLASS !doubt

`CLASS`, in capitals, stands for the phrases that a lexicon lists under that name. `!doubt` matches nothing and
marks the reading: it is plausible, but not certain.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Meaning(NamedTuple):
    """What a stretch of words says: which labels it leaves possible, and why that may be doubted."""

    target: frozenset[str] | None = None  # None: says nothing about it
    destination: frozenset[str] | None = None
    doubts: frozenset[str] = frozenset()

    def __and__(self, other: Meaning) -> Meaning:
        return Meaning(
            _both(self.target, other.target),
            _both(self.destination, other.destination),
            self.doubts | other.doubts,
        )


NOTHING = Meaning()


def _both(a: frozenset[str] | None, b: frozenset[str] | None) -> frozenset[str] | None:
    return b if a is None else a if b is None else a & b


@dataclass(frozen=True)
class Word:
    """This word itself."""

    text: str


@dataclass(frozen=True)
class DoubtMark:
    """Nothing, but a mark on the reading."""

    name: str


@dataclass(frozen=True)
class Class:
    """A phrase of the lexicon."""

    name: str


@dataclass(frozen=True)
class RuleReference:
    """Another rule."""

    name: str


@dataclass(frozen=True)
class Sequence_:
    """One after the other."""

    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Choice:
    """One of them."""

    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Repeat:
    """Any number of times; with `once` at most one time."""

    part: Part
    once: bool = False


Part = Word | DoubtMark | Class | RuleReference | Sequence_ | Choice | Repeat
Phrase = tuple[str, ...]
Lexicon = Mapping[str, Mapping[Phrase, Meaning]]
"""Phrases by class, each with what it means."""

_ITEM = re.compile(r"\s*(<[a-z_]+>|![a-z_]+|[A-Z][A-Z_]*|[a-z0-9']+|[|()\[\]{}])")
_CLOSING = {"(": ")", "[": "]", "{": "}"}


class Grammar:
    """Rules as read from text, with a lexicon for their classes."""

    def __init__(self, text: str, lexicon: Lexicon) -> None:
        """Read `text`.

        Raises:
            ValueError: it is malformed, or names a rule or a class that is not there.
        """
        self._rules: dict[str, Part] = {}
        for block in re.split(r"\n(?=[a-z_]+ *=)", text.strip()):
            name, _, body = block.partition("=")
            items = _items(body)
            self._rules[name.strip()] = _choice(items)
            if items:
                raise ValueError(f"rule {name.strip()}: {items[0]!r} is not expected")
        self._lexicon: dict[str, dict[str, list[tuple[Phrase, Meaning]]]] = {}
        for name, phrases in lexicon.items():
            by_first = self._lexicon.setdefault(name, {})
            for phrase, meaning in phrases.items():
                by_first.setdefault(phrase[0], []).append((phrase, meaning))
        self.words = frozenset(self._vocabulary())

    def _vocabulary(self) -> Iterator[str]:
        for phrases in self._lexicon.values():
            for entries in phrases.values():
                for phrase, _ in entries:
                    yield from phrase
        waiting = list(self._rules.values())
        while waiting:
            part = waiting.pop()
            if isinstance(part, Word):
                yield part.text
            elif isinstance(part, RuleReference) and part.name not in self._rules:
                raise ValueError(f"no rule <{part.name}>")
            elif isinstance(part, Class) and part.name not in self._lexicon:
                raise ValueError(f"no class {part.name} in the lexicon")
            elif isinstance(part, Sequence_ | Choice):
                waiting += part.parts
            elif isinstance(part, Repeat):
                waiting.append(part.part)

    def readings(self, words: Sequence[str], rule: str = "sentence") -> frozenset[Meaning]:
        """What all of `words` may mean; empty where the rule does not cover every one of them."""
        return frozenset(
            meaning for end, meaning in _Chart(self, words).match(self._rules[rule], 0) if end == len(words)
        )

    def found(self, words: Sequence[str], rule: str) -> list[tuple[int, int, Meaning]]:
        """Where the rule covers a part of `words`, longest first: (begin, end, meaning)."""
        chart, part = _Chart(self, words), self._rules[rule]
        places = [
            (begin, end, meaning) for begin in range(len(words)) for end, meaning in chart.match(part, begin)
        ]
        return sorted(
            (place for place in places if place[1] > place[0]), key=lambda place: place[0] - place[1]
        )


Ends = frozenset[tuple[int, Meaning]]


class _Chart:
    """One sentence; every part is tried once at every place."""

    def __init__(self, grammar: Grammar, words: Sequence[str]) -> None:
        self._grammar, self._words = grammar, tuple(words)
        self._known: dict[tuple[int, int], Ends] = {}

    def match(self, part: Part, at: int) -> Ends:
        """Where `part` may end when it begins at word `at`, and what it means then."""
        if isinstance(part, Word):
            hit = at < len(self._words) and self._words[at] == part.text
            return frozenset({(at + 1, NOTHING)}) if hit else frozenset()
        key = (id(part), at)
        if key not in self._known:
            self._known[key] = frozenset()  # a rule that begins with itself finds nothing
            self._known[key] = frozenset(self._match(part, at))
        return self._known[key]

    def _match(self, part: Part, at: int) -> Iterator[tuple[int, Meaning]]:
        if isinstance(part, DoubtMark):
            yield at, Meaning(doubts=frozenset({part.name}))
        elif isinstance(part, Class):
            if at < len(self._words):
                for phrase, meaning in self._grammar._lexicon[part.name].get(self._words[at], ()):
                    if self._words[at : at + len(phrase)] == phrase:
                        yield at + len(phrase), meaning
        elif isinstance(part, RuleReference):
            yield from self.match(self._grammar._rules[part.name], at)
        elif isinstance(part, Choice):
            for one in part.parts:
                yield from self.match(one, at)
        elif isinstance(part, Sequence_):
            yield from self._sequence(part.parts, at)
        elif isinstance(part, Repeat):
            yield at, NOTHING
            ends = {(at, NOTHING)}
            seen = set(ends)
            while ends:
                ends = {
                    (after, meaning & more)
                    for end, meaning in ends
                    for after, more in self.match(part.part, end)
                    if after > end or part.once
                } - seen
                seen |= ends
                yield from ends
                if part.once:
                    return

    def _sequence(self, parts: tuple[Part, ...], at: int) -> Iterator[tuple[int, Meaning]]:
        ends: set[tuple[int, Meaning]] = {(at, NOTHING)}
        for part in parts:
            ends = {
                (after, both)
                for end, meaning in ends
                for after, more in self.match(part, end)
                if (both := meaning & more).target != frozenset() and both.destination != frozenset()
            }
            if not ends:
                return
        yield from ends


def _items(text: str) -> list[str]:
    items, at = [], 0
    text = text.rstrip()
    while at < len(text):
        found = _ITEM.match(text, at)
        if not found:
            raise ValueError(f"cannot be read: {text[at : at + 30]!r}")
        items.append(found[1])
        at = found.end()
    return items


def _choice(items: list[str]) -> Part:
    parts = [_sequence(items)]
    while items and items[0] == "|":
        items.pop(0)
        parts.append(_sequence(items))
    return parts[0] if len(parts) == 1 else Choice(tuple(parts))


def _sequence(items: list[str]) -> Part:
    parts: list[Part] = []
    while items and items[0] not in ("|", ")", "]", "}"):
        item = items.pop(0)
        if item in _CLOSING:
            inner = _choice(items)
            if not items or items.pop(0) != _CLOSING[item]:
                raise ValueError(f"a {item} is not closed")
            parts.append(inner if item == "(" else Repeat(inner, once=item == "["))
        elif item.startswith("<"):
            parts.append(RuleReference(item[1:-1]))
        elif item.startswith("!"):
            parts.append(DoubtMark(item[1:]))
        elif item.isupper():
            parts.append(Class(item))
        else:
            parts.append(Word(item))
    return parts[0] if len(parts) == 1 else Sequence_(tuple(parts))
