"""What may move the robot: sentences written by hand, misspelt negations, odd characters, tasks with other words."""

from __future__ import annotations

import itertools
import string
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import paths
import pytest
import yaml

from physai_base.errors import TaskError
from physai_base.task import Task
from physai_policy.language import Answer, Confirm, Grounding, InstructionGrounder, Verdict, answer
from physai_policy.language.english import DOUBTS, NEAR
from physai_policy.language.english_grammar import GRAMMAR
from physai_policy.language.grammar import Grammar, Meaning
from physai_policy.language.text import distance, slipped
from physai_tasks.cups.words import INSTRUCTIONS

CASES = paths.CASES / "language"
NOT_PLAIN: dict[str, list[list[str]]] = {
    **yaml.safe_load((CASES / "not_plain.yaml").read_text()),
    **{
        f"{name}: {kind}": cases
        for name in ("fresh", "reviewed", "again", "fresh2", "fresh3", "fresh5")
        for kind, cases in yaml.safe_load((CASES / f"not_plain_{name}.yaml").read_text()).items()
    },
}
# In these classes even a question would be wrong: `--yes` would answer it.
NEVER_ASKED = (
    "negation", "negation with typos", "exclusion", "condition", "comparison", "time", "reported speech", "question",
    "two steps", "manner", "other places", "fresh: negation", "fresh: negation with typos", "fresh: exclusion",
    "fresh: condition and time", "fresh: reports and questions", "fresh: two steps and corrections",
    "reviewed: participles", "reviewed: looking", "reviewed: finding", "reviewed: never asked",
    "again: never asked", "again: beside the fourth set", *(kind for kind in NOT_PLAIN if kind.startswith(("fresh2: ", "fresh3: ", "fresh5: "))),
)  # fmt: skip
ORDINARY = (
    "ordinary",
    "ordinary_second",
    "ordinary_third",
    "ordinary_fresh",
    "ordinary_fresh2",
    "ordinary_fresh3",
    "ordinary_fresh4",
    "ordinary_fresh5",
)
SIMPLE = "put the red cup on the top shelf"
RED_TOP = ("red_cup", "top_shelf")


@pytest.fixture(scope="module")
def task() -> Task:
    return Task.load("cups")


@pytest.fixture(scope="module")
def grounder(task) -> InstructionGrounder:
    return InstructionGrounder(task)


def meaning(found: Grounding) -> tuple[str | None, str | None]:
    return found.target, found.destination


@pytest.mark.parametrize("kind", NOT_PLAIN)
def test_what_is_not_a_plain_request_never_moves_the_wrong_thing(grounder, kind):
    wrong = []
    for text, *meant in NOT_PLAIN[kind]:
        found = grounder.ground(text)
        right = bool(meant) and meaning(found) == tuple(meant)
        asks = found.verdict is Verdict.ASKED and not meant and kind not in NEVER_ASKED
        if found.verdict is not Verdict.REFUSED and not right and not asks:
            wrong.append((text, found))
        assert found.message
    assert not wrong


def test_the_hand_written_sentences_are_as_many_as_promised():
    assert sum(map(len, NOT_PLAIN.values())) >= 400
    assert len(NOT_PLAIN) >= 15


@pytest.mark.slow
@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_wordings_are_carried_out(grounder, name):
    cases = yaml.safe_load((CASES / f"{name}.yaml").read_text())
    verdicts: Counter[Verdict] = Counter()
    for text, *meant in cases:
        found = grounder.ground(text)
        if found.verdict is not Verdict.REFUSED:
            assert meaning(found) == tuple(meant), (text, found)
        verdicts[found.verdict] += 1
    assert len(cases) >= 190
    # 0.85 is what is aimed at; at first sight of sets by others fewer began at once (docs/explanation/language.md).
    least = 0.80 if name in ("ordinary_fresh2", "ordinary_fresh5") else 0.85
    assert verdicts[Verdict.CERTAIN] >= least * len(cases), verdicts


@pytest.mark.slow
def test_every_construction_begins_at_once(grounder):
    cases = yaml.safe_load((CASES / "constructions.yaml").read_text())
    missed = [
        text
        for text, *meant in cases
        if (grounder.ground(text).accepted, *meaning(grounder.ground(text))) != (True, *meant)
    ]
    assert len(cases) >= 600
    assert not missed


def test_what_may_be_an_order_and_may_be_none_is_asked_back(grounder):
    cases = yaml.safe_load((CASES / "asked.yaml").read_text())
    wrong = [
        (text, found)
        for text, *meant in cases
        if ((found := grounder.ground(text)).verdict, *meaning(found)) != (Verdict.ASKED, *meant)
    ]
    assert len(cases) >= 25
    assert not wrong


def test_a_slip_of_the_keyboard_in_a_long_word_is_read_and_any_other_asked_back(grounder):
    for wrong in ("shlef", "shelff", "sehlf"):
        assert grounder.ground(f"put the red cup on the top {wrong}") == grounder.ground(SIMPLE), wrong
    for wrong in ("shelg", "helf", "sheld", "hself"):
        assert grounder.ground(f"put the red cup on the top {wrong}").verdict is Verdict.ASKED, wrong
    assert [
        slipped(*pair)
        for pair in (
            ("botom", "bottom"),
            ("bototm", "bottom"),
            ("bottam", "bottom"),
            ("not", "ont"),
            ("cupp", "cup"),
            ("reed", "red"),
            ("of", "off"),
            ("no", "on"),
        )
    ] == [True, True, False, False, True, False, False, False]


def test_a_question_mark_before_the_request_doubts_nothing(grounder):
    for text in ("you see the red cup? put it on the top shelf", "ready? put the red cup on the top shelf"):
        assert grounder.ground(text).accepted, text
    for text in ("put the red cup on the top shelf? thanks", "the red cup? goes on the top shelf?"):
        assert not grounder.ground(text).accepted, text


def test_a_request_behind_a_reason_is_asked_back_unless_the_reason_may_say_more(grounder):
    for text in (
        "my cat is asleep, so put {}",
        "My toes ache. Please put {}",
        "Bob, could you put {}",
    ):
        found = grounder.ground(text.format("the red cup on the top shelf"))
        assert (found.verdict, *meaning(found)) == (Verdict.ASKED, *RED_TOP), text
        assert "I do not follow" in found.message
    for text in (
        "don't listen, please put {}", "he says, please put {}", "tomorrow, please put {}", "on Christmas, please put {}",
        "open the door, please put {}", "if it rains, so put {}", "take the green one, please put {}",
        "the shelf is dirty, so put {}", "never mind, please put {}", "my back hurts, so do not put {}",
    ):  # fmt: skip
        assert grounder.ground(text.format("the red cup on the top shelf")).verdict is Verdict.REFUSED, text


def test_up_to_three_words_said_twice_are_heard_once(grounder):
    for text in (
        "put the red put the red cup on the on the top shelf",
        "put put the red cup on on the top shelf",
    ):
        assert grounder.ground(text) == grounder.ground(SIMPLE), text
    assert grounder.ground("do not do not put the red cup on the top shelf").verdict is Verdict.REFUSED


def test_the_sentences_of_demo_and_eval_are_certain(grounder):
    for text, goal in INSTRUCTIONS:
        found = grounder.ground(text)
        assert (found.accepted, *meaning(found)) == (True, goal.target, goal.destination), (text, found)


NEGATED = (
    "do {not} put the red cup on the top shelf", "please do {not} put the red cup on the top shelf",
    "{don't} put the red cup on the top shelf", "please {dont} put the red cup on the top shelf",
    "{never} put the red cup on the top shelf", "you must {not} put the red cup on the top shelf",
    "you should {never} put the red cup on the top shelf", "could you {not} put the red cup on the top shelf",
    "would you mind {not} putting the red cup on the top shelf", "I do {not} want the red cup on the top shelf",
    "you {mustn't} put the red cup on the top shelf", "you {cannot} put the red cup on the top shelf",
    "{stop} putting the red cup on the top shelf", "{avoid} putting the red cup on the top shelf",
    "{refuse} to put the red cup on the top shelf", "{forget} about putting the red cup on the top shelf",
    "{refrain} from putting the red cup on the top shelf", "the red cup must {not} go on the top shelf",
    "the red cup should {never} go on the top shelf", "{keep} the red cup off the top shelf",
    "keep the red cup {off} the top shelf", "put the red cup {not} on the top shelf",
    "make sure {not} to put the red cup on the top shelf", "make sure the red cup is {not} on the top shelf",
    "put the red cup anywhere {but} the top shelf", "put all cups {except} the red one on the top shelf",
    "{nobody} should put the red cup on the top shelf", "put the {non} red cup on the top shelf",
    "{quit} putting the red cup on the top shelf", "{skip} putting the red cup on the top shelf",
    "{cancel} putting the red cup on the top shelf", "{prevent} the red cup from getting on the top shelf",
    "the red cup {isn't} supposed to go on the top shelf", "you {don't} need to put the red cup on the top shelf",
)  # fmt: skip


def misspelt(word: str, letters: str) -> Iterator[str]:
    """Every word that is one letter away."""
    for cut in range(len(word) + 1):
        head, tail = word[:cut], word[cut:]
        yield from (head + letter + tail for letter in letters)
        if tail:
            yield head + tail[1:]
            yield from (head + letter + tail[1:] for letter in letters)
        if len(tail) > 1:
            yield head + tail[1] + tail[0] + tail[2:]


@pytest.mark.parametrize("sentence", NEGATED)
def test_no_one_letter_typo_of_a_negation_is_taken_for_the_positive(grounder, sentence):
    before, _, rest = sentence.partition("{")
    word, _, after = rest.partition("}")
    taken = []
    # All letters where they may make another known word, and a few of all others.
    for wrong in set(misspelt(word, f"{string.ascii_lowercase}' ")) | {word}:
        found = grounder.ground(f"{before}{wrong}{after}")
        if found.verdict is not Verdict.REFUSED:
            taken.append((wrong, found))
    assert not taken


@pytest.mark.slow
def test_a_misspelt_word_is_asked_back_and_never_read_wrong(grounder):
    verdicts: Counter[Verdict] = Counter()
    words = SIMPLE.split()
    for index, word in enumerate(words):
        for wrong in sorted(set(misspelt(word, "aeikrst")) - {word}):
            found = grounder.ground(" ".join([*words[:index], wrong, *words[index + 1 :]]))
            if found.verdict is Verdict.ASKED:
                assert meaning(found) == RED_TOP, (wrong, found)
                assert "?" in found.message
            assert not found.accepted or meaning(found) == RED_TOP, (wrong, found)
            verdicts[found.verdict] += 1
    assert verdicts[Verdict.ASKED] > 0.4 * verdicts.total(), verdicts


@pytest.mark.parametrize(
    "text",
    (
        "do n\u043et put the red cup on the top shelf",  # Cyrillic o
        "put the r\u0435d cup on the top shelf",
        "do\u200bnot put the red cup on the top shelf",
        "d\u200bo n\u200bot put the red cup on the top shelf",
        "put the red\u200d cup on the top shelf",
        "\ufeffput the red cup on the top shelf",
        "put the red cup\x00 on the top shelf",
        "put the red cup\x1b[2K on the top shelf",
        "put the red cup\x08\x08\x08blue cup on the top shelf",
        "\u202eflehs pot eht no puc der eht tup",
        "put the red cup on the top shelf \u202enot",
        "put the r\u0301ed cup on the top shelf",
        "put the \uff52\uff45\uff44 cup on the top shelf",  # full width
        "put the \U0001d42b\U0001d41e\U0001d41d cup on the top shelf",  # mathematical
        "put the red cup on the top shelf \U0001f6ab",
        "p\u00adut the red cup on the top shelf",
        "put the red cup on the top shelf\udcff",
        "put the red cup on the top shelf\ufffd",
        "[/x] put the red cup on the top shelf",
        "put the red cup on the top shelf\u2028not",
        '"put" the red cup on the top shelf',
        "put the red cup (not the blue one) on the top shelf",
        "put the red cup on the top shelf ;)",
        "(" * 400,
        "put the red cup on the top shelf " * 300,
        "((put the red cup) on the top shelf))",
        "~~put the red cup on the top shelf~~",
        "put the red cup on the top shelf " * 40,
        "please " * 50 + SIMPLE,
        "red " * 5000,
        "a" * 100_000,
        "'" * 300,
        "do'''''not put the red cup on the top shelf",
        "uh uh put the red cup on the top shelf",
    ),
    ids=lambda text: text[:40].encode("ascii", "backslashreplace").decode(),
)  # fmt: skip
def test_odd_characters_and_lengths_are_refused_with_a_message_that_can_be_sent(grounder, text):
    found = grounder.ground(text)
    assert found.verdict is Verdict.REFUSED, found
    assert "bottom or top shelf" in found.message
    found.message.encode()  # as a ROS string


def test_what_only_looks_different_means_the_same(grounder):
    plain = grounder.ground(SIMPLE)
    assert plain.message == SIMPLE
    for text in (
        "  PUT the\tred CUP\n on the top shelf ",
        "\u201cPut the red cup on the top shelf.\u201d",
        "Put the red cup\u00a0on the top shelf\u2026",
        "put the red cup, on the top shelf!!!",
        "(put the red cup on the top shelf) :)",
        "put the the red cup um on the top shelf",
    ):
        assert grounder.ground(text) == plain, text


def test_refusals_name_what_is_wrong(grounder):
    for text, part in (
        ("put the purple cup on the top shelf", '"purple" is none of the colours'),
        ("put the red cup on the moon", 'do not know "moon"'),
        ("do not put the red cup on the top shelf", "not to do"),
        ("do ont put the red cup on the top shelf", '"ont" may be a misspelt word'),
        ("put the red cup on the top shelf " * 40, "too long"),
        ("put a cup on the top shelf", "say which cup"),
        ("put the red cup on the shelf", "say which shelf"),
        ("put two red cups on the top shelf", "one at a time"),
        ("", "no words"),
        ("put the red cup on the top shelf\u200b", "U+200B"),
        ("is the red cup on the top shelf", "says, asks or reports"),
        ("drop the red cup", '"drop" says a deed that I do not do'),
        ("keep the red cup off the top shelf", '"keep" says that something stays as it is'),
        ("put red or green on the top shelf", '"or" says which one of several'),
        ("put the bleck cup on the top shelf", 'do not know "bleck"'),
    ):
        found = grounder.ground(text)
        assert part in found.message, (text, found)


def test_a_question_says_what_was_understood_and_why_it_is_asked(grounder):
    for text, why in (
        ("put the red cpu on the top shelf", '"cpu" read as "cup"'),
        ("put the maroon cup on the top shelf", "not everybody"),
        ("put the wobbly red cup on the top shelf", 'do not know "wobbly"'),
        ("put the red cup on the second shelf", "counts levels"),
        ("slowly put the red cup on the top shelf", "pace"),
        ("put the red cup on the top shelf?", "question mark"),
    ):
        found = grounder.ground(text)
        assert (found.verdict, *meaning(found)) == (Verdict.ASKED, *RED_TOP), (text, found)
        assert found.message.startswith("I will put the red cup on the top shelf: yes? (")
        assert why in found.message


# Tasks with other words: the grammar knows none of a task's own.


def other(
    task: Task, targets: tuple[str, ...], places: tuple[str, ...], **words: tuple[str, ...]
) -> InstructionGrounder:
    return InstructionGrounder(
        replace(
            task,
            cups=replace(task.cups, labels=targets),
            boards=replace(task.boards, labels=places),
            words=words,
        )
    )


def test_another_task_s_words_are_understood_without_training(task):
    found = other(
        task, ("yellow_box", "purple_box", "banana"), ("low_bin", "middle_bin", "high_bin"), box=("crate",)
    )
    for text, *meant in (
        ("put the yellow box on the high bin", "yellow_box", "high_bin"),
        ("move the violet crate to the middle bin, please", "purple_box", "middle_bin"),
        ("could you put the banana on the lowest bin", "banana", "low_bin"),
        ("put the lemon yellow one on the topmost bin", "yellow_box", "high_bin"),
    ):
        assert (found.ground(text).accepted, *meaning(found.ground(text))) == (True, *meant), text
    for text in (
        "put the red cup on the top shelf",
        "put the red box on the high bin",
        "put the box on the high bin",
    ):
        assert not found.ground(text).accepted, text
    assert "yellow box, purple box or banana" in found.ground("put the red box on the high bin").message


def test_levels_are_counted_as_many_as_there_are(task):
    found = other(task, ("red_cup",), ("one_shelf", "two_shelf", "three_shelf", "four_shelf"))
    for text, place in (
        ("put the cup on the second shelf from the top", "three_shelf"),
        ("put the cup on the second lowest shelf", "two_shelf"),
        ("put the cup on the highest shelf", "four_shelf"),
    ):
        assert found.ground(text).destination == place, text
    for text in ("put the cup on the upper shelf", "put the cup on the fifth shelf from the top"):
        assert found.ground(text).verdict is Verdict.REFUSED, text


def test_a_colour_alone_names_an_object_only_where_it_can_mean_nothing_else(task):
    shelves = ("bottom_shelf", "top_shelf")
    found = other(task, ("red_cup", "blue_cup", "blue_box"), shelves)
    assert (
        found.ground("move red to the top shelf").accepted,
        *meaning(found.ground("move red to the top shelf")),
    ) == (
        True,
        *RED_TOP,
    )
    assert found.ground("move blue to the top shelf").verdict is Verdict.REFUSED  # the cup or the box
    painted = other(task, ("red_cup", "blue_cup"), ("green_shelf", "white_shelf"))
    assert painted.ground("move red to the green shelf").verdict is Verdict.ASKED


def test_a_shade_tells_things_apart_where_a_task_says_so(task):
    found = other(task, ("dark_red_cup", "red_cup", "crimson_cup"), ("bottom_shelf", "top_shelf"))
    for colour, label in (("dark red", "dark_red_cup"), ("red", "red_cup"), ("crimson", "crimson_cup")):
        text = f"put the {colour} cup on the top shelf"
        assert (found.ground(text).accepted, found.ground(text).target) == (True, label), text
    assert found.ground("put the bright red cup on the top shelf").target == "red_cup"


@pytest.mark.parametrize(
    ("targets", "places", "words", "message"),
    (
        (("red_cup", "red_cup"), ("bottom_shelf",), {}, "more than once|name them apart"),
        (("not_cup",), ("bottom_shelf",), {}, "'not' cannot name anything"),
        (("red_cup",), ("bottom_shelf",), {"cup": ("other cup",)}, "'other cup' cannot name anything"),
        (("red_cup",), ("bottom_shelf",), {"mug": ("cup",)}, "mug is no word of a label"),
        (("red_cup",), ("bottom_shelf",), {"cup": ("shelf",)}, "both an object and a place"),
        (("red_cup",), ("top_shelf", "bottom_shelf"), {}, "list the lowest first"),
        (("rôt_cup",), ("bottom_shelf",), {}, "letters a to z"),
    ),
)
def test_words_that_cannot_be_told_apart_or_turn_a_sentence_around_are_refused_at_the_start(
    task, targets, places, words, message
):
    with pytest.raises(TaskError, match=message):
        other(task, targets, places, **words)


# Asking back and the answer.


def test_what_is_certain_begins_and_what_is_not_is_asked_back(grounder):
    certain, asked = grounder.ground(SIMPLE), grounder.ground("put the red cpu on the top shelf")
    refused = grounder.ground("do not put the red cup on the top shelf")
    assert answer(certain) == Answer("", "", *RED_TOP)
    assert answer(asked).question == asked.message
    assert answer(asked).reason == f"asked back: {asked.message}"
    assert answer(certain, Confirm.ALWAYS).question == "I will put the red cup on the top shelf: yes?"
    assert answer(asked, Confirm.NEVER).question == ""
    assert "not certain" in answer(asked, Confirm.NEVER).reason
    for confirm, confirmed in itertools.product(Confirm, (("", ""), RED_TOP)):
        found = answer(refused, confirm, confirmed)
        assert found.reason == refused.message
        assert not found.question


def test_a_yes_is_for_what_was_understood_and_no_free_pass(grounder):
    asked = grounder.ground("put the red cpu on the top shelf")
    for confirm in Confirm:
        assert answer(asked, confirm, RED_TOP).reason == ""
        assert "confirmed is blue_cup" in answer(asked, confirm, ("blue_cup", "top_shelf")).reason
        assert answer(asked, confirm, ("red_cup", "")).reason
    assert "confirm is one of 0 (auto)" in answer(asked, 7).reason


# The grammar itself.


def test_every_doubt_is_explained_and_every_word_near_a_no_is_far_from_the_grammar_s_verbs(grounder):
    marks = {mark.strip("()[]{}") for mark in GRAMMAR.split() if mark.startswith("!")}
    assert {mark[1:] for mark in marks} <= set(DOUBTS)
    assert "not" in NEAR


@pytest.mark.parametrize(
    ("text", "message"),
    (
        ("a = <b>", "no rule <b>"),
        ("a = THING", "no class THING"),
        ("a = (b", "not closed"),
        ("a = b ) c", "not expected"),
        ("a = ;", "cannot be read"),
    ),
)
def test_a_wrong_grammar_is_named(text, message):
    with pytest.raises(ValueError, match=message):
        Grammar(text, {})


def test_a_grammar_covers_all_words_or_none():
    red = {("red",): Meaning(target=frozenset({"r"})), ("blue",): Meaning(target=frozenset({"b"}))}
    grammar = Grammar("sentence = {very} put [the] COLOUR !odd | <sentence> x", {"COLOUR": red})
    assert grammar.readings(["very", "very", "put", "the", "red"]) == {
        Meaning(frozenset({"r"}), None, frozenset({"odd"}))
    }
    for text in ("put the red red", "put the red then", "the red", "put green", "put the red x"):
        assert not grammar.readings(text.split()), text


def test_letters_between_words():
    assert [
        distance(a, b, 2)
        for a, b in (("not", "ont"), ("not", "now"), ("not", "nt"), ("abcd", "dcba"), ("a", "abcd"))
    ] == [1, 1, 1, 3, 3]
