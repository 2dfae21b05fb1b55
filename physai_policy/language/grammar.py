"""A small grammar of sentences, and all the ways in which it covers one from the first word to the last.

A grammar is text, one rule a line (longer ones go on in indented lines):

    name = word other [perhaps] {any number} (this | that) <rule> CLASS !doubt

`CLASS`, in capitals, stands for the phrases that a lexicon lists under that name. `!doubt` matches nothing and
marks the reading: it is plausible, but not certain. `@target` and `@destination` match nothing, too, and mean
whichever there is: where there are several, they leave open which. More text widens a rule that there is
(`name = …`), or puts another one in its place (`name := …`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple


class Meaning(NamedTuple):
    """What a stretch of words says: which labels it leaves possible, and why that may be doubted."""

    target: frozenset[str] | None = None  # None: says nothing about it
    destination: frozenset[str] | None = None
    doubts: frozenset[str] = frozenset()

    def __and__(self, other: Meaning) -> Meaning:
        if other is NOTHING:
            return self
        if self is NOTHING:
            return other
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
class Whichever:
    """Nothing, and all labels of a slot."""

    slot: str


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


Part = Word | DoubtMark | Whichever | Class | RuleReference | Sequence_ | Choice | Repeat
Phrase = tuple[str, ...]
Lexicon = Mapping[str, Mapping[Phrase, Meaning]]
"""Phrases by class, each with what it means."""

_ITEM = re.compile(r"\s*(<[a-z_]+>|![a-z_]+|@(?:target|destination)|[A-Z][A-Z_]*|[a-z0-9']+|[|()\[\]{}])")
_CLOSING = {"(": ")", "[": "]", "{": "}"}


class Grammar:
    """Rules as read from text, with a lexicon for their classes."""

    def __init__(self, text: str, lexicon: Lexicon, more: str = "", everything: Meaning = NOTHING) -> None:
        """Read `text`, and `more` that widens or replaces rules of it; `everything` has all labels of both slots.

        Raises:
            ValueError: it is malformed, or names a rule or a class that is not there.
        """
        self._rules: dict[str, Part] = {}
        for name, replaces, part in (*_rules(text), *_rules(more)):
            before = None if replaces else self._rules.get(name)
            self._rules[name] = part if before is None else Choice((before, part))
        self._everything = {
            "target": Meaning(target=everything.target),
            "destination": Meaning(destination=everything.destination),
        }
        self._lexicon: dict[str, dict[str, list[tuple[Phrase, Meaning]]]] = {}
        for name, phrases in lexicon.items():
            by_first = self._lexicon.setdefault(name, {})
            for phrase, meaning in phrases.items():
                by_first.setdefault(phrase[0], []).append((phrase, meaning))
        self.words, self.doubts = frozenset(self._vocabulary()), frozenset(self._marks())
        self._begins = _Beginnings(self._rules, self._lexicon)

    def _vocabulary(self) -> Iterator[str]:
        for phrases in self._lexicon.values():
            for entries in phrases.values():
                for phrase, _ in entries:
                    yield from phrase
        for part in _parts(self._rules.values()):
            if isinstance(part, Word):
                yield part.text
            elif isinstance(part, RuleReference) and part.name not in self._rules:
                raise ValueError(f"no rule <{part.name}>")
            elif isinstance(part, Class) and part.name not in self._lexicon:
                raise ValueError(f"no class {part.name} in the lexicon")

    def _marks(self) -> Iterator[str]:
        return (part.name for part in _parts(self._rules.values()) if isinstance(part, DoubtMark))

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


class _Beginnings:
    """With which words a part may begin, so that the many parts that a sentence cannot hold are not tried."""

    def __init__(self, rules: Mapping[str, Part], lexicon: Mapping[str, Mapping[str, object]]) -> None:
        self._of_class = {name: frozenset(by_first) for name, by_first in lexicon.items()}
        self._empty: set[str] = set()  # rules that may cover no word
        found = True
        while found:
            more = {
                name for name, part in rules.items() if name not in self._empty and self._may_be_empty(part)
            }
            self._empty |= more
            found = bool(more)
        own = {name: self._first(part) for name, part in rules.items()}
        self._of_rule: dict[str, frozenset[str]] = {}
        for name in rules:
            reached, waiting = {name}, [name]
            while waiting:
                new = own[waiting.pop()][1] - reached
                reached |= new
                waiting += new
            self._of_rule[name] = frozenset[str]().union(*(own[rule][0] for rule in reached))
        self._known: dict[int, frozenset[str] | None] = {}
        self._alternatives: dict[tuple[int, str], tuple[Part, ...]] = {}

    def of(self, part: Part) -> frozenset[str] | None:
        """The words; None where it may cover none at all."""
        key = id(part)
        if key not in self._known:
            words, rules = self._first(part)
            every = words.union(*(self._of_rule[rule] for rule in rules))
            self._known[key] = None if self._may_be_empty(part) else every
        return self._known[key]

    def alternatives(self, choice: Choice, word: str) -> tuple[Part, ...]:
        """Those that may begin with `word`, or cover nothing."""
        key = (id(choice), word)
        if key not in self._alternatives:
            self._alternatives[key] = tuple(
                part for part in choice.parts if (words := self.of(part)) is None or word in words
            )
        return self._alternatives[key]

    def _may_be_empty(self, part: Part) -> bool:
        if isinstance(part, Word | Class):
            return False
        if isinstance(part, RuleReference):
            return part.name in self._empty
        if isinstance(part, Choice):
            return any(map(self._may_be_empty, part.parts))
        return all(map(self._may_be_empty, part.parts)) if isinstance(part, Sequence_) else True

    def _first(self, part: Part) -> tuple[frozenset[str], set[str]]:
        """The words and the rules that it may begin with."""
        if isinstance(part, Word):
            return frozenset({part.text}), set()
        if isinstance(part, Class):
            return self._of_class[part.name], set()
        if isinstance(part, RuleReference):
            return frozenset(), {part.name}
        if isinstance(part, Repeat):
            return self._first(part.part)
        words, rules = frozenset[str](), set[str]()
        for one in part.parts if isinstance(part, Sequence_ | Choice) else ():
            more_words, more_rules = self._first(one)
            words, rules = words | more_words, rules | more_rules
            if isinstance(part, Sequence_) and not self._may_be_empty(one):
                break
        return words, rules


Ends = frozenset[tuple[int, Meaning]]
_NONE: Ends = frozenset()


class _Chart:
    """One sentence; every part is tried once at every place."""

    def __init__(self, grammar: Grammar, words: Sequence[str]) -> None:
        self._grammar, self._words = grammar, tuple(words)
        self._known: dict[tuple[int, int], Ends] = {}

    def match(self, part: Part, at: int) -> Ends:
        """Where `part` may end when it begins at word `at`, and what it means then."""
        if isinstance(part, RuleReference):
            part = self._grammar._rules[part.name]
        words = self._grammar._begins.of(part)
        if words is not None and (at == len(self._words) or self._words[at] not in words):
            return _NONE
        if isinstance(part, Word):
            return frozenset({(at + 1, NOTHING)})
        key = (id(part), at)
        if key not in self._known:
            self._known[key] = _NONE  # a rule that begins with itself finds nothing
            self._known[key] = frozenset(self._match(part, at))
        return self._known[key]

    def _match(self, part: Part, at: int) -> Iterator[tuple[int, Meaning]]:
        if isinstance(part, DoubtMark):
            yield at, Meaning(doubts=frozenset({part.name}))
        elif isinstance(part, Whichever):
            yield at, self._grammar._everything[part.slot]
        elif isinstance(part, Class):
            if at < len(self._words):
                for phrase, meaning in self._grammar._lexicon[part.name].get(self._words[at], ()):
                    if self._words[at : at + len(phrase)] == phrase:
                        yield at + len(phrase), meaning
        elif isinstance(part, RuleReference):
            yield from self.match(part, at)
        elif isinstance(part, Choice):
            word = self._words[at] if at < len(self._words) else ""
            for one in self._grammar._begins.alternatives(part, word):
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


def words_in_rules(text: str) -> frozenset[str]:
    """The words that rules name themselves."""
    return frozenset(
        part.text for part in _parts(part for _, _, part in _rules(text)) if isinstance(part, Word)
    )


def _parts(parts: Iterable[Part]) -> Iterator[Part]:
    waiting = list(parts)
    while waiting:
        part = waiting.pop()
        yield part
        if isinstance(part, Sequence_ | Choice):
            waiting += part.parts
        elif isinstance(part, Repeat):
            waiting.append(part.part)


@cache
def _rules(text: str) -> tuple[tuple[str, bool, Part], ...]:
    """Name, whether it replaces the one before, and what it covers, of every rule."""
    found: list[tuple[str, bool, Part]] = []
    for block in re.split(r"\n\s*(?=[a-z_]+ *:?=)", text.strip()):
        if not block:
            continue
        name, _, body = block.partition("=")
        items = _items(body)
        found.append((name.rstrip(": "), name.rstrip().endswith(":"), _choice(items)))
        if items:
            raise ValueError(f"rule {found[-1][0]}: {items[0]!r} is not expected")
    return tuple(found)


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
        elif item.startswith("@"):
            parts.append(Whichever(item[1:]))
        elif item.isupper():
            parts.append(Class(item))
        else:
            parts.append(Word(item))
    return parts[0] if len(parts) == 1 else Sequence_(tuple(parts))
