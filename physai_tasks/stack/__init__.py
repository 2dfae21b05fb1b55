"""Blocks are put on blocks, by colour and size, up to four high."""

from physai_tasks.stack.task import StackTask, read

__all__ = ["StackTask", "read"]
