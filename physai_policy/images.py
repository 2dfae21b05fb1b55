"""Images for policies that look for themselves: what part of an image they see, and which image belongs to a scene.

The same `View` cuts images when they are recorded, in the cell and in the policy's node.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from physai_base.errors import BundleError, PolicyError

# An image farther than this from the scene shows another moment: the arm moves 3 cm in it at most.
MAX_IMAGE_AGE_S = 0.1
KEPT_IMAGES = 8  # of each camera: the scene that an image is for comes a little after it


@dataclass(frozen=True)
class View:
    """The part of a camera's image that a network sees, and at what size."""

    camera: str
    crop: tuple[int, int, int, int]  # x, y, width, height in pixels of the camera's image
    size: tuple[int, int]  # height, width in pixels of what is seen

    def apply(self, image: np.ndarray) -> np.ndarray:
        """What is seen (h, w, 3) of a camera's image, uint8 RGB: each pixel the mean of those that it covers.

        Raises:
            PolicyError: the image is not one of uint8 RGB, or is smaller than the part that is looked at.
        """
        import cv2

        x, y, width, height = self.crop
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise PolicyError(
                f"camera {self.camera!r}: an image must be uint8 of shape (h, w, 3), got {image.dtype} {image.shape}"
            )
        if image.shape[0] < y + height or image.shape[1] < x + width:
            raise PolicyError(
                f"camera {self.camera!r}: the policy looks at pixels up to {x + width}x{y + height}, the image has "
                f"{image.shape[1]}x{image.shape[0]}; give it the camera that it was trained with"
            )
        part = image[y : y + height, x : x + width]
        return np.ascontiguousarray(cv2.resize(part, self.size[::-1], interpolation=cv2.INTER_AREA))

    def as_json(self) -> dict[str, Any]:
        """For manifests and datasets."""
        return {**asdict(self), "crop": list(self.crop), "size": list(self.size)}

    @staticmethod
    def parse(document: Mapping[str, Any]) -> View:
        """From `as_json`.

        Raises:
            BundleError: it is something else.
        """
        try:
            x, y, width, height = (int(v) for v in document["crop"])
            h, w = (int(v) for v in document["size"])
            view = View(str(document["camera"]), (x, y, width, height), (h, w))
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"an image needs camera, crop and size, got {document!r}") from error
        if min(x, y) < 0 or not (0 < h <= height and 0 < w <= width):
            raise BundleError(
                f"camera {view.camera!r}: crop {view.crop} must lie in the image and be at least {w}x{h}, the size"
            )
        return view


class ImageBuffer:
    """The newest images of some cameras, by their stamps; filled in one thread, read in another."""

    def __init__(self, cameras: Sequence[str], max_age_s: float = MAX_IMAGE_AGE_S) -> None:
        self._images: dict[str, deque[tuple[int, np.ndarray]]] = {
            camera: deque(maxlen=KEPT_IMAGES) for camera in cameras
        }
        self._max_age_s = max_age_s
        self._refused: dict[str, str] = {}
        self._lock = threading.Lock()

    def add(self, camera: str, stamp_ns: int, image: np.ndarray) -> None:
        """Keep an image (h, w, 3) uint8 RGB; a stamp that runs backwards (a clock that was set) drops the older ones."""
        with self._lock:
            self._refused.pop(camera, None)
            kept = self._images[camera]
            if kept and kept[-1][0] > stamp_ns:
                kept.clear()
            kept.append((stamp_ns, image))

    def refuse(self, camera: str, reason: str) -> None:
        """Images of that camera cannot be used; `at` says why until one can."""
        with self._lock:
            self._refused[camera] = reason
            self._images[camera].clear()

    def at(self, stamp_ns: int) -> dict[str, np.ndarray]:
        """For every camera the image nearest to `stamp_ns`.

        Raises:
            PolicyError: a camera has sent none yet, or none that is near enough.
        """
        with self._lock:
            return {camera: self._nearest(camera, stamp_ns) for camera in self._images}

    def _nearest(self, camera: str, stamp_ns: int) -> np.ndarray:
        kept = self._images[camera]
        if camera in self._refused:
            raise PolicyError(f"camera {camera!r}: its images are refused: {self._refused[camera]}")
        if not kept:
            raise PolicyError(f"camera {camera!r} has sent no image yet; the policy needs it")
        found_ns, image = min(kept, key=lambda one: abs(one[0] - stamp_ns))
        apart_s = abs(found_ns - stamp_ns) / 1e9
        if not apart_s <= self._max_age_s:
            when = "older" if found_ns < stamp_ns else "newer"
            raise PolicyError(
                f"camera {camera!r}: the nearest image is {apart_s:.2f} s {when} than the scene, allowed {self._max_age_s:g} s"
            )
        return image
