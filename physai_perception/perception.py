"""From one RGB-D image and the joint states around it to the scene; the same code live, replayed and simulated."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.errors import EmbodimentError
from physai_base.kinematics import ArmKinematics
from physai_base.task import Kind, Task
from physai_base.values import CameraFrame, EndEffectorState, JointState, SceneState
from physai_perception.board_finder import BoardFinder, BoardFit
from physai_perception.board_tracker import BoardTracker
from physai_perception.colour_order import ColourOrder
from physai_perception.cylinder import CylinderFit, CylinderFitter, quaternion
from physai_perception.cylinder_tracker import CylinderTracker, HandView, Sighting
from physai_perception.errors import PerceptionError
from physai_perception.extrinsics import CameraPose, MarkerExtrinsics
from physai_perception.frame_check import FrameCheck, measurable, without_pinholes
from physai_perception.geometry import project
from physai_perception.registration import RegistrationWatch
from physai_perception.segmentation import Blob, ColourSegmenter
from physai_perception.settings import PerceptionSettings
from physai_perception.synchronizer import JointStateBuffer

_SEEN_THROUGH_M = 0.03  # a depth this far behind a cylinder says that it is not there
_CLEARLY_SEEN = 150  # pixels of a cylinder's colour in one piece: a cylinder of so many is found
_LIKELY_M = 0.15  # a blob this far from its track is less likely to be it


class ScenePerception:
    """Sees the task's cylinders and boards with one fixed RGB-D camera. Not thread-safe."""

    def __init__(
        self, embodiment: Embodiment, task: Task, settings: PerceptionSettings | None = None
    ) -> None:
        self.settings = settings = settings or PerceptionSettings()
        try:
            camera = embodiment.camera(settings.camera) if settings.camera else embodiment.scene_camera
        except EmbodimentError as error:
            raise PerceptionError(str(error)) from error
        if camera.parent != embodiment.base_frame:
            raise PerceptionError(
                f"{embodiment.path}: camera {camera.name} moves with {camera.parent}; perception needs one fixed to "
                f"{embodiment.base_frame}"
            )
        self.camera = camera
        self.joints = JointStateBuffer(settings)
        self._task = task
        self._arms = tuple(
            (end.name, ArmKinematics(embodiment, end.name)) for end in embodiment.end_effectors
        )
        self._check = FrameCheck(camera)
        self._registration = RegistrationWatch(settings.registration_period_s)
        self._colours = ColourOrder(task.boards, settings.board_hue_deg)
        self._extrinsics = MarkerExtrinsics(camera, task.workcell.markers, settings)
        self._kinds = kinds = {label: task.kind(label) for label in task.objects}
        diagonals = {label: math.hypot(kind.size_m[0], kind.size_m[2]) for label, kind in kinds.items()}
        self._segmenter = ColourSegmenter(diagonals, settings)
        fitters = {
            kind: CylinderFitter(kind.size_m[0] / 2, kind.size_m[2], settings) for kind in set(kinds.values())
        }
        self._fitters = {label: fitters[kind] for label, kind in kinds.items()}
        self._finder = BoardFinder(task.boards, settings)
        self._cylinders = CylinderTracker(kinds, task.upright_cosine, settings, first_id=1)
        self._boards = BoardTracker(task.boards, settings, first_id=1 + len(kinds))
        self._camera_pose: CameraPose | None = None
        self._unfit: dict[str, str] = {}  # cylinders whose colour is seen, and no cylinder

    @property
    def camera_pose(self) -> CameraPose | None:
        """The camera's pose as of the last image, None before the first."""
        return self._camera_pose

    @property
    def remarks(self) -> dict[str, str]:
        """What lasts, makes scenes less sure and is no reason to refuse images, by name."""
        unfit = "; ".join(self._unfit.values())
        return {
            **self._registration.remarks,
            **self._extrinsics.remarks,
            **({"object_unfit": unfit} if unfit else {}),
        }

    def reset(self) -> None:
        """Forget everything seen so far, as after the cell was rearranged or time was set back."""
        self.joints.clear()
        self._check.reset()
        self._registration.reset()
        self._extrinsics.reset()
        self._cylinders.reset()
        self._boards.reset()
        self._camera_pose = None
        self._unfit = {}

    def add_joint_state(self, state: JointState) -> None:
        """Take note of what the arm measured; `observe` interpolates.

        Raises:
            SynchronizationError: the state is not finite or of another arm.
        """
        self.joints.add(state)

    def observe(self, frame: CameraFrame, joints: JointStateBuffer | JointState | None = None) -> SceneState:
        """The scene at the stamp of `frame`.

        `joints` replaces the states given to `add_joint_state`: a history, or one state close to the stamp.

        Raises:
            PerceptionError: the image, the joint states or the camera's pose cannot be trusted; nothing is guessed.
        """
        if frame.camera != self.camera.name:
            raise PerceptionError(
                f"image is from camera {frame.camera!r}; perception uses {self.camera.name!r}"
            )
        try:
            return self._observe(frame, joints)
        except (
            cv2.error,
            np.linalg.LinAlgError,
        ) as error:  # degenerate numbers are the image's fault, not the process's
            raise PerceptionError(f"{frame.camera}: the image cannot be evaluated: {error}") from error

    def _observe(self, frame: CameraFrame, joints: JointStateBuffer | JointState | None) -> SceneState:
        self._check.check(frame)
        state = self._joint_state(joints, frame.stamp_ns)
        tools = tuple(self._tool(state, k) for k in range(len(self._arms)))
        self._camera_pose = self._extrinsics.update(frame)
        T = self._camera_pose.T_base_camera
        self._check.check_stream(frame, tools[0].pose.position, T)
        frame = replace(frame, depth_m=measurable(frame.depth_m))
        self._registration.check(frame)
        frame = replace(frame, depth_m=without_pinholes(frame.depth_m))
        boards = self._boards.update(frame.stamp_ns, self._board_fit(frame, T))
        self._colours.check(frame, T, boards)
        cylinders = self._cylinders.update(frame.stamp_ns, self._sightings(frame, T, tools), *tools)
        return SceneState(
            stamp_ns=frame.stamp_ns,
            objects=tuple(
                replace(thing, kind=self._task.kind(thing.label).name) for thing in cylinders + boards
            ),
            joint_position=state.position.copy(),
            joint_velocity=state.velocity.copy(),
            end_effectors=tuple(
                EndEffectorState(
                    name=name,
                    position_m=tool.pose.position,
                    orientation=quaternion(tool.pose.rotation),
                    linear_velocity_m_s=tool.twist[:3],
                    angular_velocity_rad_s=tool.twist[3:],
                    opening=tool.width_m,
                )
                for (name, _), tool in zip(self._arms, tools, strict=True)
            ),
        )

    def _joint_state(self, joints: JointStateBuffer | JointState | None, stamp_ns: int) -> JointState:
        if isinstance(joints, JointState):
            buffer = JointStateBuffer(self.settings)
            buffer.add(joints)
            return buffer.at(stamp_ns)
        return (self.joints if joints is None else joints).at(stamp_ns)

    def _tool(self, state: JointState, k: int) -> HandView:
        _, kinematics = self._arms[k]
        pose = kinematics.tool_pose(state.position)
        twist = kinematics.jacobian(state.position) @ state.velocity
        return HandView(pose, twist, float(state.openings[k]))

    def _board_fit(self, frame: CameraFrame, T: np.ndarray) -> BoardFit | None:
        none = not self._task.boards.labels or self._boards.settled()
        return None if none else self._finder.find(frame, T, self._boards.guess())

    def _sightings(
        self, frame: CameraFrame, T: np.ndarray, tools: tuple[HandView, ...]
    ) -> dict[str, Sighting]:
        return {
            label: self._sighting(label, frame, T, blobs, self._cylinders.guess(label, *tools))
            for label, blobs in self._segmenter.blobs(frame, T).items()
        }

    def _sighting(
        self,
        label: str,
        frame: CameraFrame,
        T: np.ndarray,
        blobs: list[Blob],
        guess: tuple[np.ndarray, np.ndarray] | None,
    ) -> Sighting:
        supports, kind = self._task.supports_m, self._kinds[label]
        best: tuple[float, CylinderFit, Blob] | None = None
        for blob in blobs:
            fit = self._fitters[label].fit(frame, blob, T, supports, guess)
            if fit is None:
                continue
            score = blob.pixels * fit.inliers
            if guess is not None and np.linalg.norm(fit.foot - guess[0]) > _LIKELY_M:
                score *= 0.5
            if best is None or score > best[0]:
                best = (score, fit, blob)
        self._unfit.pop(label, None)
        if best is None:
            pixels = self._segmenter.largest[label]
            if pixels >= _CLEARLY_SEEN:
                self._unfit[label] = (
                    f"{label}: {pixels} pixels of its colour are seen and no {kind.shape.value} of {kind.size_m[0]:g} x "
                    f"{kind.size_m[2]:g} m fits their depth: depth is missing, coarse or noisy there, the cylinder is of "
                    "another size, or another thing has its colour"
                )
            absent = guess is not None and self._seen_through(frame, T, kind, *guess)
            return Sighting(None, 0.0, absent)
        _, fit, blob = best
        return Sighting(fit, self._visibility(frame, T, kind, fit, blob))

    def _visibility(
        self, frame: CameraFrame, T: np.ndarray, kind: Kind, fit: CylinderFit, blob: Blob
    ) -> float:
        """Share of the cylinder's picture that the blob covers."""
        radius_m, height_m = kind.size_m[0] / 2, kind.size_m[2]
        middle = fit.foot + 0.5 * height_m * fit.axis
        view = middle - T[:3, 3]
        distance = float(np.linalg.norm(view))
        cosine = abs(float(view @ fit.axis)) / distance
        area = 2 * radius_m * height_m * math.sqrt(1 - cosine**2) + math.pi * radius_m**2 * cosine
        expected = area * frame.intrinsics[0, 0] * frame.intrinsics[1, 1] / distance**2
        return float(min(1.0, blob.pixels / expected))

    def _seen_through(
        self, frame: CameraFrame, T: np.ndarray, kind: Kind, foot: np.ndarray, axis: np.ndarray
    ) -> bool:
        """Whether the image shows what lies behind a cylinder's place."""
        points = foot + np.outer([0.2, 0.5, 0.8], kind.size_m[2] * axis)
        pixels = project(points, T, frame.intrinsics)
        height, width = frame.depth_m.shape
        empty = 0
        for u, v, depth in pixels:
            column, row = round(u), round(v)
            if not (depth > 0 and 0 <= column < width and 0 <= row < height):
                continue
            measured = frame.depth_m[row, column]
            empty += bool(not measured > 0 or measured > depth + kind.size_m[0] / 2 + _SEEN_THROUGH_M)
        return empty >= 2
