"""Draws what perception believes into the image, for reports and for debugging."""

from __future__ import annotations

import cv2
import numpy as np

from physai_base.task import Shape, Task
from physai_base.values import CameraFrame, SceneObject, SceneState
from physai_perception.geometry import project

_PLACE_COLOUR = (255, 210, 60)
_OBJECT_COLOUR = (255, 255, 255)
_DOUBTFUL = (255, 120, 0)
_TOOL_COLOUR = (0, 255, 255)
_CIRCLE = np.linspace(0, 2 * np.pi, 25)


def draw_overlay(
    frame: CameraFrame, scene: SceneState, T_base_camera: np.ndarray, task: Task | None = None
) -> np.ndarray:
    """A copy (h, w, 3) of the image with outlines, labels, confidences and the tool.

    `task` knows the things' shapes; without it, what is flat is a board and the rest are cylinders.
    """
    canvas = np.ascontiguousarray(frame.rgb).copy()
    for thing in scene.objects:
        flat = thing.size_m[2] < thing.size_m[0] / 2
        shape = task.kind(thing.label).shape if task else Shape.BOARD if flat else Shape.CYLINDER
        colour = _PLACE_COLOUR if shape in (Shape.BOARD, Shape.PATCH) else _OBJECT_COLOUR
        if thing.confidence < 0.5:
            colour = _DOUBTFUL
        for outline in _OUTLINES[shape](thing):
            _polyline(canvas, frame, T_base_camera, outline, colour)
        _label(canvas, frame, T_base_camera, thing, colour)
    tool = project(scene.tool.position_m, T_base_camera, frame.intrinsics)[0]
    if tool[2] > 0:
        cv2.drawMarker(canvas, (round(tool[0]), round(tool[1])), _TOOL_COLOUR, cv2.MARKER_CROSS, 12, 1)
    return canvas


def _rotation(thing: SceneObject) -> np.ndarray:
    from transforms3d.quaternions import quat2mat

    return np.asarray(quat2mat(thing.orientation))


def _cylinder(thing: SceneObject) -> list[np.ndarray]:
    radius, height = thing.size_m[0] / 2, thing.size_m[2]
    ring = np.column_stack([radius * np.cos(_CIRCLE), radius * np.sin(_CIRCLE), np.zeros_like(_CIRCLE)])
    rotation = _rotation(thing)
    foot = ring @ rotation.T + thing.position_m
    top = foot + height * rotation[:, 2]
    axis = np.array([thing.position_m, thing.position_m + height * rotation[:, 2]])
    return [foot, top, axis]


def _board(thing: SceneObject) -> list[np.ndarray]:
    x, y = thing.size_m[0] / 2, thing.size_m[1] / 2
    corners = np.array([[x, y, 0], [x, -y, 0], [-x, -y, 0], [-x, y, 0], [x, y, 0]])
    return [corners @ _rotation(thing).T + thing.position_m]


def _box(thing: SceneObject) -> list[np.ndarray]:
    (foot,) = _board(thing)
    top = foot + thing.size_m[2] * _rotation(thing)[:, 2]
    return [foot, top, *(np.array(pair) for pair in zip(foot[:4], top[:4], strict=True))]


def _patch(thing: SceneObject) -> list[np.ndarray]:
    ring = np.column_stack([np.cos(_CIRCLE), np.sin(_CIRCLE), np.zeros_like(_CIRCLE)]) * thing.size_m / 2
    return [ring @ _rotation(thing).T + thing.position_m, *_board(thing)]


_OUTLINES = {Shape.CYLINDER: _cylinder, Shape.BOX: _box, Shape.BOARD: _board, Shape.PATCH: _patch}


def _polyline(
    canvas: np.ndarray, frame: CameraFrame, T: np.ndarray, points: np.ndarray, colour: tuple[int, int, int]
) -> None:
    pixels = project(points, T, frame.intrinsics)
    if (pixels[:, 2] > 0).all():
        shifted = np.rint(pixels[:, :2] * 8).astype(np.int32)  # eighths of a pixel
        cv2.polylines(canvas, [shifted], False, colour, 1, cv2.LINE_AA, 3)


def _label(
    canvas: np.ndarray, frame: CameraFrame, T: np.ndarray, thing: SceneObject, colour: tuple[int, int, int]
) -> None:
    u, v, depth = project(thing.position_m, T, frame.intrinsics)[0]
    if depth > 0:
        text = f"{thing.label} {thing.confidence:.2f}" + ("" if thing.upright else " fallen")
        cv2.putText(
            canvas,
            text,
            (round(u) - 30, round(v) + 14),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.35,
            colour,
            1,
            cv2.LINE_AA,
        )
