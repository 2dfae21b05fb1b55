"""A stain is wiped away with a sponge, pressed with the right force."""

from physai_tasks.wipe.task import WipeTask, read

__all__ = ["WipeTask", "read"]
