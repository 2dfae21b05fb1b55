"""From a sentence to what is asked for: which object to move and where to, or a question, or why not."""

from physai_policy.language.confirmation import Answer, Confirm, answer
from physai_policy.language.grounding import Grounding, InstructionGrounder, Verdict
from physai_policy.language.tasks import Grounder, TasksGrounder

__all__ = [
    "Answer",
    "Confirm",
    "Grounder",
    "Grounding",
    "InstructionGrounder",
    "TasksGrounder",
    "Verdict",
    "answer",
]
