"""How often a policy does its task in cells that leave what training saw, one way at a time, next to the nominal ones.

    python test/bench/bench_beyond.py --task cups --episodes 20
    python test/bench/bench_beyond.py --task push,stack --policy '/tmp/{task}/policy' --world-model off --episodes 20
    python test/bench/bench_beyond.py --task push,stack --perception --episodes 100

`{task}` in a bundle's name is the task's. All rows are of the same seeds, everything is randomized besides, from images. With
`--perception` nobody does anything: what is made of the third image of each cell, of every thing and place of the task.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.task import Task
from physai_base.values import JointState
from physai_lab.evaluation.evaluate import SEEDS, Evaluation, evaluate
from physai_lab.evaluation.report import causes
from physai_lab.report import host
from physai_lab.statistics import wilson_interval
from physai_perception.errors import PerceptionError
from physai_perception.perception import ScenePerception
from physai_sim.beyond import BEYOND, parse_beyond
from physai_sim.camera import CellCameras
from physai_sim.scene import RANDOMIZABLE, Scene

RIGHT_M = 0.02


def main() -> None:
    """Prints the table as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--robot", default="fr3")
    parser.add_argument("--task", default="cups", help="by commas")
    parser.add_argument("--ways", default=",".join(("nominal", *BEYOND)), help="by commas")
    parser.add_argument("--policy", default="policy")
    parser.add_argument("--world-model", choices=("off", "veto"), default="veto")
    parser.add_argument("--world-model-bundle", default="world_model")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--perception", action="store_true")
    options = parser.parse_args()
    head = (
        "seen within 2 cm | elsewhere | not seen | image refused"
        if options.perception
        else "succeeded | causes"
    )
    print(f"{host()}\n\n| task | cells | {head} |\n{'|---' * (3 + head.count('|'))}|", flush=True)
    ways = [parse_beyond([way] if way != "nominal" else []) for way in options.ways.split(",")]
    for name in options.task.split(","):
        for way in ways:
            print((row_of_images if options.perception else row)(options, name, way), flush=True)


def row(options: argparse.Namespace, name: str, way: tuple[str, ...]) -> str:
    """One line of the table."""
    what = Evaluation(
        options.episodes, RANDOMIZABLE, options.policy.format(task=name), options.world_model,
        options.world_model_bundle.format(task=name), options.seed, beyond=way,
    )  # fmt: skip
    with TemporaryDirectory() as runs:
        results, _ = evaluate(
            Embodiment.load(options.robot), Task.load(name), what, options.workers, Path(runs)
        )
    good = sum(result.success for result in results)
    low, high = wilson_interval(good, len(results))
    failed = ", ".join(f"{cause} {count}" for cause, count, _, _ in causes(results)) or "none"
    return f"| `{name}` | {way[0] if way else 'nominal'} | {good} of {len(results)} ({low:.0%} to {high:.0%}) | {failed} |"


def row_of_images(options: argparse.Namespace, name: str, way: tuple[str, ...]) -> str:
    """The same of perception alone."""
    robot, task = Embodiment.load(options.robot), Task.load(name)
    scene, perception = Scene.build(robot, task, way), ScenePerception(robot, task)
    cameras, labels, found = CellCameras(scene.model, robot.cameras), (*task.objects, *task.places), Counter()
    for index in range(options.episodes):
        scene.randomize(options.seed * SEEDS + index, RANDOMIZABLE)
        perception.reset()
        try:
            for count in range(1, 4):
                stamp_ns = count * 33_000_000
                frame = cameras.render(scene.data, robot.scene_camera.name, stamp_ns)
                seen = perception.observe(frame, _joints(scene, stamp_ns))
        except PerceptionError:
            found["refused"] += len(labels)
            continue
        for label in labels:
            thing, truth = seen.find(label), scene.measured(label)
            at = scene.position(label) if truth is None else truth.position_m
            if thing is None or thing.last_seen_ns != stamp_ns:
                found["not seen"] += 1
            else:
                found["right" if np.linalg.norm(thing.position_m - at) < RIGHT_M else "elsewhere"] += 1
    cameras.close()
    low, high = wilson_interval(found["right"], found.total())
    cells = way[0] if way else "nominal"
    share = f"{found['right']} of {found.total()} ({low:.0%} to {high:.0%})"
    return (
        f"| `{name}` | {cells} | {share} | {found['elsewhere']} | {found['not seen']} | {found['refused']} |"
    )


def _joints(scene: Scene, stamp_ns: int) -> JointState:
    robot, data = scene.embodiment, scene.data
    fingers = {name: data.joint(name).qpos[0] for name in robot.finger_joints}
    position = np.array([data.joint(name).qpos[0] for name in robot.joint_names])
    return JointState(
        stamp_ns, position, np.zeros(len(position)), np.zeros(len(position)), robot.openings(fingers)
    )


if __name__ == "__main__":
    main()
