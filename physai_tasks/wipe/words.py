"""How a stain may be asked to be wiped away."""

from __future__ import annotations

from physai_base.phrases import Phrases

PHRASES = Phrases(
    order="wipe the {target} away",
    verbs={
        "WIPE": "wipe wiping wiped, clean cleaning cleaned, scrub scrubbing scrubbed, mop mopping mopped, sponge sponging sponged, "
        "remove removing removed, erase erasing erased, rub rubbing rubbed, wash washing washed, clear clearing cleared, "
        "swab swabbing swabbed, polish polishing polished, tidy tidying tidied, blot blotting blotted, dab dabbing dabbed, soak_up soaking_up soaked_up",
        "POLISH": "wipe wiping wiped, clean cleaning cleaned, scrub scrubbing scrubbed, mop mopping mopped, wash washing washed, "
        "polish polishing polished",
    },
    words={
        "SIZE": "dirty, ugly, nasty, wet, sticky, greasy, dried, dried up, fresh",
        "LIQUID": "coffee, tea, water, milk, juice, wine, soup, sauce, ketchup, ink, paint, oil, beer, cola, syrup, jam",
        "SPONGE": "sponge, cloth, rag, wiper",
        "DIRTY": "dirty, stained, messy, filthy, sticky, a mess",
    },
    rules="""
    spilt = [<det>] LIQUID (THING | [that] (i | we | you) [have] (spilled | spilt | dropped)) @target
    thing = <spilt>
    off = [up | away | off | out | down]
    surface = (the | that | this | my | our | your) (FLOOR | surface | table surface | FLOOR surface) @target
    from_it = (off | from | off of) <surface> | on <surface>
    with_it = (with | using) (the | a | your | that) SPONGE
    it = it | that | this
    wiping_it = WIPE <off> <it> <off> [<from_it>] [<with_it>] | get rid of <it>
    order = WIPE <off> <target> <off> <manner> [<from_it>] [<with_it>]
        | POLISH [down | off | up] <surface> [down | off | clean | please] [<with_it>]
        | get rid of <target> [<from_it>] | get <target> (out | off | away) [<from_it>] | get <target> <from_it>
        | make <target> (disappear | vanish | go away | go) | get <surface> clean | make <surface> clean [again]
        | give <surface> a [good | quick | little | proper] (wipe | clean | scrub | rub | polish)
        | (use | take | grab | get | pick up) (the | a | your) SPONGE (to | and | and then) {<polite>} <order>
        | (use | run | rub | move | pass) (the | a | your) SPONGE (on | over | across) (<target> | <surface>)
        | (take care of | deal with | see to | attend to) <target>
        | WIPE <off> <it> !generic <off> @target [<with_it>] | give it !generic a [good | quick] (wipe | clean | scrub) @target
        | <with_it> {<polite>} <order>
        | there is <target> [on <surface>] [so | and] {<polite>} <wiping_it>
        | (i | we | somebody | someone) [have | has] [just] (spilled | spilt) (something | [some | my | the | a] LIQUID | [some | my] UNKNOWN !adjective) @target [on <surface>]
            [so] {<polite> | can you | could you} <wiping_it>
        | <surface> is [very | so | really | a bit] DIRTY [so | and] {<polite>} (POLISH it | wipe it <off> | clean it up)
    doing = WIPE_ING <off> <target> <off> [<from_it>] [<with_it>] | POLISH_ING [down | off] <surface> [<with_it>]
        | getting rid of <target>
    ending = until (it | <target>) is (gone | clean | off | away) | until <surface> is clean
    statement = <wanting> a [nice and] clean FLOOR @target | <target> <ought> (be WIPE_DONE <off> [<from_it>] | go [away] | disappear | come off)
        | <wanting> <target> [to be] (WIPE_DONE <off> [<from_it>] | gone | removed | <from_it>)
        | <surface> <ought> be POLISH_DONE [down] | <surface> needs (POLISH_ING | a [good | quick] (wipe | clean | scrub))
        | <target> needs WIPE_ING | <wanting> <surface> [to be] (POLISH_DONE | clean)
        | <target> (must | has to | has got to) (go [away] | be WIPE_DONE <off>)
    """,
    doubts={"manner": "I can only wipe"},
)
