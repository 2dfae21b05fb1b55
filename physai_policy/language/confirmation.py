"""Whether an understood instruction begins, is asked back or is refused: what the person wants and has confirmed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from physai_policy.language.grounding import Grounding, Verdict


class Confirm(IntEnum):
    """As in ExecuteTask.action."""

    AUTO = 0  # what is certain begins at once, what is not is asked back
    ALWAYS = 1  # everything is asked back
    NEVER = 2  # what is not certain is refused


@dataclass(frozen=True)
class Answer:
    """What becomes of an instruction; it begins where there is no reason against it."""

    reason: str = ""  # why it does not begin
    question: str = ""  # not empty: it was asked back, and would begin if the answer were yes
    target: str = ""  # what was understood
    destination: str = ""


def answer(
    grounding: Grounding, confirm: int = Confirm.AUTO, confirmed: tuple[str, str] = ("", "")
) -> Answer:
    """The answer to an instruction of that meaning.

    `confirmed` is the target and the destination that the person has said yes to; it is no free pass: the sentence
    must still mean them.
    """
    target, destination = grounding.target or "", grounding.destination or ""
    if confirm not in list(Confirm):
        known = ", ".join(f"{mode.value} ({mode.name.lower()})" for mode in Confirm)
        return Answer(f"confirm is one of {known}, got {confirm}")
    if grounding.verdict is Verdict.REFUSED or grounding.target is None or grounding.destination is None:
        return Answer(grounding.message, "", target, destination)
    if any(confirmed):
        if confirmed == (target, destination):
            return Answer("", "", target, destination)
        said, meant = (
            " on ".join(label or "nothing" for label in pair) for pair in (confirmed, (target, destination))
        )
        reason = f"what was confirmed is {said}, but the instruction means {meant}; nothing is done"
        return Answer(reason, "", target, destination)
    if grounding.verdict is Verdict.ASKED and confirm == Confirm.NEVER:
        return Answer(
            f"not certain enough to begin without asking: {grounding.message}", "", target, destination
        )
    if grounding.verdict is Verdict.CERTAIN and confirm != Confirm.ALWAYS:
        return Answer("", "", target, destination)
    question = (
        grounding.message if grounding.verdict is Verdict.ASKED else f"I will {grounding.understood}: yes?"
    )
    return Answer(f"asked back: {question}", question, target, destination)
