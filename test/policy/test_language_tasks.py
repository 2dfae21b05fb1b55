"""Language with other tasks: their own verbs and phrasings, several at once, and what is asked of one that is not loaded."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import paths
import pytest
import yaml
from spoken_tasks import NAMES, SpokenTask, spoken_task

from physai_base.errors import TaskError
from physai_base.phrases import Phrases
from physai_base.task import Task, installed
from physai_policy.language import (
    Answer,
    Confirm,
    Grounding,
    InstructionGrounder,
    TasksGrounder,
    Verdict,
    answer,
)
from physai_policy.language.text import one_letter_from

CASES = paths.CASES / "language" / "tasks"
NOT_PLAIN: dict[str, list[str]] = yaml.safe_load((CASES / "not_plain.yaml").read_text())
# Begun at once, of the sets; "third" was written last and is not worked on.
LEAST = {"first": 0.8, "second": 0.8, "third": 0.65}


@pytest.fixture(scope="module")
def cups() -> Task:
    return Task.load("cups")


@pytest.fixture(scope="module")
def tasks() -> dict[str, SpokenTask]:
    return {name: spoken_task(name) for name in NAMES}


@pytest.fixture(scope="module")
def grounders(tasks) -> dict[str, InstructionGrounder]:
    return {name: InstructionGrounder(task) for name, task in tasks.items()}


def meaning(found: Grounding) -> tuple[str | None, str | None]:
    return found.target, found.destination


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part", LEAST)
def test_ordinary_wordings_of_a_task_are_carried_out_and_none_wrongly(grounders, name, part):
    cases = yaml.safe_load((CASES / f"{name}.yaml").read_text())[part]
    verdicts: Counter[Verdict] = Counter()
    for text, *meant in cases:
        found = grounders[name].ground(text)
        if found.verdict is not Verdict.REFUSED:
            assert meaning(found) == tuple(meant), (text, found)
        verdicts[found.verdict] += 1
    assert len(cases) >= (40 if part == "first" else 20)
    assert verdicts[Verdict.CERTAIN] >= LEAST[part] * len(cases), verdicts


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_what_a_task_does_not_do_is_refused(grounders, name):
    found = {text: grounders[name.rpartition("_")[2]].ground(text) for text in NOT_PLAIN[name]}
    right = Verdict.ASKED if name.startswith("asked") else Verdict.REFUSED
    assert {text: one for text, one in found.items() if one.verdict is not right} == {}
    assert all(one.message for one in found.values())


@pytest.mark.parametrize("name", NAMES)
def test_every_goal_is_understood_as_it_is_said(grounders, tasks, name):
    for text, goal in tasks[name].instructions:
        found = grounders[name].ground(text)
        assert (found.accepted, *meaning(found)) == (True, goal.target, goal.destination), (text, found)
        assert found.understood == found.message == text
        assert found.task == name


@pytest.mark.parametrize("task", list(installed()), ids=lambda task: task.name)
def test_every_goal_of_an_installed_task_is_understood_as_it_is_said(task):
    found = TasksGrounder((task,), lambda: ())
    for goal in task.goals:
        one = found.ground(task.order(goal))
        assert (one.accepted, *meaning(one)) == (True, goal.target, goal.destination), one
    for text, goal in task.instructions:
        assert meaning(found.ground(text)) == (goal.target, goal.destination), text
    assert "." in found.ground("fly to the moon").message


ORDERS = {
    "push": ("push the puck to the target", "pushing the puck to the target"),
    "stack": ("stack the green block on the blue one", "stacking the green block on the blue one"),
    "insert": ("insert the peg", "inserting the peg"),
    "wipe": ("wipe the table", "wiping the table"),
    "drawer": ("open the drawer and put the block in", "putting the block away"),
}
NEGATED = (
    "do {not} ORDER", "{don't} ORDER", "{never} ORDER", "you must {not} ORDER", "would you mind {not} DOING",
    "{stop} DOING", "make sure {not} to ORDER", "{without} DOING", "ORDER {unless} I say no",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_no_one_letter_typo_of_a_negation_is_taken_for_the_order(grounders, name):
    order, doing = ORDERS[name]
    assert grounders[name].ground(order).accepted
    taken = []
    for sentence in NEGATED:
        before, _, rest = sentence.replace("ORDER", order).replace("DOING", doing).partition("{")
        word, _, after = rest.partition("}")
        for wrong in {word} | one_letter_from(word):
            found = grounders[name].ground(f"{before}{wrong}{after}")
            if found.verdict is not Verdict.REFUSED:
                taken.append((f"{before}{wrong}{after}", found))
    assert not taken


CUPS_WORDS = {  # what a cup and its place are called in the sentences about cups, and what in those of a task
    "push": (("cup", "puck"), ("(top|bottom|upper|lower) shelf", "green mark"), ("put", "push"), ("putting", "pushing")),
    "stack": (
        ("red cup", "small red block"), ("green cup", "small green block"), ("blue cup", "big blue block"), ("cup", "block"),
        ("(top|upper) shelf", "big red block"), ("(bottom|lower) shelf", "big blue block"), ("put", "stack"), ("putting", "stacking"),
    ),
    "insert": (
        ("cup", "peg"), ("on(to)? the (top|bottom|upper|lower) shelf", "into the hole"), ("(top|bottom|upper|lower) shelf", "hole"),
        ("put", "insert"), ("putting", "inserting"),
    ),
    "wipe": (
        ("red cup", "stain"), ("cup", "stain"), ("on(to)? the (top|bottom|upper|lower) shelf", "away"),
        ("(top|bottom|upper|lower) shelf", "table"), ("put", "wipe"), ("putting", "wiping"),
    ),
    "drawer": (
        ("cup", "block"), ("on(to)? the (top|bottom|upper|lower) shelf", "into the drawer"), ("(top|bottom|upper|lower) shelf", "drawer"),
    ),
}  # fmt: skip
TURNED = (
    "negation", "denial", "exclusion", "condition", "time", "later", "report", "question", "hypothetical", "cancel",
    "own plan", "comparison",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_what_turns_a_sentence_about_cups_around_turns_that_of_another_task(cups, grounders, name):
    of_cups = InstructionGrounder(cups)
    texts = [
        text
        for path in sorted(CASES.parent.glob("not_plain*.yaml"))
        for kind, cases in yaml.safe_load(path.read_text()).items()
        if any(word in kind for word in TURNED)
        for text, *_ in cases
    ]
    begun = []
    for text in texts:
        said = text.lower()
        for word, instead in CUPS_WORDS[name]:
            said = re.sub(rf"\b{word}\b", instead, said)
        if grounders[name].ground(said).accepted and not of_cups.ground(text).accepted:
            begun.append(said)
    assert len(texts) > 500
    # "a friend stack …" is an order, as "a friend put …" may be none; "which one" has one answer where there is one.
    assert [
        text
        for text in begun
        if not re.search(r"(friend|boss|folks|guys|computer|helper|robot arm|robot just) ", text)
    ] == []


def test_several_things_of_a_kind_are_told_apart_or_asked_for():
    pucks = InstructionGrounder(spoken_task("push", ("red_puck", "blue_puck"), ("green_mark", "yellow_mark")))
    assert meaning(pucks.ground("push the blue puck to the yellow circle")) == ("blue_puck", "yellow_mark")
    assert "say which puck" in pucks.ground("push the puck to the green mark").message
    assert "say which mark" in pucks.ground("slide the red puck to the target").message
    stains = InstructionGrounder(spoken_task("wipe", ("brown_stain", "blue_stain")))
    assert meaning(stains.ground("wipe up the blue spill")) == ("blue_stain", "")
    found = stains.ground("wipe the table")
    assert "say which stain" in found.message
    assert meaning(found) == (None, "")
    pegs = InstructionGrounder(
        spoken_task("insert", ("red_peg", "green_peg"), ("blue_block", "yellow_block"))
    )
    assert meaning(pegs.ground("insert the green peg into the hole of the blue block")) == (
        "green_peg",
        "blue_block",
    )
    for text in ("put the red peg in the hole", "insert the red peg", "insert the peg into the yellow block"):
        assert "say which" in pegs.ground(text).message, text


def test_a_block_goes_on_another_one_and_sizes_tell_which(grounders):
    ground = grounders["stack"].ground
    for text, *meant in (
        ("put the small red one on the big red one", "small_red_block", "big_red_block"),
        ("stack the big blue one on the little green cube", "big_blue_block", "small_green_block"),
        ("put the tiny dark red block on the large bright blue one", "small_red_block", "big_blue_block"),
    ):
        assert (ground(text).accepted, *meaning(ground(text))) == (True, *meant), text
    for text, *meant in (  # it leaves open which, but only one may be meant
        ("put the small red block on the red block", "small_red_block", "big_red_block"),
        ("put the red block on the small red one", "big_red_block", "small_red_block"),
    ):
        assert (ground(text).verdict, *meaning(ground(text))) == (Verdict.ASKED, *meant), text
        assert "only that may be meant" in ground(text).message
    for text in ("put the small one on the big one", "put the red block on the blue one", "stack the blocks"):
        assert ground(text).verdict is Verdict.REFUSED, text
    assert (
        "I cannot put the big blue block on the big blue block"
        in ground("put the blue block on the blue block").message
    )


def test_what_needs_no_destination_begins_and_is_confirmed_without_one(grounders):
    certain, asked = grounders["wipe"].ground("wipe the stain"), grounders["wipe"].ground("wipe the stian")
    assert answer(certain) == Answer("", "", "brown_stain", "")
    assert answer(certain, Confirm.ALWAYS).question == "I will wipe the brown stain away: yes?"
    assert answer(certain, Confirm.ALWAYS, ("brown_stain", "")).reason == ""
    assert (
        "confirmed is brown_stain on top_shelf"
        in answer(certain, confirmed=("brown_stain", "top_shelf")).reason
    )
    assert meaning(asked) == ("brown_stain", "")
    assert "put" not in grounders["wipe"].ground("fly to the moon").message


# Several tasks.


def test_a_sentence_belongs_to_the_task_that_is_certain_of_it(cups, tasks):
    ground = TasksGrounder((cups, *tasks.values()), lambda: ()).ground
    for text, task, *meant in (
        ("now wipe the table", "wipe", "brown_stain", ""),
        ("put the red cup on the top shelf", "cups", "red_cup", "top_shelf"),
        ("put the red one in the drawer", "drawer", "red_block", "drawer"),
        ("put the red one on the green mark", "push", "red_puck", "green_mark"),
        ("put the small red block on the blue one", "stack", "small_red_block", "big_blue_block"),
        ("plug it in: the red peg into the hole", "", None, None),
        ("insert the pin", "insert", "red_peg", "blue_block"),
    ):
        found = ground(text)
        assert (found.task if found.accepted else "", *meaning(found)) == (task, *meant), (text, found)
    asked = ground("put the red cpu on the top shelf")
    assert (asked.verdict, asked.task) == (Verdict.ASKED, "cups")
    assert "say which block" in ground("put the red block on the blue block").message
    assert "not to do" in ground("do not wipe the table").message
    assert "U+200B" in ground("wipe\u200b the table").message
    assert ground("").verdict is Verdict.REFUSED


@pytest.mark.slow
def test_with_six_tasks_loaded_no_sentence_goes_to_another_task(cups, tasks):
    ground = TasksGrounder((cups, *tasks.values()), lambda: ()).ground
    sets = {
        name: [
            case for cases in yaml.safe_load((CASES / f"{name}.yaml").read_text()).values() for case in cases
        ]
        for name in NAMES
    } | {"cups": yaml.safe_load((CASES.parent / "ordinary_fresh5.yaml").read_text())}
    astray = []
    for name, cases in sets.items():
        for text, *meant in cases:
            found = ground(text)
            if found.verdict is not Verdict.REFUSED and (found.task, *meaning(found)) != (name, *meant):
                astray.append((text, found))
    assert astray == []


def test_orders_of_installed_tasks_are_their_own_when_all_are_loaded():
    loaded = [task for task in installed() if task.goals]
    ground = TasksGrounder(loaded, lambda: ()).ground
    orders = {task.order(goal): task.name for task in loaded for goal in task.goals}
    assert {text: ground(text).task for text in orders if ground(text).accepted} == orders


def test_what_belongs_to_several_tasks_is_asked_back_and_no_yes_answers_it(tasks):
    twin = replace(tasks["push"], name="shove")
    ground = TasksGrounder((tasks["push"], twin), lambda: ()).ground
    found = ground("push the puck to the target")
    assert (found.verdict, *meaning(found)) == (Verdict.ASKED, None, None)
    assert "(task push) or push the red puck onto the green mark (task shove)" in found.message
    assert answer(found, confirmed=("red_puck", "green_mark")).reason == found.message
    assert not answer(found).question


def test_what_is_asked_of_a_task_that_is_not_loaded_is_refused_by_its_name(cups, tasks):
    loads = []

    def others():
        loads.append(1)
        return [*tasks.values(), cups]

    ground = TasksGrounder((cups,), others).ground
    assert ground("put the red cup on the top shelf").accepted
    assert not ground("put the cup on the shelf").accepted
    assert not loads  # nothing is loaded for what the task itself can answer
    for text, part in (
        (
            "wipe the table",
            "wiping the brown stain away is the task wipe, which is not loaded (start the stack with --task wipe",
        ),
        ("clean up the spill", "is the task wipe"),
        ("put the red puck on the green mark", "pushing the red puck onto the green mark is the task push"),
        (
            "put the small red block on the big blue one",
            "putting the small red block on the big blue block is the task stack",
        ),
        ("put the red block on the blue block", "that is for the task stack, which is not loaded"),
        ("insert the peg", "inserting the red peg into the hole of the blue block is the task insert"),
        (
            "open the drawer, put the block in and close it",
            "putting the red block into the drawer is the task drawer",
        ),
        ("wipe the window", '"wipe" is for the task wipe'),
        ("stack the cups", '"stack" is for the task stack'),
        ("do not wipe the table", "says what not to do"),
        ("put the red cup on the moon", 'do not know "moon"'),
        ("put the purple cup on the top shelf", "none of the colours"),
    ):
        found = ground(text)
        assert found.verdict is Verdict.REFUSED
        assert part in found.message, (text, found)
        assert "I can put the red, green or blue cup on the bottom or top shelf" in found.message
    assert len(loads) == 1


def test_a_task_of_somebody_else_that_cannot_be_read_harms_no_other(cups, tasks):
    broken = replace(tasks["push"], name="broken", with_phrases=Phrases(rules="order = <nowhere>"))
    ground = TasksGrounder((cups,), lambda: (broken, tasks["wipe"])).ground
    assert "is the task wipe" in ground("wipe the table").message


def test_the_installed_tasks_are_asked_where_none_are_given(cups):
    found = TasksGrounder((cups,)).ground("frobnicate the red cup")
    assert found.verdict is Verdict.REFUSED
    with pytest.raises(TaskError, match="no task is loaded"):
        TasksGrounder(())


# What a task brings.


@pytest.mark.parametrize(
    ("phrases", "message"),
    (
        (Phrases(rules="order = <nowhere>"), "phrases of the task push: no rule <nowhere>"),
        (Phrases(rules="order = SHOVE <target>"), "no class SHOVE"),
        (Phrases(rules="order = push <target> !perhaps"), "nothing says what !perhaps means"),
        (Phrases(rules="order = (push"), "not closed"),
        (Phrases(rules="order = push ; away"), "cannot be read"),
        (Phrases(verbs={"MOVE": "push pushing"}), "MOVE: 'push pushing' must be base, gerund and participle"),
    ),
)
def test_phrases_that_are_no_grammar_are_named(phrases, message):
    with pytest.raises(TaskError, match=re.escape(message)):
        InstructionGrounder(spoken_task("push", phrases=phrases))


def test_a_rule_is_widened_or_replaced():
    def ground(rules: str, text: str) -> bool:
        task = spoken_task("push", phrases=Phrases(rules=rules))
        return InstructionGrounder(task).ground(text).accepted

    put, ram = "put the puck on the mark", "ram the puck into the mark"
    assert ground("", put)
    assert not ground("", ram)
    assert ground("order = ram <target> into <place>", put)
    assert ground("order = ram <target> into <place>", ram)
    assert not ground("order := ram <target> into <place>", put)
    assert ground("order := ram <target> into <place>", ram)


def test_new_verbs_have_three_forms():
    verbs = {"PRESS": "press pressing pressed, hold_down holding_down held_down"}
    rules = "order = PRESS <target> @destination\ndoing = PRESS_ING <target> @destination\nstatement = <target> should be PRESS_DONE @destination"
    found = InstructionGrounder(spoken_task("push", phrases=Phrases(verbs=verbs, rules=rules)))
    for text in (
        "press the puck",
        "hold down the puck",
        "would you mind holding down the puck",
        "the puck should be pressed",
    ):
        assert found.ground(text).accepted, text
    assert Phrases("press the {target}", verbs).doing("press the red knob") == "pressing the red knob"


def test_no_task_has_letters_that_a_negation_misses_by_one(tasks):
    # Such a verb would carry out a misspelt refusal.
    from physai_policy.language.english import REFUSING, classes

    near = {
        (name, word, turned)
        for name, task in tasks.items()
        for form, phrases in classes(task.phrases).items() if form in task.phrases.verbs
        for (word, *_) in phrases
        for turned in REFUSING & one_letter_from(word) if len(turned) > 3
    }  # fmt: skip
    assert near == set()
