"""The words of a task: what its objects and places may be called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from physai_base.errors import TaskError
from physai_base.task import Task
from physai_policy.language.colours import COLOURS, all_colours, names
from physai_policy.language.english import NEVER_A_NAME
from physai_policy.language.grammar import NOTHING, Meaning, Phrase
from physai_policy.language.text import words_of

RARE = "rare"  # the doubt about a word that many, but not all would use
TOP = "top, upmost, uppermost, topmost, top most, highest, very top, very highest, tippy top"
BOTTOM = "bottom, undermost, lowermost, lower most, bottommost, bottom most, lowest, very bottom, very lowest"
MIDDLE = "middle, central, center, centre, mid"
# Words that say which of several things of one kind is meant by how large it is; the second list is asked back.
SIZES: dict[str, tuple[str, str]] = {
    "small": ("small, little, tiny, smaller, mini", "smallest, short, wee"),
    "big": ("big, large, bigger, larger, huge", "biggest, largest, tall, great"),
    "medium": ("medium, medium sized, middle sized, mid sized, middle", "normal"),
    "short": ("short, shorter", "shortest, small, little"),
    "tall": ("tall, taller", "tallest, high, big, large"),
    "long": ("long, longer", "longest"),
    "wide": ("wide, wider, broad", "widest"),
    "narrow": ("narrow, narrower, thin, slim", "narrowest"),
    "thin": ("thin, thinner, narrow, slim", "thinnest"),
    "thick": ("thick, thicker, fat", "thickest"),
}
ORDINALS = (("first", "1st"), ("second", "2nd"), ("third", "3rd"), ("fourth", "4th"), ("fifth", "5th"))
NUMBERS = (("one", "1"), ("two", "2"), ("three", "3"), ("four", "4"), ("five", "5"))

Names = dict[Phrase, Meaning]


@dataclass(frozen=True)
class Vocabulary:
    """Phrases by class of the grammar, and what refusals say."""

    lexicon: Mapping[str, Mapping[Phrase, Meaning]]
    targets: tuple[str, ...]
    destinations: tuple[str, ...]  # empty where nothing needs one
    goals: frozenset[tuple[str, str]]  # target and destination of all that may be asked for
    foreign: frozenset[str]  # colours that no object has

    @property
    def everything(self) -> Meaning:
        """All labels of both slots."""
        return Meaning(frozenset(self.targets), frozenset(self.destinations) or None)

    @staticmethod
    def of(task: Task) -> Vocabulary:
        """The words of `task`: those of its labels, what its file calls them besides, colours, sizes and heights.

        A name that ends in "?" is one that is asked back.

        Raises:
            TaskError: objects or places could be taken for each other, or are called what no name may be.
        """
        goals = [(goal.target, goal.destination) for goal in task.goals]
        targets = tuple(dict.fromkeys(target for target, _ in goals))
        places = tuple(dict.fromkeys(place for _, place in goals if place))
        levels = [place for place in places if place in task.boards.labels]
        where, words = str(task.path), task.words
        labels = (*targets, *places, *task.objects, *task.places)
        unknown = sorted(set(words) - {part for label in labels for part in label.split("_")})
        if unknown:
            raise TaskError(
                f"{where}: words: {', '.join(unknown)} is no word of a label; labels: {', '.join(dict.fromkeys(labels))}"
            )
        if len(set(task.objects)) != len(task.objects) or len(set(task.places)) != len(task.places):
            raise TaskError(f"{where}: labels: one of {', '.join(labels)} is there more than once")
        target = _Names("target", targets, words, where)
        place = _Names("destination", places, words, where)
        place.stack(levels)
        shared = target.own_kinds & place.own_kinds  # of what is put on things of its own kind
        kinds = {phrase for phrase in target.kinds if phrase in place.kinds and not shared}
        if kinds:
            raise TaskError(
                f"{where}: words: {' '.join(min(kinds))} would be both an object and a place; take one away"
            )
        lexicon: dict[str, Names] = {
            "TARGET": target.qualities, "TARGET_SIZE": target.sizes, "ALONE": target.colours(place), "THING": target.kinds,
            "LEVEL": place.qualities, "LEVEL_SIZE": place.sizes, "HEIGHT": place.qualities if levels else {},
            "PLACE_HUE": place.hues, "BOARD": place.kinds,
            "BOARDS": {_plural(phrase): meaning for phrase, meaning in place.kinds.items()},
            "FROM_TOP": _count(levels[::-1], ORDINALS), "FROM_BOTTOM": _count(levels, ORDINALS),
            "NUMBER": _count(levels, NUMBERS), "UNDER": place.shifted(levels, -1), "OVER": place.shifted(levels, 1),
            "ANY_LEVEL": dict.fromkeys(place.qualities, NOTHING), "ANY_BOARD": dict.fromkeys(place.kinds, NOTHING),
        }  # fmt: skip
        used = {word for phrases in lexicon.values() for phrase in phrases for word in phrase}
        return Vocabulary(lexicon, targets, places, frozenset(goals), all_colours() - used)


class _Names:
    """What distinguishes labels of one slot ("red") and what they are ("ball")."""

    def __init__(
        self, slot: str, labels: Sequence[str], words: Mapping[str, Sequence[str]], where: str
    ) -> None:
        self._slot, self._where = slot, where
        own: dict[Phrase, set[str]] = {}
        also: dict[Phrase, set[str]] = {}
        perhaps: dict[Phrase, set[str]] = {}
        kinds: dict[Phrase, set[str]] = {}
        kinds_perhaps: dict[Phrase, set[str]] = {}
        sizes: dict[Phrase, set[str]] = {}
        sizes_perhaps: dict[Phrase, set[str]] = {}
        self._size_of: dict[str, str] = {}
        for label in labels:
            *quality, kind = label.split("_")
            size = next((word for word in quality if word in SIZES), "")
            word = " ".join(part for part in quality if part != size)
            self._size_of[label] = size
            for to, text in zip((sizes, sizes_perhaps), SIZES.get(size, ()), strict=False):
                for name in names(text):
                    self._add(to, name, label)
            for name in words.get(size, ()) if size else ():
                self._add(sizes_perhaps if name.endswith("?") else sizes, name.rstrip("?"), label)
            if word:
                self._add(own, word, label)
            self._add(kinds, kind, label)
            for name in words.get(word, ()):
                self._add(perhaps if name.endswith("?") else also, name.rstrip("?"), label)
            for name in words.get(kind, ()):
                self._add(kinds_perhaps if name.endswith("?") else kinds, name.rstrip("?"), label)
            for to, text in zip((also, perhaps), COLOURS.get(word, ()), strict=False):
                for name in names(text):
                    self._add(to, name, label)
        self._own = own
        self.own_kinds = {(label.rsplit("_", 1)[-1],) for label in labels}
        self.sizes = self._meanings(sizes_perhaps, RARE) | self._meanings(sizes)
        self.kinds = self._meanings(kinds_perhaps, RARE) | self._meanings(kinds)
        # A label's own word is no other label's synonym, and a certain one is no doubtful one.
        self.qualities = self._meanings(perhaps, RARE) | self._meanings(also) | self._meanings(own)
        self._tell_apart()

    def stack(self, levels: Sequence[str]) -> None:
        """Add what levels are called by their height, lowest first.

        Raises:
            TaskError: the labels say otherwise.
        """
        if len(levels) < 2:
            return
        named: list[tuple[str, str, str]] = [(levels[-1], TOP, ""), (levels[0], BOTTOM, "")]
        if len(levels) == 2:
            named += [(levels[1], "upper, higher", ""), (levels[0], "lower", "")]
        if len(levels) == 3:
            named += [(levels[1], MIDDLE, "")]
        named += [(levels[-1], "high, elevated", RARE), (levels[0], "low", RARE)]
        for label, text, doubt in named:
            for name in names(text):
                phrase = tuple(name.split())
                if self._own.get(phrase, {label}) != {label}:
                    raise TaskError(
                        f"{self._where}: {min(self._own[phrase])!r} is not the {name} one; list the lowest first"
                    )
                self.qualities.setdefault(phrase, self._meaning({label}, doubt))

    def shifted(self, levels: Sequence[str], by: int) -> Names:
        """What is under or over the levels of these names."""
        neighbour = {level: levels[i + by] for i, level in enumerate(levels) if 0 <= i + by < len(levels)}
        return {
            phrase: Meaning(None, frozenset(neighbour[label] for label in meaning.destination or () if label in neighbour))
            for phrase, meaning in self.qualities.items()
        }  # fmt: skip

    @property
    def hues(self) -> Names:
        """The qualities that are colours."""
        colours = all_colours()
        return {phrase: meaning for phrase, meaning in self.qualities.items() if phrase[-1] in colours}

    def colours(self, places: _Names) -> Names:
        """The colours that each name one object by themselves ("move red to …"); none where a place has a colour."""
        colours = all_colours()
        if any(colours & set(phrase) for phrase in places.qualities):
            return {}
        return {
            phrase: self.qualities[phrase] for phrase, labels in self._own.items()
            if len(labels) == 1 and len(phrase) == 1 and phrase[0] in colours
        }  # fmt: skip

    def _add(self, to: dict[Phrase, set[str]], name: str, label: str) -> None:
        phrase = tuple(words_of(name))
        if not phrase or not all(word.isascii() and word.isalnum() for word in phrase):
            raise TaskError(
                f"{self._where}: {name!r} cannot be said: names are made of the letters a to z and digits"
            )
        bad = sorted(set(phrase) & NEVER_A_NAME)
        if bad:
            raise TaskError(
                f"{self._where}: {name!r} cannot name anything: {bad[0]!r} says what not to do, or when or which not; "
                "take another name"
            )
        to.setdefault(phrase, set()).add(label)

    def _meanings(self, found: Mapping[Phrase, set[str]], doubt: str = "") -> Names:
        return {phrase: self._meaning(labels, doubt) for phrase, labels in found.items()}

    def _meaning(self, labels: Iterable[str], doubt: str = "") -> Meaning:
        doubts = frozenset({doubt} if doubt else ())
        possible = frozenset(labels)
        return (
            Meaning(target=possible, doubts=doubts)
            if self._slot == "target"
            else Meaning(None, possible, doubts)
        )

    def _tell_apart(self) -> None:
        for phrase, found in self._own.items():
            kinds = [(label.rsplit("_", 1)[-1], self._size_of[label]) for label in found]
            if len(kinds) != len(set(kinds)):
                raise TaskError(
                    f"{self._where}: {' and '.join(sorted(found))} are both {' '.join(phrase)}: name them apart"
                )


def _count(labels: Sequence[str], words: Sequence[tuple[str, str]]) -> Names:
    return {
        (word,): Meaning(None, frozenset({label}))
        for label, forms in zip(labels, words, strict=False)
        for word in forms
    }


def _plural(phrase: Phrase) -> Phrase:
    last = phrase[-1]
    ending = f"{last[:-1]}ves" if last.endswith("f") else f"{last}es" if last.endswith("s") else f"{last}s"
    return (*phrase[:-1], ending)
