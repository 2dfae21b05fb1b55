"""Colour and depth of one moment: the nearest stamps, within a tolerance."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")

KINDS = ("colour", "depth")
_KEPT = 6  # images of each kind that wait for their partner


class FramePairing(Generic[Item]):
    """Pairs the images of two streams; not thread-safe."""

    def __init__(self, tolerance_s: float) -> None:
        self._tolerance_ns = round(tolerance_s * 1e9)
        self._waiting: dict[str, deque[tuple[int, Item]]] = {kind: deque(maxlen=_KEPT) for kind in KINDS}
        self._newest: dict[str, int] = {}
        self._unpaired = 0

    def clear(self) -> None:
        """Forget what waits."""
        for waiting in self._waiting.values():
            waiting.clear()
        self._newest.clear()
        self._unpaired = 0

    def add(self, kind: str, stamp_ns: int, item: Item) -> tuple[int, Item, Item] | None:
        """The colour's stamp, colour and depth once both are here; of several partners the nearest."""
        other = KINDS[1 - KINDS.index(kind)]
        self._newest[kind] = stamp_ns
        waiting = self._waiting[other]
        nearest = min(range(len(waiting)), key=lambda i: abs(waiting[i][0] - stamp_ns), default=None)
        if nearest is None or abs(waiting[nearest][0] - stamp_ns) > self._tolerance_ns:
            self._waiting[kind].append((stamp_ns, item))
            self._unpaired += 1
            return None
        partner_ns, partner = waiting[nearest]
        for _ in range(nearest + 1):  # by arrival, not by stamp: one stamp may be wild
            waiting.popleft()
        self._waiting[kind].clear()
        self._unpaired = 0
        return (stamp_ns, item, partner) if kind == "colour" else (partner_ns, partner, item)

    @property
    def fault(self) -> str:
        """Why nothing pairs although both come, or nothing: which is late, by how much."""
        if self._unpaired < 2 * _KEPT or len(self._newest) < 2:
            return ""
        colour, depth = (self._waiting[kind] for kind in KINDS)
        if not (colour and depth):
            return ""
        gap_ns = min((d[0] - c[0] for c in colour for d in depth), key=abs)
        later, earlier = ("depth", "colour") if gap_ns > 0 else ("colour", "depth")
        return (
            f"the nearest {later} image is {abs(gap_ns) / 1e6:.1f} ms later than {earlier}; at most "
            f"{self._tolerance_ns / 1e6:g} ms are paired: let the driver synchronize them, or raise pairing_tolerance_s"
        )
