"""A cup is put on a shelf: the first task, and the one that the shipped models are for."""

from physai_tasks.cups.task import CupTask, read

__all__ = ["CupTask", "read"]
