"""Several tasks: to which of them a sentence belongs, and what is asked of one that is not loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Protocol

from physai_base.errors import TaskError
from physai_base.task import Task, installed
from physai_policy.language.grounding import Grounding, InstructionGrounder, Verdict
from physai_policy.language.text import UnreadableError, plain, words_of


class Grounder(Protocol):
    """Whoever reads sentences: with the words of one task, or of several."""

    def ground(self, sentence: str) -> Grounding:
        """What `sentence` asks for; it never raises on a sentence."""
        ...


class TasksGrounder:
    """Reads what is asked for, and of which of the tasks that are loaded; what belongs to another is refused by its name."""

    def __init__(self, loaded: Sequence[Task], others: Callable[[], Iterable[Task]] = installed) -> None:
        """`others` are asked for when something is first said that no loaded task knows; the loaded ones may be among them.

        Raises:
            TaskError: there is no task, or the words of one make no grammar.
        """
        if not loaded:
            raise TaskError("no task is loaded: nothing can be asked for")
        self._loaded = tuple(InstructionGrounder(task) for task in loaded)
        self._find_others = others

    def ground(self, sentence: str) -> Grounding:
        """What `sentence` asks for, and of which task (`Grounding.task`); it never raises on a sentence.

        What one task is certain of is done. What several are certain of, or where none is what several would ask back,
        is asked back without labels: yes is no answer to it. Else it is the refusal that understood the most.
        """
        found = [grounder.ground(sentence) for grounder in self._loaded]
        for verdict in (Verdict.CERTAIN, Verdict.ASKED):
            fitting = [one for one in found if one.verdict is verdict]
            if len(fitting) > 1:
                ways = " or ".join(f"{one.understood} (task {one.task})" for one in fitting)
                return Grounding(None, None, Verdict.ASKED, f"I could {ways}: say it in other words")
            if fitting:
                return fitting[0]
        best = max(found, key=_understood)  # of several the first one
        return best if best.unplaced is None else self._elsewhere(sentence, best)

    def _elsewhere(self, sentence: str, refusal: Grounding) -> Grounding:
        """The refusal of what no rule of a loaded task covers, with the name of the task that it may be for."""
        said = _words(sentence)
        for other, telling in self._others:
            if not said & telling:
                continue
            found = other.ground(sentence)
            if found.verdict is Verdict.REFUSED and found.unplaced is None:  # it leaves open which
                return self._name(refusal, f"that is for the task {found.task}", found.task)
            if found.verdict is not Verdict.REFUSED:
                deed = other.task.phrases.doing(found.understood)
                return self._name(refusal, f"{deed} is the task {found.task}", found.task)
        deeds = refusal.unplaced or frozenset()
        for other, telling in self._others:
            if known := sorted(deeds & other.deeds & telling):
                return self._name(refusal, f'"{known[0]}" is for the task {other.task.name}', other.task.name)
        return refusal

    def _name(self, refusal: Grounding, what: str, task: str) -> Grounding:
        possible = "; ".join(grounder.possible for grounder in self._loaded)
        load = f"which is not loaded (start the stack with --task {task} or task:={task})"
        return replace(refusal, message=f"{what}, {load}. {possible}")

    @cached_property
    def _others(self) -> tuple[tuple[InstructionGrounder, frozenset[str]], ...]:
        """The tasks that are not loaded, each with the words that only it knows, or does something by."""
        loaded = {grounder.task.name for grounder in self._loaded}
        known = frozenset[str]().union(*(grounder.known for grounder in self._loaded))
        done = frozenset[str]().union(*(grounder.deeds for grounder in self._loaded))
        others = []
        for task in self._find_others():
            if task.name in loaded or not task.goals:
                continue
            try:
                other = InstructionGrounder(task)
            except TaskError:  # it will say so when it is loaded
                continue
            others.append((other, (other.known - known) | (other.deeds - done)))
        return tuple(others)


def _understood(found: Grounding) -> tuple[bool, int]:
    """How much of a sentence that is refused was understood."""
    return found.unplaced is None, -len(found.unplaced or ())


def _words(sentence: str) -> frozenset[str]:
    try:
        return frozenset(words_of(plain(sentence)))
    except UnreadableError:
        return frozenset()
