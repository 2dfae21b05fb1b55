"""How something may be asked to be put into a drawer, which is opened and closed for it."""

from __future__ import annotations

from physai_base.phrases import INTO, Phrases

PHRASES = Phrases(
    order="put the {target} into the {destination}",
    verbs={
        "PUT": "drop dropping dropped, lay laying laid, hide hiding hidden",
        "OPEN": "open opening opened, open_up opening_up opened_up, pull_open pulling_open pulled_open, "
        "pull_out pulling_out pulled_out, slide_open sliding_open slid_open",
        "CLOSE": "close closing closed, shut shutting shut, close_up closing_up closed_up, push_shut pushing_shut pushed_shut, "
        "slide_shut sliding_shut slid_shut, push_closed pushing_closed pushed_closed",
    },
    rules=INTO
    + """
    place_to = [over] to <place>
    inside = [back] (in | inside | into it | in it | inside it | inside of it | in there)
    spot = (open | opened | closed) BOARD
    opened = OPEN <place> | get <place> open | (pull | slide) <place> (open | out)
    closed = CLOSE (it | that | <place>) [up | again | afterwards | after that]
        | (push | slide) (it | <place>) (shut | closed | in | back | back in) [again]
        | close up <place>
    and_then = and | then | and then | after that | and after that | and finally | finally | and afterwards | afterwards
    put_in = PUT <back> <target> <inside> @destination | PUT <inside> <target> @destination
        | <taking> [<joint>] PUT it <inside> @destination
    order = <taking> [<joint>] <opened> [<and_then>] PUT it (<inside> @destination | <place_on>)
        | after OPEN_ING <place> {<polite>} (<put_in> | <order>)
        | <opened> [for (me | us)] [<and_then>] {<polite>} (<put_in> | <order>) | <put_in>
        | (put | tidy | clear | store | stow | pack) (<target> away | away <target>) @destination
        | (put | tidy | pack) <target> away <place_on>
    opening = first <opened> [<and_then>] {<polite>}
    ending = [<and_then>] {<polite>} <closed> [afterwards | after that | again]
    """,
)
