"""How a puck may be asked to be pushed onto a mark."""

from __future__ import annotations

from physai_base.phrases import Phrases

PHRASES = Phrases(
    order="push the {target} onto the {destination}",
    verbs={
        "MOVE": "push pushing pushed, slide sliding slid, shove shoving shoved, nudge nudging nudged, scoot scooting scooted, "
        "guide guiding guided, steer steering steered, drive driving driven, sweep sweeping swept, glide gliding glided, "
        "tap tapping tapped, send sending sent, propel propelling propelled, "
        "bump bumping bumped, shuffle shuffling shuffled, budge budging budged, scooch scooching scooched",
    },
    rules="""
    order = give <target> a [little | small | gentle | light] (push | nudge | shove | tap) <way> <place_to>
        | MOVE <back> <target> <way> until it (is | sits | lies | rests | stands | gets | comes) <place_on>
        | MOVE <back> <target> <way> until it (reaches | touches | arrives at | gets to | hits) <place>
        | MOVE it <target> <way> <place_to>
        | MOVE <target> so [that] it (is | ends up | lands | comes to rest) <place_on>
        | score [a goal] with !preposition <target> @destination
    command = (use | using | with) (your | the) (tool | pusher | fingertip | finger | tip) [to | and] <order>
    spot = (target | goal) BOARD
    way_part = (with | using) (the | your) (tool | pusher | fingertip | finger | tip) | (across | along | over) the FLOOR
    place_to = [all the way | right | straight | over | back] (to | onto | on to) <place> | (toward | towards) !preposition <place>
    """,
    doubts={"manner": "I can only push it there"},
)
