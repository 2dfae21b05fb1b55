"""How blocks may be asked to be stacked."""

from __future__ import annotations

from physai_base.phrases import Phrases

PHRASES = Phrases(
    order="put the {target} on the {destination}",
    verbs={
        "PUT": "stack stacking stacked, lay laying laid, pile piling piled, balance balancing balanced",
    },
    rules="""
    place_on := [up | down | back | over | right] (on | onto | on to | upon | atop | on top of | on the top of) <place>
    place_to := [up | down | back | over] (onto | on to | on top of) <place> | [over] to !preposition <place>
    carried := onto | on to | up onto | down onto | on top of | (to | over to | up to) !preposition
    on_to := on | onto | on to | on top of
    order = add <target> <way> <place_on> | top <place> with <target> | (cap | crown) !preposition <place> with <target>
        | (make | build) [me | us] a (tower | stack | pile) ((of | from | out of | with) <thing> <place_on> | by <doing>)
    greeting = (make | build) [me | us] a [little | small] (tower | stack) | build it up | stack them [up]
    statement = <place> (should have | needs | gets) <target> on (it | top [of it])
    doing = topping <place> with <target>
    """,
)
