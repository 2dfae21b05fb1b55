"""From one RGB-D image and the joint states around it to the scene; the same code live, replayed and simulated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import cv2
import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.errors import EmbodimentError
from physai_base.kinematics import ArmKinematics
from physai_base.task import Kind, Shape, Task
from physai_base.values import CameraFrame, EndEffectorState, JointState, SceneState
from physai_perception.assignment import Candidate, assign
from physai_perception.board_finder import BoardFinder, BoardFit
from physai_perception.board_tracker import BoardTracker
from physai_perception.colour_order import ColourOrder
from physai_perception.cylinder import quaternion
from physai_perception.errors import PerceptionError
from physai_perception.extrinsics import CameraPose, MarkerExtrinsics
from physai_perception.fitters import fitter_of
from physai_perception.fitting import Guess, Sighting
from physai_perception.frame_check import FrameCheck, measurable, without_pinholes
from physai_perception.geometry import median
from physai_perception.registration import RegistrationWatch
from physai_perception.segmentation import Blob, ColourSegmenter, colour_of
from physai_perception.settings import PerceptionSettings
from physai_perception.synchronizer import JointStateBuffer
from physai_perception.thing_tracker import HandView, ThingTracker

_CLEARLY_SEEN = 150  # pixels of a thing's colour in one piece: a thing of so many is found
_LIKELY_M = 0.15  # a blob this far from its track is less likely to be it


class ScenePerception:
    """Sees the task's things with one fixed RGB-D camera. Not thread-safe."""

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
        self._kinds = kinds = {
            label: task.kind(label)
            for label in (*task.objects, *task.places)
            if label not in task.boards.labels
        }
        targets = {goal.target for goal in task.goals}  # what is done with a patch takes away of it
        fixed = {label for label in kinds if label not in task.objects}
        self._segmenter = ColourSegmenter(
            {label: _reach_m(kind) for label, kind in kinds.items()},
            settings,
            heights_m={label: kind.size_m[2] for label, kind in kinds.items()},
            scattered=[label for label, kind in kinds.items() if kind.shape is Shape.PATCH],
        )
        self._fitters = {
            label: fitter_of(label, kind, label in targets, settings) for label, kind in kinds.items()
        }
        self._of_colour: dict[str, tuple[str, ...]] = {}
        for label in sorted(kinds, key=lambda label: _reach_m(kinds[label])):
            colour = colour_of(label)
            self._of_colour[colour] = (*self._of_colour.get(colour, ()), label)
        self._finder = BoardFinder(task.boards, settings)
        self._things = ThingTracker(kinds, task.upright_cosine, settings, first_id=1, fixed=fixed)
        self._boards = BoardTracker(task.boards, settings, first_id=1 + len(kinds))
        self._camera_pose: CameraPose | None = None
        self._unfit: dict[str, str] = {}  # things whose colour is seen, and nothing of their shape

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
        self._things.reset()
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
        things = self._things.update(frame.stamp_ns, self._sightings(frame, T, tools), *tools)
        return SceneState(
            stamp_ns=frame.stamp_ns,
            objects=tuple(
                replace(thing, kind=self._task.kind(thing.label).name) for thing in things + boards
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
            task=self._task.name,
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
        sightings: dict[str, Sighting] = {}
        for colour, blobs in self._segmenter.blobs(frame, T).items():
            labels = self._of_colour[colour]
            guesses = {label: self._things.guess(label, *tools) for label in labels}
            likely = _likely(blobs, guesses) if len(labels) > 1 else {}
            found = assign(labels, blobs, likely, partial(self._judge, frame, T, guesses))
            for label in labels:
                one = found.get(label)
                if one is not None:
                    sightings[label] = Sighting(one.fit, one.visibility)
                else:
                    sightings[label] = self._fitters[label].unseen(frame, T, guesses[label])
            self._remark(colour, {label: sightings[label] for label in labels})
        return {label: sightings[label] for label in self._kinds}

    def _judge(
        self,
        frame: CameraFrame,
        T: np.ndarray,
        guesses: Mapping[str, Guess | None],
        label: str,
        blob: Blob,
    ) -> Candidate | None:
        """How well a blob is explained by the thing of that label."""
        fitter, guess = self._fitters[label], guesses[label]
        fit = fitter.fit(frame, blob, T, self._task.supports_m, guess)
        if fit is None:
            return None
        score = blob.pixels * fit.inliers
        if guess is not None and np.linalg.norm(fit.origin - guess.origin) > _LIKELY_M:
            score *= 0.5
        return Candidate(label, blob, fit, fitter.visibility(frame, blob, T, fit), score)

    def _remark(self, colour: str, sightings: Mapping[str, Sighting]) -> None:
        """Note a colour that is clearly seen where nothing is found that has it."""
        pixels = self._segmenter.largest[colour]
        found = any(sighting.fit is not None for sighting in sightings.values())
        for label in sightings:
            self._unfit.pop(label, None)
            if found or pixels < _CLEARLY_SEEN:
                continue
            kind = self._kinds[label]
            self._unfit[label] = (
                f"{label}: {pixels} pixels of its colour are seen and no {kind.shape.value} of {kind.size_m[0]:g} x "
                f"{kind.size_m[2]:g} m fits their depth: depth is missing, coarse or noisy there, the {kind.shape.value} is of "
                "another size, or another thing has its colour"
            )


def _likely(blobs: Sequence[Blob], guesses: Mapping[str, Guess | None]) -> dict[str, Blob]:
    """For each thing that has been seen, the blob nearest to where it was."""
    single = [(median(blob.points), blob) for blob in blobs if len(blob.parts) == 1]
    likely = {}
    for label, guess in guesses.items():
        if guess is not None and single:
            middle = guess.origin + 0.5 * guess.size_m[2] * guess.axis
            likely[label] = min(single, key=lambda one: float(np.linalg.norm(one[0] - middle)))[1]
    return likely


def _reach_m(kind: Kind) -> float:
    """How far apart pieces of a thing's colour may be."""
    if kind.shape is Shape.CYLINDER:
        return math.hypot(kind.size_m[0], kind.size_m[2])
    return math.hypot(*kind.size_m)
