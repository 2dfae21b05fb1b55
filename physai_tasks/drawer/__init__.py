"""A block is put into a drawer that has to be opened first and closed again: three steps, one sentence."""

from physai_tasks.drawer.task import DrawerTask, read

__all__ = ["DrawerTask", "read"]
