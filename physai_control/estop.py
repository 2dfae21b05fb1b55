"""Who presses the emergency stop: several buttons may share its topic, and pressed wins."""

from __future__ import annotations

from collections.abc import Callable, Collection

MAX_PUBLISHERS = 64  # of which it is remembered how new their last word is


class StopButtons:
    """What each publisher of `estop` said last.

    A button that is pressed stays pressed until it says otherwise itself, whatever others say meanwhile. One that is
    gone, such as `ros2 topic pub --once`, can no longer: there the word of any other that it is released counts, once
    it is gone.

    Where the middleware does not tell publishers apart (`publisher` is empty, as in rclpy before Kilted), nobody
    knows whose button a `false` releases: it releases none while there is more than one publisher.
    """

    def __init__(self) -> None:
        self._pressed: set[bytes] = set()
        self._newest: dict[bytes, int] = {}

    def say(
        self, publisher: bytes, pressed: bool, order: int, living: Callable[[], Collection[bytes]]
    ) -> bool:
        """A publisher said that it is pressed, or is not.

        `order`: rises with each message of a publisher. What a newer one has overtaken changes nothing here.
        `living`: asks for the publishers that are there.

        Returns:
            False if a release could not be believed, because nobody knows whose it is.
        """
        overtaken = order < self._newest.get(publisher, order)
        self._newest[publisher] = max(order, self._newest.pop(publisher, order))
        if len(self._newest) > MAX_PUBLISHERS:
            del self._newest[next(iter(self._newest))]
        if overtaken and (publisher or not pressed or len(living()) <= 1):
            return True
        if pressed:
            self._pressed.add(publisher)
            return True
        if not self._pressed:
            return True
        here = living()
        if not publisher and len(here) > 1:
            return False
        self._pressed.discard(publisher)
        self._pressed.intersection_update({*here, b""} if publisher else here)
        return True

    def pressing(self) -> list[bytes]:
        """The publishers that hold the stop."""
        return sorted(self._pressed)
