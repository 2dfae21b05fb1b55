"""One thing that `physai robot check` says of a robot's file, or `physai task check` of a task."""

from __future__ import annotations

from dataclasses import dataclass

WRONG, DOUBTFUL, NOTE = "wrong", "doubtful", "note"


@dataclass(frozen=True)
class Remark:
    """One thing about it."""

    level: str  # WRONG, DOUBTFUL or NOTE
    entry: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:9} {self.entry}: {self.text}"
