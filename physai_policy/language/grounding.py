"""What a sentence asks for: certain, to be asked back, or refused with the reason.

*Certain* is what the grammar covers from the first word to the last in one way, with words it knows. *Asked back* is
what it covers with a doubt: a word mended, a rare name, an ordinal, a wish. All else is refused. Nothing is left out.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from physai_base.errors import TaskError
from physai_base.expert import Goal
from physai_base.task import Task
from physai_policy.language.colours import SHADES, all_colours, names
from physai_policy.language.english import (
    DANGERS,
    DOUBTS,
    FILLERS,
    NEAR,
    REFUSING,
    WORDS,
    classes,
    words_in,
)
from physai_policy.language.english_grammar import GRAMMAR
from physai_policy.language.grammar import NOTHING, Grammar, Meaning, Phrase, words_in_rules
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
    destination: str | None  # label of the place to put it; empty where the task needs none
    verdict: Verdict
    message: str  # for a person: what will be done, the question, or why not and what is possible
    task: str = ""  # name of the one that it was understood by
    understood: str = ""  # as an order; empty unless both labels are
    unplaced: frozenset[str] | None = (
        None  # where no rule covers it: words that are not known, and deeds that are not done
    )

    @property
    def accepted(self) -> bool:
        """Whether it may be carried out at once."""
        return self.verdict is Verdict.CERTAIN


class InstructionGrounder:
    """Reads target and destination off a sentence with the words of one task."""

    def __init__(self, task: Task) -> None:
        """Make the grammar of `task`.

        Raises:
            TaskError: its objects and places cannot be told apart by what they are called, or its phrases are no grammar.
        """
        self.task = task
        self._words = words = Vocabulary.of(task)
        self._phrases, self._doubts = task.phrases, {**DOUBTS, **task.phrases.doubts}
        try:
            own = classes(task.phrases)
        except ValueError as error:
            raise TaskError(f"{task.path}: the phrases of the task {task.name}: {error}") from error
        names_used = {word for phrases in words.lexicon.values() for phrase in phrases for word in phrase}
        # "dark" is a mere shade, unless a task has a dark red thing beside a red one.
        shades: dict[Phrase, Meaning] = {(name,): NOTHING for name in names(SHADES) if name not in names_used}
        lexicon: dict[str, Mapping[Phrase, Meaning]] = {
            **WORDS,
            **{name: {**WORDS.get(name, {}), **found} for name, found in own.items()},
            **words.lexicon,
            "SHADE": shades,
            "UNKNOWN": {(UNKNOWN,): NOTHING},
        }
        lexicon["SIZE"] = {phrase: NOTHING for phrase in lexicon["SIZE"] if phrase[0] not in names_used}
        try:
            self._grammar = Grammar(GRAMMAR, lexicon, task.phrases.rules, words.everything)
        except ValueError as error:
            raise TaskError(f"{task.path}: the phrases of the task {task.name}: {error}") from error
        if unexplained := sorted(self._grammar.doubts - set(self._doubts)):
            raise TaskError(
                f"{task.path}: the phrases of the task {task.name}: nothing says what !{unexplained[0]} means; known: "
                f"{', '.join(sorted(self._doubts))}"
            )
        names_words = {
            word
            for kind in ("TARGET", "THING", "LEVEL", "BOARD")
            for phrase in words.lexicon[kind]
            for word in phrase
            if len(phrase) == 1
        }
        verbs = {
            phrase[0]
            for kind in ("PUT", "MOVE", "TAKE", *own)
            for phrase in lexicon[kind]
            if len(phrase) == 1
        } - {"place", "rest"}
        self.known = frozenset(word for word in self._grammar.words if word != UNKNOWN)
        """Every word that is understood."""
        self._things = frozenset(phrase[-1] for phrase in words.lexicon["THING"])
        # What is usual here is no reason for a refusal.
        self._usual = words_in_rules(task.phrases.rules) | {
            word
            for phrases in (*own.values(), *words.lexicon.values())
            for phrase in phrases
            for word in phrase
        }
        self.deeds = frozenset(phrase[0] for name in task.phrases.verbs for phrase in own[name])
        """First words of the verbs that the task brings."""
        can = self._phrases.said(_choices(words.targets), _choices(words.destinations))
        self.possible = f"I can {can}" if words.goals else f"The task {task.name} has nothing to be asked for"
        """What it can do."""
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
        unknown = [word for word in words if word not in self.known]
        if not unknown:
            return self._read(words, doubts) or self._explain(words, unknown)
        if any(self._warns(word) or self._hides(word) for word in unknown):
            return self._explain(words, unknown)
        mended = self._mended(words, unknown)
        if mended is not None:
            return mended
        # "the darker red one", "the tenth red one": there are more.
        compares = unknown[0].endswith(("er", "est", "th")) or any(map(str.isdigit, unknown[0]))
        other_colour = ({unknown[0]} | one_letter_from(unknown[0])) & self._words.foreign  # "bleck"
        if len(unknown) == 1 and not compares and unknown[0] not in self._warnings and not other_colour:
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
        meant, exact = self._goals(readings)
        if len(meant) > 1 and exact:
            ways = " or ".join(sorted(self.task.order(Goal(*goal)) for goal in meant))
            return self._refuse(f"that can be read in several ways: {ways}")
        if len(meant) != 1:
            return self._incomplete(readings)
        ((goal, whys),) = meant.items()
        why = min(whys, key=lambda found: (len(found), sorted(found))) | doubts
        understood = self.task.order(Goal(*goal))
        if not why:
            return Grounding(*goal, Verdict.CERTAIN, understood, self.task.name, understood)
        reasons = note or "; ".join(self._doubts[doubt] for doubt in sorted(why))
        question = f"I will {understood}: yes? ({reasons})"
        return Grounding(*goal, Verdict.ASKED, question, self.task.name, understood)

    def _goals(self, readings: Iterable[Meaning]) -> tuple[dict[tuple[str, str], list[frozenset[str]]], bool]:
        """What may be meant, with the doubts of each reading of it, and whether the labels are named.

        Where no reading names both, one that leaves open which still means something if only one goal fits it: the red
        block on the small red one is the big one.
        """
        exact: dict[tuple[str, str], list[frozenset[str]]] = {}
        fitting: dict[tuple[str, str], list[frozenset[str]]] = {}
        for target, destination, doubts in readings:
            places = (destination or frozenset()) if self._words.destinations else frozenset({""})
            goals = [goal for goal in self._words.goals if goal[0] in (target or ()) and goal[1] in places]
            if len(goals) == len(target or ()) == len(places) == 1:
                exact.setdefault(goals[0], []).append(doubts)
            else:
                for goal in goals:
                    fitting.setdefault(goal, []).append(doubts | {"only"})
        return exact or fitting, bool(exact)

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
            (word[:cut] in NEAR and word[cut:] in self.known)
            or (word[cut:] in NEAR and word[:cut] in self.known)
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
        all_words = self.known | self._warnings | self._words.foreign
        near = sorted(one_letter_from(word) & all_words)
        if not near and len(word) > 5:
            near = sorted(known for known in all_words if len(known) > 5 and distance(word, known, 2) == 2)
        # "gren" is green where nothing is grey, and "bleck" is nothing.
        if not set(near) <= self.known | self._words.foreign or (near and not set(near) & self.known):
            return []
        parts: list[tuple[str, ...]] = [
            (word[:cut], word[cut:])
            for cut in range(2, len(word) - 1)
            if word[:cut] in self.known and word[cut:] in self.known
        ]
        return [*parts, *((known,) for known in near if known in self.known)]

    def _explain(self, words: Sequence[str], unknown: Sequence[str]) -> Grounding:
        """The refusal of a sentence that nothing covers."""
        deeds = DANGERS["a deed that I do not do"].split()
        unplaced = frozenset(unknown) | {word for word in words if word in deeds and word not in self._usual}
        turned = any(word in REFUSING and word not in self._usual for word in words)  # "do not wipe …"
        return replace(self._reason(words, unknown), unplaced=frozenset() if turned else unplaced)

    def _reason(self, words: Sequence[str], unknown: Sequence[str]) -> Grounding:
        doubtful = [word for word in unknown if word not in self._warnings and self._warns(word)]
        for kind, listed in DANGERS.items():
            said = [
                word for word in words
                if (word in listed.split() and word not in self._usual) or word.endswith("n't")
            ]  # fmt: skip
            if not said:
                continue
            if kind == "not to do":
                return self._refuse(f'the instruction says what not to do ("{said[0]}"); say what to do')
            if not doubtful:
                return self._refuse(f'"{said[0]}" says {kind}, which I cannot follow; say plainly what to do')
        if doubtful:
            return self._refuse(
                f'"{doubtful[0]}" may be a misspelt word that says what not to do; say it again'
            )
        foreign = [word for word in words if word in self._words.foreign]
        if foreign:
            return self._refuse(f'"{foreign[0]}" is none of the colours that I know here')
        plural = [word for word in unknown if word.endswith("s") and word[:-1] in self._things]
        if plural:
            return self._refuse(f"{self._one_of('target')}, one at a time; say which")
        if unknown:
            shown = ", ".join(f'"{word[:30]}"' for word in dict.fromkeys(unknown[:3]))
            return self._refuse(f"I do not know {shown}")
        targets = self._named(words, "target")
        places = self._named(words, "place")
        if len(targets - places) > 1:
            return self._refuse(f"{self._one_of('target')}, one at a time; say which")
        if len(places - targets) > 1:
            return self._refuse(f"{self._one_of('destination')}, one at a time; say which")
        some = self._phrases.said(_thing(self._words.targets), _thing(self._words.destinations))
        return self._refuse(f"that is not understood as a request to {some.replace('the ', 'a ')}")

    def _named(self, words: Sequence[str], rule: str) -> set[str]:
        """The labels that stretches of the sentence name."""
        slot = "target" if rule == "target" else "destination"
        found = (
            getattr(meaning, slot) for _, _, meaning in self._grammar.found(words, rule)
        )  # of every stretch
        return {next(iter(labels)) for labels in found if _single(labels)}

    def _incomplete(self, readings: Iterable[Meaning]) -> Grounding:
        """Why a sentence that is covered does not say enough."""
        reading = max(
            readings, key=lambda reading: (reading.target is not None) + (reading.destination is not None)
        )
        target = _label(reading.target) if _single(reading.target) else None
        destination = _label(reading.destination) if _single(reading.destination) else None
        if not self._words.destinations:
            destination = ""
        if target is not None and destination is not None:
            return self._refuse(f"I cannot {self.task.order(Goal(target, destination))}")
        reasons = []
        if target is None:
            reasons.append(f"{self._one_of('target')}; say which {_thing(self._words.targets)}")
        if destination is None:
            reasons.append(f"{self._one_of('destination')}; say which {_thing(self._words.destinations)}")
        return Grounding(target, destination, Verdict.REFUSED, "; ".join(reasons), self.task.name)

    def _refuse(self, reason: str) -> Grounding:
        return Grounding(None, None, Verdict.REFUSED, f"{reason}. {self.possible}", self.task.name)

    def _one_of(self, slot: str) -> str:
        return (
            f"there is the {_choices(self._words.targets if slot == 'target' else self._words.destinations)}"
        )


def spoken(label: str) -> str:
    """A label as one says it."""
    return label.replace("_", " ")


def _thing(labels: Sequence[str]) -> str:
    kinds = {spoken(label).rsplit(" ", 1)[-1] for label in labels}
    return kinds.pop() if len(kinds) == 1 else "thing" if kinds else ""


def _choices(labels: Sequence[str]) -> str:
    """Labels as one says them, e.g. "red, green or blue ball"."""
    words = [spoken(label).rsplit(" ", 1) for label in labels]
    if words and len({word[-1] for word in words}) == 1 and all(len(word) == 2 for word in words):
        first, last = [word[0] for word in words], f" {words[0][-1]}"
    else:
        first, last = [" ".join(word) for word in words], ""
    if not first:
        return ""
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
