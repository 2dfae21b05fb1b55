"""A scene without images, for the many episodes that need none: the truth, as noisily and as late as perception has it."""

from __future__ import annotations

import mujoco
import numpy as np
from transforms3d.quaternions import mat2quat

from physai_base.embodiment_parts import EndEffector
from physai_base.task import Shape
from physai_base.values import EndEffectorState, JointState, SceneObject, SceneState
from physai_perception.cylinder import orientation
from physai_sim.scene import Scene

POSITION_NOISE_M = 0.0005  # perception's median error is 0.3 mm, see docs/explanation/perception.md
VELOCITY_NOISE_M_S = 0.004
VELOCITY_GAIN = 0.4  # of the tracker's velocity per image
REST_M_S = 0.01


class TruthSight:
    """Makes scenes from the simulator's state."""

    def __init__(self, scene: Scene, seed: int) -> None:
        self._scene = scene
        self._rng = np.random.default_rng([seed, 13])
        self._velocity = {label: np.zeros(3) for label in scene.task.objects}

    def observe(self, joints: JointState) -> SceneState:
        """The scene at the stamp of `joints`."""
        scene, task = self._scene, self._scene.task
        objects = [
            self._thing(i, label, joints.stamp_ns) for i, label in enumerate(task.objects + task.places)
        ]
        return SceneState(
            stamp_ns=joints.stamp_ns,
            objects=tuple(objects),
            joint_position=joints.position,
            joint_velocity=joints.velocity,
            end_effectors=tuple(
                self._end_effector(end, float(opening))
                for end, opening in zip(scene.embodiment.end_effectors, joints.openings, strict=True)
            ),
        )

    def _end_effector(self, end: EndEffector, opening: float) -> EndEffectorState:
        model, data = self._scene.model, self._scene.data
        site, twist = data.site(end.frame), np.empty(6)  # turning first, along the world's axes
        mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_SITE, site.id, twist, 0)
        turn = mat2quat(site.xmat.reshape(3, 3))
        return EndEffectorState(end.name, site.xpos.copy(), turn, twist[3:], twist[:3], opening)

    def _orientation(self, label: str) -> np.ndarray:
        """(4,) w, x, y, z; how something round is turned about its axis nobody sees."""
        shape, turn = self._scene.task.kind(label).shape, self._scene.data.site(label).xmat.reshape(3, 3)
        if shape is Shape.CYLINDER and self._scene.upright(label) < self._scene.task.upright_cosine:
            return orientation(turn[:, 2])
        return np.asarray(mat2quat(np.eye(3) if shape in (Shape.CYLINDER, Shape.BOARD) else turn))

    def _thing(self, index: int, label: str, stamp_ns: int) -> SceneObject:
        scene = self._scene
        measured, velocity, upright = scene.measured(label), np.zeros(3), True
        position = scene.position(label) if measured is None else measured.position_m
        size = scene.task.kind(label).size_m if measured is None else measured.size_m
        if label in self._velocity:
            measured = scene.data.joint(label).qvel[:3] + self._rng.normal(0, VELOCITY_NOISE_M_S, 3)
            self._velocity[label] += VELOCITY_GAIN * (measured - self._velocity[label])
            velocity, upright = (
                self._velocity[label].copy(),
                scene.upright(label) >= scene.task.upright_cosine,
            )
            if np.linalg.norm(velocity) < REST_M_S:
                velocity = np.zeros(3)
        return SceneObject(
            id=index, label=label, position_m=position + self._rng.normal(0, POSITION_NOISE_M, 3),
            orientation=self._orientation(label), covariance=np.eye(6) * POSITION_NOISE_M**2, velocity_m_s=velocity,
            size_m=np.array(size), confidence=1.0,
            last_seen_ns=stamp_ns, upright=upright, kind=scene.task.kind(label).name,
        )  # fmt: skip
