"""What other distributions add to ours, by entry points."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points

from physai_base.errors import PhysaiError


def plugins(
    group: str, ours: Mapping[str, str], error: type[PhysaiError] = PhysaiError
) -> dict[str, EntryPoint]:
    """The entry points of that group, by name; `ours` says what each shipped name stands for.

    Raises:
        error: one name stands for two things, so that nobody could say which is meant.
    """
    taken, found = dict(ours), dict[str, EntryPoint]()
    for entry in entry_points(group=group):
        home = f" of {entry.dist.name} {entry.dist.version}" if entry.dist else ""
        if entry.name in taken:
            raise error(
                f"{entry.name!r} of the entry points {group} is both {taken[entry.name]} and {entry.value}{home}; rename or "
                "uninstall one of them"
            )
        taken[entry.name], found[entry.name] = f"{entry.value}{home}", entry
    return found
