"""Cups that do not wait: carried along as on a conveyor, or pushed aside when the hand comes near."""

from __future__ import annotations

import numpy as np

from physai_base.errors import PhysaiError
from physai_sim.scene import Scene

DISTURBANCES = ("none", "moving", "pushed")
MOVING_M_S = (0.02, 0.05)
PUSH_M_S, PUSH_M = 0.20, (0.03, 0.06)
PUSHES, PUSH_NEAR_M, PUSH_PAUSE_S = 2, 0.16, 1.5
CLEAR_M = 0.11  # kept between the feet of two cups
SERVO_1_S = 40.0
GRAVITY_M_S2 = 9.81


class Disturbance:
    """Drives the target cup over the table by a force at its foot, so that it does not tip; a held cup is left alone."""

    def __init__(self, scene: Scene, label: str, kind: str, seed: int) -> None:
        if kind not in DISTURBANCES:
            raise PhysaiError(f"disturbance {kind!r} is not among {', '.join(DISTURBANCES)}")
        self._scene, self._label, self._kind = scene, label, kind
        self._rng = np.random.default_rng([seed, 11])
        self._velocity: np.ndarray = np.zeros(2)
        self._until_s, self._next_s = 0.0, 0.0
        self._pushes = 0
        self._held = False
        if kind == "moving":
            self._velocity = self._rng.uniform(*MOVING_M_S) * self._heading()

    def apply(self) -> None:
        """Set the force for the next moment of simulation; to be called every 10 ms or more often."""
        scene, now_s = self._scene, self._scene.data.time
        body = scene.model.body(self._label).id
        scene.data.xfrc_applied[body] = 0.0
        self._held = self._held or self._gripped()
        if self._held or self._kind == "none" or scene.upright(self._label) < 0.95:
            return
        if self._kind == "pushed":
            self._push(now_s)
        elif not self._free(self._velocity):
            self._velocity = self._away()
        if not self._velocity.any():
            return
        mass = scene.model.body_mass[body]
        error = self._velocity - scene.data.joint(self._label).qvel[:2]
        sliding = self._velocity / np.linalg.norm(self._velocity)
        friction = max(scene.model.geom(self._label).friction[0], scene.model.geom("table").friction[0])
        force = mass * (friction * GRAVITY_M_S2 * sliding + SERVO_1_S * error)
        force = np.append(force, 0.0)
        lever = scene.position(self._label) - scene.data.xipos[body]
        scene.data.xfrc_applied[body] = np.concatenate([force, np.cross(lever, force)])

    def _gripped(self) -> bool:
        scene, cups = self._scene, self._scene.task.cups
        offset = scene.data.site(scene.embodiment.tool_frame).xpos - scene.position(self._label)
        width = sum(scene.data.joint(name).qpos[0] for name in scene.embodiment.gripper.joints)
        around = np.linalg.norm(offset[:2]) < cups.radius_m and offset[2] < cups.height_m + 0.01
        return bool(around and width < 2 * cups.radius_m + 0.004)

    def _push(self, now_s: float) -> None:
        """A short shove once the hand is near but not yet around the cup."""
        if now_s < self._until_s:
            return
        self._velocity = np.zeros(2)
        scene = self._scene
        offset = scene.data.site(scene.embodiment.tool_frame).xpos - scene.position(self._label)
        near = np.linalg.norm(offset[:2]) < PUSH_NEAR_M and offset[2] > scene.task.cups.height_m + 0.02
        if not near or now_s < self._next_s or self._pushes == PUSHES:
            return
        self._pushes += 1
        distance = self._rng.uniform(*PUSH_M)
        self._velocity = PUSH_M_S * self._heading(distance)
        self._until_s = now_s + distance / PUSH_M_S
        self._next_s = self._until_s + PUSH_PAUSE_S

    def _heading(self, ahead_m: float = 0.05) -> np.ndarray:
        """A direction (2,) in which there is room, if one is found."""
        for _ in range(50):
            angle = self._rng.uniform(-np.pi, np.pi)
            heading = np.array([np.cos(angle), np.sin(angle)])
            if self._free(heading, ahead_m):
                return heading
        return np.zeros(2)

    def _away(self) -> np.ndarray:
        return np.linalg.norm(self._velocity) * self._heading()

    def _free(self, velocity: np.ndarray, ahead_m: float = 0.01) -> bool:
        """Whether going on in that direction stays in the cups' region and away from other cups."""
        if not velocity.any():
            return False
        cups, here = self._scene.task.cups, self._scene.position(self._label)[:2]
        there = here + ahead_m * velocity / np.linalg.norm(velocity)
        bounds = np.array([cups.region_x, cups.region_y])
        middle, half = bounds.mean(axis=1), np.ptp(bounds, axis=1) / 2
        further_out = np.abs(there - middle) > np.abs(here - middle)
        if np.any((np.abs(there - middle) > half) & further_out):
            return False
        others = [self._scene.position(label)[:2] for label in cups.labels if label != self._label]
        # Where it stands too close already, away from the other one is free.
        return all(np.linalg.norm(there - o) > min(CLEAR_M, float(np.linalg.norm(here - o))) for o in others)
