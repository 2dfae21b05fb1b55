"""What a robot's file says of its base, tools, grippers and cameras, against where its model's parts go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import mujoco
import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.embodiment_parts import Camera, EndEffector
from physai_base.models.self_contacts import carriers
from physai_base.robot_model import RobotModel
from physai_lab.robots.remark import DOUBTFUL, WRONG, Remark

UPRIGHT_DEG = 5.0  # that the base's z axis may lean
LEAST_TRAVEL_M = 1e-4  # of the fingers, to tell closed from open by it
TRAVEL_RATIO = (0.6, 1.7)  # range by the fingers' travel: their parts' centres need not be where the pads are
SHORTEST_STROKE_S = 0.02  # from open to closed
LEAST_SEEN = 0.02  # of the places that tools reach
FARTHEST_SEEN = 10.0  # times as far away as tools reach


def end_findings(embodiment: Embodiment, robot: RobotModel, places: Sequence[np.ndarray]) -> Iterator[Remark]:
    """`places`: for each end effector (n, 3) m, base frame, where it comes within its fences."""
    yield from _base(embodiment, robot.model)
    for end in embodiment.end_effectors:
        yield from _tool(robot, end)
        yield from _gripper(embodiment, robot, end)
    yield from _idle(embodiment, robot)
    for index, camera in enumerate(embodiment.cameras):
        if camera.parent == embodiment.base_frame:
            yield from _camera(camera, f"cameras[{index}]", np.concatenate(places))


def _base(embodiment: Embodiment, model: mujoco.MjModel) -> Iterator[Remark]:
    gravity = np.array(model.opt.gravity)
    strength = np.linalg.norm(gravity)
    if strength > 0 and -gravity[2] / strength < np.cos(np.radians(UPRIGHT_DEG)):
        lean = np.degrees(np.arccos(np.clip(-gravity[2] / strength, -1, 1)))
        yield Remark(
            DOUBTFUL, "base_frame",
            f"the z axis of {embodiment.base_frame} is {lean:.0f} degrees off from upwards in the model, and cell, fences "
            "and cameras count on it; `frames` gives a frame that stands upright",
        )  # fmt: skip


def _moved_by(robot: RobotModel, body: int) -> set[str]:
    """The arm's joints that move a body."""
    model, chain = robot.model, carriers(robot.model, body)
    return {name for name in robot.source.joints if int(model.joint(name).bodyid[0]) in chain}


def _tool_body(robot: RobotModel, end: EndEffector) -> int:
    return int(robot.model.site(end.frame).bodyid[0])


def _tool(robot: RobotModel, end: EndEffector) -> Iterator[Remark]:
    if not end.gripper.fingers:
        return
    gripper = set[str]().union(*(_moved_by(robot, body) for body in _finger_bodies(robot, end)))
    chain = carriers(robot.model, _tool_body(robot, end))
    for body, finger in zip(_finger_bodies(robot, end), end.gripper.joints, strict=True):
        if body in chain:
            yield Remark(
                WRONG, "tool_frame", f"{end.frame} of {end.name} moves with its finger {finger}; take one between its pads"
            )  # fmt: skip
    tool = _moved_by(robot, _tool_body(robot, end))
    for joints, what in (
        (gripper - tool, "is not moved by {}, which move its gripper"),
        (tool - gripper, "is moved by {}, which do not move its gripper"),
    ):
        if joints:
            names = ", ".join(name for name in robot.source.joints if name in joints)
            yield Remark(
                WRONG,
                "tool_frame",
                f"{end.frame} of {end.name} {what.format(names)}; take one between its pads",
            )


def _idle(embodiment: Embodiment, robot: RobotModel) -> Iterator[Remark]:
    moving = set[str]().union(*(_moved_by(robot, _tool_body(robot, end)) for end in embodiment.end_effectors))
    idle = [name for name in embodiment.joint_names if name not in moving]
    if idle:
        yield Remark(
            DOUBTFUL, "joints",
            f"{', '.join(idle)} move no tool: left out, they are locked; or the tool frame sits on the wrong link",
        )  # fmt: skip


# Grippers -------------------------------------------------------------------------------------------------------


def _finger_bodies(robot: RobotModel, end: EndEffector) -> list[int]:
    return [int(robot.model.joint(name).bodyid[0]) for name in end.gripper.joints]


def _gripper(embodiment: Embodiment, robot: RobotModel, end: EndEffector) -> Iterator[Remark]:
    gripper, unit = end.gripper, end.gripper.unit
    if not gripper.fingers:
        return
    span = gripper.opening_max - gripper.opening_min
    travel, (low, high) = _travel(embodiment, robot, end), TRAVEL_RATIO
    if travel < -LEAST_TRAVEL_M:
        yield Remark(
            WRONG if gripper.kind == "parallel" else DOUBTFUL, "gripper.fingers",
            f"those of {end.name} are {-1e3 * travel:.0f} mm nearer to each other at {gripper.opening_max:g} {unit} than at "
            f"{gripper.opening_min:g} {unit}: closed and open are exchanged",
        )  # fmt: skip
    elif travel > LEAST_TRAVEL_M and gripper.kind == "parallel" and not low <= span / travel <= high:
        yield Remark(
            DOUBTFUL, "gripper.range",
            f"goes through {span:g} m, and the fingers of {end.name} move {travel:.3g} m apart in the model: it is the gap "
            "between the pads, in m",
        )  # fmt: skip
    if span / gripper.speed < SHORTEST_STROKE_S:
        yield Remark(
            DOUBTFUL, "gripper.speed",
            f"{gripper.speed:g} {unit}/s opens {end.name} in {1e3 * span / gripper.speed:.1f} ms; m/s, not mm/s?",
        )  # fmt: skip


def _travel(embodiment: Embodiment, robot: RobotModel, end: EndEffector) -> float:
    """How much farther apart, m, the two fingers whose distance changes most are at the greatest opening.

    0 with one finger alone. Distances are those of the parts' centres of mass.
    """
    model, data, bodies = robot.model, mujoco.MjData(robot.model), _finger_bodies(robot, end)
    distances = []
    for opening in ("opening_min", "opening_max"):
        openings = np.array([getattr(e.gripper, opening) for e in embodiment.end_effectors])
        robot.put(data, embodiment.home, embodiment.finger_positions(openings))
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        centres = data.xipos[bodies]
        distances.append(np.linalg.norm(centres[:, None] - centres[None], axis=-1).ravel())
    change = distances[1] - distances[0]
    return float(change[np.argmax(np.abs(change))])


# Cameras --------------------------------------------------------------------------------------------------------


def _camera(camera: Camera, entry: str, places: np.ndarray) -> Iterator[Remark]:
    seen, nearest = _seen(camera, places)
    reach = float(np.linalg.norm(places, axis=1).max())
    if seen >= LEAST_SEEN and nearest <= FARTHEST_SEEN * reach:
        return
    position, target = (", ".join(f"{v:g}" for v in vector) for vector in (camera.position, camera.look_at))
    what = (
        f"sees {100 * seen:.0f} % of the places that tools reach"
        if seen < LEAST_SEEN
        else f"is {nearest:.3g} m away"
    )
    yield Remark(
        DOUBTFUL, entry, f"{camera.name} {what}, from ({position}) towards ({target}) m in {camera.parent}"
    )


def _seen(camera: Camera, places: np.ndarray) -> tuple[float, float]:
    """(share of the places (n, 3) in the camera's image, m to the nearest of those)."""
    pose = camera.nominal_pose()
    seen_from = (places - pose[:3, 3]) @ pose[:3, :3]
    ahead = seen_from[seen_from[:, 2] > 0.01]
    pixels = ahead @ camera.intrinsics().T
    u, v = pixels[:, 0] / pixels[:, 2], pixels[:, 1] / pixels[:, 2]
    inside = (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
    distance = float(np.linalg.norm(ahead[inside], axis=1).min()) if inside.any() else 0.0
    return float(inside.sum() / max(len(places), 1)), distance
