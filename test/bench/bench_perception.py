"""Perception's errors against the simulator's truth over random cells, and its time per image.

python test/bench/bench_perception.py [--scenes 75] [--noise] [--pictures DIR]
"""

from __future__ import annotations

import argparse
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import mujoco
import numpy as np

from physai_base.embodiment import Embodiment
from physai_base.errors import KinematicsError
from physai_base.kinematics import TOOL_DOWN, ArmKinematics, Pose
from physai_base.task import Task
from physai_base.values import CameraFrame, JointState
from physai_perception.geometry import rotation_to_vector
from physai_perception.overlay import draw_overlay
from physai_perception.perception import ScenePerception
from physai_sim.camera import CellCameras
from physai_sim.scene import Scene

KINDS = ("table", "shelf", "held", "arm", "fallen")
PERIOD_NS = 66_666_667
VISIBLE_PIXELS = 150
FALSE_M = 0.03


class Bench:
    """One cell whose state is set, not simulated."""

    def __init__(self) -> None:
        self.embodiment, self.task = Embodiment.load("fr3"), Task.load("cups")
        self.scene = Scene.build(self.embodiment, self.task)
        self.cameras = CellCameras(self.scene.model, self.embodiment.cameras)
        self.kinematics = ArmKinematics(self.embodiment)
        self.perception = ScenePerception(self.embodiment, self.task)
        self.stamp_ns = 0
        self.last: JointState | None = None

    def arrange(self, seed: int, kind: str) -> None:
        """A random cell of one kind."""
        rng = np.random.default_rng([seed, 99])
        self.scene.randomize(seed, ["all"])
        self.perception.reset()
        self.last = None
        labels, shelf = list(self.task.objects), self.task.boards
        rng.shuffle(labels)
        if kind == "shelf":
            for label, board in zip(
                labels[: rng.integers(1, 3)], rng.permutation(shelf.labels), strict=False
            ):
                half = shelf.board_size_m[:2] / 2 - self.task.grip_m / 2
                rotation = self.scene.data.site(board).xmat.reshape(3, 3)
                self.put(label, self.scene.position(board) + rotation @ [*rng.uniform(-half, half), 0.0])
        if kind == "fallen":
            self.lay(labels[0], rng.uniform(-np.pi, np.pi))
        if kind == "held":
            self.reach(
                np.array([rng.uniform(0.35, 0.6), rng.uniform(-0.3, 0.35), rng.uniform(0.3, 0.42)]), 0.06
            )
            self.hold(labels[0], rng.uniform(0.02, 0.06))
        if kind == "arm":
            target = self.scene.position(labels[0]) + [rng.uniform(-0.03, 0.08), rng.uniform(-0.06, 0.06), 0]
            self.reach(np.array([*target[:2], rng.uniform(0.11, 0.2)]), 0.08)
        mujoco.mj_forward(self.scene.model, self.scene.data)

    def put(self, label: str, foot: np.ndarray, quat: tuple[float, ...] = (1, 0, 0, 0)) -> None:
        """Set a cup's pose."""
        self.scene.data.joint(label).qpos[:] = [*foot, *quat]
        mujoco.mj_forward(self.scene.model, self.scene.data)

    def lay(self, label: str, yaw: float) -> None:
        """Lay a cup on its side where it stands."""
        foot = self.scene.position(label)
        quat = np.empty(4)
        mujoco.mju_mulQuat(
            quat,
            np.array([np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]),
            np.array([np.sqrt(0.5), 0, np.sqrt(0.5), 0]),
        )
        self.put(label, np.array([foot[0], foot[1], self.task.grip_m / 2]), tuple(quat))

    def reach(self, position: np.ndarray, width_m: float) -> None:
        """Set the arm's joints so that the tool is at `position`, pointing down."""
        home = self.embodiment.home
        try:
            seed = self.last.position if self.last is not None else home
            joints = self.kinematics.inverse(Pose(position, TOOL_DOWN), seed, home)
        except KinematicsError:
            joints = home
        self.scene.set_arm(joints)
        for name in self.embodiment.finger_joints:
            self.scene.data.joint(name).qpos[0] = width_m / 2
        mujoco.mj_forward(self.scene.model, self.scene.data)

    def hold(self, label: str, below_m: float) -> None:
        """Put a cup between the fingers."""
        tool = self.scene.data.site(self.embodiment.tool_frame).xpos
        self.put(label, tool - [0, 0, below_m])

    def image(self) -> CameraFrame:
        """The next image."""
        self.stamp_ns += PERIOD_NS
        return self.cameras.render(self.scene.data, "overview", self.stamp_ns)

    def joints(self) -> JointState:
        """What the arm's sensors say at the stamp of the last image."""
        data = self.scene.data
        position = np.array([data.joint(name).qpos[0] for name in self.embodiment.joint_names])
        velocity = np.zeros_like(position)
        if self.last is not None:
            velocity = (position - self.last.position) / ((self.stamp_ns - self.last.stamp_ns) * 1e-9)
        width = float(sum(data.joint(name).qpos[0] for name in self.embodiment.finger_joints))
        self.last = JointState(self.stamp_ns, position, velocity, np.zeros_like(position), np.array([width]))
        return self.last

    def visible_pixels(self) -> dict[str, int]:
        """How many pixels of each cup the camera sees, from the renderer's identities."""
        scene = self.cameras._scene
        scene.flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = 1
        scene.flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = 1
        rgb = self.cameras.render(self.scene.data, "overview", 0).rgb.astype(int)
        scene.flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = 0
        scene.flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = 0
        numbers = rgb[:, :, 0] + 256 * rgb[:, :, 1] + 65536 * rgb[:, :, 2]
        count = dict.fromkeys(self.task.objects, 0)
        names = {self.scene.model.geom(label).id: label for label in count}
        for geom in scene.geoms[: scene.ngeom]:
            if geom.objtype == mujoco.mjtObj.mjOBJ_GEOM and geom.objid in names:
                count[names[geom.objid]] = int(np.count_nonzero(numbers == geom.segid + 1))
        return count

    def camera_error_mm(self) -> float:
        """Distance between the estimated and the true camera."""
        pose = self.perception.camera_pose
        assert pose is not None
        return (
            float(np.linalg.norm(pose.T_base_camera[:3, 3] - self.scene.data.camera("overview").xpos)) * 1e3
        )


def add_noise(frame: CameraFrame, rng: np.random.Generator) -> CameraFrame:
    """The image as a stereo depth camera would give it: depth noise growing with its square, holes, grainy colour."""
    depth = frame.depth_m
    noisy = depth + rng.normal(size=depth.shape) * 0.0015 * depth**2
    noisy[rng.random(depth.shape) < 0.02] = 0
    rgb = np.clip(frame.rgb + rng.normal(size=frame.rgb.shape) * 4, 0, 255).astype(np.uint8)
    return CameraFrame(
        frame.stamp_ns, frame.camera, rgb, np.where(depth > 0, noisy, 0).astype(np.float32), frame.intrinsics
    )


@dataclass
class Errors:
    """What is collected over the scenes."""

    cup_mm: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    shelf_mm: list[float] = field(default_factory=list)
    shelf_deg: list[float] = field(default_factory=list)
    camera_mm: list[float] = field(default_factory=list)
    first_ms: list[float] = field(default_factory=list)
    next_ms: list[float] = field(default_factory=list)
    sigmas: list[float] = field(default_factory=list)
    remarks: Counter[str] = field(default_factory=Counter)  # of images, by name
    visible: int = 0
    missed: int = 0
    false: int = 0
    wrong_upright: int = 0
    worst: list[tuple[float, str]] = field(default_factory=list)


def measure(bench: Bench, scenes: int, noise: bool, pictures: Path | None) -> Errors:
    """Errors over `scenes` random cells, three images each."""
    errors = Errors()
    for seed in range(scenes):
        kind = KINDS[seed % len(KINDS)]
        bench.arrange(1000 + seed, kind)
        rng = np.random.default_rng(seed)
        for count in range(3):
            frame = bench.image()
            frame = add_noise(frame, rng) if noise else frame
            joints = bench.joints()
            began = time.thread_time()
            state = bench.perception.observe(frame, joints)
            (errors.next_ms if count else errors.first_ms).append((time.thread_time() - began) * 1e3)
            errors.remarks.update(bench.perception.remarks)
        collect(bench, state, seed, kind, errors)
        if pictures:
            pose = bench.perception.camera_pose
            assert pose is not None
            overlay = draw_overlay(frame, state, pose.T_base_camera, bench.task)
            cv2.imwrite(str(pictures / f"{seed:03d}_{kind}.png"), overlay[:, :, ::-1])
    return errors


def collect(bench: Bench, state, seed: int, kind: str, errors: Errors) -> None:
    """Compare one scene with the truth."""
    errors.camera_mm.append(bench.camera_error_mm())
    half = bench.task.heights_m[0] / 2
    for label, pixels in bench.visible_pixels().items():
        thing = state.find(label)
        seen = thing is not None and thing.last_seen_ns == state.stamp_ns
        site = bench.scene.data.site(label)
        standing = site.xmat[8] >= bench.task.upright_cosine
        if pixels >= VISIBLE_PIXELS:
            errors.visible += 1
            errors.missed += not seen
        if not seen:
            if pixels >= VISIBLE_PIXELS:
                errors.worst.append((999.0, f"seed {seed} {kind} {label} missed, {pixels} px"))
            continue
        truth = site.xpos
        if standing:
            error = np.linalg.norm(thing.position_m - truth) * 1e3
        else:  # a lying cup's foot cannot be told from its top: compare the middles
            w, x, y, z = thing.orientation
            axis = np.array([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)])
            error = (
                np.linalg.norm(thing.position_m + half * axis - truth - half * site.xmat.reshape(3, 3)[:, 2])
                * 1e3
            )
        errors.wrong_upright += thing.upright != standing
        errors.false += error > FALSE_M * 1e3
        group = "lying" if not standing else "sliver" if pixels < VISIBLE_PIXELS else "standing"
        errors.cup_mm[group].append(float(error))
        errors.cup_mm[f"in '{kind}' scenes"].append(float(error))
        if group == "standing":
            errors.sigmas.append(float(error / 1e3 / np.sqrt(np.trace(thing.covariance[:3, :3]))))
        errors.worst.append(
            (float(error), f"seed {seed} {kind} {label}, {pixels} px, upright {thing.upright}")
        )
    for label in bench.task.places:
        thing, site = state.find(label), bench.scene.data.site(label)
        if thing is None:
            errors.worst.append((999.0, f"seed {seed} {kind} {label} missed"))
            continue
        errors.shelf_mm.append(float(np.linalg.norm(thing.position_m - site.xpos)) * 1e3)
        turn = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
        yaw = 2 * np.arctan2(thing.orientation[3], thing.orientation[0])
        turn[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
        errors.shelf_deg.append(
            float(np.degrees(np.linalg.norm(rotation_to_vector(turn.T @ site.xmat.reshape(3, 3)))))
        )


def measure_motion(
    bench: Bench, seeds: int, noise: bool
) -> tuple[list[float], list[float], list[float], list[float]]:
    """A held cup carried along an arc at 15 Hz: position errors mm and velocity errors mm/s while moving; resting speeds; ms."""
    position, velocity, resting, spent = [], [], [], []
    for seed in range(seeds):
        bench.arrange(2000 + seed, "table")
        rng = np.random.default_rng(seed)
        label = bench.task.objects[seed % 3]
        before = None
        for k in range(30):
            angle = 0.04 * k
            goal = np.array(
                [0.45 + 0.06 * np.cos(angle), -0.1 + 0.25 * np.sin(angle), 0.25 + 0.1 * np.sin(angle)]
            )
            bench.reach(goal, 0.06)
            bench.hold(label, 0.04)
            frame = bench.image()
            frame = add_noise(frame, rng) if noise else frame
            joints = bench.joints()
            began = time.thread_time()
            state = bench.perception.observe(frame, joints)
            spent.append((time.thread_time() - began) * 1e3)
            truth = bench.scene.position(label)
            thing = state.find(label)
            if before is not None and k >= 3 and thing is not None:
                position.append(float(np.linalg.norm(thing.position_m - truth)) * 1e3)
                velocity.append(
                    float(np.linalg.norm(thing.velocity_m_s - (truth - before) / PERIOD_NS * 1e9)) * 1e3
                )
                others = [o for o in state.objects[:3] if o.label != label]
                resting += [float(np.linalg.norm(o.velocity_m_s)) * 1e3 for o in others]
            before = truth
    return position, velocity, resting, spent


def row(name: str, values: list[float], unit: str) -> str:
    """One line of the table."""
    if not values:
        return f"{name:<34} {'-':>6}"
    p50, p95 = np.percentile(values, [50, 95])
    return f"{name:<34} {len(values):>5}  {p50:>7.2f}  {p95:>7.2f}  {max(values):>7.2f}  {unit}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=75)
    parser.add_argument("--noise", action="store_true", help="add the noise of a stereo depth camera")
    parser.add_argument("--pictures", type=Path, help="write an overlay of every scene there")
    parser.add_argument("--worst", type=int, default=5, help="list so many of the worst")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    if arguments.pictures:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
    bench = Bench()
    try:
        errors = measure(bench, arguments.scenes, arguments.noise, arguments.pictures)
        position, velocity, resting, spent = measure_motion(bench, 3, arguments.noise)
    finally:
        bench.cameras.close()
    print(f"{'':<34} {'n':>5}  {'median':>7}  {'p95':>7}  {'max':>7}")
    for group in ("standing", "sliver", "lying", *(f"in '{kind}' scenes" for kind in KINDS)):
        print(row(f"cups, {group}", errors.cup_mm[group], "mm"))
    print(row("cups, error over 1 sigma", errors.sigmas, ""))
    print(row("shelf levels, position", errors.shelf_mm, "mm"))
    print(row("shelf levels, angle", errors.shelf_deg, "deg"))
    print(row("camera, position", errors.camera_mm, "mm"))
    print(row("carried cup, position", position, "mm"))
    print(row("carried cup, velocity", velocity, "mm/s"))
    print(row("resting cups, speed", resting, "mm/s"))
    print(row("first image", errors.first_ms, "ms of one core"))
    print(row("second and third image", errors.next_ms, "ms of one core"))
    print(row("images of a running stream", spent, "ms of one core"))
    said = ", ".join(f"{name} in {count}" for name, count in errors.remarks.most_common()) or "nothing"
    print(f"said of {len(errors.first_ms) + len(errors.next_ms)} images: {said}")
    print(
        f"of {errors.visible} cups with at least {VISIBLE_PIXELS} pixels: {errors.missed} missed; "
        f"{errors.false} reported more than {FALSE_M * 1e3:.0f} mm off; {errors.wrong_upright} wrongly (not) upright"
    )
    for error, what in sorted(errors.worst, reverse=True)[: arguments.worst]:
        print(f"  {error:6.1f} mm  {what}")


if __name__ == "__main__":
    main()
