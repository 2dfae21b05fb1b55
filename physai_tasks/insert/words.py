"""How a peg may be asked to be put into a hole."""

from __future__ import annotations

from physai_base.phrases import INTO, Phrases

PHRASES = Phrases(
    order="insert the {target} into the hole of the {destination}",
    verbs={
        "PUT": "insert inserting inserted, plug plugging plugged, fit fitting fitted, push pushing pushed, press pressing pressed, "
        "slide sliding slid, drop dropping dropped, lower lowering lowered, guide guiding guided, "
        "thread threading threaded, work working worked, wiggle wiggling wiggled, shove shoving shoved, feed feeding fed, "
        "sink sinking sunk, mount mounting mounted, dock docking docked, stuff stuffing stuffed, poke poking poked",
        "INSERT": "insert inserting inserted, plug_in plugging_in plugged_in, push_in pushing_in pushed_in",
    },
    words={"HOLE": "hole, socket, slot, opening, bore, receptacle"},
    rules=INTO
    + """
    spot = HOLE @destination | HOLE (of | in | on) <place> | LEVEL (HOLE | BOARD 's HOLE) | BOARD 's HOLE
    order = INSERT <manner> <target> <manner> @destination | (plug | push | press | put | stick | shove | slide | pop | drop | get) <target> [all the way | right] in [there] @destination
        | <taking> [<joint>] {<polite>} (INSERT it | (plug | push | put | stick) it in) @destination
        | (line up | align) <target> (with | and) <place> <joint> {<polite>} PUT it (in | into it | inside)
        | (plug | fill | close) <place> with <target>
        | (put | fit | join | bring) <target> and <place> together
        | (assemble | join | mate | connect) <target> (and | with | to) <place>
    doing = INSERT_ING <target> @destination | (plugging | filling) <place> with <target>
    statement = <place> needs <target> [in it] | <target> <ought> be INSERT_DONE @destination
        | <wanting> <target> [to be] INSERT_DONE @destination
    """,
    doubts={"manner": "I can only put it in"},
)
