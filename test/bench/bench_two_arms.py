"""A pair of arms passes a cup from hand to hand: scripted from the simulator's state, through the control core.

    python test/bench/bench_two_arms.py [--robot aloha] [--seeds 30] [--picture pass.png]

The right hand takes the cup from above by its rim, holds it up between the arms, the left one grips it from the side further
down, the right one lets go and leaves. It counts when the left hand has carried the cup aside for a second, upright and clear of
the right hand. What fails is named with the step in which it did.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from physai_base.embodiment import Embodiment
from physai_base.errors import EmbodimentError, KinematicsError, PhysaiError
from physai_base.kinematics import ArmKinematics, Pose
from physai_base.task import Task
from physai_base.values import ActionChunk, ChunkMode, ControlState
from physai_control.core import ControlCore
from physai_lab.statistics import wilson_interval
from physai_sim.plant import Plant
from physai_sim.scene import Scene

DT_NS = 20_000_000
CHUNK_STEPS, POST_EVERY, REST_STEPS = 100, 20, 10
SPEED_RAD_S = 0.8  # of the fastest joint, on average
GRIP_M = 0.052  # less than the cup is wide, so that the hand presses
RIM_M, WAIST_M = 0.085, 0.035  # above the foot: where the right hand and the left one hold it
MEETING_M = np.array([0.50, -0.08, 0.14])  # of the foot
CUP = "red_cup"


def rotation(y: tuple[float, float, float], z: tuple[float, float, float]) -> np.ndarray:
    """(3, 3) of a tool that closes its fingers along y and points along z."""
    return np.column_stack([np.cross(y, z), y, z])


DOWN = [
    rotation((float(np.cos(a)), float(np.sin(a)), 0.0), (0.0, 0.0, -1.0))
    for a in np.linspace(0, np.pi, 8, endpoint=False)
]
DOWN += [rotation((-r[0, 1], -r[1, 1], 0.0), (0.0, 0.0, -1.0)) for r in DOWN]
SIDEWAYS = [rotation((1.0, 0.0, 0.0), (0.0, -1.0, 0.0)), rotation((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0))]


class Failed(PhysaiError):
    """The pass came to nothing; the message names the step."""


@dataclass
class Pair:
    """The cell, its core and both arms' kinematics."""

    scene: Scene
    core: ControlCore
    plant: Plant
    arms: dict[str, ArmKinematics]

    def __post_init__(self) -> None:
        self.names = list(self.arms)
        self.sequence = 0
        self.joints, self.openings = self.scene.embodiment.home.copy(), self.scene.embodiment.openings_at(1.0)

    def reach(
        self, arm: str, position: np.ndarray, rotations: list[np.ndarray], seed: np.ndarray
    ) -> np.ndarray:
        """Joint angles with that arm's tool there, in the turn that is nearest to `seed`."""
        rng = np.random.default_rng(0)
        found = []
        for turn in rotations:
            for start in (seed, *(seed + rng.normal(0, 0.4, (6, len(seed))))):
                try:
                    found.append(self.arms[arm].inverse(Pose(position, turn), start))
                except KinematicsError:
                    continue
        if not found:
            raise Failed(f"{arm} does not reach {np.round(position, 2).tolist()}")
        moved = [np.abs(q - seed).max() for q in found]
        best = found[int(np.argmin(moved))].copy()
        others = ~self.arms[arm].carries
        best[others] = seed[others]
        return best

    def go(
        self, step: str, joints: np.ndarray, openings: np.ndarray | None = None, at_least_s: float = 0.6
    ) -> None:
        """Both arms to joint angles, then or meanwhile the grippers."""
        openings = self.openings if openings is None else openings
        seconds = max(at_least_s, float(np.abs(joints - self.joints).max()) * 1.875 / SPEED_RAD_S)
        x = np.linspace(0.0, 1.0, max(2, round(seconds * 1e9 / DT_NS)))[:, None]
        share = x**3 * (10 + x * (6 * x - 15))
        rows = self.joints + share * (joints - self.joints)
        rows = np.vstack([rows, np.tile(joints, (REST_STEPS, 1))])
        x = np.vstack([x, np.ones((REST_STEPS, 1))])
        widths = self.openings + np.clip(1.5 * x, 0, 1) * (openings - self.openings)
        begin_ns = self.core.status().stamp_ns
        for first in range(0, len(rows), POST_EVERY):
            window = slice(first, first + CHUNK_STEPS)
            self.post(rows[window], widths[window], begin_ns + first * DT_NS)
            until = begin_ns + min(first + POST_EVERY, len(rows)) * DT_NS
            while self.core.status().stamp_ns < until:
                self.plant.run(20)
            status = self.core.status()
            if status.state not in (ControlState.TRACK, ControlState.HOLD, ControlState.STOPPING):
                raise Failed(f"{step}: {status.state.name.lower()}: {status.cause}")
        self.joints, self.openings = joints, openings

    def post(self, rows: np.ndarray, widths: np.ndarray, start_ns: int) -> None:
        """One chunk for both arms."""
        self.sequence += 1
        robot = self.scene.embodiment
        self.core.post(ActionChunk(
            sequence=self.sequence, policy="pass", observation_ns=self.core.status().stamp_ns, start_ns=start_ns,
            dt_ns=DT_NS, mode=ChunkMode.JOINT_POSITION, joint_names=robot.joint_names, values=rows, openings=widths,
            uncertainty=0.0, expiry_ns=start_ns + (len(rows) + 20) * DT_NS,
            end_effectors=robot.end_effector_names,
        ))  # fmt: skip

    def with_opening(self, arm: str, width: float) -> np.ndarray:
        """The openings with that of one arm changed."""
        openings = self.openings.copy()
        openings[self.names.index(arm)] = width
        return openings


def pass_the_cup(pair: Pair, seed: int) -> None:
    """One try.

    Raises:
        Failed: it came to nothing.
    """
    scene, home = pair.scene, pair.scene.embodiment.home
    scene.randomize(seed, ("poses", "masses", "friction"))
    pair.plant.reset()
    pair.plant.run(200)
    pair.core.reset()
    pair.core.activate()
    pair.plant.run(600)
    pair.joints, pair.openings = home.copy(), scene.embodiment.openings_at(1.0)
    foot, up = scene.position(CUP), np.array([0.0, 0.0, 1.0])
    wide = [float(v) for v in scene.embodiment.openings_at(1.0)]
    right_open, left_open = wide[pair.names.index("right")], wide[pair.names.index("left")]

    above = pair.reach("right", foot + (RIM_M + 0.10) * up, DOWN, pair.joints)
    pair.go("goes above the cup", above)
    at = pair.reach("right", foot + RIM_M * up, [turn_of(pair, "right")], pair.joints)
    pair.go("goes down to it", at, pair.with_opening("right", right_open))
    pair.go("closes", at, pair.with_opening("right", GRIP_M), 0.8)
    pair.go("lifts it", above)
    if scene.position(CUP)[2] < foot[2] + 0.05:
        raise Failed("the right hand did not lift it")
    meet = pair.reach("right", MEETING_M + RIM_M * up, DOWN, pair.joints)
    pair.go("holds it between the arms", meet)
    held = scene.position(CUP)
    if np.linalg.norm(held[:2] - MEETING_M[:2]) > 0.06:
        raise Failed("the right hand lost it on the way")
    grip = held + WAIST_M * up
    before = pair.reach("left", grip + [0, 0.14, 0], SIDEWAYS, pair.joints)
    pair.go("the left hand comes", before)
    around = pair.reach("left", grip, [turn_of(pair, "left")], pair.joints)
    pair.go("it reaches around the cup", around, pair.with_opening("left", left_open), 1.2)
    pair.go("it closes", around, pair.with_opening("left", GRIP_M), 0.8)
    pair.go("the right hand opens", around, pair.with_opening("right", right_open), 0.6)
    away = pair.reach("right", MEETING_M + (RIM_M + 0.06) * up, [turn_of(pair, "right")], pair.joints)
    pair.go("the right hand leaves", away)
    pair.go("and goes home", np.where(pair.arms["right"].carries, home, pair.joints))
    aside = pair.reach("left", grip + [0.0, 0.08, 0.02], [turn_of(pair, "left")], pair.joints)
    pair.go("the left hand carries it aside", aside, None, 1.2)
    pair.go("and holds it", aside, None, 1.0)
    cup, data = scene.position(CUP), scene.data
    tools = {end.name: data.site(end.frame).xpos.copy() for end in scene.embodiment.end_effectors}
    if np.linalg.norm(tools["left"] - cup - WAIST_M * up) > 0.04 or scene.upright(CUP) < 0.9:
        raise Failed("the left hand does not have it")
    if np.linalg.norm(tools["right"] - cup) < 0.15:
        raise Failed("the right hand still has it")


def turn_of(pair: Pair, arm: str) -> np.ndarray:
    """The turn in which that arm's tool is wanted at present."""
    return pair.arms[arm].tool_pose(pair.joints).rotation


def layout(folder: Path) -> Path:
    """The cups' task with one cup between the arms and the shelf out of their way."""
    entries = yaml.safe_load(Task.load("cups").path.read_text())
    entries["cups"]["labels"] = [CUP]
    entries["cups"]["region"] = {"x": [0.42, 0.58], "y": [-0.22, -0.08]}
    entries["shelf"]["region"] = {"x": [0.90, 0.92], "y": [-0.05, 0.05], "yaw": [-0.1, 0.1]}
    path = folder / "one_cup.yaml"
    path.write_text(yaml.safe_dump(entries, sort_keys=False))
    return path


def main() -> None:
    """Prints each try and the share that went well."""
    import tempfile

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--robot", default="aloha", help="one with end effectors `left` and `right`")
    parser.add_argument("--seeds", type=int, default=30, help="how many tries")
    parser.add_argument("--first", type=int, default=0, help="seed of the first one")
    parser.add_argument("--picture", type=Path, help="of the last try's end")
    options = parser.parse_args()
    try:
        robot = Embodiment.load(options.robot)
    except EmbodimentError as error:  # `make bench` goes on without the maker's model
        print(f"not measured: {error}")
        return
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene.build(robot, Task.load(layout(Path(folder))))
    core = ControlCore(robot)
    plant = Plant(scene.model, scene.data, robot, core=core)
    arms = {end.name: ArmKinematics(robot, end.name) for end in robot.end_effectors}
    pair, failures = Pair(scene, core, plant, arms), Counter[str]()
    for seed in range(options.first, options.first + options.seeds):
        try:
            pass_the_cup(pair, seed)
            print(f"seed {seed}: passed", flush=True)
        except PhysaiError as failure:
            failures[str(failure)] += 1
            print(f"seed {seed}: {failure}", flush=True)
    good = options.seeds - failures.total()
    low, high = wilson_interval(good, options.seeds)
    print(f"{robot.name}: {good} of {options.seeds} passed from hand to hand ({low:.0%} to {high:.0%})")
    if options.picture:
        import cv2

        from physai_sim.camera import CellCameras

        cameras = CellCameras(scene.model, robot.cameras)
        frame = cameras.render(scene.data, robot.scene_camera.name, 0)
        cv2.imwrite(str(options.picture), frame.rgb[:, :, ::-1])
        cameras.close()


if __name__ == "__main__":
    main()
