"""Tasks as language sees them: labels, goals and words, and nothing that moves.

`task_words/NAME` holds what a real task's folder holds for language: `words.py`, until that is in `physai_tasks/NAME`, and of
a `layout.yaml` the labels and the words.
"""

from __future__ import annotations

import runpy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import paths
import yaml

from physai_base.expert import Goal
from physai_base.phrases import Phrases
from physai_base.task import Task
from physai_tasks.none import NoTask

FOLDER = Path(__file__).resolve().parent / "task_words"
NAMES = ("push", "stack", "insert", "wipe", "drawer")


@dataclass(frozen=True)
class SpokenTask(NoTask):
    """What may be asked for."""

    things: tuple[str, ...] = ()
    spots: tuple[str, ...] = ()
    asked: tuple[Goal, ...] = ()
    with_phrases: Phrases = field(default_factory=Phrases)

    @property
    def objects(self) -> tuple[str, ...]:
        """What may be moved."""
        return self.things

    @property
    def places(self) -> tuple[str, ...]:
        """Where to."""
        return self.spots

    @property
    def goals(self) -> tuple[Goal, ...]:
        """All that may be asked for."""
        return self.asked

    @property
    def phrases(self) -> Phrases:
        """From words.py."""
        return self.with_phrases


def spoken_task(
    name: str,
    things: tuple[str, ...] = (),
    places: tuple[str, ...] = (),
    words: Mapping[str, tuple[str, ...]] | None = None,
    phrases: Phrases | None = None,
) -> SpokenTask:
    """The task of that name in `task_words`, or with other labels, words or phrases."""
    layout = yaml.safe_load((FOLDER / name / "layout.yaml").read_text())
    things, places = things or tuple(layout["objects"]), places or tuple(layout["places"])
    module = runpy.run_path(str(_words(name)))
    if name == "wipe":
        goals = tuple(Goal(thing, "") for thing in things)
    elif name == "stack":  # anything on anything else
        goals = tuple(Goal(a, b) for b in things for a in things if a != b)
    else:
        goals = tuple(Goal(thing, place) for place in places for thing in things)
    empty = Task.load("none")
    return SpokenTask(
        name=name,
        path=FOLDER / name / "layout.yaml",
        workcell=empty.workcell,
        boards=empty.boards,
        upright_cosine=1.0,
        words={word: tuple(called) for word, called in layout["words"].items()} if words is None else words,
        things=things,
        spots=places,
        asked=goals,
        with_phrases=module["PHRASES"] if phrases is None else phrases,
    )


def _words(name: str) -> Path:
    ours = paths.ROOT / "physai_tasks" / name / "words.py"
    return ours if ours.is_file() else FOLDER / name / "words.py"
