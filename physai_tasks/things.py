"""Things of one colour that may be moved, in MuJoCo: how tasks' cells build, put, paint and vary them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import mujoco
import numpy as np

from physai_base.errors import TaskError
from physai_base.task import Kind, Region, Shape
from physai_sim.paint import hsv_to_rgb

# Hue (degrees), saturation and value of each colour word; randomization stays within `HUE_SPREAD_DEG`.
COLOURS_HSV = {
    "red": (0.0, 0.85, 0.75), "green": (125.0, 0.75, 0.60), "blue": (222.0, 0.80, 0.75), "yellow": (54.0, 0.85, 0.80),
    "purple": (275.0, 0.70, 0.65), "orange": (28.0, 0.90, 0.85),
}  # fmt: skip
HUE_SPREAD_DEG = 9.0
SLIDING, SPINNING, ROLLING = 0.8, 0.01, 0.0005  # friction
LIFT_M = 0.0005  # above what it is put on
BAD_LUCK = 0.02  # so often a drawing begins anew: a bad first choice can leave no room for the rest
TRIES = 20_000


def colour_of(label: str) -> str:
    """The first of a label's words that is a colour.

    Raises:
        TaskError: none is.
    """
    found = next((word for word in label.split("_") if word in COLOURS_HSV), None)
    if found is None:
        raise TaskError(f"label {label!r} has no colour among its words; known: {', '.join(COLOURS_HSV)}")
    return found


def add_thing(spec: mujoco.MjSpec, label: str, kind: Kind, mass_kg: float) -> mujoco.MjsBody:
    """A cylinder or a box that may be moved; body, joint, geometry and the site of its origin are called like it."""
    body = spec.worldbody.add_body(name=label)
    body.add_freejoint(name=label)
    x, y, z = kind.size_m
    shape, size = {
        Shape.CYLINDER: (mujoco.mjtGeom.mjGEOM_CYLINDER, [x / 2, z / 2, 0]),
        Shape.BOX: (mujoco.mjtGeom.mjGEOM_BOX, [x / 2, y / 2, z / 2]),
    }[kind.shape]
    body.add_geom(
        name=label, type=shape, size=size, pos=[0, 0, z / 2], mass=mass_kg, condim=4,
        rgba=[*hsv_to_rgb(COLOURS_HSV[colour_of(label)]), 1], friction=[SLIDING, SPINNING, ROLLING],
    )  # fmt: skip
    add_origin(body, label)
    return body


def add_patch(spec: mujoco.MjSpec, label: str, kind: Kind) -> mujoco.MjsBody:
    """A disc of colour on the table; nothing can touch it. `size_m` has its diameters."""
    body = spec.worldbody.add_body(name=label)
    x, y, _ = kind.size_m
    body.add_geom(
        name=label, type=mujoco.mjtGeom.mjGEOM_ELLIPSOID, size=[x / 2, y / 2, 0.0006], contype=0, conaffinity=0,
        rgba=[*hsv_to_rgb(COLOURS_HSV[colour_of(label)]), 1],
    )  # fmt: skip
    add_origin(body, label)
    return body


def add_origin(body: mujoco.MjsBody, label: str, at_m: Iterable[float] = (0, 0, 0)) -> None:
    """The site by which a thing is known."""
    body.add_site(name=label, pos=[*at_m], size=[0.003, 0.003, 0.003], group=4)


def put(data: mujoco.MjData, label: str, at_m: Iterable[float], yaw: float = 0.0) -> None:
    """A thing that may be moved, at rest with its origin at (3,) m."""
    x, y, z = at_m
    joint = data.joint(label)
    joint.qpos[:] = [x, y, z + LIFT_M, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
    joint.qvel[:] = 0.0


def put_fixed(model: mujoco.MjModel, label: str, at_m: Iterable[float], yaw: float = 0.0) -> None:
    """One that stays where it is."""
    body = model.body(label)
    body.pos[:] = [*at_m]
    body.quat[:] = [np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]


def spots(
    rng: np.random.Generator, regions: Iterable[Region], good: Callable[[list[np.ndarray], np.ndarray], bool]
) -> list[np.ndarray]:
    """(3,) a place in each region, drawn until each is `good` beside those before it."""
    found: list[np.ndarray] = []
    wanted = list(regions)
    for _ in range(TRIES):
        if len(found) == len(wanted):
            return found
        spot = wanted[len(found)].draw(rng)
        if good(found, spot):
            found.append(spot)
        elif rng.random() < BAD_LUCK:
            found.clear()
    raise TaskError("the regions have no room for all things: make them larger, or ask for less distance")


def apart(distance_m: float) -> Callable[[list[np.ndarray], np.ndarray], bool]:
    """Good is what is that far from all others."""
    return lambda others, spot: all(np.linalg.norm((spot - other)[:2]) >= distance_m for other in others)


def vary(part: str, model: mujoco.MjModel, labels: Iterable[str], rng: np.random.Generator) -> None:
    """Of things that may be moved, one of the parts that are randomized; where they are is the task's."""
    change = {"colours": paint, "masses": vary_mass, "friction": vary_friction}.get(part)
    if change is not None:
        for label in labels:
            change(model, label, rng)


def paint(model: mujoco.MjModel, label: str, rng: np.random.Generator) -> None:
    """Another shade of the thing's colour."""
    hue, _, _ = COLOURS_HSV[colour_of(label)]
    hsv = (
        hue + rng.uniform(-HUE_SPREAD_DEG, HUE_SPREAD_DEG),
        rng.uniform(0.65, 0.95),
        rng.uniform(0.5, 0.9),
    )
    model.geom(label).rgba[:3] = hsv_to_rgb(hsv)


def vary_mass(model: mujoco.MjModel, label: str, rng: np.random.Generator) -> None:
    """Half to twice of it."""
    scale = rng.uniform(0.5, 2.0)
    model.body(label).mass[:] *= scale
    model.body(label).inertia[:] *= scale


def vary_friction(model: mujoco.MjModel, label: str, rng: np.random.Generator) -> None:
    """By 30 % either way."""
    model.geom(label).friction[0] *= rng.uniform(0.7, 1.3)
