"""An executor for nodes with much traffic: callbacks run in one thread, and the wait set is gathered once.

rclpy's own executors gather every entity of the node anew for each wait, and wait up to three times for one
callback. A lifecycle node has some 60 entities, most of them services that nobody calls; on one core, 150
messages a second then cost a fifth of it. This one does the gathering again only after `wake()`, which rclpy
calls whenever an entity is made or destroyed. `test/bench/bench_executor.py` has the ratio.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor, TimeoutObject
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
from rclpy.node import Node
from rclpy.task import Task
from rclpy.utilities import timeout_sec_to_nsec
from rclpy.waitable import NumberOfEntities

from physai_ros.ending import leave_graph


class CachingExecutor(SingleThreadedExecutor):
    """A SingleThreadedExecutor that keeps its wait set. Callback groups do not matter: there is one thread."""

    def __init__(self, **arguments: Any) -> None:
        self._changed = True
        self._held = ExitStack()  # keeps the entities of the wait set from being destroyed under it
        super().__init__(**arguments)

    def add_node(self, node: Node) -> bool:
        """Add a node whose callbacks shall run."""
        self._changed = True
        return bool(super().add_node(node))

    def remove_node(self, node: Node) -> None:
        """Run no more callbacks of that node."""
        self._changed = True
        super().remove_node(node)

    def wake(self) -> None:
        """Look again at what there is to wait for; rclpy calls it when entities come and go."""
        self._changed = True
        super().wake()

    def spin(self) -> None:
        """Run callbacks until the executor or the context is shut down."""
        try:
            super().spin()
        finally:
            self._held.close()
            self._changed = True

    def _spin_once_impl(
        self,
        timeout_sec: float | TimeoutObject | None = None,
        wait_condition: Callable[[], bool] = lambda: False,
    ) -> None:
        """Wait once and run everything that is ready."""
        self.go_on_with_tasks()
        if wait_condition():
            return
        if self._changed:
            self._gather()
        timeout = timeout_sec.timeout if isinstance(timeout_sec, TimeoutObject) else timeout_sec
        self._wait(timeout_sec_to_nsec(timeout))

    def _gather(self) -> None:
        self._changed = False  # first: a wake() from now on counts
        self._held.close()
        nodes = self.get_nodes()
        self._subscriptions = self._usable(entity for node in nodes for entity in node.subscriptions)
        self._timers = self._usable(entity for node in nodes for entity in node.timers)
        self._clients = self._usable(entity for node in nodes for entity in node.clients)
        self._services = self._usable(entity for node in nodes for entity in node.services)
        guards = [entity for node in nodes for entity in node.guards]
        self._guards = self._usable(
            [*guards, *(guard for guard in (self._guard, self._sigint_gc) if guard is not None)]
        )
        self._waitables = self._usable((entity for node in nodes for entity in node.waitables), waitable=True)
        count = NumberOfEntities(
            len(self._subscriptions), len(self._guards), len(self._timers), len(self._clients), len(self._services)
        )  # fmt: skip
        for waitable in self._waitables:
            count += waitable.get_num_entities()
        context = self._context.handle
        if context is None:
            raise ExternalShutdownException
        self._held.enter_context(context)
        self._wait_set = _rclpy.WaitSet(
            count.num_subscriptions, count.num_guard_conditions, count.num_timers, count.num_clients,
            count.num_services, count.num_events, context,
        )  # fmt: skip

    def _usable(self, entities: Any, waitable: bool = False) -> list[Any]:
        """Those of `entities` that are not being destroyed, held until the next gathering."""
        usable = []
        for entity in entities:
            try:
                self._held.enter_context(entity if waitable else entity.handle)
            except _rclpy.InvalidHandle:
                continue
            usable.append(entity)
        return usable

    def _wait(self, timeout_ns: int) -> None:
        wait_set = self._wait_set
        wait_set.clear_entities()
        for entity in self._subscriptions:
            wait_set.add_subscription(entity.handle)
        for entity in self._clients:
            wait_set.add_client(entity.handle)
        for entity in self._services:
            wait_set.add_service(entity.handle)
        for entity in self._timers:
            wait_set.add_timer(entity.handle)
        for entity in self._guards:
            wait_set.add_guard_condition(entity.handle)
        for entity in self._waitables:
            entity.add_to_wait_set(wait_set)
        wait_set.wait(timeout_ns)
        if self._is_shutdown:
            return
        if not self._context.ok():
            raise ExternalShutdownException
        # All is read off the wait set first: a callback may change what there is.
        waitables = [entity for entity in self._waitables if entity.is_ready(wait_set)]
        ready = {
            kind: set(wait_set.get_ready_entities(kind))
            for kind in ("timer", "subscription", "guard_condition", "client", "service")
        }
        for entity in waitables:
            self._run(self._take_waitable, entity)
        for kind, entities, take in (
            ("timer", self._timers, self._take_timer),
            ("subscription", self._subscriptions, self._take_subscription),
            ("guard_condition", self._guards, self._take_guard_condition),
            ("client", self._clients, self._take_client),
            ("service", self._services, self._take_service),
        ):
            if not ready[kind]:
                continue
            for entity in entities:
                if entity.handle.pointer not in ready[kind] or entity is self._guard:
                    continue
                # A cancelled timer may show as ready.
                if kind == "timer" and not entity.handle.is_timer_ready():
                    continue
                self._run(take, entity)

    def _run(self, take: Callable[[Any], Any], entity: Any) -> None:
        if self._is_shutdown:
            return
        callback = take(entity)
        if callback is not None:
            self._step(Task(callback, executor=self), None)

    def _step(self, task: Any, node: Any) -> None:
        """Run a task until it ends or waits; one that waits is taken up again after the next wake."""
        task()
        if not task.done():
            with self._tasks_lock:
                self._tasks.append((task, None, node))
        elif task.exception() is not None:
            raise task.exception()

    def go_on_with_tasks(self) -> None:
        """Run the coroutines that can go on, in the executor's thread."""
        with self._tasks_lock:
            tasks, self._tasks = self._tasks, []
        for task, _, node in tasks:
            if not task.done() and not task.cancelled():
                self._step(task, node)


@contextmanager
def spun(node: Node) -> Iterator[None]:
    """Meanwhile the node's callbacks run in a thread of their own; afterwards it leaves the graph."""
    executor = CachingExecutor()
    executor.add_node(node)

    def spin() -> None:
        with suppress(ExternalShutdownException):
            executor.spin()

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    try:
        yield
    finally:
        # With the node goes this process's shared memory, once nothing holds on to it.
        leave_graph(node, thread)
