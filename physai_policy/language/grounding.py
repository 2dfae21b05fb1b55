"""What a sentence asks for: certain, to be asked back, or refused with the reason.

*Certain* is what the grammar covers from the first word to the last in one way, with words it knows. *Asked back* is
what it covers with a doubt: a word mended, a rare name, an ordinal, a wish. All else is refused. Nothing is left out.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from physai_base.task import Task
from physai_policy.language.colours import SHADES, all_colours, names
from physai_policy.language.english import DANGERS, DOUBTS, FILLERS, NEAR, REFUSING, WORDS, words_in
from physai_policy.language.english_grammar import GRAMMAR
from physai_policy.language.grammar import NOTHING, Grammar, Meaning, Phrase
from physai_policy.language.text import (
    MAX_CHARACTERS,
    MAX_WORDS,
    UnreadableError,
    distance,
    one_letter_from,
    plain,
    slipped,
    words_of,
)
from physai_policy.language.vocabulary import Vocabulary

UNKNOWN = "?"  # stands for a word that is not known, where an adjective may be
MOST_MENDED = 2  # words of a sentence whose spelling is corrected
MOST_CHOICES = 32  # ways to correct them together, each of which is read
_ASKING = words_in(
    "can could will would may might do shall any mind"
)  # in front of whom they ask, or at the end
_SAYING = words_in("i you we it that this one to lets")  # behind these they tell
# "my back hurts, so put …", "visitors come, could you put …"; what such a reason may not hold.
_REASON = re.compile(
    r"([^?\"]{3,}?)[,;.!:]+ (?:so,? |(?=(?:please|kindly|(?:could|can|would|will) you) ))(.+)"
)
# "nurse station here, put …"
_CALLING = re.compile(r"((?:[a-z]+ ){1,3}here)[,;.!:]+ (.+)")
_NO_CALLER = REFUSING | words_in(
    "is are was were be been i you he she it we they come comes get gets arrives"
)
_NO_REASON = " ".join(
    [text for kind, text in DANGERS.items() if "which one" in kind or "condition" in kind or "deed" in kind]
    + [
        "not no never none nothing nobody neither nor dont without avoid refuse refrain stop cease quit forbid forbidden "
        "prevent forget skip cancel abort ignore omit wrong false nevermind undo fail scrap disregard decline donot off drop "
        "said say says saying told tell tells ask asks asked think thinks thought heard claims claimed wrote write read reads "
        "show explain describe wonder pretend imagine dream joke jk lol hypothetically theoretically supposedly allegedly maybe perhaps "
        "possibly who why whom what which how did would should must shall will want wants wanted like i'd example sentence "
        "translate repeat order command instruction rule then after"
    ]
)
_AGREEING = words_in("okay ok alright yes yeah understood it")  # "put …, got it?"
# "my friend put" and "my friend, put" are not the same.
_REPORTED = re.compile(
    r"(?<!\bhey )(?<!\bhi )(?<!\bhello )\b(?:(?:(?:my|dear|good|old|the) )*(?:friend|dear|chap|boss|assistant"
    r"|helper|folks|guys|arm|computer|machine|love|mate|pal|buddy|bud|champ|honey|hun|darling|sweetheart|sweetie)(?: just| simply| kindly| already)*"
    r" (?:put|set|need|want|would like)|(?:robot|robbie|robby|robo|franka|panda|sir|dude|mister)"
    r" (?:just (?:put|set)|need|want|would like))\b"
)


class Verdict(Enum):
    """What becomes of a sentence."""

    CERTAIN = "certain"  # may be carried out at once
    ASKED = "asked"  # may be carried out when the person says that this is what was meant
    REFUSED = "refused"


@dataclass(frozen=True)
class Grounding:
    """What an instruction asks for; a label is None where it was not understood."""

    target: str | None  # label of the object to move
    destination: str | None  # label of the place to put it
    verdict: Verdict
    message: str  # for a person: what will be done, the question, or why not and what is possible

    @property
    def accepted(self) -> bool:
        """Whether it may be carried out at once."""
        return self.verdict is Verdict.CERTAIN

    @property
    def understood(self) -> str:
        """What was understood, as an order; empty unless both labels are."""
        if self.target is None or self.destination is None:
            return ""
        return f"put the {spoken(self.target)} on the {spoken(self.destination)}"


class InstructionGrounder:
    """Reads target and destination off a sentence with the words of one task."""

    def __init__(self, task: Task) -> None:
        """Make the grammar of `task`.

        Raises:
            TaskError: its objects and places cannot be told apart by what they are called.
        """
        self._words = words = Vocabulary.of(task)
        names_used = {word for phrases in words.lexicon.values() for phrase in phrases for word in phrase}
        # "dark" is a mere shade, unless a task has a dark red thing beside a red one.
        shades: dict[Phrase, Meaning] = {(name,): NOTHING for name in names(SHADES) if name not in names_used}
        sizes = {phrase: NOTHING for phrase in WORDS["SIZE"] if phrase[0] not in names_used}
        lexicon: dict[str, Mapping[Phrase, Meaning]] = {
            **WORDS,
            **words.lexicon,
            "SHADE": shades,
            "SIZE": sizes,
            "UNKNOWN": {(UNKNOWN,): NOTHING},
        }
        self._grammar = Grammar(GRAMMAR, lexicon)
        self._known = frozenset(word for word in self._grammar.words if word != UNKNOWN)
        self._things = frozenset(phrase[-1] for phrase in words.lexicon["THING"])
        names_words = {
            word
            for kind in ("TARGET", "THING", "LEVEL", "BOARD")
            for phrase in words.lexicon[kind]
            for word in phrase
            if len(phrase) == 1
        }
        verbs = {
            phrase[0] for kind in ("PUT", "MOVE", "TAKE") for phrase in WORDS[kind] if len(phrase) == 1
        } - {"place", "rest"}
        self._no_reason = frozenset(
            (names_words | verbs | words_in(_NO_REASON) | all_colours()) - words_in("it is up")
        )
        self._warnings = frozenset(word for words in DANGERS.values() for word in words.split())

    def ground(self, sentence: str) -> Grounding:
        """What `sentence` asks for; it never raises on a sentence, whatever it holds."""
        if len(sentence) > MAX_CHARACTERS:
            return self._refuse("the instruction is too long: say it in one short sentence")
        try:
            text = plain(sentence)
        except UnreadableError as error:
            return self._refuse(str(error))
        written = words_of(text)
        if not any(character.isalpha() for character in text):
            return self._refuse("the instruction holds no words")
        if len(written) > MAX_WORDS:
            return self._refuse("the instruction is too long: say it in one short sentence")
        found = self._whole(text, _once(written))
        if found.verdict is Verdict.REFUSED and (reason := _REASON.match(text) or _CALLING.match(text)):
            return self._behind(*reason.groups()) or found
        return found

    def _behind(self, reason: str, request: str) -> Grounding | None:
        """The question about a request behind a reason that the grammar does not cover ("my back hurts, so put …").

        None where the reason may say more: an order, a condition, a report, a no, a thing of the task.
        """
        said = words_of(reason)
        if (
            set(said) & self._no_reason
            or said[:1] in (["on"], ["at"], ["in"], ["by"])
            or (said[-1:] == ["here"] and set(said) & _NO_CALLER)
            or any(word.endswith("n't") and word != "can't" for word in said)
        ):
            return None
        found = self._whole(request, _once(words_of(request)))
        if found.verdict is not Verdict.CERTAIN:
            return None
        note = f'I do not follow "{reason[:60]}"'
        return replace(found, verdict=Verdict.ASKED, message=f"I will {found.understood}: yes? ({note})")

    def _whole(self, text: str, words: Sequence[str]) -> Grounding:
        """What all of the sentence means."""
        doubts = {"question"} if self._questioned(text) and not self._asks(words) else set()
        if _REPORTED.search(text):
            doubts.add("suggestion")
        unknown = [word for word in words if word not in self._known]
        if not unknown:
            return self._read(words, doubts) or self._explain(words, unknown)
        if any(self._warns(word) or self._hides(word) for word in unknown):
            return self._explain(words, unknown)
        mended = self._mended(words, unknown)
        if mended is not None:
            return mended
        # "the darker red one", "the tenth red one": there are more.
        compares = unknown[0].endswith(("er", "est", "th")) or any(map(str.isdigit, unknown[0]))
        if len(unknown) == 1 and not compares and unknown[0] not in self._warnings | self._words.foreign:
            veiled = [UNKNOWN if word == unknown[0] else word for word in words]
            found = self._read(veiled, set(), f'I do not know "{unknown[0]}"')
            if found is not None and found.verdict is Verdict.REFUSED:
                return replace(found, message=f'I do not know "{unknown[0][:30]}". {found.message}')
            if found is not None:
                return found
        return self._explain(words, unknown)

    def _questioned(self, text: str) -> bool:
        """Whether a question mark stands behind the place; "you see the red one? put it there" goes on."""
        _, mark, rest = text.rpartition("?")
        return bool(mark) and not self._named(_once(words_of(rest)), "place")

    def _asks(self, words: Sequence[str]) -> bool:
        """Whether a question mark belongs to the request ("could you …?", "put …, okay?") and doubts nothing."""
        telling = _SAYING | self._things
        for before, word, after in zip(["", *words], words, [*words[1:], ""], strict=False):
            if word in _ASKING and (before not in telling or after == "you"):
                return True
        return words[-1] in _AGREEING and bool(self._grammar.readings(words, "ordered"))

    def _read(self, words: Sequence[str], doubts: set[str], note: str = "") -> Grounding | None:
        """What the grammar makes of all the words; None where it does not cover them."""
        readings = self._grammar.readings(words)
        if not readings:
            return None
        whole = [reading for reading in readings if _single(reading.target) and _single(reading.destination)]
        if not whole:
            best = max(
                readings,
                key=lambda reading: (reading.target is not None) + (reading.destination is not None),
            )
            return self._incomplete(best)
        meant = {(_label(reading.target), _label(reading.destination)) for reading in whole}
        if len(meant) > 1:
            ways = " or ".join(sorted(f"the {spoken(t)} on the {spoken(d)}" for t, d in meant if t and d))
            return self._refuse(f"that can be read in several ways: {ways}")
        ((target, destination),) = meant
        why = min((reading.doubts for reading in whole), key=lambda found: (len(found), sorted(found)))
        why = why | doubts
        understood = Grounding(target, destination, Verdict.CERTAIN, "")
        if not why:
            return Grounding(target, destination, Verdict.CERTAIN, understood.understood)
        reasons = note or "; ".join(DOUBTS[doubt] for doubt in sorted(why))
        return Grounding(
            target, destination, Verdict.ASKED, f"I will {understood.understood}: yes? ({reasons})"
        )

    def _warns(self, word: str) -> bool:
        """Whether an unknown word is, or may be a misspelling of, one that turns a sentence around."""
        if word in REFUSING or word.endswith(("n't", "nt")):
            return True
        forms = {word, word.replace("'", "")}
        return any(
            form in NEAR
            or one_letter_from(form) & NEAR
            or any(distance(form, danger, 2) <= 2 for danger in NEAR if len(danger) > 5)
            for form in forms
        )

    def _hides(self, word: str) -> bool:
        """Whether a word that turns a sentence around is written together with another: "notput"."""
        return any(
            (word[:cut] in NEAR and word[cut:] in self._known)
            or (word[cut:] in NEAR and word[:cut] in self._known)
            for cut in range(2, len(word) - 1)
        )

    def _mended(self, words: Sequence[str], unknown: Sequence[str]) -> Grounding | None:
        """What the words mean with their spelling corrected: to be asked back, and only where all corrections agree."""
        misspelt = list(dict.fromkeys(unknown))
        if not 0 < len(misspelt) <= MOST_MENDED:
            return None
        candidates = [self._candidates(word) for word in misspelt]
        if math.prod(map(len, candidates)) > MOST_CHOICES:
            return None
        found: dict[tuple[str | None, str | None], Grounding] = {}
        for choice in itertools.product(*candidates):
            instead = dict(zip(misspelt, choice, strict=True))
            note = ", ".join(f'"{word}" read as "{" ".join(right)}"' for word, right in instead.items())
            right = [part for word in words for part in instead.get(word, (word,))]
            slips = all(
                len(one) == 1 and slipped(word, one[0]) and not one_letter_from(word) & self._words.foreign
                for word, one in instead.items()
            )
            reading = self._read(right, set() if slips else {"spelling"}, note)
            if reading is not None and reading.verdict is not Verdict.REFUSED:
                meant = (reading.target, reading.destination)
                if meant not in found or reading.accepted:
                    found[meant] = reading
        return next(iter(found.values())) if len(found) == 1 else None

    def _candidates(self, word: str) -> list[tuple[str, ...]]:
        """What an unknown word may have been meant as; nothing where that may be a word outside the grammar."""
        plural = word.endswith("s") and (word[:-1] in self._things or word[:-2] in self._things)
        if plural or word in self._warnings or word in self._words.foreign or len(word) < 2:
            return []
        all_words = self._known | self._warnings | self._words.foreign
        near = sorted(one_letter_from(word) & all_words)
        if not near and len(word) > 5:
            near = sorted(known for known in all_words if len(known) > 5 and distance(word, known, 2) == 2)
        # "gren" is green where nothing is grey, and "bleck" is nothing.
        if not set(near) <= self._known | self._words.foreign or (near and not set(near) & self._known):
            return []
        parts: list[tuple[str, ...]] = [
            (word[:cut], word[cut:])
            for cut in range(2, len(word) - 1)
            if word[:cut] in self._known and word[cut:] in self._known
        ]
        return [*parts, *((known,) for known in near if known in self._known)]

    def _explain(self, words: Sequence[str], unknown: Sequence[str]) -> Grounding:
        """The reason why a sentence is refused that nothing covers."""
        doubtful = [word for word in unknown if word not in self._warnings and self._warns(word)]
        for kind, listed in DANGERS.items():
            said = [word for word in words if word in listed.split() or word.endswith("n't")]
            if not said:
                continue
            if kind == "not to do":
                return self._refuse(f'the instruction says what not to do ("{said[0]}"); say what to do')
            if not doubtful:
                return self._refuse(
                    f'"{said[0]}" says {kind}, which I cannot follow; say plainly what to put where'
                )
        if doubtful:
            return self._refuse(
                f'"{doubtful[0]}" may be a misspelt word that says what not to do; say it again'
            )
        foreign = [word for word in words if word in self._words.foreign]
        if foreign:
            return self._refuse(f'"{foreign[0]}" is none of the colours that I know here')
        plural = [word for word in unknown if word.endswith("s") and word[:-1] in self._things]
        if plural:
            return self._refuse(f"{self._can('target')}, one at a time; say which")
        if unknown:
            shown = ", ".join(f'"{word[:30]}"' for word in dict.fromkeys(unknown[:3]))
            return self._refuse(f"I do not know {shown}")
        targets = self._named(words, "target")
        places = self._named(words, "place")
        if len(targets) > 1:
            return self._refuse(f"{self._can('target')}, one at a time; say which")
        if len(places) > 1:
            return self._refuse(f"{self._can('destination')}, one at a time; say which")
        return self._refuse(f"that is not understood as a request to put {self._a_thing()} somewhere")

    def _named(self, words: Sequence[str], rule: str) -> set[str]:
        """The labels that stretches of the sentence name."""
        slot = "target" if rule == "target" else "destination"
        found = (
            getattr(meaning, slot) for _, _, meaning in self._grammar.found(words, rule)
        )  # of every stretch
        return {next(iter(labels)) for labels in found if _single(labels)}

    def _incomplete(self, reading: Meaning) -> Grounding:
        target = _label(reading.target) if _single(reading.target) else None
        destination = _label(reading.destination) if _single(reading.destination) else None
        reasons = []
        if target is None:
            reasons.append(f"{self._can('target')}; say which {_thing(self._words.targets)}")
        if destination is None:
            reasons.append(f"{self._can('destination')}; say which {_thing(self._words.destinations)}")
        return Grounding(target, destination, Verdict.REFUSED, "; ".join(reasons))

    def _refuse(self, reason: str) -> Grounding:
        possible = (
            f"I can put the {_choices(self._words.targets)} on the {_choices(self._words.destinations)}"
        )
        return Grounding(None, None, Verdict.REFUSED, f"{reason}. {possible}")

    def _can(self, slot: str) -> str:
        if slot == "target":
            return f"I can move the {_choices(self._words.targets)}"
        return f"I can put it on the {_choices(self._words.destinations)}"

    def _a_thing(self) -> str:
        return f"a {_thing(self._words.targets)}"


def spoken(label: str) -> str:
    """A label as one says it."""
    return label.replace("_", " ")


def _thing(labels: Sequence[str]) -> str:
    kinds = {spoken(label).rsplit(" ", 1)[-1] for label in labels}
    return kinds.pop() if len(kinds) == 1 else "thing"


def _choices(labels: Sequence[str]) -> str:
    """Labels as one says them, e.g. "red, green or blue ball"."""
    words = [spoken(label).rsplit(" ", 1) for label in labels]
    if len({word[-1] for word in words}) == 1 and all(len(word) == 2 for word in words):
        first, last = [word[0] for word in words], f" {words[0][-1]}"
    else:
        first, last = [" ".join(word) for word in words], ""
    return f"{', '.join(first[:-1])} or {first[-1]}{last}" if len(first) > 1 else f"{first[0]}{last}"


def _single(labels: frozenset[str] | None) -> bool:
    return labels is not None and len(labels) == 1


def _label(labels: frozenset[str] | None) -> str | None:
    return next(iter(labels), None) if labels is not None else None


def _once(words: Sequence[str]) -> list[str]:
    """Without fillers, and up to three words that a transcript holds twice in a row once; "uh uh" is a no."""
    kept: list[str] = []
    for word in words:
        if word in FILLERS and not _shakes(words):
            continue
        kept.append(word)
        for length in (1, 2, 3):
            if kept[-length:] == kept[-2 * length : -length]:
                del kept[-length:]
    return kept


def _shakes(words: Sequence[str]) -> bool:
    return any(a == b and a in FILLERS for a, b in itertools.pairwise(words))
