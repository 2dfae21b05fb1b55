"""What a node waits for, or repeats without progress: named, dated on the steady clock, shown once it lasts.

    self.conditions.set("depth_absent", "no depth image on camera/front/depth: start the driver's depth stream")
    self.conditions.end("depth_absent")
    with self.conditions.during("renderer", "waits for the renderer: is there an EGL device?"):
        ...

A condition that has lasted PATIENCE_S is logged once and shown on `diagnostics` until it ends, there as the key
`condition.<name>`: names are stable for programs, sentences are for people and say what is missing and what to do.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

PATIENCE_S = 2.0


@dataclass(frozen=True)
class Condition:
    """One thing that is waited for, or that repeats."""

    name: str  # stable, lower case with underscores
    text: str  # what is missing or late, and what to do
    error: bool  # ERROR on `diagnostics`, else WARN
    since_s: float  # steady time
    patience_s: float  # after which it is shown


class Conditions:
    """The conditions of one node; may be used from any thread.

    `warn`, `fail` and `tell` take a line for the log: of a warning, of an error, and that a condition is over.
    """

    def __init__(
        self,
        warn: Callable[[str], object],
        fail: Callable[[str], object],
        tell: Callable[[str], object],
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._warn, self._fail, self._tell = warn, fail, tell
        self._patience_s, self._clock = patience_s, clock
        self._lock = threading.Lock()
        self._present: dict[str, Condition] = {}
        self._logged: set[str] = set()

    def set(
        self,
        name: str,
        text: str,
        error: bool = False,
        since_s: float | None = None,
        patience_s: float | None = None,
    ) -> None:
        """It is so, and the newest text is shown; an empty text ends it.

        It counts from when it was first said, or from `since_s` on the steady clock, and shows after `patience_s`.
        """
        if not text:
            self.end(name)
            return
        with self._lock:
            known = self._present.get(name)
            if known is None:
                since_s = self._clock() if since_s is None else since_s
                patience_s = self._patience_s if patience_s is None else patience_s
                self._present[name] = Condition(name, text, error, since_s, patience_s)
            elif (known.text, known.error) != (text, error):
                self._present[name] = replace(known, text=text, error=error)

    def end(self, *names: str) -> None:
        """They are over; without a name, all are."""
        with self._lock:
            over = [name for name in (names or tuple(self._present)) if self._present.pop(name, None)]
            told = [name for name in over if name in self._logged]
            self._logged.difference_update(over)
        for name in told:
            self._tell(f"over: {name}")

    @contextlib.contextmanager
    def during(self, name: str, text: str, error: bool = False) -> Iterator[None]:
        """It is so while the block runs."""
        self.set(name, text, error)
        try:
            yield
        finally:
            self.end(name)

    def since_s(self, name: str) -> float | None:
        """For how many seconds it has been so; None when it is not."""
        with self._lock:
            condition = self._present.get(name)
        return None if condition is None else self._clock() - condition.since_s

    def lasting(self) -> tuple[Condition, ...]:
        """Those that have lasted for the patience: errors first, then the oldest. Each is logged once."""
        with self._lock:
            now = self._clock()
            old = [one for one in self._present.values() if now - one.since_s >= one.patience_s]
            fresh = [one for one in old if one.name not in self._logged]
            self._logged.update(one.name for one in fresh)
        for one in fresh:
            (self._fail if one.error else self._warn)(one.text)
        return tuple(sorted(old, key=lambda one: (not one.error, one.since_s)))

    def show_on(self, status: DiagnosticStatus) -> None:
        """Add those that last to a node's status; an ERROR that it already carries comes first."""
        lasting = self.lasting()
        if not lasting:
            return
        status.values = [
            *status.values,
            *(KeyValue(key=f"condition.{c.name}", value=c.text) for c in lasting),
        ]
        texts = [c.text for c in lasting]
        if status.level == DiagnosticStatus.ERROR:
            status.message = "; ".join([status.message, *texts])
            return
        status.level = DiagnosticStatus.ERROR if lasting[0].error else DiagnosticStatus.WARN
        status.message = "; ".join(texts)
