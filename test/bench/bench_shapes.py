"""Perception's errors on boxes, cylinders and patches against the simulator's truth, over random scenes like those of tasks.

python test/bench/bench_shapes.py [--scenes 250] [--noise] [--pictures DIR] [--only push]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "helpers"))

from bench_perception import add_noise, row
from shapes_scenes import SCENES
from shapes_world import Hands, World, yaw_error

VISIBLE_PIXELS = 150
FALSE_M = 0.02


class Table:
    """What is collected."""

    def __init__(self) -> None:
        self.errors: dict[str, list[float]] = defaultdict(list)
        self.counts: Counter[str] = Counter()
        self.worst: list[tuple[float, str]] = []

    def add(self, world: World, state, where: str, image: str) -> None:
        """Compare a scene with the truth."""
        for label, pixels in world.visible_pixels().items():
            kind = world.task.kind(label)
            shape = kind.shape.value if kind.shape.value != "patch" else kind.name
            thing = state.find(label)
            if pixels >= VISIBLE_PIXELS:
                self.counts[f"{shape} visible"] += 1
                if thing is None or thing.last_seen_ns != state.stamp_ns:
                    self.counts[f"{shape} missed"] += 1
                    self.worst.append((999, f"{where} {label} missed, {pixels} px"))
            if thing is None or thing.last_seen_ns != state.stamp_ns:
                continue
            truth, size = world.truth(label)
            off = thing.position_m - truth
            error = float(np.linalg.norm(off)) * 1e3
            group = f"{shape}, {where.split()[1]}" if pixels >= VISIBLE_PIXELS else f"{shape}, sliver"
            self.errors[f"{group}: position {image}|mm"].append(error)
            if shape != "stain":
                self.errors[f"{group}: height {image}|mm"].append(abs(off[2]) * 1e3)
            if kind.shape.value == "box" or shape == "stain":
                turned = abs(yaw_error(world, thing))
                self.errors[f"{group}: yaw {image}|deg"].append(np.degrees(turned))
                error = max(error, np.degrees(turned))
            if shape == "stain":
                self.errors[f"{group}: extents {image}|mm"].append(
                    float(np.abs(thing.size_m - size)[:2].max()) * 1e3
                )
            self.counts["off"] += error > FALSE_M * 1e3 and pixels >= VISIBLE_PIXELS
            self.worst.append((error, f"{where} {image} {label}, {pixels} px, upright {thing.upright}"))

    def print(self, worst: int) -> None:
        """All of it."""
        print(f"{'':<34} {'n':>5}  {'median':>7}  {'p95':>7}  {'max':>7}")
        for name in sorted(self.errors):
            title, unit = name.split("|")
            print(row(title, self.errors[name], unit))
        print(dict(self.counts))
        for error, what in sorted(self.worst, reverse=True)[:worst]:
            print(f"  {error:6.1f}  {what}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=250)
    parser.add_argument("--noise", action="store_true")
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--only", choices=tuple(SCENES))
    parser.add_argument("--worst", type=int, default=12)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    if arguments.pictures:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
    table = Table()
    names = [arguments.only] if arguments.only else list(SCENES)
    for name in names:
        (task, arrange), spent = SCENES[name], []
        world = World(task)
        for seed in range(arguments.scenes // len(names)):
            rng = np.random.default_rng([seed, 17])
            world.arrange(3000 + seed)
            arrange(world, rng)
            hand = list(Hands)[seed % len(Hands)]
            world.place_hand(hand, rng)
            where = f"{name} {hand.value} {seed}"
            for count in range(3):
                frame = world.image()
                frame = add_noise(frame, rng) if arguments.noise else frame
                joints = world.joints()
                began = time.thread_time()
                state = world.perception.observe(frame, joints)
                spent.append((time.thread_time() - began) * 1e3)
                if count == 0:
                    table.add(world, state, where, "(1st)")
                elif count == 2:
                    table.add(world, state, where, "")
            if arguments.pictures:
                world.picture(frame, state, arguments.pictures / f"{name}_{seed:03d}_{hand.value}.png")
        print(row(f"{name}: time of first images", spent[::3], "ms"))
        print(row(f"{name}: time of third images", spent[2::3], "ms"))
        world.cameras.close()
    table.print(arguments.worst)


if __name__ == "__main__":
    main()
