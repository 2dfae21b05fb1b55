"""A robot's first motion: its own model as the plant, the control core in lock step, one chunk there and back."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import mujoco
import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.kinematics import ArmKinematics
from physai_base.robot_model import load_robot
from physai_base.values import ActionChunk, ChunkMode, ControlState
from physai_control.core import ChunkRejected, ControlCore, ControlError
from physai_lab.robots.anatomy import contacts_at
from physai_sim.plant import Gate, Plant, PlantError

HOLD_S, SETTLE_S = 1.0, 2.0
STEP_S, STEPS, MOVING_STEPS = 0.05, 50, 40
AMPLITUDE = 0.1  # rad or m, at most
SHARE = 0.3  # of velocity and acceleration
ALLOWED_SAG, ALLOWED_ERROR = 0.02, 0.05  # rad or m
ALLOWED_OPENING = 0.1  # of the gripper's range


def move(embodiment: Embodiment) -> Iterator[str]:
    """Hold, follow, open and close, end. Yields what went wrong; nothing: all of it went well."""
    robot = load_robot(embodiment)
    model, positions = copy.copy(robot.model), robot.positions
    data = mujoco.MjData(model)
    robot.put(data, embodiment.home, embodiment.finger_positions(embodiment.openings_at(1.0)))
    mujoco.mj_forward(model, data)
    try:
        core = ControlCore(embodiment)
    except ControlError as error:
        yield f"the control core refuses the robot: {error}"
        return
    try:
        plant = Plant(model, data, embodiment, core=core)
    except PlantError as error:
        core.close()
        yield f"the plant cannot be made: {error}"
        return
    try:
        yield from _Trial(embodiment, data, positions, core, plant).run()
    except PlantError as error:
        yield f"{error}: stiffness, armature and inertia do not fit the rate"
    finally:
        plant.close()
        core.close()


class _Trial:
    def __init__(
        self,
        embodiment: Embodiment,
        data: mujoco.MjData,
        positions: list[int],
        core: ControlCore,
        plant: Plant,
    ) -> None:
        self._embodiment, self._data, self._positions = embodiment, data, positions
        self._robot = load_robot(embodiment)
        self._core, self._plant = core, plant
        self._sequence = 0

    def run(self) -> Iterator[str]:
        self._seconds(0.02)
        self._core.activate()
        self._seconds(HOLD_S + self._embodiment.control.gain_ramp_s)
        if self._stopped():
            yield f"it does not hold: {self._what()}"
            return
        if self._plant.gate is not Gate.DRIVEN:
            yield "the simulated robot does not take the core's commands: it stays on its brakes"
            return
        sag = np.abs(self._joints() - self._embodiment.home)
        if sag.max() > ALLOWED_SAG:
            yield f"it sags by {sag.max():.3f} at {self._name(sag)} while it holds: stiffer there, or gravity is not compensated"
        target = self._target()
        if target is None:
            yield "no small motion around home stays within limits and fences, without parts that touch"
            return
        for goal, openings in ((target, "opening_min"), (self._embodiment.home, "opening_max")):
            wide = np.array([getattr(end.gripper, openings) for end in self._embodiment.end_effectors])
            problem = self._follow(goal, wide)
            if problem:
                yield problem
                return
            yield from self._compare(goal, wide)
        if self._core.status().state is not ControlState.HOLD:
            yield f"after its chunk it does not hold still: {self._what()}"

    def _seconds(self, seconds: float) -> None:
        self._plant.run(max(1, round(seconds / self._robot.model.opt.timestep)))

    def _stopped(self) -> bool:
        return self._core.status().state not in (ControlState.HOLD, ControlState.TRACK, ControlState.DEGRADED)

    def _what(self) -> str:
        status = self._core.status()
        return f"{status.state.name.lower()}, {status.cause or 'without a cause'}"

    def _joints(self) -> np.ndarray:
        return np.array(self._data.qpos[self._positions])

    def _name(self, each: np.ndarray) -> str:
        return self._embodiment.joint_names[int(np.argmax(each))]

    def _target(self) -> np.ndarray | None:
        """(n,) near home, towards the middle of the limits, where the way there is free; None: there is none."""
        robot, duration = self._embodiment, MOVING_STEPS * STEP_S
        velocity, acceleration = robot.limits("velocity"), robot.limits("acceleration")
        # Peaks of the quintic below: 15/8 of the mean speed, 10/√3 of the mean acceleration.
        most = np.minimum(SHARE * velocity * duration / 1.875, SHARE * acceleration * duration**2 / 5.78)
        most = np.minimum(most, AMPLITUDE)
        middle = (robot.limits("position_min") + robot.limits("position_max")) / 2
        towards = np.where(middle >= robot.home, 1.0, -1.0)
        rng = np.random.default_rng(0)
        tools = [ArmKinematics(robot, end.name) for end in robot.end_effectors]
        for attempt in range(40):
            signs = towards if attempt == 0 else rng.choice((-1.0, 1.0), len(most))
            target = robot.home + signs * most * (1.0 if attempt < 20 else 0.3)
            way = np.linspace(robot.home, target, 8)
            if not ((way > robot.limits("position_min")) & (way < robot.limits("position_max"))).all():
                continue
            if any(contacts_at(self._robot, q) for q in way):
                continue
            if all(
                (robot.geofence_min < p).all() and (p < robot.geofence_max).all()
                for p in self._places(tools, way)
            ):
                return np.asarray(target)
        return None

    def _places(self, tools: list[ArmKinematics], way: np.ndarray) -> list[np.ndarray]:
        return [tool.tool_pose(q).position for tool in tools for q in way]

    def _follow(self, goal: np.ndarray, openings: np.ndarray) -> str:
        """Send one chunk to joint positions (n,) and openings (k,) and run it; what went wrong, or nothing."""
        status = self._core.status()
        self._sequence += 1
        s = np.clip(np.arange(STEPS) / MOVING_STEPS, 0, 1)[:, None]
        way = status.reference + (goal - status.reference) * (10 * s**3 - 15 * s**4 + 6 * s**5)
        dt_ns = round(STEP_S * 1e9)
        chunk = ActionChunk(
            sequence=self._sequence, policy="robot check", observation_ns=status.stamp_ns, start_ns=status.stamp_ns, dt_ns=dt_ns,
            mode=ChunkMode.JOINT_POSITION, joint_names=self._embodiment.joint_names, values=way,
            openings=np.tile(openings, (STEPS, 1)), uncertainty=0.0, expiry_ns=status.stamp_ns + (STEPS + 20) * dt_ns,
            end_effectors=self._embodiment.end_effector_names,
        )  # fmt: skip
        try:
            self._core.post(chunk)
        except ChunkRejected as error:
            return f"a slow chunk around home is refused: {error}"
        self._seconds(STEPS * STEP_S / 2)
        if self._core.status().state is not ControlState.TRACK:
            return f"it does not follow a chunk: {self._what()}"
        grippers = [end.gripper for end in self._embodiment.end_effectors if end.gripper.fingers]
        slowest = max(((g.opening_max - g.opening_min) / g.speed for g in grippers), default=0.0)
        self._seconds(STEPS * STEP_S / 2 + SETTLE_S + slowest)
        return f"it stops on the way: {self._what()}" if self._stopped() else ""

    def _compare(self, goal: np.ndarray, openings: np.ndarray) -> Iterator[str]:
        error = np.abs(self._joints() - goal)
        if error.max() > ALLOWED_ERROR:
            yield f"{self._name(error)} is {error.max():.3f} from where the chunk ended: too soft, or too much friction"
        fingers = {name: float(self._data.joint(name).qpos[0]) for name in self._embodiment.finger_joints}
        for end, wanted in zip(self._embodiment.end_effectors, openings, strict=True):
            if not end.gripper.fingers:
                continue
            opening, span = end.gripper.opening(fingers), end.gripper.opening_max - end.gripper.opening_min
            if abs(opening - wanted) > ALLOWED_OPENING * span:
                unit = end.gripper.unit
                yield f"the gripper of {end.name} is at {opening:.3f} {unit} instead of {wanted:.3f} {unit}"
