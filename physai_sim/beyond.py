"""What no training has seen: cells that leave the ranges within which everything else is drawn.

Each part is on top of what `Scene.randomize` draws. Factors are of the nominal values, so that each lies outside of what is drawn.
What cannot be done by anyone is drawn again: things in each other, off the workspace or on a marker, an arm that touches something.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import mujoco
import numpy as np

from physai_base.errors import PhysaiError
from physai_base.kinematics import ArmKinematics
from physai_base.task import Region, Shape, Task
from physai_sim.paint import hsv_to_rgb, hue_of

if TYPE_CHECKING:
    from physai_sim.scene import Scene

BEYOND = ("friction", "slippery", "mass", "light", "posture", "outside", "distractors", "lookalikes")
FACTOR = {"friction": 3.0, "slippery": 1 / 3, "mass": 3.0, "light": 0.3}
POSTURE_RAD = 0.35  # each joint from home, at most
OUTSIDE_M = 0.03
TRIES = 5000

DEEP_M = 0.001  # things that are farther in each other than that were put there, and do not touch
LIMIT_RAD = 0.1  # a start posture is that far from the joints' limits
INSIDE_M = 0.02  # and that far inside the workspace

# Foreign things: shape and half sizes in m. Low, so that a hand which holds something passes over them.
DISTRACTORS = {
    "distractor_box": (mujoco.mjtGeom.mjGEOM_BOX, (0.026, 0.017, 0.028)),
    "distractor_can": (mujoco.mjtGeom.mjGEOM_CYLINDER, (0.021, 0.022, 0.0)),
    "distractor_ball": (mujoco.mjtGeom.mjGEOM_SPHERE, (0.024, 0.0, 0.0)),
}
LOOKALIKES = 3  # at most, one for each of so many things
ALIKE = 0.8  # of the extents of what it looks like
FOREIGN_KG = 0.08
OTHER_HUE_DEG = 30.0  # of a foreign colour from all colours of the task
CLEAR_M = (
    0.05,
    0.035,
    0.02,
)  # between a foreign thing and others: a finger's breadth where there is no more room
AROUND_M = 0.06  # foreign things stand where others may, or that far from there
MARKER_SHARE = 0.9  # of a marker's edge: nearer to its middle nothing is put


def parse_beyond(parts: Iterable[str]) -> tuple[str, ...]:
    """Names of how to leave the ranges; empty ones are left out.

    Raises:
        ValueError: a name that is not known, or two that exclude each other.
    """
    chosen = tuple(part for part in parts if part)
    for part in chosen:
        if part not in BEYOND:
            raise ValueError(f"cannot go beyond {part!r}; known: {', '.join(BEYOND)}")
    if {"friction", "slippery"} <= set(chosen):
        raise ValueError("friction and slippery exclude each other")
    return chosen


class Outside(Region):
    """A region's surroundings: up to `OUTSIDE_M` from it along x or y or both."""

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """(3,) somewhere in them."""
        wide = [(low - OUTSIDE_M, high + OUTSIDE_M) for low, high in (self.x, self.y)]
        while True:
            x, y = rng.uniform(*wide[0]), rng.uniform(*wide[1])
            if not (self.x[0] <= x <= self.x[1] and self.y[0] <= y <= self.y[1]):
                return np.array([x, y, self.z_m])


Part = TypeVar("Part")


def _outside(part: Part) -> Part:
    """The same with `Outside` for every region in it; itself where there is none."""
    changed: Any = part
    if isinstance(part, Region):
        changed = Outside(part.x, part.y, part.z_m, part.yaw)
    elif is_dataclass(part) and not isinstance(part, type):
        values = {f.name: getattr(part, f.name) for f in fields(part) if f.init}
        changes = {name: new for name, value in values.items() if (new := _outside(value)) is not value}
        changed = replace(part, **changes) if changes else part
    elif isinstance(part, tuple) and type(part) is tuple:
        items = tuple(map(_outside, part))
        changed = items if any(new is not old for new, old in zip(items, part, strict=True)) else part
    elif isinstance(part, Mapping):
        named = {key: _outside(value) for key, value in part.items()}
        changed = named if any(named[key] is not part[key] for key in part) else part
    return changed  # type: ignore[no-any-return]


def outside(task: Task) -> Task:
    """The task whose things start beside their regions instead of in them; boards stay where they are.

    Raises:
        PhysaiError: it has no `Region`, and draws its cells by something else.
    """
    changed = _outside(task)
    if changed is task:
        raise PhysaiError(f"task {task.name!r} has no physai_base.task.Region whose outside could be drawn")
    return changed


def add_foreign(spec: mujoco.MjSpec, task: Task, beyond: Iterable[str]) -> None:
    """What the task does not know, below the cell until `leave` puts it among the others."""
    if "distractors" in beyond:
        for name, (shape, size) in DISTRACTORS.items():
            _add(spec, name, shape, size)
    if "lookalikes" in beyond:
        for label in _looked_like(task):
            x, y, z = (ALIKE * size / 2 for size in task.kind(label).size_m)
            low = min(z, 0.03)
            if task.kind(label).shape is Shape.CYLINDER:
                _add(spec, _alike(label), mujoco.mjtGeom.mjGEOM_BOX, (x, y, low))
            else:
                _add(spec, _alike(label), mujoco.mjtGeom.mjGEOM_CYLINDER, (min(x, y), low, 0.0))


def _add(spec: mujoco.MjSpec, name: str, shape: mujoco.mjtGeom, size: Iterable[float]) -> None:
    body = spec.worldbody.add_body(name=name, pos=[-1.0, 0, -1.0])
    body.add_freejoint(name=name)
    body.add_geom(
        name=name, type=shape, size=[*size], mass=FOREIGN_KG, condim=6, friction=[0.8, 0.01, 0.002],
        rgba=[0.5, 0.5, 0.5, 1],
    )  # fmt: skip


def _looked_like(task: Task) -> tuple[str, ...]:
    solid = [label for label in task.objects if task.kind(label).shape in (Shape.CYLINDER, Shape.BOX)]
    return tuple(solid[:LOOKALIKES])


def _alike(label: str) -> str:
    return f"like_{label}"


def leave(scene: Scene, seed: int) -> None:
    """Bring a cell that was drawn at random out of the ranges, each part by a stream of its own.

    Raises:
        PhysaiError: nothing that makes sense was found.
    """
    if not scene.beyond:
        return
    mujoco.mj_forward(scene.model, scene.data)
    rngs = {part: np.random.default_rng([seed, 100 + index]) for index, part in enumerate(BEYOND)}
    for part in ("friction", "slippery"):
        if part in scene.beyond:
            _scale_friction(scene, FACTOR[part])
    if "mass" in scene.beyond:
        _scale_mass(scene, FACTOR["mass"])
    if "light" in scene.beyond:
        scene.model.light_diffuse[:] = FACTOR["light"] * scene.nominal["light_diffuse"]
        for name in ("ambient", "diffuse"):
            getattr(scene.model.vis.headlight, name)[:] = FACTOR["light"] * scene.headlight[name]
    if "outside" in scene.beyond:
        _draw_sensible(scene, rngs["outside"])
    if "posture" in scene.beyond:
        _draw_posture(scene, rngs["posture"])
    foreign = [name for name in DISTRACTORS if "distractors" in scene.beyond]
    if foreign:
        _paint_foreign(scene, foreign, rngs["distractors"])
        _stand_among(scene, foreign, rngs["distractors"])
    if "lookalikes" in scene.beyond:
        labels = _looked_like(scene.task)
        for label in labels:
            scene.model.geom(_alike(label)).rgba[:] = scene.model.geom(label).rgba
        _stand_among(scene, [_alike(label) for label in labels], rngs["lookalikes"])


def _scale_friction(scene: Scene, factor: float) -> None:
    """Of everything that slides: MuJoCo takes the larger one of two, so that one alone would not do."""
    model = scene.model
    model.geom_friction[:, 0] = factor * scene.nominal["geom_friction"][:, 0]
    model.pair_friction[:, :2] = factor * scene.nominal["pair_friction"][:, :2]
    things = ~scene.of_robot[model.dof_bodyid]
    model.dof_frictionloss[things] = factor * scene.nominal["dof_frictionloss"][things]


def _scale_mass(scene: Scene, factor: float) -> None:
    things = ~scene.of_robot
    scene.model.body_mass[things] = factor * scene.nominal["body_mass"][things]
    scene.model.body_inertia[things] = factor * scene.nominal["body_inertia"][things]


def _draw_sensible(scene: Scene, rng: np.random.Generator) -> None:
    """Other poses until things stand where they can be got at."""
    things = (*scene.task.objects, *scene.task.places)
    for _ in range(TRIES):
        mujoco.mj_forward(scene.model, scene.data)
        if not _deep(scene) and all(_placed(scene, label) for label in things):
            return
        scene.task.cell.randomize("poses", scene.model, scene.data, rng)
    raise PhysaiError(f"task {scene.task.name!r}: no cell was found with its things outside their regions")


def _placed(scene: Scene, label: str) -> bool:
    """Whether it is within the workspace, and on no marker."""
    cell, spot = scene.task.workcell, scene.position(label)[:2]
    within = bool((spot > cell.workspace_min[:2]).all() and (spot < cell.workspace_max[:2]).all())
    return within and _off_markers(scene, spot, 0.0)


def _off_markers(scene: Scene, spot: np.ndarray, radius_m: float) -> bool:
    markers = scene.task.workcell.markers
    far = MARKER_SHARE * markers.size_m + radius_m
    return all(np.linalg.norm(spot - np.array(centre)) > far for centre in markers.centers.values())


def _deep(scene: Scene) -> bool:
    """Whether anything is in something else in which it is not in the nominal cell, too."""
    contact = scene.data.contact
    pairs = {
        tuple(sorted(pair)) for pair, dist in zip(contact.geom, contact.dist, strict=True) if dist < -DEEP_M
    }
    return bool(pairs - scene.joined)


def _draw_posture(scene: Scene, rng: np.random.Generator) -> None:
    robot, task = scene.embodiment, scene.task
    low = np.array([joint.position_min for joint in robot.joints]) + LIMIT_RAD
    high = np.array([joint.position_max for joint in robot.joints]) - LIMIT_RAD
    bottom, top = task.workcell.workspace_min + INSIDE_M, task.workcell.workspace_max - INSIDE_M
    tools = [ArmKinematics(robot, end.name) for end in robot.end_effectors]
    for _ in range(TRIES):
        posture = robot.home + rng.uniform(-POSTURE_RAD, POSTURE_RAD, len(robot.home))
        spots = [tool.tool_pose(posture).position for tool in tools]
        if not ((posture > low) & (posture < high)).all():
            continue
        if not all((spot > bottom).all() and (spot < top).all() for spot in spots):
            continue
        scene.set_arm(posture)
        mujoco.mj_forward(scene.model, scene.data)
        touched = scene.of_robot[scene.model.geom_bodyid[scene.data.contact.geom]].any(axis=1)
        pairs = {tuple(sorted(pair)) for pair in scene.data.contact.geom[touched]}
        if not pairs - scene.joined:
            return
    raise PhysaiError(
        f"{robot.name}: no start posture within {POSTURE_RAD} rad of home is free and in the workspace"
    )


def _paint_foreign(scene: Scene, names: Iterable[str], rng: np.random.Generator) -> None:
    """Colours that are none of the task's; grey where it leaves none."""
    things = (*scene.task.objects, *scene.task.places)
    taken = [hue_of(colour) for label in things if (colour := _colour_of(scene.model, label)) is not None]
    free = [
        hue
        for hue in range(360)
        if all(abs((hue - other + 180) % 360 - 180) > OTHER_HUE_DEG for other in taken)
    ]
    for name in names:
        saturation = rng.uniform(0.55, 0.95) if free else 0.05
        hue = float(rng.choice(free)) if free else 0.0
        scene.model.geom(name).rgba[:3] = hsv_to_rgb((hue, saturation, rng.uniform(0.4, 0.9)))


def _colour_of(model: mujoco.MjModel, label: str) -> np.ndarray | None:
    """RGB (3,) of the geometry that is called like it, or else of its body's first; None without either."""
    geom = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_GEOM, label)
    if geom < 0:
        body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, label)
        geom = int(model.body_geomadr[body]) if body >= 0 else -1
    return model.geom_rgba[geom, :3] if geom >= 0 else None


def _stand_among(scene: Scene, names: Iterable[str], rng: np.random.Generator) -> None:
    """Foreign things on the table between the others, with room for a hand."""
    regions = [scene.task.region(label) for label in (*scene.task.objects, *scene.task.places)]
    cell = scene.task.workcell
    low = np.maximum(
        np.min([(region.x[0], region.y[0]) for region in regions], axis=0) - AROUND_M,
        cell.workspace_min[:2] + AROUND_M,
    )
    high = np.minimum(
        np.max([(region.x[1], region.y[1]) for region in regions], axis=0) + AROUND_M,
        cell.workspace_max[:2] - AROUND_M,
    )
    others = [
        (scene.position(label)[:2], float(np.hypot(*scene.task.kind(label).size_m[:2])) / 2)
        for label in (*scene.task.objects, *scene.task.places)
    ]
    others += [
        (scene.data.body(name).xpos[:2].copy(), scene.model.geom(name).rbound[0])
        for name in DISTRACTORS
        if "distractors" in scene.beyond and name not in names
    ]
    for name in names:
        radius = float(np.hypot(*scene.model.geom(name).size[:2]))
        spot = _free_spot(scene, low, high, others, radius, rng)
        geom, yaw = scene.model.geom(name), rng.uniform(-np.pi, np.pi)
        height = {
            mujoco.mjtGeom.mjGEOM_BOX: geom.size[2], mujoco.mjtGeom.mjGEOM_CYLINDER: geom.size[1],
            mujoco.mjtGeom.mjGEOM_SPHERE: geom.size[0],
        }[mujoco.mjtGeom(geom.type[0])]  # fmt: skip
        joint = scene.data.joint(name)
        joint.qpos[:] = [*spot, height + 0.0005, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
        joint.qvel[:] = 0.0
        others.append((spot, radius))
    mujoco.mj_forward(scene.model, scene.data)


def _free_spot(
    scene: Scene, low: np.ndarray, high: np.ndarray, others: list[tuple[np.ndarray, float]], radius_m: float,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """(2,) where something of that radius may stand, with as much room as there is."""
    ways = _ways(scene.task, scene)
    free = getattr(scene.task.cell, "free", lambda spot, radius, data: True)
    for clear in CLEAR_M if (low < high).all() else ():
        for _ in range(TRIES // 10):
            spot = rng.uniform(low, high)
            if (
                all(np.linalg.norm(spot - other) > radius_m + wide + clear for other, wide in others)
                and all(_aside(spot, start, end) > radius_m + wide + clear for start, end, wide in ways)
                and _off_markers(scene, spot, radius_m)
                and free(spot, radius_m + clear, scene.data)
            ):
                return spot
    raise PhysaiError(f"task {scene.task.name!r}: the table has no room for distractors")


def _ways(task: Task, scene: Scene) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Where things are pushed along on the table: from, to, and half the width; what is carried passes above."""
    return [
        (
            scene.position(goal.target)[:2],
            scene.position(goal.destination)[:2],
            float(max(task.kind(goal.target).size_m[:2])) / 2,
        )
        for goal in task.goals
        if goal.destination and not task.carried(goal)
    ]


def _aside(spot: np.ndarray, start: np.ndarray, end: np.ndarray) -> float:
    """From a straight way between two, m."""
    way = end - start
    share = float(np.clip((spot - start) @ way / max(float(way @ way), 1e-12), 0, 1))
    return float(np.linalg.norm(start + share * way - spot))
