"""Who presses the emergency stop: several buttons may share its topic, and pressed wins."""

from __future__ import annotations

from collections.abc import Container


class StopButtons:
    """What each publisher of `estop` said last.

    A button that is pressed stays pressed until it says otherwise itself, whatever others say meanwhile. One that is
    gone, such as `ros2 topic pub --once`, can no longer: there the word of any other that it is released counts.
    """

    def __init__(self) -> None:
        self._pressed: dict[
            bytes, bool
        ] = {}  # by publisher: whether one has said "released" since it pressed

    def say(self, publisher: bytes, pressed: bool) -> None:
        """A publisher said that it is pressed, or is not."""
        if pressed:
            self._pressed[publisher] = False
            return
        self._pressed.pop(publisher, None)
        self._pressed = dict.fromkeys(self._pressed, True)

    def pressing(self, living: Container[bytes]) -> list[bytes]:
        """The publishers that hold the stop; `living`: those that are there."""
        return [who for who, released in self._pressed.items() if who in living or not released]
