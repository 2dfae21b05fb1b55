"""Random scenes of boxes, cylinders and patches, like those of tasks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from shapes_task import DRAWER, INSERT, PUSH, STACK, WIPE, ShapesTask
from shapes_world import World


def spots(rng: np.random.Generator, count: int, apart_m: float) -> list[np.ndarray]:
    """Places (2,) on the table."""
    found: list[np.ndarray] = []
    while len(found) < count:
        spot = np.array([rng.uniform(0.36, 0.62), rng.uniform(-0.3, 0.3)])
        if all(np.linalg.norm(spot - other) > apart_m for other in found):
            found.append(spot)
    return found


def push(world: World, rng: np.random.Generator) -> None:
    """A puck beside a mark or partly on it."""
    mark, puck = spots(rng, 2, 0.1)
    if rng.random() < 0.4:
        puck = mark + rng.uniform(-0.04, 0.04, size=2)
    world.put("blue_mark", [*mark, 0.0])
    world.put("red_puck", [*puck, 0.0])


def stack(world: World, rng: np.random.Generator) -> None:
    """Blocks at any yaw, some on top of each other."""
    order = list(rng.permutation(world.task.objects))
    places = spots(rng, 4, 0.085)
    tower = order[: rng.integers(2, 4)] if rng.random() < 0.5 else []
    tower.sort(key=lambda label: -world.task.kind(label).size_m[0] * rng.uniform(0.8, 1.2))
    height = 0.0
    for label, place in zip(order, places, strict=True):
        if label not in tower:
            world.put(label, [*place, 0.0], rng.uniform(-np.pi, np.pi))
    for label in tower:
        off = rng.uniform(-0.006, 0.006, size=2)
        world.put(label, [*(places[0] + off), height], rng.uniform(-np.pi, np.pi))
        height += world.task.kind(label).size_m[2]


def insert(world: World, rng: np.random.Generator) -> None:
    """A block with a hole, and a peg beside it or in it."""
    block, peg = spots(rng, 2, 0.1)
    world.put("blue_hole", [*block, 0.0], rng.uniform(-np.pi, np.pi))
    inside = rng.random() < 0.4
    world.put("red_peg", [*block, 0.0] if inside else [*peg, 0.0])


def wipe(world: World, rng: np.random.Generator) -> None:
    """A stain of which a swath is wiped away, and a sponge beside it or on it."""
    stain, sponge = spots(rng, 2, 0.12)
    world.put("red_stain", [*stain, 0.0], rng.uniform(-0.7, 0.7))
    world.observe()
    cells = world.task.cell.cells["red_stain"]
    axis, side = rng.integers(2), rng.choice([-1, 1])
    world.wipe("red_stain", cells[:, axis] * side < rng.uniform(-0.03, 0.05))
    world.observe()  # what sponge and hand hide later is known by then
    if rng.random() < 0.3:
        sponge = stain + rng.uniform(-0.03, 0.03, size=2)
    world.put("yellow_sponge", [*sponge, 0.001], rng.uniform(-np.pi, np.pi))


def drawer(world: World, rng: np.random.Generator) -> None:
    """A cabinet whose drawer is open by so much, and a block beside it or on it."""
    yaw = rng.uniform(-0.3, 0.3)
    cabinet = np.array([rng.uniform(0.34, 0.42), rng.uniform(-0.1, 0.25)])
    along = np.array([np.cos(yaw), np.sin(yaw)])
    world.put("blue_cabinet", [*cabinet, 0.0], yaw)
    front = cabinet + (0.11 + 0.01 + rng.uniform(0.0, 0.12)) * along
    world.put("red_drawer", [*front, 0.015], yaw)
    on = rng.random() < 0.3
    place = [*(cabinet - 0.03 * along), 0.13] if on else [rng.uniform(0.4, 0.6), -0.3, 0.0]
    world.put("yellow_block", place, rng.uniform(-np.pi, np.pi))


SCENES: dict[str, tuple[ShapesTask, Callable[[World, np.random.Generator], None]]] = {
    "push": (PUSH, push),
    "stack": (STACK, stack),
    "insert": (INSERT, insert),
    "wipe": (WIPE, wipe),
    "drawer": (DRAWER, drawer),
}
