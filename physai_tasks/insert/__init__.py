"""A peg is put into a hole that is known to 3 mm only: what is felt decides."""

from physai_tasks.insert.task import InsertTask, read

__all__ = ["InsertTask", "read"]
