"""Perception's settings: one frozen dataclass, so one place for every default."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class PerceptionSettings:
    """Defaults, units and ranges of everything that can be tuned."""

    camera: str = "overview"

    # Synchronization.
    max_extrapolation_s: float = 0.02  # of joint states beyond the newest or oldest
    max_gap_s: float = 0.10  # between the two joint states around an image
    joint_history_s: float = 2.0

    # Camera pose from the markers.
    min_markers: int = 2
    marker_residual_m: float = 0.005  # a marker further off than this is an outlier
    nominal_distance_m: float = 0.15  # a pose further from the embodiment's is not believed
    nominal_angle_deg: float = 12.0
    moved_distance_m: float = 0.008  # a camera further off than this has been moved
    moved_angle_deg: float = 0.8
    moved_frames: int = 3  # frames that must agree before a moved camera is accepted
    max_unseen_frames: int = 45  # 3 s at 15 Hz without enough markers: the pose is no longer trusted
    pose_gain: float = 0.05  # of a new camera pose once many have been averaged

    # Segmentation.
    hue_tolerance_deg: float = 20.0
    min_saturation: float = 0.42
    min_value: float = 0.08
    min_pixels: int = 25

    # Fit.
    fit_points: int = 200
    fit_rms_m: float = 0.0035  # a cup that fits worse than this is not believed
    depth_sigma_m: float = 0.001
    plane_tolerance_m: float = 0.005  # of a point on a shelf board's surface
    min_board_pixels: int = 150

    # What stands still need not be measured in every image once it has been measured often.
    settled_frames: int = 10
    settled_every: int = 3

    # Tracking.
    acceleration_sigma: float = 1.5  # m/s^2, how a free object may change its velocity
    confidence_decay_s: float = 4.0  # while hidden
    absent_decay_s: float = 0.3  # while its place is seen to be empty
    gate_m: float = 0.05  # a jump beyond this needs `gate_frames` frames in a row
    gate_frames: int = 2
    grasp_width_tolerance_m: float = 0.008

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "camera" and not value > 0:  # NaN fails too
                raise ValueError(f"{field.name} must be positive, got {value!r}")
        for name in ("pose_gain", "min_saturation", "min_value"):
            if not getattr(self, name) <= 1:
                raise ValueError(f"{name} must be at most 1, got {getattr(self, name)!r}")
