"""`physai robot check`: what a robot's file lacks or claims that its model does not bear out, and whether the arm moves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from physai_base.document import read_yaml
from physai_base.embodiment import Embodiment, find_embodiment
from physai_base.embodiment_parts import Fence, Joint
from physai_base.kinematics import ArmKinematics
from physai_base.robot_model import RobotModel, load_robot
from physai_lab.robots.anatomy import contacts_at, inertia_at, massless
from physai_lab.robots.draft import GUESS
from physai_lab.robots.ends import end_findings
from physai_lab.robots.remark import DOUBTFUL, NOTE, WRONG, Remark
from physai_lab.robots.trial import move

FASTEST_RAD_PER_CYCLE = (
    0.5  # natural frequency times the period: a sampled spring and damper swing up not far above it
)
SLOWEST_RAD_S = 2.0  # a softer joint hardly goes where it is told
FENCE_SAMPLES, LEAST_INSIDE = 2000, 0.01
LAG_RAD = 0.05  # that friction may cost
SINGULAR = 0.02  # m per rad or so, of the tool's least movable direction
TORQUE_RISE_S = 1.0
MOST_TURNS = 2.0  # of a joint, to either side: cables bear no more
LONGEST_SLIDE_M = 10.0
FULL_TORQUE_RAD = 0.03  # a stiffer joint is at its torque limit before it is that far off
LARGEST_FENCE = 10.0  # times as wide as what tools reach


def findings(embodiment: Embodiment, *, moving: bool = True) -> Iterator[Remark]:
    """Everything that is found, and with `moving` what a short motion in the simulated arm shows."""
    robot = load_robot(embodiment)
    for note in robot.notes:
        yield Remark(NOTE, "model", note)
    yield from _guesses(embodiment.path)
    inertia = inertia_at(robot, embodiment.home)
    load = _load(robot, embodiment.home)
    limits = _torque_limits(embodiment, robot, load)
    for joint, m, g in zip(embodiment.joints, inertia, load, strict=True):
        yield from _joint(embodiment, robot, joint, float(m), float(g), are_limits=not limits)
    yield from limits
    yield from _massless(embodiment, robot)
    yield from _home(embodiment, robot)
    places = _reached(embodiment)
    yield from _fences(embodiment, places)
    free = [_within_fences(embodiment, points) for points in places]
    yield from end_findings(
        embodiment, robot, [p if len(p) else all_ for p, all_ in zip(free, places, strict=True)]
    )
    yield from _rest(embodiment)
    if moving:
        yield from (Remark(WRONG, "motion", text) for text in move(embodiment))


def _guesses(path: Path) -> Iterator[Remark]:
    """Lines that `physai robot new` marked, in the file and those that it extends."""
    lines = path.read_text().splitlines()
    numbers = [n for n, line in enumerate(lines, 1) if GUESS in line and not line.lstrip().startswith("#")]
    if numbers:
        yield Remark(
            NOTE,
            path.name,
            f"guesses are left in line{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}",
        )
    base = read_yaml(path).value.get("extends")
    if base is not None:
        yield from _guesses(path.parent / str(base.value))


def _joint(
    embodiment: Embodiment, robot: RobotModel, joint: Joint, inertia: float, load: float, *, are_limits: bool
) -> Iterator[Remark]:
    limit, entry = robot.survey.limits[joint.name], f"joints.{joint.name}"
    period = 1.0 / embodiment.control.rate_hz
    for key, ours, theirs in (
        ("velocity", joint.velocity, limit.velocity),
        ("torque", joint.torque, limit.effort),
    ):
        if theirs > 0 and ours > theirs * (1 + 1e-3) and (are_limits or key != "torque"):
            yield Remark(WRONG, entry, f"{key} {ours:g} is above the model's {theirs:g}")
    farthest = max(abs(joint.position_min), abs(joint.position_max))
    if joint.name in robot.survey.slides and farthest > LONGEST_SLIDE_M:
        yield Remark(DOUBTFUL, entry, f"position goes {farthest:g} m far: m, not mm?")
    elif joint.name not in robot.survey.slides and farthest > MOST_TURNS * 2 * np.pi + 1e-3:
        turns = farthest / (2 * np.pi)
        yield Remark(
            DOUBTFUL, entry, f"position goes {farthest:g} rad far, {turns:.0f} turns: rad, not degrees?"
        )
    most = inertia * (FASTEST_RAD_PER_CYCLE / period) ** 2
    natural = np.sqrt(joint.stiffness / inertia)
    if joint.stiffness > most:
        yield Remark(
            WRONG, entry,
            f"stiffness {joint.stiffness:g} Nm/rad on {inertia:.3g} kg m2 swings {natural:.0f} rad/s, too fast for "
            f"{embodiment.control.rate_hz:g} Hz; take at most {most:.2g}, or give the rotor's inertia as `armature`",
        )  # fmt: skip
    elif (
        joint.stiffness == 0
        and embodiment.impedance.law == "joint"
        and embodiment.hardware.command == "effort"
    ):
        yield Remark(
            DOUBTFUL, entry, "without stiffness whoever pushes it moves it, and it does not come back"
        )
    elif joint.stiffness > 0 and natural < SLOWEST_RAD_S:
        yield Remark(
            DOUBTFUL,
            entry,
            f"stiffness {joint.stiffness:g} Nm/rad on {inertia:.3g} kg m2 takes {3 / natural:.1f} s to arrive",
        )
    if joint.stiffness * FULL_TORQUE_RAD > joint.torque and embodiment.hardware.command == "effort":
        yield Remark(
            DOUBTFUL, entry,
            f"stiffness {joint.stiffness:g} Nm/rad asks for all of the torque {joint.torque:g} Nm at an error of "
            f"{joint.torque / joint.stiffness:.2g} rad: is it another robot's?",
        )  # fmt: skip
    dry = float(robot.model.dof_frictionloss[robot.model.joint(joint.name).dofadr[0]])
    if dry * (1 - embodiment.impedance.friction_compensation) > LAG_RAD * joint.stiffness:
        yield Remark(
            DOUBTFUL,
            entry,
            f"stiffness {joint.stiffness:g} Nm/rad gives way to the model's dry friction of {dry:g} Nm by more than {LAG_RAD:g} "
            "rad; `friction` of the joint says another, control.friction_compensation feeds it forward",
        )
    if embodiment.hardware.command == "effort":
        if load > joint.torque:
            yield Remark(
                WRONG,
                entry,
                f"gravity asks for {load:.3g} Nm at home, more than the torque limit {joint.torque:g}",
            )
        elif load + inertia * joint.acceleration > joint.torque:
            yield Remark(
                DOUBTFUL, entry,
                f"acceleration {joint.acceleration:g} asks for {load + inertia * joint.acceleration:.3g} Nm at home with "
                f"gravity, more than the torque limit {joint.torque:g}",
            )  # fmt: skip
    if joint.torque > TORQUE_RISE_S * joint.torque_rate:
        yield Remark(
            DOUBTFUL,
            entry,
            f"at torque_rate {joint.torque_rate:g} full torque takes {joint.torque / joint.torque_rate:.1f} s",
        )
    span = joint.position_max - joint.position_min
    if np.sqrt(joint.braking_decel_2a * span / 2) <= joint.braking_offset:
        yield Remark(
            WRONG, entry, "braking allows no speed even in the middle of the range; offset is too large"
        )
    if not robot.model.dof_armature[robot.model.joint(joint.name).dofadr[0]]:
        yield Remark(
            DOUBTFUL,
            entry,
            "no rotor inertia: `armature` [kg m2] is the rotor's times the gear ratio squared",
        )


def _torque_limits(embodiment: Embodiment, robot: RobotModel, load: np.ndarray) -> list[Remark]:
    """That the model's limits of torque cannot be meant, where it has one with which the arm would fall at home."""
    for name, pull in zip(embodiment.joint_names, load, strict=True):
        effort = robot.survey.limits[name].effort
        if 0 < effort < pull:
            text = (
                f"its torque limits cannot be meant: {name} has {effort:g} Nm, and gravity alone asks for {pull:.3g} Nm at "
                "home; those of the data sheet count"
            )
            return [Remark(NOTE, "model", text)]
    return []


def _massless(embodiment: Embodiment, robot: RobotModel) -> Iterator[Remark]:
    light = massless(robot)
    if light:
        hardware = embodiment.hardware
        falls = (
            hardware.command == "effort" and hardware.gravity == "controller" and hardware.backend != "shm"
        )
        yield Remark(
            WRONG if falls else DOUBTFUL, "model",
            f"what {', '.join(light)} move has no mass in it: gravity, inertia and torques are not the robot's, which would "
            "fall under hardware.gravity: controller. Give the URDF its <inertial>, or take command: position",
        )  # fmt: skip


def _load(robot: RobotModel, position: np.ndarray) -> np.ndarray:
    """(n,) Nm or N by which gravity pulls at each joint."""
    import mujoco

    data = mujoco.MjData(robot.model)
    data.qpos[robot.positions] = position
    mujoco.mj_forward(robot.model, data)
    return np.abs(data.qfrc_bias[robot.dofs])


def _home(embodiment: Embodiment, robot: RobotModel) -> Iterator[Remark]:
    touching = contacts_at(robot, embodiment.home)
    if touching:
        yield Remark(WRONG, "home", f"parts touch there: {', '.join(touching)}")
    for end in embodiment.end_effectors:
        tool = ArmKinematics(embodiment, end.name)
        place = tool.tool_pose(embodiment.home).position
        outside = [
            fence for fence in embodiment.fences if "tool" in fence.points and not _inside(fence, place)
        ]
        if outside:
            shown = ", ".join(f"{value:.3f}" for value in place)
            yield Remark(WRONG, "home", f"{end.name} is outside of a fence there, at ({shown}) m")
        moved = np.abs(tool.jacobian(embodiment.home)).max(axis=0) > 1e-9
        if moved.sum() >= 3:
            least = np.linalg.svd(tool.jacobian(embodiment.home)[:3, moved], compute_uv=False)[-1]
            if least < SINGULAR:
                yield Remark(
                    DOUBTFUL,
                    "home",
                    f"{end.name} is near a singularity there: some direction moves {least:.3f} m per rad",
                )


def _inside(fence: Fence, point: np.ndarray) -> bool:
    if fence.kind == "plane":
        return bool(fence.normal @ point >= fence.offset)
    within = bool((fence.low <= point).all() and (point <= fence.high).all())
    return within if fence.kind == "inside" else not within


def _reached(embodiment: Embodiment) -> list[np.ndarray]:
    """(FENCE_SAMPLES, 3) m for each end effector: where it comes."""
    rng = np.random.default_rng(0)
    low, high = embodiment.limits("position_min"), embodiment.limits("position_max")
    tools = [ArmKinematics(embodiment, end.name) for end in embodiment.end_effectors]
    return [
        np.array([tool.tool_pose(rng.uniform(low, high)).position for _ in range(FENCE_SAMPLES)])
        for tool in tools
    ]


def _within_fences(embodiment: Embodiment, points: np.ndarray) -> np.ndarray:
    fences = [fence for fence in embodiment.fences if "tool" in fence.points]
    return points[[all(_inside(fence, point) for fence in fences) for point in points]]


def _fences(embodiment: Embodiment, places: list[np.ndarray]) -> Iterator[Remark]:
    for end, points in zip(embodiment.end_effectors, places, strict=True):
        inside = len(_within_fences(embodiment, points)) / len(points)
        box = ", ".join(
            f"{axis} {low:.2f}…{high:.2f}"
            for axis, low, high in zip("xyz", points.min(0), points.max(0), strict=True)
        )
        wide = float((embodiment.geofence_max - embodiment.geofence_min).min())
        if wide > LARGEST_FENCE * float(np.ptp(points, axis=0).max()):
            yield Remark(
                WRONG,
                "geofence",
                f"holds nothing back: it is {wide:g} m wide, and {end.name} reaches {box} m; m, not mm?",
            )
        if inside < LEAST_INSIDE:
            yield Remark(
                WRONG,
                "geofence",
                f"{end.name} hardly ever is inside ({100 * inside:.1f} % of joint positions); it reaches {box} m",
            )


def _rest(embodiment: Embodiment) -> Iterator[Remark]:
    control = embodiment.control
    if control.state_timeout_s * control.rate_hz < 2:
        yield Remark(
            WRONG,
            "control.state_timeout_s",
            f"{control.state_timeout_s:g} s is less than two periods of {control.rate_hz:g} Hz",
        )
    if not embodiment.cameras:
        yield Remark(NOTE, "cameras", "there is none: perception and tasks that look need one")
    if any(
        end.gripper.kind in ("parallel", "hinge") and end.hand.tip == end.hand.length == 0
        for end in embodiment.end_effectors
    ):
        yield Remark(
            NOTE,
            "hand",
            "how much room the hand takes up is not said: tip, length, reach; tasks keep clear by it",
        )


def check_command(robot: str, *, moving: bool) -> int:
    """Print what is found; 1 where something is wrong."""
    path = find_embodiment(robot)
    embodiment = Embodiment.load(robot)
    print(
        f"{embodiment.name}: {path}\n  {len(embodiment.joints)} joints, "
        + ", ".join(f"{end.name} at {end.frame} ({end.gripper.kind})" for end in embodiment.end_effectors)
        + f"\n  model {embodiment.model_path}"
    )
    counts = {WRONG: 0, DOUBTFUL: 0, NOTE: 0}
    for finding in findings(embodiment, moving=moving):
        counts[finding.level] += 1
        print(f"  {finding}")
    if moving and not counts[WRONG]:
        print("  moved: held, followed a chunk there and back, opened and closed, ended")
    print(f"{embodiment.name}: {counts[WRONG]} wrong, {counts[DOUBTFUL]} doubtful, {counts[NOTE]} notes")
    return 1 if counts[WRONG] else 0
