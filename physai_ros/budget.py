"""How often something may be started again: a number within a window of time that moves on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

WINDOW_S = 600.0


class RestartBudget:
    """At most `limit` restarts within `window_s`, on the steady clock: a loss a day is not a crash loop."""

    def __init__(
        self, limit: int, window_s: float = WINDOW_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit, self.window_s = limit, window_s
        self._clock = clock
        self._spent: deque[float] = deque()

    @property
    def used(self) -> int:
        """Restarts within the window that ends now."""
        now = self._clock()
        while self._spent and now - self._spent[0] >= self.window_s:
            self._spent.popleft()
        return len(self._spent)

    def spend(self) -> None:
        """One more."""
        self._spent.append(self._clock())

    @property
    def free_in_s(self) -> float:
        """When another one is allowed: 0 now, infinity never."""
        if self.limit <= 0:
            return float("inf")
        if self.used < self.limit:
            return 0.0
        return self._spent[-self.limit] + self.window_s - self._clock()

    def clear(self) -> None:
        """A person asks for another try."""
        self._spent.clear()
