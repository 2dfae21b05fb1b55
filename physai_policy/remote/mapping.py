"""Which key of a server's message is which quantity of ours, and back: observations out, chunks in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from transforms3d.axangles import axangle2mat, mat2axangle
from transforms3d.euler import euler2mat
from transforms3d.quaternions import mat2quat, quat2mat

from physai_base.errors import PolicyError
from physai_base.kinematics import Pose
from physai_policy.policy import ActionSpace, Observation, Proposal

ToolPose = Callable[[np.ndarray], Pose]
"""Pose of the tool at joint angles (n,): `ArmKinematics.tool_pose`."""

VALUES = (
    "features", "gripper", "gripper_width", "joints", "joints_degrees", "tool", "tool_quaternion", "tool_rotation_vector",
)  # fmt: skip
ROTATIONS = {"quaternion": 4, "rotation_vector": 3, "euler": 3}
RELATIVE = ("no", "step", "start")
LARGEST = 1e6  # no angle in rad and no place in m comes near; sums and products of such numbers stay finite


@dataclass(frozen=True)
class GripperScale:
    """A server's number for the gripper, which runs straight from one at closed to another at open."""

    closed: float = 0.0
    open: float = 1.0
    width_m: float = 1.0  # at open; the defaults make the number the width in m

    def to_width(self, value: np.ndarray) -> np.ndarray:
        """Width in m for the server's number; beyond closed and open it is kept at them."""
        share = (value - self.closed) / (self.open - self.closed)
        return np.clip(share, 0.0, 1.0) * self.width_m

    def from_width(self, width_m: float) -> float:
        """The server's number for a width in m."""
        return self.closed + (self.open - self.closed) * width_m / self.width_m


@dataclass(frozen=True)
class ValuesEntry:
    """An array (sum of widths,) of quantities of the robot, one after the other."""

    names: tuple[str, ...]
    dtype: str = "float32"

    def make(self, observation: Observation, gripper: GripperScale, tool_pose: ToolPose | None) -> np.ndarray:
        """The array for one observation."""
        parts = [_value(name, observation, gripper, tool_pose) for name in self.names]
        return np.concatenate([np.atleast_1d(part) for part in parts]).astype(self.dtype)


@dataclass(frozen=True)
class ImageEntry:
    """A camera's newest image, uint8 RGB."""

    camera: str
    size: tuple[int, int] | None = None  # height, width in pixels; as it is when None
    resize: str = "pad"  # or "stretch"
    layout: str = "hwc"  # or "chw"

    def make(self, observation: Observation, gripper: GripperScale, tool_pose: ToolPose | None) -> np.ndarray:
        """The image (h, w, 3) or (3, h, w)."""
        image = observation.images.get(self.camera)
        if image is None:
            raise PolicyError(
                f"the observation has no image of camera {self.camera!r}; it has: "
                f"{', '.join(sorted(observation.images)) or 'none'}"
            )
        if self.size is not None:
            image = resized(image, *self.size, pad=self.resize == "pad")
        return np.ascontiguousarray(image.transpose(2, 0, 1) if self.layout == "chw" else image)


@dataclass(frozen=True)
class TextEntry:
    """The instruction."""

    def make(self, observation: Observation, gripper: GripperScale, tool_pose: ToolPose | None) -> str:
        """The sentence."""
        return observation.instruction


@dataclass(frozen=True)
class ConstantEntry:
    """Something that is always the same."""

    value: Any

    def make(self, observation: Observation, gripper: GripperScale, tool_pose: ToolPose | None) -> Any:
        """The value of the file."""
        return self.value


Entry = ValuesEntry | ImageEntry | TextEntry | ConstantEntry
Tree = Mapping[str, "Entry | Tree"]


def fill(
    tree: Tree, observation: Observation, gripper: GripperScale, tool_pose: ToolPose | None
) -> dict[str, Any]:
    """The message for one observation: `tree` with every entry replaced by what it stands for."""
    return {
        key: fill(entry, observation, gripper, tool_pose)
        if isinstance(entry, Mapping)
        else entry.make(observation, gripper, tool_pose)
        for key, entry in tree.items()
    }


def cameras_in(tree: Tree) -> tuple[str, ...]:
    """The cameras whose images an observation is made of."""
    found: dict[str, None] = {}
    for entry in tree.values():
        if isinstance(entry, Mapping):
            found.update(dict.fromkeys(cameras_in(entry)))
        elif isinstance(entry, ImageEntry):
            found[entry.camera] = None
    return tuple(found)


def _value(
    name: str, observation: Observation, gripper: GripperScale, tool_pose: ToolPose | None
) -> np.ndarray | float:
    if name == "features":
        return observation.features
    if name == "gripper_width":
        return observation.gripper_width_m
    if name == "gripper":
        return gripper.from_width(observation.gripper_width_m)
    if name == "tool":
        return observation.tool_m
    if not len(observation.joint_rad):
        raise PolicyError("the observation has no joint angles")
    if name == "joints":
        return observation.joint_rad
    if name == "joints_degrees":
        return np.degrees(observation.joint_rad)
    rotation = _tool_rotation(observation, tool_pose)
    if name == "tool_quaternion":
        return mat2quat(rotation)
    axis, angle = mat2axangle(rotation)
    return axis * angle


def _tool_rotation(observation: Observation, tool_pose: ToolPose | None) -> np.ndarray:
    if tool_pose is None or not len(observation.joint_rad):
        raise PolicyError("the tool's orientation needs joint angles and the robot's kinematics")
    return tool_pose(observation.joint_rad).rotation


def resized(image: np.ndarray, height: int, width: int, pad: bool) -> np.ndarray:
    """The image (h, w, 3) at another size; with `pad` its shape is kept and black bars fill the rest."""
    import cv2

    h, w = image.shape[:2]
    if (h, w) == (height, width):
        return image
    scale = min(height / h, width / w)
    inner = (max(1, round(w * scale)), max(1, round(h * scale))) if pad else (width, height)
    small = cv2.resize(image, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    top, left = (height - inner[1]) // 2, (width - inner[0]) // 2
    result = np.zeros((height, width, 3), np.uint8)
    result[top : top + inner[1], left : left + inner[0]] = small
    return result


# Actions ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ActionMapping:
    """What a server's rows of numbers ask for.

    The columns, after `keys` are joined and `columns` picked from them, are those of `space` with the gripper last;
    in `tool_pose` the rotation is spelled as `rotation` says. `relative`: "no" for absolute values, "step" when a
    row is the way from the row before, "start" when it is the way from the observation. The gripper is always
    absolute.
    """

    space: ActionSpace
    dt_s: float
    horizon: int  # rows of a reply
    keys: tuple[str, ...] = ("actions",)
    samples: str = ""  # key of further samples (H, K, D), to tell how sure the server is
    columns: tuple[int, ...] = ()  # all when empty
    rotation: str = "quaternion"
    relative: str = "no"
    scale: tuple[float, ...] = ()  # of the columns before the gripper; 1 when empty
    gripper: GripperScale = GripperScale()

    @property
    def rows(self) -> int:
        """Rows of the chunk: steps begin where the robot is, which is a row more."""
        return self.horizon + (self.relative == "step")

    def width(self, joints: int) -> int:
        """Columns of the server's rows once picked."""
        if self.space is ActionSpace.JOINT_POSITION:
            return joints + 1
        return 4 if self.space is ActionSpace.TOOL_POSITION else 4 + ROTATIONS[self.rotation]

    def chunk(
        self, reply: Mapping[str, Any], observation: Observation, joints: int, tool_pose: ToolPose | None
    ) -> Proposal:
        """The chunk that a reply stands for.

        Raises:
            PolicyError: a key is missing, a shape is another than agreed on, or a number is not finite.
        """
        samples = self._picked([self._array(reply, key) for key in self.keys], joints)[None]
        if self.samples:
            others = np.asarray(reply.get(self.samples))
            if others.dtype.kind != "f" or others.ndim != 3 or others.shape[0] != self.horizon:
                raise PolicyError(
                    f"{self.samples!r} of the reply must be numbers of shape ({self.horizon}, K, D), "
                    f"got {others.shape} {others.dtype}"
                )
            rows = [self._picked([sample], joints) for sample in others.transpose(1, 0, 2)]
            samples = np.concatenate([samples, rows]) if rows else samples
        if not (np.abs(samples) < LARGEST).all():
            raise PolicyError(f"the reply holds a number that is not finite, or {LARGEST:g} or more")
        return Proposal(
            np.stack([self._absolute(sample, observation, tool_pose) for sample in samples]),
            self.space,
            self.dt_s,
        )

    def _array(self, reply: Mapping[str, Any], key: str) -> np.ndarray:
        """(H, D) numbers under that key; a lone row is one step."""
        if not isinstance(reply, Mapping) or key not in reply:
            names = ", ".join(sorted(map(str, reply)))[:200] if isinstance(reply, Mapping) else "no keys"
            raise PolicyError(f"the reply has no {key!r}; it has: {names}")
        try:
            array = np.asarray(reply[key])
        except ValueError as error:  # lists of different lengths
            raise PolicyError(f"{key!r} of the reply is not an array: {error}") from error
        if array.dtype.kind not in "fiu":
            raise PolicyError(f"{key!r} of the reply must be numbers, got {array.dtype}")
        array = array[None] if array.ndim == 1 else array
        if array.ndim != 2 or len(array) != self.horizon:
            raise PolicyError(
                f"{key!r} of the reply must have shape ({self.horizon}, D), got {array.shape}; see `horizon`"
            )
        return array.astype(float)

    def _picked(self, parts: list[np.ndarray], joints: int) -> np.ndarray:
        rows = np.concatenate([part.astype(float) for part in parts], axis=1)
        if self.columns:
            if max(self.columns) >= rows.shape[1]:
                raise PolicyError(
                    f"the reply has {rows.shape[1]} columns, column {max(self.columns)} is asked for"
                )
            rows = rows[:, list(self.columns)]
        if rows.shape[1] != self.width(joints):
            raise PolicyError(
                f"the reply has {rows.shape[1]} columns, {self.space.value} needs {self.width(joints)}; see `columns`"
            )
        return rows

    def _absolute(self, rows: np.ndarray, observation: Observation, tool_pose: ToolPose | None) -> np.ndarray:
        """(rows, D) as `Proposal` wants them: absolute, quaternions, the width in m."""
        width = self.gripper.to_width(rows[:, -1:])
        motion = rows[:, :-1] * (np.array(self.scale) if self.scale else 1.0)
        if self.space is ActionSpace.TOOL_POSE:
            turns = np.array([self._matrix(row) for row in motion[:, 3:]])  # (H, 3, 3)
            start = _tool_rotation(observation, tool_pose) if self.relative != "no" else np.eye(3)
            turned = np.array([mat2quat(turn) for turn in self._accumulated_turns(turns, start)])
            return np.hstack(
                [self._accumulated(motion[:, :3], observation.tool_m), turned, self._padded(width)]
            )
        joint_space = self.space is ActionSpace.JOINT_POSITION
        start = observation.joint_rad if joint_space else observation.tool_m
        return np.hstack([self._accumulated(motion, start), self._padded(width)])

    def _padded(self, rows: np.ndarray) -> np.ndarray:
        return np.vstack([rows[:1], rows]) if self.relative == "step" else rows

    def _accumulated(self, rows: np.ndarray, start: np.ndarray) -> np.ndarray:
        if self.relative == "no":
            return rows
        if len(start) != rows.shape[1]:
            raise PolicyError(
                f"relative actions need where the robot is, the observation has {len(start)} values"
            )
        if self.relative == "start":
            return rows + start
        return start + np.vstack([np.zeros_like(rows[:1]), rows.cumsum(axis=0)])

    def _accumulated_turns(self, turns: np.ndarray, start: np.ndarray) -> list[np.ndarray]:
        """Turns are about the axes of the base frame, so each stands to the left of what it turns."""
        if self.relative != "step":
            return [turn @ start for turn in turns]
        result = [start]
        for turn in turns:
            result.append(turn @ result[-1])
        return result

    def _matrix(self, row: np.ndarray) -> np.ndarray:
        if self.rotation == "euler":
            return euler2mat(*row)
        if self.rotation == "quaternion":
            if not np.linalg.norm(row) > 0.5:
                raise PolicyError("the reply holds a quaternion that is not of unit length")
            return quat2mat(row)
        angle = float(np.linalg.norm(row))
        return axangle2mat(row / angle, angle, is_normalized=True) if angle > 1e-9 else np.eye(3)
