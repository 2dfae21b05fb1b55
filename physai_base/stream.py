"""Whether a camera's stream is what the robot file promises: size and rate."""

from __future__ import annotations

from collections import deque

from physai_base.embodiment import Camera

_INTERVALS = 10
_SLOW = 0.6  # of the promised rate


class StreamCheck:
    """Looks at the size and the stamps of one camera's images; not thread-safe."""

    def __init__(self, camera: Camera, topic: str) -> None:
        self._camera, self._topic = camera, topic
        self._stamps: deque[int] = deque(maxlen=_INTERVALS + 1)

    def add(self, stamp_ns: int) -> None:
        """Take note of an image; a stamp that runs backwards begins anew."""
        if self._stamps and stamp_ns < self._stamps[-1]:
            self._stamps.clear()
        self._stamps.append(stamp_ns)

    def wrong_size(self, width: int, height: int) -> str:
        """Why an image of this size is not the promised one, or nothing."""
        camera = self._camera
        if (width, height) == (camera.width, camera.height):
            return ""
        hint = ""
        if (width, height) == (camera.height, camera.width):
            hint = "; it is turned by 90 degrees"
        elif width * camera.height == height * camera.width:
            hint = "; it is of the same shape, but of another resolution"
        return (
            f"camera {camera.name}: the image on {self._topic} is {width}x{height}, the robot file promises "
            f"{camera.width}x{camera.height}{hint}: set the driver or the robot file right"
        )

    def too_slow(self) -> str:
        """That the images come more slowly than promised, or nothing."""
        if len(self._stamps) <= _INTERVALS:
            return ""
        gaps = sorted(b - a for a, b in zip(self._stamps, list(self._stamps)[1:], strict=False))
        middle_s = gaps[len(gaps) // 2] * 1e-9
        rate_hz = 1 / middle_s if middle_s > 0 else float("inf")
        if rate_hz >= _SLOW * self._camera.rate_hz:
            return ""
        return (
            f"camera {self._camera.name}: images on {self._topic} come at {rate_hz:.0f} Hz, the robot file promises "
            f"{self._camera.rate_hz:g} Hz"
        )
