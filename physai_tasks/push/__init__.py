"""A puck is pushed onto a mark: any arm can do it, without a gripper."""

from physai_tasks.push.task import PushTask, read

__all__ = ["PushTask", "read"]
