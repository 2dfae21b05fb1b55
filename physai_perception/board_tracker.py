"""Fuses the boards' pose over frames: they stand still until seen elsewhere."""

from __future__ import annotations

import numpy as np

from physai_base.task import Boards
from physai_base.values import SceneObject
from physai_perception.board_finder import BoardFit
from physai_perception.cylinder import quaternion
from physai_perception.settings import PerceptionSettings

_MOVED_M = 0.010
_MOVED_RAD = 0.05
_MEMORY_FRAMES = 60.0  # a measurement's weight is never below 1/60 of all
_DECAY_S = 30.0


class BoardTracker:
    """The boards as objects."""

    def __init__(self, boards: Boards, settings: PerceptionSettings | None = None, first_id: int = 1) -> None:
        self._boards = boards
        self._settings = settings or PerceptionSettings()
        self._first_id = first_id
        self.reset()

    def reset(self) -> None:
        """Forget the boards."""
        self._state: np.ndarray | None = None  # x, y, yaw
        self._information = np.zeros((3, 3))
        self._covariance = np.zeros((3, 3))
        self._heights = np.array(self._boards.heights_m)
        self._seen_ns = [0] * len(self._boards.labels)
        self._confidence = np.zeros(len(self._boards.labels))
        self._stamp_ns = 0
        self._elsewhere: list[np.ndarray] = []
        self._fused = self._passed_over = 0

    def guess(self) -> tuple[np.ndarray, float] | None:
        """Position and yaw so far."""
        return None if self._state is None else (self._state[:2].copy(), float(self._state[2]))

    def settled(self) -> bool:
        """Whether the next image may be passed over: often measured, recently, and nothing has moved."""
        # One image later than the camera's pose: the two take turns.
        often = self._fused > self._settings.settled_frames and not self._elsewhere
        return often and self._passed_over + 1 < self._settings.settled_every

    def update(self, stamp_ns: int, fit: BoardFit | None) -> tuple[SceneObject, ...]:
        """The levels after one image."""
        dt = (stamp_ns - self._stamp_ns) * 1e-9 if self._state is not None else 0.0
        self._stamp_ns = stamp_ns
        self._confidence *= np.exp(-dt / _DECAY_S)
        self._passed_over = self._passed_over + 1 if self.settled() else 0
        if fit is not None and self._accept(fit):
            self._fuse(fit)
            for k, seen in enumerate(fit.seen):
                if seen:
                    self._seen_ns[k], self._confidence[k] = stamp_ns, 1.0
                    self._heights[k] += 0.2 * (fit.heights_m[k] - self._heights[k])
                else:  # its place follows from the other board's
                    self._confidence[k] = max(self._confidence[k], 0.8)
                    self._seen_ns[k] = self._seen_ns[k] or stamp_ns
        if self._state is None:
            return ()
        return tuple(self._object(k) for k in range(len(self._boards.labels)))

    def _accept(self, fit: BoardFit) -> bool:
        """Whether a measurement agrees with the track; boards that were moved replace it after a few frames."""
        if self._state is None:
            return True
        new = np.array([*fit.position, fit.yaw])
        sigma = np.sqrt(np.diag(fit.covariance) + np.diag(self._covariance))
        gates = np.maximum([_MOVED_M, _MOVED_M, _MOVED_RAD], 4 * sigma)
        if (np.abs(new - self._state) < gates).all():
            self._elsewhere.clear()
            return True
        self._elsewhere = [other for other in self._elsewhere if (np.abs(new - other) < gates).all()] + [new]
        if len(self._elsewhere) < self._settings.moved_frames:
            return False
        self._state, self._fused = None, 0
        self._elsewhere.clear()
        return True

    def _fuse(self, fit: BoardFit) -> None:
        self._fused += 1
        new = np.array([*fit.position, fit.yaw])
        weight: np.ndarray = np.linalg.inv(fit.covariance)
        if self._state is None:
            self._state, self._information = new, weight
        else:
            kept = self._information * (1 - 1 / _MEMORY_FRAMES)
            self._information = kept + weight
            self._state = np.linalg.solve(self._information, kept @ self._state + weight @ new)
        # Errors of successive images are alike: the fused pose is hardly better than the best of them.
        self._covariance = np.linalg.inv(self._information) + np.diag([0.0005**2, 0.0005**2, 0.002**2])

    def _object(self, k: int) -> SceneObject:
        assert self._state is not None
        x, y, yaw = self._state
        cosine, sine = np.cos(yaw), np.sin(yaw)
        offset = self._boards.offsets_x_m[k]
        covariance = np.diag([0, 0, 0.001**2, 0.01**2, 0.01**2, self._covariance[2, 2]])
        lever = np.array([[1, 0, -offset * sine], [0, 1, offset * cosine]])
        covariance[:2, :2] = lever @ self._covariance @ lever.T
        return SceneObject(
            id=self._first_id + k,
            label=self._boards.labels[k],
            position_m=np.array([x + offset * cosine, y + offset * sine, self._heights[k]]),
            orientation=quaternion(np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1.0]])),
            covariance=covariance,
            velocity_m_s=np.zeros(3),
            size_m=np.array(self._boards.board_size_m, dtype=float),
            confidence=float(self._confidence[k]),
            last_seen_ns=self._seen_ns[k],
        )
