"""Why perception refuses to say anything about an image."""

from __future__ import annotations

from physai_base.errors import PhysaiError


class PerceptionError(PhysaiError):
    """No scene can be given for this image; the message says what is wrong with it."""


class FrameError(PerceptionError):
    """An image that cannot be used: wrong size, black, frozen, out of order or without depth."""


class RegistrationError(FrameError):
    """Depth that does not lie on its colour image."""


class SynchronizationError(PerceptionError):
    """No joint state close enough to the stamp of the image."""


class ExtrinsicsError(PerceptionError):
    """The camera's pose in the base frame is unknown or cannot be trusted."""
