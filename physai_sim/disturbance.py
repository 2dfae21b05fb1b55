"""Objects that do not wait: carried along as on a conveyor, pushed aside when the hand comes near, or put elsewhere."""

from __future__ import annotations

import mujoco
import numpy as np

from physai_base.errors import PhysaiError
from physai_sim.scene import Scene

DISTURBANCES = ("none", "moving", "pushed")
MOVING_M_S = (0.02, 0.05)
PUSH_M_S, PUSH_M = 0.20, (0.03, 0.06)
PUSHES, PUSH_NEAR_M, PUSH_PAUSE_S = 2, 0.16, 1.5
CLEAR_M = 0.11  # kept between the feet of two objects
SERVO_1_S, UPRIGHT_1_S = 40.0, 80.0
LIFT = 0.9  # of its weight
GRAVITY_M_S2 = 9.81


class Disturbance:
    """Drives the target over the table, as on an air table; what the robot holds or shoves is left alone from then on.

    Most of its weight is borne meanwhile: one that is dragged with all of it rocks and stutters (test_disturbance.py).
    """

    def __init__(
        self,
        scene: Scene,
        label: str,
        kind: str,
        seed: int,
        moving_m_s: tuple[float, float] = MOVING_M_S,
    ) -> None:
        if kind not in DISTURBANCES:
            raise PhysaiError(f"disturbance {kind!r} is not among {', '.join(DISTURBANCES)}")
        self._scene, self._label, self._kind = scene, label, kind
        self._rng = np.random.default_rng([seed, 11])
        self._velocity: np.ndarray = np.zeros(2)
        self._until_s, self._next_s = 0.0, 0.0
        self._pushes = 0
        self._held = False
        if kind == "moving":
            self._velocity = self._rng.uniform(*moving_m_s) * self._heading()

    def apply(self) -> None:
        """Set the force for the next moment of simulation; to be called every 10 ms or more often."""
        scene, now_s = self._scene, self._scene.data.time
        body = scene.model.body(self._label).id
        scene.data.xfrc_applied[body] = 0.0
        if self._kind == "none":
            return
        self._held = self._held or self._gripped() or self._shoved()
        if self._held or scene.upright(self._label) < scene.task.upright_cosine:
            return
        if self._kind == "pushed":
            self._push(now_s)
        elif not self._free(self._velocity):
            self._velocity = self._away()
        if not self._velocity.any():
            return
        mass, inertia = scene.model.body_mass[body], scene.model.body_inertia[body]
        speed, rocking = np.split(scene.data.joint(self._label).qvel, [3])
        along = self._velocity / np.linalg.norm(self._velocity)
        friction = max(scene.model.geom(self._label).friction[0], scene.model.geom("table").friction[0])
        against_friction = (1 - LIFT) * mass * GRAVITY_M_S2 * friction * np.append(along, 0.0)
        servo = mass * SERVO_1_S * np.append(self._velocity - speed[:2], 0.0)
        lift = np.array([0.0, 0.0, LIFT * mass * GRAVITY_M_S2])
        lever = scene.position(self._label) - scene.data.xipos[body]  # friction acts at the foot
        axes = scene.data.ximat[body].reshape(3, 3)  # of inertia: a thin thing spins easily
        turning = axes.T @ scene.data.xmat[body].reshape(3, 3) @ rocking
        torque = np.cross(lever, against_friction) - axes @ (inertia * UPRIGHT_1_S * turning)
        scene.data.xfrc_applied[body] = np.concatenate([against_friction + servo + lift, torque])

    def _gripped(self) -> bool:
        scene, kind = self._scene, self._scene.task.kind(self._label)
        offset = scene.data.site(scene.embodiment.tool_frame).xpos - scene.position(self._label)
        gripper = scene.embodiment.gripper
        width = gripper.opening({name: scene.data.joint(name).qpos[0] for name in gripper.joints})
        around = np.linalg.norm(offset[:2]) < kind.size_m[0] / 2 and offset[2] < kind.size_m[2] + 0.01
        return bool(around and width < kind.grip_m + 0.004)

    def _shoved(self) -> bool:
        """Whether the robot touches it: what is pushed along must not be driven against the hand."""
        scene = self._scene
        thing, of_body = scene.model.body(self._label).id, scene.model.geom_bodyid
        pairs = of_body[scene.data.contact.geom]
        return bool((scene.of_robot[pairs].any(axis=1) & (pairs == thing).any(axis=1)).any())

    def _push(self, now_s: float) -> None:
        """A short shove once the hand is near but not yet around it."""
        if now_s < self._until_s:
            return
        self._velocity = np.zeros(2)
        scene = self._scene
        offset = scene.data.site(scene.embodiment.tool_frame).xpos - scene.position(self._label)
        near = (
            np.linalg.norm(offset[:2]) < PUSH_NEAR_M
            and offset[2] > scene.task.kind(self._label).size_m[2] + 0.02
        )
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
        """Whether going on in that direction stays in the objects' region and away from the others."""
        if not velocity.any():
            return False
        region, here = self._scene.task.region(self._label), self._scene.position(self._label)[:2]
        there = here + ahead_m * velocity / np.linalg.norm(velocity)
        bounds = np.array([region.x, region.y])
        middle, half = bounds.mean(axis=1), np.ptp(bounds, axis=1) / 2
        further_out = np.abs(there - middle) > np.abs(here - middle)
        if np.any((np.abs(there - middle) > half) & further_out):
            return False
        others = [
            self._scene.position(label)[:2] for label in self._scene.task.objects if label != self._label
        ]
        # Where it stands too close already, away from the other one is free.
        return all(np.linalg.norm(there - o) > min(CLEAR_M, float(np.linalg.norm(here - o))) for o in others)


TELEPORT_STEPS, STEP_S = (25, 45), 0.05  # of the policy, since the task began
TELEPORT_M = {"near": 0.06, "tipped": 0.20, "away": 0.0}  # that last one anywhere
TELEPORTS = tuple(TELEPORT_M)
HAND_CLEAR_M = 0.10  # from the tool to what is put far away or on its side
TRIES = 50


class Teleport:
    """Puts the target elsewhere in no time, twice: what no policy can have foreseen.

    near    up to 6 cm aside, at its height; out of the hand when it is held
    away    anywhere on the table, within reach or not
    tipped  up to 20 cm aside, on its side on the table

    It never ends in contact with anything but the table. Where no such place was found, it stays.
    """

    def __init__(self, scene: Scene, label: str, kind: str, seed: int) -> None:
        if kind not in TELEPORTS:
            raise PhysaiError(f"teleport {kind!r} is not among {', '.join(TELEPORTS)}")
        self._scene, self._label, self._kind = scene, label, kind
        self._rng = np.random.default_rng([seed, 17])
        self._due_s = [scene.data.time + step * STEP_S for step in TELEPORT_STEPS]
        self.moved_s: list[float] = []  # simulated times at which it was put elsewhere

    def apply(self) -> None:
        """To be called every 10 ms or more often."""
        now_s = self._scene.data.time
        if not self._due_s or now_s < self._due_s[0]:
            return
        self._due_s.pop(0)
        thing = self._scene.data.joint(self._label)
        before, moving = thing.qpos.copy(), thing.qvel.copy()
        for _ in range(TRIES):
            thing.qpos[:], thing.qvel[:] = self._place(before), 0.0
            mujoco.mj_forward(self._scene.model, self._scene.data)
            if self._free():
                self.moved_s.append(now_s)
                return
        thing.qpos[:], thing.qvel[:] = before, moving
        mujoco.mj_forward(self._scene.model, self._scene.data)

    def _place(self, before: np.ndarray) -> np.ndarray:
        """(7,) a pose to try."""
        rng, task = self._rng, self._scene.task
        angle, distance = rng.uniform(-np.pi, np.pi), rng.uniform(0.0, TELEPORT_M[self._kind])
        aside = before[:2] + distance * np.array([np.cos(angle), np.sin(angle)])
        if self._kind == "near":
            return np.concatenate([aside, before[2:]])
        if self._kind == "away":
            return np.array(
                [
                    rng.uniform(*task.workcell.table_x),
                    rng.uniform(*task.workcell.table_y),
                    0.001,
                    1.0,
                    0.0,
                    0.0,
                    0.0,
                ]
            )
        half, turn = np.sqrt(0.5), rng.uniform(-np.pi, np.pi)
        lying = [half, half * np.cos(turn), half * np.sin(turn), 0.0]
        return np.array([*aside, task.kind(self._label).size_m[0] / 2 + 0.001, *lying])

    def _free(self) -> bool:
        scene = self._scene
        tool = scene.data.site(scene.embodiment.tool_frame).xpos
        if self._kind != "near" and np.linalg.norm(tool[:2] - scene.position(self._label)[:2]) < HAND_CLEAR_M:
            return False
        thing, table = scene.model.geom(self._label).id, scene.model.geom("table").id
        touching = [set(contact.geom) for contact in scene.data.contact if thing in contact.geom]
        return all(pair == {thing, table} for pair in touching)
