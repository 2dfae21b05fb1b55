"""How a jar may be asked to be put on the mark, besides "put … on"."""

from __future__ import annotations

from physai_base.phrases import Phrases

PHRASES = Phrases(
    order="put the {target} on the {destination}",
    verbs={"PUT": "stand standing stood", "MOVE": "shift shifting shifted"},
    rules="order = cover <place> with <target>",
)
