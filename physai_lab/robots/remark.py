"""One thing that `physai robot check` says of a robot's file."""

from __future__ import annotations

from dataclasses import dataclass

WRONG, DOUBTFUL, NOTE = "wrong", "doubtful", "note"


@dataclass(frozen=True)
class Remark:
    """One thing about a robot's file."""

    level: str  # WRONG, DOUBTFUL or NOTE
    entry: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:9} {self.entry}: {self.text}"
