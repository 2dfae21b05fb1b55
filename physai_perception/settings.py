"""Perception's settings: one frozen dataclass, whose fields are the node's parameters."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any


def _setting(default: float, low: float, high: float, description: str, unit: str = "") -> Any:
    metadata = {"range": (low, high), "description": description}
    return field(default=default, metadata={**metadata, "unit": unit} if unit else metadata)


@dataclass(frozen=True)
class PerceptionSettings:
    """Defaults, units and ranges of everything that can be tuned."""

    camera: str = field(
        default="",
        metadata={"description": "camera that looks at the scene; empty: the robot's first that is fixed"},
    )

    # Synchronization.
    max_extrapolation_s: float = _setting(0.02, 0.0, 0.2, "of joint states beyond the newest or oldest", "s")
    max_gap_s: float = _setting(0.10, 0.001, 1.0, "between the two joint states around an image", "s")
    joint_history_s: float = _setting(2.0, 0.1, 60.0, "for which joint states are kept", "s")

    # Registration and colour.
    registration_period_s: float = _setting(
        1.0, -1.0, 60.0, "between two looks at whether depth lies on colour; 0: every image, -1: never", "s"
    )
    board_hue_deg: float = _setting(
        32.0,
        -1.0,
        360.0,
        "hue of the boards, by which exchanged red and blue are noticed; -1: unknown",
        "deg",
    )

    # Camera pose from the markers.
    min_markers: int = _setting(2, 2, 100, "that must be seen")
    marker_residual_m: float = _setting(
        0.005, 0.0005, 0.1, "a marker further off than this is an outlier", "m"
    )
    marker_residual_px: float = _setting(
        1.2,
        0.1,
        20.0,
        "of half of the markers: a lens through which they fit worse is not believed",
        "pixels",
    )
    nominal_distance_m: float = _setting(
        0.15, 0.001, 10.0, "a camera pose further from the embodiment's is not believed", "m"
    )
    nominal_angle_deg: float = _setting(
        12.0, 0.1, 180.0, "a camera pose turned further from the embodiment's is not believed", "deg"
    )
    moved_distance_m: float = _setting(
        0.008, 0.0005, 1.0, "a camera further off than this has been moved", "m"
    )
    moved_angle_deg: float = _setting(
        0.8, 0.05, 90.0, "a camera turned further than this has been moved", "deg"
    )
    moved_frames: int = _setting(3, 1, 100, "measurements that must agree before a moved camera is accepted")
    max_unseen_frames: int = _setting(
        45, 1, 10_000, "images without enough markers after which the camera's pose is no longer trusted"
    )
    pose_gain: float = _setting(0.05, 0.001, 1.0, "of a new camera pose once many have been averaged")

    # Segmentation.
    hue_tolerance_deg: float = _setting(20.0, 1.0, 60.0, "from the hue that a label names", "deg")
    min_saturation: float = _setting(0.42, 0.01, 1.0, "of a pixel that counts as coloured")
    min_value: float = _setting(0.08, 0.01, 1.0, "brightness of a pixel that counts as coloured")
    min_pixels: int = _setting(25, 4, 10_000, "of a thing that is looked at")

    # Fit.
    fit_points: int = _setting(200, 20, 10_000, "of a thing's surface that are fitted")
    fit_rms_m: float = _setting(0.0035, 0.0005, 0.05, "what fits worse than this is not believed", "m")
    depth_sigma_m: float = _setting(0.001, 0.0001, 0.05, "noise of the depth image", "m")
    plane_tolerance_m: float = _setting(0.005, 0.0005, 0.05, "of a point on a board's surface", "m")
    min_board_pixels: int = _setting(150, 10, 100_000, "of a board that is looked at")

    # What stands still need not be measured in every image once it has been measured often.
    settled_frames: int = _setting(
        10, 1, 10_000, "after which camera pose and boards are measured less often"
    )
    settled_every: int = _setting(3, 1, 100, "images, of which one is then measured")

    # Tracking.
    acceleration_sigma: float = _setting(
        1.5, 0.01, 100.0, "how a free object may change its velocity", "m/s^2"
    )
    confidence_decay_s: float = _setting(4.0, 0.01, 600.0, "of the confidence while a thing is hidden", "s")
    absent_decay_s: float = _setting(
        0.3, 0.01, 600.0, "of the confidence while its place is seen to be empty", "s"
    )
    gate_m: float = _setting(0.05, 0.001, 1.0, "a jump beyond this needs gate_frames images in a row", "m")
    gate_frames: int = _setting(2, 1, 100, "images that must agree on a jump")
    grasp_width_tolerance_m: float = _setting(
        0.008, 0.0005, 0.05, "between the gripper's width and a thing that it holds", "m"
    )

    def __post_init__(self) -> None:
        for item in fields(PerceptionSettings):
            value = getattr(self, item.name)
            if item.name == "camera":
                continue
            low, high = item.metadata["range"]
            if not low <= value <= high:  # NaN fails too
                raise ValueError(f"{item.name} must be within [{low:g}, {high:g}], got {value!r}")
