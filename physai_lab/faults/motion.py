"""What the arm is doing when a fault comes: a smooth swing between two poses, cut into chunks."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import mujoco
import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.errors import PhysaiError
from physai_base.robot_model import load_robot
from physai_lab.faults.envelope import ToolEnvelope

STOP_ROOM_RAD, STOP_PULL_NM = (0.01, 0.06), 2.0
PATIENCE, LEAST_SHARE = 300, 0.01  # tries before the motions become smaller by half, and where that ends
REACH_RAD = np.array([1.2, 0.8, 1.2, 0.9, 1.2, 0.9, 1.5])  # of start poses around home
MARGIN_RAD, MARGIN_M = 0.3, 0.05  # kept from stops and fence
SAMPLES = 16


@dataclass(frozen=True)
class JointMotion:
    """From `start` by `swing` and back, in `period_s`."""

    start: np.ndarray  # (n,) rad
    swing: np.ndarray  # (n,) rad
    period_s: float

    def at(self, times_s: np.ndarray) -> np.ndarray:
        """(K,) s since the beginning to (K, n) rad; at rest before it."""
        phase = 2 * np.pi * np.maximum(times_s, 0.0) / self.period_s
        return self.start + np.outer((1 - np.cos(phase)) / 2, self.swing)


class MotionPlanner:
    """Draws motions that keep every limit of the embodiment, so that only a fault breaks one."""

    def __init__(self, embodiment: Embodiment, tool: ToolEnvelope) -> None:
        self._embodiment, self._tool = embodiment, tool
        robot = load_robot(embodiment)
        self._model, self._positions, self._dofs = robot.model, robot.positions, robot.dofs
        self._data = mujoco.MjData(self._model)
        robot.put(self._data, embodiment.home, embodiment.finger_positions(embodiment.openings_at(0.0)))
        self._closed = self._contacts()  # fingers of a closed hand touch each other
        self._low = embodiment.limits("position_min") + MARGIN_RAD
        self._high = embodiment.limits("position_max") - MARGIN_RAD

    def draw(self, rng: np.random.Generator) -> JointMotion:
        """A motion at 20 to 100 % of what the limits allow with some room; nearer to home where there is little of it."""
        n = len(self._embodiment.joints)
        tried = 0
        while (share := 0.5 ** (tried // PATIENCE)) >= LEAST_SHARE:
            tried += 1
            reach = share * np.resize(REACH_RAD, n)
            start = np.clip(self._embodiment.home + rng.uniform(-1, 1, n) * reach, self._low, self._high)
            swing = share * rng.uniform(0.3, 0.9) * rng.uniform(-1, 1, n)
            if self._free(start + np.outer(np.linspace(0, 1, SAMPLES), swing)):
                return JointMotion(start, swing, self.shortest(start, swing) / rng.uniform(0.2, 1.0))
        raise PhysaiError(
            f"{self._embodiment.path}: no motion around home keeps within the fences and off itself"
        )

    def near_a_stop(self, rng: np.random.Generator) -> JointMotion:
        """A short motion in a pose whose weight drives a joint, which rests, towards the stop that it is near."""
        n = len(self._embodiment.joints)
        low, high = self._embodiment.limits("position_min"), self._embodiment.limits("position_max")
        while True:
            start, joint, room = (
                self.draw(rng).start.copy(),
                int(rng.integers(n)),
                rng.uniform(*STOP_ROOM_RAD),
            )
            pull = -self._weight(start)[joint]
            start[joint] = high[joint] - room if pull > 0 else low[joint] + room
            swing = 0.1 * rng.uniform(-1, 1, n) * (np.arange(n) != joint)
            path = start + np.outer(np.linspace(0, 1, SAMPLES), swing)
            hangs = abs(pull) > STOP_PULL_NM and self._weight(start)[joint] * pull < 0
            apart = ((path > low) & (path < high)).all() and not any(self.touches(q) for q in path[::3])
            if hangs and apart and not self._tool.outside(path).any():
                return JointMotion(start, swing, self.shortest(start, swing) / rng.uniform(0.2, 0.6))

    def _weight(self, q: np.ndarray) -> np.ndarray:
        """(n,) Nm that carry the arm at rest."""
        self._data.qpos[self._positions] = q
        mujoco.mj_forward(self._model, self._data)
        return np.array(self._data.qfrc_bias[self._dofs])

    def slowed(self, motion: JointMotion) -> JointMotion:
        """The same way, slow enough that the tool keeps 0.4 of the limits of tool poses."""
        times = np.linspace(0, motion.period_s, 10 * SAMPLES)
        limits, fast = self._embodiment.tool_limits, 1.0
        for poses in np.split(
            self._tool.poses(motion.at(times)), len(self._embodiment.end_effectors), axis=1
        ):
            turns = np.array([_turn(a, b) for a, b in itertools.pairwise(poses)]).cumsum(axis=0)
            path = np.hstack([poses[1:, :3], turns])
            velocity = np.gradient(path, times[1], axis=0)
            acceleration = np.gradient(velocity, times[1], axis=0)
            for half, axes in enumerate((np.s_[:, :3], np.s_[:, 3:])):
                fast = max(
                    fast,
                    np.abs(velocity[axes]).max() / (0.4 * limits.velocity[half]),
                    np.sqrt(np.abs(acceleration[axes]).max() / (0.4 * limits.acceleration[half])),
                )
        return replace(motion, period_s=motion.period_s * float(fast))

    def _free(self, path: np.ndarray) -> bool:
        """Within the joints' limits and the fence, and the arm does not touch itself."""
        if not ((path >= self._low) & (path <= self._high)).all():
            return False
        points = self._tool.positions(path)  # of all tools
        inside = (points > self._embodiment.geofence_min + MARGIN_M) & (
            points < self._embodiment.geofence_max - MARGIN_M
        )
        return (
            bool(inside.all())
            and not self._tool.outside(path).any()
            and not any(self.touches(q) for q in path[::3])
        )

    def touches(self, q: np.ndarray) -> bool:
        """Whether anything of the robot touches at angles (n,) that does not do so at home with closed hands."""
        self._data.qpos[self._positions] = q
        return bool(self._contacts() - self._closed)

    def _contacts(self) -> set[tuple[int, int]]:
        """Pairs of geometries that touch."""
        mujoco.mj_fwdPosition(self._model, self._data)
        return {(int(a), int(b)) for a, b in self._data.contact.geom}

    def shortest(self, start: np.ndarray, swing: np.ndarray) -> float:
        """Period at which the fastest joint takes 0.8 of its velocity or 0.7 of its acceleration limit."""
        limits = self._embodiment.limits
        path = start + np.outer(np.linspace(0, 1, SAMPLES), swing)
        room = np.minimum(path - limits("position_min"), limits("position_max") - path).min(axis=0)
        stopping = np.sqrt(limits("braking_decel_2a") * room) - limits("braking_offset")
        velocity = 0.8 * np.minimum(limits("velocity"), stopping)
        size = np.abs(swing)
        return float(
            np.maximum(
                np.pi * size / velocity, 2 * np.pi * np.sqrt(size / 2 / (0.7 * limits("acceleration")))
            ).max()
        )


def _turn(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Rotation vector (3,) rad from pose a (7,) to its neighbour b."""
    inverse, difference, turn = np.empty(4), np.empty(4), np.empty(3)
    mujoco.mju_negQuat(inverse, a[3:])
    mujoco.mju_mulQuat(difference, b[3:], inverse)
    mujoco.mju_quat2Vel(turn, difference, 1.0)
    return turn
