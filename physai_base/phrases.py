"""How a task is asked for: what its `words.py` brings to the grammar of language (`physai_policy/language`), and how it is said.

The grammar knows requests to put a THING on a BOARD. A task with other deeds brings its verbs, phrases and rules.

Classes of the lexicon that come from the labels of a task's goals (the last word of a label is what it is, the others which
one it is): of targets THING ("block"), TARGET ("red") and TARGET_SIZE ("small"); of destinations BOARD, LEVEL and LEVEL_SIZE.
Rules that a task's own may be made of: `<target>`, `<thing>` ("the red block"), `<place>` ("the big blue one"), `<place_on>`,
`<place_to>`, `<place_at>` (with a preposition), `<taking>` ("pick up the red block"), `<putting_it>` ("and put it on …"),
`<joint>` ("and then"), `<polite>`, `<manner>` ("please", "carefully"), `<way>` (that, "over", "from the table"), `<ought>`.
Rules that it may widen: `order` ("put …"), `doing` ("putting …"), `statement` ("the … goes on …"), `is_put`, `be_put`, `done`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# A task whose destinations are gone into takes these instead of "on" and "onto" (`rules=INTO + …`).
INTO = """
on_to := in | into | in to | inside
carried := into | in to | back into | down into | over into | (to | over to) !preposition
gotten := into | in to | in
standing := in
place_on := [down | back | right | straight] (in | into | in to | inside [of] | within) <place>
place_to := [down | back | over | straight] (into | in to) <place> | [back | over] to !preposition <place>
"""


@dataclass(frozen=True)
class Phrases:
    """What a task may be asked for with, besides what the grammar knows."""

    order: str = "put the {target} on the {destination}"
    """An order, with the labels as one says them; `{destination}` only where the task needs one."""

    verbs: Mapping[str, str] = field(default_factory=dict)
    """By class: base, gerund and participle, rows by commas ("push pushing pushed"); "_" joins the words of one form.

    PUT, MOVE and TAKE are widened; of any other class X, X_ING and X_DONE become classes, too.
    """

    words: Mapping[str, str] = field(default_factory=dict)
    """Phrases by class, by commas; classes that there are (SIZE, NAME, FLOOR, …) are widened."""

    rules: str = ""
    """In the notation of `physai_policy/language/grammar.py`: `name = …` widens a rule, `name := …` replaces it."""

    doubts: Mapping[str, str] = field(default_factory=dict)
    """Why a reading with the mark `!name` is asked back; those that there are may be told otherwise."""

    def said(self, target: str, destination: str) -> str:
        """The order for labels."""
        names = {"target": target.replace("_", " "), "destination": destination.replace("_", " ")}
        return self.order.format(**names)

    def doing(self, order: str) -> str:
        """An order as a deed ("pushing the red puck onto the green mark")."""
        verb, _, rest = order.partition(" ")
        rows = [row.split() for table in self.verbs.values() for row in table.split(",")]
        gerund = next(
            (row[1] for row in rows if row[0] == verb), "putting" if verb == "put" else f"{verb}ing"
        )
        return f"{gerund} {rest}"
