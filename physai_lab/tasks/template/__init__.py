"""A jar is put on a mark."""

from physai_lab.tasks.template.task import TemplateTask, read

__all__ = ["TemplateTask", "read"]
