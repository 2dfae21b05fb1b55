"""Every fault, from F1 to F27, in order."""

from __future__ import annotations

from physai_lab.faults import channel, chunks, processes, settings, singular, surroundings
from physai_lab.faults.fault import FAULTS as _REGISTERED
from physai_lab.faults.fault import Fault

assert (
    channel and chunks and processes and settings and singular and surroundings
)  # importing them registers what they hold

FAULTS: dict[str, Fault] = {id: _REGISTERED[id] for id in sorted(_REGISTERED, key=lambda id: int(id[1:]))}
