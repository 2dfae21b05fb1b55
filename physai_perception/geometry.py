"""Pixels, rays, planes and rigid motions."""

from __future__ import annotations

import cv2
import numpy as np

# In-pixel slices, out-pixel slices and half step (du, dv) of the four neighbourhoods of a mask's rim.
_NEIGHBOURS = (
    (np.s_[:, :-1], np.s_[:, 1:], (0.5, 0.0)),
    (np.s_[:, 1:], np.s_[:, :-1], (-0.5, 0.0)),
    (np.s_[:-1, :], np.s_[1:, :], (0.0, 0.5)),
    (np.s_[1:, :], np.s_[:-1, :], (0.0, -0.5)),
)


def rays(u: np.ndarray, v: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Directions (n, 3) with z = 1 through pixels (u, v), optical frame."""
    x = (u - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (v - intrinsics[1, 2]) / intrinsics[1, 1]
    return np.stack([x, y, np.ones_like(x)], axis=-1)


def transform(T: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (n, 3) carried by the rigid motion T (4, 4)."""
    return points @ T[:3, :3].T + T[:3, 3]


def inverse(T: np.ndarray) -> np.ndarray:
    """The inverse of a rigid motion (4, 4)."""
    back = np.eye(4)
    back[:3, :3] = T[:3, :3].T
    back[:3, 3] = -T[:3, :3].T @ T[:3, 3]
    return back


def project(points: np.ndarray, T_base_camera: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Pixels and depth (n, 3) of points (n, 3) in the base frame; depth <= 0 lies behind the camera."""
    local = transform(inverse(T_base_camera), np.atleast_2d(points))
    depth = np.where(np.abs(local[:, 2:]) < 1e-9, 1e-9, local[:, 2:])
    return np.hstack([(local / depth) @ intrinsics[:2].T, local[:, 2:]])


def rays_on_level(
    u: np.ndarray, v: np.ndarray, intrinsics: np.ndarray, T_base_camera: np.ndarray, height_m: float
) -> np.ndarray:
    """Where rays through pixels meet the horizontal plane at `height_m`: (n, 3), base frame."""
    direction = rays(u, v, intrinsics) @ T_base_camera[:3, :3].T
    scale = (height_m - T_base_camera[2, 3]) / direction[:, 2]
    return T_base_camera[:3, 3] + direction * scale[:, None]


def median(values: np.ndarray) -> np.ndarray:
    """The (upper) median along the first axis; several times faster than numpy's on short arrays."""
    half = len(values) // 2
    return np.partition(values, half, axis=0)[half]


def nonzero(mask: np.ndarray) -> np.ndarray:
    """Pixels (n, 2) as (u, v) of a boolean mask; several times faster than numpy's."""
    found = cv2.findNonZero(mask.astype(np.uint8))
    return np.zeros((0, 2), int) if found is None else found[:, 0].astype(int)


def rim(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rim of a boolean mask: in-pixels (n, 2), their out-neighbours (n, 2) as (u, v), half steps (n, 2)."""
    insides, outsides, steps = [], [], []
    for inner, outer, (du, dv) in _NEIGHBOURS:
        inside = nonzero(mask[inner] > mask[outer])
        inside += (int(du < 0), int(dv < 0))
        insides.append(inside)
        outsides.append(inside + np.array([int(2 * du), int(2 * dv)]))
        steps.append(np.broadcast_to([du, dv], (len(inside), 2)))
    return np.concatenate(insides), np.concatenate(outsides), np.concatenate(steps)


def kabsch(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rigid motion (4, 4) that carries `source` (n, 3) onto `target` (n, 3) with least squares.

    W. Kabsch, "A solution for the best rotation to relate two sets of vectors", 1976.
    """
    a, b = source.mean(axis=0), target.mean(axis=0)
    u, _, vt = np.linalg.svd((source - a).T @ (target - b))
    sign = np.sign(np.linalg.det(vt.T @ u.T))
    T = np.eye(4)
    T[:3, :3] = vt.T @ np.diag([1.0, 1.0, sign]) @ u.T
    T[:3, 3] = b - T[:3, :3] @ a
    return T


def fit_plane(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Unit normal n (3,) and offset d of the plane n·x = d through points (n, 3), with n·x > 0 from the origin."""
    centre = points.mean(axis=0)
    offsets = points - centre
    normal = np.linalg.eigh(offsets.T @ offsets)[1][:, 0]
    distance = float(normal @ centre)
    return (normal, distance) if distance > 0 else (-normal, -distance)


def rotation_from_vector(vector: np.ndarray) -> np.ndarray:
    """Rotation matrix (3, 3) of a rotation vector (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    K = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * K + (1 - np.cos(angle)) * K @ K


def rotation_to_vector(rotation: np.ndarray) -> np.ndarray:
    """Rotation vector (3,) of a rotation matrix."""
    axis = np.array(
        [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
    )
    sine, cosine = np.linalg.norm(axis) / 2, (np.trace(rotation) - 1) / 2
    angle = float(np.arctan2(sine, cosine))
    if sine > 1e-9:
        return axis / (2 * sine) * angle
    if cosine > 0:
        return axis / 2
    column = (rotation + np.eye(3))[:, np.argmax(np.diag(rotation))]
    return column / np.linalg.norm(column) * np.pi
