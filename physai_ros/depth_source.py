"""Where depth comes from: a topic below the camera's, and how its messages become metres. A contract with plug-ins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from physai_base.errors import PhysaiError
from physai_base.plugins import plugins
from physai_ros import conversions
from physai_ros.topics import Topic, topic

GROUP = "physai.depth"  # entry points of other packages: a name and a DepthSource


@dataclass(frozen=True)
class DepthSource:
    """Depth of a camera, in the colour image's pixels or with a `camera_info` of its own."""

    topic: Topic  # "camera/*/…"; its messages have a header
    metres: Callable[[Any], np.ndarray]
    """(h, w) float32 [m] of a message, along the optical axis, 0 where it is unknown.

    Raises:
        MessageError: it is none that can be read; the text says what may come instead.
    """


OURS = {"image": DepthSource(topic("camera/*/depth/image_rect_raw"), conversions.depth_from_msg)}


def depth_source(name: str) -> DepthSource:
    """The source of that name.

    Raises:
        PhysaiError: there is none of that name, or two.
    """
    theirs = plugins(
        GROUP, {ours: f"physai_ros.depth_source.OURS[{ours!r}], which is shipped," for ours in OURS}
    )
    if name in OURS:
        return OURS[name]
    if name not in theirs:
        raise PhysaiError(f"depth_source {name!r} is not known; there are: {', '.join((*OURS, *theirs))}")
    return theirs[name].load()  # type: ignore[no-any-return]
