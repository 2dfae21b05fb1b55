"""English requests to put something somewhere, for any task: the words that no task changes.

The grammar (english_grammar.py) lists what is understood. A word that it does not place makes a sentence unreadable, so what
is missing there and here costs a refusal; what is there without a `!doubt` moves a robot.
"""

from __future__ import annotations

from collections.abc import Mapping

from physai_base.phrases import Phrases
from physai_policy.language.grammar import NOTHING, Meaning, Phrase


def words_in(text: str) -> frozenset[str]:
    """The words of a list by spaces."""
    return frozenset(text.split())


# Doubts that a reading may carry, and what the person is told.
DOUBTS: Mapping[str, str] = {
    "rare": "not everybody would call it that",
    "spelling": "a word is spelt in a way that I do not know",
    "adjective": "there is a word in it that I do not know",
    "number": "it counts levels",
    "relative": "the place is named by another one",
    "pace": "I move at a pace of my own",
    "fragment": "it may be a description instead of a request",
    "suggestion": "it may be a thought instead of a request",
    "permission": "it may be a permission instead of a request",
    "wish": "it may be what you will do yourself",
    "source": "it names two places",
    "generic": "the thing is not called by its name",
    "manner": "I can only put it there",
    "order": "it says in which order, and I do one thing",
    "preposition": "the place could be meant in another way",
    "question": "it ends in a question mark",
    "only": "it leaves open which, but only that may be meant",
}

# Why a sentence is refused that the grammar does not cover, by the words in it; the first list that has one counts.
DANGERS: Mapping[str, str] = {
    "not to do": (
        "not no never none nothing nobody nowhere neither nor cannot cant dont don't doesnt didnt wont "
        "couldnt wouldnt shouldnt mustnt neednt isnt arent aint havent "
        "without avoid avoids avoiding refuse refuses refusing refrain refraining stop stops stopping "
        "stopped cease ceasing quit forbid forbids forbidden forbidding "
        "prohibit prohibits prohibited prevent prevents preventing forget forgets forgetting forgot skip "
        "skips skipping cancel cancels cancelled canceled cancelling abort aborts "
        "ignore ignores ignoring omit omits omitting hardly scarcely barely rarely seldom illegal dislike "
        "hate hates nope nah non nix negative "
        "nicht kein nein nie pas jamais ne niet nooit non nunca nem abstain abstaining desist halt halts "
        "undo deny denied denies reject rejected "
        "disallow disallowed ban bans banned wrong false "
        "wary beware nevermind against unlikely unable impossible fail fails "
        "failing scrap disregard disregarding decline donot "
        "un"
    ),
    "that something stays as it is, or away": "keep keeps leave leaves leaving spare hold off away",
    "which one of several, or compares": (
        "or except excepting excluding exclude excludes but besides other others another else elsewhere "
        "rather instead apart aside save than opposed unlike versus different opposite alternative "
        "either both all every each any anything anywhere everything rest remaining same wherever "
        "whichever whatever only same similar like more less most least last final penultimate next "
        "previous nearest closest farthest furthest larger smaller bigger taller biggest smallest"
    ),
    "under which condition or when": (
        "if unless when whenever once until till before after while whilst whether provided providing "
        "assuming suppose supposing case later tomorrow yesterday today tonight soon "
        "minute minutes seconds hour hours oclock o'clock noon morning evening afternoon monday tuesday "
        "wednesday thursday friday saturday sunday week weeks day days month "
        "postpone postponing delay moment eventually sometime someday always sometimes often daily during since because depending wait"
    ),
    "something that somebody says, asks or reports": (
        "mum mummy mom mommy dad daddy mother father brother sister wife husband grandma grandpa "
        "they he she him her them his their theirs someone people everybody everyone "
        "why who whom whose what which how did does has had have was were is are am said says say saying "
        "told tells tell asked asks thinks thought heard claims claimed wrote read show "
        "explain describe wonder pretend imagine dream joke jk lol hypothetically theoretically "
        "supposedly allegedly maybe perhaps possibly might"
    ),
    "a place beside, under, in or away from something": (
        "under below beneath underneath beside next near nearby behind above over inside into in outside "
        "between among around through along past front left right edge corner side by off from "
        "where wherever there third fourth"
    ),
    "a deed that I do not do": (
        "throw toss drop dropping smash crash break bash slam kick hit punch push pull drag roll spin shake shove knock "
        "tip tilt turn rotate fling hurl chuck lob juggle wave point touch look watch see hold "
        "wash wipe clean paint fill empty pour drink eat burn cut melt crush squeeze bite lick sell buy "
        "hide show give hand pass open close count measure weigh photograph draw sing dance guard balance "
        "swap exchange switch stack pile build tidy remove delete eject release free steal lose"
    ),
    "a thing that I do not move": (
        "bottle can bowl plate spoon fork knife ball box book pen pencil lid handle jar jug pot pan bag "
        "hat cap cat cub dog car key phone lamp vase toy block cube banana apple orange robot hand arm "
        "shirt shoe chair pillow candle card paper picture content contents water coffee tea milk"
    ),
    "more than one thing to do": "and then afterwards afterward also too plus followed",
}  # fmt: skip

REFUSING = words_in(" ".join(list(DANGERS.values())[:4]))
# A label or a synonym in a task file may not be one of these.
NEVER_A_NAME = words_in(
    f"{DANGERS['not to do']} {DANGERS['that something stays as it is, or away']} "
    f"{DANGERS['under which condition or when']} drop dropping "
    "other others another except but than both either all every each any and or the a an it you please"
)

# No letter-for-letter near one of these is corrected to anything: it may have been meant.
NEAR = words_in(
    "not no never none nothing nobody neither nor cannot can't don't dont doesn't didn't won't wont "
    "couldn't wouldn't shouldn't mustn't must'nt needn't isn't aren't ain't without avoid "
    "refuse refrain stop cease quit forbid forbidden prohibit prohibited prevent forget skip cancel "
    "abort ignore omit hardly leave keep hate unless until except besides other another "
    "rather instead than unlike either all if when after before but nope nah non off cant mustnt "
    "shouldnt wouldnt couldnt neednt avoiding stopping refusing donot"
)  # fmt: skip

FILLERS = words_in("um uh uhm umm er erm hmm hm ah oh eh")

# base, gerund and participle of what puts a thing somewhere,
_PUT = (
    "put putting put, place placing placed, set setting set, stand standing stood, position "
    "positioning positioned, rest resting rested, "
    "park parking parked, store storing stored, stow stowing stowed, stash stashing stashed, deposit "
    "depositing deposited, situate situating situated, "
    "pop popping popped, stick sticking stuck, plop plopping plopped, plonk plonking plonked, plunk "
    "plunking plunked, arrange arranging arranged, install installing installed, "
    "settle settling settled, lodge lodging lodged, sit sitting sat, seat seating seated, "
    "reposition repositioning repositioned, shelve shelving shelved, perch perching perched, tuck tucking tucked, slot slotting slotted, load loading loaded, return returning returned"
)
_STAY = "return, reposition, arrange"  # may mean the one that is there
# and of what brings it to a place.
_MOVE = (
    "move moving moved, bring bringing brought, carry carrying carried, transfer transferring "
    "transferred, shift shifting shifted, relocate relocating relocated, "
    "transport transporting transported, deliver delivering delivered, lift lifting lifted, raise "
    "raising raised, get getting gotten, take taking taken, haul hauling hauled, "
    "convey conveying conveyed, ferry ferrying ferried, hoist hoisting hoisted, elevate elevating elevated, lower lowering lowered"
)
_TAKE = (
    "take taking taken, grab grabbing grabbed, grasp grasping grasped, get getting gotten, fetch "
    "fetching fetched, lift lifting lifted, pick picking picked, collect collecting collected, "
    "seize seizing seized, grip gripping gripped, clutch clutching clutched, retrieve retrieving "
    "retrieved, find finding found, locate locating located, reach_for reaching_for reached, "
    "take_hold_of taking_hold_of taken, get_hold_of getting_hold_of gotten, pick_up picking_up "
    "picked, lift_up lifting_up lifted, go_to going_to gone, go_get going_get gone, "
    "go_grab going_grab gone, go_and_get going_and_get gone, look_for looking_for looked, scoop_up "
    "scooping_up scooped, snatch snatching snatched, snatch_up snatching_up snatched, "
    "grab_hold_of grabbing_hold_of grabbed, take_up taking_up taken, identify identifying identified, get_a_hold_of getting_a_hold_of gotten, get_ahold_of getting_ahold_of gotten"
)
_SIZE = (
    "little small tiny big large tall short shiny pretty nice lovely empty plastic round cute "
    "beautiful smooth new old clean pretty glossy matte "
    "simple plain single wee good ceramic glass colorful colored dear poor lonely upright drinking"
)
_NAMES = (
    "robot, robbie, robby, robo, buddy, pal, mate, friend, my friend, dear robot, good robot, dear, machine, "
    "arm, robot arm, franka, panda, assistant, helper, love, sir, "
    "my dear, mister, mister robot, mr robot, dude, guys, folks, computer, my good robot, my "
    "good friend, old friend, old chap, champ, boss, honey, hun, sweetheart, sweetie, darling, bud"
)
_CARE = (
    "carefully, gently, safely, softly, neatly, nicely, cautiously, steadily, smoothly, delicately, "
    "properly, quickly, quick, swiftly, rapidly, speedily, real quick, upright, with care, with great care, without spilling, without spilling it, "
    "without spilling anything, without dropping it, without breaking it, without breaking anything, "
    "without tipping it over, without knocking it over, without knocking anything over, "
    "in one piece, as carefully as you can, as carefully as possible, as gently as you can, as gently "
    "as possible, very carefully, very gently, really carefully, nice and easy, nice and gently, "
    "nice and carefully, carefully and gently, gently and carefully, ever so gently, ever so "
    "carefully, right side up, right way up, the right way up"
)
_SOON = (
    "immediately, right away, right now, at once, straight away, straightaway, asap, as soon as "
    "possible, as soon as you can, promptly, without delay, now, as soon as you get the chance, "
    "as soon as you get a chance, this instant, just now, forthwith"
)
_PACE = (
    "slowly, fast, as fast as you can, as fast as "
    "possible, as quickly as possible, as quickly as you can, as quick as you can, as slowly as "
    "possible, "
    "as slowly as you can, very slowly, very quickly, nice and slowly, nice and slow, slow, in no "
    "time, hurry, hurry up, real fast, quick as you can"
)
# Colloquial for put, or a deed that is none of mine.
_ROUGH = "slide, bung, file, run, whip, chuck, whack, sling, shove, drop, toss, dump, flop"
_GOOD = (
    "great, nice, lovely, good, wonderful, fantastic, perfect, helpful, awesome, brilliant, super, "
    "kind, very kind, very nice, really nice, really helpful, really great, very helpful, so kind, so "
    "nice, ideal, best"
)
_FLOOR = "table, tabletop, table top, desk, worktop, bench, work surface"


def _phrases(text: str, meaning: Meaning = NOTHING) -> dict[Phrase, Meaning]:
    return {tuple(item.split()): meaning for item in text.split(",") if item.strip()}


def _forms(table: str, column: int) -> dict[Phrase, Meaning]:
    return {tuple(row.split()[column].split("_")): NOTHING for row in table.split(",")}


def _without(words: dict[Phrase, Meaning], these: str) -> dict[Phrase, Meaning]:
    return {phrase: meaning for phrase, meaning in words.items() if phrase not in _phrases(these)}


WORDS: dict[str, dict[Phrase, Meaning]] = {
    "PUT": _forms(_PUT, 0), "LAY": _without(_forms(_PUT, 0), _STAY), "STAY": _phrases(_STAY), "PUTTING": _forms(_PUT, 1), "PUT_DONE": _forms(_PUT, 2),
    "MOVE": _forms(_MOVE, 0), "MOVING": _forms(_MOVE, 1), "MOVED": _forms(_MOVE, 2),
    "TAKE": _forms(_TAKE, 0), "TAKING": _forms(_TAKE, 1),
    "SIZE": {(word,): NOTHING for word in _SIZE.split()},
    "NAME": _phrases(_NAMES), "CARE": _phrases(_CARE), "SOON": _phrases(_SOON),
    "SOON_FIRST": _phrases("immediately, right away, at once, straight away, promptly"), "PACE": _phrases(_PACE), "GOOD": _phrases(_GOOD),
    "FLOOR": _phrases(_FLOOR), "ROUGH": _phrases(_ROUGH),
}  # fmt: skip

_FORMS = {
    "PUT": ("PUT", "PUTTING", "PUT_DONE"),
    "MOVE": ("MOVE", "MOVING", "MOVED"),
    "TAKE": ("TAKE", "TAKING"),
}


def classes(more: Phrases) -> dict[str, dict[Phrase, Meaning]]:
    """The classes that a task's verbs and words make or widen.

    Raises:
        ValueError: a verb is not in three forms.
    """
    found = {name: _phrases(text) for name, text in more.words.items()}
    for name, table in more.verbs.items():
        for row in table.split(","):
            if len(row.split()) != 3:
                raise ValueError(f"{name}: {row.strip()!r} must be base, gerund and participle")
        for column, of_form in enumerate(_FORMS.get(name, (name, f"{name}_ING", f"{name}_DONE"))):
            found.setdefault(of_form, {}).update(_forms(table, column))
    if "PUT" in found:
        found["LAY"] = {**found.get("LAY", {}), **found["PUT"]}
    return found
