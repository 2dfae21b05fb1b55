"""Depth that comes as something else is a plug-in: its topic is heard, and its messages become metres."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sensor_msgs.msg import Image

from physai_base.errors import PhysaiError
from physai_ros import conversions
from physai_ros.depth_source import depth_source

pytestmark = pytest.mark.ros
THEIRS = """
from physai_ros import conversions, topics
from physai_ros.depth_source import DepthSource

def metres(message):
    return conversions.depth_from_msg(message) / 2

SOURCE = DepthSource(topics.Topic("camera/*/halves", "sensor_msgs/msg/Image", "camera", "perception"), metres)
"""


def test_somebody_elses_source_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_depth.py").write_text(THEIRS)
    metadata = tmp_path / "their_depth-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-depth\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[physai.depth]\nhalves = their_depth:SOURCE\n")
    monkeypatch.syspath_prepend(tmp_path)
    source = depth_source("halves")
    message = Image(encoding="16UC1", width=2, height=1, step=4, data=np.array([1000, 0], "<u2").tobytes())
    np.testing.assert_allclose(source.metres(message), [[0.5, 0.0]])
    assert source.topic.matches("/left/camera/overview/halves")
    with pytest.raises(PhysaiError, match="depth_source 'halfs' is not known; there are: image, halves"):
        depth_source("halfs")


def test_the_shipped_one_is_the_image_topic() -> None:
    source = depth_source("image")
    assert source.topic.name == "camera/*/depth/image_rect_raw"
    assert source.metres is conversions.depth_from_msg
